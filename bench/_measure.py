"""Measuring: two or more ways to do one thing, taking turns in one process, and a stored result."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
#: Most rounds that are stored one by one.
MOST_ROUNDS = 100


def alternate(
    ways: dict[str, Callable[[], object]],
    *,
    calls: int,
    rounds: int = 9,
    between: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Microseconds a call of each way, one figure a round; in every round each way takes its turn.

    Args:
        ways: What is called.
        calls: How often in a turn.
        rounds: How many turns each way has.
        between: Called between turns, not timed: waits for what a turn has left to be done in the background, which
            otherwise counts for the next way.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        for _ in range(max(1, calls // 10)):
            way()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter_ns()
                for _ in range(calls):
                    way()
                taken[name].append((time.perf_counter_ns() - start) / 1000 / calls)
                if between is not None:
                    between()
    finally:
        gc.enable()
    return taken


def ratio(taken: dict[str, list[float]], ours: str, baseline: str) -> float:
    """The median over rounds of our time by the baseline's in the same round."""
    return statistics.median(a / b for a, b in zip(taken[ours], taken[baseline], strict=True))


def machine(*packages: str) -> dict[str, Any]:
    """The machine and the versions that a result holds for."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in ("capsa", *packages)},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def store(name: str, result: dict[str, Any]) -> None:
    """Writes a result beside the others."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def report(
    question: str, taken: dict[str, list[float]], bars: list[tuple[str, str, float]], **around: Any
) -> dict[str, Any]:
    """Prints medians and ratios against their bars, and gives the result to store.

    Args:
        question: What is asked.
        taken: As from `alternate`.
        bars: (ours, baseline, the ratio that it must not exceed).
        around: More facts for the stored result.
    """
    print(f"\n{question}")
    for name, figures in taken.items():
        print(
            f"  {name:<44} {statistics.median(figures):9.2f} µs  (min {min(figures):.2f}, max {max(figures):.2f})"
        )
    ratios = []
    for ours, baseline, bar in bars:
        found = ratio(taken, ours, baseline)
        verdict = "holds" if found <= bar else "MISSED"
        print(f"  {ours} / {baseline} = {found:.3f}, bar {bar:.3f}: {verdict}")
        ratios.append({"ours": ours, "baseline": baseline, "ratio": found, "bar": bar, "holds": found <= bar})
    return {
        "question": question,
        "microseconds": {name: _stored(figures) for name, figures in taken.items()},
        "ratios": ratios,
        **around,
    }


def _stored(figures: list[float]) -> dict[str, Any]:
    """What a result keeps of the figures: of many rounds how they are spread."""
    median = statistics.median(figures)
    if len(figures) <= MOST_ROUNDS:
        return {"median": median, "rounds": figures}
    lower, _, upper = statistics.quantiles(figures)
    spread = {"min": min(figures), "p25": lower, "p75": upper, "max": max(figures)}
    return {"median": median, "count": len(figures), **spread}
