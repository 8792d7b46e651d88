"""What is particular to the journal on disk: groups, back-pressure, erased bytes, questions without scans."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from capsa import _native
from capsa.journal import SqliteJournal
from capsa.journal._interface import MAX_PAYLOAD_BYTES
from capsa.journal.sqlite import _database, _index, _writer


def blocked(condition: Callable[[], bool]) -> None:
    """Waits until something is so, at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def waiters(condition: threading.Condition) -> int:
    return len(condition._waiters)  # type: ignore[attr-defined]


def test_nobody_is_told_before_the_commit(tmp_path: Path) -> None:
    """Neither of an event that is just being written nor of one that is queued; reading shows neither."""
    with SqliteJournal(tmp_path / "store") as journal, ThreadPoolExecutor(3) as pool:
        writer = journal._writer
        with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            first = journal.append("acme", "decided", 1, "local", "", b"")
            blocked(lambda: writer._writing is not None)
            second = journal.append("acme", "decided", 1, "local", "", b"")
            told = [
                pool.submit(journal.wait, first),
                pool.submit(journal.wait, second),
                pool.submit(journal.flush),
            ]
            for group, count in ((writer._writing, 1), (writer._open, 2)):
                assert group is not None
                blocked(lambda: waiters(group.done._cond) == count)  # type: ignore[attr-defined]  # noqa: B023
            assert [future.done() for future in told] == [False] * 3
            assert list(journal.read("acme")) == journal.follow("acme", 0, 0) == []
            other.execute("ROLLBACK")
        for future in told:
            future.result(timeout=60)
        assert list(journal.read("acme")) == [first, second]


def test_callers_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    """While the writing thread is held up, what comes goes into one transaction."""
    commits = 0
    with SqliteJournal(tmp_path / "store") as journal:

        def count(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        journal._writer._connection.set_trace_callback(count)
        with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            first = journal.append("acme", "decided", 1, "local", "", b"first")
            blocked(lambda: journal._writer._writing is not None)
            rest = [journal.append("acme", "decided", 1, "local", "", b"rest") for _ in range(1000)]
            other.execute("ROLLBACK")
        journal.wait(first)
        journal.wait(rest[-1])
        assert commits == 2


@pytest.mark.parametrize("limit", ["events", "bytes"])
def test_a_full_queue_holds_its_callers_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Two groups are filled, the next event waits, and none is dropped."""
    if limit == "events":
        monkeypatch.setattr(_writer, "GROUP_EVENTS", 10)
    else:
        monkeypatch.setattr(_writer, "GROUP_BYTES", 1000)
    with SqliteJournal(tmp_path / "store") as journal:

        def append() -> None:
            for _ in range(200):
                journal.append("acme", "decided", 1, "local", "", bytes(100))

        writer = journal._writer
        with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with ThreadPoolExecutor(2) as pool:
                callers = [pool.submit(append) for _ in range(2)]
                blocked(lambda: writer._writing is not None and waiters(writer._room) == 2)
                assert 10 < journal.length("acme") <= 20
                other.execute("ROLLBACK")
                for caller in callers:
                    caller.result(timeout=60)
        journal.flush()
        assert [event.sequence for event in journal.read("acme")] == list(range(1, 401))
        assert journal.verify() == []


def test_closing_ends_callers_that_are_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told; what was taken before is written."""
    monkeypatch.setattr(_writer, "GROUP_EVENTS", 10)
    journal = SqliteJournal(tmp_path / "store")
    taken = []

    def append() -> None:
        while True:
            taken.append(journal.append("acme", "decided", 1, "local", "", b""))

    with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(2) as pool:
            caller = pool.submit(append)
            blocked(lambda: waiters(journal._writer._room) == 1)
            closing_ = pool.submit(journal.close)
            assert type(caller.exception(timeout=60)).__name__ == "StoreClosed"
            other.execute("ROLLBACK")
            closing_.result(timeout=60)
    with SqliteJournal(tmp_path / "store") as again:
        assert list(again.read("acme")) == taken


def test_something_larger_than_a_group_goes_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_writer, "GROUP_BYTES", 1000)
    with SqliteJournal(tmp_path / "store") as journal:
        data = bytes(50_000)
        for _ in range(5):
            journal.append("acme", "decided", 1, "local", "", bytes(5000))
            journal.append("acme", "decided", 1, "local", "", b"small")
        journal.put_blob(_native.digest(data), data)
        assert journal.blob(_native.digest(data)) == data
        assert [len(event.payload) for event in journal.read("acme")] == [5000, 5] * 5


