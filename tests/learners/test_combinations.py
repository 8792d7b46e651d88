"""Joint choices and masked argmax against brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.learners.learner_cases import REFUSED

from capsa.learners import Combinations, masked_argmax, masked_argmax_batch


@dataclass(frozen=True)
class Problem:
    """Heads, valid rows, and one row of scores and mask."""

    sizes: list[int]
    valid: list[tuple[int, ...]] | None
    scores: NDArray[np.float64]
    allowed: NDArray[np.bool_] | None

    def combinations(self) -> Combinations:
        valid = None if self.valid is None else [list(row) for row in self.valid]
        return Combinations(self.sizes, valid=valid)

    def rows(self) -> list[tuple[int, ...]]:
        """The valid combinations, in lexicographic order."""
        every = itertools.product(*map(range, self.sizes))
        return [row for row in every if self.valid is None or row in self.valid]

    def places(self, row: Sequence[int]) -> list[int]:
        """Where a row's entries stand in a concatenated array."""
        starts = itertools.accumulate(self.sizes, initial=0)
        return [start + option for start, option in zip(starts, row, strict=False)]

    def is_allowed(self, row: Sequence[int]) -> bool:
        return self.allowed is None or bool(self.allowed[self.places(row)].all())

    def best(self) -> int | None:
        """The first of the largest sums, added from head to head; None where nothing is allowed."""
        sums = [
            sum((float(self.scores[place]) for place in self.places(row)), 0.0)
            if self.is_allowed(row)
            else None
            for row in self.rows()
        ]
        reachable = [value for value in sums if value is not None]
        return sums.index(max(reachable)) if reachable else None


#: Few distinct values, so that ties are common; sums of them are exact.
TIED = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.5, 1.0])
ANY = st.floats(-1e300, 1e300)


@st.composite
def problems(draw: st.DrawFn, *, least_heads: int = 1) -> Problem:
    sizes = draw(st.lists(st.integers(1, 5), min_size=least_heads, max_size=4))
    every = list(itertools.product(*map(range, sizes)))
    valid = draw(st.none() | st.lists(st.sampled_from(every), min_size=1, max_size=12))
    width = sum(sizes)
    values = draw(st.sampled_from([TIED, ANY]))
    scores = np.array(draw(st.lists(values, min_size=width, max_size=width)))
    allowed = draw(st.none() | st.lists(st.sampled_from([True, True, False]), min_size=width, max_size=width))
    return Problem(sizes, valid, scores, None if allowed is None else np.array(allowed))


@given(problem=problems())
def test_combinations_are_the_valid_rows_in_order(problem: Problem) -> None:
    """Repetitions and their order in `valid` do not matter."""
    combinations = problem.combinations()
    expected = problem.rows()
    assert len(combinations) == len(expected)
    assert combinations.rows.dtype == np.uint16
    assert combinations.rows.shape == (len(expected), len(problem.sizes))
    assert [tuple(row) for row in combinations.rows.tolist()] == expected
    assert combinations.width == sum(problem.sizes)


@given(problem=problems())
def test_argmax_is_the_first_of_the_largest_sums(problem: Problem) -> None:
    """Of those whose options are all allowed; where there is none, an error."""
    combinations, best = problem.combinations(), problem.best()
    if best is None:
        with pytest.raises(REFUSED, match="allowed"):
            combinations.argmax(problem.scores, problem.allowed)
        return
    found = combinations.argmax(problem.scores, problem.allowed)
    assert type(found) is int
    assert found == best


