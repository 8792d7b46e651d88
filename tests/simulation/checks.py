"""What must hold of a store at any moment, by the model beside it."""

from __future__ import annotations

import collections
import math
from typing import Final

from tests.simulation.happened import Decided, Passed, Place, Received, Sealed
from tests.simulation.model import PARTS, CapsuleModel, Model

import capsa
from capsa.decisions import _snapshots
from capsa.decisions._fold import Fold
from capsa.journal import Event

TOLERANCE: Final = 1e-9


class Violated(AssertionError):
    """What must hold does not."""


def same(what: str, found: object, expected: object) -> None:
    """Both are equal; numbers to 1e-9."""
    if isinstance(found, float) and isinstance(expected, float | int):
        equal = math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    else:
        equal = found == expected
    if not equal:
        raise Violated(f"{what}: found {found!r}, expected {expected!r}")


def check_decision(
    decision: capsa.Decision,
    model: CapsuleModel,
    key: str,
    allowed: dict[str, list[str]],
    current: dict[str, str] | None,
) -> None:
    same("mode and key", (decision.mode, decision.context_key), (model.mode, key))
    same("strategies", list(decision.choices), list(allowed))
    for strategy, option in decision.choices.items():
        if option not in allowed[strategy]:
            raise Violated(f"{option} of {strategy} was answered; allowed are {allowed[strategy]}")
    if model.mode == "shadow" and current is not None:
        same("the answer in shadow", dict(decision.choices), current)
    if model.mode != "live":
        same("propensity", decision.propensity, None)
        return
    assert decision.propensity is not None
    if not 0 < decision.propensity <= 1 + TOLERANCE:
        raise Violated(f"the propensity is {decision.propensity}")
    if decision.probabilities is not None:
        same("the sum of probabilities", sum(decision.probabilities), 1.0)
        assert decision.option is not None
        same("propensity", decision.propensity, decision.probabilities[decision.option])
        possible = sum(probability > 0 for probability in decision.probabilities)
        # Frozen, it explores nothing.
        expected = 1 if model.frozen else len(next(iter(allowed.values())))
        same("options with a probability", possible, expected)


def check_answer(answer: capsa.Feedback, expected: Received) -> None:
    same("sequence", answer.sequence, expected.sequence)
    same("id and key", (answer.decision_id, answer.context_key), (expected.id, expected.key))
    same("missing", set(answer.missing), set(expected.missing))
    same("metrics with a part", set(answer.parts), set(expected.parts))
    for name, part in answer.parts.items():
        same(f"the part of {name}", part, expected.parts[name])
    same("reward", answer.reward, expected.reward)


def capsule_at(store: capsa.Store, place: Place) -> capsa.Capsule:
    """The capsule of a place."""
    tenant, name = place
    return store.tenant(tenant).job("default").capsule(name)


def check_reports(
    store: capsa.Store, model: Model, repeated: collections.Counter[Place], now_ms: int
) -> None:
    """The reports, against the model's counts."""
    for place, counts in model.capsules.items():
        capsule = capsule_at(store, place)
        report = capsule.report()
        feedback = report.feedback
        pending, expired = counts.waiting(now_ms)
        found = (feedback.pending, feedback.expired, feedback.repeated, feedback.without_decision)
        expected = (pending, expired, repeated[place], counts.without_decision)
        same("pending, expired, repeated, without decision", found, expected)
        for status in ("applied", "late", "frozen", "kept"):
            same(status, getattr(feedback, status), counts.statuses[status])
        same("defaulted", feedback.defaulted, counts.defaulted)
        same("decisions", report.decisions, counts.recorded)
        same("version", report.capsule_version, counts.version)
        same("sequence", report.sequence, model.length(place[0]))
        same("frozen and mode", (report.frozen, report.mode), (counts.frozen, counts.mode))
        mean = sum(counts.learned) / len(counts.learned) if counts.learned else None
        same("mean reward", report.reward_mean, mean)
        for strategy in report.strategies:
            for option in strategy.options:
                choice = (strategy.strategy, option.option_name)
                rewards = counts.credited[choice]
                same(
                    f"counts of {choice}",
                    (option.decisions, option.rewards),
                    (counts.answered[choice], len(rewards)),
                )
                same(f"mean of {choice}", option.mean, sum(rewards) / len(rewards) if rewards else None)
        learned_in = {row.context_key: row.rewards for row in capsule.contexts(limit=1000)}
        if not counts.was_narrow:
            same("rewards by key", learned_in, dict(counts.learned_in))
        if len(learned_in) > counts.max_contexts:
            raise Violated(f"{len(learned_in)} contexts are held, {counts.max_contexts} are allowed")


