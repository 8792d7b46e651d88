"""Guests by hand, each ending in its own way: the same way in both engines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.contract.test_capsule_failures import FAULTS, REWARDS
from tests.oracle.ends import End, Other, OurDecision, OurTool
from tests.reference.component_oracle import Made
from tests.reference.spec_interpreter import flatten

import capsa
from capsa import _native

ROOT: Final = Path(__file__).parents[2]

#: Bodies of `invoke` and the end that they come to.
TRAPS: Final = {
    "unreachable": ("unreachable", "wasm `unreachable` instruction executed"),
    "divided by zero": ("(i32.div_u (local.get 1) (i32.const 0))", "integer divide by zero"),
    "the quotient does not fit": ("(i32.div_s (i32.const 0x80000000) (i32.const -1))", "integer overflow"),
    "not a number": ("(i32.trunc_f64_s (f64.const nan))", "invalid conversion to integer"),
    "too large a number": ("(i32.trunc_f32_u (f32.const 1e10))", "integer overflow"),
    "out of the memory": ("(i32.load (i32.const -4))", "out of bounds memory access"),
    "a copy out of the memory": (
        "(memory.copy (i32.const 0) (i32.const 65535) (i32.const 2)) (i32.const 0)",
        "out of bounds memory access",
    ),
    "out of the table": (
        "(call_indirect (result i32) (i32.const 9))",
        "undefined element: out of bounds table access",
    ),
    "an empty element": ("(call_indirect (result i32) (i32.const 0))", "uninitialized element"),
    "a function of another type": (
        "(call_indirect (result i32) (i32.const 1))",
        "indirect call type mismatch",
    ),
    "an element dropped": (
        "(elem.drop $e) (table.init $e (i32.const 0) (i32.const 0) (i32.const 1)) (i32.const 0)",
        "undefined element: out of bounds table access",
    ),
}
STACK: Final = "(call $dive (i64.const 1)) (i32.wrap_i64)"
ABI: Final = {
    "an answer outside its memory": "(i32.const -64)",
    "an answer that is not aligned": "(i32.const 65)",
    "an answer of a case that is not there": "(i32.store8 (i32.const 64) (i32.const 2)) (i32.const 64)",
    "an answer that is no text": "(i32.store8 (i32.const 96) (i32.const 0xff)) (i32.store (i32.const 68) (i32.const 96))"
    " (i32.store (i32.const 72) (i32.const 1)) (i32.const 64)",
    "an answer longer than its memory": "(i32.store (i32.const 68) (i32.const 96))"
    " (i32.store (i32.const 72) (i32.const 65536)) (i32.const 64)",
}


def tool(body: str, realloc: str = "(i32.const 4096)") -> bytes:
    """A tool whose `invoke` has this body."""
    core = f"""(module
        (memory (export "memory") 1)
        (table 3 3 funcref)
        (func $other (param i64))
        (elem (i32.const 1) func $other)
        (elem $e func $other)
        (func $dive (param i64) (result i64) (i64.add (call $dive (local.get 0)) (local.get 0)))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
        (func (export "invoke") (param i32 i32) (result i32) {body}))"""
    return _native.wrap_module(core.encode(), "tool")


def ends(host: _native.Host, component: bytes, value: str = '"x"') -> set[End]:
    """How one call ends in each engine."""
    return {
        OurTool(host, component, "fast").invoke(value),
        OurTool(host, component, "deterministic").invoke(value),
        Other(component).invoke(value),
    }


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_is_the_same_trap(host: _native.Host, trap: str) -> None:
    body, reason = TRAPS[trap]
    assert ends(host, tool(body)) == {End("trap", reason)}
    # In the allocator, before the function itself.
    if "local.get" not in body:
        assert ends(host, tool("unreachable", body)) == {End("trap", reason)}


def test_the_stack_ends_in_all(host: _native.Host) -> None:
    assert ends(host, tool(STACK)) == {End("stack")}
    assert ends(host, tool("unreachable", STACK)) == {End("stack")}


@pytest.mark.parametrize("fault", ABI)
def test_each_broken_promise_is_found(host: _native.Host, fault: str) -> None:
    assert ends(host, tool(ABI[fault])) == {End("abi")}


@pytest.mark.parametrize("at", ["0xfffffff0", "65535"])
def test_a_lying_allocator_is_found(host: _native.Host, at: str) -> None:
    assert ends(host, tool("unreachable", f"(i32.const {at})")) == {End("abi")}


@pytest.mark.parametrize("value", ["0", '"ü"', '"' + "x" * 4000 + '"'])
def test_an_answer_is_the_same_answer(host: _native.Host, value: str) -> None:
    echo = (
        """(i32.store (i32.const 68) (local.get 0)) (i32.store (i32.const 72) (local.get 1)) (i32.const 64)"""
    )
    assert ends(host, tool(echo), value) == {End("answer", value)}


#: Numbers that the other engine passes on, and we refuse.
OUR_RULES: Final = {"reward: NaN", "reward: infinity"}


def decisions() -> Iterator[tuple[str, bytes]]:
    """Decision components by hand, but for those that run for ever."""
    for name, (component, error) in {**FAULTS, **{f"reward: {k}": v for k, v in REWARDS.items()}}.items():
        if error is not capsa.CapsuleDeadline:
            yield name, component
    page = (ROOT / "docs" / "decision-capsules.md").read_text()
    for number, text in enumerate(re.findall(r"^```wat\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)):
        yield f"docs {number}", _native.wrap_module(text.encode(), "decision")


@pytest.mark.parametrize(
    ("name", "component"), list(decisions()), ids=lambda part: part if isinstance(part, str) else ""
)
def test_decision_components_by_hand(host: _native.Host, name: str, component: bytes) -> None:
    ours, other = OurDecision(host, component), Other(component)
    made = [Made("choice", "a", "k", 0.5), Made("ü", "b", "", None)]
    for value in ({}, {"x": 1}, {"tier": "gold", "in": {"n": -0.5}, "many": ["a", ""], "none": []}):
        fields = flatten(value)
        our, their = ours.frame(value), other.frame(fields)
        if our.kind == "memory":
            # The other engine denies it, too; that this is why the guest gave up, only we say.
            our = End("trap", TRAPS["unreachable"][1])
        assert our == their, value
        our, their = ours.reward(value, made), other.reward(fields, made)
        if name in OUR_RULES:
            assert (our.kind, their.kind) == ("abi", "answer"), value
        else:
            assert our == their, value