@given(problem=problems(), count=st.integers(0, 40), seed=st.integers(0, 2**32), shared=st.booleans())
def test_a_batch_is_its_rows(problem: Problem, count: int, seed: int, shared: bool) -> None:
    """Any number of rows: blocks and what is left over, with one mask a row or one for all."""
    combinations = problem.combinations()
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(problem.scores, (count, 1)), axis=1)
    allowed: Any = problem.allowed
    if allowed is not None and not shared:
        allowed = rng.permuted(np.tile(allowed, (count, 1)), axis=1)
    masks = list(allowed) if allowed is not None and allowed.ndim == 2 else [allowed] * count
    expected: list[int] = []
    bad = None
    for at, (row, mask) in enumerate(zip(scores, masks, strict=True)):
        best = Problem(problem.sizes, problem.valid, row, mask).best()
        if best is None:
            bad = at
            break
        expected.append(best)
    if bad is not None:
        with pytest.raises(REFUSED, match=rf"\b{bad}\b"):
            combinations.argmax_batch(scores, allowed)
        return
    found = combinations.argmax_batch(scores, allowed)
    assert found.dtype == np.uint32
    assert found.shape == (count,)
    assert found.tolist() == expected


@given(problem=problems(), explore=st.sampled_from([0.0, 0.1, 1.0]), data=st.data())
def test_probabilities_are_products_over_what_is_allowed(
    problem: Problem, explore: float, data: st.DataObject
) -> None:
    """Normalised, mixed with the uniform distribution; exactly 0 outside the mask; uniform where all products are 0."""
    shares = np.concatenate(
        [
            np.array(data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.3, 1.0]), min_size=size, max_size=size)))
            for size in problem.sizes
        ]
    )
    combinations = problem.combinations()
    is_allowed = np.array([problem.is_allowed(row) for row in problem.rows()])
    if not is_allowed.any():
        with pytest.raises(REFUSED, match="allowed"):
            combinations.probabilities(shares, problem.allowed, min_exploration=explore)
        return
    found = combinations.probabilities(shares, problem.allowed, min_exploration=explore)
    products = np.array([float(np.prod(shares[problem.places(row)])) for row in problem.rows()]) * is_allowed
    uniform = is_allowed / is_allowed.sum()
    learned = products / products.sum() if products.sum() > 0 else uniform
    assert found.dtype == np.float64
    assert np.abs(found - ((1 - explore) * learned + explore * uniform)).max() < 1e-12
    assert not found[~is_allowed].any()
    assert found.sum() == pytest.approx(1, abs=1e-12)


def test_explored_by_default_is_nothing() -> None:
    combinations = Combinations([2, 2])
    found = combinations.probabilities([0.25, 0.75, 1.0, 0.0])
    assert found.tolist() == [0.25, 0.0, 0.75, 0.0]
    named = combinations.probabilities([0.25, 0.75, 1.0, 0.0], allowed=None, min_exploration=0.5)
    assert named == pytest.approx([0.25, 0.125, 0.5, 0.125])


def test_ties_go_to_the_lowest_combination() -> None:
    """In every path: single, side by side, more heads than are unrolled, wide, and what is left over."""
    for sizes in ([4], [3, 3], [2, 2, 2], [2] * 5, [300, 2], [64, 64]):
        combinations = Combinations(sizes)
        scores = np.zeros((11, combinations.width))
        assert combinations.argmax(scores[0]) == 0
        assert combinations.argmax_batch(scores).tolist() == [0] * 11
        allowed = np.ones(combinations.width, bool)
        allowed[0] = False
        first = next(at for at, row in enumerate(combinations.rows) if row[0] > 0)
        assert combinations.argmax(scores[0], allowed) == first
        assert combinations.argmax_batch(scores, allowed).tolist() == [first] * 11
        scores[:, -1] = 1.0
        last = next(at for at, row in enumerate(combinations.rows) if row[-1] == sizes[-1] - 1)
        assert combinations.argmax_batch(scores).tolist() == [last] * 11


def test_the_largest_sets() -> None:
    """4,096 combinations are the most, as are wide heads; every one of them can be the best."""
    combinations = Combinations([16, 16, 16])
    assert len(combinations) == 4096
    rng = np.random.default_rng(0)
    scores = rng.random((500, 48))
    parts = scores[:, :16, None, None] + scores[:, None, 16:32, None] + scores[:, None, None, 32:]
    assert combinations.argmax_batch(scores).tolist() == parts.reshape(500, -1).argmax(axis=1).tolist()
    with pytest.raises(ValueError, match=r"4097|4096"):
        Combinations([4097])


