"""Every learner: keys learn apart, unless shrinkage says otherwise, and at most `max_keys` are held."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.learners.learner_cases import CASES, N_OPTIONS, SUMMING, learner_of, taught
from tests.reference.tabular_model import Settings

from capsa.learners import Learner

EVERY_CASE = pytest.mark.parametrize("settings", CASES.values(), ids=CASES)


@EVERY_CASE
@given(
    rows=st.lists(
        st.tuples(st.integers(0, N_OPTIONS - 1), st.floats(0, 1), st.sampled_from(["a", "b", "new"])),
        min_size=1,
    )
)
def test_an_update_moves_no_other_key(settings: Settings, rows: list[tuple[int, float, str]]) -> None:
    """Without shrinkage, bit for bit: neither held keys nor what a new key starts from."""
    learner = taught(settings.but(shrinkage=None))
    watched = ["k", "other", "never seen"]
    before = learner.probabilities_batch(watched).tolist()
    for row in rows:
        learner.update(*row)
    assert learner.probabilities_batch(watched).tolist() == before


@pytest.mark.parametrize("algorithm", SUMMING)
def test_with_shrinkage_other_keys_follow(algorithm: str) -> None:
    """A key without rewards prefers what pays elsewhere; its own evidence then outweighs that."""
    learner = learner_of(Settings(algorithm, 3, shrinkage=4.0, epsilon=0.0))
    for at in range(30):
        for option in range(3):
            learner.update(option, float(option == 2), f"key {at % 5}")
    fresh = learner.probabilities("fresh")
    assert fresh.argmax() == 2
    assert fresh[2] > 0.7
    for _ in range(60):
        learner.update(2, 0.0, "fresh")
        learner.update(0, 1.0, "fresh")
        learner.update(1, 0.0, "fresh")
    assert learner.probabilities("fresh").argmax() == 0
    assert learner.probabilities("fresh")[0] > 0.9
    assert learner.probabilities("key 0").argmax() == 2


@pytest.mark.parametrize("algorithm", SUMMING)
def test_shrinkage_gives_a_key_nothing_of_its_own(algorithm: str) -> None:
    """With one key alone it changes nothing: what was earned here is not counted twice, decayed or not."""
    for half_life in (None, 3.0, 0.7):
        plain = Settings(algorithm, N_OPTIONS, half_life_updates=half_life)
        one, two = learner_of(plain), learner_of(plain.but(shrinkage=8.0))
        for at in range(40):
            for learner in (one, two):
                learner.update(at % 3, at % 7 / 7, "only")
            # Option 3 is never tried: for ucb1 a residue of rounding would count as a reward.
            assert two.probabilities("only") == pytest.approx(one.probabilities("only"), abs=1e-9)


@pytest.mark.parametrize("half_life", [0.3, 2.0, 7.0])
@pytest.mark.parametrize("algorithm", SUMMING)
def test_shrinkage_gives_a_key_nothing_of_its_own_after_many_half_lives(
    algorithm: str, half_life: float
) -> None:
    """Options tried long ago: what they have left is next to nothing, and still earned here, not elsewhere."""
    plain = Settings(algorithm, N_OPTIONS, half_life_updates=half_life)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        one, two = learner_of(plain), learner_of(plain.but(shrinkage=8.0))
        options = [*rng.permutation(N_OPTIONS).tolist(), *rng.integers(0, N_OPTIONS, 4).tolist(), *[2] * 400]
        for option, reward in zip(options, rng.random(len(options)).tolist(), strict=True):
            for learner in (one, two):
                learner.update(option, reward, "only")
            assert two.probabilities("only") == pytest.approx(one.probabilities("only"), abs=1e-9)


@EVERY_CASE
def test_keys_are_bounded(settings: Settings) -> None:
    """Thousands of keys through room for 20: the last 20 updated are held, and the saved state stays small."""
    learner = learner_of(settings.but(max_keys=20))
    full = 0
    for at in range(3000):
        learner.update(at % N_OPTIONS, at % 5 / 4, f"key {at:05}")
        if at == 40:
            full = len(learner.save())
        if at > 40 and at % 500 == 0:
            assert len(learner.save()) < 2 * full
    assert sorted(learner.keys()) == [f"key {at:05}" for at in range(2980, 3000)]
    assert len(learner.save()) < 2 * full
    shares = learner.probabilities_batch(["key 02999", "key 00000", "never seen"])
    assert np.isfinite(shares).all()
    assert shares[1].tolist() == shares[2].tolist(), "an evicted key is a new one"


@EVERY_CASE
def test_the_key_updated_longest_ago_leaves(settings: Settings) -> None:
    """An update keeps a key, a decision or a read does not."""
    learner = learner_of(settings.but(max_keys=2))
    learner.update(0, 1.0, "a")
    learner.update(0, 1.0, "b")
    learner.update(1, 0.5, "a")
    learner.decide("b")
    learner.probabilities("b")
    learner.update(0, 1.0, "c")
    assert sorted(learner.keys()) == ["a", "c"]


@EVERY_CASE
def test_eviction_moves_no_key_that_is_held(settings: Settings) -> None:
    """Without shrinkage, bit for bit."""
    learner = learner_of(settings.but(max_keys=2, shrinkage=None))
    learner.update(0, 1.0, "gone")
    learner.update(1, 0.5, "stays")
    before = learner.probabilities("stays").tolist()
    learner.update(2, 0.5, "new")
    assert sorted(learner.keys()) == ["new", "stays"]
    assert learner.probabilities("stays").tolist() == before


@EVERY_CASE
def test_eviction_is_the_same_in_batches_and_when_loaded(settings: Settings) -> None:
    """Which key leaves next is part of the state."""
    bounded = settings.but(max_keys=5)
    rng = np.random.default_rng(3)
    options, keys, rewards = rng.integers(0, N_OPTIONS, 400), rng.integers(0, 12, 400), rng.random(400)
    rows = list(zip(options.tolist(), rewards.tolist(), keys.tolist(), strict=True))
    whole, halves, single = learner_of(bounded), learner_of(bounded), learner_of(bounded)
    whole.update_batch(options, rewards, keys)
    halves.update_batch(options[:200], rewards[:200], keys[:200])
    loaded = Learner.load(halves.save())
    loaded.update_batch(options[200:], rewards[200:], keys[200:])
    for row in rows:
        single.update(*row)
    assert len(whole.keys()) == 5
    assert whole.save() == loaded.save() == single.save()


@pytest.mark.parametrize("key", ["", " ", "%|ü", "ключ", "k" * 256, "\0", "default"])
def test_any_text_is_a_key(key: str) -> None:
    learner = learner_of(CASES["thompson plain"])
    learner.update(1, 1.0, key)
    assert learner.keys() == [key]
    assert learner.probabilities(key)[1] > learner.probabilities("another key")[1]
    assert Learner.load(learner.save()).keys() == [key]


def test_no_key_is_the_empty_key() -> None:
    """Called without a key, everything means the same one."""
    one, two = taught(CASES["thompson plain"]), taught(CASES["thompson plain"])
    one.update(1, 1.0)
    two.update(1, 1.0, "")
    assert one.save() == two.save()
    assert sorted(one.keys()) == ["", "k", "other"]
    assert one.probabilities().tolist() == one.probabilities("").tolist()
    assert [one.decide() for _ in range(20)] == [two.decide("") for _ in range(20)]
