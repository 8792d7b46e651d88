"""Pages of the journal, and the story of one decision.

Everything here reads. Pages go by sequence number: a row's `sequence` is the cursor of the page
after it, and nothing before a cursor is read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import cbor2

from capsa.decisions import _feedback
from capsa.decisions._fold import CapsuleState, Place
from capsa.decisions._history._json import plain
from capsa.decisions._history._records import AuditRecord, DecisionRecord, FeedbackRecord, Story
from capsa.decisions._ids import unknown_decision
from capsa.decisions._ledger import DECIDED, GRACE_MS, event_at
from capsa.errors import InvalidField, shown
from capsa.journal import EVENT_TYPES, Event, timestamp

if TYPE_CHECKING:
    from capsa._native import Capsule as NativeCapsule
    from capsa.decisions._feedback import Subject
    from capsa.decisions._store import Store

#: Most rows in one page.
MAX_PAGE: Final = 1000
#: What people and gates caused: every type but those of single decisions and calls and of the store's own keeping. A call
#: that broke out of its bounds is among them.
AUDITED: Final = EVENT_TYPES - {
    "decided",
    "outcome_received",
    "horizon_passed",
    "snapshot_sealed",
    "kv_changed",
    "invoked",
}
#: What is told about a decision after it was made.
OUTCOMES: Final = frozenset({"outcome_received", "horizon_passed"})

#: Calls of tools, and of decision capsules that broke a limit.
CALLED: Final = frozenset({"invoked", "breached"})


def decisions(store: Store, place: Place, after: int, limit: int) -> list[DecisionRecord]:
    """A page of a capsule's decisions. What was erased is not in it."""
    native = store._state(place).native
    return [decision_record(native, event) for event in _page(store, place, {"decided"}, after, limit)]


def feedback_log(store: Store, place: Place, after: int, limit: int) -> list[FeedbackRecord]:
    """A page of the feedback of a capsule. What was erased is not in it."""
    state = store._state(place)
    return [feedback_record(store, state, event) for event in _page(store, place, OUTCOMES, after, limit)]


def audit(store: Store, tenant: str, after: int, limit: int) -> list[AuditRecord]:
    """A page of the changes that were made in a tenant.

    Raises:
        UnknownTenant: There is none of this name.
    """
    store._check_usable()
    check_page(after, limit)
    store._check_tenant(tenant)
    store._durable()
    found = (event for event in store._journal.read(tenant, after) if event.type in AUDITED)
    return [audit_record(event) for event in islice(found, limit)]


def capsule_audit(store: Store, place: Place, after: int, limit: int) -> list[AuditRecord]:
    """A page of the changes that were made to one capsule."""
    store._check_there(place)
    check_page(after, limit)
    store._durable()
    found = (event for event in events_of(store, place, after) if event.type in AUDITED)
    return [audit_record(event) for event in islice(found, limit)]


def story(store: Store, place: Place, decision_id: object) -> Story:
    """Everything about one decision.

    Raises:
        UnknownDecision: No decision of this capsule has this id, or it was erased or cut off.
    """
    state, tenant = store._state(place), place[0]
    about = _feedback.find(store._journal, state, tenant, decision_id, store._now_ms())
    store._durable()
    decided, notes = decided_event(store, place, about, decision_id)
    # Feedback on a decision that is not recorded may stand before the place that it would have had.
    after = 0 if decided is None else decided.sequence
    posts = [feedback_record(store, state, event) for event in _posts(store, place, about, after)]
    return _told(state, about, decided, posts, notes, store._now_ms())


def _posts(store: Store, place: Place, about: Subject, after: int) -> list[Event]:
    """The outcomes of a decision, in order."""
    journal, tenant = store._journal, place[0]
    if store._now_ms() <= about.deadline_ms + GRACE_MS:
        claimed = {at for key, at in journal.claims(tenant, about.nonce) if key[16:] != DECIDED}
        found = [event_at(journal, tenant, at) for at in sorted(claimed)]
        return [event for event in found if event and event.type in OUTCOMES and not event.erased]
    # By now the journal may have forgotten which they are.
    native = store._state(place).native
    return [
        event
        for event in events_of(store, place, after)
        if event.type in OUTCOMES
        # Before it is decoded: most are of another decision.
        and about.nonce in event.payload
        and _outcome(native, event)["id"] == about.nonce
    ]


def _told(
    state: CapsuleState,
    about: Subject,
    decided: Event | None,
    posts: list[FeedbackRecord],
    notes: list[str],
    now_ms: int,
) -> Story:
    sent = [post for post in posts if not post.by_horizon]
    metrics = {name: value for post in sent for name, value in post.metrics.items()}
    status = posts[-1].status if posts else "pending"
    missing: list[str] = []
    if status == "pending" and now_ms > about.deadline_ms:
        status = "expired"
    if status in ("pending", "expired"):
        told = {name for post in posts for name in post.metrics}
        missing = [name for name in state.native.declared_metrics or [] if name not in told]
    rewards = [post.reward for post in posts if post.reward is not None]
    learned = [post.sequence for post in posts if post.status == "applied"]
    return Story(
        decision=None if decided is None else decision_record(state.native, decided),
        posts=posts,
        status=status,
        reward=rewards[-1] if rewards else None,
        metrics=metrics,
        missing=missing,
        learned_at=learned[0] if learned else None,
        notes=notes,
    )


