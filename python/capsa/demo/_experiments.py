"""What is run, and what it is held against.

Three context keys x three courses of prices. In the first key learning pays; the others show where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Final

import msgspec

from capsa.demo._simulation import TIER_FACTOR, Run, half_time
from capsa.demo._table import MODELS, spec

#: On at least this share of the seeds one must be ahead to be called better.
CLEAR: Final = 0.9

OURS: Final = "ours"
RANDOM: Final = "random"
BEST_FIXED: Final = "best fixed model"
BEST_PER_KEY: Final = "best fixed per context"
ORACLE: Final = "oracle"

#: Prices stay, or this model becomes cheaper at half time. The first two are what the demo is about.
CUTS: Final = (None, "gemini25_pro", "mistral_large")


class Setup(msgspec.Struct, frozen=True, rename="camel"):
    """Which capsule, and whose requests.

    Attributes:
        name: What tables call it.
        contexts: The spec's contexts.
        tiers: The tiers that customers have.
    """

    name: str
    contexts: list[str]
    tiers: list[str]

    def label(self, rule: str) -> str:
        """What tables and pictures call a rule of routing."""
        return f"best fixed per {self.name}" if rule == BEST_PER_KEY else rule

    def spec(self) -> str:
        """The shipped spec, with these contexts; nothing else differs."""
        shipped = spec("llm-router")
        line = "contexts: [customer_tier]\n"
        assert line in shipped
        return shipped.replace(line, f"contexts: [{', '.join(self.contexts)}]\n")


BY_TIER: Final = Setup("tier", ["customer_tier"], list(TIER_FACTOR))
BY_TASK: Final = Setup("tier and task", ["customer_tier", "task"], list(TIER_FACTOR))
ONE_PRICE: Final = Setup("one price", ["customer_tier"], ["free"])
SETUPS: Final = (BY_TIER, BY_TASK, ONE_PRICE)


class Experiment(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One setup under one course of prices, over all seeds.

    Attributes:
        setup: The context key and the tiers.
        cut: The model that becomes cheaper at half time.
        seeds: The seeds.
        contexts: How many contexts there were, at most.
        reward: Mean reward per request, by rule of routing and seed.
        best_fixed: The best fixed model of each seed, in hindsight.
        best_in_halves: The best fixed model before and after half time, all seeds together.
        gain: Ours less the best fixed model, by seed.
        wins: On how many seeds it is above 0.
        verdict: ``better``, ``worse`` or ``no clear difference`` than the best fixed model.
        decisions: How many decisions the capsule made.
        posts: How many feedbacks it was sent.
        learned: How many rewards it has learned from.
        reward_gap: The largest difference between the capsule's reward and a computation beside it.
    """

    setup: Setup
    cut: str | None
    seeds: list[int]
    contexts: int
    reward: dict[str, list[float]]
    best_fixed: list[str]
    best_in_halves: tuple[str, str]
    gain: list[float]
    wins: int
    verdict: str
    decisions: int
    posts: int
    learned: int
    reward_gap: float


def summary(setup: Setup, cut: str | None, runs: Sequence[Run]) -> Experiment:
    """What the runs of one experiment came to; their seeds count from 0."""
    seeds, requests = len(runs), len(runs[0].requests)
    reward: dict[str, list[float]] = {}
    for each in runs:
        for rule, earned in by_rule(each).items():
            reward.setdefault(rule, []).append(fmean(earned))
    gain = [ours - best for ours, best in zip(reward[OURS], reward[BEST_FIXED], strict=True)]
    wins = sum(value > 0 for value in gain)
    return Experiment(
        setup=setup,
        cut=cut,
        seeds=list(range(seeds)),
        contexts=max(len(set(each.keys)) for each in runs),
        reward=reward,
        best_fixed=[MODELS[best_model(each.rewards)] for each in runs],
        best_in_halves=(
            MODELS[best_model([row for each in runs for row in each.rewards[: half_time(requests)]])],
            MODELS[best_model([row for each in runs for row in each.rewards[half_time(requests) :]])],
        ),
        gain=gain,
        wins=wins,
        verdict=verdict(wins, seeds),
        decisions=sum(len(each.chosen) for each in runs),
        posts=sum(each.posts for each in runs),
        learned=sum(each.learned for each in runs),
        reward_gap=max(each.reward_gap for each in runs),
    )


def by_rule(run: Run) -> dict[str, list[float]]:
    """What each rule of routing earns, request by request.

    `BEST_FIXED` and `BEST_PER_KEY` are chosen with all outcomes known; random is its expectation.
    """
    rewards = run.rewards
    per_key: dict[str, list[list[float]]] = {}
    for key, row in zip(run.keys, rewards, strict=True):
        per_key.setdefault(key, []).append(row)
    best = best_model(rewards)
    best_in = {key: best_model(rows) for key, rows in per_key.items()}
    return {
        OURS: [row[model] for row, model in zip(rewards, run.chosen, strict=True)],
        BEST_FIXED: [row[best] for row in rewards],
        **{name: [row[model] for row in rewards] for model, name in enumerate(MODELS)},
        RANDOM: [fmean(row) for row in rewards],
        BEST_PER_KEY: [row[best_in[key]] for key, row in zip(run.keys, rewards, strict=True)],
        ORACLE: [max(row) for row in rewards],
    }


def best_model(rewards: Sequence[Sequence[float]]) -> int:
    """The model with the largest sum, in hindsight."""
    return max(range(len(MODELS)), key=lambda model: math.fsum(row[model] for row in rewards))


def needed(seeds: int) -> int:
    """On how many seeds one must be ahead to be called better: 18 of 20."""
    return math.ceil(CLEAR * seeds)


def verdict(wins: int, seeds: int) -> str:
    """What may be said after so many wins."""
    if wins >= needed(seeds):
        return "better"
    return "worse" if wins <= seeds - needed(seeds) else "no clear difference"


def spread(values: Sequence[float]) -> float:
    """The standard deviation over seeds; 0 with one seed."""
    return stdev(values) if len(values) > 1 else 0.0
