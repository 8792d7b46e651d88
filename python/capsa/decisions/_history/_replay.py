"""The journal folded again: up to one decision, or whole, beside the live state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from capsa import _native
from capsa.decisions import _feedback, _snapshots
from capsa.decisions._fold import CapsuleState, Fold, Place
from capsa.decisions._history._json import plain
from capsa.decisions._history._records import Difference, Rebuild, RebuiltCapsule, Replay
from capsa.decisions._history._views import decided_event, events_of, lengths_of
from capsa.journal import Event

if TYPE_CHECKING:
    from capsa.decisions._store import Store


def replay(store: Store, place: Place, decision_id: object) -> Replay:
    """Folds the journal up to the learner version of a decision, and makes it again.

    Raises:
        UnknownDecision: No decision of this capsule has this id, or it was erased.
        JournalMismatch: The journal cannot be folded.
    """
    live, tenant = store._state(place), place[0]
    about = _feedback.find(store._journal, live, tenant, decision_id, store._now_ms())
    store._durable()
    decided, notes = decided_event(store, place, about, decision_id)
    if decided is None:
        return Replay(
            decision_id=str(decision_id),
            sequence=about.decision.sequence or 0,
            learner_version=None,
            equal=None,
            compared=[],
            differences=[],
            notes=notes,
        )
    decision = live.native.read_decision(decided)
    fold = Fold(store._components, store._ids.ring)
    after = _start_before(store, fold, place, decided, decision.learner_version)
    if after is None:
        notes = ["the journal was cut after that time: only the draw can be compared"]
        return _made_again(None, decided, decision, notes)
    for event in events_of(store, place, after):
        state = fold.capsules.get(place)
        # What comes between that learner version and the record has changed the state since.
        if state is not None and state.native.learner_version >= decision.learner_version:
            break
        if event.sequence >= decided.sequence:
            break
        if not event.erased:
            fold.apply(event)
        elif event.type != "decided":
            notes = [f"event {event.sequence} was erased: the state of that time cannot be folded again"]
            break
    return _made_again(None if notes else fold.capsules.get(place), decided, decision, notes)


def _start_before(store: Store, fold: Fold, place: Place, decided: Event, learner_version: int) -> int | None:
    """Brings a fold to the newest snapshot before a decision's learner version.

    Gives the sequence from after which events are to be folded; ``None`` where nothing to begin with is left.
    """
    journal, (tenant, job, name) = store._journal, place
    # What stands before its install is of another capsule of the same name.
    began = store._state(place).began
    for mark in reversed(store._marks.snapshots(tenant)):
        if not began < mark.sequence < decided.sequence:
            continue
        if _snapshots.load(journal, fold, tenant, mark, only=f"{job}/{name}"):
            state = fold.capsules.get(place)
            if state is None or state.native.learner_version <= learner_version:
                return mark.sequence
            fold.forget(tenant)
    return began - 1 if journal.first(tenant) <= began else None


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
        differences += _record_differences(decision.record(), again.record())
    return Replay(
        decision_id=decision.id or "",
        sequence=event.sequence,
        learner_version=decision.learner_version,
        equal=not differences if compared else None,
        compared=compared,
        differences=differences,
        notes=notes,
    )


def _record_differences(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """What two records say differently."""
    return [
        Difference(what=name, recorded=plain(value), again=plain(other[name]))
        for name, value in one.items()
        if other[name] != value
    ]


def rebuild(store: Store) -> Rebuild:
    """Folds the journal again from where its epoch begins, and compares it with the live state.

    Raises:
        JournalMismatch: The journal cannot be folded.
        StoreDamaged: It cannot be read.
    """
    store._check_usable()
    now_ms = store._now_ms()
    with store._lock:
        # One moment: what is appended is folded under the same lock.
        lengths = lengths_of(store)
        live = _seen_all(store._fold, now_ms)
        live_jobs = _jobs(store._fold)
    store._durable()
    fold = Fold(store._components, store._ids.ring)
    events = 0
    for tenant, length in lengths.items():
        begin = _snapshots.epoch_start(store._marks, fold, tenant)
        for event in store._journal.read(tenant, begin):
            if event.sequence > length:
                break
            fold.apply(event)
            events += 1
    again = _seen_all(fold, now_ms)
    capsules = [_compared(place, live.get(place), again.get(place)) for place in sorted(live | again)]
    again_jobs = _jobs(fold)
    jobs = [
        Difference(what="/".join(job), recorded=live_jobs.get(job), again=again_jobs.get(job))
        for job in sorted(live_jobs | again_jobs)
        if live_jobs.get(job) != again_jobs.get(job)
    ]
    return Rebuild(
        equal=not jobs and all(capsule.equal for capsule in capsules),
        events=events,
        sequences=lengths,
        capsules=capsules,
        jobs=jobs,
    )


def _jobs(fold: Fold) -> dict[tuple[str, ...], dict[str, Any]]:
    """What two folds of the same events have in common beside the capsules, by tenant and job.

    Not when they were made: of a snapshot that does not say so, it depends on what is still there.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for tenant, state in fold.tenants.items():
        found[tenant,] = {"erasing": dict(state.erasing), "settings": msgspec.to_builtins(state.settings)}
        for name, job in state.jobs.items():
            found[tenant, name] = {"description": job.description, "metadata": job.metadata}
    return found


def _seen_all(fold: Fold, now_ms: int) -> dict[Place, dict[str, Any]]:
    """What two folds of the same events have in common of their capsules."""
    seen = {place: _seen(state, now_ms) for place, state in fold.capsules.items()}
    for place, tool in fold.tools.items():
        seen[place] = {
            "state_hash": tool.state_hash,
            "capsule_version": tool.in_force.version,
            # A tool learns nothing.
            "learner_version": None,
            "counts": {"decisions": None},
        }
    return seen


def _seen(state: CapsuleState, now_ms: int) -> dict[str, Any]:
    """What two folds of the same events have in common."""
    native = state.native
    return {
        "state_hash": native.state_hash,
        "capsule_version": native.version,
        "component": native.component_digest,
        "learner_version": native.learner_version,
        "learning_version": state.learning_version,
        "overrides": json.loads(native.overrides),
        "overridden": state.changed,
        "counts": native.counts(now_ms),
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
