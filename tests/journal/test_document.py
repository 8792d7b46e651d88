"""docs/journal.md says what is so."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.journal.test_backup import make

from capsa import journal
from capsa.errors import CapsaError
from capsa.journal import EVENT_TYPES, Event, Fault
from capsa.journal.sqlite import _writer
from capsa.journal.sqlite._tables import FORMAT

PAGE = (Path(__file__).parents[2] / "docs/journal.md").read_text()


def test_the_snippets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And print what their comments say."""
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(compile(snippet, "journal.md", "exec"), {})  # noqa: S102 - our own document
        comments = [line.partition("# ")[2] for line in snippet.splitlines() if "print(" in line]
        said = capsys.readouterr().out.splitlines()
        assert said == [comment.partition(":")[0] for comment in comments]


def test_it_names_every_file_table_and_column(tmp_path: Path) -> None:
    """Of a store that has something of everything."""
    with make(tmp_path / "store") as journal:
        journal.backup(tmp_path / "backup")
    names = {path.name for home in ("store", "backup") for path in (tmp_path / home).rglob("*")}
    for name in names - {"keys"}:
        assert name.replace("ids-1", "NAME") in PAGE
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite")) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            [row, *_] = re.findall(rf"^\| `{table}` \| (.*) \|$", PAGE, flags=re.MULTILINE)
            columns = {column for _, column, *_ in database.execute(f"PRAGMA table_info({table})")}
            assert columns - {"id"} <= set(re.findall(r"`(\w+)`", row))
    assert f"in `user_version`: {FORMAT}." in PAGE
    assert re.findall(r"^\| (\d) \| ", PAGE, flags=re.MULTILINE) == [str(n) for n in range(1, FORMAT + 1)]


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
