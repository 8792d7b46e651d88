"""A stream can be cut before a snapshot: what is behind it stays whole, in every journal."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.journal.journals import KINDS, add, fill, open_journal
from tests.journal.test_writer import blocked, held

from capsa.errors import HostFault, StoreError
from capsa.journal import FOLLOW_EVENTS, Journal, SqliteJournal, UnknownEvent
from capsa.journal.sqlite import _index


def sequences(journal: Journal, after: int = 0, limit: int | None = None, stream: str = "acme") -> list[int]:
    return [event.sequence for event in journal.read(stream, after, limit)]


def test_a_cut_takes_what_is_before_and_leaves_the_rest(journal: Journal) -> None:
    """Numbers, payloads, the chain, the other streams, and what is appended later."""
    fill(journal, "dddsddsd")
    fill(journal, "ddd", "other")
    before = list(journal.read("acme"))
    assert (journal.cuts("acme"), journal.cuts("other"), journal.cuts("nobody")) == ([4, 7], [], [])
    assert journal.cut("acme", 4) == 3
    assert (journal.first("acme"), journal.length("acme"), journal.cuts("acme")) == (4, 8, [4, 7])
    assert list(journal.read("acme")) == before[3:]
    assert sequences(journal, stream="other") == [1, 2, 3]
    assert journal.verify() == []
    assert add(journal).sequence == 9
    journal.flush()
    assert journal.cut("acme", 7) == 3
    assert (journal.first("acme"), sequences(journal)) == (7, [7, 8, 9])
    assert journal.verify() == []
    journal.seal()
    assert journal.verify() == []


def test_reading_a_cut_stream_begins_at_its_first_event(journal: Journal) -> None:
    fill(journal, "ddddsddd")
    journal.cut("acme", 5)
    for after, limit, expected in [
        (0, None, [5, 6, 7, 8]),
        (0, 2, [5, 6]),
        (3, 1, [5]),
        (4, 2, [5, 6]),
        (5, 2, [6, 7]),
        (8, None, []),
        (99, None, []),
    ]:
        assert sequences(journal, after, limit) == expected
    assert [event.sequence for event in journal.follow("acme", 0, 0)] == [5, 6, 7, 8]


def test_only_where_nothing_before_is_needed(journal: Journal) -> None:
    """Neither before a decision nor where there is nothing; nothing changes then."""
    fill(journal, "ddsdsd")
    for stream, sequence in (("acme", 1), ("acme", 2), ("acme", 7), ("acme", 0), ("acme", -1), ("nobody", 1)):
        with pytest.raises(UnknownEvent):
            journal.cut(stream, sequence)
    journal.cut("acme", 5)
    with pytest.raises(UnknownEvent):
        journal.cut("acme", 3)
    assert journal.cut("acme", 5) == 0
    with pytest.raises(UnknownEvent):
        journal.erase("acme", 4)
    journal.erase("acme", 6)
    assert (journal.first("acme"), sequences(journal)) == (5, [5, 6])
    assert journal.verify() == []


def test_a_snapshot_that_is_first_can_be_cut_at(journal: Journal) -> None:
    """There is nothing to do, and no checkpoint."""
    fill(journal, "sd")
    assert (journal.cuts("acme"), journal.cut("acme", 1), journal.first("acme")) == ([1], 0, 1)
    assert journal.checkpoints() == []


def test_a_purged_stream_of_one_event_verifies(journal: Journal) -> None:
    """And goes on."""
    fill(journal, "dddsdd")
    journal.seal()
    fill(journal, "p")
    assert journal.cut("acme", 7) == 6
    assert (journal.streams(), journal.first("acme"), journal.length("acme")) == (["acme"], 7, 7)
    [event] = journal.read("acme")
    assert (event.type, event.sequence) == ("purged", 7)
    assert journal.verify() == []
    fill(journal, "dd")
    assert sequences(journal) == [7, 8, 9]
    assert journal.verify() == []


def test_a_cut_is_signed(journal: Journal) -> None:
    """The checkpoint of the cut says where each stream begins, and so do those after it."""
    fill(journal, "ddsd")
    fill(journal, "s", "other")
    first = journal.seal()
    journal.cut("acme", 3)
    [second] = journal.checkpoints(after=1)
    third = journal.seal()
    assert [checkpoint.cuts for checkpoint in (first, second, third)] == [{}, {"acme": 3}, {"acme": 3}]
    assert second.signed_by(journal.public_key)
    assert (second.previous, third.previous) == (first.digest, second.digest)
    assert {checkpoint.since for checkpoint in (first, second, third)} == {1}


def test_a_reader_that_is_overtaken_goes_on_behind_the_cut(journal: Journal) -> None:
    """In the middle of its way, or with all of it still ahead."""
    fill(journal, "d" * 4999 + "s" + "d" * 1000)
    begun, not_begun, part = journal.read("acme"), journal.read("acme"), journal.read("acme", 10, 4995)
    assert next(begun).sequence == 1
    journal.cut("acme", 5000)
    behind = list(range(5000, 6001))
    rest = [event.sequence for event in begun]
    assert rest[-1001:] == behind
    # What was already read at once may still come.
    assert rest[:-1001] == list(range(2, 2 + len(rest) - 1001))
    assert [event.sequence for event in not_begun][-1001:] == behind
    assert [event.sequence for event in part][-6:] == behind[:6]


@pytest.mark.parametrize("kind", KINDS)
def test_who_reads_during_a_cut_goes_on_behind_it(kind: str, tmp_path: Path) -> None:
    """Nothing is missing that is behind the cut, whenever it comes."""
    journal = open_journal(kind, tmp_path)
    fill(journal, "d" * 4999 + "s" + "d" * 1000)
    with ThreadPoolExecutor(4) as pool:
        started = threading.Barrier(5)

        def read() -> list[int]:
            reading = journal.read("acme")
            found = [next(reading).sequence]
            started.wait(60)
            return found + [event.sequence for event in reading]

        readings = [pool.submit(read) for _ in range(4)]
        started.wait(60)
        assert journal.cut("acme", 5000) == 4999
        for reading in readings:
            found = reading.result(timeout=60)
            assert found == sorted(set(found))
            assert found[-1001:] == list(range(5000, 6001))
    assert len(journal.follow("acme", 10, 0)) == FOLLOW_EVENTS
    assert journal.verify() == []
    journal.close()


def test_what_was_cut_is_in_no_file(tmp_path: Path) -> None:
    """Neither in the database nor in its log; what is behind the cut is there."""
    store = tmp_path / "store"
    with SqliteJournal(store) as journal:
        for number in range(3000):
            type_ = "snapshot_sealed" if number == 2500 else "decided"
            add(journal, payload=b"<payload %06d>" % number, type_=type_)
        journal.flush()
        assert b"<payload 000007>" in held(store)
        assert journal.cut("acme", 2501) == 2500
        content = held(store)
        assert [n for n in range(2500) if b"<payload %06d>" % n in content] == []
        assert all(b"<payload %06d>" % n in content for n in range(2500, 3000))


def test_a_cut_store_opens_as_it_was(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "store") as journal:
        fill(journal, "ddsdds")
        journal.cut("acme", 3)
        events = list(journal.read("acme"))
    with SqliteJournal(tmp_path / "store") as journal:
        assert (journal.first("acme"), journal.cuts("acme")) == (3, [3, 6])
        assert list(journal.read("acme")) == events
        assert add(journal).sequence == 7
        journal.flush()
        journal.cut("acme", 6)
        assert journal.verify() == []


def in_the_middle_of_a_cut(folder: Path) -> Path:
    """A copy of a store in which one step of a cut was done and three were not."""
    with SqliteJournal(folder / "store") as journal:
        fill(journal, "d" * 6999 + "s" + "d" * 10)
        steps = 0

        def copy_after_one(connection: sqlite3.Connection, stream_id: int, first: int) -> int:
            nonlocal steps
            steps += 1
            if steps == 2:
                shutil.copytree(folder / "store", folder / "copy")
            return cut(connection, stream_id, first)

        cut, _index.cut = _index.cut, copy_after_one
        try:
            assert journal.cut("acme", 7000) == 6999
        finally:
            _index.cut = cut
        assert steps == 4
    return folder / "copy"


def left_over(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "store.sqlite")) as database:
        [count] = database.execute("SELECT count(*) FROM event WHERE id & 0xffffffffff < 7000").fetchone()
    return int(count)


def test_a_cut_that_was_interrupted_is_finished_when_the_store_is_opened(tmp_path: Path) -> None:
    """Beside everything else; meanwhile what is left over is not seen, and no fault."""
    copy = in_the_middle_of_a_cut(tmp_path)
    with SqliteJournal(copy) as journal:
        assert journal.verify() == []
        assert (journal.first("acme"), sequences(journal)) == (7000, list(range(7000, 7011)))
        blocked(lambda: left_over(copy) == 0)
        journal.wait(add(journal))
        assert journal.verify() == []
    with SqliteJournal(copy) as journal:
        assert sequences(journal) == list(range(7000, 7012))


def test_a_number_that_has_rotted_removes_nothing(tmp_path: Path) -> None:
    """Where the stream and its signed checkpoint do not say the same, nothing is taken for left over."""
    with SqliteJournal(tmp_path / "store") as journal:
        fill(journal, "ddsddsdd")
        journal.cut("acme", 3)
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE stream SET first = 6")
    with SqliteJournal(tmp_path / "store") as journal:
        assert journal.first("acme") == 6
        journal.wait(add(journal))
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as database:
        assert database.execute("SELECT count(*) FROM event").fetchone() == (7,)
        database.execute("UPDATE stream SET first = 3")
    with SqliteJournal(tmp_path / "store") as journal:
        assert journal.verify() == []


def test_a_cut_takes_the_key(tmp_path: Path) -> None:
    """Without it nothing is cut: nobody could tell it from a theft."""
    with SqliteJournal(tmp_path / "store") as journal:
        fill(journal, "dds")
        key = journal.keys / "checkpoints.key"
        key.chmod(0o640)
        with pytest.raises(HostFault, match="chmod 600"):
            journal.cut("acme", 3)
        key.unlink()
        with pytest.raises(StoreError, match=r"checkpoints\.key"):
            journal.cut("acme", 3)
        assert (journal.first("acme"), sequences(journal)) == (1, [1, 2, 3])
        assert journal.verify() == []


def test_cutting_holds_nobody_up(tmp_path: Path) -> None:
    """What is appended meanwhile is durable before the last step: each step is a transaction of its own."""
    with SqliteJournal(tmp_path / "store") as journal:
        fill(journal, "d" * 19_999 + "s")
        done: list[tuple[str, int]] = []
        trim = journal._trim

        def step(connection: sqlite3.Connection, stream: object) -> int:
            done.append(("step", 0))
            return trim(connection, stream)  # type: ignore[arg-type]

        journal._trim = step  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as pool:
            cutting = pool.submit(journal.cut, "acme", 20_000)
            while not cutting.done():
                event = add(journal)
                journal.wait(event)
                done.append(("event", event.sequence))
            assert cutting.result() == 19_999
        steps = [at for at, (kind, _) in enumerate(done) if kind == "step"]
        assert len(steps) == 10
        assert sum(kind == "event" for kind, _ in done[steps[0] : steps[-1]]) >= 4
        assert journal.verify() == []
