"""What must hold of a store, told by itself: events, and the few numbers that follow from them.

It shares nothing with the code under test but the words. It draws nothing and learns nothing: which option is answered
it takes from the store and checks; what becomes of a feedback, of a horizon and of what is taken away it says
beforehand.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator
from typing import Final

from tests.simulation.happened import (
    AS_ANSWERED,
    WEIGHTS,
    Changed,
    Created,
    Decided,
    DecisionModel,
    Erased,
    Happened,
    Installed,
    Passed,
    Place,
    Post,
    Purged,
    Received,
    Refused,
    Repeated,
    Sealed,
)

import capsa

#: So long after its horizon, feedback of a decision is compared with what was posted before.
GRACE_MS: Final = 24 * 3600 * 1000
#: A state is sealed after so many events; after so many if it is older than an hour; after so many when closing.
#: A life sets the store's constants to these.
SNAPSHOT_EVENTS: Final = 25
AGED_EVENTS: Final = 8
AGED_MS: Final = 3600 * 1000
CLOSING_EVENTS: Final = 12
#: A checkpoint is signed after so many.
SIGNED_EVENTS: Final = 15
#: Into so many parts a retention is divided: so much longer something may be kept.
PARTS: Final = 8


class CapsuleModel:
    """One capsule: its settings, decisions and counts."""

    def __init__(self) -> None:
        self.version = 0
        self.options: dict[str, list[str]] = {}
        self.file: Installed | None = None
        self.settings: dict[str, object] = {}
        self.overrides: dict[str, object] = {}
        #: Whether more contexts than are held were possible at some time.
        self.was_narrow = False
        #: Every decision that feedback may come of, whether its record is there or not.
        self.decisions: dict[str, DecisionModel] = {}
        self.recorded = self.without_decision = self.defaulted = 0
        #: The longest horizon there was.
        self.longest_ms = 0
        self.statuses: collections.Counter[str] = collections.Counter()
        self.answered: collections.Counter[tuple[str, str]] = collections.Counter()
        #: Rewards by strategy and option, and by context key.
        self.credited: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
        self.learned_in: collections.Counter[str] = collections.Counter()
        self.learned: list[float] = []
        #: Decisions that await something, less those that never will whose record was lost, by the end of their step.
        self._open: collections.Counter[int] = collections.Counter()

    @property
    def frozen(self) -> bool:
        return bool(self.settings.get("freeze"))

    @property
    def mode(self) -> str:
        return str(self.settings.get("mode") or "live")

    @property
    def horizon_ms(self) -> int:
        assert self.file is not None
        changed = self.settings.get("horizon_ms")
        return changed if isinstance(changed, int) else self.file.horizon_ms

    @property
    def defaults(self) -> dict[str, float] | None:
        """What metrics count as that were not sent until the horizon."""
        assert self.file is not None
        if "defaults" not in self.settings:
            return self.file.defaults
        changed = self.settings["defaults"]
        return changed if isinstance(changed, dict) else None

    @property
    def max_contexts(self) -> int:
        changed = self.settings.get("max_contexts")
        return changed if isinstance(changed, int) else 10_000

    def apply(self, event: Installed | Changed | Decided | Received | Passed) -> None:
        """Counts one event."""
        match event:
            case Installed():
                self.version += 1
                self.options, self.file = event.options, event
            case Changed():
                self.settings = {**self.settings, **event.settings}
                self.overrides = {**self.overrides, **event.overrides}
                self.was_narrow |= self.max_contexts < 10_000
            case Decided():
                self.decisions[event.id] = DecisionModel(event)
                self.recorded += 1
                self.answered.update(event.choices.items())
                self._open[_step(event)] += 1
            case Received():
                self._received(event)
            case Passed():
                self._passed(event)
        self.longest_ms = max(self.longest_ms, self.horizon_ms)

    def _received(self, event: Received) -> None:
        self.statuses[event.status] += 1
        if event.id is not None and not event.forgotten:
            row = self.decisions[event.id]
            if not row.done and event.status != "pending":
                self._close(row)
            row.metrics = row.metrics | event.metrics
            row.plain = row.plain if event.metrics else event.reward
            row.taken, row.last = event.made, event
            row.done = row.done or event.status != "pending"
        elif event.id is None and event.status == "applied":
            self.without_decision += 1
        if event.status == "applied":
            self._learn(event)

    def _passed(self, event: Passed) -> None:
        row = self.decisions[event.id]
        if event.status != "expired":
            self._close(row)
        if event.status == "applied":
            self.defaulted += 1
            self._learn(event)
        if event.status != "expired":
            self.statuses[event.status] += 1
        row.done = True

    def _learn(self, event: Received | Passed) -> None:
        assert event.reward is not None
        for choice in event.made.items():
            self.credited[choice].append(event.reward)
        self.learned_in[event.key] += 1
        self.learned.append(event.reward)

    def _close(self, row: DecisionModel) -> None:
        self._open[_step(row.decided)] -= 1

    def waiting(self, now_ms: int) -> tuple[int, int]:
        """Decisions that await feedback, and those that awaited it in vain, to a 256th of the horizon."""
        waiting = sum(count for end_ms, count in self._open.items() if end_ms >= now_ms)
        expired = sum(count for end_ms, count in self._open.items() if end_ms < now_ms)
        return max(0, waiting), max(0, expired)


def _step(decided: Decided) -> int:
    """The end of the step that a deadline is in: steps are powers of two, at most a 256th of the horizon."""
    most_ms = max(1, (decided.deadline_ms - decided.decided_ms) // 256)
    step_ms = 1
    while 2 * step_ms <= most_ms:
        step_ms *= 2
    return -(-decided.deadline_ms // step_ms) * step_ms


class StreamModel:
    """The events of one tenant, and what of them is there."""

    def __init__(self) -> None:
        #: Each with its time.
        self.events: list[tuple[int, Happened]] = []
        #: The first that was not cut off.
        self.first = 1
        self.purged = 0

    @property
    def length(self) -> int:
        return len(self.events)

    @property
    def sealed(self) -> tuple[int, int] | None:
        """Sequence and time of the last snapshot that counts."""
        for at in range(self.length - 1, -1, -1):
            time_ms, event = self.events[at]
            if isinstance(event, Purged):
                return None
            if isinstance(event, Sealed):
                return at + 1, time_ms
        return None

    @property
    def beginning(self) -> int:
        """After which event a start has to fold."""
        cuts = (at for at, (_, event) in enumerate(self.events, 1) if isinstance(event, Sealed | Purged))
        return max(cuts, default=0)

    @property
    def whole(self) -> bool:
        """Whether its state can be folded from nothing."""
        return (
            self.first == 1
            and not self.purged
            and not any(isinstance(event, Erased) for _, event in self.events)
        )


class Model:
    """A store as its events make it.

    Args:
        lost: Decisions that were answered and whose record a crash took: tenant, the length of the stream that was
            left, and the decision.
    """

    def __init__(self, lost: Iterable[tuple[str, int, Decided]] = ()) -> None:
        self.streams: dict[str, StreamModel] = {}
        self.capsules: dict[Place, CapsuleModel] = {}
        self._lost = list(lost)

    def add(self, tenant: str, event: Happened, now_ms: int) -> None:
        """Something was recorded."""
        stream = self.streams.setdefault(tenant, StreamModel())
        stream.events.append((now_ms, event))
        match event:
            case Purged():
                stream.purged = stream.length
                self.capsules = {
                    place: capsule for place, capsule in self.capsules.items() if place[0] != tenant
                }
            case Erased():
                for capsule in self._of(tenant):
                    for row in capsule.decisions.values():
                        row.erased = row.erased or row.decided.id in event.ids
            case Created() | Sealed():
                pass
            case _:
                self.capsules.setdefault(event.place, CapsuleModel()).apply(event)
        for of, length, decided in self._lost:
            if (of, length) == (tenant, stream.length) and decided.place in self.capsules:
                self.capsules[decided.place].decisions[decided.id] = DecisionModel(decided, recorded=False)

    def _of(self, tenant: str) -> Iterator[CapsuleModel]:
        return (capsule for place, capsule in self.capsules.items() if place[0] == tenant)

    def length(self, tenant: str) -> int:
        stream = self.streams.get(tenant)
        return stream.length if stream else 0

    def lengths(self) -> dict[str, int]:
        return {tenant: stream.length for tenant, stream in self.streams.items()}

    def until(self, lengths: dict[str, int]) -> Model:
        """The store that has only the first events of each stream. Ids that were given for others still hold."""
        lost = list(self._lost)
        for tenant, stream in self.streams.items():
            left = lengths.get(tenant, 0)
            for _, event in stream.events[left:]:
                if isinstance(event, Decided):
                    on_disk = event.defaults is not None or not event.carried
                    assert not on_disk, f"{event.id} was on disk before it was answered"
                    lost.append((tenant, left, event))
        model = Model(lost)
        for tenant, stream in self.streams.items():
            for now_ms, event in stream.events[: lengths.get(tenant, 0)]:
                model.add(tenant, event, now_ms)
            if tenant in model.streams:
                model.streams[tenant].first = stream.first
        return model

    def _missing(self, place: Place) -> type[capsa.CapsaError]:
        """What is told of a capsule that is not there: the first part of its place that is missing."""
        if not any(there[0] == place[0] for there in self.capsules):
            return capsa.errors.UnknownTenant
        if not any(there[:2] == place[:2] for there in self.capsules):
            return capsa.errors.UnknownJob
        return capsa.errors.UnknownCapsule

    def expect(
        self, place: Place, decision_id: str, post: Post, now_ms: int
    ) -> Received | Repeated | Refused:
        """What becomes of a post."""
        capsule = self.capsules.get(place)
        if capsule is None:
            return Refused(self._missing(place))
        row = capsule.decisions.get(decision_id)
        if row is None or row.erased:
            return Refused(capsa.errors.UnknownDecision)
        decided = row.decided
        if decided.sequence < self.streams[place[0]].first:
            # What retention has cut off is forgotten.
            return Refused(capsa.errors.UnknownDecision)
        forgotten = now_ms > decided.deadline_ms + GRACE_MS
        if forgotten:
            row = DecisionModel(decided, done=True)
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
        if now_ms > decided.deadline_ms:
            status = "late"
        elif missing:
            status, reward = "pending", None
        else:
            status = "kept" if not taken else "frozen" if capsule.frozen else "applied"
        return Received(
            place=place,
            id=decision_id,
            key=decided.key,
            made=taken,
            metrics=new,
            reward=reward,
            status=status,
            parts=parts,
            missing=missing,
            sequence=self.length(place[0]) + 1,
            forgotten=forgotten,
        )

    def expect_explicit(self, place: Place, strategy: str, option: str, reward: float, key: str) -> Received:
        """What becomes of feedback without a decision."""
        status = "frozen" if self.capsules[place].frozen else "applied"
        return Received(
            place=place,
            id=None,
            key=key,
            made={strategy: option},
            metrics={},
            reward=reward,
            status=status,
            parts={},
            missing=frozenset(),
            sequence=self.length(place[0]) + 1,
        )

    def passing(self, now_ms: int) -> list[Passed]:
        """The horizons that a round of upkeep deals with, in order."""
        rows = [
            (row.decided.deadline_ms, number, row.decided.sequence, place, row)
            for number, tenant in enumerate(self.streams)
            for place, capsule in self.capsules.items()
            if place[0] == tenant
            for row in capsule.decisions.values()
            if self._passes(row, now_ms)
        ]
        return [self.at_horizon(place, row) for *_, place, row in sorted(rows, key=lambda row: row[:3])]

    @staticmethod
    def _passes(row: DecisionModel, now_ms: int) -> bool:
        waits = row.decided.defaults is not None and not row.done and not row.erased
        return waits and row.decided.deadline_ms < now_ms

    def passing_first(self, place: Place, decision_id: str, now_ms: int) -> Passed | None:
        """What the horizon brings before a late post of this decision counts."""
        row = self.capsules[place].decisions.get(decision_id) if place in self.capsules else None
        if (
            row is None
            or not self._passes(row, now_ms)
            or row.decided.sequence < self.streams[place[0]].first
        ):
            return None
        # Later nothing that is posted counts, and the horizon is left to the upkeep.
        return None if now_ms > row.decided.deadline_ms + GRACE_MS else self.at_horizon(place, row)

    def at_horizon(self, place: Place, row: DecisionModel) -> Passed:
        """What the horizon brings: the declared values stand for what was not sent."""
        decided = row.decided
        taken = decided.choices if row.taken is None else row.taken
        new = {name: value for name, value in (decided.defaults or {}).items() if name not in row.metrics}
        known = row.metrics | new
        reward, status = None, "expired"
        if known.keys() >= WEIGHTS.keys():
            reward = sum(WEIGHTS[name] * value for name, value in known.items())
            status = "kept" if not taken else "frozen" if self.capsules[place].frozen else "applied"
        return Passed(place, decided.id, decided.key, taken, new, reward, status)

    def sealing(self, now_ms: int) -> list[str]:
        """The tenants whose state a round of upkeep seals."""
        return [tenant for tenant in sorted(self.streams) if self._seals(tenant, now_ms)]

    def _seals(self, tenant: str, now_ms: int) -> bool:
        new, since_ms = self._unsealed(tenant)
        return new >= SNAPSHOT_EVENTS or (new >= AGED_EVENTS and now_ms - since_ms >= AGED_MS)

    def closing(self) -> list[str]:
        """The tenants whose state closing seals."""
        return [tenant for tenant in sorted(self.streams) if self._unsealed(tenant)[0] >= CLOSING_EVENTS]

    def _unsealed(self, tenant: str) -> tuple[int, int]:
        stream = self.streams[tenant]
        if stream.sealed is not None:
            sequence, since_ms = stream.sealed
            return stream.length - sequence, since_ms
        return stream.length, stream.events[stream.first - 1][0]

    def kept_ms(self, tenant: str) -> int:
        """So long everything is kept, whatever the retention, for feedback to be compared with."""
        return max((capsule.longest_ms for capsule in self._of(tenant)), default=0) + 2 * GRACE_MS

    def about(self, tenant: str, subject: str) -> frozenset[str]:
        """The decisions about a subject whose content is there."""
        first = self.streams[tenant].first
        return frozenset(
            row.decided.id
            for capsule in self._of(tenant)
            for row in capsule.decisions.values()
            if row.recorded and not row.erased and row.decided.subject == subject
            if row.decided.sequence >= first
        )

    def contents(self, tenant: str, ids: frozenset[str]) -> list[int]:
        """The sequences of the events that hold content of decisions, and were not cut off."""
        stream = self.streams[tenant]
        return [
            sequence
            for sequence, (_, event) in enumerate(stream.events, 1)
            if sequence >= stream.first and isinstance(event, Decided | Received | Passed) and event.id in ids
        ]


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
