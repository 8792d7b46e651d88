"""Learners as the tests of this folder make them: every algorithm, with and without what changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.reference.tabular_model import Settings

from capsa.learners import EpsilonGreedy, Learner, SimpleWeighted, Thompson, Ucb1

ALGORITHMS: dict[str, Any] = {
    "thompson": Thompson,
    "simple_weighted": SimpleWeighted,
    "epsilon_greedy": EpsilonGreedy,
    "ucb1": Ucb1,
}

#: Learners that keep (n, Σr, Σr²) alone: the order of rewards does not matter to them.
SUMMING = ["thompson", "epsilon_greedy", "ucb1"]

N_OPTIONS = 4

#: A wrong argument ends in one of these, with the offending value in its words.
REFUSED = (ValueError, TypeError, LookupError)

PRIORS = {0: (0.25, 3.0), 2: (0.75, 0.5)}


def _cases() -> dict[str, Settings]:
    cases: dict[str, Settings] = {}
    for algorithm in ALGORITHMS:
        plain = Settings(algorithm, N_OPTIONS)
        summing = algorithm in SUMMING
        found = {
            "plain": plain,
            "signed": plain.but(reward_range=(-1.0, 1.0)),
            "decay": plain.but(half_life_updates=3.0),
            "exploring": plain.but(min_exploration=0.2),
            "priors": plain.but(priors=PRIORS),
        }
        if summing:
            found["shrinkage"] = plain.but(shrinkage=8.0)
        found["everything"] = plain.but(
            reward_range=(-1.0, 1.0),
            half_life_updates=20.0,
            min_exploration=0.05,
            priors=PRIORS,
            shrinkage=2.5 if summing else None,
        )
        cases |= {f"{algorithm} {name}": settings for name, settings in found.items()}
    return cases


#: What every test of the conformance suite runs over.
CASES = _cases()


def learner_of(
    settings: Settings, *, seed: int | None = 1, options: int | Sequence[str] | None = None
) -> Learner:
    """A learner with these settings; what is left at its default is not said."""
    said: dict[str, Any] = {"reward_range": settings.reward_range}
    if settings.algorithm == "epsilon_greedy":
        said["epsilon"] = settings.epsilon
    if settings.algorithm == "simple_weighted":
        said["max_delta"] = settings.max_delta
    if settings.priors:
        said["priors"] = settings.priors
    for name in ("min_exploration", "max_keys", "half_life_updates", "shrinkage"):
        if getattr(settings, name) != getattr(Settings(settings.algorithm, 2), name):
            said[name] = getattr(settings, name)
    learner: Learner = ALGORITHMS[settings.algorithm](
        settings.n_options if options is None else options, seed=seed, **said
    )
    return learner


#: Uneven, in two keys; halves and quarters, so that sums are exact. Every option is tried in the key "k".
HISTORY: list[tuple[int, float, str]] = [
    (0, 0.5, "k"),
    (1, 1.0, "k"),
    (2, 0.0, "k"),
    (3, 0.25, "k"),
    (1, 0.5, "other"),
    (1, 0.75, "k"),
    (0, 1.0, "k"),
    (2, 0.5, "other"),
    (3, 0.5, "k"),
    (0, 0.25, "other"),
    (2, 0.25, "k"),
]


def taught(settings: Settings, *, seed: int | None = 1) -> Learner:
    """A learner after `HISTORY`."""
    learner = learner_of(settings, seed=seed)
    for option, reward, key in HISTORY:
        learner.update(option, reward, key)
    return learner
