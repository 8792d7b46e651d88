"""Every learner against the formulas: `tests/reference/tabular_model.py` after generated histories."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.learners.learner_cases import ALGORITHMS, SUMMING, learner_of
from tests.reference.tabular_model import Settings, TabularModel

from capsa.learners import Learner

#: Rounding alone; thompson: what quadrature may differ by, ours and the model's together.
TOLERANCE = {"thompson": 1e-6, "simple_weighted": 1e-9, "epsilon_greedy": 1e-9, "ucb1": 1e-9}

KEYS = ["", "k", "other"]

Draw = Callable[[st.SearchStrategy[Any]], Any]


@st.composite
def declared(draw: st.DrawFn, algorithm: str) -> Settings:
    """Settings of one algorithm, many of them with several extras at once."""
    n_options = draw(st.integers(2, 6))
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-2.5, 40.0), (3.0, 3.5)]))
    settings = Settings(
        algorithm,
        n_options,
        epsilon=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        max_delta=draw(st.sampled_from([0.15, 0.02, 1.0])),
        reward_range=(low, high),
        min_exploration=draw(st.sampled_from([0.0, 0.0, 0.02, 0.3, 1.0])),
        half_life_updates=draw(st.sampled_from([None, None, 0.5, 3.0, 200.0])),
    )
    prior = st.tuples(st.floats(low, high), st.sampled_from([0.25, 1.0, 5.0, 300.0]))
    return settings.but(
        priors=draw(st.dictionaries(st.integers(0, n_options - 1), prior, max_size=2)),
        shrinkage=draw(st.sampled_from([None, None, 0.5, 8.0, 1000.0])) if algorithm in SUMMING else None,
    )


def rewards(settings: Settings) -> st.SearchStrategy[float]:
    """Rewards within the range, its ends often among them."""
    low, high = settings.reward_range
    return st.sampled_from([low, high]) | st.floats(low, high)


def teach(draw: Draw, learner: Learner, model: TabularModel, most: int = 30) -> None:
    """The same history to both."""
    settings = model.settings
    step = st.tuples(
        st.integers(0, settings.n_options - 1), rewards(settings), st.sampled_from([*KEYS, "k", "k"])
    )
    for option, reward, key in draw(st.lists(step, max_size=most)):
        learner.update(option, reward, key)
        model.update(option, reward, key)


def differ(found: Any, expected: Any) -> float:
    return float(np.abs(np.asarray(found) - expected).max())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_probabilities_are_those_of_the_formulas(algorithm: str, data: st.DataObject) -> None:
    """After any history, in keys that are held and new ones, with any mask."""
    settings = data.draw(declared(algorithm))
    learner, model = learner_of(settings), TabularModel(settings)
    teach(data.draw, learner, model)
    mask = st.lists(st.booleans(), min_size=settings.n_options, max_size=settings.n_options).filter(any)
    for key in [*KEYS, "never seen"]:
        allowed = data.draw(mask | st.none())
        if model.is_clear(key, allowed):
            expected = model.probabilities(key, allowed)
            assert differ(learner.probabilities(key, allowed), expected) < TOLERANCE[algorithm], key
            option, propensity = learner.decide(key, allowed)
            assert propensity == pytest.approx(expected[option], abs=TOLERANCE[algorithm])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_few_keys_are_those_of_the_formulas(algorithm: str, data: st.DataObject) -> None:
    """Keys that were evicted leave a start to new ones, worth at most 8 rewards of an option, or are borrowed from."""
    settings = data.draw(declared(algorithm)).but(max_keys=data.draw(st.sampled_from([1, 2])))
    learner, model = learner_of(settings), TabularModel(settings)
    teach(data.draw, learner, model)
    assert sorted(learner.keys()) == sorted(model.keys)
    for key in [*KEYS, "never seen"]:
        if model.is_clear(key):
            assert differ(learner.probabilities(key), model.probabilities(key)) < TOLERANCE[algorithm], key


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("half_life", [None, 5.0, 300.0])
def test_a_long_history_drifts_by_rounding_alone(algorithm: str, half_life: float | None) -> None:
    """Sums kept over 4,000 updates in 20 keys, some of them evicted again and again, are those worked out at the end."""
    settings = Settings(
        algorithm,
        5,
        reward_range=(-1.0, 1.0),
        half_life_updates=half_life,
        priors={1: (0.3, 2.0)},
    )
    if algorithm in SUMMING:
        # Without shrinkage every new key would hold a copy of all that was ever evicted: too much for the model.
        settings = settings.but(shrinkage=6.0, max_keys=17)
    learner, model = learner_of(settings), TabularModel(settings)
    rng = np.random.default_rng(20261121)
    options, keys = rng.integers(0, 5, 4000), rng.integers(0, 20, 4000)
    rewards = rng.uniform(-1, 1, 4000)
    learner.update_batch(options, rewards, keys)
    for option, reward, key in zip(options.tolist(), rewards.tolist(), keys.tolist(), strict=True):
        model.update(option, reward, str(key))
    assert sorted(learner.keys()) == sorted(model.keys)
    for key in [*sorted(model.keys)[:4], "never seen"]:
        assert model.is_clear(key)
        assert differ(learner.probabilities(key), model.probabilities(key)) < TOLERANCE[algorithm], key


@pytest.mark.parametrize("algorithm", ["epsilon_greedy", "ucb1"])
@given(data=st.data())
def test_ties_are_those_of_the_formulas(algorithm: str, data: st.DataObject) -> None:
    """Rewards in quarters add up exactly: equal means are ties, and the lowest allowed option has them."""
    settings = Settings(
        algorithm,
        data.draw(st.integers(2, 5)),
        reward_range=data.draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-2.0, 6.0)])),
    )
    low, high = settings.reward_range
    learner, model = learner_of(settings), TabularModel(settings)
    quarters = st.sampled_from([low, low / 2 + high / 2, high])
    for option, reward in data.draw(
        st.lists(st.tuples(st.integers(0, settings.n_options - 1), quarters), max_size=12)
    ):
        learner.update(option, reward)
        model.update(option, reward)
    mask = st.lists(st.booleans(), min_size=settings.n_options, max_size=settings.n_options).filter(any)
    allowed = data.draw(mask | st.none())
    if algorithm == "ucb1":
        # Unequal counts give equal sums by accident alone, and then by rounding.
        assume(model.is_clear("", allowed))
    assert differ(learner.probabilities("", allowed), model.probabilities("", allowed)) < 1e-12


# By hand: what the formulas say, without the model


def test_epsilon_greedy_by_hand() -> None:
    """0.3 shared by three allowed, 0.7 more for the best mean; the untried one counts as 0.5."""
    learner = learner_of(Settings("epsilon_greedy", 4, epsilon=0.3))
    learner.update(1, 0.25)
    learner.update(2, 0.75)
    assert learner.probabilities() == pytest.approx([0.075, 0.075, 0.775, 0.075], abs=1e-12)
    masked = learner.probabilities("", [True, True, False, True])
    assert masked == pytest.approx([0.8, 0.1, 0.0, 0.1], abs=1e-12)
    learner.update(2, 0.25)
    tie = learner.probabilities()
    assert tie[0] == pytest.approx(0.775, abs=1e-12), "0.5 against 0.5: the lowest"


def test_epsilon_greedy_scales_rewards() -> None:
    """In -1..1 a reward of -0.5 is 0.25, below the untried 0.5; 0.5 is above."""
    learner = learner_of(Settings("epsilon_greedy", 3, epsilon=0.0, reward_range=(-1.0, 1.0)))
    learner.update(0, -0.5)
    assert learner.probabilities().tolist() == [0.0, 1.0, 0.0]
    learner.update(2, 0.5)
    assert learner.probabilities().tolist() == [0.0, 0.0, 1.0]


def test_ucb1_by_hand() -> None:
    """Untried options share; then means 1/2 and 2/3 with counts 2 and 12: index 1.648 against 1.330."""
    learner = learner_of(Settings("ucb1", 3))
    learner.update(1, 1.0)
    assert learner.probabilities().tolist() == [0.5, 0.0, 0.5]
    assert learner.probabilities("", [False, True, True]).tolist() == [0.0, 0.0, 1.0]
    learner = learner_of(Settings("ucb1", 2))
    for reward in (0.0, 1.0):
        learner.update(0, reward)
    for at in range(12):
        learner.update(1, float(at % 3 > 0))
    assert 1 / 2 + math.sqrt(2 * math.log(14) / 2) > 2 / 3 + math.sqrt(2 * math.log(14) / 12)
    assert learner.probabilities().tolist() == [1.0, 0.0]


def test_ucb1_counts_what_is_not_allowed_too() -> None:
    """N is of the whole key: with many rewards of a masked option, the less tried of the others is explored."""
    learner = learner_of(Settings("ucb1", 3))
    learner.update_batch([0] * 2 + [1] * 8, [0.25] * 2 + [0.75] * 8, [""] * 10)
    assert 0.25 + math.sqrt(2 * math.log(10) / 2) > 0.75 + math.sqrt(2 * math.log(10) / 8)
    few = learner_of(Settings("ucb1", 3))
    few.update_batch([0] * 2 + [1] * 3, [0.0] * 2 + [0.4] * 3, [""] * 5)
    allowed = [True, True, False]
    assert math.sqrt(2 * math.log(5) / 2) < 0.4 + math.sqrt(2 * math.log(5) / 3)
    assert few.probabilities("", allowed).tolist() == [0.0, 1.0, 0.0]
    few.update_batch([2] * 995, [0.0] * 995, [""] * 995)
    assert math.sqrt(2 * math.log(1000) / 2) > 0.4 + math.sqrt(2 * math.log(1000) / 3)
    assert few.probabilities("", allowed).tolist() == [1.0, 0.0, 0.0]


def test_simple_weighted_by_hand() -> None:
    """A reward of 1 moves 0.05, half of it from each other; max_delta caps it; the raw reward counts."""
    learner = learner_of(Settings("simple_weighted", 3))
    learner.update(0, 1.0)
    assert learner.probabilities() == pytest.approx([1 / 3 + 0.05, 1 / 3 - 0.025, 1 / 3 - 0.025], abs=1e-12)
    raw = learner_of(Settings("simple_weighted", 2, reward_range=(-40.0, 40.0)))
    raw.update(0, 2.0)
    assert raw.probabilities() == pytest.approx([0.6, 0.4], abs=1e-12)
    raw.update(0, -40.0)
    assert raw.probabilities() == pytest.approx([0.45, 0.55], abs=1e-12)


def test_thompson_by_hand() -> None:
    """Beta(2, 1) against Beta(1, 1): 2/3. Two untried options: 1/2."""
    learner = learner_of(Settings("thompson", 2))
    assert learner.probabilities() == pytest.approx([0.5, 0.5], abs=1e-7)
    learner.update(0, 1.0)
    assert learner.probabilities() == pytest.approx([2 / 3, 1 / 3], abs=1e-7)


def test_min_exploration_by_hand() -> None:
    """(1 - e) p + e / K, over the allowed; of 1 it is uniform."""
    learner = learner_of(Settings("ucb1", 4, min_exploration=0.2))
    learner.update_batch([0, 1, 2, 3], [0.0, 1.0, 0.0, 0.0], [""] * 4)
    assert learner.probabilities() == pytest.approx([0.05, 0.85, 0.05, 0.05], abs=1e-12)
    assert learner.probabilities("", [True, True, False, False]) == pytest.approx([0.1, 0.9, 0, 0], abs=1e-12)
    uniform = learner_of(Settings("thompson", 4, min_exploration=1.0))
    uniform.update(0, 1.0)
    assert uniform.probabilities() == pytest.approx([0.25] * 4, abs=1e-12)


@pytest.mark.parametrize("algorithm", SUMMING)
def test_a_prior_counts_like_rewards(algorithm: str) -> None:
    """Four rewards of 0.75 in advance are four rewards of 0.75, in every key, and they never fade."""
    prior = learner_of(Settings(algorithm, 3, priors={1: (0.75, 4.0)}))
    earned = learner_of(Settings(algorithm, 3))
    for key in ("a", "b"):
        earned.update_batch([1] * 4, [0.75] * 4, [key] * 4)
    for learner in (prior, earned):
        learner.update_batch([0, 2, 1], [0.5, 1.0, 0.25], ["a"] * 3)
    for key in ("a", "b"):
        assert prior.probabilities(key) == pytest.approx(earned.probabilities(key), abs=1e-9)


def test_a_prior_never_fades() -> None:
    """After hundreds of half-lives of other rewards it is still what decides."""
    learner = learner_of(
        Settings("epsilon_greedy", 3, epsilon=0.0, half_life_updates=1.0, priors={2: (0.9, 1.0)})
    )
    learner.update_batch([0, 1] * 200, [0.8] * 400, [""] * 400)
    assert learner.probabilities().tolist() == [0.0, 0.0, 1.0]
    learner.update(2, 0.0)
    assert learner.probabilities()[2] == 0, "0.9 and a fresh 0: 0.45"
    learner.update_batch([0, 1] * 10, [0.8] * 20, [""] * 20)
    assert learner.probabilities().tolist() == [0.0, 0.0, 1.0]


def test_shrinkage_by_hand() -> None:
    """What was earned elsewhere counts as at most s rewards: 10 of mean 0.8 as 2; 1 as 1."""
    shrunk = learner_of(Settings("thompson", 2, shrinkage=2.0))
    shrunk.update_batch([0] * 10, [0.75] * 10, ["elsewhere"] * 10)
    shrunk.update(1, 0.5, "there")
    earned = learner_of(Settings("thompson", 2))
    earned.update_batch([0, 0, 1], [0.75, 0.75, 0.5], ["k"] * 3)
    assert shrunk.probabilities("k") == pytest.approx(earned.probabilities("k"), abs=1e-7)
    for learner in (shrunk, earned):
        learner.update(1, 1.0, "k")
    assert shrunk.probabilities("k") == pytest.approx(earned.probabilities("k"), abs=1e-7)


def test_a_half_life_is_counted_in_updates_of_the_key() -> None:
    """After two updates of the same key a reward counts half; updates of other keys do not matter."""
    faded = learner_of(Settings("thompson", 2, half_life_updates=2.0))
    faded.update_batch([0, 1, 1], [1.0, 0.0, 1.0], ["k"] * 3)
    faded.update_batch([1] * 50, [1.0] * 50, ["other"] * 50)
    keep = 2**-0.5
    expected = learner_of(Settings("thompson", 2, priors={0: (1.0, 0.5), 1: (1 / (1 + keep), 1 + keep)}))
    assert faded.probabilities("k") == pytest.approx(expected.probabilities("k"), abs=1e-7)
