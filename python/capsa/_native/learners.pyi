"""Learners for NumPy users, without a store; `capsa.learners` is the public door."""

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

__all__ = [
    "Combinations",
    "EpsilonGreedy",
    "Learner",
    "SimpleWeighted",
    "Thompson",
    "Ucb1",
    "masked_argmax",
    "masked_argmax_batch",
]

_Flags: TypeAlias = Sequence[bool] | Sequence[Sequence[bool]] | NDArray[np.bool_]
_Numbers: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | NDArray[Any]
_Priors: TypeAlias = (
    Mapping[int, tuple[float, float]]
    | Mapping[str, tuple[float, float]]
    | Mapping[int | str, tuple[float, float]]
)
_Keys: TypeAlias = Sequence[str | int] | NDArray[Any]

@disjoint_base
class Learner:
    """A learner of one choice: the same learning as in a capsule, without a store.

    Options have numbers and names. Each key has a learner state of its own; a whole number as a key is the
    same key as its decimal digits. Safe to use from many threads; batches release the interpreter, and give
    what the same calls one by one give, bit for bit. Made by its subclasses and by `load`.

    All of them take:
        options: Their number, 2 to 1024, or their names.
        seed: What the draws come from, 0 to 2**64 - 1: the same seed and calls give the same decisions on every
            machine. ``None`` takes one from the operating system.
        reward_range: What rewards may be, both ends included; (0.0, 1.0) if left out. Inside, rewards are scaled to 0..1 by it.
        min_exploration: Share of decisions drawn uniformly from the allowed options, 0 to 1.
        max_keys: Most keys that are held, 1 to 1,000,000; 10,000 if left out. Beyond it the one that was longest without an update is
            folded into a prior that new keys start from, worth at most 8 rewards an option.
        half_life_updates: After this many later updates of its key a reward counts half. ``None`` = nothing fades.
        priors: What is believed of single options beforehand: ``{option: (mean, count)}`` counts in every key as
            ``count`` rewards with the mean ``mean``, scattered like the uniform distribution (or as far as that mean permits),
            and never fades.
        shrinkage: What each option has earned in the other keys counts as at most this many rewards.
            ``None`` = keys learn apart. Not for `SimpleWeighted`.

    Raises:
        ValueError: A setting does not hold; the message names it.
        ImportError: NumPy is missing, where arrays are needed.
    """

    def decide(self, key: str | int | None = None, allowed: _Flags | None = None) -> tuple[int, float]:
        """Draws an option.

        Args:
            key: At most 256 bytes; left out, the key is ``""``.
            allowed: Shape ``(n_options,)``: which options may be drawn; left out, all.

        Returns:
            The option's number, and the probability it was drawn with.

        Raises:
            ValueError: Nothing is allowed, or a shape or the key does not fit. Nothing was drawn.
        """

    def update(self, option: int | str, reward: float, key: str | int | None = None) -> None:
        """Learns one reward of one option; it need not have been drawn here.

        Raises:
            ValueError: The reward is outside `reward_range` or not a number, or there is no such number.
            KeyError: There is no option of this name. Nothing has changed.
        """

    def probabilities(
        self, key: str | int | None = None, allowed: _Flags | None = None
    ) -> NDArray[np.float64]:
        """What `decide` draws from: shape ``(n_options,)``, 0 where not allowed, sum 1 within 1e-9."""

    def decide_batch(
        self, keys: _Keys, allowed: _Flags | None = None
    ) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """`decide` for every key in order; nothing is drawn where one of them is refused.

        Args:
            keys: Shape ``(n,)``: texts, whole numbers, or an array of integers.
            allowed: Shape ``(n_options,)`` for all, or ``(n, n_options)``.

        Returns:
            Options and propensities, both of shape ``(n,)``.
        """

    def probabilities_batch(self, keys: _Keys, allowed: _Flags | None = None) -> NDArray[np.float64]:
        """`probabilities` for every key: shape ``(n, n_options)``."""

    def update_batch(
        self, options: Sequence[int | str] | NDArray[Any], rewards: _Numbers, keys: _Keys | None = None
    ) -> None:
        """`update` for every row in order, all or none.

        Args:
            options: Shape ``(n,)``, numbers or names.
            rewards: Shape ``(n,)``.
            keys: Shape ``(n,)``; left out, the key of all is ``""``.

        Raises:
            ValueError: With the first row that is refused. Nothing has changed.
        """

    def save(self) -> bytes:
        """Everything, the position in the draws included. Versioned; the same state gives the same bytes."""

    @staticmethod
    def load(blob: bytes) -> Learner:
        """The learner that `save` has written, of the same class; it goes on as the saved one would.

        Raises:
            ValueError: The bytes are something else, damaged, or of another version.
        """

    def keys(self) -> list[str]:
        """The keys that have learned something and are held, sorted."""

    @property
    def state_hash(self) -> str:
        """The digest of what was learned: equal on every machine for the same updates."""

    @property
    def n_options(self) -> int:
        """How many options there are."""

    @property
    def names(self) -> list[str]:
        """The options' names: their digits, where only their number was given."""

    @property
    def algorithm(self) -> str:
        """``thompson``, ``epsilon_greedy``, ``ucb1`` or ``simple_weighted``."""

