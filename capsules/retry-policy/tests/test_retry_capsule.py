"""The capsule retry-policy: what it answers and how likely, and what one reward teaches it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import capsa
from capsa import _native

SPEC = Path(__file__).parents[1] / "capsule.yaml"
NOW_S = 1_800_000_000.0

HEADS = {"timeout": ["1s", "2s", "5s"], "retries": ["0", "1", "3"]}
VALID = [("1s", "0"), ("1s", "1"), ("1s", "3"), ("2s", "0"), ("2s", "1"), ("5s", "0"), ("5s", "1")]
MIN_EXPLORATION = 0.02

DRAWS = 20_000
#: A true null hypothesis is rejected once in a million; seeds are fixed, so never here.
P_LEAST = 1e-6

CONTEXT = {"endpoint": "search", "load": 0.9}
#: Request by request: which combination was carried out, and what it was worth.
LESSONS = [(0, 0.1), (2, 0.6), (2, 0.5), (4, -0.2), (5, 0.2), (2, 0.55), (6, 0.3), (1, 0.5)]


@pytest.fixture
def retry() -> Iterator[capsa.Capsule]:
    """The capsule, freshly installed."""
    with capsa.open(clock=lambda: NOW_S, seed=7) as store:
        yield store.install(SPEC)


def teach(retry: capsa.Capsule, lessons: list[tuple[int, float]]) -> None:
    """Reports rewards of combinations in `CONTEXT`."""
    for carried_out, reward in lessons:
        decision = retry.decide(CONTEXT)
        retry.feedback(decision.id, reward=reward, taken=dict(zip(HEADS, VALID[carried_out], strict=True)))


def made(choices: dict[str, str]) -> tuple[str, str]:
    """A decision's combination."""
    return choices["timeout"], choices["retries"]


def test_the_spec_compiles_to_what_it_says() -> None:
    """A component of the decision world that imports nothing, with both strategies in it."""
    component = _native.compile_spec(SPEC.read_text())
    facts = _native.inspect_component(component)
    assert facts["definition_error"] is None
    assert (facts["world"], facts["imports"]) == ("decision", [])
    definition = json.loads(_native.filled_definition(_native.spec_definition(SPEC.read_text())))
    assert definition["name"] == SPEC.parent.name == "retry-policy"
    assert {each["name"]: each["options"] for each in definition["strategies"]} == HEADS
    assert {each["name"]: each["baseline"] for each in definition["strategies"]} == {
        "timeout": "2s",
        "retries": "1",
    }
    assert definition["rails"]["minExploration"] == MIN_EXPLORATION
    weights = [metric["weight"] for metric in definition["reward"].values()]
    low, high = definition["rewardRange"]
    assert low <= sum(weight for weight in weights if weight < 0)
    assert sum(weight for weight in weights if weight > 0) <= high


lessons = st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.floats(-1, 1)), max_size=25)


@st.composite
def masks(draw: st.DrawFn) -> dict[str, list[str]]:
    """What a request may allow: at least one valid combination."""
    kept = draw(st.sampled_from(VALID))
    return {
        head: [option for option in options if option == keep or draw(st.booleans())]
        for (head, options), keep in zip(HEADS.items(), kept, strict=True)
    }


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    lessons=lessons, allowed=st.none() | masks(), mode=st.sampled_from(["live", "frozen", "shadow", "off"])
)
def test_only_valid_and_allowed_combinations_are_answered(
    lessons: list[tuple[int, float]], allowed: dict[str, list[str]] | None, mode: str
) -> None:
    """Whatever was learned, in every mode, and for what shadow suggests; marginals sum to 1."""
    with capsa.open(clock=lambda: NOW_S, seed=7) as store:
        retry = store.install(SPEC)
        teach(retry, lessons)
        retry.update_learning(**({"rails": {"freeze": True}} if mode == "frozen" else {"mode": mode}))
        possible = [
            row
            for row in VALID
            if allowed is None or (row[0] in allowed["timeout"] and row[1] in allowed["retries"])
        ]
        for _ in range(25):
            decision = retry.decide(CONTEXT, options=allowed)
            assert made(decision.choices) in possible
            if decision.suggested is not None:
                assert made(decision.suggested.choices) in possible
            for part in decision.decisions:
                assert (part.probabilities is None) == (mode in ("shadow", "off"))
                if part.probabilities is not None:
                    assert math.fsum(part.probabilities) == pytest.approx(1, abs=1e-9, rel=0)
                    assert part.propensity == part.probabilities[part.option]