# Arrays as they come


def layouts(array: NDArray[Any]) -> dict[str, Any]:
    """The same values in every layout that NumPy has."""
    padded = np.repeat(array, 2, axis=-1)[..., ::2]
    reversed_ = np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    read_only = array.copy()
    read_only.flags.writeable = False
    raw = np.zeros(array.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    return {
        "contiguous": array,
        "Fortran": np.asfortranarray(array),
        "every other": padded,
        "backwards": reversed_,
        "read-only": read_only,
        "unaligned": unaligned,
        "list": array.tolist(),
        "tuple": tuple(array.tolist()),
    }


#: Exact in half precision, so that every width holds the same values.
SCORES = np.array([[0.5, -1.0, 2.0, 0.25, 0.25, -3.0, 1.5], [1.0, 1.0, 1.0, -0.5, 4.0, 0.0, 4.0]] * 6)
ALLOWED = np.array(
    [[True, True, False, True, True, True, False], [False, True, True, True, False, True, True]] * 6
)
SIZES = [3, 2, 2]


@pytest.mark.parametrize("layout", layouts(SCORES))
def test_every_layout_of_scores_and_masks(layout: str) -> None:
    combinations = Combinations(SIZES)
    expected = combinations.argmax_batch(SCORES, ALLOWED).tolist()
    assert len(set(expected)) > 1
    assert combinations.argmax_batch(layouts(SCORES)[layout], ALLOWED).tolist() == expected
    assert combinations.argmax_batch(SCORES, layouts(ALLOWED)[layout]).tolist() == expected
    for row in (0, 1):
        one, mask = layouts(SCORES[row])[layout], layouts(ALLOWED[row])[layout]
        assert combinations.argmax(one, mask) == expected[row]
    shares = np.abs(SCORES[0])
    plain = combinations.probabilities(shares, ALLOWED[0]).tolist()
    found = combinations.probabilities(layouts(shares)[layout], layouts(ALLOWED[0])[layout])
    assert found.tolist() == plain
    options = np.where(ALLOWED, SCORES, -np.inf).argmax(axis=1).tolist()
    assert masked_argmax_batch(layouts(SCORES)[layout], layouts(ALLOWED)[layout]).tolist() == options
    assert masked_argmax(layouts(SCORES[1])[layout], layouts(ALLOWED[1])[layout]) == options[1]


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", ">f8"])
def test_every_width_of_scores(dtype: str) -> None:
    combinations = Combinations(SIZES)
    scores = SCORES.astype(dtype)
    assert (
        combinations.argmax_batch(scores, ALLOWED).tolist()
        == combinations.argmax_batch(SCORES, ALLOWED).tolist()
    )
    assert combinations.argmax(scores[0]) == combinations.argmax(SCORES[0])
    options = np.where(ALLOWED, SCORES, -np.inf).argmax(axis=1).tolist()
    assert masked_argmax_batch(scores, ALLOWED).tolist() == options
    assert masked_argmax(scores[0], ALLOWED[0]) == options[0]


def test_whole_numbers_are_scores() -> None:
    combinations = Combinations(SIZES)
    scores = np.array([3, 9, -2, 0, 1, 5, 4])
    for dtype in ("i1", "i4", "i8"):
        assert combinations.rows[combinations.argmax(scores.astype(dtype))].tolist() == [1, 1, 0]
        assert masked_argmax(scores.astype(dtype), np.ones(7, bool)) == 1


def test_a_float32_score_is_compared_as_itself() -> None:
    """Widened, not rounded: 0.1 as float32 is above 0.1."""
    assert masked_argmax(np.array([0.1, 0.2], "f4"), [True, True]) == 1
    assert Combinations([2]).argmax(np.array([0.1, 0.1], "f4")) == 0
    assert float(np.float32(0.1)) > 0.1


# masked_argmax


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 2.0, math.inf]), st.booleans()),
        min_size=1,
        max_size=9,
    )
)
def test_masked_argmax_is_numpys(rows: list[tuple[float, bool]]) -> None:
    """The first of the largest allowed scores, infinite ones too; minus infinity is a score like any other."""
    scores, allowed = (np.array(column) for column in zip(*rows, strict=True))
    if not allowed.any():
        with pytest.raises(REFUSED, match="allowed"):
            masked_argmax(scores, allowed)
        return
    found = masked_argmax(scores, allowed)
    assert type(found) is int
    assert allowed[found]
    places = allowed.nonzero()[0]
    assert found == places[scores[places].argmax()]
    batch = masked_argmax_batch(np.array([scores] * 3), np.array([allowed] * 3))
    assert batch.dtype == np.uint32
    assert batch.tolist() == [found] * 3


