"""How many requests a second does the server answer, against a bare aiohttp + uvloop + msgspec handler?

* decide: 32 keep-alive connections, 64 different inputs;
* feedback: 64 connections, each on disk before it is answered; every decision gets its feedback once;
* connections: 1,000 at once, each sends one decide and stays open until all have their answer.

First with an empty store, then with 1,000,000 decisions and their feedback behind it. The load comes from `wrk`
(``scripts/setup-bench``), never from Python. Both servers take turns, and who begins changes with every round. A run with
any error, or with another number of decisions or feedbacks recorded than was answered, fails the bench.

"CPU" is the server's processor time a request, all threads, until it has nothing left to do. Two columns say whether the
machine was fit to measure on: "wrk", the share of a core that the generator took, and "stolen", what the machine's host
gave to others.

``bench/http_load.py [--quick] [--past N] [--past-in FOLDER] [--only decide ...]``; with less than everything nothing is
stored. ``--past-in`` keeps the past for the next time, and works on a copy.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import resource
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import capsa
from _measure import machine, store
from _wrk import Failed, Server, running, wrk, wrk_version

ROOT: Final = Path(__file__).parents[1]
QUESTIONS: Final = ("decide", "feedback", "connections")
CONNECTIONS: Final = {"decide": 32, "feedback": 64}
RATE_BARS: Final = {"decide": 0.55, "feedback": 0.5}
#: Only decide has a bar: behind feedback's p99 is the disk, which the bare server does not have.
P99_BARS: Final = {"decide": 3.0}
ROUNDS: Final = 7
RUN_S: Final = 5.0
QUICK_ROUNDS: Final = 3
QUICK_S: Final = 1.0
PAST: Final = 1_000_000
QUICK_PAST: Final = 20_000
AT_ONCE: Final = 1000
AT_ONCE_WAIT_S: Final = 30.0
BATCH: Final = 1000
#: Batches of a past between two rounds of upkeep, which seals snapshots.
UPKEEP_BATCHES: Final = 50
#: More ids than the fastest run so far would have used.
SPARE: Final = 2.5
CAPSULE: Final = "/tenants/default/jobs/default/capsules/router"
#: The README's router.yaml.
SPEC: Final = """\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency_ms: {weight: -0.2, budget: 2000}, cost_usd: {weight: -0.2, budget: 0.02}}
"""
INPUTS: Final = [
    {"task_type": task, "customer_tier": tier, "urgency": urgency}
    for task in ("legal", "code", "chat", "search", "summary", "translation", "extraction", "medical")
    for tier in ("free", "standard", "pro", "enterprise")
    for urgency in ("normal", "high")
]


class Ours:
    """Our server, and decisions that still wait for their feedback."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ids: deque[str] = deque()
        self.best_rate = 0.0

    def counts(self) -> dict[str, int]:
        """What it has recorded."""
        with self.server.connection() as connection:
            report = json.loads(self.server.ask(connection, "GET", f"{CAPSULE}/report"))
        feedback = report["feedback"]
        return {
            "decide": report["decisions"],
            "feedback": feedback["applied"],
            "repeated": feedback["repeated"],
        }

    def want_ids(self, count: int) -> None:
        """Makes decisions until so many wait for their feedback."""
        body = json.dumps({"requests": [{"input": INPUTS[number % len(INPUTS)]} for number in range(BATCH)]})
        with self.server.connection() as connection:
            while len(self.ids) < count:
                answers = json.loads(self.server.ask(connection, "POST", f"{CAPSULE}/decide/batch", body))[
                    "results"
                ]
                try:
                    self.ids.extend(answer["decisionId"] for answer in answers)
                except KeyError:
                    raise Failed(f"a batch has an answer without a decision: {answers[0]}") from None


def decide_bodies() -> list[str]:
    return [json.dumps({"input": each}, separators=(",", ":")) for each in INPUTS]


def feedback_bodies(ids: Sequence[str]) -> list[str]:
    """Outcomes that favour no option."""
    chance = random.Random(len(ids))
    return [
        f'{{"decisionId":"{each}","outcome":{{"quality":{chance.random():.2f},"latency_ms":{chance.randrange(100, 1000)},'
        f'"cost_usd":{chance.random() / 100:.4f}}}}}'
        for each in ids
    ]


