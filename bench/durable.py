"""What does a store on disk cost: shared syncs, a long past, bytes, the start, and memory over time?

* commits: durable feedback of 64 concurrent callers, threads and asyncio tasks, against one at a time on the same disk;
* cost: decide and feedback after N events, against the same after 1,000;
* bytes: what a key-based decision with its feedback takes on disk, keys that count once and indexes included;
* start: opening a store of N events and a snapshot, against opening one that has nothing but its capsule;
* soak: the slope of resident memory while 16 callers decide and report.

``bench/durable.py [--events 1000000] [--soak 600] [--only commits ...] [--past FOLDER]``; with less, or with ``--only``,
nothing is stored. A past is made in minutes; ``--past`` keeps it for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import itertools
import json
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import capsa
from _measure import alternate, machine, report, store
from capsa.decisions import _feedback

ROOT: Final = Path(__file__).parents[1]
EVENTS: Final = 1_000_000
SOAK_S: Final = 600.0
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
START_ROUNDS: Final = 15
#: Of a past, between two rounds of upkeep, which seals snapshots.
UPKEEP_PAIRS: Final = 25_000
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

    Nobody waits for the disk: a sync for each would take hours. All else is as ever, snapshots included.
    """
    chance = random.Random(1)
    pairs = events // 2
    with capsa.open(path, upkeep=False) as made:
        router = made.install(SPEC)
        for number in range(pairs):
            decision = router._decide(request(number), None, None, None, None)
            recorded(router, decision.id, outcome(chance))
            if number % UPKEEP_PAIRS == UPKEEP_PAIRS - 1:
                made.upkeep()
    return pairs


def recorded(router: capsa.Capsule, decision_id: str | None, metrics: dict[str, float]) -> None:
    """Feedback that is recorded and learned, and not waited for."""
    router._feedback(
        decision_id,
        outcome=metrics,
        reward=None,
        taken=_feedback.AS_ANSWERED,
        strategy=None,
        option=None,
        context_key=None,
    )


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

    def record(self) -> None:
        """A decision and its feedback, not waited for."""
        self.decide()
        recorded(self._router, self._ids.popleft(), {"quality": 0.5, "cost": 0.25})


def commits(path: Path) -> dict[str, Any]:
    """Feedback whose decisions were made before: what is timed is the feedback alone."""
    many, one = f"{CALLERS} threads", "one thread"
    tasks, awaited = f"{CALLERS} asyncio tasks", "one asyncio task"
    in_memory, sync = "one caller, in memory: no disk at all", "a write of 4 KiB and fdatasync"
    synced = os.open(path / "synced", os.O_RDWR | os.O_CREAT)
    offsets = itertools.count(0, 4096)
    # A round more than is measured: `alternate` warms up.
    count = (CALLERS + 1) * FEEDBACKS * (ROUNDS + 1)
    metrics = {"quality": 0.5, "cost": 0.25}
    with (
        capsa.open(path / "threads") as opened,
        capsa.open() as memory,
        ThreadPoolExecutor(CALLERS) as pool,
        asyncio.Runner() as runner,
    ):
        waiting = runner.run(opened_async(path / "tasks"))
        offered = runner.run(waiting.install(SPEC))
        router = opened.install(SPEC)
        floor = Caller(memory.install(SPEC))
        for _ in range(FEEDBACKS * (ROUNDS + 1)):
            floor.decide()
        ids = collections.deque(router.decide(request(number)).id for number in range(count))
        async_ids = collections.deque(offered.sync.decide(request(number)).id for number in range(count))

        def give(_: int) -> None:
            for _ in range(FEEDBACKS):
                router.feedback(ids.popleft(), outcome=metrics)

        async def give_async() -> None:
            for _ in range(FEEDBACKS):
                await offered.feedback(async_ids.popleft(), outcome=metrics)

        async def give_together() -> None:
            await asyncio.gather(*(give_async() for _ in range(CALLERS)))

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
            tasks: lambda: runner.run(give_together()),
            awaited: lambda: runner.run(give_async()),
            in_memory: give_in_memory,
            sync: sync_each,
        }
        taken = alternate(ways, calls=1, rounds=ROUNDS)
        runner.run(waiting.__aexit__(None, None, None))
    os.close(synced)
    taken = {
        name: [figure / FEEDBACKS / (CALLERS if name in (many, tasks) else 1) for figure in figures]
        for name, figures in taken.items()
    }
    bars = [(many, one, 0.1), (tasks, awaited, 0.1)]
    result = report("A durable feedback, by how many call at once", taken, bars)
    print(f"  fsync p50 {statistics.median(taken[sync]) / 1000:.2f} ms")
    return {**result, "fsync_p50_ms": statistics.median(taken[sync]) / 1000}


