"""Specs and inputs to compile: whatever the contract allows, and inputs around its edges."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

#: Texts that have been trouble: separators, escapes, reserved words, YAML look-alikes, 64 and 65 bytes.
AWKWARD = [
    "|", "%", "%7C", "a|b", "unknown", "other", "Unknown", "%75nknown", "yes", "no", "off", "1s", "null", "true",
    "0", "-0", "1e3", "#", ": ", "- a", "{a}", '"', "'", "\\", "a.b", "ü", "日本", "🚀", "e\u0301", " ", " a ",
    "a" * 64, "ü" * 32, "🚀" * 16, "\u2028", "\u00a0", "\ufeff", "~", "/", "default",
]  # fmt: skip
TOO_LONG = ["a" * 65, "ü" * 32 + "a", "🚀" * 17]


#: Numbers around the edges of what a float can be, and around what a category can hold as a text.
NUMBERS: list[float] = [
    0, -0.0, 1, -1, 0.5, 500, 1e21, 1e-7, 1.5e-60, 1999.9999999999998, 0.1 + 0.2, 2**53, -(2**53), 1e22, 123456789e15,
    1e62, 1e63, 1e64, -1e62, -1e63, 1e300, -1e300, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 1 / 3,
]  # fmt: skip


def within_64_bytes(text: str) -> bool:
    return 1 <= len(text.encode()) <= 64


def names() -> st.SearchStrategy[str]:
    """Names of options, contexts, strategies and metrics: 1 to 64 bytes without control characters."""
    free = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
    return (
        st.sampled_from(AWKWARD)
        | st.sampled_from(["tier", "task", "size", "a", "b"])
        | free.filter(within_64_bytes)
    )


def edges() -> st.SearchStrategy[list[float]]:
    """Bucket edges."""
    edge = (
        st.sampled_from([-0.0, 0.1, 0.5, 10, 500, 2000, 1e300, 5e-324, -1e300, 1e21, 2.0**53])
        | st.integers(-1000, 1000)
        | st.floats(allow_nan=False, allow_infinity=False)
    )
    return st.lists(edge, min_size=1, max_size=5, unique_by=lambda e: e + 0.0).map(sorted)


@st.composite
def contexts(draw: st.DrawFn) -> list[Any]:
    """The `contexts` of a spec, short and long forms."""
    declared: list[Any] = []
    for name in draw(st.lists(names(), max_size=4, unique=True)):
        kind = draw(st.sampled_from(["short", "category", "values", "buckets", "typed buckets", "flag"]))
        declared.append(
            {
                "short": name,
                "category": {"name": name, "type": "category"},
                "values": {
                    "name": name,
                    "values": draw(st.lists(names(), min_size=1, max_size=4, unique=True)),
                },
                "buckets": {"name": name, "buckets": draw(edges())},
                "typed buckets": {"name": name, "type": "number", "buckets": draw(edges())},
                "flag": {"name": name, "type": "flag"},
            }[kind]
        )
    return declared


@st.composite
def rewards(draw: st.DrawFn) -> dict[str, Any]:
    """A `reward` and a `reward_range` that holds it."""
    declared: dict[str, Any] = {}
    for name in draw(st.lists(names(), min_size=1, max_size=5, unique=True)):
        weight = draw(st.sampled_from([0.6, -0.2, 1, -1, 1e-9, 0.1]) | st.floats(-5, 5).filter(bool))
        scale = draw(st.sampled_from(["short", "share", "budget", "range"]))
        if scale == "short":
            declared[name] = weight
            continue
        declared[name] = {"weight": weight}
        if scale == "budget":
            declared[name]["budget"] = draw(st.sampled_from([2000, 1e-5, 1e300]) | st.floats(1e-9, 1e9))
        elif scale == "range":
            low = draw(st.sampled_from([0, -1, -1e6]) | st.floats(-1e6, 1e6))
            declared[name]["range"] = [low, low + draw(st.sampled_from([0.02, 1, 3e7]))]
    weights = [entry if isinstance(entry, int | float) else entry["weight"] for entry in declared.values()]
    low = math.fsum(w for w in weights if w < 0)
    high = math.fsum(w for w in weights if w > 0)
    exact = draw(st.booleans())
    reward_range = [low, high] if exact else [min(-1.0, low * 1.5), max(1.0, high * 1.5)]
    return {"reward": declared, "reward_range": reward_range}


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    """One strategy's options at the top, or several strategies with or without `valid`."""
    options = st.lists(names(), min_size=2, max_size=5, unique=True)
    if draw(st.booleans()):
        one = {"options": draw(options)}
        if draw(st.booleans()):
            one["baseline"] = draw(st.sampled_from(one["options"]))
        return one
    strategies = {
        name: {"options": draw(options)}
        for name in draw(st.lists(names(), min_size=1, max_size=3, unique=True))
    }
    several: dict[str, Any] = {"strategies": strategies}
    if len(strategies) > 1 and draw(st.booleans()):
        # A row that the first options, which are the baselines, are part of.
        row: dict[str, Any] = {}
        for name, strategy in strategies.items():
            first, *others = strategy["options"]
            form = draw(st.sampled_from(["left out", "one", "list"]))
            if form == "one":
                row[name] = first
            elif form == "list":
                row[name] = [first, *draw(st.lists(st.sampled_from(others), unique=True))]
        several["valid"] = [row or {next(iter(strategies)): strategies[next(iter(strategies))]["options"]}]
    return several


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A spec that holds."""
    spec: dict[str, Any] = {"name": "generated"} | draw(choices())
    if draw(st.booleans()):
        spec["contexts"] = draw(contexts())
        if not spec["contexts"]:
            del spec["contexts"]
    if draw(st.booleans()):
        spec |= draw(rewards())
    return spec


def numbers() -> st.SearchStrategy[float]:
    """Numbers around the edges of what a float can be."""
    return (
        st.sampled_from(NUMBERS)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-(2**53), 2**53)
    )


def _texts() -> st.SearchStrategy[str]:
    return names() | st.sampled_from([*TOO_LONG, "", "x" * 300]) | st.text(max_size=12)


def values() -> st.SearchStrategy[Any]:
    """JSON values of any type, wrong ones among them."""
    return st.one_of(
        _texts(),
        numbers(),
        st.booleans(),
        st.none(),
        st.lists(_texts(), max_size=3),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
        st.just([1, "a"]),
        st.just([True]),
        st.just(math.nan),
        st.just(math.inf),
    )


@st.composite
def inputs(draw: st.DrawFn, spec: dict[str, Any]) -> dict[str, Any]:
    """An input for a spec: right and wrong values, missing fields, nested ones, others."""
    given: dict[str, Any] = {}
    for declared in spec.get("contexts", []):
        context = {"name": declared} if isinstance(declared, str) else declared
        how = draw(st.sampled_from(["fit"] * 6 + ["any", "missing"]))
        if how == "missing":
            continue
        value = draw(_fitting(context) if how == "fit" else values())
        _place(given, context["name"], value)
    if draw(st.booleans()):
        given |= {
            name: value
            for name, value in draw(st.dictionaries(names(), values(), max_size=2)).items()
            if name not in given
        }
    return given


def _fitting(context: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "buckets" in context:
        near = list(context["buckets"])
        near += [math.nextafter(edge, math.inf) for edge in near] + [
            math.nextafter(edge, -math.inf) for edge in near
        ]
        return st.sampled_from([edge for edge in near if math.isfinite(edge)]) | numbers()
    if context.get("type") == "flag":
        return st.booleans()
    declared = context.get("values", ["unknown", "other"])
    return st.sampled_from(declared) | names() | numbers() | st.sampled_from(TOO_LONG)


def _place(given: dict[str, Any], flat: str, value: Any) -> None:
    """Puts a value where its flattened name is `flat`: nested at dots, where that is possible."""
    head, dot, rest = flat.partition(".")
    if "\\" in flat or not dot or not head or not rest or ("." in rest and rest.startswith(".")):
        given[flat] = value
    elif isinstance(given.get(head), dict):
        given[head][rest] = value
    else:
        given[head] = {rest: value}


@st.composite
def outcomes(draw: st.DrawFn, spec: dict[str, Any]) -> dict[str, Any]:
    """An outcome for a spec: values in and around each metric's scale, missing and unknown metrics."""
    given: dict[str, Any] = {}
    for name, declared in spec["reward"].items():
        metric = {} if isinstance(declared, int | float) else declared
        how = draw(st.sampled_from(["fit"] * 12 + ["any", "missing"]))
        if how == "missing":
            continue
        top = metric.get("budget", 1)
        low, high = metric.get("range", (0, top))
        inside = st.sampled_from([low, high, low + (high - low) / 2]) | st.floats(low, high)
        outside = st.sampled_from(
            [math.nextafter(high, math.inf), math.nextafter(low, -math.inf), -0.0, 5e-324, 1e300]
        )
        given[name] = draw(inside if how == "fit" else outside | st.booleans() | numbers())
    if not draw(st.integers(0, 9)):
        given[draw(names())] = 0.5
    return given
