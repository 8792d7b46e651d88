"""What does one sandboxed call of the smallest tool cost, against the PyPI `wasmtime` and `extism`?

The tool answers its input. All make a fresh instance for every call and are called from Python with the same text.

* capsa: once inline, as a server calls what is fast, and once not, which lets the interpreter go meanwhile. Every limit is
  on, as always.
* wasmtime: the same component, with the same limits on memory, tables and time. Nobody advances its epoch, which costs
  it nothing that way.
* extism: the smallest plugin that does the same, without copying, made from a `CompiledPlugin`, which is the fastest fresh
  instance there is; with the same limits, and without any. A plugin that is made once and called again and again, and so
  keeps what the last call left, is told without a bar.

A second question shows what stands above the call: host functions, and a whole `capsule.invoke`, which records it. What
may have done something outside is on disk before it is answered.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import wasmtime
from extism.extism import CompiledPlugin, Plugin
from wasmtime import component as wc

import capsa
from _measure import alternate, machine, report, store
from capsa import _native
from capsa.policies import effective, load_policy, load_wants

ROOT: Final = Path(__file__).parents[1]
CALLS = 500
#: A call that waits for the disk takes milliseconds.
WHOLE_CALLS = 100
INPUT: Final = '{"n":1}'
SEED: Final = bytes(32)
TOOL: Final = """(module
    {imports}
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "invoke") (param $in i32) (param $bytes i32) (result i32) {body}
        (i32.store (i32.const 68) (local.get $in))
        (i32.store (i32.const 72) (local.get $bytes))
        (i32.const 64))
    (data (i32.const 16) "some key"))"""
#: Reads a key, and sets it to itself; afterwards the input is where it was.
KEEPS: Final = """(call $get (i32.const 16) (i32.const 8) (i32.const 128))
    (call $set (i32.const 16) (i32.const 8) (i32.const 16) (i32.const 8) (i32.const 128))
    (i32.store (i32.const 4096) (i32.const 0))
    (i32.store8 (i32.const 4096) (i32.const 49))
    (local.set $bytes (i32.const 1))"""
IMPORTS: Final = """(import "capsa:capsule/kv@0.1.0" "get" (func $get (param i32 i32 i32)))
    (import "capsa:capsule/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"""
PLUGIN: Final = """(module
    (import "extism:host/env" "input_offset" (func $at (result i64)))
    (import "extism:host/env" "input_length" (func $bytes (result i64)))
    (import "extism:host/env" "output_set" (func $answer (param i64 i64)))
    (memory (export "memory") 1)
    (func (export "invoke") (result i32) (call $answer (call $at) (call $bytes)) (i32.const 0)))"""
WANTS_KV: Final = {"kv": {"access": "read_write"}}


def echoing() -> bytes:
    return _native.wrap_module(TOOL.format(imports="", body="").encode(), "tool")


def keeping() -> bytes:
    return _native.wrap_module(TOOL.format(imports=IMPORTS, body=KEEPS).encode(), "tool")


def grants(wants: dict[str, Any], effect: Any) -> str:
    """What a policy lets that grants what is wanted."""
    policy = load_policy({"schema": 1, "name": "bench", "grants": wants})
    return json.dumps(effective(load_wants({"wants": wants}), policy, effect).to_json())


def ours(component: bytes) -> tuple[Callable[[], Any], Callable[[], Any], dict[str, Any]]:
    """The smallest tool, inline and not, and its limits."""
    text = grants({}, "pure")
    tool = _native.Host().load_tool(component).bind(text)

    def inline() -> str | None:
        return tool.call("bench", INPUT, seed=SEED, now_ns=0, inline=True).output

    def detached() -> str | None:
        return tool.call("bench", INPUT, seed=SEED, now_ns=0).output

    return inline, detached, json.loads(text)["limits"]


def theirs(component: bytes, limits: dict[str, Any]) -> Callable[[], Any]:
    """The same component on the PyPI `wasmtime`."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    compiled = wc.Component(engine, component)
    linker = wc.Linker(engine)
    export = compiled.get_export_index("invoke")
    assert export is not None

    def call() -> Any:
        guest = wasmtime.Store(engine)
        guest.set_limits(memory_size=limits["memoryBytes"], table_elements=limits["tableElements"])
        guest.set_epoch_deadline(limits["cpuMs"])
        invoke = linker.instantiate(guest, compiled).get_func(guest, export)
        assert invoke is not None
        answer = invoke(guest, INPUT)
        invoke.post_return(guest)
        return answer

    return call


def plugins(limits: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    """The smallest plugin of `extism`: fresh with limits, fresh without, and one that is kept."""
    module = bytes(wasmtime.wat2wasm(PLUGIN))
    limited = CompiledPlugin(
        {
            "wasm": [{"data": module}],
            "memory": {"max_pages": limits["memoryBytes"] // 65536},
            "timeout_ms": limits["wallMs"],
        }
    )
    unlimited = CompiledPlugin(module)
    kept = Plugin(unlimited)

    def fresh(compiled: CompiledPlugin) -> bytes:
        with Plugin(compiled) as plugin:
            answer: bytes = plugin.call("invoke", INPUT)
        return answer

    return lambda: fresh(limited), lambda: fresh(unlimited), lambda: kept.call("invoke", INPUT)


def calls() -> dict[str, Any]:
    """The call alone."""
    component = echoing()
    inline, detached, limits = ours(component)
    wasmtime_call = theirs(component, limits)
    plugin_limited, plugin_fresh, plugin_kept = plugins(limits)
    ways = {
        "capsa, inline": inline,
        "capsa, not inline": detached,
        "wasmtime (PyPI)": wasmtime_call,
        "extism, with limits": plugin_limited,
        "extism, without limits": plugin_fresh,
        "extism, one plugin kept": plugin_kept,
    }
    for name, way in ways.items():
        answer = way()
        assert answer in (INPUT, INPUT.encode()), (name, answer)
    bars = [
        (way, baseline, bar)
        for way in ("capsa, inline", "capsa, not inline")
        for baseline, bar in (
            ("wasmtime (PyPI)", 1 / 5),
            ("extism, with limits", 1 / 2),
            ("extism, without limits", 1 / 2),
        )
    ]
    return report(
        "One call of the smallest tool, a fresh instance each",
        alternate(ways, calls=CALLS),
        bars,
        component_bytes=len(component),
        machine=machine("wasmtime", "extism", "extism-sys"),
    )


@contextmanager
def folder() -> Iterator[Path]:
    """A folder on the disk that this file is on: /tmp may be memory."""
    (ROOT / "out").mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=ROOT / "out", prefix="tool-call-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def through_host_functions() -> Callable[[], Any]:
    """A call that reads and sets a key; nothing records it."""
    kept = _native.tools.KeyValues()

    def change(key: str, value: bytes | None, _expected: object, _bytes: int, _keys: int) -> bool:
        return kept.apply(key, value)

    component = _native.Host().load_tool(keeping())
    tool = component.bind(grants(WANTS_KV, "idempotent"), kv=kept, change=change)

    def call() -> str | None:
        return tool.call("bench", INPUT, seed=SEED, now_ns=0).output

    assert call() == "1"
    assert kept.get("some key") == b"some key"
    return call


def invoking(
    opened: capsa.Store, name: str, component: bytes, effect: str, **wants: Any
) -> Callable[[], Any]:
    """Whole invocations of a tool that is installed."""
    definition = {"schema": 1, "kind": "tool", "name": name, "effect": effect, "wants": wants}
    capsule = opened.install(_native.embed_tool_definition(component, json.dumps(definition)))
    capsule.set_policy({"schema": 1, "name": "bench", "grants": wants})
    value = json.loads(INPUT)
    expected = 1 if wants else value

    def call() -> Any:
        output = capsule.invoke(value).output
        assert output == expected, output
        return output

    return call


def layers() -> dict[str, Any]:
    """What stands above the call."""
    _, detached, _ = ours(echoing())
    ways = {"call": detached, "call, kv get and set": through_host_functions()}
    with folder() as path, capsa.open() as memory, capsa.open(path / "store") as disk:
        for where, opened in (("in memory", memory), ("on disk", disk)):
            ways[f"invoke, {where}"] = invoking(opened, "echo", echoing(), "pure")
            ways[f"invoke, kv get and set, {where}"] = invoking(
                opened, "keep", keeping(), "idempotent", **WANTS_KV
            )
        taken = alternate(ways, calls=WHOLE_CALLS, between=disk.journal.flush)
    return report("What stands above one call of a tool", taken, [])


def main() -> dict[str, Any]:
    result = calls()
    result["layers"] = layers()
    store("tool_call", result)
    return result


if __name__ == "__main__":
    main()
