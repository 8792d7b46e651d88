"""Is a feedback that was acknowledged there, and there once, after a hundred ``kill -9``?

A child serves 32 concurrent callers on one store folder: decisions and joint decisions, feedback whole, in parts,
with what was really taken, posted again, and contradicted, and decisions whose horizon brings what was declared, while
its upkeep sweeps horizons and seals snapshots all the time. It says every acknowledged feedback over a pipe, and
decisions that it leaves without any. It is killed after a random number of them, or at a random moment of its start,
over and over on the same folder. After each kill the store is opened and held against everything that was ever
acknowledged:

* lost: an acknowledged feedback whose event is not at its sequence, or says something else; a decision that has
  declared an outcome and is not there; feedback for any other decision that is not learned, whether the kill took its
  record or not;
* doubled: a decision that was learned twice, a metric or a horizon that was recorded twice, a count beside the events;
* the journal verifies, a rebuild gives the live state, and so does another start.

``bench/crash.py [--kills 100] [--callers 32] [--folder FOLDER] [--seed 1] [--seconds 1500]`` exits 1 on any fault.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import math
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import capsa
from _after_kill import SPECS, Acknowledged, Left, faults_of, missed_horizons
from _measure import machine, store
from capsa.decisions import _upkeep

#: In the child, so that kills meet them: seconds between rounds of upkeep, and events between snapshots.
ROUND_S: Final = 0.02
SNAPSHOT_EVENTS: Final = 150
KILLS: Final = 100
#: Acknowledgements before a kill, at most.
MOST: Final = 250
#: One kill of so many comes at a moment of the child's start.
EARLY: Final = 8
#: Longer silence of a child is a fault: it hangs.
SILENCE_S: Final = 60.0
#: What a thread computes before another may.
SWITCH_S: Final = 2e-5
#: A line is written at once, so that those of other threads do not mix with it.
LINE_BYTES: Final = 4096


# The child.


class Callers:
    """What the child does: callers that share nothing but the store and their latest posts."""

    def __init__(self, opened: capsa.Store, callers: int, seed: int) -> None:
        self._capsules = {name: opened.install(spec) for name, spec in SPECS.items()}
        self._seed = seed
        #: Posted again by whoever comes by, at times while the first is still on its way.
        self._latest: collections.deque[tuple[str, str, dict[str, Any]]] = collections.deque(maxlen=16)
        self._posters = ThreadPoolExecutor(callers)

    def call(self, number: int) -> None:
        """One caller, for ever."""
        chance = random.Random(f"{self._seed} {number}")
        while True:
            [name] = chance.choices(list(SPECS), [12, 5, 1])
            decision = self._capsules[name].decide({"task": f"t{chance.randrange(7)}"})
            assert decision.id is not None
            if name == "offers" or chance.random() < 0.15:
                os.write(1, Left(name, decision.id).line())
                continue
            for post in self._posts(chance, name):
                self._latest.append((name, decision.id, post))
                if chance.random() < 0.2:
                    # Three at once: which is first is not for us to say, but one of them is.
                    at_once = [self._posters.submit(self._post, name, decision.id, post) for _ in range(3)]
                    for sent in at_once:
                        sent.result()
                else:
                    self._post(name, decision.id, post)
            if chance.random() < 0.3:
                with contextlib.suppress(IndexError):
                    self._post(*chance.choice(self._latest))
            if chance.random() < 0.1:
                self._contradict(name, decision.id)

    @staticmethod
    def _posts(chance: random.Random, name: str) -> list[dict[str, Any]]:
        if name == "retries":
            return [{"reward": round(chance.random(), 3)}]
        whole = {"quality": round(chance.random(), 3), "cost": round(chance.random(), 3)}
        match chance.randrange(4):
            case 0:
                return [{"outcome": {metric: value}} for metric, value in whole.items()]
            case 1:
                return [{"outcome": whole, "taken": chance.choice(["cheap", "dear", None])}]
            case _:
                return [{"outcome": whole}]

    def _post(self, name: str, decision_id: str, post: dict[str, Any]) -> None:
        answer = self._capsules[name].feedback(decision_id, **post)
        line = Acknowledged(name, decision_id, post, answer.status, answer.sequence).line()
        assert len(line) <= LINE_BYTES
        os.write(1, line)

    def _contradict(self, name: str, decision_id: str) -> None:
        with contextlib.suppress(capsa.errors.FeedbackConflict):
            self._capsules[name].feedback(decision_id, reward=-0.999)
            os.write(1, b'"a contradiction was accepted"\n')


def child(folder: str, callers: int, seed: int) -> None:
    """Opens the store and serves until it is killed."""
    # Threads take turns in the middle of a call, not once in 5 ms.
    sys.setswitchinterval(SWITCH_S)
    # For good: this process ends by being killed.
    patch.multiple(_upkeep, ROUND_SECONDS=ROUND_S, SNAPSHOT_EVENTS=SNAPSHOT_EVENTS).start()
    work = Callers(capsa.open(folder), callers, seed)
    os.write(1, b'"open"\n')
    threads = [threading.Thread(target=work.call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# The parent.


def lines_of(program: subprocess.Popen[bytes], silence_s: float, most_s: float = math.inf) -> Iterator[Any]:
    """What a child says, line by line; ends with the child, after so long a silence, or after so long at most."""
    assert program.stdout is not None
    descriptor = program.stdout.fileno()
    rest = b""
    end = time.monotonic() + most_s
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0 and selector.select(min(silence_s, left)):
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)


def ending(program: subprocess.Popen[bytes]) -> str:
    """How a child that says nothing more has ended."""
    try:
        return f"ended by itself (exit code {program.wait(timeout=5)})"
    except subprocess.TimeoutExpired:
        return "hung"


def kill_at_work(
    folder: Path, callers: int, seed: int, chance: random.Random
) -> tuple[list[Acknowledged], list[Left], str]:
    """Starts a child, kills it at some moment, and gives what it had acknowledged and left, and what went wrong."""
    command = [sys.executable, __file__, "--child", str(folder), "--callers", str(callers)]
    command += ["--seed", str(seed)]
    said: list[Any] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        try:
            if chance.randrange(EARLY) == 0:
                # Into importing, opening, folding, or the first commits.
                said += lines_of(program, SILENCE_S, chance.uniform(0.1, 1.5))
            else:
                wanted = chance.randint(2, MOST)
                for line in lines_of(program, SILENCE_S):
                    said.append(line)
                    if len(said) >= wanted:
                        break
                else:
                    return [], [], f"the child {ending(program)} after {len(said)} lines"
        finally:
            program.send_signal(signal.SIGKILL)
        # What it had written before it died was answered as well.
        said += lines_of(program, SILENCE_S)
        if program.wait() != -signal.SIGKILL:
            return [], [], f"the child ended by itself, exit code {program.returncode}"
    lines = [line for line in said if isinstance(line, list)]
    acknowledged = [Acknowledged(*line) for line in lines if len(line) > 2]
    left = [Left(*line) for line in lines if len(line) == 2]
    others = sorted({line for line in said if isinstance(line, str)} - {"open"})
    return acknowledged, left, "; ".join(others)


def run(folder: Path, kills: int, callers: int, seed: int, seconds: float) -> dict[str, Any]:
    """Kills and checks, each time on what the times before have left."""
    chance = random.Random(seed)
    acknowledged: list[Acknowledged] = []
    declared: list[Left] = []
    faults: list[str] = []
    known: set[str] = set()
    done = early = gone = snapshots = 0
    start = time.monotonic()
    for kill in range(kills):
        if time.monotonic() - start > seconds:
            faults.append(f"only {done} of {kills} kills were done in {seconds:.0f} s")
            break
        new, left, wrong = kill_at_work(folder, callers, 1000 * seed + kill, chance)
        acknowledged += new
        declared += [each for each in left if each.capsule == "offers"]
        early += not new
        found = [wrong] if wrong else []
        # What is lost stays lost: it is told once.
        said, taken = faults_of(folder, acknowledged, left, chance)
        gone, snapshots = gone + taken.records, max(snapshots, taken.snapshots)
        found += [fault for fault in said if fault not in known]
        known.update(found)
        faults += [f"kill {kill + 1}: {fault}" for fault in found]
        done += 1
        for fault in found[:5]:
            print(f"  kill {kill + 1}: {fault}", flush=True)
        if done % 10 == 0 or done == kills:
            spent = time.monotonic() - start
            print(
                f"  {done} kills, {len(acknowledged)} acknowledged, {len(faults)} faults, {spent:.0f} s",
                flush=True,
            )
    faults += [f"in the end: {fault}" for fault in missed_horizons(folder, declared)]
    return {
        "question": "Is an acknowledged feedback there, once, after kill -9?",
        "kills": done,
        "kills_before_the_first_feedback": early,
        "callers": callers,
        "seed": seed,
        "acknowledged": len(acknowledged),
        "records_lost_whose_feedback_counts": gone,
        "snapshots": snapshots,
        "horizons_passed_once": len(declared),
        "statuses": dict(collections.Counter(each.status for each in acknowledged)),
        "lost": sum(": lost:" in fault for fault in faults),
        "doubled": sum(": doubled:" in fault for fault in faults),
        "faults": faults[:100],
        "seconds": round(time.monotonic() - start, 1),
        "machine": machine(),
        "ratios": [
            {
                "ours": "kills with a fault",
                "baseline": "none",
                "ratio": len(faults),
                "bar": 0,
                "holds": not faults,
            }
        ],
    }


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Kills a store at work, and checks what is left.")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"the result of at least {KILLS} is stored")
    parser.add_argument("--callers", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1500.0, help="ends with a fault after this time")
    parser.add_argument("--folder", type=Path, help="where the store is made; left out: a temporary folder")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        child(given.child, given.callers, given.seed)
        return {}
    home = Path(tempfile.mkdtemp(prefix="capsa-crash-", dir=given.folder))
    print(f"\n{given.kills} kills of {given.callers} callers, in {home}", flush=True)
    result = run(home / "store", given.kills, given.callers, given.seed, given.seconds)
    if result["faults"]:
        print(f"  FAULTS; the store is kept: {home}")
    else:
        shutil.rmtree(home)
        print(f"  0 lost, 0 doubled of {result['acknowledged']}: holds")
        print(
            f"  feedback counted of {result['records_lost_whose_feedback_counts']} decisions whose records were lost;"
            f" {result['snapshots']} snapshots, {result['horizons_passed_once']} horizons, each dealt with once"
        )
    if given.kills >= KILLS:
        store("crash", result)
    return result


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]).get("faults") else 0)
