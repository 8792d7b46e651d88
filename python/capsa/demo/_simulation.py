"""One pass over the prompts, through a real capsule: requests, prices, and outcomes that come late.

The application that is simulated here has customers of three tiers. It draws whose request comes next, asks the
capsule which model to call, and reports what came of it: what the call cost soon after, how good the answer was
later, and often both at once. The order of arrival has little to do with the order of asking.

Invariants:
* a run in process is a function of its arguments: time and chance are simulated. Over HTTP, time is real and the server
  draws the decisions; all else is the same;
* the capsule is told the outcome of the model it chose and of no other, and learns from it only once it has arrived;
* the same seed gives the same requests, tiers and delays, whatever the prices and the context key.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import capsa
from capsa.demo._table import MODELS, Prompt
from capsa.errors import CapsaError, HostFault

#: What a call's cost matters. Who pays nothing gets the cheap answer unless the better one is worth its price;
#: who pays for the best answer gets it whatever it costs us.
TIER_FACTOR: Final = {"free": 1.0, "standard": 0.3, "enterprise": 0.0}
#: The reward is quality + this x cost, as in the spec.
COST_WEIGHT: Final = -0.7
#: How many times cheaper one model becomes at half time.
PRICE_CUT: Final = 40.0
#: Outcomes arrive after at most this many further requests.
LONGEST_DELAY: Final = 50

#: What a feedback is answered that is on disk.
_TAKEN: Final = ("applied", "pending", "repeated")
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


class Router(Protocol):
    """A capsule that routes: in process, or behind a server."""

    def decide(self, input: dict[str, Any], /) -> Any:
        """Chooses for one input."""

    def decide_batch(self, requests: list[dict[str, Any]], /) -> list[Any]:
        """Chooses for many."""

    def feedback(self, decision_id: str, /, *, outcome: dict[str, float]) -> Any:
        """Takes what came of one decision."""

    def feedback_batch(self, events: list[dict[str, Any]], /) -> list[Any]:
        """Takes what came of many."""

    def report(self) -> Any:
        """What was learned."""


class Course:
    """Requests, what each model would come to, and when that is told: all that a seed draws but the decisions.

    Args:
        table: The prompts.
        seed: Draws order, tiers and delays.
        tiers: The tiers that customers have.
        cut: The model that becomes `PRICE_CUT` times cheaper at half time.
    """

    def __init__(self, table: Sequence[Prompt], seed: int, tiers: Sequence[str], cut: str | None) -> None:
        self.seed = seed
        self.requests = stream(table, seed, tiers)
        self._cut = cut

    def outcome(self, at: int, model: int) -> dict[str, float]:
        """What a model comes to for request number `at`."""
        is_cheap = at >= half_time(len(self.requests)) and MODELS[model] == self._cut
        request = self.requests[at]
        return outcome(request.prompt, model, request.tier, 1 / PRICE_CUT if is_cheap else 1.0)

    def rewards(self) -> list[list[float]]:
        """For each request what each model would earn."""
        return [
            [reward(self.outcome(at, model)) for model in range(len(MODELS))]
            for at in range(len(self.requests))
        ]


class Pass:
    """One pass of a course through a router.

    Args:
        router: Decides, and learns.
        course: What happens.
        group: So many requests come at once, and are decided before what has arrived meanwhile is told. With 1,
            every call is one of its own; with more, decisions and feedback go in batches.
        tick: Is told each request's number before anything happens in its turn.
    """

    def __init__(
        self, router: Router, course: Course, *, group: int = 1, tick: Callable[[int], None] | None = None
    ) -> None:
        self._router = router
        self._course = course
        self._group = group
        self._tick = tick
        self._order_of_arrival = random.Random(f"arrival {course.seed}")
        # What is posted before request number `at` is decided, as (request, metrics).
        self._arriving: list[list[tuple[int, tuple[str, ...]]]] = [
            [] for _ in range(len(course.requests) + LONGEST_DELAY + 1)
        ]
        self._at = self._told = 0
        self._ids: list[str] = []
        self._keys: list[str] = []
        self._chosen: list[int] = []
        self._weights: list[list[float]] = []
        self._reward_gap = 0.0
        #: How many feedbacks were answered.
        self.posts = 0

    def advance(self, until: int) -> None:
        """Goes on to the request with this number, which is not decided yet."""
        for start in range(self._at, until, self._group):
            if self._tick is not None:
                self._tick(start)
            self._tell(start)
            self._decide(range(start, min(start + self._group, until)))
        self._at = until

    def finish(self) -> Run:
        """Goes on to the end, and tells what arrives after it."""
        self.advance(len(self._course.requests))
        for at in range(self._at, len(self._arriving), self._group):
            if self._tick is not None:
                self._tick(at)
            self._tell(at)
        self._tell(len(self._arriving) - 1)
        report = self._router.report()
        return Run(
            requests=self._course.requests,
            keys=self._keys,
            rewards=self._course.rewards(),
            chosen=self._chosen,
            weights=self._weights,
            posts=self.posts,
            learned=report.feedback.applied,
            reward_gap=self._reward_gap,
            state_hash=report.state_hash,
        )

    def _tell(self, until: int) -> None:
        """Tells what has arrived up to this request's turn."""
        posts: list[tuple[int, dict[str, float]]] = []
        for arrived in self._arriving[self._told : until + 1]:
            self._order_of_arrival.shuffle(arrived)
            for about, metrics in arrived:
                truth = self._course.outcome(about, self._chosen[about])
                posts.append((about, {name: truth[name] for name in metrics}))
        self._told = until + 1
        if self._group == 1:
            answers = [self._router.feedback(self._ids[about], outcome=metrics) for about, metrics in posts]
        else:
            events = [{"decision_id": self._ids[about], "outcome": metrics} for about, metrics in posts]
            answers = self._router.feedback_batch(events) if events else []
        for (about, _), answer in zip(posts, answers, strict=True):
            if isinstance(answer, CapsaError):
                raise answer
            if answer.status not in _TAKEN:
                raise HostFault(f"a feedback was answered as {answer.status!r}")
            self.posts += 1
            if answer.reward is not None:
                gap = abs(answer.reward - reward(self._course.outcome(about, self._chosen[about])))
                self._reward_gap = max(self._reward_gap, gap)

    def _decide(self, numbers: range) -> None:
        requests = [self._course.requests[at] for at in numbers]
        inputs = [{"customer_tier": request.tier, "task": request.prompt.task} for request in requests]
        if self._group == 1:
            decisions = [self._router.decide(each) for each in inputs]
        else:
            decisions = self._router.decide_batch([{"input": each} for each in inputs])
        for at, request, decision in zip(numbers, requests, decisions, strict=True):
            if isinstance(decision, CapsaError):
                raise decision
            assert decision.id is not None
            assert decision.option is not None
            assert decision.probabilities is not None
            self._keys.append(decision.context_key)
            self._ids.append(decision.id)
            self._chosen.append(decision.option)
            self._weights.append(decision.probabilities)
            if request.cost_after == request.quality_after:
                self._arriving[at + request.quality_after].append((at, ("quality", "cost")))
            else:
                self._arriving[at + request.cost_after].append((at, ("cost",)))
                self._arriving[at + request.quality_after].append((at, ("quality",)))


def run(
    spec: str,
    table: Sequence[Prompt],
    seed: int,
    *,
    tiers: Sequence[str] = tuple(TIER_FACTOR),
    cut: str | None = None,
) -> Run:
    """Routes every prompt once, in process.

    Args:
        spec: The capsule's YAML.
        table: The prompts.
        seed: Draws order, tiers, delays and the capsule's decisions.
        tiers: The tiers that customers have.
        cut: The model that becomes `PRICE_CUT` times cheaper at half time.
    """
    now = _START

    def tick(at: int) -> None:
        nonlocal now
        now = _START + at * _SECONDS_BETWEEN_REQUESTS

    with capsa.open(clock=lambda: now, seed=seed) as store:
        return Pass(store.install(spec), Course(table, seed, tiers, cut), tick=tick).finish()
