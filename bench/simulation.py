"""Does a store hold what it promises over ten thousand random lives?

A life is a seeded schedule of decisions, feedback (delayed, doubled, reordered, in parts, contradicted, late, frozen),
horizons, settings, installs, retention, purges, erasures, new keys, forged ids, restarts, crashes, kills in the middle
of something, and slow and full disks, held against an independent model at every step: tests/simulation. Half of the
lives are in memory, half in a folder. 200 are run with the tests.

``bench/simulation.py [--lives 10000] [--first 0] [--processes 2]``; a failed life is repeated by its seed:
``bench/simulation.py --seed 17 --kind disk``. Exits 1 where a life fails. The result of at least 10,000 is stored.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from _measure import machine, store

ROOT: Final = Path(__file__).parents[1]
# The model and the schedule are those of the tests.
sys.path.insert(0, str(ROOT))

#: Lives that a process takes at once.
CHUNK: Final = 25
#: One life of so many meets a full disk.
FULL: Final = 20
#: Failures that are told in full.
TOLD: Final = 5
#: Lives between two lines of progress.
TOLD_AFTER: Final = 250
LIVES: Final = 10_000


def kind_of(seed: int) -> str:
    """Where a life takes place."""
    if seed % FULL == FULL - 1:
        return "full disk"
    return "disk" if seed % 2 else "memory"


def lives(seeds: range, cache: Path, home: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs lives; gives what they came to, and the failures."""
    from tests.simulation.life import live

    lived: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for seed in seeds:
        kind = kind_of(seed)
        try:
            lived.append({"kind": kind, **asdict(live(seed, kind, cache, home))})
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and the other lives go on
            failed.append({"seed": seed, "kind": kind, "said": traceback.format_exc(limit=-4)})
    return lived, failed


def chunks(seeds: range) -> Iterator[range]:
    for at in range(0, len(seeds), CHUNK):
        yield seeds[at : at + CHUNK]


def run(seeds: range, processes: int, cache: Path, home: Path) -> dict[str, Any]:
    """All lives, by so many processes."""
    from tests.simulation.life import Lived

    lived: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    start = time.monotonic()
    said = 0
    # Not forked: a store does not survive that, and a limit of files is a process's own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = [pool.submit(lives, chunk, cache, home) for chunk in chunks(seeds)]
        for future in as_completed(futures):
            good, bad = future.result()
            lived += good
            failed += bad
            for failure in bad[: max(0, TOLD - len(failed) + len(bad))]:
                print(f"\n  seed {failure['seed']}, {failure['kind']}:\n{failure['said']}", flush=True)
            done = len(lived) + len(failed)
            if done >= said + TOLD_AFTER or done == len(seeds):
                said = done
                spent = time.monotonic() - start
                print(f"  {done} lives, {len(failed)} failed, {spent:.0f} s", flush=True)
    sums = [field.name for field in fields(Lived) if field.name != "state_hashes"]
    return {
        "question": "Does a store hold what it promises over random lives?",
        "runs": len(seeds),
        "first_seed": seeds.start,
        "kinds": dict(collections.Counter(life["kind"] for life in lived)),
        **{name: sum(life[name] for life in lived) for name in sums},
        "failed": failed[:100],
        "seconds": round(time.monotonic() - start, 1),
        "machine": machine(),
        "ratios": [
            {
                "ours": "lives that failed",
                "baseline": "none",
                "ratio": len(failed),
                "bar": 0,
                "holds": not failed,
            }
        ],
    }


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Runs random lives of a store against a model.")
    parser.add_argument("--lives", type=int, default=LIVES, help=f"the result of at least {LIVES} is stored")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, help="this life alone; a failure is raised")
    parser.add_argument("--kind", choices=("memory", "disk", "full disk"), help="of the life with --seed")
    given = parser.parse_args(arguments)
    # Nothing here depends on a sync: a crash is a copy of the folder.
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    home = Path(tempfile.mkdtemp(prefix="capsa-lives-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        if given.seed is not None:
            from tests.simulation.life import live

            print(live(given.seed, given.kind or kind_of(given.seed), home / "cache", home))
            return {}
        print(f"\n{given.lives} lives of a store, {given.processes} processes", flush=True)
        result = run(range(given.first, given.first + given.lives), given.processes, home / "cache", home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if given.lives >= LIVES:
        store("simulation", result)
    return result


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]).get("failed") else 0)