@pytest.mark.parametrize(
    ("time_ms", "principal", "payload"),
    [
        (-1, "local", b""),
        (1 << 63, "local", b""),
        (1.5, "local", b""),
        (True, "local", b""),
        (1, "\ud800", b""),
        (1, "local", bytearray(b"x")),
        (1, "local", bytes(MAX_PAYLOAD_BYTES + 1)),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(
    tmp_path: Path, time_ms: int, principal: str, payload: bytes
) -> None:
    """It takes no place, and the journal goes on."""
    with SqliteJournal(tmp_path / "store") as journal:
        with pytest.raises(ValueError, match=r"payload|time|surrogates"):
            journal.append("acme", "decided", time_ms, principal, "", payload)
        assert (journal.length("acme"), journal.streams()) == (0, [])
        journal.wait(journal.append("acme", "decided", 1, "local", "", b""))
        assert journal.verify() == []


def test_an_event_of_another_journal_cannot_be_waited_for(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "one") as one, SqliteJournal(tmp_path / "other") as other:
        first = one.append("acme", "decided", 1, "local", "", b"")
        with pytest.raises(ValueError, match="not appended here"):
            other.wait(first)
        other.append("acme", "decided", 1, "local", "", b"")
        with pytest.raises(ValueError, match="not appended here"):
            other.wait(one.append("acme", "decided", 1, "local", "", b""))


def test_more_origins_than_are_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Principals and paths may be many: each is stored once, and memory stays bounded."""
    monkeypatch.setattr(_writer, "_ORIGINS", 7)
    with SqliteJournal(tmp_path / "store") as journal:
        for number in range(300):
            journal.append("acme", "decided", 1, f"key-{number % 20}", "default/router", b"")
            if number % 50 == 0:
                journal.flush()
        journal.flush()
        assert len(journal._writer._origins) <= 7
        assert [event.principal for event in journal.read("acme")] == [f"key-{n % 20}" for n in range(300)]
        assert journal.verify() == []
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM origin").fetchone() == (20,)


def test_what_was_erased_is_in_no_file(tmp_path: Path) -> None:
    """Neither in the database nor in its log, open or closed; what was not erased is there."""
    randoms = random.Random(7)
    store = tmp_path / "store"
    with SqliteJournal(store) as journal:
        payloads = {}
        for number in range(1500):
            stream = f"tenant-{randoms.randrange(4)}"
            payload = b"<%032x>" % randoms.getrandbits(128) * randoms.choice([1, 4, 12, 400])
            event = journal.append(stream, "decided", number, "local", "default/router", payload)
            payloads[stream, event.sequence] = payload
            if number % 40 == 0:
                journal.wait(event)
        journal.flush()
        erased = randoms.sample(sorted(payloads), 150)
        for place in erased:
            journal.erase(*place)
        found = held(store)
        assert journal.verify() == []
        gone = {payloads[place][:34] for place in erased}
        assert [mark for mark in gone if mark in found] == []
        assert all(payload[:34] in found for place, payload in payloads.items() if place not in erased)
    found = held(store)
    assert [mark for mark in gone if mark in found] == []


def held(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_reader_delays_the_end_of_an_erased_payload(tmp_path: Path) -> None:
    """The log is kept for it; once it is done, the next commit empties the log."""
    store = tmp_path / "store"
    with SqliteJournal(store) as journal:
        journal.wait(journal.append("acme", "decided", 1, "local", "", b"<secret>"))
        with journal._readers.connection() as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM event").fetchall()
            journal.erase("acme", 1)
            assert b"<secret>" in held(store)
        journal.wait(journal.append("acme", "decided", 1, "local", "", b""))
        assert b"<secret>" not in held(store)


QUESTIONS = {**_database.QUESTIONS, **_index.QUESTIONS}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with rows in every table, and SQLite's statistics of them: they could change a plan."""
    store = tmp_path_factory.mktemp("filled") / "store"
    with SqliteJournal(store) as journal:
        for number in range(3000):
            type_ = "decided" if number % 100 else "snapshot_sealed"
            keys = [b"%06d" % number]
            journal.append("acme", type_, number, "local", "", b"", once=keys, due_ms=number)
    with closing(sqlite3.connect(store / "store.sqlite")) as database:
        database.execute("ANALYZE")
    return store


@pytest.mark.parametrize("name", sorted(QUESTIONS))
@pytest.mark.parametrize("rows", ["none", "some"])
def test_no_question_reads_a_whole_table(filled: Path, tmp_path: Path, name: str, rows: str) -> None:
    """Every statement of the journal finds its rows by a key: its cost does not grow with the events."""
    assert len(QUESTIONS) == len(_database.QUESTIONS) + len(_index.QUESTIONS)
    store = filled
    if rows == "none":
        store = tmp_path / "store"
        SqliteJournal(store).close()
    question = QUESTIONS[name]
    with closing(sqlite3.connect(store / "store.sqlite")) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {question}", [None] * question.count("?")).fetchall()
    steps = [step for *_, step in plan]
    assert steps
    allowed = {
        "last checkpoint": {"SCAN checkpoint"},
        # The rows that are given; and those of a question within.
        "settle": {"LIST SUBQUERY 2", "SCAN 2 CONSTANT ROWS"},
        "release": {"LIST SUBQUERY 1"},
        "cut": {"LIST SUBQUERY 1"},
    }.get(name, set())
    assert [step for step in steps if not step.startswith("SEARCH") and step not in allowed] == []


def test_the_most_keys_and_times_of_a_question_are_one_statement(tmp_path: Path) -> None:
    """As the plan above has it, whatever their number."""
    with SqliteJournal(tmp_path / "store") as journal:
        for number in range(700):
            journal.append("acme", "decided", number, "local", "", b"", due_ms=number)
        journal.flush()
        statements: list[str] = []
        journal._writer._connection.set_trace_callback(statements.append)
        journal.settle([(number, "acme", number + 1) for number in range(700)])
        journal.flush()
        journal._writer._connection.set_trace_callback(None)
        assert [statement.split(" WHERE")[0] for statement in statements if "due" in statement] == [
            "DELETE FROM due"
        ] * 3
        assert journal.due(1000, 10) == []


def test_a_reader_returns_its_connection(tmp_path: Path) -> None:
    """Many readers at once; afterwards a few connections are kept."""
    with SqliteJournal(tmp_path / "store") as journal:
        for number in range(100):
            journal.append("acme", "decided", number, "local", "", b"")
        journal.flush()
        with ThreadPoolExecutor(16) as pool:
            for events in pool.map(lambda _: list(journal.read("acme")), range(64)):
                assert len(events) == 100
        assert 1 <= len(journal._readers._idle) <= 4
