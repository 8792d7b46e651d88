"""docs/journal.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from capsa import journal
from capsa.errors import CapsaError
from capsa.journal import EVENT_TYPES, Event, Fault
from capsa.journal.sqlite import _writer

PAGE = (Path(__file__).parents[2] / "docs/journal.md").read_text()


def test_the_snippet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And prints what its comments say."""
    monkeypatch.chdir(tmp_path)
    [snippet] = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    exec(compile(snippet, "journal.md", "exec"), {})  # noqa: S102 - our own document
    assert capsys.readouterr().out.splitlines() == ["1", "1", "[]"]


def test_it_names_every_type_field_and_kind() -> None:
    """Of events and of faults."""
    [types] = re.findall(r"^\| `type` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", types)) == EVENT_TYPES
    fields = set(re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE))
    assert set(Event.__struct_fields__) - {"erased"} <= fields
    kinds = Fault.__annotations__["kind"]
    assert set(re.findall(r"\"(\w+)\"", kinds)) <= fields
    assert f"{_writer.GROUP_EVENTS} events or {_writer.GROUP_BYTES >> 20} MiB" in PAGE


def test_it_says_what_to_do_about_every_error() -> None:
    """Every class of the room stands in the table of errors; those that a caller causes stand with their method."""
    classes = {
        name
        for name in journal.__all__
        if isinstance(item := getattr(journal, name), type) and issubclass(item, CapsaError)
    }
    assert classes - {"UnknownEvent", "UnknownBlob"} == {
        name for name in classes if re.search(rf"^\| `{name}` \|", PAGE, flags=re.MULTILINE)
    }
