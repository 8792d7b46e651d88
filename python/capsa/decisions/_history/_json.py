"""Answers as JSON: our own names in camel case, names that users chose as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from capsa.decisions import _learning

#: Fields whose values are names of ours, which JSON spells in camel case as it does keys.
_ENUMS: Final = frozenset({"reason", "type"})


def to_json(value: Any) -> Any:
    """A value as JSON has it: our own names in camel case, names that users chose as they are."""
    if isinstance(value, msgspec.Struct):
        return {
            _learning.to_camel(name): _json_field(name, getattr(value, name))
            for name in value.__struct_fields__
        }
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return plain(value)


def _json_field(name: str, value: Any) -> Any:
    if name in _ENUMS and isinstance(value, str):
        return _learning.to_camel(value)
    if name == "algorithm":
        return _algorithm_json(value)
    if name == "detail" and isinstance(value, Mapping):
        # Of an event of the audit log; of a fault it is a sentence.
        return _detail_json(value)
    if name == "suggested" and value is not None:
        return {**to_json(value), "reason": _learning.to_camel(value["reason"])}
    return to_json(value)


def _detail_json(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What an event of the audit log says; its keys are ours, and the names of settings."""
    told = {_learning.to_camel(name): plain(value) for name, value in detail.items()}
    if isinstance(told.get("changed"), list):
        told["changed"] = [dotted_camel(name) for name in told["changed"]]
    if isinstance(told.get("used"), Mapping):
        told["used"] = {_learning.to_camel(name): used for name, used in told["used"].items()}
    return told


def dotted_camel(dotted: str) -> str:
    """``rails.min_exploration`` as ``rails.minExploration``."""
    return ".".join(map(_learning.to_camel, dotted.split(".")))


def _algorithm_json(algorithm: Any) -> Any:
    if isinstance(algorithm, str):
        return _learning.to_camel(algorithm)
    if isinstance(algorithm.get("name"), str) and "epsilon" in algorithm:
        return {**algorithm, "name": _learning.to_camel(algorithm["name"])}
    return {strategy: _algorithm_json(each) for strategy, each in algorithm.items()}


def learning_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """The learning document as JSON has it."""
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name == "algorithm":
            converted = _algorithm_json(value)
        elif name == "overridden":
            converted = {dotted_camel(dotted): at for dotted, at in value.items()}
        elif isinstance(value, Mapping) and name != "baseline":
            converted = {_learning.to_camel(inner): item for inner, item in value.items()}
        else:
            converted = value
        values[_learning.to_camel(name)] = converted
    return values


def plain(value: Any) -> Any:
    """A value of CBOR as JSON can hold it: bytes in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
