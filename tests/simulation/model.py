"""What must hold of a store, told by itself: events, and the few numbers that follow from them.

It shares nothing with the code under test but the words. It draws nothing and learns nothing: which option is answered
it takes from the store and checks; what becomes of a feedback it says beforehand.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any, Final

import capsa

#: The declared metrics of the capsule with metrics, and what one unit of each is worth.
WEIGHTS: Final = {"quality": 0.6, "cost": -0.4}
#: `taken` was left out.
AS_ANSWERED: Final = "as answered"


@dataclass(frozen=True)
class Post:
    """What a caller sends about a decision."""

    reward: float | None = None
    outcome: dict[str, float] | None = None
    taken: str | dict[str, str] | None = AS_ANSWERED

    def arguments(self) -> dict[str, Any]:
        """As `feedback` takes them."""
        given = {"reward": self.reward, "outcome": self.outcome, "taken": self.taken}
        left_out = {"reward": None, "outcome": None, "taken": AS_ANSWERED}
        return {name: value for name, value in given.items() if value != left_out[name]}


@dataclass(frozen=True)
class Created:
    """A tenant or a job."""

    type = "created"


@dataclass(frozen=True)
class Installed:
    """A version of a capsule."""

    type = "installed"
    capsule: str
    options: dict[str, list[str]]
    metrics: bool
    horizon_ms: int


@dataclass(frozen=True)
class Changed:
    """Settings that the model goes by, and all that were given, flat; ``None`` = the file's value."""

    type = "learning_changed"
    capsule: str
    settings: dict[str, Any]
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Decided:
    """A decision that was recorded."""

    type = "decided"
    capsule: str
    id: str
    key: str
    choices: dict[str, str]
    decided_ms: int
    deadline_ms: int


@dataclass(frozen=True)
class Received:
    """A feedback that was recorded, and what its answer says."""

    type = "outcome_received"
    capsule: str
    id: str | None
    key: str
    made: dict[str, str]
    metrics: dict[str, float]
    reward: float | None
    status: str
    parts: dict[str, float]
    missing: frozenset[str]
    sequence: int


Happened = Created | Installed | Changed | Decided | Received


@dataclass(frozen=True)
class Repeated:
    """The answer to what is known already: that of the last post that was recorded."""

    answer: Received


@dataclass(frozen=True)
class Refused:
    """Nothing changes."""

    error: type[capsa.CapsaError]


@dataclass
class DecisionModel:
    """One decision and the feedback it has had."""

    decided: Decided
    metrics: dict[str, float] = field(default_factory=dict)
    plain: float | None = None
    taken: dict[str, str] | None = None
    last: Received | None = None

    @property
    def done(self) -> bool:
        return self.last is not None and self.last.status != "pending"


class CapsuleModel:
    """One capsule: its settings, decisions and counts."""

    def __init__(self) -> None:
        self.version = 0
        self.options: dict[str, list[str]] = {}
        self.has_metrics = False
        self.file_horizon_ms = 0
        self.settings: dict[str, Any] = {}
        self.overrides: dict[str, Any] = {}
        #: Whether keys may have been evicted.
        self.was_narrow = False
        self.decisions: dict[str, DecisionModel] = {}
        self.statuses: collections.Counter[str] = collections.Counter()
        self.without_decision = 0
        self.answered: collections.Counter[tuple[str, str]] = collections.Counter()
        #: Rewards by strategy and option, and by context key.
        self.credited: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
        self.learned_in: collections.Counter[str] = collections.Counter()
        self.learned: list[float] = []

    @property
    def frozen(self) -> bool:
        return bool(self.settings.get("freeze"))

    @property
    def mode(self) -> str:
        return self.settings.get("mode") or "live"

    @property
    def horizon_ms(self) -> int:
        return self.settings.get("horizon_ms") or self.file_horizon_ms

    @property
    def max_contexts(self) -> int:
        return self.settings.get("max_contexts") or 10_000

    def apply(self, event: Installed | Changed | Decided | Received) -> None:
        """Counts one event."""
        match event:
            case Installed():
                self.version += 1
                self.options, self.has_metrics = event.options, event.metrics
                self.file_horizon_ms = event.horizon_ms
            case Changed():
                self.settings = {**self.settings, **event.settings}
                self.overrides = {**self.overrides, **event.overrides}
                self.was_narrow |= self.max_contexts < 10_000
            case Decided():
                self.decisions[event.id] = DecisionModel(event)
                self.answered.update(event.choices.items())
            case Received():
                self._received(event)

    def _received(self, event: Received) -> None:
        self.statuses[event.status] += 1
        if event.id is not None:
            row = self.decisions[event.id]
            row.metrics = row.metrics | event.metrics
            row.plain = row.plain if event.metrics else event.reward
            row.taken, row.last = event.made, event
        elif event.status == "applied":
            self.without_decision += 1
        if event.status == "applied":
            assert event.reward is not None
            for choice in event.made.items():
                self.credited[choice].append(event.reward)
            self.learned_in[event.key] += 1
            self.learned.append(event.reward)

    def waiting(self, now_ms: int) -> tuple[int, int]:
        """Decisions that await feedback, and those that awaited it in vain."""
        still_open = [row.decided.deadline_ms for row in self.decisions.values() if not row.done]
        expired = sum(deadline_ms < now_ms for deadline_ms in still_open)
        return len(still_open) - expired, expired


