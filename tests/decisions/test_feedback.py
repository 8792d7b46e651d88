"""Posts of feedback: parts, repeats, conflicts, and what becomes of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.reference.clock import Clock

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [tier]
reward:
  quality: {weight: 0.6}
  latency_ms: {weight: -0.2, budget: 2000}
  cost_usd: {weight: -0.2, range: [0, 0.02]}
horizon: {after: 7d}
"""
WHOLE = {"quality": 0.9, "latency_ms": 640, "cost_usd": 0.0011}
DAY = 86400.0


@pytest.fixture
def router(store: capsa.Store) -> capsa.Capsule:
    return store.install(SPEC)


@pytest.fixture
def decided(router: capsa.Capsule) -> str:
    decision_id = router.decide({"tier": "free"}).id
    assert decision_id is not None
    return decision_id


@contextmanager
def nothing_changes(store: capsa.Store, capsule: capsa.Capsule) -> Iterator[None]:
    """Neither state nor journal nor settings."""
    before = (capsule.state_hash, store.journal.length("default"), capsule.learning)
    yield
    assert (capsule.state_hash, store.journal.length("default"), capsule.learning) == before


def test_a_whole_outcome_is_learned(store: capsa.Store, router: capsa.Capsule, decided: str) -> None:
    """The number of the contract's example, with its parts."""
    version = router.report().state_hash
    feedback = router.feedback(decided, outcome=WHOLE)
    assert (feedback.decision_id, feedback.status, feedback.missing) == (decided, "applied", [])
    assert feedback.reward == pytest.approx(0.465)
    assert feedback.parts == pytest.approx({"quality": 0.54, "latency_ms": -0.064, "cost_usd": -0.011})
    assert (feedback.context_key, feedback.strategy) == ("free", "choice")
    assert feedback.before == pytest.approx([1 / 3] * 3)
    assert feedback.after != feedback.before
    assert feedback.sequence == store.journal.length("default")
    assert router.report().state_hash != version


def test_parts_may_come_in_several_posts(router: capsa.Capsule, decided: str) -> None:
    """Learned when all are there; what is learned is what one post would have taught."""
    state = router.state_hash
    first = router.feedback(decided, outcome={"latency_ms": 640})
    assert (first.status, first.reward, first.missing) == ("pending", None, ["cost_usd", "quality"])
    assert first.parts == pytest.approx({"latency_ms": -0.064})
    assert (first.before, router.state_hash) == (first.after, state)
    assert router.report().feedback.pending == 1
    second = router.feedback(decided, outcome={"cost_usd": 0.0011, "latency_ms": 640})
    assert (second.status, second.missing) == ("pending", ["quality"])
    last = router.feedback(decided, outcome={"quality": 0.9})
    assert (last.status, last.missing) == ("applied", [])
    assert last.reward == pytest.approx(0.465)
    assert set(last.parts) == {"quality", "latency_ms", "cost_usd"}
    assert router.report().feedback.pending == 0


def test_flags_and_integers_are_numbers(router: capsa.Capsule, decided: str) -> None:
    feedback = router.feedback(decided, outcome={"quality": True, "latency_ms": 4000, "cost_usd": 0})
    assert feedback.reward == pytest.approx(0.6 - 0.2)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ({"outcome": WHOLE}, {"outcome": WHOLE}),
        ({"outcome": WHOLE}, {"outcome": {"quality": 0.9}}),
        ({"outcome": {"quality": True}}, {"outcome": {"quality": 1}}),
        ({"outcome": {"quality": 0.5}}, {"outcome": {"quality": 0.5}}),
        ({"reward": 0.25}, {"reward": 0.25}),
        ({"reward": 1}, {"reward": True}),
        ({"reward": 0.25, "taken": "dear"}, {"reward": 0.25, "taken": 2}),
        ({"reward": 0.25, "taken": None}, {"reward": 0.25, "taken": None}),
        ({"reward": 0.25, "taken": "dear"}, {"reward": 0.25}),
    ],
)
def test_the_same_content_again_is_repeated(
    store: capsa.Store, router: capsa.Capsule, decided: str, first: dict[str, Any], again: dict[str, Any]
) -> None:
    """The first result, and nothing changes but a count."""
    answer = router.feedback(decided, **first)
    with nothing_changes(store, router):
        repeated = router.feedback(decided, **again)
    assert repeated.status == "repeated"
    assert (repeated.reward, repeated.parts, repeated.missing) == (
        answer.reward,
        answer.parts,
        answer.missing,
    )
    assert (repeated.before, repeated.after) == (answer.before, answer.after)
    assert (repeated.sequence, repeated.learner_version) == (answer.sequence, answer.learner_version)
    assert router.report().feedback.repeated == 1


