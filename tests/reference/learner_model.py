"""What a capsule has learned, from every feedback kept as it came: a model for the core.

The core keeps running sums; this keeps the observations and computes each weight from them:

* an observation counts 2^(-time since / half life), where time stands still while learning is frozen,
  or 2^(-later feedbacks in the same key / half life);
* `simple_weighted`: the chosen weight moves by d = clip(0.05 x reward, ± max_delta), the others by
  -d / (n - 1), floor 0, scaled to the sum 1; under decay weights first fade to where a new key starts;
* beyond `max_contexts` the key whose last feedback is longest ago is folded into the prior: a new key starts
  from it, counting as at most 8 rewards of an option; inner weights start from the mean of the uniform weight
  and all evicted ones;
* a key reads the prior when it is new; feedback in other keys does not move it afterwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.reference.posteriors import belief, mean, win_probabilities

LEARNING_RATE = 0.05
PRIOR_STRENGTH = 8.0

Allowed = Mapping[str, Sequence[str]]
Combination = tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """What is declared; times in seconds."""

    strategies: Mapping[str, Sequence[str]]
    algorithm: str = "thompson"
    reward_range: tuple[float, float] = (-1.0, 1.0)
    min_exploration: float = 0.02
    max_delta: float = 0.15
    half_life_s: float | None = None
    half_life_feedbacks: float | None = None
    max_contexts: int = 10_000
    valid: Sequence[Mapping[str, Sequence[str]]] | None = None

    def combinations(self) -> list[Combination]:
        """The valid combinations, in the order of their option numbers."""
        rows = self.valid if self.valid is not None else [{}]
        return [
            combination
            for combination in itertools.product(*self.strategies.values())
            if any(
                all(
                    option in row.get(name, [option])
                    for name, option in zip(self.strategies, combination, strict=True)
                )
                for row in rows
            )
        ]


@dataclass(frozen=True)
class _Observation:
    option: str
    reward: float
    counts: float
    tau_s: float
    ordinal: int


@dataclass
class _Key:
    used: int
    feedbacks: int = 0
    observations: dict[str, list[_Observation]] = field(default_factory=dict)
    start: dict[str, dict[str, float]] = field(default_factory=dict)
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    weights_tau_s: float = 0.0


class LearnerModel:
    """The learning of one capsule."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys: dict[str, _Key] = {}
        self.evicted: list[str] = []
        self._prior: dict[str, list[_Observation]] = {}
        self._prior_weights: dict[str, list[tuple[dict[str, float], float]]] = {}
        self._count = 0
        self._frozen_since: float | None = None
        self._frozen_s = 0.0

    # Time

    def freeze(self, frozen: bool, at_s: float) -> None:
        """Stops or restarts learning."""
        if frozen and self._frozen_since is None:
            self._frozen_since = at_s
        elif not frozen and self._frozen_since is not None:
            self._frozen_s += at_s - self._frozen_since
            self._frozen_since = None

    @property
    def frozen(self) -> bool:
        """Whether learning is frozen."""
        return self._frozen_since is not None

    def _tau(self, at_s: float) -> float:
        return (at_s if self._frozen_since is None else self._frozen_since) - self._frozen_s

    # Learning

    def feedback(self, key: str, made: Mapping[str, str], reward: float, at_s: float) -> None:
        """Learns one reward, which every strategy in `made` is credited with."""
        if self.frozen:
            return
        self._count += 1
        tau = self._tau(at_s)
        if key not in self.keys:
            self.keys[key] = self._new_key(tau)
        held = self.keys[key]
        held.used = self._count
        held.feedbacks += 1
        if self.settings.algorithm == "simple_weighted":
            self._fade_weights(held, tau, 1)
            for strategy, option in made.items():
                held.weights[strategy] = self._moved(held.weights[strategy], option, reward)
            held.weights_tau_s = tau
        for strategy, option in made.items():
            observation = _Observation(option, reward, 1.0, tau, held.feedbacks)
            held.observations.setdefault(strategy, []).append(observation)
        self.limit(at_s)

    def limit(self, at_s: float) -> None:
        """Evicts what is more than `max_contexts`."""
        tau = self._tau(at_s)
        while len(self.keys) > self.settings.max_contexts:
            key = min(self.keys, key=lambda name: self.keys[name].used)
            held = self.keys.pop(key)
            self.evicted.append(key)
            for strategy, observations in held.observations.items():
                self._prior.setdefault(strategy, []).extend(
                    _Observation(o.option, o.reward, self._counts(o, tau, held.feedbacks), tau, 0)
                    for o in observations
                )
            if self.settings.algorithm == "simple_weighted":
                for strategy in held.weights:
                    left = (self._faded(held, strategy, tau, 0), tau)
                    self._prior_weights.setdefault(strategy, []).append(left)

    def _new_key(self, tau: float) -> _Key:
        start = self._start_weights(tau)
        observations = self._start_observations(tau)
        weights = {strategy: dict(shares) for strategy, shares in start.items()}
        return _Key(used=0, observations=observations, start=start, weights=weights, weights_tau_s=tau)

    def _start_observations(self, tau: float) -> dict[str, list[_Observation]]:
        start: dict[str, list[_Observation]] = {}
        for strategy, observations in self._prior.items():
            counts = [self._counts(o, tau, 0) for o in observations]
            total: dict[str, float] = {}
            for o, count in zip(observations, counts, strict=True):
                total[o.option] = total.get(o.option, 0.0) + count
            start[strategy] = [
                _Observation(o.option, o.reward, count * min(1.0, PRIOR_STRENGTH / total[o.option]), tau, 0)
                for o, count in zip(observations, counts, strict=True)
                if total[o.option] > 0
            ]
        return start

    def _start_weights(self, tau: float) -> dict[str, dict[str, float]]:
        start = {}
        for strategy, options in self.settings.strategies.items():
            # Under decay by time what evicted keys left fades, be it rewards or weights.
            half_life = self.settings.half_life_s
            evicted = [
                (weights, 1.0 if half_life is None else 2 ** (-(tau - since) / half_life))
                for weights, since in self._prior_weights.get(strategy, [])
            ]
            counts = sum(count for _, count in evicted)
            shares = {
                option: (1 / len(options) + sum(weights[option] * count for weights, count in evicted))
                / (1 + counts)
                for option in options
            }
            total = sum(shares.values())
            start[strategy] = {option: share / total for option, share in shares.items()}
        return start

    def _counts(self, observation: _Observation, tau: float, feedbacks: int) -> float:
        if self.settings.half_life_s is not None:
            return float(observation.counts * 2 ** (-(tau - observation.tau_s) / self.settings.half_life_s))
        if self.settings.half_life_feedbacks is not None:
            later = max(0, feedbacks - observation.ordinal)
            return float(observation.counts * 2 ** (-later / self.settings.half_life_feedbacks))
        return observation.counts

    def _fade_weights(self, held: _Key, tau: float, feedbacks: int) -> None:
        held.weights = {strategy: self._faded(held, strategy, tau, feedbacks) for strategy in held.weights}

    def _faded(self, held: _Key, strategy: str, tau: float, feedbacks: int) -> dict[str, float]:
        keep = 1.0
        if self.settings.half_life_s is not None:
            keep = 2 ** (-(tau - held.weights_tau_s) / self.settings.half_life_s)
        elif self.settings.half_life_feedbacks is not None:
            keep = 2 ** (-feedbacks / self.settings.half_life_feedbacks)
        start = held.start[strategy]
        return {o: start[o] + (weight - start[o]) * keep for o, weight in held.weights[strategy].items()}

    def _moved(self, weights: Mapping[str, float], option: str, reward: float) -> dict[str, float]:
        step = max(-self.settings.max_delta, min(self.settings.max_delta, LEARNING_RATE * reward))
        others = len(weights) - 1
        moved = {
            o: max(0.0, weight + (step if o == option else -step / others)) for o, weight in weights.items()
        }
        total = sum(moved.values())
        return {o: weight / total for o, weight in moved.items()}

    # Deciding

    def _evidence(self, key: str, strategy: str, at_s: float) -> dict[str, list[tuple[float, float]]]:
        tau = self._tau(at_s)
        held = self.keys.get(key)
        observations = (held.observations if held else self._start_observations(tau)).get(strategy, [])
        feedbacks = held.feedbacks if held else 0
        evidence: dict[str, list[tuple[float, float]]] = {
            option: [] for option in self.settings.strategies[strategy]
        }
        for observation in observations:
            if observation.option in evidence:
                counts = self._counts(observation, tau, feedbacks)
                evidence[observation.option].append((counts, observation.reward))
        return evidence

    def inner_weights(self, key: str, strategy: str, at_s: float) -> dict[str, float]:
        """The weights of `simple_weighted`, without exploration."""
        held = self.keys.get(key)
        if held is None:
            return self._start_weights(self._tau(at_s))[strategy]
        return self._faded(held, strategy, self._tau(at_s), 0)

    def beliefs(self, key: str, strategy: str, at_s: float) -> dict[str, Any]:
        """Thompson's belief about every option."""
        evidence = self._evidence(key, strategy, at_s)
        return {option: belief(seen, self.settings.reward_range) for option, seen in evidence.items()}

    def _head(self, key: str, strategy: str, at_s: float, allowed: Sequence[str]) -> dict[str, float]:
        """One strategy's distribution over its allowed options, without exploration."""
        if self.settings.algorithm == "thompson":
            beliefs = self.beliefs(key, strategy, at_s)
            wins = win_probabilities([beliefs[option] for option in allowed])
            return {option: float(win) for option, win in zip(allowed, wins, strict=True)}
        weights = self.inner_weights(key, strategy, at_s)
        total = sum(weights[option] for option in allowed)
        return {option: weights[option] / total if total > 0 else 1 / len(allowed) for option in allowed}

    def joint(self, key: str, at_s: float, allowed: Allowed | None = None) -> dict[Combination, float]:
        """The probability of every valid and allowed combination, exploration included."""
        names = list(self.settings.strategies)
        of = {name: list((allowed or {}).get(name, self.settings.strategies[name])) for name in names}
        heads = {
            name: self._head(key, name, at_s, [o for o in self.settings.strategies[name] if o in of[name]])
            for name in names
        }
        combinations = [
            combination
            for combination in self.settings.combinations()
            if all(option in of[name] for name, option in zip(names, combination, strict=True))
        ]
        products = np.array(
            [
                np.prod([heads[name][option] for name, option in zip(names, combination, strict=True)])
                for combination in combinations
            ]
        )
        total = products.sum()
        learned = products / total if total > 0 else np.full(len(combinations), 1 / len(combinations))
        explore = self.settings.min_exploration
        mixed = (1 - explore) * learned + explore / len(combinations)
        return {combination: float(share) for combination, share in zip(combinations, mixed, strict=True)}

    def probabilities(self, key: str, at_s: float, allowed: Allowed | None = None) -> dict[str, list[float]]:
        """The marginal distribution of every strategy, in option order; 0 for what is not allowed."""
        joint = self.joint(key, at_s, allowed)
        return {
            name: [sum(share for row, share in joint.items() if row[at] == option) for option in options]
            for at, (name, options) in enumerate(self.settings.strategies.items())
        }

    def weights(self, key: str, at_s: float) -> dict[str, list[float]]:
        """The weights: every option allowed."""
        return self.probabilities(key, at_s)

    def best(self, key: str, at_s: float, allowed: Allowed | None = None) -> Combination:
        """What is chosen while frozen: the largest sum of estimates, ties to the lowest numbers."""
        names = list(self.settings.strategies)
        estimates: dict[str, dict[str, float]] = {}
        for name in names:
            if self.settings.algorithm == "thompson":
                estimates[name] = {o: mean(b) for o, b in self.beliefs(key, name, at_s).items()}
            else:
                estimates[name] = self.inner_weights(key, name, at_s)
        rows = [
            row
            for row in self.settings.combinations()
            if all(
                option in (allowed or {}).get(name, [option]) for name, option in zip(names, row, strict=True)
            )
        ]
        return max(rows, key=lambda row: sum(estimates[name][o] for name, o in zip(names, row, strict=True)))
