"""The classic scenario: 60 outcomes that were not asked for here, and what is learned from them."""

from __future__ import annotations

from typing import Final

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
    """

    options: list[str]
    weights: dict[str, list[float]]
    right: dict[str, str]
    unseen: str

    def right_weights(self) -> list[float]:
        """The weight of the right option in each context that was taught."""
        return [self.weights[key][self.options.index(option)] for key, option in self.right.items()]

    def unseen_gap(self) -> float:
        """How far the unseen context's weights are from the prior."""
        return max(abs(weight - 1 / len(self.options)) for weight in self.weights[self.unseen])


def classic() -> Classic:
    """Teaches both lessons to a capsule of its own."""
    with capsa.open(seed=0) as store:
        router = store.install(spec("classic"))
        for key, option in LESSONS.items():
            for _ in range(EVENTS_EACH):
                router.feedback(option=option, reward=1.0, context_key=key)
        weights: dict[str, list[float]] = {}
        options: list[str] = []
        for key in (*LESSONS, UNSEEN):
            # With every option allowed the probabilities of a decision are the context's weights.
            [choice] = router.decide(context_key=key).decisions
            assert choice.probabilities is not None
            weights[key], options = choice.probabilities, choice.names
    return Classic(options=options, weights=weights, right=dict(LESSONS), unseen=UNSEEN)
