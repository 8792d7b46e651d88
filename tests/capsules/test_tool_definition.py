"""A tool's definition from wherever it stands: what is none is refused in the words that policies are refused in."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox import guests

from capsa import _native
from capsa.capsules import read_source, read_tool_definition
from capsa.errors import InvalidCapsule, InvalidPolicy
from capsa.policies._document import MAX_BYTES

TEXT: Final = 'schema = 1\nkind = "tool"\nname = "echo"\neffect = "pure"\nsummary = "é"\n'
DOCUMENT: Final = {"schema": 1, "kind": "tool", "name": "echo", "effect": "pure", "summary": "é"}


def test_sources_are_told_apart(tmp_path: Path) -> None:
    """Paths, text, bytes, mappings; with the mark that some editors write."""
    file = tmp_path / "capsule.toml"
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    for source in (
        file,
        str(file),
        TEXT,
        TEXT.encode(),
        DOCUMENT,
        json.dumps(DOCUMENT),
        f" {json.dumps(DOCUMENT)}",
    ):
        assert read_tool_definition(source).to_json() == DOCUMENT | {"wants": {}}
    for missing in (tmp_path / "none.toml", "none.toml"):
        with pytest.raises(FileNotFoundError):
            read_tool_definition(missing)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (b"# \x81\n", "the definition is not text: byte 2 is not UTF-8"),
        ("# \ud800\n", "the definition holds half of a surrogate pair"),
        (
            f'{{"schema": 1, "summary": "{"XXXX"}"}}'.replace("XXXX", r"\ud800"),
            "the definition cannot be read",
        ),
        (DOCUMENT | {"summary": "\ud800"}, "is not a summary"),
        (DOCUMENT | {"\ud800": 1}, "is no key"),
        (DOCUMENT | {5: 1}, "is no key"),
        ("a\0b", "not a path"),
        ("\ud800", "not a path"),
        ("", "the name of the definition is empty"),
        ('{"schema": 1, "schema": 1}', "the definition cannot be read"),
        ('{"a":' * 40, "the definition cannot be read"),
        ("a." * 100 + "b = 1\n", "the definition cannot be read"),
        ("# " + "x" * MAX_BYTES + "\n", f"the definition has more than {MAX_BYTES} bytes"),
    ],
    ids=lambda value: str(value)[:24].encode("unicode_escape").decode(),
)
def test_what_is_none_is_refused(source: Any, said: str) -> None:
    with pytest.raises(InvalidCapsule, match=said) as caught:
        read_tool_definition(source)
    assert caught.value.remedy
    str(caught.value).encode()


@given(st.binary() | st.text().map(lambda text: f"{TEXT}{text}".encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Never taken for a path."""
    with contextlib.suppress(InvalidCapsule, InvalidPolicy):
        read_tool_definition(data)


@pytest.mark.parametrize("world", ["decision", "compensable-tool", "tool"])
def test_a_tool_is_a_component_that_can_be_invoked(world: str) -> None:
    """Whatever it declares."""
    made = {
        "decision": guests.decision(),
        "compensable-tool": guests.tool(compensate="unreachable"),
        "tool": guests.tool(),
    }[world]
    component = _native.embed_tool_definition(made.bytes, json.dumps(DOCUMENT))
    if world == "decision":
        with pytest.raises(InvalidCapsule, match="it does not export `invoke`"):
            read_source(component)
    else:
        assert read_source(component).kind == "tool"
