"""What does the best allowed combination of three heads cost, against NumPy?

30 valid combinations of 4 x 4 x 4 options and 150 of 8 x 8 x 8, float64 scores, and in each row a fifth of the options
not allowed. NumPy has several ways; each is measured, and the fastest is the baseline. Scores are random, so that no
branch can be learned. BLAS uses as many threads as it likes; ours uses one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _measure import alternate, machine, report, store
from capsa.learners import Combinations

PROBLEMS = ((30, [4, 4, 4]), (150, [8, 8, 8]))
BATCH = 4096
BATCH_CALLS = 10
BATCH_BAR = 1 / 5
SINGLE_BAR = 1 / 20
# What NumPy adds for an option that is not allowed where 0 times infinity would be NaN.
VERY_LOW = -1e300

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]
Rows = NDArray[np.intp]
# Scores and masks of the options (n, width), or one row of each, to the numbers of the best combinations.
Way = Callable[[Floats, Masks], Any]


def problem(n_valid: int, sizes: list[int]) -> tuple[Rows, Floats, Masks]:
    """Valid combinations (n_valid, heads), scores of a batch (n, width), and which options are allowed (n, width)."""
    generator = np.random.default_rng(n_valid)
    everything = np.indices(sizes).reshape(len(sizes), -1).T
    valid = everything[np.sort(generator.choice(len(everything), n_valid, replace=False))]
    scores = generator.normal(size=(BATCH, sum(sizes)))
    allowed = generator.random(scores.shape) < 0.8
    columns, _ = layouts(valid, sizes)
    some = np.any(np.all(allowed[:, columns], axis=1), axis=1)
    allowed[~some] = True  # a row where nothing is left has no answer
    return valid, scores, allowed


def layouts(valid: Rows, sizes: list[int]) -> tuple[Rows, Floats]:
    """Where each combination's scores stand, as columns (heads, n_valid) and as ones (width, n_valid)."""
    columns = np.ascontiguousarray((valid + np.cumsum([0, *sizes[:-1]])).T)
    one_hot = np.zeros((sum(sizes), len(valid)))
    one_hot[columns, np.arange(len(valid))] = 1
    return columns, one_hot


def numpy_batches(valid: Rows, sizes: list[int]) -> dict[str, Way]:
    columns, one_hot = layouts(valid, sizes)
    sums = np.empty((BATCH, len(valid)))

    def gather(scores: Floats, allowed: Masks) -> Any:
        return np.where(allowed, scores, -np.inf)[:, columns].sum(axis=1).argmax(axis=1)

    def take_by_head(scores: Floats, allowed: Masks) -> Any:
        masked = np.where(allowed, scores, -np.inf)
        total = masked.take(columns[0], axis=1)
        for head in columns[1:]:
            total += masked.take(head, axis=1)
        return total.argmax(axis=1)

    def matmul(scores: Floats, allowed: Masks) -> Any:
        return (np.where(allowed, scores, VERY_LOW) @ one_hot).argmax(axis=1)

    def matmul_in_place(scores: Floats, allowed: Masks) -> Any:
        return np.matmul(np.where(allowed, scores, VERY_LOW), one_hot, out=sums).argmax(axis=1)

    def matmul_in_blocks(scores: Floats, allowed: Masks) -> Any:
        # Blocks whose sums stay in the processor's second cache.
        answer = np.empty(len(scores), dtype=np.intp)
        for start in range(0, len(scores), 256):
            block = slice(start, start + 256)
            answer[block] = matmul(scores[block], allowed[block])
        return answer

    return {
        "numpy: where, gather, sum, argmax": gather,
        "numpy: where, take by head, argmax": take_by_head,
        "numpy: where, one-hot matmul, argmax": matmul,
        "numpy: the same into a kept array": matmul_in_place,
        "numpy: the same in blocks of 256": matmul_in_blocks,
    }


