"""What must hold of a store at any moment, by the model beside it."""

from __future__ import annotations

import math
from typing import Final

import cbor2
from tests.simulation.model import CapsuleModel, Model, Received

import capsa

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


def check_reports(store: capsa.Store, model: Model, repeated: dict[str, int], now_ms: int) -> None:
    """The reports, against the model's counts."""
    for name in ("router", "retries"):
        capsule, counts = store.capsule(name), model.capsules[name]
        report = capsule.report()
        feedback = report.feedback
        pending, expired = counts.waiting(now_ms)
        found = (feedback.pending, feedback.expired, feedback.repeated, feedback.without_decision)
        expected = (pending, expired, repeated[name], counts.without_decision)
        same("pending, expired, repeated, without decision", found, expected)
        for status in ("applied", "late", "frozen", "kept"):
            same(status, getattr(feedback, status), counts.statuses[status])
        same("decisions", report.decisions, len(counts.decisions))
        same("version", report.capsule_version, counts.version)
        same("sequence", report.sequence, len(model.events))
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


def check_journal(store: capsa.Store, model: Model) -> None:
    """It verifies, it holds what happened in order, and no decision is learned in it twice."""
    store.journal.flush()
    same("verify", store.journal.verify(), [])
    events = list(store.journal.read("default"))
    same("types of events", [event.type for event in events], [event.type for event in model.events])
    learned: set[bytes] = set()
    for event, expected in zip(events, model.events, strict=True):
        if not isinstance(expected, Received):
            continue
        outcome = cbor2.loads(event.payload)
        same("the recorded status", outcome["status"], expected.status)
        same("the recorded reward", outcome.get("reward"), expected.reward)
        same("the recorded metrics", outcome["metrics"], expected.metrics)
        same("what was carried out", outcome["made"], expected.made)
        if outcome["status"] == "applied" and outcome.get("id") is not None:
            if outcome["id"] in learned:
                raise Violated(f"event {event.sequence} learns a decision again")
            learned.add(outcome["id"])