def test_draws_follow_the_joint_propensity(retry: capsa.Capsule) -> None:
    """Chi-square of 20,000 draws against the logged propensities, which sum to 1 as their marginals do."""
    teach(retry, LESSONS)
    seen: Counter[tuple[str, str]] = Counter()
    joint: dict[tuple[str, str], float] = {}
    marginals: dict[str, dict[str, float]] = {}
    for _ in range(DRAWS):
        decision = retry.decide(CONTEXT)
        row = made(decision.choices)
        assert decision.propensity is not None
        assert joint.setdefault(row, decision.propensity) == decision.propensity
        seen[row] += 1
        for part in decision.decisions:
            assert part.probabilities is not None
            marginals[part.strategy] = dict(zip(part.names, part.probabilities, strict=True))
    assert sorted(joint) == VALID
    assert math.fsum(joint.values()) == pytest.approx(1, abs=1e-9, rel=0)
    for at, (head, options) in enumerate(HEADS.items()):
        assert math.fsum(marginals[head].values()) == pytest.approx(1, abs=1e-9, rel=0)
        for option in options:
            share = math.fsum(propensity for row, propensity in joint.items() if row[at] == option)
            assert marginals[head][option] == pytest.approx(share, abs=1e-9, rel=0)
    assert max(joint.values()) > 2 * min(joint.values()), "the lessons make the distribution uneven"
    expected = [joint[row] * DRAWS for row in VALID]
    assert min(expected) > 5
    total = math.fsum(expected)
    fit = stats.chisquare([seen[row] for row in VALID], [each * DRAWS / total for each in expected])
    assert fit.pvalue > P_LEAST


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(lessons=lessons)
def test_heads_are_learned_apart_and_drawn_together(lessons: list[tuple[int, float]]) -> None:
    """But for exploration, which all valid combinations share alike, the odds of retries are those of any timeout."""
    with capsa.open(clock=lambda: NOW_S, seed=7) as store:
        retry = store.install(SPEC)
        teach(retry, lessons)
        retry.update_learning(rails={"min_exploration": 1.0})
        assert retry.decide(CONTEXT).propensity == pytest.approx(1 / len(VALID))
        retry.update_learning(rails={"min_exploration": 0.5})
        joint: dict[tuple[str, str], float] = {}
        for _ in range(300):
            decision = retry.decide(CONTEXT)
            assert decision.propensity is not None
            joint[made(decision.choices)] = decision.propensity
        assert sorted(joint) == VALID
        learned = {row: propensity - 0.5 / len(VALID) for row, propensity in joint.items()}
        assert min(learned.values()) > -1e-12
        for one, other in (("1s", "2s"), ("1s", "5s"), ("2s", "5s")):
            assert learned[one, "0"] * learned[other, "1"] == pytest.approx(
                learned[one, "1"] * learned[other, "0"], abs=1e-12
            )


def test_one_reward_credits_every_head(retry: capsa.Capsule) -> None:
    """Metrics in two posts make one reward; both carried out options gain weight, in this context alone."""
    decision = retry.decide(CONTEXT)
    waiting = retry.feedback(decision.id, outcome={"latency_ms": 500, "attempts": 2})
    assert (waiting.status, waiting.missing) == ("pending", ["success"])
    assert retry.contexts() == []
    feedback = retry.feedback(decision.id, outcome={"success": True})
    assert feedback.status == "applied"
    assert feedback.reward == pytest.approx(0.6 - 0.6 * 0.05 - 0.1 / 3)
    assert feedback.parts == pytest.approx({"success": 0.6, "latency_ms": -0.03, "attempts": -0.1 / 3})
    assert {part.strategy: part.option_name for part in feedback.decisions} == decision.choices
    for part in feedback.decisions:
        assert part.option is not None
        assert part.after[part.option] > part.before[part.option]
        assert math.fsum(part.after) == pytest.approx(1, abs=1e-9, rel=0)
    for strategy in retry.report().strategies:
        for option in strategy.options:
            credited = option.option_name == decision.choices[strategy.strategy]
            assert option.rewards == option.decisions == int(credited)
            assert option.mean == (pytest.approx(feedback.reward) if credited else None)
    [context] = retry.contexts()
    assert (context.context_key, context.rewards) == ("search|>=0.8", 1)
    fresh = retry.decide({"endpoint": "search", "load": 0.79})
    assert fresh.context_key == "search|<0.8"
    assert fresh.propensity == pytest.approx(1 / len(VALID))


