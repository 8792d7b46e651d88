"""How a call ended, in words that two engines have in common."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import wasmtime
from tests.reference.component_oracle import Made
from tests.reference.spec_interpreter import Field
from wasmtime import component as wc

import capsa
from capsa import _native

MEMORY_BYTES: Final = 64 << 20
STACK_BYTES: Final = 512 << 10
_TRAP: Final = "wasm trap: "


@dataclass(frozen=True)
class End:
    """How a call ended.

    Attributes:
        kind: ``answer``, ``refusal``, ``trap``, ``stack``, ``memory`` (a limit, ours alone) or ``abi``.
        what: The answer, the guest's own words, or which trap. Of ``abi`` each engine has words of its own: empty.
    """

    kind: str
    what: object = ""


def exact(value: Any) -> Any:
    """A value with its floats as bits, so that equal means the same."""
    if isinstance(value, float):
        return struct.pack("<d", value).hex()
    if isinstance(value, list | tuple):
        return [exact(item) for item in value]
    return value


def effective(engine: str) -> str:
    """An effective policy that grants nothing and limits next to nothing."""
    limits = {
        "cpuMs": 60_000, "wallMs": 60_000, "fuel": None if engine == "fast" else 10**15, "memoryBytes": MEMORY_BYTES,
        "tableElements": 100_000, "outputBytes": 1 << 20, "logLines": 0, "logBytes": 0, "hostCalls": 0,
        "egressRequests": 0, "egressBytes": 0, "concurrency": 1,
    }  # fmt: skip
    return json.dumps(
        {
            "engine": engine, "effect": "pure", "clock": False, "random": False, "config": {}, "kv": None,
            "files": None, "http": {"wanted": [], "allowed": []}, "secrets": [], "limits": limits,
        }
    )  # fmt: skip


def _ours(error: BaseException) -> End:
    """What one of our errors says."""
    match error:
        case capsa.errors.CapsuleRefused():
            return End("refusal", error.detail)
        case capsa.errors.CapsuleTrapped():
            return End("trap", error.detail.removeprefix("the capsule trapped: "))
        case capsa.errors.CapsuleStack():
            return End("stack")
        case capsa.errors.CapsuleOutOfMemory():
            return End("memory")
        case capsa.errors.CapsuleBadOutput():
            return End("abi")
    raise error


def _theirs(error: wasmtime.WasmtimeError) -> End:
    _, found, trap = str(error).rpartition(_TRAP)
    if not found:
        return End("abi")
    trap = trap.strip().partition("\n")[0]
    return End("stack") if trap == "call stack exhausted" else End("trap", trap)


class OurTool:
    """A tool in one of our engines.

    Args:
        component: Of the world ``tool``; it imports nothing.
        engine: ``fast`` or ``deterministic``.
    """

    def __init__(self, host: _native.Host, component: bytes, engine: str) -> None:
        self._tool = host.load_tool(component).bind(effective(engine))

    def invoke(self, value: str) -> End:
        made = self._tool.call("oracle", value, seed=bytes(32), now_ns=0)
        if made.error is not None:
            return _ours(made.error)
        return End("answer", made.output)


class OurDecision:
    """A decision component in our engine."""

    def __init__(self, host: _native.Host, component: bytes) -> None:
        self._component = host.load(component)

    def frame(self, value: Mapping[str, Any]) -> End:
        """The choices; each a list of its fields in the order of the world."""
        return _end(
            lambda: [
                [choice[name] for name in ("strategy", "key", "features", "allowed", "candidates")]
                for choice in self._component.frame(dict(value))
            ]
        )

    def reward(self, outcome: Mapping[str, Any], made: Sequence[Made]) -> End:
        """The number."""
        rows = [(row.strategy, row.option, row.key, row.propensity) for row in made]
        return _end(lambda: self._component.reward(dict(outcome), rows))


def _end(call: Callable[[], Any]) -> End:
    try:
        return End("answer", exact(call()))
    except (capsa.errors.CapsuleRefused, capsa.errors.CapsuleFailure) as error:
        return _ours(error)


@cache
def other_engine(canonical_nans: bool = True) -> wasmtime.Engine:
    """The PyPI package's engine, which shares no code of ours and is of another version."""
    config = wasmtime.Config()
    config.cranelift_nan_canonicalization = canonical_nans
    config.max_wasm_stack = STACK_BYTES
    return wasmtime.Engine(config)


class Other:
    """A component that imports no function, in the PyPI package's engine. Every call runs in a fresh instance."""

    def __init__(self, component: bytes, engine: wasmtime.Engine | None = None) -> None:
        self._engine = engine or other_engine()
        self._component = wc.Component(self._engine, component)

    def invoke(self, value: str) -> End:
        """Of a tool."""
        return self._call("invoke", value)

    def frame(self, fields: Mapping[str, Field]) -> End:
        """Of a decision component; the fields are flat."""
        return self._call("frame", _fields(fields))

    def reward(self, outcome: Mapping[str, Field], made: Sequence[Made]) -> End:
        """Of a decision component."""
        return self._call("reward", _fields(outcome), list(made))

    def _call(self, name: str, *arguments: object) -> End:
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=MEMORY_BYTES)
        try:
            instance = wc.Linker(self._engine).instantiate(store, self._component)
            function = instance.get_func(store, name)
            assert function is not None
            answer = function(store, *arguments)
            function.post_return(store)
        except wasmtime.WasmtimeError as error:
            return _theirs(error)
        if name != "invoke" and isinstance(answer, str):
            return End("refusal", answer)
        return End("answer", exact(_plain(answer)))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "strategy"):
        names = ("strategy", "key", "features", "allowed", "candidates")
        return [_plain(getattr(value, name)) for name in names]
    return (value.name, value.features) if hasattr(value, "features") else value


def _fields(fields: Mapping[str, Field]) -> list[tuple[str, wc.Variant]]:
    return [(name, wc.Variant(_tag(value), value)) for name, value in fields.items()]


def _tag(value: Field) -> str:
    if isinstance(value, bool | float | str):
        return {bool: "flag", float: "number", str: "text"}[type(value)]
    return "numbers" if value and isinstance(value[0], float) else "texts"
