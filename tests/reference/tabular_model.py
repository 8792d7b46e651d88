"""What `capsa.learners` has learned, from every reward kept as it came: formulas, no running sums.

* An observation counts 2^(-later updates of the same key / half life).
* An option's evidence in a key: what it earned there; with `shrinkage` s also what it earned in all other
  keys, scaled down to at most s rewards (nothing, where that is less than 1e-9 of all or of a reward); and its prior, which never fades: `count` rewards with this mean and,
  on the 0..1 scale, the variance 1/12 of the uniform distribution, or mean x (1 - mean) where that is less.
* `thompson`: the probability that the option's mean is the largest (`tests.reference.posteriors`).
* `epsilon_greedy`: epsilon / K for each of the K allowed options, 1 - epsilon for the best mean; an option
  without evidence counts as 0.5 on the 0..1 scale.
* `ucb1`: options without evidence share all; else the largest mean + sqrt(2 ln N / n), N at least 1.
* `simple_weighted`: d = clip(0.05 x raw reward, ± max_delta) to the chosen, -d / (n - 1) to the others, floor 0,
  sum 1; before each update the distance from the start fades by 2^(-1 / half life). The start is uniform, moved
  as if each prior were `count` rewards of its mean, with the floor once at the end.
* `min_exploration` e: (1 - e) p + e / K.
* Beyond `max_keys` the key that was updated longest ago leaves; new keys start from what such keys left: at most
  8 rewards of an option, and the mean of the start weight and theirs. With `shrinkage` what they left is among
  what was earned elsewhere instead, unfaded since.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from tests.reference.posteriors import belief, win_probabilities

LEARNING_RATE = 0.05
#: What the other keys have earned counts from this share of everything, or of one reward, on.
NOTHING = 1e-9
PRIOR_STRENGTH = 8.0
#: What has no evidence counts as, on the 0..1 scale.
UNKNOWN_MEAN = 0.5

#: Closer than this, rounding decides which of two options is the best.
NEAR = 1e-9

Evidence = list[tuple[float, float]]  # (count, raw reward)


@dataclass(frozen=True)
class Settings:
    """What a learner is made with."""

    algorithm: str
    n_options: int
    epsilon: float = 0.1
    max_delta: float = 0.15
    reward_range: tuple[float, float] = (0.0, 1.0)
    min_exploration: float = 0.0
    max_keys: int = 10_000
    half_life_updates: float | None = None
    priors: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    shrinkage: float | None = None

    def but(self, **changes: object) -> Settings:
        """These settings with some changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Observation:
    option: int
    reward: float
    count: float
    ordinal: int


@dataclass
class _Key:
    observations: list[_Observation]
    start: NDArray[np.float64]
    weights: NDArray[np.float64]
    updates: int = 0
    used: int = 0