@pytest.mark.parametrize(
    ("first", "other", "pointer"),
    [
        ({"outcome": WHOLE}, {"outcome": {**WHOLE, "quality": 0.8}}, "/outcome/quality"),
        ({"outcome": {"quality": 0.9}}, {"outcome": {"quality": 0.8, "cost_usd": 0.01}}, "/outcome/quality"),
        ({"outcome": {"quality": 0.9}}, {"reward": 0.5}, "/reward"),
        ({"outcome": WHOLE}, {"reward": 0.465}, "/reward"),
        ({"reward": 0.5}, {"reward": 0.6}, "/reward"),
        ({"reward": 0.5}, {"outcome": {"quality": 0.9}}, "/outcome"),
        ({"reward": 0.5, "taken": "dear"}, {"reward": 0.5, "taken": "cheap"}, "/taken"),
        ({"reward": 0.5, "taken": "dear"}, {"reward": 0.5, "taken": None}, "/taken"),
        ({"reward": 0.5, "taken": None}, {"reward": 0.5, "taken": "dear"}, "/taken"),
        (
            {"outcome": {"quality": 0.9}, "taken": "dear"},
            {"outcome": {"cost_usd": 0}, "taken": "cheap"},
            "/taken",
        ),
    ],
)
def test_other_content_is_a_conflict(
    store: capsa.Store,
    router: capsa.Capsule,
    decided: str,
    first: dict[str, Any],
    other: dict[str, Any],
    pointer: str,
) -> None:
    """Nothing of the post counts."""
    answer = router.feedback(decided, **first)
    with nothing_changes(store, router), pytest.raises(capsa.FeedbackConflict) as caught:
        router.feedback(decided, **other)
    assert caught.value.pointer == pointer
    assert caught.value.remedy
    again = router.feedback(decided, **first)
    assert (again.status, again.reward) == ("repeated", answer.reward)


def test_taken_gets_the_credit(router: capsa.Capsule) -> None:
    """Whatever was answered, and also where it was not allowed."""
    decision = router.decide({"tier": "free"}, options=["cheap", "balanced"])
    feedback = router.feedback(decision.id, reward=1.0, taken="dear")
    assert (feedback.status, feedback.option, feedback.option_name) == ("applied", 2, "dear")
    assert feedback.before is not None
    assert feedback.after is not None
    assert feedback.after[2] > feedback.before[2]
    assert max(feedback.after[:2]) < feedback.before[0]


def test_nothing_taken_is_kept_and_not_learned(router: capsa.Capsule, decided: str) -> None:
    state = router.state_hash
    feedback = router.feedback(decided, reward=1.0, taken=None)
    assert (feedback.status, feedback.reward, feedback.decisions) == ("kept", 1.0, [])
    assert router.state_hash == state
    assert router.report().feedback.kept == 1


def test_late_is_kept_and_not_learned(router: capsa.Capsule, clock: Clock, decided: str) -> None:
    """The horizon's last moment is in time; a millisecond later is late."""
    other = router.decide({"tier": "free"}).id
    clock.forward(7 * DAY)
    assert router.feedback(decided, outcome=WHOLE).status == "applied"
    clock.forward(0.001)
    state = router.state_hash
    feedback = router.feedback(other, outcome=WHOLE)
    assert (feedback.status, router.state_hash) == ("late", state)
    assert router.feedback(other, outcome=WHOLE).status == "repeated"
    report = router.report().feedback
    assert (report.applied, report.late, report.pending) == (1, 1, 0)


def test_parts_after_the_horizon_are_late(router: capsa.Capsule, clock: Clock, decided: str) -> None:
    router.feedback(decided, outcome={"quality": 0.9})
    # What a report counts as expired is known to a 256th of the horizon.
    clock.forward(7 * DAY * 257 / 256)
    assert router.report().feedback.expired == 1
    state = router.state_hash
    assert router.feedback(decided, outcome={"latency_ms": 640}).status == "late"
    assert router.feedback(decided, outcome={"cost_usd": 0.0011}).status == "late"
    assert router.state_hash == state