def test_what_is_not_allowed_may_be_anything() -> None:
    """NaN where it is not allowed is not looked at."""
    assert masked_argmax([math.nan, 1.0, 2.0], [False, True, True]) == 2
    assert masked_argmax_batch(
        [[math.nan, 1.0], [3.0, math.nan]], [[False, True], [True, False]]
    ).tolist() == [1, 0]
    combinations = Combinations([2, 2])
    scores = [math.nan, 1.0, math.inf, 2.0]
    allowed = [False, True, False, True]
    assert combinations.argmax(scores, allowed) == 3
    assert combinations.argmax_batch([scores] * 9, allowed).tolist() == [3] * 9
    assert combinations.probabilities([math.nan, 0.5, -1.0, 0.5], allowed).tolist() == [0, 0, 0, 1]


# What does not fit


#: Untyped, since wrong types are among what they are called with.
MADE: Any = Combinations
BEST: Any = masked_argmax
PAIR: Any = Combinations([2, 2])
FULL = [0.5] * 4

BAD_CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "no head": (lambda: MADE([]), "head"),
    "a head of nothing": (lambda: MADE([2, 0]), "0"),
    "a negative head": (lambda: MADE([2, -1]), "-1"),
    "a huge head": (lambda: MADE([2, 10**30]), "sizes"),
    "a head too large": (lambda: MADE([2, 70_000], valid=[[0, 0]]), "70000"),
    "too many": (lambda: MADE([65, 64]), "4160"),
    "far too many": (lambda: MADE([1000] * 40), "combinations"),
    "a fraction": (lambda: MADE([2.5, 2]), "float"),
    "sizes a number": (lambda: MADE(4), "sizes"),
    "sizes a text": (lambda: MADE("22"), "sizes"),
    "nothing valid": (lambda: MADE([2, 2], valid=[]), "valid"),
    "a valid row too short": (lambda: MADE([2, 2], valid=[[0]]), "1"),
    "a valid row too long": (lambda: MADE([2, 2], valid=[[0, 0, 0]]), "3"),
    "ragged valid rows": (lambda: MADE([2, 2], valid=[[0, 0], [1]]), "shape"),
    "an unknown option": (lambda: MADE([2, 2], valid=[[0, 0], [0, 2]]), "2"),
    "a negative option": (lambda: MADE([2, 2], valid=[[0, -1]]), "-1"),
    "an option beyond 16 bits": (lambda: MADE([2, 2], valid=[[0, 65_536]]), "65536"),
    "a fraction of an option": (lambda: MADE([2, 2], valid=[[0, 0.5]]), "valid"),
    "a flat valid": (lambda: MADE([2, 2], valid=[0, 1]), "valid"),
    "too few scores": (lambda: PAIR.argmax([0.5] * 3), "3"),
    "too many scores": (lambda: PAIR.argmax([0.5] * 5), "5"),
    "no scores": (lambda: PAIR.argmax([]), "0"),
    "scores of two dimensions": (lambda: PAIR.argmax([FULL]), "1, 4"),
    "a NaN": (lambda: PAIR.argmax([0.5, math.nan, 0.5, 0.5]), "1"),
    "an infinity": (lambda: PAIR.argmax([0.5, 0.5, math.inf, 0.5]), "inf"),
    "a score too large": (lambda: PAIR.argmax([0.5, 0.5, -1e301, 0.5]), "301"),
    "scores of texts": (lambda: PAIR.argmax(["0.5"] * 4), "scores"),
    "complex scores": (lambda: PAIR.argmax(np.full(4, 1j)), "complex"),
    "nothing allowed in one head": (lambda: PAIR.argmax(FULL, [True, True, False, False]), "allowed"),
    "mask too short": (lambda: PAIR.argmax(FULL, [True] * 3), "3"),
    "mask of fractions": (lambda: PAIR.argmax(FULL, [0.5] * 4), "allowed"),
    "batch too narrow": (lambda: PAIR.argmax_batch(np.zeros((2, 3))), "3"),
    "batch of one dimension": (lambda: PAIR.argmax_batch(FULL), "4"),
    "batch with a NaN": (lambda: PAIR.argmax_batch([FULL] * 20 + [[0.5, 0.5, 0.5, math.nan]]), "20"),
    "batch with an infinity": (lambda: PAIR.argmax_batch([FULL] * 3 + [[0.5, 0.5, 0.5, math.inf]] * 9), "3"),
    "batch mask of too few rows": (lambda: PAIR.argmax_batch([FULL] * 3, [[True] * 4] * 2), "2"),
    "probabilities too few": (lambda: PAIR.probabilities([0.5] * 3), "3"),
    "probabilities negative": (lambda: PAIR.probabilities([0.5, -0.5, 0.5, 0.5]), "-0.5"),
    "probabilities NaN": (lambda: PAIR.probabilities([0.5, math.nan, 0.5, 0.5]), "NaN"),
    "probabilities infinite": (lambda: PAIR.probabilities([0.5, math.inf, 0.5, 0.5]), "inf"),
    "exploration too large": (lambda: PAIR.probabilities(FULL, min_exploration=1.5), "1.5"),
    "exploration negative": (lambda: PAIR.probabilities(FULL, min_exploration=-0.1), "-0.1"),
    "exploration NaN": (lambda: PAIR.probabilities(FULL, min_exploration=math.nan), "NaN"),
    "masked_argmax: lengths": (lambda: BEST([0.5, 1.0], [True]), "1"),
    "masked_argmax: NaN": (lambda: BEST([0.5, math.nan], [True, True]), "1"),
    "masked_argmax: nothing": (lambda: BEST([], []), "allowed"),
    "scores a number": (lambda: PAIR.argmax(0.5), "scores"),
    "valid a number": (lambda: MADE([2, 2], valid=3), "valid"),
    "masked_argmax: a number": (lambda: BEST(0.5, [True]), "scores"),
    "masked_argmax: texts": (lambda: BEST(["a"], [True]), "scores"),
    "masked_argmax: mask of numbers": (lambda: BEST([0.5, 0.5], [0, 2]), "allowed"),
    "masked_argmax_batch: a row of nothing": (
        lambda: masked_argmax_batch(np.zeros((3, 2)), [[True, True], [True, False], [False, False]]),
        "2",
    ),
    "masked_argmax_batch: shapes": (
        lambda: masked_argmax_batch(np.zeros((3, 2)), np.ones((2, 3), bool)),
        "3",
    ),
}


@pytest.mark.parametrize("bad", BAD_CALLS)
def test_what_does_not_fit_is_refused(bad: str) -> None:
    """With the offending value, or what it is, in the words."""
    call, shown = BAD_CALLS[bad]
    with pytest.raises(REFUSED) as caught:
        call()
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 400
