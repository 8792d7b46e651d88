"""The JSON Schema of a policy file, made of the structs.

A schema cannot say all: special addresses, names that are no names, and the same host in two spellings are found by
`load_policy` alone. What the schema refuses, that refuses too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import inspect

from capsa.policies._model import HttpRule, Policy, camel

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def policy_schema(*, spelling: str = "snake") -> dict[str, Any]:
    """The JSON Schema (2020-12) of a capability policy.

    Args:
        spelling: ``snake`` as in TOML, or ``camel`` as in JSON.

    Raises:
        ValueError: Another spelling.
    """
    if spelling not in ("snake", "camel"):
        raise ValueError(f"spelling is snake or camel, not {spelling!r}")
    drawn: dict[str, Any] = {}
    root = inspect.type_info(Policy)
    assert isinstance(root, inspect.StructType)
    whole = _Drawing(spelling == "camel", drawn).table(root)
    return {
        "$schema": _DIALECT,
        "title": "Capability policy",
        **whole,
        # With the engine that does not count it, fuel has no effect.
        "if": {"properties": {"engine": {"const": "deterministic"}}, "required": ["engine"]},
        "else": {"properties": {"limits": {"properties": {"fuel": False}}}},
        "$defs": dict(sorted(drawn.items())),
    }


class _Drawing:
    """One schema, and the tables that it refers to."""

    def __init__(self, camel_case: bool, tables: dict[str, Any]) -> None:
        self._camel_case = camel_case
        self._tables = tables

    def table(self, kind: inspect.StructType) -> dict[str, Any]:
        """The schema of a struct."""
        fields = {field.encode_name if self._camel_case else field.name: field for field in kind.fields}
        drawn: dict[str, Any] = {
            "description": (kind.cls.__doc__ or "").partition("\n")[0],
            "type": "object",
            "properties": {name: self._field(field) for name, field in fields.items()},
            "required": [name for name, field in fields.items() if field.required],
            "additionalProperties": False,
        }
        if kind.cls is HttpRule:
            some = {"minItems": 1}
            drawn["anyOf"] = [
                {"required": [name], "properties": {name: some}} for name in ("hosts", "private")
            ]
            # Without hosts they would have no effect.
            drawn["dependentSchemas"] = {"ports": {"required": ["hosts"], "properties": {"hosts": some}}}
        return drawn

    def _field(self, field: inspect.Field) -> dict[str, Any]:
        drawn = self._type(field.type)
        if isinstance(field.default, str | int | tuple) and field.default != ():
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            drawn["default"] = default
        return drawn

    def _type(self, kind: inspect.Type) -> dict[str, Any]:
        match kind:
            case inspect.Metadata():
                extra = kind.extra or {}
                unique = {"uniqueItems": True} if extra.get("unique") else {}
                return {**(kind.extra_json_schema or {}), **self._type(kind.type), **unique}
            case inspect.UnionType():
                # Absent, never null.
                [kind] = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
                return self._type(kind)
            case inspect.StructType():
                name = kind.cls.__name__
                if name not in self._tables:
                    self._tables[name] = self.table(kind)
                return {"$ref": f"#/$defs/{name}"}
            case inspect.BoolType():
                return {"type": "boolean"}
            case inspect.IntType():
                return {"type": "integer", "minimum": kind.ge, "maximum": kind.le}
            case inspect.StrType():
                return {"type": "string"} | _given(
                    {"minLength": kind.min_length, "maxLength": kind.max_length, "pattern": kind.pattern}
                )
            case inspect.LiteralType():
                return {"enum": self._words(kind)}
            case inspect.VarTupleType():
                return {"type": "array", "items": self._type(kind.item_type)} | _given(
                    {"minItems": kind.min_length or None, "maxItems": kind.max_length}
                )
            case inspect.DictType():
                return {
                    "type": "object",
                    "propertyNames": self._type(kind.key_type),
                    "additionalProperties": self._type(kind.value_type),
                    "maxProperties": kind.max_length,
                }
        raise AssertionError(f"no struct has a {kind}")

    def _words(self, kind: inspect.LiteralType) -> list[Any]:
        """The preferred spelling of each word first; both are read."""
        spelled = {
            name: None
            for word in kind.values
            for name in sorted(
                {word, camel(word)} if isinstance(word, str) else {word},
                key=lambda name: (name == word) == self._camel_case,
            )
        }
        return list(spelled)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
