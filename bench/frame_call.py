"""What does one sandboxed `frame` call cost, against the same component on the PyPI `wasmtime` binding?

Both make a fresh instance for every call and are called from Python with the same input. Most of
the binding's time goes into converting records and variants in Python, by reflection on every call;
so a second row shows what making the instance alone costs there, without a call.
"""

from __future__ import annotations

from typing import Any

import wasmtime
from wasmtime import component as wc

from _measure import alternate, machine, report, store
from capsa import _native

SPEC = """\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency: -0.2, cost: -0.2}
"""
INPUT = {"task_type": "legal", "customer_tier": "enterprise", "urgency": "normal"}
CALLS = 2000


def main() -> dict[str, Any]:
    component = _native.compile_spec(SPEC)
    ours = _native.Host().load(component)

    engine = wasmtime.Engine()
    theirs = wc.Component(engine, component)
    linker = wc.Linker(engine)
    fields = [(name, wc.Variant("text", value)) for name, value in INPUT.items()]

    def baseline() -> Any:
        guest = wasmtime.Store(engine)
        instance = linker.instantiate(guest, theirs)
        frame = instance.get_func(guest, "frame")
        assert frame is not None
        answer = frame(guest, fields)
        frame.post_return(guest)
        return answer

    def instance_only() -> Any:
        guest = wasmtime.Store(engine)
        return linker.instantiate(guest, theirs).get_func(guest, "frame")

    def call() -> Any:
        return ours.frame(INPUT)

    [choice] = call()
    assert choice["key"] == "legal|enterprise|normal", choice
    assert "legal|enterprise|normal" in repr([vars(item) for item in baseline()]), baseline()
    assert instance_only() is not None
    taken = alternate(
        {"capsa": call, "wasmtime (PyPI)": baseline, "wasmtime (PyPI), instance without call": instance_only},
        calls=CALLS,
    )
    result = report(
        "One sandboxed frame call, a fresh instance each",
        taken,
        [("capsa", "wasmtime (PyPI)", 1 / 5)],
        component_bytes=len(component),
        machine=machine("wasmtime"),
    )
    store("frame_call", result)
    return result


if __name__ == "__main__":
    main()
