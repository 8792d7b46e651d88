"""Fixed rules of routing, and what they earn where the learner earns what it does."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final

import msgspec

from capsa.demo._experiments import OURS, RANDOM, Setup, best_model, by_rule, verdict
from capsa.demo._simulation import Run
from capsa.demo._table import MODELS

#: The first requests, from which fixed rules are chosen. About as many as a person would look at.
FIRST: Final = 200

CHOSEN: Final = f"best of the first {FIRST}"
CHOSEN_PER_KEY: Final = f"best of the first {FIRST} per tier"


class Comparison(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One setup under one course of prices, over all seeds.

    Attributes:
        setup: Which capsule, and whose requests.
        cut: The model that becomes cheaper at half time.
        reward: Mean reward per request after the first `FIRST`, by rule and seed.
        early: Mean reward per request of the first `FIRST`, of ours and of trying the models in turn, by seed.
        wins: On how many seeds ours is ahead, by fixed rule.
        verdict: Ours against each fixed rule: ``better``, ``worse`` or ``no clear difference``.
        decisions: How many decisions the capsule made.
        learned: How many rewards it has learned from.
    """

    setup: Setup
    cut: str | None
    reward: dict[str, list[float]]
    early: dict[str, list[float]]
    wins: dict[str, int]
    verdict: dict[str, str]
    decisions: int
    learned: int

    @property
    def fixed(self) -> list[str]:
        """The fixed rules."""
        return [rule for rule in self.reward if rule != OURS]

    def gain(self, rule: str) -> float:
        """Ours less this rule, per request."""
        return fmean(self.reward[OURS]) - fmean(self.reward[rule])


def fixed_rules(run: Run) -> dict[str, list[float]]:
    """What each rule that is never changed earns, request by request; those that are chosen are so after `FIRST`."""
    per_key: dict[str, list[list[float]]] = {}
    for key, row in zip(run.keys[:FIRST], run.rewards[:FIRST], strict=True):
        per_key.setdefault(key, []).append(row)
    best = best_model(run.rewards[:FIRST])
    best_in = {key: best_model(rows) for key, rows in per_key.items()}
    rules = {f"always {name}": [row[model] for row in run.rewards] for model, name in enumerate(MODELS)}
    rules[CHOSEN] = [row[best] for row in run.rewards]
    if len(set(run.keys)) > 1:
        # Somebody who has seen nobody of a tier takes what is best for all.
        rules[CHOSEN_PER_KEY] = [
            row[best_in.get(key, best)] for key, row in zip(run.keys, run.rewards, strict=True)
        ]
    return rules


def compared(setup: Setup, cut: str | None, runs: Sequence[Run]) -> Comparison:
    """Scores the learner and every fixed rule on the same streams."""
    reward: dict[str, list[float]] = {}
    early: dict[str, list[float]] = {}
    for run in runs:
        known = by_rule(run)
        for rule, earned in ({OURS: known[OURS]} | fixed_rules(run)).items():
            reward.setdefault(rule, []).append(fmean(earned[FIRST:]))
        for rule in (OURS, RANDOM):
            early.setdefault(rule, []).append(fmean(known[rule][:FIRST]))
    wins = {
        rule: sum(ours > theirs for ours, theirs in zip(reward[OURS], earned, strict=True))
        for rule, earned in reward.items()
        if rule != OURS
    }
    return Comparison(
        setup=setup,
        cut=cut,
        reward=reward,
        early=early,
        wins=wins,
        verdict={rule: verdict(count, len(runs)) for rule, count in wins.items()},
        decisions=sum(len(run.chosen) for run in runs),
        learned=sum(run.learned for run in runs),
    )
