"""Beliefs about mean rewards, and how likely each option is the best: formulas, with SciPy distributions.

* `reward_range` [0, 1]: Beta(1 + Σr, 1 + n - Σr).
* else: normal with unknown variance, on rewards scaled to 0..1. Prior: mean 1/2 counting as one observation,
  shape 2, rate 1/12 (Murphy 2007, "Conjugate Bayesian analysis of the Gaussian distribution", section 3).
  The marginal of the mean is Student's t.

P(i is best) = ∫ f_i(x) Π_{j≠i} F_j(x) dx, by Gauss-Legendre between quantiles of every option.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Evidence = Sequence[tuple[float, float]]  # (weight, reward)

_TAIL = [1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.15, 0.3]
_QUANTILES = np.array([*_TAIL, 0.5, *(1 - q for q in reversed(_TAIL))])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def belief(evidence: Evidence, reward_range: tuple[float, float]) -> Any:
    """The distribution of an option's mean reward, as a frozen SciPy distribution on 0..1 scaled rewards."""
    low, high = reward_range
    weights = np.array([weight for weight, _ in evidence])
    rewards = np.array([reward for _, reward in evidence])
    n = float(weights.sum())
    if reward_range == (0.0, 1.0):
        earned = float((weights * rewards).sum())
        return stats.beta(1 + earned, 1 + n - earned)
    scaled = (rewards - low) / (high - low)
    count, shape, rate, mean = 1.0, 2.0, 1 / 12, 0.5
    if n > 0:
        average = float((weights * scaled).sum()) / n
        spread = float((weights * (scaled - average) ** 2).sum())
        rate += 0.5 * spread + count * n * (average - 0.5) ** 2 / (2 * (count + n))
        mean = (count * 0.5 + n * average) / (count + n)
        shape += n / 2
    count += n
    return stats.t(2 * shape, loc=mean, scale=np.sqrt(rate / (shape * count)))


def mean(distribution: Any) -> float:
    """The centre of a belief."""
    return float(distribution.mean())


def win_probabilities(beliefs: Sequence[Any]) -> NDArray[np.float64]:
    """For each option the probability that its mean is the largest."""
    if len(beliefs) == 1:
        return np.ones(1)
    edges = np.unique(np.concatenate([belief.ppf(_QUANTILES) for belief in beliefs]))
    half = np.diff(edges) / 2
    x = (edges[:-1] + half)[:, None] + half[:, None] * _NODES
    weight = half[:, None] * _WEIGHTS
    below = np.stack([belief.cdf(x) for belief in beliefs])
    wins = np.empty(len(beliefs))
    for at, belief in enumerate(beliefs):
        others = np.prod(np.delete(below, at, axis=0), axis=0)
        wins[at] = float((weight * belief.pdf(x) * others).sum())
    return wins
