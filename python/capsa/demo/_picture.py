"""The picture: what was learned in each tier, and what it was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from capsa.demo._experiments import BEST_FIXED, BEST_PER_KEY, BY_TIER, ORACLE, OURS, RANDOM, by_rule
from capsa.demo._simulation import PRICE_CUT, TIER_FACTOR, Run, half_time
from capsa.demo._table import MODELS

#: Colours that stay apart for colour-blind eyes (Okabe and Ito 2008), and a dash for each line, for print.
_LOOK: Final = {
    "llama31_8b": ("#E69F00", (0, (5, 1.5))),
    "mistral_large": ("#0072B2", "-"),
    "gemini25_pro": ("#009E73", (0, (1.2, 1.2))),
    OURS: ("black", "-"),
    BEST_FIXED: ("#444444", "-"),
    BEST_PER_KEY: ("#D55E00", (0, (6, 1.5, 1.2, 1.5))),
    ORACLE: ("#CC79A7", (0, (5, 1.5))),
    RANDOM: ("#777777", (0, (1.2, 1.2))),
}
_WIDTH: Final = {OURS: 3.4, BEST_FIXED: 1}
_COST_MATTERS: Final = {1.0: "cost counts in full", 0.3: "cost counts 0.3", 0.0: "cost does not count"}


def draw(path: Path, runs: Mapping[str | None, Sequence[Run]]) -> None:
    """Draws the runs with the tier as context.

    Args:
        path: The PNG to write.
        runs: By the model that became cheaper: the runs of all seeds with steady prices, and with one cut.
    """
    [cut] = [name for name in runs if name is not None]
    with mpl.rc_context({"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(16, 11.5), dpi=100, layout="constrained")
        seeds = len(runs[cut])
        times = len(runs[cut][0].chosen)
        figure.suptitle(
            f"A capsule learns to route {times:,} real prompts over three models ({'mean of ' if seeds > 1 else ''}{seeds} seed{'s' if seeds > 1 else ''})",
            fontsize=19,
            fontweight="bold",
        )
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.25], hspace=0.04)[:, 0]
        _weights_row(above.subplots(1, 3, sharey=True), runs[cut], cut)
        above.suptitle(
            "What it learned: weight of each model, by the customer's tier (line: mean, band: range over seeds)",
            fontsize=15,
        )
        _worth_row(below.subplots(1, 2, sharey=True), runs)
        below.suptitle(
            "What that was worth: cumulative reward, less that of the best single model in hindsight",
            fontsize=15,
        )
        figure.savefig(path)


def _weights_row(row: NDArray[np.object_], runs: Sequence[Run], cut: str) -> None:
    half = half_time(len(runs[0].chosen))
    for axes, (tier, factor) in zip(row, TIER_FACTOR.items(), strict=True):
        weights = np.array([_held(run, tier) for run in runs])
        mean, low, high = weights.mean(axis=0), weights.min(axis=0), weights.max(axis=0)
        x = np.arange(len(mean))
        for number, model in enumerate(MODELS):
            color, dash = _LOOK[model]
            axes.fill_between(x, low[:, number], high[:, number], color=color, alpha=0.13, linewidth=0)
            axes.plot(x, mean[:, number], color=color, linestyle=dash, linewidth=2.4, label=model)
        axes.axvline(half, color="black", linewidth=1)
        axes.set(
            title=f"{tier}: {_COST_MATTERS[factor]}",
            xlabel="request number",
            xlim=(0, len(mean)),
            ylim=(0, 1),
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(alpha=0.25)
    row[0].set_ylabel("weight (probability of being chosen)")
    row[0].annotate(
        f"{cut}\n{PRICE_CUT:g}x cheaper",
        (half, 0.72),
        (8, 0),
        textcoords="offset points",
        fontsize=12,
        va="center",
    )
    row[0].legend(loc="center right", bbox_to_anchor=(1.0, 0.4), frameon=False)


def _held(run: Run, tier: str) -> NDArray[np.float64]:
    """The weights of one tier at every request: they stay as they were seen last."""
    rows = []
    last = [1 / len(MODELS)] * len(MODELS)
    for request, weights in zip(run.requests, run.weights, strict=True):
        if request.tier == tier:
            last = weights
        rows.append(last)
    return np.array(rows)


def _worth_row(row: NDArray[np.object_], runs: Mapping[str | None, Sequence[Run]]) -> None:
    for axes, (cut, each) in zip(row, runs.items(), strict=True):
        _worth(axes, each, cut)
    row[0].set_ylabel("reward gained or lost\n(sum over requests so far)")


def _worth(axes: Axes, runs: Sequence[Run], cut: str | None) -> None:
    lines: dict[str, list[list[float]]] = {}
    for run in runs:
        rules = by_rule(run)
        for rule, earned in rules.items():
            steps = (mine - best for mine, best in zip(earned, rules[BEST_FIXED], strict=True))
            lines.setdefault(rule, []).append(list(accumulate(steps)))
    ends: dict[str, float] = {}
    for rule, by_seed in lines.items():
        values = np.array(by_seed)
        color, dash = _LOOK[rule]
        mean = values.mean(axis=0)
        if rule == OURS:
            axes.fill_between(
                np.arange(len(mean)),
                values.min(axis=0),
                values.max(axis=0),
                color=color,
                alpha=0.15,
                linewidth=0,
            )
        axes.plot(mean, color=color, linestyle=dash, linewidth=_WIDTH.get(rule, 2))
        ends[rule] = float(mean[-1])
    times = len(runs[0].chosen)
    _label(axes, ends, times)
    if cut is not None:
        axes.axvline(half_time(times), color="black", linewidth=1)
    axes.set(
        title="prices stay" if cut is None else f"{cut} becomes {PRICE_CUT:g}x cheaper at half time",
        xlabel="request number",
        xlim=(0, times),
    )
    axes.grid(alpha=0.25)


def _label(axes: Axes, ends: dict[str, float], times: int) -> None:
    """Names each line where it ends; labels that would overlap are moved apart."""
    names = {rule: BY_TIER.label(rule) for rule in ends}
    for model in MODELS:
        # The sum of differences is exactly 0 only where each of them is.
        if ends[model] == 0 and BEST_FIXED in names:
            del names[BEST_FIXED]
            names[model] += " = best fixed"
    rules = sorted(names, key=lambda rule: ends[rule])
    low, high = axes.get_ylim()
    apart = (high - low) / 19
    heights = [ends[rule] for rule in rules]
    for _ in range(100):
        for at in range(len(heights) - 1):
            missing = apart - (heights[at + 1] - heights[at])
            if missing > 0:
                heights[at] -= missing / 2
                heights[at + 1] += missing / 2
    for rule, height in zip(rules, heights, strict=True):
        shown = f"{ends[rule]:+.0f}" if abs(ends[rule]) >= 0.5 else "0"
        axes.annotate(
            f"{names[rule]}  {shown}",
            (times * 1.015, height),
            color=_LOOK[rule][0],
            fontsize=12,
            fontweight="bold" if rule == OURS else "normal",
            va="center",
            annotation_clip=False,
        )
