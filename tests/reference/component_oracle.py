"""Calls decision components through the PyPI `wasmtime` package, which shares no code of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import wasmtime
from tests.reference.spec_interpreter import Field
from wasmtime import component as wc


class GuestError(Exception):
    """The error text that the guest answered."""


@dataclass(frozen=True)
class Made:
    """A choice that was made, with the attributes that the world's record has."""

    strategy: str
    option: str
    key: str
    propensity: float | None


class Oracle:
    """One component; every call runs in a fresh instance."""

    _engine = wasmtime.Engine()

    def __init__(self, component: bytes) -> None:
        self._component = wc.Component(self._engine, component)

    def frame(self, fields: Mapping[str, Field]) -> list[Any]:
        """The choices of `frame`."""
        choices = self._call("frame", _fields(fields))
        if isinstance(choices, str):
            raise GuestError(choices)
        assert isinstance(choices, list)
        return choices

    def reward(self, outcome: Mapping[str, Field], made: Sequence[Made]) -> float:
        """The number of `reward`."""
        answer = self._call("reward", _fields(outcome), list(made))
        if isinstance(answer, str):
            raise GuestError(answer)
        assert isinstance(answer, float)
        return answer

    def imports(self) -> list[str]:
        """The names of what the component imports."""
        return sorted(self._component.type.imports(self._engine))

    def exports(self) -> list[str]:
        """The names of what it exports."""
        return sorted(self._component.type.exports(self._engine))

    def _call(self, name: str, *arguments: object) -> Any:
        store = wasmtime.Store(self._engine)
        instance = wc.Linker(self._engine).instantiate(store, self._component)
        function = instance.get_func(store, name)
        assert function is not None
        answer = function(store, *arguments)
        function.post_return(store)
        return answer


def _fields(fields: Mapping[str, Field]) -> list[tuple[str, wc.Variant]]:
    return [(name, _value(value)) for name, value in fields.items()]


def _value(value: Field) -> wc.Variant:
    if isinstance(value, bool):
        return wc.Variant("flag", value)
    if isinstance(value, float):
        return wc.Variant("number", value)
    if isinstance(value, str):
        return wc.Variant("text", value)
    if value and isinstance(value[0], float):
        return wc.Variant("numbers", value)
    return wc.Variant("texts", value)
