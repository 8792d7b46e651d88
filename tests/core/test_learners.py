"""The core against the model: weights and propensities after random feedback histories."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.driven import Driven, loader, rebuilt, spec_of
from tests.reference.clock import Clock
from tests.reference.close import apart
from tests.reference.learner_model import Settings
from tests.reference.yaml_text import to_yaml

import capsa
from capsa import _native

#: What quadrature may differ by, ours and the model's together.
TOLERANCE = 1e-6

KEYS = ["night", "day", "%|ü"]
ALGORITHMS = ["thompson", "simple_weighted"]
JOINT = {"timeout": ["1s", "2s", "5s"], "retries": ["0", "1"]}
VALID = [{"timeout": ["1s"]}, {"timeout": ["2s", "5s"], "retries": ["1"]}]


@st.composite
def declared(draw: st.DrawFn, algorithm: str) -> Settings:
    """Settings of one strategy."""
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-2.5, 40.0)]))
    count = draw(st.integers(2, 6))
    decay = draw(st.sampled_from(["none", "time", "feedbacks"]))
    return Settings(
        {"choice": [f"o{at}" for at in range(count)]},
        algorithm=algorithm,
        reward_range=(low, high),
        min_exploration=draw(st.sampled_from([0.0, 0.02, 0.3, 1.0])),
        max_delta=draw(st.sampled_from([0.15, 0.02, 1.0])),
        half_life_s=draw(st.sampled_from([30.0, 86400.0])) if decay == "time" else None,
        half_life_feedbacks=draw(st.sampled_from([0.5, 3.0, 200.0])) if decay == "feedbacks" else None,
        max_contexts=draw(st.sampled_from([1, 2, 10_000])),
    )


def rewards(settings: Settings) -> st.SearchStrategy[float]:
    """Rewards within the range, its ends often among them."""
    low, high = settings.reward_range
    return st.sampled_from([low, high]) | st.floats(low, high)


def history(draw: Callable[[st.SearchStrategy[Any]], Any], driven: Driven, steps: int) -> None:
    """Feedback, time that passes, learning that is frozen and restarted."""
    settings = driven.settings
    for _ in range(steps):
        step = draw(st.sampled_from(["learn"] * 6 + ["time", "freeze"]))
        if step == "time":
            driven.forward(draw(st.sampled_from([0.001, 1.0, 60.0, 40_000.0])))
        elif step == "freeze":
            driven.freeze(not driven.model.frozen)
        else:
            made = {
                name: draw(st.sampled_from(list(options))) for name, options in settings.strategies.items()
            }
            driven.learn(draw(st.sampled_from(KEYS)), made, draw(rewards(settings)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_weights_and_propensities_are_those_of_the_model(
    store: capsa.Store, clock: Clock, algorithm: str, data: st.DataObject
) -> None:
    """After any history of one strategy, weights, masked distributions and what is held are the model's."""
    settings = data.draw(declared(algorithm))
    driven = Driven(store, clock, settings)
    history(data.draw, driven, data.draw(st.integers(0, 25)))
    held = {row.context_key: row for row in driven.capsule.contexts(limit=1000)}
    assert set(held) == set(driven.model.keys)
    for key, row in held.items():
        assert apart(row.weights, driven.model.weights(key, clock.now_s)) < TOLERANCE, key
        assert row.rewards == driven.model.keys[key].feedbacks
    options = list(settings.strategies["choice"])
    allowed = data.draw(st.lists(st.sampled_from(options), min_size=1, unique=True))
    if driven.model.frozen:
        driven.freeze(False)
    for key in [*KEYS, "never seen"]:
        decision = driven.decide(key, {"choice": allowed})
        expected = driven.model.probabilities(key, clock.now_s, {"choice": allowed})["choice"]
        assert apart(decision.probabilities, expected) < TOLERANCE, key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("valid", [None, VALID], ids=["all", "valid"])
@given(data=st.data())
def test_joint_decisions_are_those_of_the_model(
    store: capsa.Store, clock: Clock, algorithm: str, valid: Any, data: st.DataObject
) -> None:
    """Several strategies: the product of the heads over valid and allowed combinations, and its marginals."""
    settings = Settings(
        JOINT,
        algorithm=algorithm,
        reward_range=data.draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0)])),
        min_exploration=data.draw(st.sampled_from([0.0, 0.05, 0.5])),
        valid=valid,
    )
    driven = Driven(store, clock, settings)
    for _ in range(data.draw(st.integers(0, 12))):
        made = {name: data.draw(st.sampled_from(options)) for name, options in JOINT.items()}
        driven.learn("night", made, data.draw(rewards(settings)))
    row = data.draw(st.sampled_from(settings.combinations()))
    allowed = {
        name: [o for o in options if o == kept or data.draw(st.booleans())]
        for (name, options), kept in zip(JOINT.items(), row, strict=True)
    }
    for key in ["night", "day"]:
        decision = driven.decide(key, allowed)
        joint = driven.model.joint(key, clock.now_s, allowed)
        marginals = driven.model.probabilities(key, clock.now_s, allowed)
        assert apart(decision.propensity, joint[tuple(decision.choices.values())]) < TOLERANCE
        assert (
            apart({part.strategy: part.probabilities for part in decision.decisions}, marginals) < TOLERANCE
        )
        for part in decision.decisions:
            assert apart(part.propensity, marginals[part.strategy][part.option]) < TOLERANCE
    if "night" in driven.model.keys:
        assert apart(driven.weights("night"), driven.model.weights("night", clock.now_s)) < TOLERANCE


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_a_frozen_learner_answers_the_best_estimate(
    store: capsa.Store, clock: Clock, algorithm: str, data: st.DataObject
) -> None:
    """Frozen: the best-estimated allowed option with propensity 1, whatever feedback and time do."""
    settings = data.draw(declared(algorithm))
    driven = Driven(store, clock, settings)
    history(data.draw, driven, data.draw(st.integers(0, 15)))
    if not driven.model.frozen:
        driven.freeze(True)
    allowed = data.draw(
        st.lists(st.sampled_from(list(settings.strategies["choice"])), min_size=1, unique=True)
    )
    decision = driven.decide("night", {"choice": allowed})
    assert (decision.propensity, decision.reason) == (1.0, "frozen")
    assert decision.option_name in allowed
    if algorithm == "thompson":
        estimates = {
            name: float(belief.mean())
            for name, belief in driven.model.beliefs("night", "choice", clock.now_s).items()
        }
    else:
        estimates = driven.model.inner_weights("night", "choice", clock.now_s)
    assert estimates[decision.option_name] >= max(estimates[name] for name in allowed) - 1e-9
    driven.forward(100_000)
    assert driven.decide("night", {"choice": allowed}).option_name == decision.option_name


