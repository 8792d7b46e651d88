"""What does a store on disk cost: shared syncs, a long past, bytes, the start, and memory over time?

* commits: durable feedback of 64 concurrent callers, against one at a time on the same disk;
* cost: decide and feedback after N events, against the same after 1,000;
* bytes: what a key-based decision with its feedback takes on disk;
* start: opening a store of N events, against opening one that has nothing but its capsule;
* soak: the slope of resident memory while 16 callers decide and report.

``bench/durable.py [--events 100000] [--soak 60] [--only commits ...]``
"""

from __future__ import annotations

import argparse
import collections
import gc
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import capsa
from _measure import alternate, machine, report, store
from capsa.journal import SqliteJournal

ROOT: Final = Path(__file__).parents[1]
QUESTIONS: Final = ("commits", "cost", "bytes", "start", "soak")
SPEC: Final = """\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, cost: -0.4}
"""
KEYS: Final = 100
CALLERS: Final = 64
SOAKERS: Final = 16
#: Of each caller in a round.
FEEDBACKS: Final = 20
ROUNDS: Final = 9
FEW: Final = 1000
COST_ROUNDS: Final = 60
COST_CALLS: Final = 20
COST_BAR: Final = 1.25
BYTES_BAR: Final = 300.0
START_ROUNDS: Final = 3
RESAMPLES: Final = 5000


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that this file is on: /tmp may be memory."""
    (ROOT / "out").mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=ROOT / "out", prefix="durable-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def request(number: int) -> dict[str, Any]:
    """One of `KEYS` contexts."""
    return {
        "task_type": f"type-{number % 25}",
        "customer_tier": ("free", "enterprise")[number // 25 % 2],
        "urgency": ("normal", "high")[number // 50 % 2],
    }


def outcome(chance: random.Random) -> dict[str, float]:
    return {"quality": round(chance.random(), 3), "cost": round(chance.random(), 3)}


def with_past(path: Path, events: int) -> int:
    """Makes a store with so many decisions and feedbacks, one after the other; gives the number of decisions.

    They are made in memory and then recorded: a sync for each would take an hour.
    """
    chance = random.Random(1)
    with capsa.open(seed=1) as made, SqliteJournal(path) as journal:
        router = made.install(SPEC)
        pairs = events // 2
        for number in range(pairs):
            router.feedback(router.decide(request(number)).id, outcome=outcome(chance))
        for event in made.journal.read("default"):
            if event.type == "installed":
                digest = made.plan(SPEC).digest
                journal.put_blob(digest, made.journal.blob(digest))
            journal.append(
                event.stream, event.type, event.time_ms, event.principal, event.path, event.payload
            )
        journal.flush()
    return pairs


def upper_bound(ratios: Sequence[float]) -> float:
    """The upper 95 % bound of the median, by resampling the rounds."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.95 * RESAMPLES)]


def bar(ours: str, baseline: str, figure: float, limit: float) -> dict[str, Any]:
    """A figure against its bar, said and to be stored."""
    verdict = "holds" if figure <= limit else "MISSED"
    print(f"  {ours} / {baseline} = {figure:.3f}, bar {limit:.3f}: {verdict}")
    return {"ours": ours, "baseline": baseline, "ratio": figure, "bar": limit, "holds": figure <= limit}


class Caller:
    """Decides, and reports on what it decided."""

    def __init__(self, router: capsa.Capsule) -> None:
        self._router = router
        self._numbers = itertools.count()
        self._ids: collections.deque[str | None] = collections.deque()

    def decide(self) -> None:
        self._ids.append(self._router.decide(request(next(self._numbers))).id)

    def feedback(self) -> None:
        self._router.feedback(self._ids.popleft(), outcome={"quality": 0.5, "cost": 0.25})