async def opened_async(path: Path) -> capsa.AsyncStore:
    """A store for asyncio."""
    return await capsa.AsyncStore(path).__aenter__()


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
        # Beside a sync of the disk what grows could hide.
        for name, caller in callers.items():
            ways[f"both but for the disk after {name} events"] = caller.record

        def written() -> None:
            long.journal.flush()
            short.journal.flush()

        taken = alternate(ways, calls=COST_CALLS, rounds=COST_ROUNDS, between=written)
        # `alternate` keeps it off; a program does not.
        gc.collect()
        start = time.perf_counter()
        gc.collect()
        collection_ms = (time.perf_counter() - start) * 1000
    result = report(f"Decide and feedback after {events:,} events", taken, [])
    for call in ("decide", "feedback", "both but for the disk"):
        ours, baseline = (f"{call} after {name} events" for name in callers)
        bound = upper_bound([a / b for a, b in zip(taken[ours], taken[baseline], strict=True)])
        result["ratios"].append(bar(f"{ours}, upper 95 % bound", baseline, bound, COST_BAR))
    print(f"  a full collection of Python's garbage, both stores open: {collection_ms:.1f} ms")
    return {**result, "full_collection_ms": collection_ms}


def size(path: Path) -> dict[str, int]:
    """Bytes of a store that is closed, by table or index, without what can be made again."""
    with closing(sqlite3.connect(path / "store.sqlite")) as connection:
        tables: dict[str, int] = dict(
            connection.execute(
                "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"
            ).fetchall()
        )
    whole = sum(file.stat().st_size for file in path.glob("store.sqlite*"))
    return {**tables, "free": whole - sum(tables.values())}


def bytes_on_disk(past: Path, path: Path, pairs: int) -> dict[str, Any]:
    """Everything that grows counts but snapshots, of which there are always the same few."""
    with_past(path / "nothing", 0)
    found, nothing = size(past), size(path / "nothing")
    each = {name: (taken - nothing.get(name, 0)) / pairs for name, taken in found.items()}
    snapshots = found["blob"] - nothing["blob"]
    print(f"\nBytes on disk, {pairs:,} decisions by key, each with its feedback")
    for name, figure in each.items():
        if name != "blob" and figure >= 0.05:
            print(f"  {name:<28} {figure:7.1f}")
    print(f"  snapshots apart: {snapshots / 1024:,.0f} KiB in all")
    figure = sum(each.values()) - each["blob"]
    return {
        "bytes": each,
        "snapshots_bytes": snapshots,
        "ratios": [bar("bytes of a decision with its feedback", "1 byte", figure, BYTES_BAR)],
    }


def start(past: Path, path: Path, events: int) -> dict[str, Any]:
    """Opening, in a process that has imported everything, with the component compiled before."""
    with_past(path / "empty", 0)
    ours, baseline = f"start with {events:,} events", "start with none"
    ways: dict[str, Callable[[], object]] = {
        ours: lambda: capsa.open(past).close(),
        baseline: lambda: capsa.open(path / "empty").close(),
    }
    taken = alternate(ways, calls=1, rounds=START_ROUNDS)
    return report("Opening and closing a store that has a snapshot", taken, [(ours, baseline, 2.0)])


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
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--soak", type=float, default=SOAK_S, help="seconds")
    parser.add_argument("--past", type=Path, help="a folder where the past is, or is made and kept")
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
            pairs = given.events // 2
            if given.past is None:
                with_past(path / "past", given.events)
            else:
                if not given.past.exists():
                    with_past(given.past, given.events)
                # `cost` adds to it.
                shutil.copytree(given.past, path / "past")
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
    if set(given.only) == set(QUESTIONS) and given.events >= EVENTS and given.soak >= SOAK_S:
        store("durable", result)
    return result


if __name__ == "__main__":
    sys.exit(1 if any(not one["holds"] for one in main(sys.argv[1:]).get("ratios", [])) else 0)