def answer_bytes(ours: Ours, call: str) -> int:
    """The mean length of our answers, which the bare server's will have."""
    ours.want_ids(len(INPUTS))
    ids = [ours.ids.popleft() for _ in INPUTS]
    bodies = decide_bodies() if call == "decide" else feedback_bodies(ids)
    with ours.server.connection() as connection:
        lengths = [len(ours.server.ask(connection, "POST", f"{CAPSULE}/{call}", body)) for body in bodies]
    return round(statistics.fmean(lengths))


def run_bare(bare: Server, call: str, bodies: Path, seconds: float) -> dict[str, Any]:
    """One run on the bare server; it does not mind the same feedback again."""
    path = f"{CAPSULE}/{call}"
    return wrk(bare, path, bodies, connections=CONNECTIONS[call], seconds=seconds, once=False)


def run_ours(ours: Ours, call: str, bodies: Path, seconds: float, expected_rate: float) -> dict[str, Any]:
    """One run on our server: as many decisions or feedbacks must be recorded as were answered.

    Raises:
        Failed: There are more or fewer, or a feedback was taken for one that came before.
    """
    lines = bodies.with_suffix(".ours")
    if call == "feedback":
        ours.want_ids(int(SPARE * max(expected_rate, ours.best_rate) * seconds) + 2 * CONNECTIONS[call])
        lines.write_text("".join(f"{body}\n" for body in feedback_bodies(ours.ids)))
    else:
        shutil.copy(bodies, lines)
    before = ours.counts()
    run = wrk(
        ours.server,
        f"{CAPSULE}/{call}",
        lines,
        connections=CONNECTIONS[call],
        seconds=seconds,
        once=call == "feedback",
    )
    after = ours.counts()
    recorded = after[call] - before[call]
    # At the end wrk leaves a request on each connection without waiting for its answer.
    if not run["requests"] <= recorded <= run["requests"] + CONNECTIONS[call]:
        raise Failed(f"{call}: {run['requests']} were answered and {recorded} recorded")
    if after["repeated"] != before["repeated"]:
        raise Failed(f"{after['repeated'] - before['repeated']} feedbacks counted as repeated")
    if call == "feedback":
        for _ in range(run["used"]):
            ours.ids.popleft()
        ours.best_rate = max(ours.best_rate, run["rate"])
    return run