def test_a_changed_horizon_holds_for_later_decisions(
    router: capsa.Capsule, clock: Clock, decided: str
) -> None:
    router.update_learning(horizon={"after": "1h"})
    later = router.decide({"tier": "free"}).id
    clock.forward(DAY)
    assert router.feedback(decided, outcome=WHOLE).status == "applied"
    assert router.feedback(later, outcome=WHOLE).status == "late"


def test_feedback_while_frozen_is_kept(router: capsa.Capsule, decided: str) -> None:
    """And stays so: unfreezing does not learn it afterwards."""
    router.update_learning(rails={"freeze": True})
    assert router.feedback(decided, outcome=WHOLE).status == "frozen"
    router.update_learning(rails={"freeze": False})
    state = router.state_hash
    assert router.feedback(decided, outcome=WHOLE).status == "repeated"
    assert router.state_hash == state


def test_feedback_goes_to_the_key_of_its_decision(router: capsa.Capsule, decided: str) -> None:
    """And to the option's name, whatever version is installed by then."""
    feedback = router.feedback(decided, reward=1.0)
    (row,) = router.contexts()
    assert (row.context_key, row.rewards, row.decisions) == ("free", 1, 1)
    assert row.weights["choice"] == feedback.after


def test_the_explicit_form(router: capsa.Capsule) -> None:
    """An outcome of a choice that was not asked for here; counted apart, and not once-only."""
    forms: list[str | int | None] = [0, "choice", None]
    for strategy in forms:
        feedback = router.feedback(strategy=strategy, option=1, reward=1.0, context_key="rush_hour")
        assert (feedback.decision_id, feedback.status, feedback.context_key) == (None, "applied", "rush_hour")
        assert (feedback.option, feedback.option_name) == (1, "balanced")
    report = router.report()
    assert (report.feedback.applied, report.feedback.without_decision, report.decisions) == (3, 3, 0)
    (row,) = router.contexts()
    assert (row.context_key, row.rewards, row.decisions) == ("rush_hour", 3, 0)
    router.update_learning(rails={"freeze": True})
    assert router.feedback(option="dear", reward=0, context_key="x").status == "frozen"


def test_the_explicit_form_credits_one_of_several_strategies(store: capsa.Store) -> None:
    capsule = store.install("name: two\nstrategies: {x: {options: [a, b]}, y: {options: [c, d]}}\n")
    feedback = capsule.feedback(strategy="y", option="d", reward=1.0, context_key="default")
    assert [(part.strategy_id, part.strategy, part.option_name) for part in feedback.decisions] == [
        (1, "y", "d")
    ]
    (row,) = capsule.contexts()
    assert row.weights["x"] == pytest.approx([0.5, 0.5])
    assert row.weights["y"][1] > 0.5


def test_plain_rewards_without_declared_metrics(store: capsa.Store) -> None:
    capsule = store.install("name: plain\noptions: [a, b]\nreward_range: [0, 1]\n")
    decision = capsule.decide()
    feedback = capsule.feedback(decision.id, reward=1)
    assert (feedback.status, feedback.reward, feedback.parts, feedback.context_key) == (
        "applied",
        1.0,
        {},
        "default",
    )


def test_an_id_belongs_to_one_capsule(store: capsa.Store, router: capsa.Capsule, decided: str) -> None:
    """The same name in another job, and another capsule of the same job, do not know it."""
    for other in [store.job("other").install(SPEC), store.install(SPEC.replace("router", "router2"))]:
        with nothing_changes(store, router), pytest.raises(capsa.UnknownDecision):
            other.feedback(decided, outcome=WHOLE)


def test_the_answer_keeps_the_declared_order_of_strategies(store: capsa.Store) -> None:
    """With or without `taken`."""
    retries = store.install(
        "name: retries\nstrategies: {timeout: {options: [1s, 2s]}, retries: {options: ['0', '1']}}\n"
    )
    carried_out = {"timeout": "2s", "retries": "1"}
    for taken in ({}, {"taken": carried_out}):
        more: dict[str, Any] = taken
        answer = retries.feedback(retries.decide().id, reward=0.5, **more)
        assert [part.strategy for part in answer.decisions] == ["timeout", "retries"]
        assert [part.strategy_id for part in answer.decisions] == [0, 1]
    assert {part.strategy: part.option_name for part in answer.decisions} == carried_out