def commits(path: Path) -> dict[str, Any]:
    """Feedback whose decisions were made before: what is timed is the feedback alone."""
    many, one, sync = f"{CALLERS} callers", "one caller", "a write of 4 KiB and fdatasync"
    in_memory = "one caller, in memory: no disk at all"
    synced = os.open(path / "synced", os.O_RDWR | os.O_CREAT)
    offsets = itertools.count(0, 4096)
    with (
        capsa.open(path / "commits") as opened,
        capsa.open() as memory,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        router = opened.install(SPEC)
        floor = Caller(memory.install(SPEC))
        for _ in range(FEEDBACKS * (ROUNDS + 1)):
            floor.decide()
        # A round more than is measured: `alternate` warms up.
        count = (CALLERS + 1) * FEEDBACKS * (ROUNDS + 1)
        ids = collections.deque(router.decide(request(number)).id for number in range(count))

        def give(_: int) -> None:
            for _ in range(FEEDBACKS):
                router.feedback(ids.popleft(), outcome={"quality": 0.5, "cost": 0.25})

        def give_in_memory() -> None:
            for _ in range(FEEDBACKS):
                floor.feedback()

        def sync_each() -> None:
            for _ in range(FEEDBACKS):
                os.pwrite(synced, bytes(4096), next(offsets))
                os.fdatasync(synced)

        ways: dict[str, Callable[[], object]] = {
            many: lambda: list(pool.map(give, range(CALLERS))),
            one: lambda: give(0),
            in_memory: give_in_memory,
            sync: sync_each,
        }
        taken = alternate(ways, calls=1, rounds=ROUNDS)
    os.close(synced)
    taken = {
        name: [figure / FEEDBACKS / (CALLERS if name == many else 1) for figure in figures]
        for name, figures in taken.items()
    }
    result = report("A durable feedback, by how many call at once", taken, [(many, one, 0.1)])
    print(f"  fsync p50 {statistics.median(taken[sync]) / 1000:.2f} ms")
    return result


def cost(past: Path, path: Path, events: int) -> dict[str, Any]:
    """Decide and feedback in two stores that differ in their past alone, in turns."""
    with_past(path / "few", FEW)
    with capsa.open(past) as long, capsa.open(path / "few") as short:
        callers = {f"{events:,}": Caller(long.capsule("router")), f"{FEW:,}": Caller(short.capsule("router"))}
        ways: dict[str, Callable[[], object]] = {}
        for name, caller in callers.items():
            ways[f"decide after {name} events"] = caller.decide
        for name, caller in callers.items():
            ways[f"feedback after {name} events"] = caller.feedback
        taken = alternate(ways, calls=COST_CALLS, rounds=COST_ROUNDS)
        # `alternate` keeps it off; a program does not.
        gc.collect()
        start = time.perf_counter()
        gc.collect()
        collection_ms = (time.perf_counter() - start) * 1000
    result = report(f"Decide and feedback after {events:,} events", taken, [])
    for call in ("decide", "feedback"):
        ours, baseline = (f"{call} after {name} events" for name in callers)
        bound = upper_bound([a / b for a, b in zip(taken[ours], taken[baseline], strict=True)])
        result["ratios"].append(bar(f"{ours}, upper 95 % bound", baseline, bound, COST_BAR))
    print(f"  a full collection of Python's garbage, both stores open: {collection_ms:.1f} ms")
    return {**result, "full_collection_ms": collection_ms}


def size(path: Path) -> int:
    """Bytes of a store that is closed, without what can be made again."""
    return sum(file.stat().st_size for file in path.glob("store.sqlite*"))


def bytes_on_disk(past: Path, path: Path, pairs: int) -> dict[str, Any]:
    with_past(path / "nothing", 0)
    figure = (size(past) - size(path / "nothing")) / pairs
    print(f"\nBytes on disk, {pairs:,} decisions by key, each with its feedback")
    return {"ratios": [bar("bytes of a decision with its feedback", "1 byte", figure, BYTES_BAR)]}


def start(past: Path, path: Path, events: int) -> dict[str, Any]:
    """Opening, in a process that has imported everything, with the component compiled before."""
    with_past(path / "empty", 0)
    ours, baseline = f"start with {events:,} events", "start with none"
    ways: dict[str, Callable[[], object]] = {
        ours: lambda: capsa.open(past).close(),
        baseline: lambda: capsa.open(path / "empty").close(),
    }
    taken = alternate(ways, calls=1, rounds=START_ROUNDS)
    question = "Opening and closing a store; there are no snapshots yet"
    result = report(question, taken, [(ours, baseline, 2.0)])
    each = (statistics.median(taken[ours]) - statistics.median(taken[baseline])) / events
    print(f"  {each:.1f} µs an event")
    return result


def soak(path: Path, seconds: float) -> dict[str, Any]:
    """Callers in a process of their own, so that what was measured before does not count."""
    command = [sys.executable, __file__, "--soak-in", str(path / "soak"), "--soak", str(seconds)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=2 * seconds + 120)
    samples: list[tuple[float, int, int]] = json.loads(ran.stdout)
    # The first fifth fills caches and allocators.
    kept = [sample for sample in samples if sample[0] >= seconds / 5]
    rate, error = slope([(at, rss) for at, rss, _ in kept])
    decisions = kept[-1][2] - kept[0][2]
    per_decision = (kept[-1][1] - kept[0][1]) / max(1, decisions)
    print(f"\nResident memory over {seconds:.0f} s, {SOAKERS} callers, {decisions:,} decisions with feedback")
    print(f"  {rate / 1024:.1f} ± {2 * error / 1024:.1f} KiB a second, {per_decision:.0f} bytes a decision")
    return {
        "samples": samples,
        "bytes_a_second": rate,
        "standard_error": error,
        "bytes_a_decision": per_decision,
        "ratios": [bar("slope less two standard errors, bytes a second", "flat", rate - 2 * error, 0.0)],
    }


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: the slope and its standard error."""
    mean_at = statistics.fmean(at for at, _ in points)
    mean = statistics.fmean(value for _, value in points)
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    rate = sum((at - mean_at) * (value - mean) for at, value in points) / spread
    residue = sum((value - mean - rate * (at - mean_at)) ** 2 for at, value in points)
    return rate, (residue / (len(points) - 2) / spread) ** 0.5


def soaking(path: str, seconds: float) -> None:
    """The child: callers until the time is up, and the memory fifty times meanwhile."""
    page = os.sysconf("SC_PAGE_SIZE")
    over = threading.Event()
    made = [0] * SOAKERS
    with capsa.open(path) as opened:
        router = opened.install(SPEC)

        def call(number: int) -> None:
            caller = Caller(router)
            while not over.is_set():
                caller.decide()
                caller.feedback()
                made[number] += 1

        threads = [threading.Thread(target=call, args=(number,)) for number in range(SOAKERS)]
        for thread in threads:
            thread.start()
        samples = []
        begin = time.monotonic()
        while (at := time.monotonic() - begin) < seconds:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            samples.append((at, resident, sum(made)))
            over.wait(seconds / 50)
        over.set()
        for thread in threads:
            thread.join()
    print(json.dumps(samples))


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Measures what a store on disk costs.")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--soak", type=float, default=60.0, help="seconds")
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=QUESTIONS, help="nothing is stored")
    parser.add_argument("--soak-in", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.soak_in:
        soaking(given.soak_in, given.soak)
        return {}
    parts: dict[str, dict[str, Any]] = {}
    with folder() as path:
        if "commits" in given.only:
            parts["commits"] = commits(path)
        if {"cost", "bytes", "start"} & set(given.only):
            pairs = with_past(path / "past", given.events)
            # In this order: `cost` adds to the past.
            if "bytes" in given.only:
                parts["bytes"] = bytes_on_disk(path / "past", path, pairs)
            if "start" in given.only:
                parts["start"] = start(path / "past", path, given.events)
            if "cost" in given.only:
                parts["cost"] = cost(path / "past", path, given.events)
        if "soak" in given.only:
            parts["soak"] = soak(path, given.soak)
    result = {
        "question": "What does a store on disk cost?",
        "events": given.events,
        "soak_seconds": given.soak,
        "parts": parts,
        "ratios": [one for part in parts.values() for one in part["ratios"]],
        "machine": machine(),
    }
    if set(given.only) == set(QUESTIONS):
        store("durable", result)
    return result


if __name__ == "__main__":
    sys.exit(1 if any(not one["holds"] for one in main(sys.argv[1:]).get("ratios", [])) else 0)