def test_ties_go_to_the_lowest_number(store: capsa.Store, clock: Clock) -> None:
    """Equal estimates, frozen: the first allowed option, in one strategy and in several."""
    one = Driven(store, clock, Settings({"choice": ["a", "b", "c"]}))
    one.freeze(True)
    assert one.decide("k").option_name == "a"
    assert one.decide("k", {"choice": ["c", "b"]}).option_name == "b"
    several = Driven(store, clock, Settings(JOINT, valid=VALID))
    several.freeze(True)
    assert several.decide("k").choices == {"timeout": "1s", "retries": "0"}
    only = several.decide("k", {"timeout": ["5s", "2s"], "retries": ["0", "1"]})
    assert only.choices == {"timeout": "2s", "retries": "1"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frozen_time_does_not_count(store: capsa.Store, clock: Clock, algorithm: str) -> None:
    """Decay stands still while learning is frozen, and goes on afterwards."""
    settings = Settings({"choice": ["a", "b"]}, algorithm=algorithm, half_life_s=3600.0)
    driven = Driven(store, clock, settings)
    for _ in range(20):
        driven.learn("k", {"choice": "b"}, 1.0)
    learned = driven.weights("k")
    driven.freeze(True)
    driven.forward(10 * 3600.0)
    assert apart(driven.weights("k"), learned) < TOLERANCE
    driven.freeze(False)
    assert apart(driven.weights("k"), learned) < TOLERANCE
    driven.forward(3600.0)
    faded = driven.weights("k")
    assert faded["choice"][1] < learned["choice"][1] - 0.001
    assert apart(faded, driven.model.weights("k", clock.now_s)) < TOLERANCE


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_evicted_keys_left_fades_too(store: capsa.Store, clock: Clock, algorithm: str) -> None:
    """After a hundred half-lives a new key starts as if nothing had ever been learned."""
    settings = Settings({"choice": ["a", "b"]}, algorithm=algorithm, half_life_s=60.0, max_contexts=1)
    driven = Driven(store, clock, settings)
    for _ in range(20):
        driven.learn("evicted", {"choice": "b"}, 1.0)
    driven.learn("other", {"choice": "a"}, 0.0)
    started = driven.decide("new").probabilities
    assert started is not None
    assert started[1] > 0.55
    assert apart(started, driven.model.probabilities("new", clock.now_s)["choice"]) < TOLERANCE
    driven.forward(6000)
    assert driven.decide("new").probabilities == pytest.approx([0.5, 0.5], abs=TOLERANCE)


def test_a_file_that_freezes_stops_the_decay_too(store: capsa.Store, clock: Clock) -> None:
    """`rails: {freeze: true}` in the file means the same as the operator's override."""
    settings = Settings({"choice": ["a", "b"]}, half_life_s=3600.0)
    driven = Driven(store, clock, settings)
    for _ in range(20):
        driven.learn("k", {"choice": "b"}, 1.0)
    learned = driven.weights("k")
    spec = spec_of(settings)
    spec["rails"]["freeze"] = True
    store.job(driven.job).install(to_yaml(spec))
    driven.forward(10 * 3600.0)
    assert apart(driven.weights("k"), learned) < TOLERANCE


def test_feedback_in_one_key_never_moves_another(
    store: capsa.Store, clock: Clock, host: _native.Host
) -> None:
    """Also where another key was evicted meanwhile, and where a strategy of the key never had feedback."""
    settings = Settings(JOINT, algorithm="simple_weighted", max_contexts=2)
    driven = Driven(store, clock, settings)
    for _ in range(3):
        driven.capsule.feedback(strategy="timeout", option="2s", reward=1.0, context_key="evicted")
        driven.capsule.feedback(strategy="retries", option="1", reward=1.0, context_key="evicted")
    driven.capsule.feedback(strategy="timeout", option="5s", reward=1.0, context_key="kept")
    before = driven.weights("kept")
    driven.capsule.feedback(strategy="timeout", option="5s", reward=1.0, context_key="new")
    assert driven.capsule.report().contexts.evicted == 1
    assert driven.weights("kept") == before
    again = rebuilt(driven.events(), loader(host, to_yaml(spec_of(settings))))
    assert again.native.weights("kept", clock.now_ms) == before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "ends",
    [
        (0.0, 1e-200),
        (0.0, 5e-324),
        (-1e200, 1e200),
        (-8e307, 8e307),
        (-1.7e308, 1.7e308),
        (1e15, 1e15 + 1),
        (-1e-9, 1e9),
    ],
    ids=str,
)
def test_any_reward_range_that_is_accepted_can_be_learned_in(
    store: capsa.Store, clock: Clock, algorithm: str, ends: tuple[float, float]
) -> None:
    """However wide, narrow or far from 0: probabilities, and the better option gains."""
    low, high = ends
    settings = Settings({"choice": ["bad", "good", "new"]}, algorithm=algorithm, reward_range=ends)
    try:
        driven = Driven(store, clock, settings)
    except capsa.InvalidSpec:
        return
    for reward, option in [(low, "bad"), (high, "good"), (low / 2 + high / 2, "new")] * 5:
        driven.learn("k", {"choice": option}, reward)
    probabilities = driven.decide("k").probabilities
    assert probabilities is not None
    assert sum(probabilities) == pytest.approx(1, abs=1e-9)
    assert all(0 < share < 1 for share in probabilities)
    if algorithm == "thompson":
        assert probabilities[1] > probabilities[2] >= probabilities[0]
    if math.isfinite(high - low):
        assert apart(probabilities, driven.model.probabilities("k", clock.now_s)["choice"]) < TOLERANCE
    (row,) = driven.capsule.contexts()
    assert row.weights["choice"] == pytest.approx(probabilities, abs=1e-9)