@final
class Thompson(Learner):
    """Thompson sampling: each option is drawn with the probability that its mean reward is the largest.

    With `reward_range` (0, 1) the posterior is Beta(1 + Σr, 1 + n - Σr), fractions allowed; else the Student-t of
    the normal-inverse-gamma posterior on scaled rewards. The probabilities are exact (quadrature, error below 1e-7), not
    counted from samples.

    Sources: Thompson (1933), Biometrika 25; Russo et al. (2018), arXiv:1707.02038; Murphy (2007), "Conjugate Bayesian
    analysis of the Gaussian distribution", section 3.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        shrinkage: float | None = None,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class EpsilonGreedy(Learner):
    """The best mean with probability 1 - ε, else uniform over the allowed options.

    An option that has earned nothing counts as the middle of `reward_range`; ties go to the lowest number.

    Source: Sutton and Barto (2018), "Reinforcement Learning", section 2.2.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        epsilon: float = 0.1,
        shrinkage: float | None = None,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class Ucb1(Learner):
    """The largest mean + sqrt(2 ln N / n) on scaled rewards; ties go to the lowest number.

    Options that have earned nothing share the probability equally, since feedback may be delayed.
    Otherwise it is deterministic: its propensities are 0 and 1 unless `min_exploration` is set.

    Source: Auer, Cesa-Bianchi and Fischer (2002), Machine Learning 47, 235-256.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        shrinkage: float | None = None,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class SimpleWeighted(Learner):
    """Weights that one reward moves by 0.05 x reward, at most `max_delta`, to or from the option.

    The others move by the opposite share; floor 0, scaled to the sum 1. The order of updates matters. Rewards below 0
    move a weight down: for those, set `reward_range`.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        max_delta: float = 0.15,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class Combinations:
    """The valid combinations of several choices, in lexicographic order.

    "Concatenated" arrays hold the entries of the first choice's options, then those of the second, and so on;
    their length is `width`.

    Args:
        sizes: The number of options of each choice, 1 to 65535.
        valid: Shape ``(rows, len(sizes))``: option numbers that are valid together, in any order; left out, all.

    Raises:
        ValueError: A row names an option that does not exist, or there are more than 4096 combinations.
    """

    def __new__(cls, sizes: Sequence[int], valid: _Numbers | None = None) -> Self: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int:
        """The length of concatenated arrays."""

    @property
    def rows(self) -> NDArray[np.uint16]:
        """Shape ``(len(self), len(sizes))``: the option of each choice."""

    def argmax(self, scores: _Numbers, allowed: _Flags | None = None) -> int:
        """The combination with the largest sum of scores among those whose options are all allowed.

        Ties go to the first combination; sums are added from the first choice to the last.

        Args:
            scores: Shape ``(width,)``; where allowed, within ±1e300.
            allowed: Shape ``(width,)``; left out, everything.

        Raises:
            ValueError: A shape does not fit, an allowed score is no such number, or nothing is allowed.
        """

    def argmax_batch(self, scores: _Numbers, allowed: _Flags | None = None) -> NDArray[np.uint32]:
        """`argmax` of every row of `scores`, shape ``(n, width)``; `allowed` has the same shape or ``(width,)``."""

    def probabilities(
        self, head_probabilities: _Numbers, allowed: _Flags | None = None, min_exploration: float = 0.0
    ) -> NDArray[np.float64]:
        """Joint probabilities: proportional to the product of the choices' own, over what is valid and allowed.

        Mixed with `min_exploration` of the uniform distribution over these; uniform where all products are 0.
        Shape ``(len(self),)``, sum 1.
        """

def masked_argmax(scores: _Numbers, allowed: _Flags | None = None) -> int:
    """The index of the largest score among the allowed options; ties go to the lowest index.

    Args:
        scores: Shape ``(n,)``; infinite is a score like any other, NaN is refused where allowed.
        allowed: Shape ``(n,)``; left out, all.

    Raises:
        ValueError: A shape does not fit, an allowed score is NaN, or nothing is allowed.
    """

def masked_argmax_batch(scores: _Numbers, allowed: _Flags | None = None) -> NDArray[np.uint32]:
    """`masked_argmax` of every row of `scores`, shape ``(rows, n)``; `allowed` has the same shape or ``(n,)``."""
