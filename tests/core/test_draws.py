"""I2: what is not allowed is never chosen, and draws come from exactly the distribution that is logged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.core.driven import Driven
from tests.reference import philox
from tests.reference.clock import Clock
from tests.reference.learner_model import Settings

import capsa

DRAWS = 20_000
#: A true null hypothesis is rejected once in a million; seeds are fixed, so never here.
P_LEAST = 1e-6

JOINT = {"timeout": ["1s", "2s", "5s"], "retries": ["0", "1"]}
VALID = [{"timeout": ["1s"]}, {"timeout": ["2s", "5s"], "retries": ["1"]}]


def taught(store: capsa.Store, clock: Clock, settings: Settings) -> Driven:
    """A capsule that has learned something uneven in the key `k`."""
    driven = Driven(store, clock, settings)
    low, high = settings.reward_range
    for at in range(12):
        made = {name: options[at % 5 % len(options)] for name, options in settings.strategies.items()}
        driven.learn("k", made, high if at % 3 else low)
    return driven


STATES: dict[str, Settings] = {
    "thompson 0 to 1": Settings({"choice": ["a", "b", "c", "d"]}, reward_range=(0.0, 1.0)),
    "thompson -1 to 1": Settings({"choice": ["a", "b", "c"]}, min_exploration=0.1),
    "simple weighted": Settings({"choice": ["a", "b", "c"]}, algorithm="simple_weighted"),
    "joint thompson": Settings(JOINT, min_exploration=0.2),
    "joint simple weighted, valid": Settings(JOINT, algorithm="simple_weighted", valid=VALID),
}


@pytest.mark.parametrize("settings", STATES.values(), ids=STATES)
def test_draws_follow_their_propensities(store: capsa.Store, clock: Clock, settings: Settings) -> None:
    """Chi-square of 20,000 draws against the model, and of `explored` against min_exploration."""
    driven = taught(store, clock, settings)
    joint = driven.model.joint("k", clock.now_s)
    assert math.fsum(joint.values()) == pytest.approx(1, abs=1e-6)
    seen: Counter[tuple[str, ...]] = Counter()
    explored = 0
    for _ in range(DRAWS):
        decision = driven.capsule.decide(context_key="k")
        seen[tuple(decision.choices.values())] += 1
        explored += decision.reason == "explored"
    assert set(seen) <= set(joint)
    expected = [share * DRAWS for share in joint.values()]
    assert min(expected) > 5, "the test's states keep every combination likely"
    fit = stats.chisquare([seen[row] for row in joint], [e * DRAWS / math.fsum(expected) for e in expected])
    assert fit.pvalue > P_LEAST
    assert stats.binomtest(explored, DRAWS, settings.min_exploration).pvalue > P_LEAST


@pytest.mark.parametrize("mode", ["live", "shadow"])
@pytest.mark.parametrize("algorithm", ["thompson", "simple_weighted"])
def test_masked_draws_follow_their_propensities(
    store: capsa.Store, clock: Clock, mode: str, algorithm: str
) -> None:
    """With a mask, and for what shadow suggests."""
    settings = Settings({"choice": ["a", "b", "c", "d"]}, algorithm=algorithm, min_exploration=0.05)
    driven = taught(store, clock, settings)
    driven.capsule.update_learning(mode=mode)
    allowed = {"choice": ["d", "b", "a"]}
    expected = driven.model.joint("k", clock.now_s, allowed)
    seen: Counter[str | None] = Counter()
    for _ in range(DRAWS):
        decision = driven.capsule.decide(context_key="k", options=allowed["choice"])
        drawn = decision if mode == "live" else decision.suggested
        assert drawn is not None
        seen[drawn.option_name] += 1
    assert seen["c"] == 0
    counts = [seen[name] for (name,) in expected]
    total = math.fsum(expected.values())
    assert stats.chisquare(counts, [DRAWS * share / total for share in expected.values()]).pvalue > P_LEAST


MODES: dict[str, Callable[[capsa.Capsule], Any]] = {
    "live": lambda capsule: capsule.update_learning(mode="live"),
    "shadow": lambda capsule: capsule.update_learning(mode="shadow"),
    "off": lambda capsule: capsule.update_learning(mode="off"),
    "frozen": lambda capsule: capsule.update_learning(rails={"freeze": True}),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("algorithm", ["thompson", "simple_weighted"])
@given(data=st.data())
def test_what_is_not_allowed_is_never_chosen(
    store: capsa.Store, clock: Clock, mode: str, algorithm: str, data: st.DataObject
) -> None:
    """In every mode; probabilities are 0 outside the mask, sum to 1, and hold the propensity."""
    strategies = data.draw(st.sampled_from([JOINT, {"choice": ["a", "b", "c"]}]))
    valid = data.draw(st.sampled_from([None, VALID])) if strategies is JOINT else None
    explore = data.draw(st.sampled_from([0.0, 0.02, 1.0]))
    settings = Settings(strategies, algorithm=algorithm, valid=valid, min_exploration=explore)
    driven = taught(store, clock, settings)
    MODES[mode](driven.capsule)
    row = data.draw(st.sampled_from(settings.combinations()))
    allowed = {
        name: [o for o in options if o == kept or data.draw(st.booleans())]
        for (name, options), kept in zip(strategies.items(), row, strict=True)
    }
    current = dict(zip(strategies, row, strict=True)) if data.draw(st.booleans()) else None
    for key in ["k", "new"]:
        decision = driven.capsule.decide(context_key=key, options=allowed, current=current)
        suggested = decision.suggested
        for choices in [decision.choices, *([suggested.choices] if suggested else [])]:
            assert all(choices[name] in allowed[name] for name in strategies)
            assert tuple(choices.values()) in settings.combinations()
        if mode in ("off", "shadow"):
            assert decision.propensity is None
            continue
        for part in decision.decisions:
            assert part.probabilities is not None
            assert math.fsum(part.probabilities) == pytest.approx(1, abs=1e-9, rel=0)
            assert part.propensity == part.probabilities[part.option]
            outside = [
                p
                for name, p in zip(part.names, part.probabilities, strict=True)
                if name not in allowed[part.strategy]
            ]
            assert set(outside) <= {0.0}
        if len(strategies) == 1:
            assert decision.probabilities is not None
            assert decision.option is not None
            assert decision.propensity == decision.probabilities[decision.option]


def test_a_draw_is_the_documented_function_of_the_nonce(store: capsa.Store, clock: Clock) -> None:
    """Philox of the nonce under the capsule's key, walked through the logged probabilities."""
    driven = taught(store, clock, Settings({"choice": ["a", "b", "c", "d"]}, min_exploration=0.2))
    key = philox.stream_key("default", driven.job, "driven")
    for _ in range(200):
        decision = driven.decide("k")
        probabilities = decision.probabilities
        assert probabilities is not None
        u = philox.uniform(key, decision.nonce, 0)
        below, chosen = 0.0, 0
        for at, share in enumerate(probabilities):
            if u < below + share:
                chosen = at
                break
            below += share
        assert decision.option == chosen


def test_philox_gives_the_published_answers() -> None:
    """`kat_vectors` of Random123."""
    assert philox.philox4x32_10([0] * 4, [0] * 2) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    pi = philox.philox4x32_10([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0])
    assert pi == (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)
