"""From one format to the next: when a store is opened, whole or not at all; and payloads of any schema side by side."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.journal.journals import KINDS, add, fill, open_journal
from tests.journal.test_golden import GOLDEN

from capsa.journal import SqliteJournal, StoreDamaged, _chain
from capsa.journal.sqlite import _tables


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of the first format."""
    store = tmp_path / "store"
    shutil.copytree(GOLDEN / "format-1", store)
    store.chmod(0o700)
    return store


def test_a_store_says_what_it_was(old: Path) -> None:
    """Once: it is migrated when it is opened, and can be cut where its snapshots stand."""
    with SqliteJournal(old) as journal:
        assert journal.migrated_from == 1
        assert journal.cuts("acme") == [7, 8, 16, 25, 33, 34]
        assert journal.verify() == []
    with SqliteJournal(old) as journal:
        assert journal.migrated_from is None
        journal.claim("acme", 40, [b"key"])
        assert journal.claims("acme", b"k") == [(b"key", 40)]
        # It has lost its key: see `golden_store`. Without it nothing is cut; with a new one it can be.
        shutil.copy(old / "keys/checkpoints.pub", old / "keys/previous.pub")
        (old / "keys/checkpoints.pub").unlink()
    with SqliteJournal(old) as journal:
        assert journal.cut("acme", 25) == 24
        assert next(journal.read("acme")).sequence == 25
        assert journal.verify() == []
    with SqliteJournal(old.parent / "new") as new:
        assert new.migrated_from is None


def test_a_broken_migration_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one transaction; the next attempt does all of it."""
    before = tables(old)
    broken = (*_tables._FORMATS[:1], ("CREATE TABLE once (key); CREATE TABLE once (key)", _tables._nothing))
    with monkeypatch.context() as patched:
        patched.setattr(_tables, "_FORMATS", broken)
        with pytest.raises(StoreDamaged, match="once already exists"):
            SqliteJournal(old)
    assert tables(old) == before
    with SqliteJournal(old) as journal:
        assert journal.migrated_from == 1
        assert journal.verify() == []


def tables(store: Path) -> tuple[object, ...]:
    with closing(sqlite3.connect(store / "store.sqlite")) as database:
        return (
            database.execute("PRAGMA user_version").fetchone(),
            database.execute("SELECT sql FROM sqlite_master").fetchall(),
        )


def test_a_new_store_has_the_tables_of_a_migrated_one(old: Path, tmp_path: Path) -> None:
    SqliteJournal(old).close()
    SqliteJournal(tmp_path / "new").close()
    assert tables(old) == tables(tmp_path / "new")


def test_behind_a_fault_a_migrated_store_cannot_be_cut(old: Path) -> None:
    """The head is not known there; and the migration hides no fault."""
    with closing(sqlite3.connect(old / "store.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE event SET time_ms = 7 WHERE id & 0xffffffffff = 10")
    with SqliteJournal(old) as journal:
        assert journal.cuts("acme") == [7, 8]
        faults = {(fault.kind, fault.stream, fault.first) for fault in journal.verify()}
        assert {("changed", "acme", 10), ("changed", "münchen", 10)} <= faults


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_several_schemas_stand_side_by_side(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own number, in its header too; what is written is of the newest."""
    journal = open_journal(kind, tmp_path)
    fill(journal, "dds")
    for schema in (7, 8):
        monkeypatch.setattr(_chain, "SCHEMA", schema)
        if kind == "sqlite":
            journal.close()
            journal = open_journal(kind, tmp_path)
        else:
            # Nothing of an event is kept from the one before.
            journal.seal()
        fill(journal, "dd")
    mine = [event.schema for event in journal.read("acme")]
    assert mine == [mine[0]] * 3 + [7, 7, 8, 8]
    assert mine[0] not in (7, 8)
    assert journal.verify() == []
    journal.cut("acme", 3)
    journal.wait(add(journal))
    assert [event.schema for event in journal.read("acme")] == [mine[0], 7, 7, 8, 8, 8]
    assert journal.verify() == []
    journal.close()
