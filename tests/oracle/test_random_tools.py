"""Random code ends in our engines, fast and deterministic, as it does in the PyPI package's: same answers, same traps.

The tools are made anew from their numbers in each run: checked in, 300 of them would take 900 kB, and nobody could ask for
others. Each function gets 500 calls and turns of loops, so none runs for ever and none gets near the stack's end.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from tests.oracle import smiths
from tests.oracle.ends import Other, OurTool, other_engine

from capsa import _native

BATCHES: Final = 6


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return smiths.made(tmp_path_factory.mktemp("smith"))


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_code_ends_the_same(host: _native.Host, tools: list[Path], batch: int) -> None:
    kinds: Counter[str] = Counter()
    for path in tools[batch::BATCHES]:
        component = path.read_bytes()
        fast = OurTool(host, component, "fast")
        exact = OurTool(host, component, "deterministic")
        other = Other(component)
        for value in smiths.INPUTS:
            expected = other.invoke(value)
            assert fast.invoke(value) == expected, f"{path.name}, input {value}"
            assert exact.invoke(value) == expected, f"{path.name}, input {value}, deterministic"
            kinds[expected.kind if expected.kind != "trap" else str(expected.what)] += 1
    # Code that always ends in the same way would agree, too.
    assert kinds["answer"] > kinds.total() / 5, kinds
    assert len(kinds) > 2, kinds


def test_another_setting_would_show(host: _native.Host, tools: list[Path]) -> None:
    """NaNs that are not made canonical are seen: what is compared reaches to the last bit."""
    as_they_come = other_engine(canonical_nans=False)
    for path in tools:
        component = path.read_bytes()
        ours, other = OurTool(host, component, "fast"), Other(component, as_they_come)
        if any(ours.invoke(value) != other.invoke(value) for value in smiths.INPUTS):
            return
    pytest.fail("no tool shows what its NaNs are made of")
