"""Does what the demo says hold on 20 seeds, with and without the price change?

Ours must beat the best fixed model, chosen in hindsight on the same stream, on at least 18 of them. The stored result
is everything that `capsa demo --seeds 20` finds: every rule of routing on every seed. Beside it stands what other
half-lives would have come to, since the shipped one was chosen on these data.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import msgspec

from _measure import machine, store
from capsa import demo
from capsa.demo._experiments import BEST_FIXED, BY_TIER, ONE_PRICE, OURS, by_rule
from capsa.demo._simulation import run
from capsa.demo._table import prompts

SEEDS = 20
HALF_LIVES = (None, 400, 100)
COURSES = ((BY_TIER, None), (BY_TIER, "gemini25_pro"), (ONE_PRICE, "mistral_large"))


def main() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = demo.run(Path(folder), SEEDS, print)
    result = {
        "question": f"does what the demo says hold on {SEEDS} seeds?",
        "unit": "mean reward per request",
        # What `bench/run` looks at: one entry for each claim.
        "ratios": [{"ours": claim.text, "holds": claim.holds} for claim in found.claims],
        # The picture is gone with its folder.
        "demo": msgspec.to_builtins(msgspec.structs.replace(found, picture=demo.PICTURE)),
        "settings": settings(),
        "machine": machine("numpy", "matplotlib"),
    }
    store("demo_seeds", result)
    return result


def settings() -> list[dict[str, Any]]:
    """Ours less the best fixed model, mean over seeds, under other half-lives."""
    table = prompts()
    rows = []
    for setup, cut in COURSES:
        for half_life in HALF_LIVES:
            decay = "" if half_life is None else f"decay: {{half_life_feedbacks: {half_life}}}"
            spec, lines = re.subn(r"^decay: .*$", decay, setup.spec(), flags=re.MULTILINE)
            assert lines == 1
            gains = []
            for seed in range(SEEDS):
                rules = by_rule(run(spec, table, seed, tiers=setup.tiers, cut=cut))
                gains.append(fmean(rules[OURS]) - fmean(rules[BEST_FIXED]))
            wins = sum(gain > 0 for gain in gains)
            print(
                f"{setup.name}, {cut or 'steady'}, half-life {half_life}: {fmean(gains):+.4f} ({wins} of {SEEDS})"
            )
            row = {
                "setup": setup.name,
                "cut": cut,
                "halfLifeFeedbacks": half_life,
                "gain": fmean(gains),
                "wins": wins,
            }
            rows.append(row)
    return rows


if __name__ == "__main__":
    main()
