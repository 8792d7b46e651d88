"""Learners for NumPy users, without a store: the same learning as in a capsule.

```python
from capsa.learners import EpsilonGreedy

learner = EpsilonGreedy(["red", "green", "blue"], epsilon=0.1, seed=1)
option, propensity = learner.decide("user-7")      # a key: each has a learner state of its own
learner.update(option, 1.0, "user-7")
learner.probabilities("user-7")                    # what the next decide draws from
```

A learner is safe to use from many threads; batches release the interpreter. The manual of every
method is the stub, `capsa/_native/learners.pyi`.
"""

from capsa._native.learners import (
    Combinations,
    EpsilonGreedy,
    Learner,
    SimpleWeighted,
    Thompson,
    Ucb1,
    masked_argmax,
    masked_argmax_batch,
)

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
