"""What does a call cost where a thousand different components are loaded, against one that is called as often?

All have the same shape, three options and three contexts, and no name in common: each guest's code and data are its
own, and the work of a call is the same, so what is measured is that there are many. Asked of the bare `frame` call
on one host, and of a whole `decide` in one store. Loading is timed as well, without a cache on disk.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from typing import Any

import capsa
from _measure import alternate, machine, report, store
from capsa import _native

COMPONENTS = 1000
CALLS = 5000
BAR = 4.0


def spec(number: int) -> str:
    options = ", ".join(f"option-{number}-{place}" for place in range(3))
    contexts = ", ".join(f"context_{number}_{place}" for place in range(3))
    return f"name: capsule-{number}\noptions: [{options}]\ncontexts: [{contexts}]\nreward_range: [0, 1]\n"


def request(number: int) -> dict[str, Any]:
    return {f"context_{number}_{place}": f"value-{place}" for place in range(3)}


def in_turn(calls: list[tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]]) -> Callable[[], Any]:
    """A way that makes one of these calls after the other, over and over."""
    following = itertools.cycle(calls)

    def call() -> Any:
        function, fields = next(following)
        return function(fields)

    return call


def against_one(
    question: str, functions: list[Callable[[dict[str, Any]], Any]], **around: Any
) -> dict[str, Any]:
    """Calls all of these functions in random order, and the first of them as often."""
    calls = [(function, request(number)) for number, function in enumerate(functions)]
    many = f"{len(calls)} components"
    taken = alternate(
        {
            many: in_turn(random.Random(1).choices(calls, k=CALLS)),
            "one component": in_turn(calls[:1] * CALLS),
        },
        calls=CALLS,
    )
    return report(question, taken, [(many, "one component", BAR)], **around)


def main() -> dict[str, Any]:
    compiled = [_native.compile_spec(spec(number)) for number in range(COMPONENTS)]
    assert len(set(compiled)) == COMPONENTS
    host = _native.Host()
    start = time.perf_counter()
    components = [host.load(component) for component in compiled]
    load_ms = (time.perf_counter() - start) * 1000 / COMPONENTS
    print(f"\nloading a component on one host: {load_ms:.2f} ms, mean of {COMPONENTS}")
    keys = {component.frame(request(number))[0]["key"] for number, component in enumerate(components)}
    assert keys == {"value-0|value-1|value-2"}, keys
    result = against_one(
        "The frame call, components in random order",
        [component.frame for component in components],
        load_ms=load_ms,
        machine=machine(),
    )

    opened = capsa.open(seed=1)
    start = time.perf_counter()
    capsules = [opened.install(spec(number)) for number in range(COMPONENTS)]
    install_ms = (time.perf_counter() - start) * 1000 / COMPONENTS
    print(f"\ninstalling a spec in one store: {install_ms:.2f} ms, mean of {COMPONENTS}")
    whole = against_one(
        "A whole decide, capsules in random order",
        [capsule.decide for capsule in capsules],
        install_ms=install_ms,
    )
    # `bench/run` looks at the bars of the outer result.
    result["ratios"] += [bar | {"ours": f"decide, {bar['ours']}"} for bar in whole.pop("ratios")]
    result["decide"] = whole
    store("many_components", result)
    return result


if __name__ == "__main__":
    main()