def test_a_bad_outcome_moves_every_head_away(retry: capsa.Capsule) -> None:
    """The worst that can be reported lowers the weight of both options."""
    decision = retry.decide(CONTEXT)
    feedback = retry.feedback(decision.id, outcome={"success": False, "latency_ms": 9000, "attempts": 4})
    assert feedback.reward == pytest.approx(-0.6 * 0.9 - 0.1)
    for part in feedback.decisions:
        assert part.option is not None
        assert part.after[part.option] < part.before[part.option]


def test_options_can_be_narrowed_by_strategy(retry: capsa.Capsule) -> None:
    """By name or number; a strategy that is left out stays free; what leaves nothing valid is refused."""
    only = retry.decide(CONTEXT, options={"timeout": ["5s", "1s"], "retries": [2]})
    assert (made(only.choices), only.propensity, only.reason) == (("1s", "3"), 1.0, "only_option")
    short = [retry.decide(CONTEXT, options={"timeout": ["1s"]}) for _ in range(60)]
    assert {made(decision.choices) for decision in short} == {("1s", "0"), ("1s", "1"), ("1s", "3")}
    assert [decision.propensity for decision in short] == pytest.approx([1 / 3] * len(short))
    with pytest.raises(capsa.NoAllowedOption):
        retry.decide(CONTEXT, options={"timeout": ["2s", "5s"], "retries": ["3"]})
    with pytest.raises(capsa.UnknownOption) as refused:
        retry.decide(CONTEXT, options={"timeout": ["10s"]})
    assert (refused.value.pointer, refused.value.value) == ("/options/timeout/0", "10s")
    with pytest.raises(capsa.UnknownStrategy):
        retry.decide(CONTEXT, options={"timeouts": ["1s"]})


def test_current_is_answered_in_shadow_and_must_be_valid(retry: capsa.Capsule) -> None:
    """It names both strategies; what the capsule would have done is a valid combination with its propensity."""
    retry.update_learning(mode="shadow")
    decision = retry.decide(CONTEXT, current={"timeout": "5s", "retries": 0})
    assert (made(decision.choices), decision.reason, decision.propensity) == (("5s", "0"), "current", None)
    assert decision.suggested is not None
    assert made(decision.suggested.choices) in VALID
    assert decision.suggested.propensity == pytest.approx(1 / len(VALID))
    feedback = retry.feedback(decision.id, reward=0.5)
    assert {part.strategy: part.option_name for part in feedback.decisions} == {
        "timeout": "5s",
        "retries": "0",
    }
    without = retry.decide(CONTEXT)
    assert (made(without.choices), without.reason) == (("2s", "1"), "baseline")
    refused: list[Any] = [{"timeout": "5s", "retries": "3"}, {"timeout": "5s"}, "5s"]
    for current in refused:
        with pytest.raises(capsa.InvalidField) as error:
            retry.decide(CONTEXT, current=current)
        assert str(error.value.pointer).startswith("/current")


def test_taken_credits_what_was_carried_out(retry: capsa.Capsule) -> None:
    """By strategy; `None` is kept and not learned; half a combination is refused and changes nothing."""
    decision = retry.decide(CONTEXT, options={"timeout": ["1s"], "retries": ["0"]})
    state = retry.state_hash
    with pytest.raises(capsa.InvalidField):
        retry.feedback(decision.id, reward=0.5, taken={"timeout": "2s"})
    assert retry.state_hash == state
    feedback = retry.feedback(decision.id, reward=0.5, taken={"timeout": "2s", "retries": 1})
    assert {part.strategy: part.option_name for part in feedback.decisions} == {
        "timeout": "2s",
        "retries": "1",
    }
    rewards = {
        (strategy.strategy, option.option_name): option.rewards
        for strategy in retry.report().strategies
        for option in strategy.options
    }
    assert {place for place, count in rewards.items() if count} == {("timeout", "2s"), ("retries", "1")}
    nothing = retry.feedback(retry.decide(CONTEXT).id, reward=0.5, taken=None)
    assert (nothing.status, nothing.decisions) == ("kept", [])
