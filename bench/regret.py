"""How much do the learners lose while they learn, beside the textbook form of the same algorithm?

Five Bernoulli options, 2,000 rounds, 20 reward tables (one a seed): what every option would pay in every round. Both
forms play the same tables. A learner's own draws are far noisier than the tables, so each form plays each table 25
times and the mean counts; the standard error is over tables. Regret is what the best option would have paid in the
mean, less what the chosen ones do.

The textbook forms draw Thompson's samples, where ours computes the probabilities and draws once; they are written
for all plays at once, in NumPy, from the books: Beta(1, 1) priors; estimates that start at 0 with ties at random
(Sutton and Barto, 2nd edition, section 2.4); UCB1 as in Auer, Cesa-Bianchi and Fischer (2002).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _measure import machine, store
from capsa.learners import EpsilonGreedy, Learner, SimpleWeighted, Thompson, Ucb1

MEANS = np.array([0.2, 0.4, 0.5, 0.6, 0.8])
OPTIONS = len(MEANS)
ROUNDS = 2000
SEEDS = 20
PLAYS = 25  # of each table
BAR = 1.1

Floats = NDArray[np.float64]
Choices = NDArray[np.intp]


def reward_tables() -> Floats:
    """What every option pays in every round, by seed: shape (seeds, rounds, options)."""
    return np.stack(
        [
            (np.random.default_rng(seed).random((ROUNDS, OPTIONS)) < MEANS).astype(np.float64)
            for seed in range(SEEDS)
        ]
    )


def ours(make: Callable[[int], Learner], tables: Floats) -> Floats:
    """The regret of each play, shape (seeds, plays)."""
    gaps = (MEANS.max() - MEANS).tolist()
    regrets = np.zeros((SEEDS, PLAYS))
    for seed, table in enumerate(tables):
        rows = table.tolist()
        for play in range(PLAYS):
            learner = make(seed * PLAYS + play)
            lost = 0.0
            for rewards in rows:
                option, _ = learner.decide()
                learner.update(option, rewards[option])
                lost += gaps[option]
            regrets[seed, play] = lost
    return regrets


class Textbook:
    """One algorithm, many plays side by side."""

    def __init__(self, plays: int, generator: np.random.Generator) -> None:
        self.generator = generator
        self.every = np.arange(plays)
        self.n = np.zeros((plays, OPTIONS))
        self.total = np.zeros((plays, OPTIONS))

    def choose(self) -> Choices:
        raise NotImplementedError

    def learn(self, chosen: Choices, rewards: Floats) -> None:
        self.n[self.every, chosen] += 1
        self.total[self.every, chosen] += rewards


class TextbookThompson(Textbook):
    def choose(self) -> Choices:
        samples = self.generator.beta(1 + self.total, 1 + self.n - self.total)
        chosen: Choices = samples.argmax(axis=1)
        return chosen


class TextbookEpsilonGreedy(Textbook):
    def choose(self) -> Choices:
        estimates = self.total / np.maximum(self.n, 1)
        ties = self.generator.random(estimates.shape)
        best = np.argmax(np.where(estimates == estimates.max(axis=1, keepdims=True), ties, -1), axis=1)
        anything = self.generator.integers(OPTIONS, size=len(best))
        chosen: Choices = np.where(self.generator.random(len(best)) < 0.1, anything, best)
        return chosen


class TextbookUcb1(Textbook):
    def choose(self) -> Choices:
        n = np.maximum(self.n, 1)
        rounds = np.maximum(self.n.sum(axis=1, keepdims=True), 1)
        bounds = self.total / n + np.sqrt(2 * np.log(rounds) / n)
        chosen: Choices = np.where(self.n == 0, np.inf, bounds).argmax(axis=1)
        return chosen


class TextbookSimpleWeighted(Textbook):
    """Not from a book: the rule of `docs/spec.md`, written once more."""

    def __init__(self, plays: int, generator: np.random.Generator) -> None:
        super().__init__(plays, generator)
        self.weights = np.full((plays, OPTIONS), 1 / OPTIONS)

    def choose(self) -> Choices:
        points = self.generator.random((len(self.weights), 1))
        chosen: Choices = np.minimum((self.weights.cumsum(axis=1) <= points).sum(axis=1), OPTIONS - 1)
        return chosen

    def learn(self, chosen: Choices, rewards: Floats) -> None:
        step = np.clip(0.05 * rewards, -0.15, 0.15)[:, None]
        picked = np.zeros_like(self.weights)
        picked[self.every, chosen] = 1
        moved = np.maximum(self.weights + step * picked - step * (1 - picked) / (OPTIONS - 1), 0)
        self.weights = moved / moved.sum(axis=1, keepdims=True)


def by_the_book(textbook: type[Textbook], tables: Floats) -> Floats:
    """The regret of each play, shape (seeds, plays)."""
    of_play = np.repeat(np.arange(SEEDS), PLAYS)
    plays = textbook(len(of_play), np.random.default_rng(1))
    lost = np.zeros(len(of_play))
    for at in range(ROUNDS):
        chosen = plays.choose()
        plays.learn(chosen, tables[of_play, at, chosen])
        lost += MEANS.max() - MEANS[chosen]
    return lost.reshape(SEEDS, PLAYS)


def standard_error(by_seed: Floats) -> float:
    return float(by_seed.std(ddof=1) / math.sqrt(len(by_seed)))


ALGORITHMS: dict[str, tuple[Callable[[int], Learner], type[Textbook]]] = {
    "thompson": (lambda seed: Thompson(OPTIONS, seed=seed), TextbookThompson),
    "epsilon_greedy": (lambda seed: EpsilonGreedy(OPTIONS, epsilon=0.1, seed=seed), TextbookEpsilonGreedy),
    "ucb1": (lambda seed: Ucb1(OPTIONS, seed=seed), TextbookUcb1),
    "simple_weighted": (lambda seed: SimpleWeighted(OPTIONS, seed=seed), TextbookSimpleWeighted),
}


def main() -> dict[str, Any]:
    tables = reward_tables()
    rows: dict[str, dict[str, Any]] = {}
    print(f"\nRegret after {ROUNDS} rounds, {SEEDS} tables x {PLAYS} plays, ± standard error over tables")
    print(f"  {'':<16} {'capsa':>16} {'textbook':>16} {'ratio':>15}")
    for name, (make, textbook) in ALGORITHMS.items():
        a, b = ours(make, tables).mean(axis=1), by_the_book(textbook, tables).mean(axis=1)
        ratio = float(a.mean() / b.mean())
        # Table by table: what the tables have in common cancels.
        ratio_error = standard_error(a - ratio * b) / float(b.mean())
        rows[name] = {
            "capsa": {"mean": float(a.mean()), "standard_error": standard_error(a), "by_seed": a.tolist()},
            "textbook": {"mean": float(b.mean()), "standard_error": standard_error(b), "by_seed": b.tolist()},
            "ratio": ratio,
            "ratio_standard_error": ratio_error,
        }
        print(
            f"  {name:<16} {a.mean():8.2f} ± {standard_error(a):5.2f} {b.mean():8.2f} ± {standard_error(b):5.2f}"
            f" {ratio:7.3f} ± {ratio_error:.3f}"
        )
    found = rows["thompson"]["ratio"]
    bar = {"ours": "capsa thompson", "baseline": "textbook thompson", "ratio": found, "bar": BAR}
    print(f"  thompson / textbook = {found:.3f}, bar {BAR:.3f}: {'holds' if found <= BAR else 'MISSED'}")
    result = {
        "question": "regret beside the textbook form, on the same rewards",
        "unit": f"regret after {ROUNDS} rounds",
        "regret": rows,
        "ratios": [bar | {"holds": found <= BAR}],
        "machine": machine("numpy"),
    }
    store("regret", result)
    return result


if __name__ == "__main__":
    main()
