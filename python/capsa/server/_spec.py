"""What a spec looks like, for the OpenAPI document; it is read natively."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from capsa.server._shapes import (
    AlgorithmChange,
    AlgorithmName,
    Count,
    Duration,
    MaxContexts,
    Mode,
    Positive,
    Share,
    ShrinkageChange,
)

#: Without control characters, and at most 64 bytes: left to the domain, since a pattern makes generated names slow.
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Weight = Annotated[float, Meta(extra_json_schema={"not": {"const": 0}})]


def _unique(least: int, most: int) -> Meta:
    """Of a list that names nothing twice."""
    return Meta(min_length=least, max_length=most, extra_json_schema={"uniqueItems": True})


def _named(most: int) -> Meta:
    """Of an object whose keys are names that users choose."""
    names = {"minLength": 1, "maxLength": 64}
    return Meta(min_length=1, max_length=most, extra_json_schema={"propertyNames": names})


class SpecPrior(Struct, forbid_unknown_fields=True):
    """What an option starts with: so many rewards of this value."""

    reward: float
    count: Count


class SpecOption(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An option with more than a name."""

    name: Name
    prior: SpecPrior | UnsetType = UNSET


class SpecContext(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A context with more than a name: declared values, or the edges of buckets, or a type."""

    name: Name
    type: Literal["category", "number", "flag"] | UnsetType = UNSET
    values: Annotated[list[Name], _unique(1, 256)] | UnsetType = UNSET
    buckets: Annotated[list[float], _unique(1, 256)] | UnsetType = UNSET


class SpecMetric(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A metric: how much it weighs, and its scale where it is not 0 to 1."""

    weight: Weight
    budget: Positive | UnsetType = UNSET
    range: Annotated[list[float], _unique(2, 2)] | UnsetType = UNSET


class SpecRails(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """`max_delta` acts only with `simple_weighted`."""

    min_exploration: Share | UnsetType = UNSET
    max_delta: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    freeze: bool | UnsetType = UNSET


class SpecDecay(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One of them."""

    half_life: Duration | UnsetType = UNSET
    half_life_feedbacks: Positive | UnsetType = UNSET


class SpecHorizon(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Until when feedback counts, and what silence means."""

    after: Duration
    outcome: Annotated[dict[str, float | bool], _named(64)] | UnsetType = UNSET


class SpecStrategy(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One of several choices that are made together."""

    options: Annotated[list[Name | SpecOption], _unique(2, 1024)]
    algorithm: AlgorithmName | AlgorithmChange | UnsetType = UNSET
    baseline: Name | UnsetType = UNSET


class Spec(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A capsule as a person writes it: with `options`, or with `strategies`. Keys and names are snake case."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
    options: Annotated[list[Name | SpecOption], _unique(2, 1024)] | UnsetType = UNSET
    strategies: Annotated[dict[str, SpecStrategy], _named(16)] | UnsetType = UNSET
    valid: list[dict[str, Name | list[Name]]] | UnsetType = UNSET
    contexts: Annotated[list[Name | SpecContext], _unique(0, 32)] | UnsetType = UNSET
    max_contexts: MaxContexts | UnsetType = UNSET
    reward: Annotated[dict[str, Weight | SpecMetric], _named(64)] | UnsetType = UNSET
    reward_range: Annotated[list[float], _unique(2, 2)] | UnsetType = UNSET
    algorithm: AlgorithmName | AlgorithmChange | UnsetType = UNSET
    baseline: Name | UnsetType = UNSET
    rails: SpecRails | UnsetType = UNSET
    decay: SpecDecay | UnsetType = UNSET
    shrinkage: ShrinkageChange | UnsetType = UNSET
    horizon: SpecHorizon | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    log_input: Literal["contexts"] | UnsetType = UNSET
