"""Being told that something is on disk, and what is gathered until somebody asks."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.journal.journals import add
from tests.journal.test_writer import blocked

from capsa.errors import StoreClosed, StoreUnwritable
from capsa.journal import Journal, SqliteJournal
from capsa.journal.sqlite import _writer


def test_whoever_asks_is_told_once_it_is_durable(journal: Journal) -> None:
    """After everything that was appended before; at once where that is so already."""
    event = add(journal)
    told: list[tuple[StoreUnwritable | None, int]] = []
    done = threading.Event()

    def tell(failure: StoreUnwritable | None) -> None:
        told.append((failure, journal.durable(event.stream)))
        done.set()

    journal.when_durable(tell)
    assert done.wait(60)
    assert told == [(None, event.sequence)]
    journal.when_durable(tell)
    assert told == [(None, event.sequence)] * 2


def test_events_are_taken_until_the_end(journal: Journal) -> None:
    journal.check()
    assert not journal.crowded
    journal.close()
    with pytest.raises(StoreClosed):
        journal.check()


def test_nobody_is_told_before_the_commit_and_all_of_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the transaction that fails, and those behind it."""
    journal = SqliteJournal(tmp_path / "store")
    told: list[StoreUnwritable | None] = []
    goes_on = threading.Event()

    def fails(*_: Any) -> None:
        assert goes_on.wait(60)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(journal._writer, "_commit", fails)
    add(journal)
    journal.when_durable(told.append)
    blocked(lambda: journal._writer._writing is not None)
    add(journal)
    journal.when_durable(told.append)
    assert told == []
    goes_on.set()
    blocked(lambda: len(told) == 2)
    assert all(isinstance(failure, StoreUnwritable) for failure in told)
    with pytest.raises(StoreUnwritable):
        journal.check()
    with pytest.raises(StoreUnwritable):
        journal.close()


def test_what_nobody_waits_for_is_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction for all of it; at once for who waits, and where there is enough."""
    monkeypatch.setattr(_writer, "LINGER_S", 600.0)
    with SqliteJournal(tmp_path / "store") as journal:
        groups: list[int] = []
        commit = journal._writer._commit

        def counted(group: Any) -> None:
            groups.append(len(group.events))
            commit(group)

        monkeypatch.setattr(journal._writer, "_commit", counted)
        for _ in range(10):
            last = add(journal)
        blocked(lambda: journal._writer._lingering)
        assert groups == []
        journal.wait(last)
        assert groups == [10]
        for _ in range(_writer._ENOUGH):
            last = add(journal)
        blocked(lambda: journal.durable(last.stream) == last.sequence)
        assert sum(groups) == 10 + _writer._ENOUGH


def test_a_full_queue_says_that_it_is_crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before whoever appends has to wait for room."""
    with SqliteJournal(tmp_path / "store") as journal:
        goes_on = threading.Event()
        commit = journal._writer._commit
        crowded = partial(getattr, journal, "crowded")

        def held(group: Any) -> None:
            assert goes_on.wait(60)
            commit(group)

        monkeypatch.setattr(journal._writer, "_commit", held)
        add(journal)
        journal.when_durable(lambda _: None)
        blocked(lambda: journal._writer._writing is not None)
        for _ in range(_writer.GROUP_EVENTS // 2 - 1):
            add(journal)
        assert not crowded()
        add(journal)
        assert crowded()
        goes_on.set()
        journal.flush()
        assert not crowded()