def check_journal(store: capsa.Store, model: Model, *, partly_erased: bool = False) -> None:
    """It verifies, it holds what happened in order, and no decision is learned in it twice.

    Args:
        store: The store.
        model: The model beside it.
        partly_erased: What is to be erased may still be there.
    """
    store.journal.flush()
    same("verify", store.journal.verify(), [])
    for tenant, stream in model.streams.items():
        events = list(store.journal.read(tenant))
        expected = [event for _, event in stream.events[stream.first - 1 :]]
        same(f"types of events of {tenant}", [event.type for event in events], [e.type for e in expected])
        same("their times", [e.time_ms for e in events], [at for at, _ in stream.events[stream.first - 1 :]])
        learned: set[str] = set()
        for event, happened in zip(events, expected, strict=True):
            # What was purged and not yet cut off: nobody is left who could read it.
            if not isinstance(happened, Decided | Received | Passed) or event.sequence < stream.purged:
                continue
            if event.erased or not partly_erased:
                check_erased(model, event, happened)
            if not event.erased:
                check_event(store, event, happened)
            if happened.id is not None and not event.erased and getattr(happened, "status", "") == "applied":
                if happened.id in learned:
                    raise Violated(f"event {event.sequence} learns a decision again")
                learned.add(happened.id)


def check_erased(model: Model, event: Event, happened: Decided | Received | Passed) -> None:
    """Its content is gone if it is about somebody who was erased, and only then."""
    row = model.capsules[happened.place].decisions.get(happened.id or "")
    same("whether it was erased", event.erased, row is not None and row.erased)
    same("whether content is left", event.payload == b"", event.erased)


def check_event(store: capsa.Store, event: Event, happened: Decided | Received | Passed) -> None:
    """An event about a decision says what happened."""
    tenant, name = happened.place
    native = store._fold.capsules[tenant, "default", name].native
    if isinstance(happened, Decided):
        decision = native.read_decision(event)
        same("the recorded id", decision.id, happened.id)
        same("the recorded choices", decision.choices, happened.choices)
        same("the recorded defaults", decision.defaults, happened.defaults)
        same("whether a subject is recorded", decision.subject is not None, happened.subject is not None)
        return
    outcome = native.read_outcome(event)
    same("the recorded status", outcome["status"], happened.status)
    same("the recorded reward", outcome["reward"], happened.reward)
    same("the recorded metrics", outcome["metrics"], happened.metrics)
    same("what was carried out", outcome["made"], happened.made)
    if happened.id is not None:
        opened = native.open_id(happened.id)
        assert opened is not None
        same("the decision that it is about", outcome["id"], opened.nonce)


def check_cut(store: capsa.Store, model: Model, retention_ms: int | None, now_ms: int) -> None:
    """What retention has cut off was old enough. The model takes it over."""
    for tenant, stream in model.streams.items():
        first = store.journal.first(tenant)
        if first < stream.first:
            raise Violated(f"the first event of {tenant} is {first}; it was {stream.first}")
        if first > max(stream.purged, stream.first):
            if retention_ms is None:
                raise Violated(f"{tenant} was cut at {first}, and everything is to be kept")
            age_ms = now_ms - stream.events[first - 2][0]
            if age_ms < max(retention_ms, model.kept_ms(tenant)):
                raise Violated(f"an event of {tenant} was cut off at an age of {age_ms} ms")
        stream.first = first


def check_trimmed(model: Model, retention_ms: int | None, now_ms: int) -> None:
    """After a round of upkeep nothing is there that a snapshot let be cut off, but an eighth of the retention."""
    if retention_ms is None:
        return
    for tenant, stream in model.streams.items():
        before_ms = now_ms - max(retention_ms, model.kept_ms(tenant))
        old_ms = [
            time_ms
            for time_ms, event in stream.events[stream.purged :]
            if isinstance(event, Sealed) and time_ms <= before_ms
        ]
        oldest_ms = stream.events[stream.first - 1][0]
        if old_ms and oldest_ms < max(old_ms) - retention_ms // PARTS:
            raise Violated(
                f"the oldest event of {tenant} is {max(old_ms) - oldest_ms} ms older than a snapshot"
            )


def check_start(store: capsa.Store, model: Model) -> None:
    """A start begins at the newest snapshot, and comes to the state that the store has."""
    store.journal.flush()
    for tenant, stream in model.streams.items():
        fold = Fold(store._components, store._ids.ring)
        mark = _snapshots.start(_snapshots.Marks(store.journal), fold, tenant)
        begin = store._marks.last_purge(tenant) if mark is None else mark.sequence
        same(f"where a start of {tenant} begins", begin, stream.beginning)
        same("the state at a start", states(fold, tenant), states(store._fold, tenant))
        if stream.whole:
            check_fold(store, tenant)


def check_fold(store: capsa.Store, tenant: str) -> None:
    """All events of a tenant folded from nothing give the state that the store has."""
    fold = Fold(store._components, store._ids.ring)
    for event in store.journal.read(tenant):
        fold.apply(event)
    same("the state folded from nothing", states(fold, tenant), states(store._fold, tenant))


def states(fold: Fold, tenant: str) -> dict[object, object]:
    """All that a fold has made of a tenant."""
    return {place: state.snapshot() for place, state in fold.capsules.items() if place[0] == tenant}


def check_rebuild(store: capsa.Store) -> None:
    """Folding from where the epoch begins gives the live state."""
    rebuilt = store.rebuild()
    if not rebuilt.equal:
        differing = [capsule for capsule in rebuilt.capsules if not capsule.equal]
        raise Violated(f"a rebuild differs: {differing}")
