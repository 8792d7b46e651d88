"""Pages of the journal, and the story of one decision.

Everything here reads. Pages go by sequence number: a row's `sequence` is the cursor of the page
after it, and nothing before a cursor is read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import cbor2

from capsa.decisions import _feedback, _learning
from capsa.decisions._fold import CapsuleState
from capsa.decisions._history._json import plain
from capsa.decisions._history._records import AuditRecord, DecisionRecord, FeedbackRecord, Story
from capsa.decisions._ids import decision_id as id_of
from capsa.decisions._ids import unknown_decision
from capsa.errors import InvalidField, UnknownTenant, shown
from capsa.journal import EVENT_TYPES, Event

if TYPE_CHECKING:
    from capsa.decisions._store import Store

Place = tuple[str, str, str]

#: Most rows in one page.
MAX_PAGE: Final = 1000
#: What people and gates caused: every type but those of single decisions and of the store's own keeping.
AUDITED: Final = EVENT_TYPES - {"decided", "outcome_received", "horizon_passed", "snapshot_sealed"}


def decisions(store: Store, place: Place, after: int, limit: int) -> list[DecisionRecord]:
    """A page of a capsule's decisions. What was erased is not in it."""
    return [decision_record(event) for event in _page(store, place, {"decided"}, after, limit)]


def feedback_log(store: Store, place: Place, after: int, limit: int) -> list[FeedbackRecord]:
    """A page of the feedback of a capsule. What was erased is not in it."""
    return [feedback_record(event) for event in _page(store, place, {"outcome_received"}, after, limit)]


def audit(store: Store, tenant: str, after: int, limit: int) -> list[AuditRecord]:
    """A page of the changes that were made in a tenant.

    Raises:
        UnknownTenant: There is none of this name.
    """
    store._check_usable()
    _check_page(after, limit)
    if tenant not in store._journal.streams():
        raise UnknownTenant(
            f"no tenant {shown(tenant)!r}",
            value=shown(tenant),
            remedy="a tenant exists from its first install on",
        )
    store._durable()
    found = (event for event in store._journal.read(tenant, after) if event.type in AUDITED)
    return [audit_record(event) for event in islice(found, limit)]


def story(store: Store, place: Place, decision_id: object) -> Story:
    """Everything about one decision.

    Raises:
        UnknownDecision: No decision of this capsule has this id, or it was erased.
    """
    state = store._state(place)
    nonce = _feedback.find(state, decision_id).decision.nonce
    store._durable()
    decided = decided_event(store, place, nonce, decision_id)
    posts = [
        feedback_record(event)
        for event in events_of(store, place, decided.sequence)
        if event.type == "outcome_received"
        and nonce in event.payload
        and cbor2.loads(event.payload).get("id") == nonce
    ]
    return _told(state, decided, posts, store._now_ms())


def _told(state: CapsuleState, decided: Event, posts: list[FeedbackRecord], now_ms: int) -> Story:
    decision = decision_record(decided)
    metrics = {name: value for post in posts for name, value in post.metrics.items()}
    status = posts[-1].status if posts else "pending"
    missing: list[str] = []
    if status == "pending":
        missing = [name for name in state.native.declared_metrics or [] if name not in metrics]
        if now_ms > cbor2.loads(decided.payload)["deadline_ms"]:
            status = "expired"
    rewards = [post.reward for post in posts if post.reward is not None]
    learned = [post.sequence for post in posts if post.status == "applied"]
    return Story(
        decision=decision,
        posts=posts,
        status=status,
        reward=rewards[-1] if rewards else None,
        metrics=metrics,
        missing=missing,
        learned_at=learned[0] if learned else None,
    )


def decided_event(store: Store, place: Place, nonce: bytes, decision_id: object) -> Event:
    """The event of a decision.

    Raises:
        UnknownDecision: It was erased.
    """
    for event in events_of(store, place, 0):
        # The bytes are looked for before the event is decoded: of most events nothing else is needed.
        if event.type == "decided" and nonce in event.payload and cbor2.loads(event.payload)["id"] == nonce:
            return event
    raise unknown_decision(decision_id)


