"""Every learner: the same calls give the same decisions, in one piece, saved and loaded, or in batches."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.learners.learner_cases import (
    ALGORITHMS,
    CASES,
    HISTORY,
    N_OPTIONS,
    SUMMING,
    learner_of,
    taught,
)
from tests.reference.tabular_model import Settings

from capsa.learners import Learner

EVERY_CASE = pytest.mark.parametrize("settings", CASES.values(), ids=CASES)

KEYS = ["k", "other", "new"]


def walk(learner: Learner, steps: int, seed: int) -> list[tuple[int, float]]:
    """Decisions, with and without a mask, each followed by an update."""
    rng = random.Random(seed)
    made = []
    for _ in range(steps):
        key = rng.choice(KEYS)
        allowed = [rng.random() < 0.6 for _ in range(N_OPTIONS)]
        option, propensity = learner.decide(key, allowed if any(allowed) else None)
        made.append((option, propensity))
        learner.update(option, rng.random(), key)
    return made


@EVERY_CASE
def test_same_seed_and_calls_give_the_same_decisions(settings: Settings) -> None:
    """Bit for bit, state included; another seed gives others, as do two learners without one."""
    one, two = learner_of(settings, seed=11), learner_of(settings, seed=11)
    assert walk(one, 200, seed=3) == walk(two, 200, seed=3)
    assert one.state_hash == two.state_hash
    assert one.save() == two.save()
    exploring = settings.but(min_exploration=0.5)
    others = [learner_of(exploring, seed=seed).decide_batch(["k"] * 100)[0] for seed in (11, 12, None, None)]
    assert len({tuple(options.tolist()) for options in others}) == 4


@EVERY_CASE
def test_a_saved_learner_goes_on_where_it_was(settings: Settings) -> None:
    """Saved in the middle: same class, settings, state and next decisions."""
    learner = taught(settings, seed=5)
    walk(learner, 50, seed=1)
    blob = learner.save()
    assert type(blob) is bytes
    loaded = Learner.load(blob)
    assert type(loaded) is type(learner) is ALGORITHMS[settings.algorithm]
    assert loaded.state_hash == learner.state_hash
    assert loaded.state_hash.startswith("b2:")
    assert loaded.save() == blob
    assert (loaded.n_options, loaded.names, loaded.algorithm) == (
        N_OPTIONS,
        learner.names,
        settings.algorithm,
    )
    assert loaded.keys() == learner.keys()
    assert (loaded.probabilities_batch(KEYS) == learner.probabilities_batch(KEYS)).all()
    assert walk(loaded, 100, seed=2) == walk(learner, 100, seed=2)
    assert loaded.save() == learner.save()


@EVERY_CASE
def test_loading_takes_nothing_from_the_saved_learner(settings: Settings) -> None:
    """What the loaded one learns does not reach the other."""
    learner = taught(settings)
    before = learner.save()
    loaded = Learner.load(before)
    walk(loaded, 20, seed=4)
    assert loaded.state_hash != learner.state_hash
    assert learner.save() == before


def test_names_and_settings_survive() -> None:
    """Names that are no ASCII, and the settings of the class: read again from what it then decides."""
    names = ["günstig", "日本", "a b", "%|~"]
    for algorithm in ALGORITHMS:
        settings = Settings(algorithm, 4, epsilon=0.37, max_delta=0.011, reward_range=(-2.0, 6.0))
        learner = learner_of(settings, options=names)
        learner.update("日本", 6.0, "ключ")
        loaded = Learner.load(learner.save())
        assert loaded.names == names
        assert loaded.keys() == ["ключ"]
        for one in (learner, loaded):
            one.update("a b", -1.75, "ключ")
        assert (loaded.probabilities("ключ") == learner.probabilities("ключ")).all()
        with pytest.raises(ValueError, match=r"6\.5"):
            loaded.update(0, 6.5)


@EVERY_CASE
def test_state_hash_is_of_what_was_learned(settings: Settings) -> None:
    """An update changes it, each one; the same updates give the same hash whatever the seed."""
    learner, other = learner_of(settings, seed=1), learner_of(settings, seed=1)
    hashes = [learner.state_hash]
    for option, reward, key in HISTORY:
        learner.update(option, reward, key)
        hashes.append(learner.state_hash)
        other.update(option, reward, key)
        assert other.state_hash == hashes[-1]
    assert len(set(hashes)) == len(HISTORY) + 1


# Batches


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[str | int], Any]:
    """Keys, and no mask, one for all or one a row."""
    keys: list[str | int] = draw(st.lists(st.sampled_from([*KEYS, 7, "7"]), max_size=20))
    mask = st.lists(st.booleans(), min_size=N_OPTIONS, max_size=N_OPTIONS).filter(any)
    rows = st.lists(mask, min_size=len(keys), max_size=len(keys))
    as_array = rows.map(lambda rows: np.array(rows, bool).reshape(len(keys), N_OPTIONS))
    return keys, draw(st.none() | mask | as_array)


@EVERY_CASE
@given(batch=batches())
def test_decide_batch_is_deciding_one_by_one(settings: Settings, batch: tuple[list[str | int], Any]) -> None:
    """Options, propensities and where the stream then stands, bit for bit."""
    keys, allowed = batch
    one_by_one, batched = taught(settings), taught(settings)
    masks = list(allowed) if isinstance(allowed, np.ndarray) else [allowed] * len(keys)
    made = [one_by_one.decide(key, mask) for key, mask in zip(keys, masks, strict=True)]
    options, propensities = batched.decide_batch(keys, allowed)
    assert options.dtype == np.uint32
    assert propensities.dtype == np.float64
    assert options.shape == propensities.shape == (len(keys),)
    assert list(zip(options.tolist(), propensities.tolist(), strict=True)) == made
    assert batched.save() == one_by_one.save()
    assert batched.decide("k") == one_by_one.decide("k")


@EVERY_CASE
@given(batch=batches())
def test_probabilities_batch_is_reading_one_by_one(
    settings: Settings, batch: tuple[list[str | int], Any]
) -> None:
    keys, allowed = batch
    learner = taught(settings)
    masks = list(allowed) if isinstance(allowed, np.ndarray) else [allowed] * len(keys)
    shares = learner.probabilities_batch(keys, allowed)
    assert shares.shape == (len(keys), N_OPTIONS)
    assert shares.dtype == np.float64
    for row, key, mask in zip(shares, keys, masks, strict=True):
        assert row.tolist() == learner.probabilities(key, mask).tolist()


@EVERY_CASE
@given(
    rows=st.lists(
        st.tuples(st.integers(0, N_OPTIONS - 1), st.floats(0, 1), st.sampled_from([*KEYS, "7", 7])),
        max_size=40,
    )
)
def test_update_batch_is_updating_one_by_one(
    settings: Settings, rows: list[tuple[int, float, str | int]]
) -> None:
    one_by_one, batched = taught(settings), taught(settings)
    for option, reward, key in rows:
        one_by_one.update(option, reward, key)
    batched.update_batch([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])
    assert batched.state_hash == one_by_one.state_hash
    assert batched.save() == one_by_one.save()


@EVERY_CASE
def test_a_large_batch_is_the_same_calls(settings: Settings) -> None:
    """Larger than any inner block: 5,000 rows, new keys among them."""
    rng = np.random.default_rng(8)
    options = rng.integers(0, N_OPTIONS, 5000)
    rewards = rng.random(5000)
    keys = rng.integers(0, 300, 5000)
    one_by_one, batched = taught(settings), taught(settings)
    for option, reward, key in zip(options.tolist(), rewards.tolist(), keys.tolist(), strict=True):
        one_by_one.update(option, reward, key)
    batched.update_batch(options, rewards, keys)
    assert batched.save() == one_by_one.save()
    masks = rng.random((5000, N_OPTIONS)) < 0.7
    masks[:, 1] = True
    made = [one_by_one.decide(key, mask) for key, mask in zip(keys.tolist(), masks, strict=True)]
    found, propensities = batched.decide_batch(keys, masks)
    assert list(zip(found.tolist(), propensities.tolist(), strict=True)) == made


@EVERY_CASE
def test_a_batch_of_nothing_changes_nothing(settings: Settings) -> None:
    learner = taught(settings)
    before = learner.save()
    learner.update_batch([], [], [])
    learner.update_batch(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    options, propensities = learner.decide_batch([])
    assert (options.shape, propensities.shape) == ((0,), (0,))
    masked, _ = learner.decide_batch([], np.ones((0, N_OPTIONS), bool))
    assert masked.shape == (0,)
    assert learner.probabilities_batch([]).shape == (0, N_OPTIONS)
    assert learner.save() == before


# Order


@pytest.mark.parametrize("reward_range", [(0.0, 1.0), (-1.0, 1.0)], ids=str)
@pytest.mark.parametrize("algorithm", SUMMING)
@given(data=st.data())
def test_sums_do_not_depend_on_the_order(
    algorithm: str, reward_range: tuple[float, float], data: st.DataObject
) -> None:
    """Rewards that add up exactly: any order gives the same probabilities, with shrinkage too."""
    settings = Settings(
        algorithm,
        N_OPTIONS,
        reward_range=reward_range,
        shrinkage=data.draw(st.sampled_from([None, 4.0])),
    )
    step = st.tuples(
        st.integers(0, N_OPTIONS - 1), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.sampled_from(KEYS)
    )
    rows = data.draw(st.lists(step, min_size=2, max_size=25))
    one, two = learner_of(settings), learner_of(settings)
    for row in rows:
        one.update(*row)
    for row in data.draw(st.permutations(rows)):
        two.update(*row)
    assert one.probabilities_batch(KEYS).tolist() == two.probabilities_batch(KEYS).tolist()


@given(
    rewards=st.lists(st.tuples(st.integers(0, 3), st.floats(-1, 1)), min_size=2, max_size=20), data=st.data()
)
def test_thompson_depends_on_the_order_by_rounding_alone(
    rewards: list[tuple[int, float]], data: st.DataObject
) -> None:
    settings = Settings("thompson", N_OPTIONS, reward_range=(-1.0, 1.0))
    one, two = learner_of(settings), learner_of(settings)
    for row in rewards:
        one.update(*row)
    for row in data.draw(st.permutations(rewards)):
        two.update(*row)
    assert one.probabilities() == pytest.approx(two.probabilities(), abs=1e-7)


def test_simple_weighted_depends_on_the_order() -> None:
    """A weight that has hit the floor forgets by how much: what came last counts more."""
    settings = Settings("simple_weighted", 2, reward_range=(0.0, 3.0))
    first, last = learner_of(settings), learner_of(settings)
    for option in [0] * 5 + [1] * 5:
        first.update(option, 3.0)
        last.update(1 - option, 3.0)
    assert first.probabilities() == pytest.approx([0.25, 0.75], abs=1e-9)
    assert last.probabilities() == pytest.approx([0.75, 0.25], abs=1e-9)


@pytest.mark.parametrize("algorithm", SUMMING)
def test_under_decay_the_order_counts(algorithm: str) -> None:
    """A half-life of one update: of a good and a bad reward the later one counts twice."""
    shares = []
    for rewards in [(1.0, 0.0), (0.0, 1.0)]:
        learner = learner_of(Settings(algorithm, 2, half_life_updates=1.0))
        learner.update_batch([0, 0, 1], [*rewards, 0.5], ["", "", ""])
        shares.append(learner.probabilities()[0])
    worse, better = shares
    assert better > worse + 0.05


# Threads


def together(work: Callable[[int], None], threads: int = 4) -> None:
    """Runs the work in threads that switch as often as they can; raises what one of them raised."""
    failed: list[BaseException] = []

    def guarded(at: int) -> None:
        try:
            work(at)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        running = [threading.Thread(target=guarded, args=(at,)) for at in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if failed:
        raise failed[0]


@EVERY_CASE
def test_threads_lose_no_update_and_no_draw(settings: Settings) -> None:
    """The same update from four threads, single and in batches, among decisions, saves and reads: the state
    is that of one thread, and the stream has moved once a decision."""
    learner, alone = learner_of(settings), learner_of(settings)
    rounds = 150

    def work(at: int) -> None:
        for step in range(rounds):
            if at % 2:
                learner.update(1, 0.75, "k")
            else:
                learner.update_batch([1, 1], [0.75, 0.75], ["k", "k"])
            learner.decide("k")
            if step % 50 == 0:
                Learner.load(learner.save()).probabilities("k")

    together(work)
    for _ in range(rounds * (2 + 4)):
        alone.update(1, 0.75, "k")
    alone.decide_batch(["k"] * rounds * 4)
    assert learner.probabilities("k").tolist() == alone.probabilities("k").tolist()
    assert learner.state_hash == alone.state_hash
    assert learner.save() == alone.save()


@EVERY_CASE
def test_threads_share_one_stream(settings: Settings) -> None:
    """What four threads draw is what one draws, in some order: no number is used twice or left out."""
    exploring = settings.but(min_exploration=0.5)
    learner, alone = taught(exploring), taught(exploring)
    drawn: list[tuple[int, float]] = []

    def work(_: int) -> None:
        for _ in range(200):
            drawn.append(learner.decide("k"))  # noqa: PERF401 - each call on its own is the point

    together(work)
    assert Counter(drawn) == Counter(alone.decide("k") for _ in range(800))


def test_a_batch_is_one_moment() -> None:
    """Between the rows of an update batch nobody reads: the sum of both keys' evidence is always even."""
    learner = learner_of(Settings("simple_weighted", 2, max_delta=0.01))
    stop = threading.Event()
    uneven: list[tuple[float, float]] = []

    def write(_: int) -> None:
        for at in range(300):
            option = at // 4 % 2
            learner.update_batch([option, option], [1.0, 1.0], ["a", "b"])
        stop.set()

    def read(_: int) -> None:
        while not stop.is_set():
            one, two = learner.probabilities_batch(["a", "b"])[:, 0].tolist()
            if one != two:
                uneven.append((one, two))

    together(lambda at: (write if at == 0 else read)(at), threads=3)
    assert uneven == []