def decided_event(
    store: Store, place: Place, about: Subject, decision_id: object
) -> tuple[Event | None, list[str]]:
    """The event of a decision; where it is gone, why.

    Raises:
        UnknownDecision: It was erased.
    """
    sequence = about.decision.sequence
    assert sequence is not None
    tenant, job, capsule = place
    event = event_at(store._journal, tenant, sequence)
    # Where a crash took its record, another event may stand there since.
    if (
        event is None
        or (event.type, event.path, event.time_ms) != ("decided", f"{job}/{capsule}", about.decided_ms)
        or not (event.erased or about.nonce in event.payload)
    ):
        return None, ["decision not recorded: the process ended before its record was on disk"]
    if event.erased:
        raise unknown_decision(decision_id)
    return event, []


def decision_record(native: NativeCapsule, event: Event) -> DecisionRecord:
    decision = native.read_decision(event)
    recorded = decision.record()
    suggested = recorded["suggested"]
    if suggested is not None:
        suggested = {
            "choices": suggested["options"],
            "propensity": suggested["propensity"],
            "probabilities": suggested["probabilities"],
            "reason": suggested["reason"],
        }
    return DecisionRecord(
        sequence=event.sequence,
        time=timestamp(event.time_ms),
        principal=event.principal,
        decision_id=decision.id or "",
        capsule_version=recorded["capsule_version"],
        learner_version=recorded["learner_version"],
        mode=recorded["mode"],
        context_key=recorded["key"],
        context_key_from=recorded["key_from"],
        choices=recorded["options"],
        propensity=recorded["propensity"],
        probabilities=recorded["probabilities"],
        reason=recorded["reason"],
        allowed=recorded["allowed"],
        current=recorded["current"],
        baseline=recorded["baseline"],
        suggested=suggested,
        unknown=recorded["unknown"] or [],
        other=recorded["other"] or {},
        deadline=_deadline(recorded["deadline_ms"]),
    )


def _deadline(time_ms: int) -> str:
    try:
        return timestamp(time_ms)
    except (OverflowError, ValueError):
        # A horizon of centuries goes past what a calendar holds.
        return "9999-12-31T23:59:59.999Z"


def _outcome(native: NativeCapsule, event: Event) -> dict[str, Any]:
    return native.read_outcome(event)


def feedback_record(store: Store, state: CapsuleState, event: Event) -> FeedbackRecord:
    recorded = _outcome(state.native, event)
    delay_ms = recorded["delay_ms"]
    return FeedbackRecord(
        sequence=event.sequence,
        time=timestamp(event.time_ms),
        principal=event.principal,
        decision_id=_id_of(store, state, event.stream, recorded),
        status=recorded["status"],
        by_horizon=event.type == "horizon_passed",
        reward=recorded["reward"],
        metrics=recorded["metrics"],
        credited=recorded["made"],
        taken=recorded["taken"],
        context_key=recorded["key"],
        capsule_version=recorded["capsule_version"],
        delay_seconds=None if delay_ms is None else delay_ms / 1000,
    )


def _id_of(store: Store, state: CapsuleState, stream: str, outcome: Mapping[str, Any]) -> str | None:
    """The id of the decision that an outcome is about, from the decision's own record."""
    journal, nonce, sequence = store._journal, outcome["id"], outcome["decided_at"]
    if nonce is not None and sequence is None:
        # Schema 1 did not say where it stands.
        sequence = next((at for _, at in journal.claims(stream, nonce + DECIDED)), None)
    event = None if nonce is None or sequence is None else event_at(journal, stream, sequence)
    if event is None or event.type != "decided" or nonce not in event.payload:
        return None
    return state.native.read_decision(event).id


def audit_record(event: Event) -> AuditRecord:
    detail = {} if event.erased else plain(cbor2.loads(event.payload))
    # The definition belongs to the capsule, which the digest names; here it would bury who did what.
    detail.pop("definition", None)
    # So would a recorded call's content, which is not for everybody who may read who did what.
    detail.pop("recording", None)
    if isinstance(detail.get("overrides"), str):
        detail["overrides"] = json.loads(detail["overrides"])
    job, _, capsule = event.path.partition("/")
    return AuditRecord(
        sequence=event.sequence,
        time=timestamp(event.time_ms),
        type=event.type,
        principal=event.principal,
        job=job or None,
        capsule=capsule or None,
        detail=detail,
    )


def _page(store: Store, place: Place, types: Collection[str], after: int, limit: int) -> list[Event]:
    # What was decided before is forgotten, though perhaps not yet erased.
    since = store._state(place).since
    check_page(after, limit)
    # What was answered a moment ago is in the page.
    store._durable()
    events = events_of(store, place, max(after, since))
    return list(islice((event for event in events if event.type in types and not event.erased), limit))


def events_of(store: Store, place: Place, after: int) -> Iterator[Event]:
    """The durable events of one capsule from after a sequence number."""
    tenant, job, capsule = place
    path = f"{job}/{capsule}"
    return (event for event in store._journal.read(tenant, after) if event.path == path)


def check_page(after: object, limit: object) -> None:
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
