"""One pass over the prompts, through a real capsule: requests, prices, and outcomes that come late.

The application that is simulated here has customers of three tiers. It draws whose request comes next, asks the
capsule which model to call, and reports what came of it: what the call cost soon after, how good the answer was
later, and often both at once. The order of arrival has little to do with the order of asking.

Invariants:
* a run is a function of its arguments: time and chance are simulated;
* the capsule is told the outcome of the model it chose and of no other, and learns from it only once it has arrived;
* the same seed gives the same requests, tiers and delays, whatever the prices and the context key.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import capsa
from capsa.demo._table import MODELS, Prompt

#: What a call's cost matters. Who pays nothing gets the cheap answer unless the better one is worth its price;
#: who pays for the best answer gets it whatever it costs us.
TIER_FACTOR: Final = {"free": 1.0, "standard": 0.3, "enterprise": 0.0}
#: The reward is quality + this x cost, as in the spec.
COST_WEIGHT: Final = -0.7
#: How many times cheaper one model becomes at half time.
PRICE_CUT: Final = 40.0
#: Outcomes arrive after at most this many further requests.
LONGEST_DELAY: Final = 50

_COST_REPORTED_BY: Final = 5
_START: Final = datetime(2026, 1, 5, 9, tzinfo=UTC).timestamp()
_SECONDS_BETWEEN_REQUESTS: Final = 60.0


class Request(NamedTuple):
    """One request of the stream; a delay counts further requests.

    Attributes:
        prompt: What is asked.
        tier: Whose request it is.
        cost_after: When the cost is reported.
        quality_after: When the quality is reported; the same number where one post says both.
    """

    prompt: Prompt
    tier: str
    cost_after: int
    quality_after: int


class Run(NamedTuple):
    """What one pass came to; the lists have one entry for each request.

    Attributes:
        requests: The stream.
        keys: The context keys that the capsule computed.
        rewards: For each request what each model would have earned.
        chosen: The number of the model that the capsule chose.
        weights: The probabilities it drew from.
        posts: How many feedbacks were sent.
        learned: How many rewards the capsule says it has learned from.
        reward_gap: The largest difference between the capsule's reward and ours.
        state_hash: The digest of what was learned in the end.
    """

    requests: list[Request]
    keys: list[str]
    rewards: list[list[float]]
    chosen: list[int]
    weights: list[list[float]]
    posts: int
    learned: int
    reward_gap: float
    state_hash: str


def half_time(requests: int) -> int:
    """The number of the first request at the new price, counted from 0."""
    return requests // 2


def scaled_cost(usd: float) -> float:
    """A price on a log scale: 0.00001 USD and less is 0, 0.1 USD and more is 1."""
    return min(1.0, max(0.0, (math.log10(usd) + 5.0) / 4.0))


def outcome(prompt: Prompt, model: int, tier: str, price: float = 1.0) -> dict[str, float]:
    """What the application reports of one call; `price` is the model's share of its old price."""
    return {
        "quality": prompt.quality[model],
        "cost": TIER_FACTOR[tier] * scaled_cost(prompt.cost_usd[model] * price),
    }


def reward(metrics: dict[str, float]) -> float:
    """What the spec makes of an outcome, worked out here once more to compare."""
    return metrics["quality"] + COST_WEIGHT * metrics["cost"]


def stream(table: Sequence[Prompt], seed: int, tiers: Sequence[str]) -> list[Request]:
    """Every prompt once, in an order, for customers and with delays that the seed draws."""
    chance = random.Random(seed)
    requests = []
    for prompt in chance.sample(table, len(table)):
        tier = chance.choice(tiers)
        quality_after = chance.randint(1, LONGEST_DELAY)
        in_two_posts = chance.random() < 0.5
        cost_after = min(chance.randint(1, _COST_REPORTED_BY), quality_after)
        requests.append(Request(prompt, tier, cost_after if in_two_posts else quality_after, quality_after))
    return requests


def run(
    spec: str,
    table: Sequence[Prompt],
    seed: int,
    *,
    tiers: Sequence[str] = tuple(TIER_FACTOR),
    cut: str | None = None,
) -> Run:
    """Routes every prompt once.

    Args:
        spec: The capsule's YAML.
        table: The prompts.
        seed: Draws order, tiers, delays and the capsule's decisions.
        tiers: The tiers that customers have.
        cut: The model that becomes `PRICE_CUT` times cheaper at half time.
    """
    requests = stream(table, seed, tiers)
    first_cheap = half_time(len(requests))
    outcomes = [
        [
            outcome(
                request.prompt,
                number,
                request.tier,
                1 / PRICE_CUT if at >= first_cheap and model == cut else 1.0,
            )
            for number, model in enumerate(MODELS)
        ]
        for at, request in enumerate(requests)
    ]
    rewards = [[reward(metrics) for metrics in row] for row in outcomes]
    order_of_arrival = random.Random(f"arrival {seed}")
    # What is posted before request number `at` is decided, as (request, metrics).
    arriving: list[list[tuple[int, tuple[str, ...]]]] = [[] for _ in range(len(requests) + LONGEST_DELAY + 1)]
    keys: list[str] = []
    ids: list[str] = []
    chosen: list[int] = []
    weights: list[list[float]] = []
    posts, reward_gap = 0, 0.0
    now = _START
    with capsa.open(clock=lambda: now, seed=seed) as store:
        router = store.install(spec)
        for at, arrived in enumerate(arriving):
            now = _START + at * _SECONDS_BETWEEN_REQUESTS
            order_of_arrival.shuffle(arrived)
            for about, metrics in arrived:
                truth = outcomes[about][chosen[about]]
                answer = router.feedback(ids[about], outcome={name: truth[name] for name in metrics})
                posts += 1
                if answer.reward is not None:
                    reward_gap = max(reward_gap, abs(answer.reward - rewards[about][chosen[about]]))
            if at >= len(requests):
                continue
            request = requests[at]
            decision = router.decide({"customer_tier": request.tier, "task": request.prompt.task})
            assert decision.id is not None
            assert decision.option is not None
            assert decision.probabilities is not None
            keys.append(decision.context_key)
            ids.append(decision.id)
            chosen.append(decision.option)
            weights.append(decision.probabilities)
            if request.cost_after == request.quality_after:
                arriving[at + request.quality_after].append((at, ("quality", "cost")))
            else:
                arriving[at + request.cost_after].append((at, ("cost",)))
                arriving[at + request.quality_after].append((at, ("quality",)))
        return Run(
            requests=requests,
            keys=keys,
            rewards=rewards,
            chosen=chosen,
            weights=weights,
            posts=posts,
            learned=router.report().feedback.applied,
            reward_gap=reward_gap,
            state_hash=router.state_hash,
        )