class Model:
    """A store as its events make it."""

    def __init__(self, events: list[Happened] | None = None) -> None:
        self.events: list[Happened] = []
        self.capsules: dict[str, CapsuleModel] = {}
        for event in events or []:
            self.add(event)

    def add(self, event: Happened) -> None:
        """Something was recorded."""
        self.events.append(event)
        if not isinstance(event, Created):
            self.capsules.setdefault(event.capsule, CapsuleModel()).apply(event)

    def until(self, length: int) -> Model:
        """The store that has only the first events."""
        return Model(self.events[:length])

    def expect(self, name: str, decision_id: str, post: Post, now_ms: int) -> Received | Repeated | Refused:
        """What becomes of a post."""
        capsule = self.capsules[name]
        row = capsule.decisions.get(decision_id)
        if row is None:
            return Refused(capsa.errors.UnknownDecision)
        taken = _taken(row, post)
        if taken is None or _contradicts(row, post):
            return Refused(capsa.errors.FeedbackConflict)
        new = {name: value for name, value in (post.outcome or {}).items() if name not in row.metrics}
        if row.last is not None and not new and (post.outcome or row.plain is not None):
            return Repeated(row.last)
        known = row.metrics | new
        missing = frozenset(WEIGHTS.keys() - known.keys()) if new else frozenset[str]()
        parts = {name: WEIGHTS[name] * value for name, value in known.items()} if new else {}
        reward = post.reward if not new else None if missing else sum(parts.values())
        late = now_ms > row.decided.deadline_ms
        if late:
            status = "late"
        elif missing:
            status, reward = "pending", None
        else:
            status = "kept" if not taken else "frozen" if capsule.frozen else "applied"
        return Received(
            name,
            decision_id,
            row.decided.key,
            taken,
            new,
            reward,
            status,
            parts,
            missing,
            len(self.events) + 1,
        )

    def expect_explicit(self, name: str, strategy: str, option: str, reward: float, key: str) -> Received:
        """What becomes of feedback without a decision."""
        status = "frozen" if self.capsules[name].frozen else "applied"
        nothing: dict[str, float] = {}
        return Received(
            name,
            None,
            key,
            {strategy: option},
            nothing,
            reward,
            status,
            nothing,
            frozenset(),
            len(self.events) + 1,
        )


def _taken(row: DecisionModel, post: Post) -> dict[str, str] | None:
    """What was carried out; ``None`` where an earlier post said otherwise."""
    if post.taken == AS_ANSWERED:
        return row.decided.choices if row.taken is None else row.taken
    if isinstance(post.taken, str):
        [strategy] = row.decided.choices
        named = {strategy: post.taken}
    else:
        named = dict(post.taken or {})
    return named if row.taken in (None, named) else None


def _contradicts(row: DecisionModel, post: Post) -> bool:
    if post.reward is not None:
        return bool(row.metrics) or row.plain not in (None, post.reward)
    assert post.outcome is not None
    if row.plain is not None:
        return True
    return any(row.metrics.get(name, value) != value for name, value in post.outcome.items())
