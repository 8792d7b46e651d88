"""One feedback: from what was posted to the event that records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import msgspec

from capsa import _native
from capsa.decisions._fold import CapsuleState
from capsa.decisions._ids import first_id, unknown_decision
from capsa.decisions._ledger import DECIDED, GRACE_MS, HORIZON, Row, event_at, metric_key
from capsa.errors import (
    CapsuleFailure,
    CapsuleRefused,
    FeedbackConflict,
    InvalidField,
    InvalidRequest,
    RewardMissing,
)

if TYPE_CHECKING:
    from capsa.journal import Journal

#: One option, or one option of every strategy.
OptionLike = str | int | Mapping[str, str | int]


#: Most metrics of one post.
MAX_METRICS: Final = 256


class _Unset:
    def __repr__(self) -> str:
        return "as answered"


#: `taken` was not given: the answer was carried out.
AS_ANSWERED: Final = _Unset()


#: No decision id was given.
NOT_GIVEN: Final = _Unset()


class Subject(msgspec.Struct, frozen=True):
    """What a feedback is about: a decision, and what its id or its record says of it."""

    decision: _native.Decision
    nonce: bytes
    decided_ms: int
    deadline_ms: int


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a post comes to: the fields of its event, and what its answer says beside them.

    Attributes:
        event: The fields of the event.
        once: What of the decision counts once.
        parts: Each metric's share of the reward.
        missing: Declared metrics that are awaited.
        log: What the capsule wrote meanwhile.
    """

    event: dict[str, Any]
    once: list[bytes]
    parts: dict[str, float]
    missing: list[str]
    log: list[tuple[str, str]]


class Repeated(msgspec.Struct, frozen=True):
    """The post says again what is known."""

    row: Row


def find(journal: Journal, state: CapsuleState, stream: str, decision_id: object, now_ms: int) -> Subject:
    """The decision with an id.

    Raises:
        UnknownDecision: It was not given by this capsule, or the decision is forgotten.
    """
    opened = state.native.open_id(decision_id) if _is_text(decision_id) else None
    if opened is None:
        return _find_first(journal, state, stream, decision_id)
    if opened.sequence <= state.since or opened.sequence < journal.first(stream):
        raise unknown_decision(decision_id)
    # By now the journal may have forgotten that it was erased; and where a crash took its record, its place in the
    # stream does not tell that it was made before the tenant was purged.
    late, before = now_ms > opened.deadline_ms + GRACE_MS, opened.decided_ms <= state.purged_ms
    if late or before:
        if before:
            # Where the clock was set back since, it was made a moment ago.
            journal.flush()
        event = event_at(journal, stream, opened.sequence)
        own = event is not None and event.type == "decided" and event.time_ms == opened.decided_ms
        if (own and event is not None and event.erased) or (before and not own):
            raise unknown_decision(decision_id)
    decision = opened.decision
    if decision is None:
        # Its record was on disk before it was answered.
        decision = _recorded(journal, state, stream, opened.sequence)
        if decision is None or decision.nonce != opened.nonce:
            raise unknown_decision(decision_id)
    return Subject(decision, opened.nonce, opened.decided_ms, opened.deadline_ms)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isascii()


def _find_first(journal: Journal, state: CapsuleState, stream: str, decision_id: object) -> Subject:
    """As `find`, of an id that format 1 gave."""
    nonce = first_id(decision_id)
    claims = [] if nonce is None else journal.claims(stream, nonce + DECIDED)
    decision = _recorded(journal, state, stream, claims[0][1]) if claims else None
    if nonce is None or decision is None or decision.sequence is None or decision.sequence <= state.since:
        raise unknown_decision(decision_id)
    return Subject(decision, nonce, int.from_bytes(nonce[:6], "big"), decision.deadline_ms)


def _recorded(journal: Journal, state: CapsuleState, stream: str, sequence: int) -> _native.Decision | None:
    event = event_at(journal, stream, sequence)
    if event is None or event.type != "decided" or event.erased:
        return None
    return state.native.read_decision(event)


