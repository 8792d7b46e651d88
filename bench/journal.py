"""What does a durable event cost: 64 callers that share their syncs, against one at a time on the same disk?

Further questions, without bars: what an event takes on disk, how many go through the writing thread, where its time
goes, and what a Python thread that computes all the while does to those who wait. `--kills N` adds the crash test
of tests/journal with N kills.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import capsa
from _measure import alternate, machine, ratio, report, store
from capsa.journal import Event, MemoryJournal, SqliteJournal, _chain

ROOT = Path(__file__).parents[1]
CALLERS = 64
#: Of each caller in a round.
EVENTS = 20
BULK = 20_000
SPEC = """\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward_range: [0, 1]
"""


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that this file is on: /tmp may be memory."""
    (ROOT / "out").mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=ROOT / "out", prefix="journal-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def real_events(pairs: int) -> list[Event]:
    """Decisions, each with its feedback, of a capsule with three options."""
    with capsa.open(seed=1) as opened:
        router = opened.install(SPEC)
        for number in range(pairs):
            decision = router.decide(
                {"task_type": f"type-{number % 7}", "customer_tier": "enterprise", "urgency": "normal"}
            )
            router.feedback(decision.id, reward=number % 10 / 10)
        kinds = ("decided", "outcome_received")
        return [event for event in opened.journal.read("default") if event.type in kinds]


#: As nonces do, the keys of decisions grow with time.
_KEYS: Final = itertools.count(1)


def append(journal: SqliteJournal | MemoryJournal, event: Event) -> Event:
    """Records an event; of feedback, with a key that counts once, as the store does."""
    once = [next(_KEYS).to_bytes(16, "big")] if event.type == "outcome_received" else []
    return journal.append(
        event.stream, event.type, event.time_ms, event.principal, event.path, event.payload, once=once
    )


def per_event(taken: dict[str, list[float]], events: dict[str, int]) -> dict[str, list[float]]:
    """Microseconds an event from microseconds a call."""
    return {name: [figure / events[name] for figure in figures] for name, figures in taken.items()}


def durable(path: Path, event: Event) -> dict[str, Any]:
    """The question with the bar."""
    journal = SqliteJournal(path / "store")

    def durably(_: int) -> None:
        for _ in range(EVENTS):
            journal.wait(append(journal, event))

    plain = sqlite3.connect(path / "plain.sqlite", isolation_level=None)
    plain.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE event (id INTEGER PRIMARY KEY, payload BLOB)"
    )
    synced = os.open(path / "synced", os.O_RDWR | os.O_CREAT)
    offsets = itertools.count(0, 4096)

    def commit_each() -> None:
        for _ in range(EVENTS):
            plain.execute("INSERT INTO event (payload) VALUES (?)", (event.payload,))

    def sync_each() -> None:
        for _ in range(EVENTS):
            os.pwrite(synced, bytes(4096), next(offsets))
            os.fdatasync(synced)

    many, one = f"{CALLERS} callers", "one caller"
    with journal, closing(plain), ThreadPoolExecutor(CALLERS) as pool:
        ways: dict[str, Callable[[], object]] = {
            many: lambda: list(pool.map(durably, range(CALLERS))),
            one: lambda: durably(0),
            "plain sqlite3, a commit each": commit_each,
            "a write of 4 KiB and fdatasync": sync_each,
        }
        taken = alternate(ways, calls=1)
    os.close(synced)
    taken = per_event(taken, {name: EVENTS * (CALLERS if name == many else 1) for name in ways})
    result = report(f"A durable event, {len(event.payload)} bytes of payload", taken, [(many, one, 0.1)])
    print(f"  fsync p50 {statistics.median(taken['a write of 4 KiB and fdatasync']) / 1000:.2f} ms")
    return result


