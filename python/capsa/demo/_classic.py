"""The classic scenario: 60 outcomes that were not asked for here, and what is learned from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

import capsa
from capsa.demo._table import spec

#: Context, and the option that is right in it.
LESSONS: Final = {"support-low-cost": "cheap_fast", "legal-high-accuracy": "expensive_accurate"}
EVENTS_EACH: Final = 30
UNSEEN: Final = "marketing-draft"

#: What is asked of the right option's weight. Of the 2 % that are drawn uniformly 1.3 % go to the two others, so
#: nothing above 98.7 % can be had.
RIGHT_WEIGHT: Final = 0.97


class Classic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was learned.

    Attributes:
        options: The options.
        weights: The weights of each context, in option order.
        right: The right option of the contexts that were taught.
        unseen: The context that nothing was said about.
        kept: Whether a kill and a new start have changed nothing of it; ``None`` where there was none.
    """

    options: list[str]
    weights: dict[str, list[float]]
    right: dict[str, str]
    unseen: str
    kept: bool | None = None

    def right_weights(self) -> list[float]:
        """The weight of the right option in each context that was taught."""
        return [self.weights[key][self.options.index(option)] for key, option in self.right.items()]

    def unseen_gap(self) -> float:
        """How far the unseen context's weights are from the prior."""
        return max(abs(weight - 1 / len(self.options)) for weight in self.weights[self.unseen])


class Pupil(Protocol):
    """A capsule that is taught: in process, or behind a server."""

    def decide(self, *, context_key: str) -> Any:
        """Chooses in one context."""

    def feedback(self, *, option: str, reward: float, context_key: str) -> Any:
        """Takes an outcome that was not asked for here."""


def classic() -> Classic:
    """Teaches both lessons to a capsule of its own, in process."""
    with capsa.open(seed=0) as store:
        router = store.install(spec("classic"))
        teach(router)
        return examine(router)


def teach(pupil: Pupil, seen: Callable[[int, str], None] | None = None) -> None:
    """Posts the outcomes, one by one.

    Args:
        pupil: Learns.
        seen: Is told after each which one of its lesson it was, from 1, and the lesson's context.
    """
    for key, option in LESSONS.items():
        for event in range(1, EVENTS_EACH + 1):
            pupil.feedback(option=option, reward=1.0, context_key=key)
            if seen is not None:
                seen(event, key)


def weights(pupil: Pupil, key: str) -> dict[str, float]:
    """The weight of each option in one context."""
    # With every option allowed the probabilities of a decision are the context's weights.
    [choice] = pupil.decide(context_key=key).decisions
    assert choice.probabilities is not None
    return dict(zip(choice.names, choice.probabilities, strict=True))


def examine(pupil: Pupil) -> Classic:
    """What was learned."""
    found = {key: weights(pupil, key) for key in (*LESSONS, UNSEEN)}
    return Classic(
        options=list(found[UNSEEN]),
        weights={key: list(each.values()) for key, each in found.items()},
        right=dict(LESSONS),
        unseen=UNSEEN,
    )