def load(ours: Ours, call: str, folder: Path, key: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Both servers in turns."""
    size = answer_bytes(ours, call)
    command = [str(ROOT / "bench" / "_bare.py"), "--port", "0", "--body-bytes", str(size)]
    bodies = folder / f"{call}.bodies"
    ours.want_ids(len(INPUTS))
    some = list(itertools.islice(ours.ids, len(INPUTS)))
    bodies.write_text(
        "".join(f"{body}\n" for body in (decide_bodies() if call == "decide" else feedback_bodies(some)))
    )
    runs: dict[str, list[dict[str, Any]]] = {"bare": [], "ours": []}
    with running("bare", command, folder / "bare.log", key) as bare:
        # Not counted: caches, and the rate that says how many ids a run may need.
        rate = run_bare(bare, call, bodies, QUICK_S)["rate"]
        run_ours(ours, call, bodies, QUICK_S, rate)
        for number in range(rounds):
            # Who begins changes: so what drifts hits both alike.
            for name in ("bare", "ours") if number % 2 == 0 else ("ours", "bare"):
                if name == "bare":
                    runs[name].append(run_bare(bare, call, bodies, seconds))
                else:
                    runs[name].append(run_ours(ours, call, bodies, seconds, 0.0))
    return {"body_bytes": size, "connections": CONNECTIONS[call], "runs": runs}


async def at_once(server: Server, count: int) -> list[float]:
    """Opens so many connections at once, and sends one decide on each; all stay open until the last is answered.

    Returns:
        Seconds from before the connect to the whole answer, for each connection.

    Raises:
        Failed: One was refused, or answered with anything but 200.
    """
    writers: list[asyncio.StreamWriter] = []

    async def one(body: str) -> float:
        head = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
        begin = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writers.append(writer)
        writer.write(
            f"POST {CAPSULE}/decide HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        answered = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", answered)
        if not answered.startswith(b"HTTP/1.1 200 ") or length is None:
            raise Failed(f"one of {count} connections was answered {answered[:200]!r}")
        await reader.readexactly(int(length[1]))
        return time.perf_counter() - begin

    bodies = itertools.cycle(decide_bodies())
    try:
        async with asyncio.timeout(AT_ONCE_WAIT_S):
            return await asyncio.gather(*(one(next(bodies)) for _ in range(count)))
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        raise Failed(f"not all of {count} connections were served: {error!r}") from error
    finally:
        for writer in writers:
            writer.close()


def connections(ours: Ours) -> dict[str, Any]:
    """A thousand clients at once. Our server keeps the limit on files that it was started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * AT_ONCE
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    try:
        before = ours.counts()["decide"]
        waits = asyncio.run(at_once(ours.server, AT_ONCE))
        recorded = ours.counts()["decide"] - before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if recorded != len(waits):
        raise Failed(f"{len(waits)} connections were answered and {recorded} decisions recorded")
    return {
        "opened": AT_ONCE,
        "open_files_limit": soft,
        "answered": len(waits),
        "longest_wait_ms": max(waits) * 1000,
        "median_wait_ms": statistics.median(waits) * 1000,
    }


def with_past(path: Path, decisions: int) -> None:
    """Makes a store with the capsule and so many decisions, each with its feedback."""
    with capsa.open(path, upkeep=False) as made:
        router = made.install(SPEC)
        chance = random.Random(1)
        for begin in range(0, decisions, BATCH):
            numbers = range(begin, min(begin + BATCH, decisions))
            decided = router.decide_batch({"input": INPUTS[number % len(INPUTS)]} for number in numbers)
            answers = router.feedback_batch(
                {
                    "decision_id": each.id,
                    "outcome": {"quality": chance.random(), "latency_ms": 640, "cost_usd": 0.0011},
                }
                for each in decided
                if not isinstance(each, capsa.CapsaError)
            )
            if sum(isinstance(answer, capsa.Feedback) for answer in answers) != len(numbers):
                raise Failed("a past could not be made")
            if begin // BATCH % UPKEEP_BATCHES == UPKEEP_BATCHES - 1:
                made.upkeep()
        made.upkeep()


def phase(path: Path, folder: Path, past: int, given: argparse.Namespace) -> dict[str, Any]:
    """Every question to one store."""
    seconds, rounds = (QUICK_S, QUICK_ROUNDS) if given.quick else (RUN_S, ROUNDS)
    key = secrets.token_hex(32)
    command = ["-m", "capsa", "serve", str(path), "--port", "0"]
    print(f"\nAfter {past:,} decisions with their feedback", flush=True)
    result: dict[str, Any] = {}
    with running("ours", command, folder / "ours.log", key) as server:
        ours = Ours(server)
        for call in ("decide", "feedback"):
            if call in given.only:
                result[call] = load(ours, call, folder, key, seconds, rounds)
                result[call]["ratios"] = shown(call, past, result[call]["runs"])
        if "connections" in given.only:
            result["connections"] = found = connections(ours)
            print(f"  {AT_ONCE:,} connections at once: longest wait {found['longest_wait_ms']:.0f} ms")
            name = f"connections served of {AT_ONCE:,} at once, after {past:,}"
            found["ratios"] = [bar(name, "opened", found["answered"] / AT_ONCE, 1.0, at_least=True)]
    return result


def shown(call: str, past: int, runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Prints the medians of both servers, and gives the bars."""
    columns = ("requests/s", "p50 ms", "p99 ms", "CPU µs", "wrk", "stolen")
    print(
        f"  {f'{call}, {CONNECTIONS[call]} connections':<28}" + "".join(f"{column:>11}" for column in columns)
    )
    for name, each in runs.items():
        middle = {
            figure: statistics.median(run[figure] for run in each) for figure in each[0] if figure != "errors"
        }
        print(
            f"    {name:<26}{middle['rate']:>11,.0f}{middle['p50_us'] / 1000:>11.2f}{middle['p99_us'] / 1000:>11.2f}"
            f"{middle['cpu_us']:>11.1f}{middle['generator_share']:>11.0%}{middle['stolen_share']:>11.0%}"
        )
    print(f"    processor time a request / bare = {ratio(runs, 'cpu_us'):.2f}")
    bars = [
        bar(f"{call} requests/s after {past:,}", "bare", ratio(runs, "rate"), RATE_BARS[call], at_least=True),
    ]
    if call in P99_BARS:
        bars.append(
            bar(f"{call} p99 after {past:,}", "bare", ratio(runs, "p99_us"), P99_BARS[call], at_least=False)
        )
    return bars


def ratio(runs: dict[str, list[dict[str, Any]]], figure: str) -> float:
    """The median over rounds of our figure by the bare server's in the same round."""
    pairs = zip(runs["ours"], runs["bare"], strict=True)
    return float(statistics.median(ours[figure] / bare[figure] for ours, bare in pairs))


def bar(ours: str, baseline: str, found: float, limit: float, *, at_least: bool) -> dict[str, Any]:
    """A figure against its bar, said and to be stored."""
    holds = found >= limit if at_least else found <= limit
    print(
        f"    {ours} / {baseline} = {found:.3f}, bar {limit:.2f} at {'least' if at_least else 'most'}: {'holds' if holds else 'MISSED'}"
    )
    return {
        "ours": ours,
        "baseline": baseline,
        "ratio": found,
        "bar": limit,
        "at_least": at_least,
        "holds": holds,
    }


def unmeasured(why: str) -> dict[str, Any]:
    """The result where nothing could be measured: a bar that does not hold, never one that is skipped."""
    print(f"http_load: {why}", file=sys.stderr)
    return {"ratios": [{"ours": f"measured at all ({why.splitlines()[0]})", "holds": False}]}


def main(arguments: Sequence[str] = ()) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description="Measures the server under load, against a bare one.")
    parser.add_argument(
        "--quick", action="store_true", help="a second a run, a short past; nothing is stored"
    )
    parser.add_argument(
        "--past", type=int, help=f"decisions before the second half (default {PAST:,}); 0: no such half"
    )
    parser.add_argument(
        "--past-in", type=Path, metavar="FOLDER", help="where the past is, or is made and kept"
    )
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=QUESTIONS, help="nothing is stored")
    given = parser.parse_args(arguments)
    past: int = given.past if given.past is not None else QUICK_PAST if given.quick else PAST
    version = wrk_version()
    if version is None:
        return unmeasured("wrk is not installed: run scripts/setup-bench")
    # On the disk that this file is on: /tmp may be memory.
    (ROOT / "out").mkdir(exist_ok=True)
    phases: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=ROOT / "out", prefix="http-") as name:
        folder = Path(name)
        try:
            with_past(folder / "empty", 0)
            phases["0"] = phase(folder / "empty", folder, 0, given)
            if past:
                if given.past_in is None:
                    with_past(folder / "past", past)
                else:
                    if not given.past_in.exists():
                        with_past(given.past_in, past)
                    shutil.copytree(given.past_in, folder / "past")
                phases[str(past)] = phase(folder / "past", folder, past, given)
        except Failed as error:
            return unmeasured(str(error))
    result = {
        "question": "How many requests a second, against a bare aiohttp + uvloop + msgspec handler?",
        "seconds_a_run": QUICK_S if given.quick else RUN_S,
        "decisions_before": phases,
        "ratios": [one for half in phases.values() for part in half.values() for one in part.pop("ratios")],
        "machine": {**machine("aiohttp", "msgspec", "uvloop"), "wrk": version},
    }
    if set(given.only) == set(QUESTIONS) and past >= PAST and not given.quick:
        store("http_load", result)
    return result


if __name__ == "__main__":
    sys.exit(1 if any(not one["holds"] for one in main(sys.argv[1:])["ratios"]) else 0)