def by_decision(
    state: CapsuleState,
    about: Subject,
    row: Row,
    now_ms: int,
    outcome: Mapping[str, float | bool] | None,
    reward: float | None,
    taken: OptionLike | _Unset | None,
) -> Recorded | Repeated:
    """Works out one post for a decision. Nothing has changed yet.

    Raises:
        FeedbackConflict: It contradicts an earlier post.
        InvalidRequest: What is sent does not fit the definition.
    """
    native = state.native
    if outcome is not None and reward is not None:
        raise InvalidField(
            "outcome and reward are both given",
            pointer="/reward",
            remedy="send the metrics, or one number instead",
        )
    if reward is None and not outcome:
        raise RewardMissing(
            "neither a reward nor an outcome is given",
            pointer="/outcome",
            remedy="send outcome with at least one metric, or reward",
        )
    if now_ms > about.deadline_ms + GRACE_MS:
        # What was posted before may be forgotten, so it counts in no case.
        row = Row(done=True)
    carried_out = _taken(state, about, row, taken)
    if reward is not None:
        recorded = _plain(native, about, row, now_ms, native.check_reward(reward), carried_out)
    else:
        assert outcome is not None
        recorded = _metrics(native, about, row, now_ms, _mapping(outcome), carried_out)
    if isinstance(recorded, Recorded) and now_ms > about.deadline_ms + GRACE_MS:
        recorded.once.clear()
    return recorded


def _mapping(outcome: Mapping[str, float | bool]) -> dict[str, Any]:
    if not isinstance(outcome, Mapping):
        raise InvalidField(
            "outcome is not a mapping",
            pointer="/outcome",
            value=type(outcome).__name__,
            remedy="send metrics by name, for example {'quality': 0.9}",
        )
    if len(outcome) > MAX_METRICS:
        raise InvalidField(
            f"outcome has more than {MAX_METRICS} metrics",
            pointer="/outcome",
            value=str(len(outcome)),
            remedy="send those that the reward depends on",
        )
    return dict(outcome)


def _taken(
    state: CapsuleState, about: Subject, row: Row, taken: OptionLike | _Unset | None
) -> dict[str, str]:
    """The options carried out, agreeing with earlier posts."""
    answered = about.decision.choices
    if isinstance(taken, _Unset):
        return answered if row.taken is None else row.taken
    named: dict[str, str] = {}
    if taken is not None:
        named = state.native.pick("/taken", _plain_options(taken), about.decision.capsule_version)
    if row.taken is not None and row.taken != named:
        raise FeedbackConflict(
            "taken differs from an earlier post of this decision",
            pointer="/taken",
            value=", ".join(named.values()) or "null",
            remedy=f"the first post said {', '.join(row.taken.values()) or 'null'}; nothing has changed",
        )
    return named


def _plain_options(options: OptionLike) -> Any:
    return dict(options) if isinstance(options, Mapping) else options


def _plain(
    native: _native.Capsule, about: Subject, row: Row, now_ms: int, reward: float, taken: dict[str, str]
) -> Recorded | Repeated:
    if row.plain is not None:
        if row.plain == reward:
            return Repeated(row)
        raise FeedbackConflict(
            f"this decision has the reward {row.plain}",
            pointer="/reward",
            value=str(reward),
            remedy="nothing has changed; a reward counts once",
        )
    if row.metrics:
        raise FeedbackConflict(
            f"this decision has metrics already: {', '.join(sorted(row.metrics))}{_first_reward(row)}",
            pointer="/reward",
            value=str(reward),
            remedy="send the other metrics, not a reward",
        )
    status = _status(native, about, now_ms, taken)
    event = _event(about, row, status, taken, metrics={}, reward=reward)
    return Recorded(event=event, once=[about.nonce], parts={}, missing=[], log=[])


