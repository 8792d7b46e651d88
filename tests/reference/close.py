"""Nested dictionaries and lists of floats, compared within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def apart(one: object, other: object) -> float:
    """The largest difference between two equally shaped nests of numbers; infinite where shapes differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return math.inf
        return max((apart(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, int | float) and isinstance(other, int | float):
        difference = abs(one - other)
        return math.inf if math.isnan(difference) else difference
    if isinstance(one, Sequence) and isinstance(other, Sequence) and len(one) == len(other):
        return max((apart(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    return math.inf
