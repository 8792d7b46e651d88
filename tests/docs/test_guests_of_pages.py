"""Tools that pages show in WebAssembly text take what the pages say a tool is sent: up to 1 MiB."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

import capsa
from capsa import Capsule, _native
from capsa.capsules import read_tool_definition
from capsa.tools._inputs import MAX_INPUT_BYTES

DOCS: Final = Path(__file__).parents[2] / "docs"


def installed(store: capsa.Store, page: str) -> Capsule:
    """The tool of a page, made as the page says."""
    told = (DOCS / page).read_text()
    [text] = re.findall(r'```wat title="\w+\.wat"\n(.*?)```', told, flags=re.DOTALL)
    [definition] = re.findall(r'```toml title="capsule\.toml"\n(.*?)```', told, flags=re.DOTALL)
    component = _native.wrap_module(text.encode(), "tool")
    said = json.dumps(read_tool_definition(definition).to_json())
    return store.install(_native.embed_tool_definition(component, said))


@pytest.mark.parametrize("size", [2, 65_536, 120_000, MAX_INPUT_BYTES])
def test_the_echo_of_http(size: int) -> None:
    sent = "x" * (size - 2)
    with capsa.open() as store:
        assert installed(store, "http.md").invoke(sent).output == sent


def test_the_last_of_tools() -> None:
    """It keeps what kv takes, which is less; of what is too large it keeps nothing, and answers what was there."""
    kept, large = "k" * 65_534, "x" * (MAX_INPUT_BYTES - 100)
    with capsa.open() as store:
        last = installed(store, "tools.md")
        last.set_policy("tool-default")
        assert last.invoke(kept).output is None
        assert last.invoke(large).output == kept
        assert last.invoke(None).output == kept
