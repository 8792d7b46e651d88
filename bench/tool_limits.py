"""What does each limit of a tool's call cost, measured alone, and what do all of them cost together?

Asked of the smallest call, of ones that compute for about a millisecond (a hash, and a loop around nothing, where a check weighs
most), and of ones that make a hundred calls of the host (`kv.get`, and `clock.now`, the cheapest there is). The product does not
switch its limits off, so the calls are made in Rust (`crates/capsa-vm/examples/limit_cost.rs`, which says what each row is), on engines
and stores with and without them. Limits on logs and requests cost a comparison where something is logged or sent, and are not rows.

The bar is on all limits of an engine together, against the same call without any; but fuel counts every block of code, so a loop around
nothing pays for it several times its own time, and has no bar in the deterministic engine. Also without a bar: the product's own call,
which draws seeds, counts what was used and tells it, and whose deterministic engine makes its memories when they are needed.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from _measure import machine, report, store

ROOT: Final = Path(__file__).parents[1]
ROUNDS = 301
BAR: Final = 1.3
FAST: Final = "all of the fast engine"
DETERMINISTIC: Final = "all of the deterministic engine"
EMPTY_LOOP: Final = "1 ms of an empty loop"
#: With every crate of the workspace, or wasmtime would be built once more, with other features.
BUILD: Final = ("cargo", "build", "--release", "--locked", "--workspace", "--example", "limit_cost")


def built() -> Path:
    """The example, built anew where its sources have changed."""
    cargo = Path.home() / ".cargo/bin"
    environment = {**os.environ, "PATH": f"{cargo}:{os.environ['PATH']}"}
    said = subprocess.run(
        [*BUILD, "--message-format=json"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
    for line in said.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "limit_cost":
            return Path(message["executable"])
    raise AssertionError("cargo tells where it has put the example")


def main() -> dict[str, Any]:
    said = subprocess.run([built(), str(ROUNDS)], stdout=subprocess.PIPE, check=True)
    cases: list[tuple[str, list[tuple[str, list[float]]]]] = json.loads(said.stdout)
    result: dict[str, Any] = {"machine": machine(), "ratios": [], "cases": {}}
    for case, taken in cases:
        engines = [FAST] if case == EMPTY_LOOP else [FAST, DETERMINISTIC]
        bars = [(engine, "unlimited", BAR) for engine in engines]
        of = result["cases"][case] = report(f"The limits of a call: {case}", dict(taken), bars)
        # `bench/run` looks at the bars of the outer result.
        result["ratios"] += [bar | {"ours": f"{case}, {bar['ours']}"} for bar in of.pop("ratios")]
    store("tool_limits", result)
    return result


if __name__ == "__main__":
    main()