def through_the_writer(path: Path, events: list[Event]) -> dict[str, Any]:
    """Events of the usual sizes, queued as fast as they are taken; and what Python's part of that is."""
    bulk = list(itertools.islice(itertools.cycle(events), BULK))
    headers = {
        event.type: _chain.Header(1, event.stream, event.type, event.principal, event.path)
        for event in events
    }

    def write() -> None:
        for event in bulk:
            append(journal, event)
        journal.flush()

    def remember() -> None:
        for event in bulk:
            append(memory, event)

    def chain() -> None:
        salts, head = os.urandom(_chain.SALT_BYTES * BULK), _chain.NO_HEAD
        for at, event in enumerate(bulk):
            salt = salts[_chain.SALT_BYTES * at : _chain.SALT_BYTES * (at + 1)]
            digest = _chain.salted_digest(salt, event.payload)
            header = headers[event.type].encode(event.time_ms, at, digest)
            head = _chain.next_head(head, header)
            _chain.checksum(header)

    def read() -> None:
        for _ in journal.read("default", limit=BULK):
            pass

    memory = MemoryJournal()
    with SqliteJournal(path / "bulk") as journal:
        ways: dict[str, Callable[[], object]] = {
            "through the writer to the disk": write,
            "of that: salt, digest, header, head": chain,
            "MemoryJournal.append": remember,
            "reading them back": read,
        }
        taken = per_event(alternate(ways, calls=1), dict.fromkeys(ways, BULK))
        start = time.perf_counter()
        assert journal.verify() == []
        verified = (time.perf_counter() - start) * 1e6 / journal.length("default")
    result = report("An event in bulk", taken, [])
    whole = statistics.median(taken["through the writer to the disk"])
    print(f"  {1e6 / whole:,.0f} events/s through the writer; verify {verified:.1f} µs an event")
    print(
        f"  the chain is {ratio(taken, 'of that: salt, digest, header, head', 'through the writer to the disk'):.0%} of it"
    )
    return {**result, "verify_microseconds": verified}


def on_disk(path: Path, events: list[Event]) -> dict[str, float]:
    """Bytes of a closed store per event."""
    found = {}
    kinds = {
        "decided": [event for event in events if event.type == "decided"],
        "outcome_received": [event for event in events if event.type == "outcome_received"],
        "decision with feedback": events,
    }
    for kind, listed in kinds.items():
        with SqliteJournal(path / f"size-{kind}") as journal:
            for event in itertools.islice(itertools.cycle(listed), BULK):
                append(journal, event)
        size = (path / f"size-{kind}/store.sqlite").stat().st_size / BULK
        payload = statistics.mean(len(event.payload) for event in listed)
        each = 2 if kind == "decision with feedback" else 1
        found[kind] = size * each
        print(f"  {kind:<24} {size * each:7.1f} bytes on disk, {payload * each:6.1f} of them payload")
    return found


def beside_a_busy_thread(path: Path, event: Event) -> dict[str, list[float]]:
    """Waiting for one event, while another thread of Python computes or not."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    with SqliteJournal(path / "busy") as journal:

        def durably() -> None:
            journal.wait(append(journal, event))

        alone = alternate({"one caller, alone": durably}, calls=EVENTS)
        busy = threading.Thread(target=compute)
        busy.start()
        beside = alternate({"one caller, beside a thread that computes": durably}, calls=EVENTS)
        stop.set()
        busy.join()
    return {**alone, **beside}


def kill(path: Path, kills: int) -> int:
    """Kills a recording program again and again; raises where something acknowledged is lost or doubled."""
    sys.path.insert(0, str(ROOT))
    from tests.journal.kills import kill_again_and_again

    acknowledged = kill_again_and_again(path / "killed", kills, seed=1)
    print(f"\n{kills} kills, {acknowledged} events acknowledged: none lost, none doubled, every chain intact")
    return acknowledged


def main(kills: int = 0) -> dict[str, Any]:
    events = real_events(500)
    decided = next(event for event in events if event.type == "decided")
    around: dict[str, Any] = {"machine": machine("cryptography"), "sqlite": sqlite3.sqlite_version}
    with folder() as path:
        result = {**durable(path, decided), **around}
        result["bulk"] = through_the_writer(path, events)
        print("\nOn disk")
        result["bytes"] = on_disk(path, events)
        busy = beside_a_busy_thread(path, decided)
        result["busy"] = report("A durable event, beside Python that computes", busy, [])
        if kills:
            result["kills"] = {"kills": kills, "acknowledged": kill(path, kills)}
    store("journal", result)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    main(parser.parse_args().kills)
