"""The journal folded again: up to one decision, or whole, beside the live state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cbor2

from capsa import _native
from capsa.decisions import _feedback
from capsa.decisions._fold import CapsuleState, Fold
from capsa.decisions._history._records import Difference, Rebuild, RebuiltCapsule, Replay
from capsa.decisions._history._views import Place, decided_event, events_of, lengths_of
from capsa.decisions._ids import decision_id as id_of
from capsa.journal import Event

if TYPE_CHECKING:
    from capsa.decisions._store import Store


def replay(store: Store, place: Place, decision_id: object) -> Replay:
    """Folds the journal up to the learner version of a decision, and makes it again.

    Raises:
        UnknownDecision: No decision of this capsule has this id, or it was erased.
        JournalMismatch: The journal cannot be folded.
    """
    live = store._state(place)
    nonce = _feedback.find(live, decision_id).decision.nonce
    store._durable()
    decided = decided_event(store, place, nonce, decision_id)
    decision = live.native.read_decision(decided.payload)
    fold = Fold(store._components.load)
    notes: list[str] = []
    for event in events_of(store, place, 0):
        state = fold.capsules.get(place)
        # What comes between that learner version and the record has changed the state since.
        if state is not None and state.native.learner_version >= decision.learner_version:
            break
        if event.sequence >= decided.sequence:
            break
        if not event.erased:
            fold.apply(event)
        elif event.type != "decided":
            notes.append(f"event {event.sequence} was erased: the state of that time cannot be folded again")
            break
    return _made_again(None if notes else fold.capsules.get(place), decided, decision, notes)


def _made_again(
    state: CapsuleState | None, event: Event, decision: _native.Decision, notes: list[str]
) -> Replay:
    compared: list[str] = []
    differences: list[Difference] = []
    drawn = decision.draw_again()
    if drawn is not None:
        compared.append("draw")
        asked = decision.suggested.option if decision.suggested else decision.option
        if drawn != asked:
            differences.append(Difference(what="draw", recorded=asked, again=drawn))
    if state is not None:
        compared += ["choices", "propensity", "probabilities", "record"]
        again = _native.decide_again(state.native, decision, event.time_ms)
        differences += _record_differences(event.payload, again.payload)
    return Replay(
        decision_id=id_of(decision.nonce),
        sequence=event.sequence,
        learner_version=decision.learner_version,
        equal=not differences if compared else None,
        compared=compared,
        differences=differences,
        notes=notes,
    )


def _record_differences(recorded: bytes, again: bytes) -> list[Difference]:
    """What two payloads of ``decided`` say differently."""
    if recorded == again:
        return []
    one, other = cbor2.loads(recorded), cbor2.loads(again) if again else {}
    return [
        Difference(what=name, recorded=one.get(name), again=other.get(name))
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ] or [Difference(what="record", recorded=recorded.hex(), again=again.hex())]


def rebuild(store: Store) -> Rebuild:
    """Folds the whole journal again, and compares it with the live state.

    Raises:
        JournalMismatch: The journal cannot be folded.
        StoreDamaged: It cannot be read.
    """
    store._check_usable()
    now_ms = store._now_ms()
    with store._lock:
        # One moment: what is appended is folded under the same lock.
        lengths = lengths_of(store)
        live = {place: _seen(state, now_ms) for place, state in store._fold.capsules.items()}
    store._durable()
    fold = Fold(store._components.load)
    events = 0
    for tenant, length in lengths.items():
        for event in store._journal.read(tenant, limit=length):
            fold.apply(event)
            events += 1
    again = {place: _seen(state, now_ms) for place, state in fold.capsules.items()}
    capsules = [_compared(place, live.get(place), again.get(place)) for place in sorted(live | again)]
    return Rebuild(
        equal=all(capsule.equal for capsule in capsules), events=events, sequences=lengths, capsules=capsules
    )


def _seen(state: CapsuleState, now_ms: int) -> dict[str, Any]:
    """What two folds of the same events have in common."""
    native = state.native
    pending, expired = state.ledger.waiting(now_ms)
    return {
        "state_hash": native.state_hash,
        "capsule_version": native.version,
        "component": native.component_digest,
        "learner_version": native.learner_version,
        "learning_version": state.learning_version,
        "overrides": json.loads(native.overrides),
        "overridden": state.changed,
        "counts": native.counts(),
        "pending": pending,
        "expired": expired,
    }


def _compared(place: Place, live: dict[str, Any] | None, again: dict[str, Any] | None) -> RebuiltCapsule:
    if live is None or again is None:
        there = Difference(what="capsule", recorded=live is not None, again=again is not None)
        differences = [there]
    else:
        differences = [
            Difference(what=name, recorded=value, again=again[name])
            for name, value in live.items()
            if again[name] != value
        ]
    tenant, job, capsule = place
    return RebuiltCapsule(
        tenant=tenant,
        job=job,
        capsule=capsule,
        state_hash=None if again is None else again["state_hash"],
        learner_version=None if again is None else again["learner_version"],
        decisions=None if again is None else again["counts"]["decisions"],
        equal=not differences,
        differences=differences,
    )