def _metrics(
    native: _native.Capsule,
    about: Subject,
    row: Row,
    now_ms: int,
    outcome: dict[str, Any],
    taken: dict[str, str],
) -> Recorded | Repeated:
    parts = native.parts(outcome)
    metrics = native.metrics(outcome)
    if row.plain is not None:
        raise FeedbackConflict(
            f"this decision has the reward {row.plain}",
            pointer="/outcome",
            remedy="nothing has changed; a reward stands for all metrics",
        )
    known = row.metrics or {}
    for name in sorted(metrics.keys() & known.keys()):
        if metrics[name] != known[name]:
            raise FeedbackConflict(
                f"{name} was {known[name]} in an earlier post{_first_reward(row)}",
                pointer=f"/outcome/{name}",
                value=str(metrics[name]),
                remedy="nothing of this post counts; a metric counts once",
            )
    new = {name: value for name, value in metrics.items() if name not in known}
    if not new:
        return Repeated(row)
    if row.done and now_ms <= about.deadline_ms:
        raise FeedbackConflict(
            f"this decision awaits no more metrics{_first_reward(row)}",
            pointer=f"/outcome/{min(new)}",
            remedy="nothing of this post counts",
        )
    everything = known | new
    status = _status(native, about, now_ms, taken)
    missing = [name for name in native.declared_metrics or [] if name not in everything]
    if parts is not None and known:
        parts = native.parts(everything)
    once = [metric_key(about.nonce, name) for name in new]
    if missing and status != "late":
        event = _event(about, row, "pending", taken, metrics=new, reward=None)
        return Recorded(event=event, once=once, parts=parts or {}, missing=missing, log=[])
    if not known and not missing:
        # Everything at once.
        once = [about.nonce]
    reward: float | None = None
    log: list[tuple[str, str]] = []
    if not missing:
        reward, log = native.value(about.decision, everything, taken)
    event = _event(about, row, status, taken, metrics=new, reward=reward)
    return Recorded(event=event, once=once, parts=parts or {}, missing=missing, log=log)


def _first_reward(row: Row) -> str:
    """What the recorded content came to, for who contradicts it."""
    reward = None if row.outcome is None else row.outcome["reward"]
    return "" if reward is None else f"; its reward is {reward}"


def at_horizon(state: CapsuleState, about: Subject, row: Row) -> Recorded:
    """Works out what the horizon brings: the declared defaults of what was not sent."""
    native, decision = state.native, about.decision
    known, taken = row.metrics or {}, decision.choices if row.taken is None else row.taken
    new = {name: value for name, value in (decision.defaults or {}).items() if name not in known}
    everything = known | new
    missing = [name for name in native.declared_metrics or [] if name not in everything]
    status, reward = "expired", None
    log: list[tuple[str, str]] = []
    if not missing:
        try:
            reward, log = native.value(decision, everything, taken)
            status = "kept" if not taken else "frozen" if native.frozen else "applied"
        except (CapsuleRefused, CapsuleFailure, InvalidRequest) as error:
            # There is nobody to tell; the decision's story shows that nothing was learned.
            log = [("error", f"no reward for what the horizon brought: {error}")]
    event = _event(about, row, status, taken, metrics=new, reward=reward)
    return Recorded(event=event, once=[about.nonce + HORIZON], parts={}, missing=missing, log=log)


def _status(native: _native.Capsule, about: Subject, now_ms: int, taken: dict[str, str]) -> str:
    if now_ms > about.deadline_ms:
        return "late"
    if not taken:
        return "kept"
    return "frozen" if native.frozen else "applied"


def _event(
    about: Subject,
    row: Row,
    status: str,
    taken: dict[str, str],
    *,
    metrics: dict[str, float],
    reward: float | None,
) -> dict[str, Any]:
    decision = about.decision
    answered = decision.choices
    other = taken != answered
    return {
        "id": about.nonce,
        "key": decision.context_key,
        "made": taken,
        "taken": taken if other else None,
        "answered": answered if other else None,
        "reward": reward,
        "status": status,
        "metrics": metrics,
        "deadline_ms": about.deadline_ms,
        "decided_at": decision.sequence,
        "capsule_version": decision.capsule_version,
        "again": status == "late" and row.done,
    }


def explicit(
    state: CapsuleState,
    strategy: str | int | None,
    option: str | int,
    reward: float | None,
    context_key: str | None,
) -> Recorded:
    """Works out an outcome of a choice that was not asked for here. Nothing has changed yet.

    Raises:
        InvalidRequest: What is sent does not fit the definition.
    """
    native = state.native
    name, option_name = native.pick_one(strategy, option)
    if reward is None:
        raise RewardMissing("the reward is missing", pointer="/reward", remedy="send reward, one number")
    value = native.check_reward(reward)
    if context_key is None:
        raise InvalidField(
            "the context key is missing",
            pointer="/contextKey",
            remedy='say which context the outcome belongs to; "default" for a capsule without contexts',
        )
    native.check_key(context_key)
    event = {
        "id": None,
        "key": context_key,
        "made": {name: option_name},
        "taken": None,
        "reward": value,
        "status": "frozen" if native.frozen else "applied",
        "metrics": {},
        "capsule_version": native.version,
    }
    return Recorded(event=event, once=[], parts={}, missing=[], log=[])
