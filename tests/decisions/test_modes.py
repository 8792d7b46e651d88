"""What is answered in each mode, and what is credited."""

from __future__ import annotations

import pytest

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
baseline: balanced
contexts: [tier]
reward: {quality: 0.6, cost: -0.2}
"""

RETRIES = """\
name: retries
strategies:
  timeout: {options: [1s, 2s, 5s], baseline: 2s}
  retries: {options: ["0", "1", "3"], baseline: "1"}
valid:
  - {timeout: 1s}
  - {timeout: [2s, 5s], retries: ["0", "1"]}
"""


@pytest.fixture
def router(store: capsa.Store) -> capsa.Capsule:
    return store.install(SPEC)


def test_live_answers_what_it_drew(store: capsa.Store, router: capsa.Capsule) -> None:
    decision = router.decide({"tier": "free"}, current="dear")
    assert decision.id is not None
    assert decision.id.startswith("dec_")
    assert len(decision.id) <= 255
    assert (decision.capsule, decision.capsule_version) == ("router", 1)
    assert (decision.tenant, decision.job, decision.mode) == ("default", "default", "live")
    assert (decision.context_key, decision.context_key_from) == ("free", "input")
    assert (decision.strategy, decision.strategy_id) == ("choice", 0)
    assert decision.option is not None
    assert decision.option_name == ["cheap", "balanced", "dear"][decision.option]
    assert decision.reason in ("learned", "explored")
    assert decision.suggested is None
    assert decision.choices == {"choice": decision.option_name}
    assert decision.probabilities == pytest.approx([1 / 3] * 3)
    (part,) = decision.decisions
    assert (part.strategy_id, part.strategy, part.option) == (0, "choice", decision.option)
    assert (part.option_name, part.propensity) == (decision.option_name, decision.propensity)
    assert (part.names, part.probabilities) == (["cheap", "balanced", "dear"], decision.probabilities)
    assert [event.type for event in store.journal.read("default")][-1] == "decided"


def test_a_context_key_can_be_given(router: capsa.Capsule) -> None:
    """It is the key, and the declared contexts are not looked at."""
    decision = router.decide({"tier": ["not", "a", "category"]}, context_key="rush_hour")
    assert (decision.context_key, decision.context_key_from, decision.warnings) == (
        "rush_hour",
        "request",
        [],
    )
    assert router.decide(context_key="unknown").context_key == "unknown"


def test_one_allowed_option_is_the_only_one(router: capsa.Capsule) -> None:
    decision = router.decide(options=["dear"])
    assert (decision.option_name, decision.propensity, decision.reason) == ("dear", 1.0, "only_option")
    assert decision.probabilities == [0.0, 0.0, 1.0]


def test_options_are_taken_by_name_and_number(router: capsa.Capsule) -> None:
    """And the same option twice counts once."""
    decision = router.decide(options=(2, "cheap", 0))
    assert decision.probabilities == pytest.approx([0.5, 0.0, 0.5])


def test_off_answers_the_baseline_and_records_nothing(store: capsa.Store, router: capsa.Capsule) -> None:
    router.update_learning(mode="off")
    length, state = store.journal.length("default"), router.state_hash
    decision = router.decide({"tier": "free"}, current="dear")
    assert (decision.id, decision.propensity, decision.suggested) == (None, None, None)
    assert (decision.option_name, decision.reason, decision.mode) == ("balanced", "baseline", "off")
    assert (decision.probabilities, decision.payload, decision.draw_again()) == (None, b"", None)
    assert (store.journal.length("default"), router.state_hash) == (length, state)
    other = router.decide(options=["dear", "cheap"])
    assert other.option_name == "cheap"
    assert any("baseline" in warning for warning in other.warnings)


def test_shadow_answers_what_the_application_does(router: capsa.Capsule) -> None:
    """Ours is logged as suggested; feedback credits what was carried out."""
    router.update_learning(mode="shadow")
    decision = router.decide({"tier": "free"}, current="dear")
    assert (decision.option_name, decision.reason, decision.mode) == ("dear", "current", "shadow")
    assert (decision.propensity, decision.probabilities) == (None, None)
    assert decision.suggested is not None
    assert decision.suggested.option_name in ("cheap", "balanced", "dear")
    assert decision.suggested.propensity == pytest.approx(1 / 3)
    assert decision.suggested.reason in ("learned", "explored")
    assert decision.id is not None
    feedback = router.feedback(decision.id, reward=1.0)
    assert (feedback.status, feedback.option_name) == ("applied", "dear")
    assert feedback.before is not None
    assert feedback.after is not None
    assert feedback.after[2] > feedback.before[2]


def test_shadow_without_current_answers_the_baseline(router: capsa.Capsule) -> None:
    router.update_learning(mode="shadow")
    decision = router.decide({"tier": "free"})
    assert (decision.option_name, decision.reason) == ("balanced", "baseline")
    assert decision.suggested is not None
    report = router.report()
    assert report.decisions == 1
    assert report.shadow_agreement in (0.0, 1.0)


def test_shadow_suggests_what_live_would_do() -> None:
    """The same seed, calls and times: the same draws in both modes."""
    with capsa.open(seed=3, clock=lambda: 1.8e9) as one, capsa.open(seed=3, clock=lambda: 1.8e9) as other:
        live, shadow = one.install(SPEC), other.install(SPEC.replace("baseline", "mode: shadow\nbaseline"))
        for _ in range(50):
            drawn, suggested = live.decide(context_key="k"), shadow.decide(context_key="k").suggested
            assert suggested is not None
            assert (suggested.option, suggested.propensity) == (drawn.option, drawn.propensity)


def test_frozen_neither_learns_nor_explores(router: capsa.Capsule) -> None:
    router.feedback(router.decide(context_key="k").id, reward=1.0, taken="dear")
    router.update_learning(rails={"freeze": True})
    state = router.state_hash
    decision = router.decide(context_key="k")
    assert (decision.option_name, decision.propensity, decision.reason) == ("dear", 1.0, "frozen")
    assert decision.probabilities == [0.0, 0.0, 1.0]
    feedback = router.feedback(decision.id, reward=-1.0)
    assert (feedback.status, feedback.before) == ("frozen", feedback.after)
    assert router.state_hash == state
    report = router.report()
    assert (report.frozen, report.feedback.frozen, report.feedback.applied) == (True, 1, 1)


def test_several_strategies_answer_one_valid_combination(store: capsa.Store) -> None:
    capsule = store.install(RETRIES)
    for _ in range(100):
        decision = capsule.decide()
        assert (decision.strategy, decision.option, decision.option_name) == (None, None, None)
        assert (decision.probabilities, decision.context_key) == (None, "default")
        timeout, retries = decision.choices["timeout"], decision.choices["retries"]
        assert timeout == "1s" or retries in ("0", "1")
        assert decision.propensity == pytest.approx(1 / 7)
    masked = capsule.decide(options={"timeout": ["5s", "1s"], "retries": [2]})
    assert (masked.choices, masked.propensity) == ({"timeout": "1s", "retries": "3"}, 1.0)
    feedback = capsule.feedback(masked.id, reward=1.0)
    assert {part.strategy: part.option_name for part in feedback.decisions} == masked.choices
    assert feedback.option is None


def test_several_strategies_in_shadow_and_off(store: capsa.Store) -> None:
    capsule = store.install(RETRIES)
    capsule.update_learning(mode="shadow")
    current: dict[str, str | int] = {"timeout": "5s", "retries": 0}
    decision = capsule.decide(current=current)
    assert decision.choices == {"timeout": "5s", "retries": "0"}
    assert decision.suggested is not None
    assert set(decision.suggested.choices) == {"timeout", "retries"}
    assert decision.suggested.propensity == pytest.approx(1 / 7)
    capsule.update_learning(mode="off", baseline={"timeout": "1s", "retries": "3"})
    assert capsule.decide().choices == {"timeout": "1s", "retries": "3"}
