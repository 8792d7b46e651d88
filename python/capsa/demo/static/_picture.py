"""The picture: what each fixed rule earns, less what the learner earns."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from capsa.demo._experiments import OURS, by_rule
from capsa.demo._simulation import Run, half_time
from capsa.demo.static._rules import CHOSEN, CHOSEN_PER_KEY, FIRST, Comparison, fixed_rules
from capsa.demo.static._text import title

#: As in the demo's other picture: colours that stay apart for colour-blind eyes, and a dash for each line, for print.
_LOOK: Final = {
    "always llama31_8b": ("#E69F00", (0, (5, 1.5))),
    "always mistral_large": ("#0072B2", "-"),
    "always gemini25_pro": ("#009E73", (0, (1.2, 1.2))),
    CHOSEN: ("#444444", (0, (3, 1, 1, 1))),
    CHOSEN_PER_KEY: ("#D55E00", (0, (6, 1.5, 1.2, 1.5))),
    OURS: ("black", "-"),
}


def draw(path: Path, drawn: Sequence[tuple[Comparison, Sequence[Run]]]) -> None:
    """Draws one panel for each comparison.

    Args:
        path: The PNG to write.
        drawn: The comparisons with their runs; three courses of prices for each setup, in order.
    """
    with mpl.rc_context({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(16, 10), dpi=100, layout="constrained")
        seeds = len(drawn[0][1])
        figure.suptitle(
            "Fixed rules of routing against the learner: cumulative reward, less the learner's\n"
            f"(after the first {FIRST} requests; {'mean and range of ' if seeds > 1 else ''}{seeds} seed{'s' if seeds > 1 else ''}; "
            "above 0 the fixed rule is ahead)",
            fontsize=16,
            fontweight="bold",
        )
        panels = figure.subplots(len(drawn) // 3, 3, sharex=True, sharey="row").flatten()
        for axes, (comparison, runs) in zip(panels, drawn, strict=True):
            _panel(axes, comparison, runs)
        for axes in panels[::3]:
            axes.set_ylabel("reward ahead of the learner")
        for axes in panels[-3:]:
            axes.set_xlabel("request number")
        panels[0].legend(loc="lower left", frameon=False, fontsize=11)
        figure.savefig(path)


def _panel(axes: Axes, comparison: Comparison, runs: Sequence[Run]) -> None:
    ours = [by_rule(run)[OURS] for run in runs]
    rules = [fixed_rules(run) for run in runs]
    x = np.arange(FIRST, len(ours[0]))
    for rule in comparison.fixed:
        color, dash = _LOOK[rule]
        lines = np.array(
            [
                list(
                    accumulate(
                        theirs - mine for theirs, mine in zip(each[rule][FIRST:], earned[FIRST:], strict=True)
                    )
                )
                for each, earned in zip(rules, ours, strict=True)
            ]
        )
        axes.fill_between(x, lines.min(axis=0), lines.max(axis=0), color=color, alpha=0.1, linewidth=0)
        axes.plot(x, lines.mean(axis=0), color=color, linestyle=dash, linewidth=2.2, label=rule)
    color, dash = _LOOK[OURS]
    axes.axhline(0, color=color, linestyle=dash, linewidth=3, label=OURS)
    if comparison.cut is not None:
        axes.axvline(half_time(len(ours[0])), color="black", linewidth=1)
    axes.set(title=title(comparison).replace("; ", "\n"), xlim=(0, len(ours[0])))
    axes.grid(alpha=0.25)
