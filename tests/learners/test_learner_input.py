"""Every learner: what fits is accepted in every usual form, what does not is refused in words and changes nothing."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.learners.learner_cases import ALGORITHMS, CASES, N_OPTIONS, REFUSED, SUMMING, learner_of, taught
from tests.reference.tabular_model import Settings

from capsa.learners import EpsilonGreedy, Learner, Ucb1

#: What is checked before anything is learned does not depend on the settings: one case an algorithm.
EVERY_CASE = pytest.mark.parametrize(
    "settings", [CASES[f"{algorithm} everything"] for algorithm in ALGORITHMS], ids=ALGORITHMS
)
EVERY_ALGORITHM = pytest.mark.parametrize("algorithm", ALGORITHMS)

HUGE = 10**30
SURROGATE = "a\ud800b"


def refused(call: Callable[[], Any], shown: str) -> None:
    """A call that ends in a clear error: the offending value, or what it is, is in its words."""
    with pytest.raises(REFUSED) as caught:
        call()
    message = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert shown.lower() in message.lower(), message
    assert len(message) < 400, "the offending value is shortened"
    assert "panic" not in message.lower()


# Calls on a learner of four options in 0..1 or -1..1: the call, and what its error names.
BAD_CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "reward NaN": (lambda one: one.update(0, math.nan, "k"), "nan"),
    "reward infinite": (lambda one: one.update(0, math.inf, "k"), "inf"),
    "reward minus infinite": (lambda one: one.update(0, -math.inf, "k"), "-inf"),
    "reward too large": (lambda one: one.update(0, 1.5, "k"), "1.5"),
    "reward a hair too large": (lambda one: one.update(0, math.nextafter(1, 2), "k"), "1.0000000000000002"),
    "reward too small": (lambda one: one.update(0, -1.25, "k"), "-1.25"),
    "reward huge": (lambda one: one.update(0, 10**400, "k"), "reward"),
    "reward a text": (lambda one: one.update(0, "0.5", "k"), "str"),
    "reward nothing": (lambda one: one.update(0, None, "k"), "None"),
    "reward a list": (lambda one: one.update(0, [0.5], "k"), "list"),
    "reward complex": (lambda one: one.update(0, 1j, "k"), "complex"),
    "option too large": (lambda one: one.update(4, 0.5, "k"), "4"),
    "option negative": (lambda one: one.update(-1, 0.5, "k"), "-1"),
    "option huge": (lambda one: one.update(HUGE, 0.5, "k"), str(HUGE)),
    "option unknown": (lambda one: one.update("zebra", 0.5, "k"), "zebra"),
    "option a fraction": (lambda one: one.update(1.5, 0.5, "k"), "float"),
    "option nothing": (lambda one: one.update(None, 0.5, "k"), "None"),
    "option no text": (lambda one: one.update(b"a", 0.5, "k"), "bytes"),
    "option with a lone surrogate": (lambda one: one.update(SURROGATE, 0.5, "k"), "ud800"),
    "option very long": (lambda one: one.update("z" * 100_000, 0.5, "k"), "zzz"),
    "key a fraction": (lambda one: one.update(0, 0.5, 1.5), "float"),
    "key a flag": (lambda one: one.update(0, 0.5, True), "bool"),
    "key bytes": (lambda one: one.update(0, 0.5, b"k"), "bytes"),
    "key a list": (lambda one: one.update(0, 0.5, ["k"]), "list"),
    "key over-long": (lambda one: one.update(0, 0.5, "q" * 100_000), "qqq"),
    "key with a lone surrogate": (lambda one: one.update(0, 0.5, SURROGATE), "ud800"),
    "decide: key over-long": (lambda one: one.decide("q" * 100_000), "qqq"),
    "decide: key with a lone surrogate": (lambda one: one.decide(SURROGATE), "ud800"),
    "decide: key a fraction": (lambda one: one.decide(1.5), "float"),
    "probabilities: key over-long": (lambda one: one.probabilities("q" * 100_000), "qqq"),
    "nothing allowed": (lambda one: one.decide("k", [False] * 4), "allowed"),
    "nothing allowed, array": (lambda one: one.decide("k", np.zeros(4, bool)), "allowed"),
    "probabilities of nothing allowed": (lambda one: one.probabilities("k", [False] * 4), "allowed"),
    "mask too short": (lambda one: one.decide("k", [True] * 3), "3"),
    "mask too long": (lambda one: one.decide("k", [True] * 5), "5"),
    "mask empty": (lambda one: one.decide("k", []), "0"),
    "mask of two dimensions": (lambda one: one.decide("k", np.ones((1, 4), bool)), "1, 4"),
    "mask a flag": (lambda one: one.decide("k", True), "allowed"),
    "mask a text": (lambda one: one.decide("k", "yyyy"), "allowed"),
    "mask of texts": (lambda one: one.decide("k", ["False", "True", "True", "True"]), "allowed"),
    "mask of fractions": (lambda one: one.decide("k", [0.5, 1.0, 0.0, 1.0]), "allowed"),
    "mask of NaN": (lambda one: one.probabilities("k", [math.nan] * 4), "allowed"),
    "mask of None": (lambda one: one.decide("k", [None, True, True, True]), "allowed"),
    "mask of option numbers": (lambda one: one.decide("k", [0, 1, 2, 3]), "allowed"),
    "mask as a mapping": (lambda one: one.decide("k", {0: True, 1: True, 2: True, 3: True}), "allowed"),
    "batch mask too narrow": (lambda one: one.decide_batch(["k"] * 2, np.ones((2, 3), bool)), "3"),
    "batch mask of too few rows": (lambda one: one.decide_batch(["k"] * 3, np.ones((2, 4), bool)), "2"),
    "batch mask of three dimensions": (
        lambda one: one.decide_batch(["k"], np.ones((1, 4, 1), bool)),
        "1, 4, 1",
    ),
    "batch mask with a row of nothing": (
        lambda one: one.decide_batch(["k"] * 3, [[True] * 4, [True] * 4, [False] * 4]),
        "2",
    ),
    "batch mask of fractions": (lambda one: one.decide_batch(["k"], np.full((1, 4), 0.5)), "allowed"),
    "ragged batch mask": (lambda one: one.decide_batch(["k"] * 2, [[True] * 4, [True] * 3]), "shape"),
    "probabilities_batch with a row of nothing": (
        lambda one: one.probabilities_batch(["k"] * 3, [[True] * 4, [False] * 4, [True] * 4]),
        "1",
    ),
    "batch keys a text": (lambda one: one.decide_batch("kkk"), "one text"),
    "batch keys a number": (lambda one: one.decide_batch(3), "keys has 0 dimensions"),
    "batch keys nothing": (lambda one: one.decide_batch(None), "keys has 0 dimensions"),
    "batch keys of fractions": (lambda one: one.decide_batch([0.5, 1.5]), "keys[0]"),
    "batch keys of two dimensions": (
        lambda one: one.decide_batch(np.zeros((2, 2), int)),
        "keys has 2 dimensions",
    ),
    "batch keys with one bad": (lambda one: one.decide_batch(["k", "k", None]), "2"),
    "batch keys with a lone surrogate": (lambda one: one.decide_batch(["k", SURROGATE]), "1"),
    "batch keys as a float array": (lambda one: one.probabilities_batch(np.array([0.5])), "float"),
    "batch of unequal lengths": (lambda one: one.update_batch([0, 1], [0.5], ["k", "k"]), "1"),
    "batch of too few keys": (lambda one: one.update_batch([0, 1, 2], [0.5] * 3, ["k"] * 2), "2"),
    "batch of too few options": (lambda one: one.update_batch([0], [0.5] * 2, ["k"] * 2), "2"),
    "batch of scalars": (lambda one: one.update_batch(0, 0.5, "k"), "options"),
    "batch rewards of two dimensions": (
        lambda one: one.update_batch([0, 1], np.full((2, 1), 0.5), ["k", "k"]),
        "2, 1",
    ),
    "batch rewards of texts": (lambda one: one.update_batch([0], ["0.5"], ["k"]), "rewards"),
    "batch options of fractions": (lambda one: one.update_batch([0.5], [0.5], ["k"]), "options[0]"),
    "batch options as a float array": (
        lambda one: one.update_batch(np.array([1.0]), np.array([0.5]), ["k"]),
        "float64",
    ),
}


@EVERY_CASE
@pytest.mark.parametrize("bad", BAD_CALLS)
def test_a_bad_call_is_refused_and_changes_nothing(settings: Settings, bad: str) -> None:
    """Neither what was learned nor where the stream stands."""
    call, shown = BAD_CALLS[bad]
    learner = taught(settings)
    before, blob = learner.state_hash, learner.save()
    refused(lambda: call(learner), shown)
    assert learner.state_hash == before
    assert learner.save() == blob


#: One bad entry: option, reward, key, and what the error names besides its index.
BAD_ENTRIES: dict[str, tuple[Any, Any, Any, str]] = {
    "unknown option": (4, 0.5, "k", "4"),
    "negative option": (-1, 0.5, "k", "-1"),
    "huge option": (HUGE, 0.5, "k", str(HUGE)),
    "NaN": (1, math.nan, "k", "nan"),
    "infinity": (1, math.inf, "k", "inf"),
    "reward out of range": (1, -1.5, "k", "-1.5"),
    "long key": (1, 0.5, "q" * 100_000, "qqq"),
    "surrogate": (1, 0.5, SURROGATE, "ud800"),
}


@EVERY_CASE
@pytest.mark.parametrize("bad", BAD_ENTRIES)
@pytest.mark.parametrize("at", [0, 37, 99])
def test_one_bad_entry_refuses_the_batch(settings: Settings, bad: str, at: int) -> None:
    """First, amid and last of a hundred: its index is in the words, and nothing of the batch is learned."""
    option, reward, key, shown = BAD_ENTRIES[bad]
    options: list[Any] = [2] * 100
    rewards: list[Any] = [0.5] * 100
    keys: list[Any] = ["new"] * 100
    options[at], rewards[at], keys[at] = option, reward, key
    learner = taught(settings)
    before = learner.save()
    refused(lambda: learner.update_batch(options, rewards, keys), shown)
    refused(lambda: learner.update_batch(options, rewards, keys), str(at))
    assert learner.save() == before
    if isinstance(reward, float) and option == 1 and key == "k":
        arrays = np.array(options), np.array(rewards), np.arange(100)
        refused(lambda: learner.update_batch(*arrays), str(at))
        assert learner.save() == before


@EVERY_CASE
def test_the_reward_range_is_closed_and_exact(settings: Settings) -> None:
    """Both ends are accepted, the next numbers outside are not."""
    low, high = settings.reward_range
    learner = learner_of(settings)
    learner.update(0, low)
    learner.update(0, high)
    before = learner.save()
    refused(lambda: learner.update(0, math.nextafter(low, -9)), "range")
    refused(lambda: learner.update(0, math.nextafter(high, 9)), "range")
    assert learner.save() == before


@EVERY_ALGORITHM
@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (0, "0"),
        (1, "1"),
        (1025, "1025"),
        (-3, "-3"),
        (HUGE, str(HUGE)),
        (2.5, "float"),
        (None, "None"),
        ([], "0"),
        (["one"], "1"),
        ([f"o{at}" for at in range(1025)], "1025"),
        (["twice", "b", "twice"], "twice"),
        (["a", 2], "int"),
        (["a", None], "None"),
        (["a", b"b"], "bytes"),
        (["a", SURROGATE], "ud800"),
        (["a", ""], '""'),
        (["a", "n" * 100_000], "nnn"),
        ("abc", "one text"),
        (b"abc", "int"),
        ({"a", "b"}, "set"),
    ],
    # A set shows itself in another order in every process, and workers have to agree on names.
    ids=lambda given: "a set" if isinstance(given, set) else repr(given),
)
def test_bad_options_are_refused(algorithm: str, options: Any, shown: str) -> None:
    """2 to 1024, as a number or as unique names in an order."""
    refused(lambda: ALGORITHMS[algorithm](options), shown)


BAD_SETTINGS: list[tuple[str, Any, str]] = [
    ("min_exploration", -0.1, "-0.1"),
    ("min_exploration", 1.5, "1.5"),
    ("min_exploration", math.nan, "nan"),
    ("min_exploration", "0.1", "str"),
    ("min_exploration", None, "None"),
    ("max_keys", 0, "0"),
    ("max_keys", -1, "-1"),
    ("max_keys", HUGE, str(HUGE)),
    ("max_keys", 2.5, "float"),
    ("half_life_updates", 0, "0"),
    ("half_life_updates", -3.0, "-3"),
    ("half_life_updates", math.nan, "nan"),
    ("half_life_updates", math.inf, "inf"),
    ("half_life_updates", "3", "str"),
    ("reward_range", (1.0, 0.0), "1"),
    ("reward_range", (0.5, 0.5), "0.5"),
    ("reward_range", (math.nan, 1.0), "nan"),
    ("reward_range", (0.0, math.inf), "inf"),
    ("reward_range", (0.0,), "1"),
    ("reward_range", (0.0, 0.5, 1.0), "3"),
    ("reward_range", "01", "str"),
    ("reward_range", 1.0, "float"),
    ("reward_range", None, "None"),
    ("seed", 1.5, "float"),
    ("seed", "one", "str"),
    ("seed", -1, "-1"),
    ("seed", 2**200, str(2**200)),
]


@EVERY_ALGORITHM
@pytest.mark.parametrize(
    ("name", "value", "shown"), BAD_SETTINGS, ids=[f"{n}={v!r}"[:40] for n, v, _ in BAD_SETTINGS]
)
def test_bad_settings_are_refused(algorithm: str, name: str, value: Any, shown: str) -> None:
    refused(lambda: ALGORITHMS[algorithm](3, **{name: value}), shown)
    refused(lambda: ALGORITHMS[algorithm](3, **{name: value}), name)


BAD_PRIORS: list[tuple[str, Any, str]] = [
    ("priors", {7: (0.5, 1.0)}, "7"),
    ("priors", {-1: (0.5, 1.0)}, "-1"),
    ("priors", {"zebra": (0.5, 1.0)}, "zebra"),
    ("priors", {0: (1.5, 1.0)}, "1.5"),
    ("priors", {0: (-0.5, 1.0)}, "-0.5"),
    ("priors", {0: (math.nan, 1.0)}, "nan"),
    ("priors", {0: (0.5, -1.0)}, "-1"),
    ("priors", {0: (0.5, math.nan)}, "nan"),
    ("priors", {0: (0.5, math.inf)}, "inf"),
    ("priors", {0: (0.5,)}, "(0.5,)"),
    ("priors", {0: (0.5, 1.0, 2.0)}, "(0.5, 1.0, 2.0)"),
    ("priors", {0: 0.5}, "0.5"),
    ("priors", {0: ("0.5", 1.0)}, "('0.5', 1.0)"),
    ("priors", {1.5: (0.5, 1.0)}, "1.5"),
    ("priors", [(0.5, 1.0)] * 3, "list"),
    ("priors", {0: (0.5, 1.0), "0": (0.5, 2.0)}, "0"),
]
BAD_SHRINKAGE: list[tuple[str, Any, str]] = [
    ("shrinkage", 0.0, "0"),
    ("shrinkage", -1.0, "-1"),
    ("shrinkage", math.nan, "nan"),
    ("shrinkage", math.inf, "inf"),
    ("shrinkage", "8", "str"),
]


@EVERY_ALGORITHM
@pytest.mark.parametrize(
    ("name", "value", "shown"), BAD_PRIORS, ids=[f"{n}={v!r}"[:40] for n, v, _ in BAD_PRIORS]
)
def test_bad_priors_are_refused(algorithm: str, name: str, value: Any, shown: str) -> None:
    """Of an option that is not there or said twice, outside the range, or worth no positive number of rewards."""
    refused(lambda: ALGORITHMS[algorithm](3, **{name: value}), shown)


@pytest.mark.parametrize("algorithm", SUMMING)
@pytest.mark.parametrize(
    ("name", "value", "shown"), BAD_SHRINKAGE, ids=[f"{n}={v!r}"[:40] for n, v, _ in BAD_SHRINKAGE]
)
def test_bad_shrinkage_is_refused(algorithm: str, name: str, value: Any, shown: str) -> None:
    refused(lambda: ALGORITHMS[algorithm](3, **{name: value}), shown)


@pytest.mark.parametrize(
    ("algorithm", "arguments", "settings", "shown"),
    [
        ("epsilon_greedy", (3,), {"epsilon": -0.1}, "-0.1"),
        ("epsilon_greedy", (3,), {"epsilon": 1.1}, "1.1"),
        ("epsilon_greedy", (3,), {"epsilon": math.nan}, "nan"),
        ("epsilon_greedy", (3,), {"epsilon": "0.1"}, "epsilon"),
        ("simple_weighted", (3,), {"max_delta": -0.1}, "-0.1"),
        ("simple_weighted", (3,), {"max_delta": 0.0}, "0"),
        ("simple_weighted", (3,), {"max_delta": 1.5}, "1.5"),
        ("simple_weighted", (3,), {"max_delta": math.nan}, "nan"),
        ("simple_weighted", (3,), {"shrinkage": 8.0}, "shrinkage"),
        ("thompson", (3,), {"epsilon": 0.1}, "epsilon"),
        ("ucb1", (3,), {"max_delta": 0.1}, "max_delta"),
        ("ucb1", (3, 7), {}, "argument"),
        ("thompson", (3,), {"seeed": 7}, "seeed"),
        ("thompson", (), {}, "options"),
    ],
)
def test_settings_of_one_algorithm_are_checked(
    algorithm: str, arguments: tuple[Any, ...], settings: dict[str, Any], shown: str
) -> None:
    """Out of range, of another algorithm, or not said by name."""
    refused(lambda: ALGORITHMS[algorithm](*arguments, **settings), shown)


# Blobs


@EVERY_CASE
def test_a_blob_that_was_changed_or_cut_is_refused(settings: Settings) -> None:
    """Any byte changed, any length cut, anything after it: never another state, never a crash."""
    blob = taught(settings).save()
    for at in range(0, len(blob), max(1, len(blob) // 150)):
        for flip in (0x01, 0x80, 0xFF):
            changed = blob[:at] + bytes([blob[at] ^ flip]) + blob[at + 1 :]
            with pytest.raises(ValueError, match=r"\w+ \w+"):
                Learner.load(changed)
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            Learner.load(blob[:at])
    for more in (b"\0", blob):
        with pytest.raises(ValueError, match=r"\w+ \w+"):
            Learner.load(blob + more)


FOREIGN: list[bytes] = [
    b"",
    b"\0",
    b"hello",
    bytes(10_000),
    b"\xff" * 1000,
    # CBOR: an array that says it has 2^63 - 1 entries, and maps in maps a thousand deep.
    b"\x9b\x7f" + b"\xff" * 7,
    b"\xa1\x00" * 1000,
    json.dumps({"algorithm": "ucb1"}).encode(),
    pickle.dumps({"algorithm": "ucb1"}),
]


@pytest.mark.parametrize("blob", FOREIGN, ids=lambda blob: repr(blob[:12]))
def test_foreign_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        Learner.load(blob)


@pytest.mark.parametrize("blob", [None, "text", 3, ["b"]], ids=repr)
def test_what_is_not_bytes_is_refused(blob: Any) -> None:
    with pytest.raises(TypeError, match=r"not an instance of 'bytes'"):
        Learner.load(blob)


def test_a_saved_learner_holds_no_pickle() -> None:
    """Loading runs nothing: the blob does not name our modules."""
    blob = taught(CASES["thompson plain"]).save()
    assert b"capsa.learners" not in blob
    assert not blob.startswith(b"\x80")
    with pytest.raises(Exception, match=r".*"):
        pickle.loads(blob)  # noqa: S301 - our own bytes


# What is accepted

KEY_FORMS: list[Any] = ["7", 7, np.int64(7), np.uint8(7), np.int16(7), np.str_("7")]


@EVERY_CASE
def test_every_form_of_the_same_key_is_the_same_key(settings: Settings) -> None:
    """Text, int and their NumPy scalars; and for batches lists, tuples and arrays of them."""
    learner = learner_of(settings)
    for form in KEY_FORMS:
        learner.update(1, 0.25, form)
    assert learner.keys() == ["7"]
    expected = learner.probabilities("7").tolist()
    for form in KEY_FORMS:
        assert learner.probabilities(form).tolist() == expected
    rows: list[Any] = [
        KEY_FORMS,
        tuple(KEY_FORMS),
        np.array(["7", "7"]),
        np.array(["7", 7], object),
        *(np.array([7, 7], dtype) for dtype in ("i1", "u1", "i4", "u4", "i8", "u8")),
        np.array([7, 0, 7, 0])[::2],
        range(7, 8),
    ]
    for keys in rows:
        assert {tuple(row) for row in learner.probabilities_batch(keys).tolist()} == {tuple(expected)}
    ends = [-(2**63), -1, 0, 2**63 - 1]
    learner.update_batch([0] * 4, [0.5] * 4, np.array(ends))
    assert set(learner.keys()) == {"7", *map(str, ends)}
    big = np.array([2**64 - 1], "u8")
    learner.update_batch([0], [0.5], big)
    assert set(learner.keys()) == {"7", *map(str, ends), str(2**64 - 1)}


@EVERY_CASE
def test_every_form_of_an_update_is_the_same_update(settings: Settings) -> None:
    """NumPy scalars, ints, arrays of any layout and width, lists, tuples, names."""
    names = ["a", "b", "c", "d"]
    plain = learner_of(settings, options=names)
    plain.update_batch([1, 2, 1], [1.0, 0.0, 1.0], ["k", "k", "k"])
    hashes = set()
    frozen = np.array([1.0, 0.0, 1.0])
    frozen.flags.writeable = False
    every_other = np.array([1.0, 9.0, 0.0, 9.0, 1.0])[::2]
    forms: list[tuple[Any, Any]] = [
        ([1, 2, 1], [1, 0, 1]),
        ((1, 2, 1), (1.0, 0.0, 1.0)),
        (["b", "c", "b"], [1, 0.0, np.uint8(1)]),
        (np.array(["b", "c", "b"]), frozen),
        (np.array([1, 2, 1], "u1"), np.array([1, 0, 1], "f4")),
        (np.array([1, 2, 1], "i8"), np.array([1, 0, 1], "i8")),
        (np.array([1, 2, 1], "u4"), every_other),
        (np.array([[1, 2, 1], [0, 0, 0]], order="F")[0], np.array([1, 0, 1], ">f8")),
        ([np.int64(1), np.uint16(2), 1], [np.float32(1), np.float64(0), np.int8(1)]),
    ]
    for options, rewards in forms:
        batched, single = learner_of(settings, options=names), learner_of(settings, options=names)
        batched.update_batch(options, rewards, ["k"] * 3)
        for option, reward in zip(options, rewards, strict=True):
            single.update(option, reward, "k")
        hashes |= {batched.state_hash, single.state_hash}
    assert hashes == {plain.state_hash}


@EVERY_CASE
def test_every_form_of_a_mask_is_the_same_mask(settings: Settings) -> None:
    """Lists, tuples, arrays of any layout; for batches one for all or one a row."""
    learner = taught(settings)
    mask = [True, False, True, False]
    expected = learner.probabilities("k", mask).tolist()
    wide = np.array([True, True, False, True, True, True, False, True])
    read_only = np.array(mask)
    read_only.flags.writeable = False
    columns = np.asfortranarray([mask, [True] * 4])
    forms: list[Any] = [
        tuple(mask),
        np.array(mask),
        [np.True_, np.False_, np.True_, np.False_],
        wide[::2],
        read_only,
        columns[0],
    ]
    for form in forms:
        assert learner.probabilities("k", form).tolist() == expected
        assert learner.probabilities_batch(["k", "k"], form).tolist() == [expected] * 2
    both: list[Any] = [
        [mask, mask],
        (tuple(mask), mask),
        np.array([mask, mask]),
        np.asfortranarray([mask, mask]),
        np.broadcast_to(np.array(mask), (2, 4)),
        np.array([mask, mask, mask, mask])[::2],
    ]
    for form in both:
        assert learner.probabilities_batch(["k", "k"], form).tolist() == [expected] * 2


@EVERY_ALGORITHM
def test_names_and_numbers_say_the_same(algorithm: str) -> None:
    """Of options and of priors; names are kept in their order, from any sequence."""
    names = ["z", "a", "ü"]
    by_number, by_name = ALGORITHMS[algorithm](names, seed=1), ALGORITHMS[algorithm](tuple(names), seed=1)
    assert by_name.names == names
    assert ALGORITHMS[algorithm](np.array(names), seed=1).names == names
    assert by_name.algorithm == algorithm
    by_number.update(2, 1.0)
    by_name.update("ü", 1.0)
    assert by_name.state_hash == by_number.state_hash
    one = ALGORITHMS[algorithm](names, priors={0: (0.25, 3), 2: (0.75, 1.0)}, seed=1)
    two = ALGORITHMS[algorithm](names, priors={"z": (0.25, 3), "ü": (np.float64(0.75), np.int8(1))}, seed=1)
    assert one.probabilities().tolist() == two.probabilities().tolist()
    assert one.probabilities().tolist() != ALGORITHMS[algorithm](names, seed=1).probabilities().tolist()


@pytest.mark.parametrize("n_options", [2, np.int64(3), N_OPTIONS, 1024])
def test_numpy_integers_count_options(n_options: Any) -> None:
    assert Ucb1(n_options).n_options == int(n_options)


def test_arguments_are_not_kept_or_changed() -> None:
    """What the caller does with its arrays afterwards changes nothing, and we do not write into them."""
    learner = taught(CASES["epsilon_greedy plain"])
    options, rewards, keys = np.array([1, 2]), np.array([0.5, 0.25]), ["k", "k"]
    mask = np.array([[True, False, True, True]] * 2)
    priors: dict[int | str, tuple[float, float]] = {0: (0.25, 3.0)}
    informed = EpsilonGreedy(N_OPTIONS, priors=priors, seed=1)
    before = informed.probabilities().tolist()
    learner.update_batch(options, rewards, keys)
    learner.decide_batch(keys, mask)
    saved = learner.save()
    assert (options.tolist(), rewards.tolist(), mask.tolist()) == (
        [1, 2],
        [0.5, 0.25],
        [[True, False, True, True]] * 2,
    )
    options[:], rewards[:], mask[:], priors[0] = 0, 0, False, (1.0, 100.0)
    shares = learner.probabilities("k")
    shares[:] = 9
    assert learner.save() == saved
    assert learner.probabilities("k").max() <= 1
    assert informed.probabilities().tolist() == before
