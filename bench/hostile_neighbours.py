"""What do eight hostile capsules cost a neighbour, against eight busy threads that know nothing of Capsa?

Eight threads call tools that loop until their processor time is up, over and over. Beside them another tenant makes its
calls: decisions in process, and a small tool, at once (inline) as the store calls what is fast. The same calls are timed
beside eight threads that compute natively and give the interpreter back, which is what the operating system makes of eight
busy neighbours. Figures are the 99th percentile of a call's time, one a round. No call may fail.

Not held to a bar, but told: the same beside as many busy threads as calls of tools may compute at once (processors less one), and a
third victim, which shows what a tool that is called behind the gate waits: it takes turns with the hostile ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import capsa
from _measure import machine, report, store
from capsa import _native
from capsa.policies import effective, load_policy, load_wants

NEIGHBOURS = 8
CALLS = 2000
#: Behind the gate a call waits for turns of milliseconds.
GATED_CALLS = 200
ROUNDS = 9
#: Processor time of a hostile call.
CPU_MS = 50
SPEC = "name: victim\noptions: [a, b, c]\ncontexts: [user]\nreward_range: [0, 1]\n"
TOOL = """(module
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "invoke") (param $in i32) (param $bytes i32) (result i32) {body}
        (i32.store (i32.const 68) (local.get $in))
        (i32.store (i32.const 72) (local.get $bytes))
        (i32.const 64)))"""
LOOP = "(loop $again (br $again))"
SEED = bytes(32)


def tool(host: _native.Host, body: str) -> _native.tools.Tool:
    component = _native.wrap_module(TOOL.format(body=body).encode(), "tool")
    policy = load_policy({"schema": 1, "name": "bench", "limits": {"cpu_ms": CPU_MS, "wall_ms": 60_000}})
    grants = effective(load_wants({}), policy, "pure")
    return host.load_tool(component).bind(json.dumps(grants.to_json()))


@contextmanager
def beside(work: Callable[[], object], number: int) -> Iterator[None]:
    """Does some work over and over, in so many threads."""
    stop = threading.Event()
    begun = threading.Barrier(number + 1)

    def run() -> None:
        begun.wait()
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=run) for _ in range(number)]
    for thread in threads:
        thread.start()
    begun.wait()
    # Each is in its work, and threads that took turns have some past.
    time.sleep(4 * CPU_MS / 1000)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Victim:
    """Calls that are timed, and what went wrong."""

    def __init__(self, call: Callable[[], object], calls: int) -> None:
        self.errors = 0
        self._call = call
        self._calls = calls

    def p99_us(self) -> float:
        taken = []
        for _ in range(self._calls):
            start = time.perf_counter_ns()
            try:
                self._call()
            except capsa.CapsaError:
                self.errors += 1
            taken.append(time.perf_counter_ns() - start)
        return statistics.quantiles(taken, n=100)[98] / 1000


def busy_ms() -> int:
    """Iterations of a native computation that takes as long as a hostile call."""
    start = time.thread_time_ns()
    hashlib.pbkdf2_hmac("sha256", b"password", SEED, 20_000)
    return int(20_000 * CPU_MS * 1_000_000 / max(time.thread_time_ns() - start, 1))


def main() -> dict[str, Any]:
    host = _native.Host()
    hostile, quick = tool(host, LOOP), tool(host, "")
    decides = capsa.open(seed=1).install(SPEC)
    iterations = busy_ms()

    def loop() -> None:
        error = hostile.call("hostile", "1", seed=SEED, now_ns=1).error
        assert isinstance(error, capsa.CapsuleDeadline), error

    def compute() -> None:
        hashlib.pbkdf2_hmac("sha256", b"password", SEED, iterations)

    def invoke(*, inline: bool) -> None:
        made = quick.call("victim", "1", seed=SEED, now_ns=1, inline=inline)
        if made.error is not None:
            raise made.error

    victims = {
        "decide": Victim(lambda: decides.decide({"user": "u"}), CALLS),
        "fast tool": Victim(lambda: invoke(inline=True), CALLS),
        "tool behind the gate": Victim(lambda: invoke(inline=False), GATED_CALLS),
    }
    places = max(1, (os.cpu_count() or 1) - 1)
    neighbours: list[tuple[str, Callable[[], object], int]] = [
        ("hostile capsules", loop, NEIGHBOURS),
        ("busy threads", compute, NEIGHBOURS),
        ("as many as may compute", compute, places),
    ]
    taken: dict[str, list[float]] = {
        f"{name}, beside {who}": [] for name in victims for who, _, _ in neighbours
    }
    for _ in range(ROUNDS):
        for who, work, number in neighbours:
            for name, victim in victims.items():
                with beside(work, number):
                    taken[f"{name}, beside {who}"].append(victim.p99_us())
    bars = [
        (f"{name}, beside hostile capsules", f"{name}, beside busy threads", 5.0)
        for name in ("decide", "fast tool")
    ]
    errors = {name: victim.errors for name, victim in victims.items()}
    result = report(
        f"The 99th percentile of a call beside {NEIGHBOURS} hostile capsules",
        taken,
        bars,
        machine=machine(),
        errors=errors,
    )
    for name, failed in errors.items():
        print(f"  {name}: {failed} calls failed, bar 0: {'holds' if failed == 0 else 'MISSED'}")
        result["ratios"].append(
            {
                "ours": f"{name}, failed calls",
                "baseline": "none",
                "ratio": failed,
                "bar": 0,
                "holds": failed == 0,
            }
        )
    store("hostile_neighbours", result)
    return result


if __name__ == "__main__":
    main()