class TabularModel:
    """One learner, computed the long way."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys: dict[str, _Key] = {}
        self._updates = 0
        self._left: list[_Observation] = []
        self._left_weights: list[NDArray[np.float64]] = []

    def update(self, option: int, reward: float, key: str = "") -> None:
        """Learns one reward."""
        self._updates += 1
        if key not in self.keys:
            self.keys[key] = self._new_key()
        held = self.keys[key]
        held.used = self._updates
        held.updates += 1
        held.weights = self._moved(self._faded(held), option, reward)
        held.observations.append(_Observation(option, reward, 1.0, held.updates))
        while len(self.keys) > self.settings.max_keys:
            gone = self.keys.pop(min(self.keys, key=lambda name: self.keys[name].used))
            self._left += [replace(o, count=self._count(o, gone), ordinal=0) for o in gone.observations]
            self._left_weights.append(gone.weights)

    def probabilities(self, key: str = "", allowed: Sequence[bool] | None = None) -> NDArray[np.float64]:
        """The distribution over all options; 0 for what is not allowed."""
        options = self._allowed(allowed)
        shares = np.zeros(self.settings.n_options)
        shares[options] = {
            "thompson": self._thompson,
            "epsilon_greedy": self._epsilon_greedy,
            "ucb1": self._ucb1,
            "simple_weighted": self._simple_weighted,
        }[self.settings.algorithm](key, options)
        explore = self.settings.min_exploration
        shares[options] = (1 - explore) * shares[options] + explore / len(options)
        return shares

    def is_clear(self, key: str, allowed: Sequence[bool] | None = None) -> bool:
        """Whether the best option is not a matter of rounding: rivals are far off, or equal in all they earned."""
        if self.settings.algorithm not in ("epsilon_greedy", "ucb1"):
            return True
        options = self._allowed(allowed)
        values = self._indices(key) if self.settings.algorithm == "ucb1" else self._means(key)
        if np.isinf(values[options]).any():
            return True
        best = options[int(values[options].argmax())]
        of_best = self.evidence(key, best)
        return all(
            values[best] - values[option] > NEAR * (1 + abs(values[best]))
            or self.evidence(key, option) == of_best
            for option in options
        )

    def evidence(self, key: str, option: int) -> Evidence:
        """What counts for an option in a key, with its prior and what it earned elsewhere."""
        held = self.keys.get(key) or self._new_key()
        seen = [(self._count(o, held), o.reward) for o in held.observations if o.option == option]
        if self.settings.shrinkage is not None:
            elsewhere = [(o.count, o.reward) for o in self._left if o.option == option]
            elsewhere += [
                (self._count(o, other), o.reward)
                for name, other in self.keys.items()
                if name != key
                for o in other.observations
                if o.option == option
            ]
            total = math.fsum(count for count, _ in elsewhere)
            if total > NOTHING * max(1.0, total + math.fsum(count for count, _ in seen)):
                scale = min(1.0, self.settings.shrinkage / total)
                seen += [(count * scale, reward) for count, reward in elsewhere]
        if option in self.settings.priors:
            mean, count = self.settings.priors[option]
            low, high = self.settings.reward_range
            scaled = (mean - low) / (high - low)
            scatter = (high - low) * math.sqrt(min(1 / 12, scaled * (1 - scaled)))
            # Half of them above and half below: any rewards with these moments say the same.
            seen += [(count / 2, mean - scatter), (count / 2, mean + scatter)]
        return [(count, reward) for count, reward in seen if count > 0]

    # The four learners, over the allowed options

    def _thompson(self, key: str, options: list[int]) -> NDArray[np.float64]:
        reward_range = self.settings.reward_range
        return win_probabilities([belief(self.evidence(key, option), reward_range) for option in options])

    def _epsilon_greedy(self, key: str, options: list[int]) -> NDArray[np.float64]:
        shares = np.full(len(options), self.settings.epsilon / len(options))
        shares[self._means(key)[options].argmax()] += 1 - self.settings.epsilon
        return shares

    def _ucb1(self, key: str, options: list[int]) -> NDArray[np.float64]:
        indices = self._indices(key)[options]
        untried = np.isinf(indices)
        if untried.any():
            return np.where(untried, 1 / untried.sum(), 0.0)
        chosen: NDArray[np.float64] = np.eye(len(options))[indices.argmax()]
        return chosen

    def _simple_weighted(self, key: str, options: list[int]) -> NDArray[np.float64]:
        weights = (self.keys.get(key) or self._new_key()).weights[options]
        total = weights.sum()
        return weights / total if total > 0 else np.full(len(options), 1 / len(options))

    # Their parts

    def _means(self, key: str) -> NDArray[np.float64]:
        low, high = self.settings.reward_range
        means = np.full(self.settings.n_options, UNKNOWN_MEAN)
        for option in range(self.settings.n_options):
            seen = self.evidence(key, option)
            if seen:
                earned = math.fsum(count * ((reward - low) / (high - low)) for count, reward in seen)
                means[option] = earned / math.fsum(count for count, _ in seen)
        return means

    def _indices(self, key: str) -> NDArray[np.float64]:
        counts = np.array(
            [math.fsum(c for c, _ in self.evidence(key, option)) for option in range(self.settings.n_options)]
        )
        every = max(1.0, math.fsum(counts))
        tried = counts > 0
        bonus = np.sqrt(2 * np.log(every) / np.where(tried, counts, 1.0))
        return np.where(tried, self._means(key) + bonus, np.inf)

    def _count(self, observation: _Observation, held: _Key) -> float:
        if self.settings.half_life_updates is None:
            return observation.count
        later = held.updates - observation.ordinal
        return observation.count * math.exp2(-later / self.settings.half_life_updates)

    def _faded(self, held: _Key) -> NDArray[np.float64]:
        if self.settings.half_life_updates is None:
            return held.weights
        keep = math.exp2(-1 / self.settings.half_life_updates)
        faded: NDArray[np.float64] = held.start + (held.weights - held.start) * keep
        return faded

    def _moved(self, weights: NDArray[np.float64], option: int, reward: float) -> NDArray[np.float64]:
        steps = np.full(len(weights), -self._step(reward) / (len(weights) - 1))
        steps[option] = self._step(reward)
        return _normalised(np.maximum(weights + steps, 0.0))

    def _new_key(self) -> _Key:
        left = self._left if self.settings.shrinkage is None else []
        totals = [
            math.fsum(o.count for o in left if o.option == option)
            for option in range(self.settings.n_options)
        ]
        observations = [
            replace(o, count=o.count * min(1.0, PRIOR_STRENGTH / totals[o.option]))
            for o in left
            if totals[o.option] > 0
        ]
        weights = np.mean([self._believed_weights(), *self._left_weights], axis=0)
        return _Key(observations, start=weights, weights=weights.copy())

    def _believed_weights(self) -> NDArray[np.float64]:
        n_options = self.settings.n_options
        weights = np.full(n_options, 1 / n_options)
        for option, (mean, count) in self.settings.priors.items():
            steps = np.full(n_options, -self._step(mean) / (n_options - 1))
            steps[option] = self._step(mean)
            weights += count * steps
        return _normalised(np.maximum(weights, 0.0))

    def _step(self, reward: float) -> float:
        return float(np.clip(LEARNING_RATE * reward, -self.settings.max_delta, self.settings.max_delta))

    def _allowed(self, allowed: Sequence[bool] | None) -> list[int]:
        mask = np.ones(self.settings.n_options, bool) if allowed is None else np.asarray(allowed, bool)
        return [int(option) for option in mask.nonzero()[0]]


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares
