"""What a YAML spec means, interpreted: written from the contract of specs alone.

A spec is the Python mapping that `tests.reference.yaml_text` writes as YAML. The interpreter answers the
context key of an input and the reward of an outcome, or says what is wrong with them.

Where the contract says "percent-encoded", this model writes `%` and two capital hexadecimal digits; of a
literal ``unknown`` or ``other`` it encodes the first letter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

MAX_TEXT_BYTES = 64
MAX_KEY_BYTES = 256
MAX_INPUT_BYTES = 64 * 1024
MAX_INPUT_DEPTH = 16

Field = str | float | bool | list[str] | list[float]


class Refused(Exception):
    """An input or outcome that does not fit; `field` is the name of the field or metric at fault."""

    def __init__(self, kind: str, field: str) -> None:
        super().__init__(f"{kind}: {field}")
        self.kind = kind
        self.field = field


def flatten(value: Mapping[str, Any]) -> dict[str, Field]:
    """An input as flat fields: `a.b` for nested names, `\\.` and `\\\\` inside a name, no nulls."""
    fields: dict[str, Field] = {}
    _flatten(value, "", 1, fields)
    size = sum(len(name.encode()) + _size(field) for name, field in fields.items())
    if size > MAX_INPUT_BYTES:
        raise Refused("too_large", "")
    return fields


def _flatten(value: Mapping[str, Any], prefix: str, depth: int, fields: dict[str, Field]) -> None:
    if depth > MAX_INPUT_DEPTH:
        raise Refused("too_deep", prefix)
    for name, item in value.items():
        path = prefix + name.replace("\\", "\\\\").replace(".", "\\.")
        if item is None:
            continue
        if isinstance(item, Mapping):
            _flatten(item, path + ".", depth + 1, fields)
        else:
            fields[path] = _field(path, item)


def _field(path: str, item: object) -> Field:
    if isinstance(item, bool | str):
        return item
    if isinstance(item, int | float):
        return _finite(path, item)
    if isinstance(item, Sequence) and not isinstance(item, bytes):
        if all(isinstance(entry, str) for entry in item):
            return [str(entry) for entry in item]
        if all(isinstance(entry, int | float) and not isinstance(entry, bool) for entry in item):
            return [_finite(path, entry) for entry in item]
    raise Refused("invalid_field", path)


def _finite(path: str, number: float) -> float:
    if not math.isfinite(number) or (isinstance(number, int) and int(float(number)) != number):
        raise Refused("invalid_field", path)
    return float(number)


def _size(field: Field) -> int:
    if isinstance(field, bool):
        return 1
    if isinstance(field, float):
        return 8
    if isinstance(field, str):
        return len(field.encode())
    return sum(len(item.encode()) + 2 if isinstance(item, str) else 8 for item in field)


def shortest_decimal(number: float) -> str:
    """The shortest digits that read back as the same number, never with an exponent."""
    if number == 0:
        return "0"
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def contexts(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The declared contexts in the long form."""
    return [{"name": entry} if isinstance(entry, str) else dict(entry) for entry in spec.get("contexts", [])]


def context_key(spec: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    """The context key of an input."""
    fields = flatten(value)
    parts = [_part(context, fields) for context in contexts(spec)]
    key = "|".join(parts) if parts else "default"
    encoded = key.encode()
    if len(encoded) > MAX_KEY_BYTES:
        return "#" + hashlib.blake2b(encoded, digest_size=16).hexdigest()
    return key


def _part(context: Mapping[str, Any], fields: Mapping[str, Field]) -> str:
    name = context["name"]
    if name not in fields:
        return "unknown"
    field = fields[name]
    if "buckets" in context:
        return _bucket(name, context["buckets"], field)
    if context.get("type") == "flag":
        if not isinstance(field, bool):
            raise Refused("invalid_field", name)
        return "yes" if field else "no"
    return _category(name, context.get("values"), field)


def _bucket(name: str, edges: Sequence[float], field: Field) -> str:
    if isinstance(field, bool) or not isinstance(field, float):
        raise Refused("invalid_field", name)
    shown = [shortest_decimal(float(edge)) for edge in edges]
    above = sum(1 for edge in edges if field >= edge)
    if above == 0:
        return f"<{shown[0]}"
    if above == len(edges):
        return f">={shown[-1]}"
    return f"{shown[above - 1]}-{shown[above]}"


def _category(name: str, values: Sequence[str] | None, field: Field) -> str:
    if isinstance(field, bool | list):
        raise Refused("invalid_field", name)
    text = field if isinstance(field, str) else shortest_decimal(field)
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise Refused("invalid_field", name)
    if values is not None and text not in values:
        return "other"
    if text == "unknown":
        return "%75nknown"
    if text == "other":
        return "%6Fther"
    return text.replace("%", "%25").replace("|", "%7C")


def metrics(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The declared metrics in the long form."""
    declared = spec.get("reward") or {}
    return {
        name: {"weight": entry} if isinstance(entry, int | float) else dict(entry)
        for name, entry in declared.items()
    }


def scaled(name: str, metric: Mapping[str, Any], value: object) -> float:
    """One metric on its scale of 0 to 1."""
    if isinstance(value, bool):
        value = int(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused("invalid_field", name)
    number = float(value)
    if "budget" in metric:
        if number < 0:
            raise Refused("metric_out_of_range", name)
        return min(number / float(metric["budget"]), 1.0)
    low, high = metric.get("range", (0.0, 1.0))
    if not low <= number <= high:
        raise Refused("metric_out_of_range", name)
    return float((number - low) / (high - low))


def reward(spec: Mapping[str, Any], outcome: Mapping[str, object]) -> float:
    """The reward of a complete outcome: the sum of weight x scaled metric."""
    declared = metrics(spec)
    for name in outcome:
        if name not in declared:
            raise Refused("unknown_metric", name)
    parts = []
    for name, metric in declared.items():
        if name not in outcome:
            raise Refused("missing", name)
        parts.append(metric["weight"] * scaled(name, metric, outcome[name]))
    return math.fsum(parts)


def reward_range(spec: Mapping[str, Any]) -> tuple[float, float]:
    """What a reward may be."""
    low, high = spec.get("reward_range", (-1.0, 1.0))
    return float(low), float(high)


def strategies(spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """The options by strategy; a spec with its options at the top has the one strategy `choice`."""
    if "options" in spec:
        return {"choice": list(spec["options"])}
    return {name: list(strategy["options"]) for name, strategy in spec["strategies"].items()}