def decision_record(event: Event) -> DecisionRecord:
    recorded = cbor2.loads(event.payload)
    suggested = recorded.get("suggested")
    if suggested is not None:
        suggested = {
            "choices": suggested["options"],
            "propensity": suggested["propensity"],
            "probabilities": suggested["probabilities"],
            "reason": suggested["reason"],
        }
    return DecisionRecord(
        sequence=event.sequence,
        time=_learning.timestamp(event.time_ms),
        principal=event.principal,
        decision_id=id_of(recorded["id"]),
        capsule_version=recorded["capsule_version"],
        learner_version=recorded["learner_version"],
        mode=recorded["mode"],
        context_key=recorded["key"],
        context_key_from=recorded["key_from"],
        choices=recorded["options"],
        propensity=recorded["propensity"],
        probabilities=recorded.get("probabilities"),
        reason=recorded["reason"],
        allowed=recorded.get("allowed"),
        current=recorded.get("current"),
        baseline=recorded["baseline"],
        suggested=suggested,
        unknown=recorded.get("unknown") or [],
        other=recorded.get("other") or {},
        deadline=_deadline(recorded["deadline_ms"]),
    )


def _deadline(time_ms: int) -> str:
    try:
        return _learning.timestamp(time_ms)
    except (OverflowError, ValueError):
        # A horizon of centuries goes past what a calendar holds.
        return "9999-12-31T23:59:59.999Z"


def feedback_record(event: Event) -> FeedbackRecord:
    recorded = cbor2.loads(event.payload)
    nonce, delay_ms = recorded.get("id"), recorded.get("delay_ms")
    return FeedbackRecord(
        sequence=event.sequence,
        time=_learning.timestamp(event.time_ms),
        principal=event.principal,
        decision_id=None if nonce is None else id_of(nonce),
        status=recorded["status"],
        reward=recorded.get("reward"),
        metrics=recorded["metrics"],
        credited=recorded["made"],
        taken=recorded.get("taken"),
        context_key=recorded["key"],
        capsule_version=recorded["capsule_version"],
        delay_seconds=None if delay_ms is None else delay_ms / 1000,
    )


def audit_record(event: Event) -> AuditRecord:
    detail = {} if event.erased else plain(cbor2.loads(event.payload))
    # The definition belongs to the capsule, which the digest names; here it would bury who did what.
    detail.pop("definition", None)
    if isinstance(detail.get("overrides"), str):
        detail["overrides"] = json.loads(detail["overrides"])
    job, _, capsule = event.path.partition("/")
    return AuditRecord(
        sequence=event.sequence,
        time=_learning.timestamp(event.time_ms),
        type=event.type,
        principal=event.principal,
        job=job or None,
        capsule=capsule or None,
        detail=detail,
    )


def _page(store: Store, place: Place, types: Collection[str], after: int, limit: int) -> list[Event]:
    store._state(place)
    _check_page(after, limit)
    # What was answered a moment ago is in the page.
    store._durable()
    found = (event for event in events_of(store, place, after) if event.type in types and not event.erased)
    return list(islice(found, limit))


def events_of(store: Store, place: Place, after: int) -> Iterator[Event]:
    """The durable events of one capsule from after a sequence number."""
    tenant, job, capsule = place
    path = f"{job}/{capsule}"
    return (event for event in store._journal.read(tenant, after) if event.path == path)


def _check_page(after: object, limit: object) -> None:
    for name, value, least, most in (("after", after, 0, 2**53), ("limit", limit, 1, MAX_PAGE)):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidField(
                f"{name} is out of range",
                pointer=f"/{name}",
                value=shown(value),
                remedy="use 0, or the sequence of the last row of the page before"
                if name == "after"
                else f"use 1 to {MAX_PAGE}",
            )


def lengths_of(store: Store) -> dict[str, int]:
    """How many events each tenant's stream has."""
    return {tenant: store._journal.length(tenant) for tenant in store._journal.streams()}