def numpy_singles(valid: Rows, sizes: list[int]) -> dict[str, Way]:
    columns, by_column = layouts(valid, sizes)
    one_hot = np.ascontiguousarray(by_column.T)

    def gather(scores: Floats, allowed: Masks) -> Any:
        return np.where(allowed, scores, -np.inf).take(columns).sum(axis=0).argmax()

    def take_by_head(scores: Floats, allowed: Masks) -> Any:
        masked = np.where(allowed, scores, -np.inf)
        total = masked.take(columns[0])
        for head in columns[1:]:
            total += masked.take(head)
        return total.argmax()

    def matmul(scores: Floats, allowed: Masks) -> Any:
        return one_hot.dot(np.where(allowed, scores, VERY_LOW)).argmax()

    return {
        "numpy: where, gather, sum, argmax": gather,
        "numpy: where, take by head, argmax": take_by_head,
        "numpy: where, one-hot matmul, argmax": matmul,
    }


def check_equal(batches: dict[str, Way], singles: dict[str, Way], scores: Floats, allowed: Masks) -> None:
    """Every way answers alike, also where scores tie: eighths add up without rounding."""
    for some in (scores, np.round(scores * 2) / 8):
        expected = np.asarray(batches["capsa"](some, allowed))
        for name, way in batches.items():
            assert np.array_equal(way(some, allowed), expected), name
        for name, way in singles.items():
            for row in range(0, BATCH, 8):
                assert way(some[row], allowed[row]) == expected[row], (name, row)


def against_numpy(
    question: str, ways: dict[str, Callable[[], Any]], *, calls: int, rows: int = 1, bar: float
) -> dict[str, Any]:
    """Times all ways, by row where a call makes several; the bar is set against the fastest of NumPy's."""
    by_call = alternate(ways, calls=calls)
    taken = {name: [figure / rows for figure in figures] for name, figures in by_call.items()}
    fastest = min(
        (name for name in taken if name != "capsa"), key=lambda name: statistics.median(taken[name])
    )
    return report(question, taken, [("capsa", fastest, bar)])


def batches_of(way: Way, scores: Floats, allowed: Masks) -> Callable[[], Any]:
    return lambda: way(scores, allowed)


def rows_of(way: Way, scores: Floats, allowed: Masks) -> Callable[[], Any]:
    """One row after the other: a loop of its own, since any wrapper would weigh as much as our call."""
    rows = list(zip(scores, allowed, strict=True))

    def all_rows() -> None:
        for row, mask in rows:
            way(row, mask)

    return all_rows


def main() -> dict[str, Any]:
    answers = []
    for n_valid, sizes in PROBLEMS:
        valid, scores, allowed = problem(n_valid, sizes)
        combinations = Combinations(sizes, valid=valid)
        batches = {"capsa": combinations.argmax_batch} | numpy_batches(valid, sizes)
        singles = {"capsa": combinations.argmax} | numpy_singles(valid, sizes)
        check_equal(batches, singles, scores, allowed)
        answers.append(
            against_numpy(
                f"Best of {n_valid} combinations, a batch of {BATCH}",
                {name: batches_of(way, scores, allowed) for name, way in batches.items()},
                calls=BATCH_CALLS,
                bar=BATCH_BAR,
            )
        )
        answers.append(
            against_numpy(
                f"Best of {n_valid} combinations, a single call",
                {name: rows_of(way, scores, allowed) for name, way in singles.items()},
                calls=1,
                rows=BATCH,
                bar=SINGLE_BAR,
            )
        )
    result = {
        "question": "joint masked argmax against NumPy",
        # What `bench/run` looks at, gathered from the four answers.
        "ratios": [
            bar | {"ours": f"{answer['question']}: {bar['ours']}"}
            for answer in answers
            for bar in answer.pop("ratios")
        ],
        "answers": answers,
        "machine": machine("numpy"),
    }
    store("joint_argmax", result)
    return result


if __name__ == "__main__":
    main()
