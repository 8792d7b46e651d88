"""Every learner: its probabilities are a distribution over what is allowed, and it draws from exactly that."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.learners.learner_cases import CASES, N_OPTIONS, learner_of, taught
from tests.reference.tabular_model import Settings

DRAWS = 20_000
#: A true null hypothesis is rejected once in a million; seeds are fixed, so never here.
P_LEAST = 1e-6

EVERY_CASE = pytest.mark.parametrize("settings", CASES.values(), ids=CASES)

masks = st.lists(st.booleans(), min_size=N_OPTIONS, max_size=N_OPTIONS).filter(any)


@st.composite
def updates(draw: st.DrawFn, settings: Settings) -> list[tuple[int, float, str]]:
    """Option, reward within the range (its ends often) and key."""
    low, high = settings.reward_range
    rewards = st.sampled_from([low, high]) | st.floats(low, high)
    step = st.tuples(st.integers(0, N_OPTIONS - 1), rewards, st.sampled_from(["", "k", "other"]))
    return draw(st.lists(step, max_size=30))


@EVERY_CASE
@given(data=st.data())
def test_probabilities_are_a_distribution_over_what_is_allowed(
    settings: Settings, data: st.DataObject
) -> None:
    """After any history: not negative, exactly 0 outside the mask, sum 1; decide gives one with its share."""
    learner = learner_of(settings)
    for option, reward, key in data.draw(updates(settings)):
        learner.update(option, reward, key)
    for key in ["", "k", "never seen"]:
        allowed = data.draw(masks | st.none())
        shares = learner.probabilities(key, allowed)
        assert shares.dtype == np.float64
        assert shares.shape == (N_OPTIONS,)
        assert (shares >= 0).all()
        assert math.fsum(shares) == pytest.approx(1, abs=1e-9, rel=0)
        if allowed is not None:
            assert not shares[~np.array(allowed)].any()
            least = settings.min_exploration / sum(allowed)
            assert (shares[allowed] >= least * (1 - 1e-12)).all()
        for _ in range(3):
            option, propensity = learner.decide(key, allowed)
            assert type(option) is int
            assert type(propensity) is float
            assert allowed is None or allowed[option]
            assert propensity == shares[option] > 0


@EVERY_CASE
def test_the_only_allowed_option_is_certain(settings: Settings) -> None:
    learner = taught(settings)
    for only in range(N_OPTIONS):
        allowed = [option == only for option in range(N_OPTIONS)]
        assert learner.decide("k", allowed) == (only, 1.0)
        assert learner.probabilities("k", allowed).tolist() == [float(flag) for flag in allowed]


@EVERY_CASE
def test_what_knows_nothing_is_even(settings: Settings) -> None:
    """Without rewards and priors no option is preferred, unless ties have to go to the lowest index."""
    learner = learner_of(settings.but(priors={}))
    shares = learner.probabilities("k", [True, False, True, True])
    if settings.algorithm == "epsilon_greedy":
        explored = settings.min_exploration / 3 + (1 - settings.min_exploration) * settings.epsilon / 3
        assert shares == pytest.approx([1 - 2 * explored, 0, explored, explored], abs=1e-12)
    else:
        assert shares == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=1e-12)


@EVERY_CASE
@pytest.mark.parametrize("allowed", [None, [True, False, True, True]], ids=["all", "masked"])
def test_draws_follow_their_propensities(settings: Settings, allowed: Any) -> None:
    """20,000 draws: chi-square over the options and over pairs of draws that follow each other."""
    learner = taught(settings, seed=20261121)
    shares = learner.probabilities("k", allowed)
    options, propensities = learner.decide_batch(["k"] * DRAWS, allowed)
    assert (propensities == shares[options]).all()
    seen = Counter(options.tolist())
    assert fits(np.array([seen[option] for option in range(N_OPTIONS)]), shares)
    pairs = Counter(zip(options[::2].tolist(), options[1::2].tolist(), strict=True))
    counts = np.array([[pairs[one, two] for two in range(N_OPTIONS)] for one in range(N_OPTIONS)])
    assert fits(counts.ravel(), np.outer(shares, shares).ravel())


def fits(counts: Any, shares: Any) -> bool:
    """Whether counts may come from these shares. What is expected less than 10 times is taken together."""
    expected = shares / shares.sum() * counts.sum()
    rare = expected < 10
    if counts[shares == 0].any():
        return False
    found = [*counts[~rare], counts[rare].sum()]
    likely = [*expected[~rare], expected[rare].sum()]
    if likely[-1] < 10:
        few = stats.poisson.sf(found[-1] - 1, likely[-1]) if found[-1] else 1.0
        if few < P_LEAST:
            return False
        found, likely = found[:-1], likely[:-1]
    if len(likely) < 2:
        return True
    scale = sum(found) / sum(likely)
    return bool(stats.chisquare(found, [e * scale for e in likely]).pvalue > P_LEAST)


def test_the_draw_test_sees_what_is_wrong() -> None:
    """A share that is off by a tenth, what was never to be drawn, and too many of what is rare."""
    shares = np.array([0.5, 0.3, 0.2, 0.0])
    assert fits(np.array([9930, 6050, 4020, 0]), shares)
    assert not fits(np.array([10930, 5600, 3470, 0]), shares)
    assert not fits(np.array([9930, 6050, 4019, 1]), shares)
    assert not fits(np.array([19_980, 20]), np.array([1 - 1e-5, 1e-5]))


@EVERY_CASE
def test_a_decision_changes_nothing_that_was_learned(settings: Settings) -> None:
    """Nor does reading: no key appears, no probability moves."""
    learner = taught(settings)
    keys, before = sorted(learner.keys()), learner.probabilities_batch(["k", "other", "new"])
    for _ in range(50):
        learner.decide("k")
        learner.decide("new")
    learner.decide_batch(["newer"] * 10)
    assert sorted(learner.keys()) == keys == ["k", "other"]
    assert learner.probabilities_batch(["k", "other", "new"]).tolist() == before.tolist()


@EVERY_CASE
def test_what_pays_more_gains(settings: Settings) -> None:
    """Fifty good rewards of one option and fifty bad ones of the others: it is the likeliest."""
    low, high = settings.reward_range
    learner = learner_of(settings)
    for at in range(50 * N_OPTIONS):
        option = at % N_OPTIONS
        learner.update(option, high if option == 2 else low, "k")
    shares = learner.probabilities("k")
    assert shares.argmax() == 2
    assert shares[2] > 0.3


@pytest.mark.parametrize("n_options", [2, 3, 64, 1024])
@pytest.mark.parametrize("algorithm", ["thompson", "simple_weighted", "epsilon_greedy", "ucb1"])
def test_any_number_of_options(algorithm: str, n_options: int) -> None:
    """The fewest and the most: still a distribution, and the last option can be learned."""
    learner = learner_of(Settings(algorithm, n_options, min_exploration=0.01))
    assert learner.n_options == n_options
    assert len(learner.names) == len(set(learner.names)) == n_options
    learner.update(n_options - 1, 1.0)
    shares = learner.probabilities()
    assert math.fsum(shares) == pytest.approx(1, abs=1e-9, rel=0)
    assert shares[-1] != shares[-2]
