"""One feedback: from what was posted to the event that records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from capsa import _native
from capsa.decisions._fold import CapsuleState
from capsa.decisions._ids import parse_decision_id, unknown_decision
from capsa.decisions._ledger import Row
from capsa.errors import FeedbackConflict, InvalidField, RewardMissing

#: One option, or one option of every strategy.
OptionLike = str | int | Mapping[str, str | int]


class _Unset:
    def __repr__(self) -> str:
        return "as answered"


#: `taken` was not given: the answer was carried out.
AS_ANSWERED: Final = _Unset()


#: No decision id was given.
NOT_GIVEN: Final = _Unset()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What a post comes to: the fields of its event, and what its answer says beside them."""

    event: dict[str, Any]
    parts: dict[str, float]
    missing: list[str]
    log: list[tuple[str, str]]


class Repeated(msgspec.Struct, frozen=True):
    """The post says again what is known."""

    row: Row


def find(state: CapsuleState, decision_id: object) -> Row:
    """The row of a decision.

    Raises:
        UnknownDecision: No decision of this capsule has this id.
    """
    row = state.ledger.get(parse_decision_id(decision_id))
    if row is None:
        raise unknown_decision(decision_id)
    if row.read is None:
        row.read = state.native.read_decision(row.payload)
    return row


def by_decision(
    state: CapsuleState,
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
    carried_out = _taken(state, row, taken)
    if reward is not None:
        return _plain(native, row, now_ms, native.check_reward(reward), carried_out)
    assert outcome is not None
    return _metrics(native, row, now_ms, _mapping(outcome), carried_out)


def _mapping(outcome: Mapping[str, float | bool]) -> dict[str, Any]:
    if not isinstance(outcome, Mapping):
        raise InvalidField(
            "outcome is not a mapping",
            pointer="/outcome",
            value=type(outcome).__name__,
            remedy="send metrics by name, for example {'quality': 0.9}",
        )
    return dict(outcome)


def _taken(state: CapsuleState, row: Row, taken: OptionLike | _Unset | None) -> dict[str, str]:
    """The options carried out, agreeing with earlier posts."""
    answered = row.decision.choices
    if isinstance(taken, _Unset):
        return answered if row.taken is None else row.taken
    named: dict[str, str] = {}
    if taken is not None:
        named = state.native.pick("/taken", _plain_options(taken), row.decision.capsule_version)
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
    native: _native.Capsule, row: Row, now_ms: int, reward: float, taken: dict[str, str]
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
            f"this decision has metrics already: {', '.join(sorted(row.metrics))}",
            pointer="/reward",
            value=str(reward),
            remedy="send the other metrics, not a reward",
        )
    status = _status(native, row, now_ms, taken)
    event = _event(row, now_ms, status, taken, metrics={}, reward=reward)
    return Recorded(event=event, parts={}, missing=[], log=[])


def _metrics(
    native: _native.Capsule, row: Row, now_ms: int, outcome: dict[str, Any], taken: dict[str, str]
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
                f"{name} was {known[name]} in an earlier post",
                pointer=f"/outcome/{name}",
                value=str(metrics[name]),
                remedy="nothing of this post counts; a metric counts once",
            )
    new = {name: value for name, value in metrics.items() if name not in known}
    if not new:
        return Repeated(row)
    if row.done and now_ms <= row.deadline_ms:
        raise FeedbackConflict(
            "this decision awaits no more metrics",
            pointer=f"/outcome/{min(new)}",
            remedy="nothing of this post counts",
        )
    everything = known | new
    status = _status(native, row, now_ms, taken)
    missing = [name for name in native.declared_metrics or [] if name not in everything]
    if parts is not None:
        parts = native.parts(everything)
    if missing and status != "late":
        event = _event(row, now_ms, "pending", taken, metrics=new, reward=None)
        return Recorded(event=event, parts=parts or {}, missing=missing, log=[])
    reward: float | None = None
    log: list[tuple[str, str]] = []
    if not missing:
        reward, log = native.value(row.decision, everything, taken)
    event = _event(row, now_ms, status, taken, metrics=new, reward=reward)
    return Recorded(event=event, parts=parts or {}, missing=missing, log=log)


def _status(native: _native.Capsule, row: Row, now_ms: int, taken: dict[str, str]) -> str:
    if now_ms > row.deadline_ms:
        return "late"
    if not taken:
        return "kept"
    return "frozen" if native.frozen else "applied"


def _event(
    row: Row,
    now_ms: int,
    status: str,
    taken: dict[str, str],
    *,
    metrics: dict[str, float],
    reward: float | None,
) -> dict[str, Any]:
    decision = row.decision
    return {
        "id": decision.nonce,
        "key": decision.context_key,
        "made": taken,
        "taken": None if taken == decision.choices else taken,
        "reward": reward,
        "status": status,
        "capsule": decision.capsule,
        "metrics": metrics,
        "delay_ms": max(0, now_ms - row.decided_ms),
        "capsule_version": decision.capsule_version,
    }


def explicit(
    state: CapsuleState,
    strategy: str | int | None,
    option: str | int,
    reward: float | None,
    context_key: str | None,
    capsule: str,
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
        "capsule": capsule,
        "metrics": {},
        "delay_ms": None,
        "capsule_version": native.version,
    }
    return Recorded(event=event, parts={}, missing=[], log=[])
