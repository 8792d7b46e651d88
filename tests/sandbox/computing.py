"""Cases of guests that use up the machine: time, stack, memory, tables."""

from __future__ import annotations

from typing import Final

from tests.sandbox.case import CPU_MS, Case, Ended
from tests.sandbox.guests import (
    DIVE,
    DIVER,
    GROW,
    MEMORY,
    SPIN,
    Guest,
    call,
    component,
    decision,
    script,
    tool,
)

from capsa.errors import (
    CapsuleDeadline,
    CapsuleFailure,
    CapsuleFuel,
    CapsuleLimit,
    CapsuleOutOfMemory,
    CapsuleStack,
    CapsuleTrapped,
    InvalidCapsule,
)

_FAST: Final = {"cpu_ms": CPU_MS}
_FUEL: Final = {"fuel": 1_000_000}
_KV: Final = {"kv": {"access": "read_write"}}
_PAGE: Final = 65_536


def _places(body: str, more: str = "") -> dict[str, tuple[Guest, str | None]]:
    """A body at every place where code of a guest runs, and the output that makes it run."""
    start = f"(func $start {body}) (start $start)"
    keeps = script(call("kv.get", "large"), realloc=f"(if (i32.eq (local.get 3) (i32.const 777)) (then {body})) "
                   "(call $alloc (local.get 2) (local.get 3))", more=more)  # fmt: skip
    return {
        "frame": (decision(body, more=more), None),
        "reward": (decision(reward=body, more=more), "1"),
        "start of a decision capsule": (decision(more=more + start), None),
        "cabi_realloc of a decision capsule": (decision(realloc=body, more=more), None),
        "post-return of frame": (decision(post_frame=body, more=more), None),
        "post-return of reward": (decision(post_reward=body, more=more), "1"),
        "invoke": (tool(body, more=more), None),
        "start of a tool": (tool(more=more + start), None),
        "cabi_realloc of a tool": (tool(realloc=body, more=more), None),
        "cabi_realloc during a call of the host": (keeps, None),
        "post-return of invoke": (tool(post=body, more=more), None),
        "compensate": (tool(compensate=body, more=more), "1"),
        "post-return of compensate": (
            tool(compensate="i32.const 64", post_compensate=body, more=more),
            "1",
        ),
    }


def _everywhere(
    category: str, body: str, ends: type[CapsuleFailure], *, more: str = "", says: str = ""
) -> list[Case]:
    return [
        Case(
            category=category,
            name=f"in {place}",
            guest=guest,
            output=output,
            grants=_KV if "host" in place else {},
            limits=_FAST,
            ends=ends,
            # Of a decision capsule the limit is the host's.
            says=says.format("50ms" if guest.world == "decision" else f"{CPU_MS}ms"),
            before=lambda arena: arena.kv.apply("large", b"x" * 777),
        )
        for place, (guest, output) in _places(body, more).items()
    ]


#: Code in which most time goes by inside single instructions.
_FILLS: Final = (
    "(loop $on (memory.fill (i32.const 131072) (i32.const 1) (i32.const 3900000)) (br $on)) unreachable"
)
_COPIES: Final = (
    "(loop $on (memory.copy (i32.const 0) (i32.const 65536) (i32.const 3900000)) (br $on)) unreachable"
)
_LARGE: Final = '(memory (export "memory") 64)'
#: Doubles its own work for ever: no loop instruction.
_TAIL: Final = "(func $again (return_call $again))"
_MUTUAL: Final = "(func $a (call $b)) (func $b (call $a) (call $a))"
_TABLE: Final = "(table $t 1 funcref) (elem (i32.const 0) $f) (func $f (call_indirect (i32.const 0)) (call_indirect (i32.const 0)))"
_BROAD: Final = (
    "(func $broad (param i64) (result i64) (local "
    + "i64 " * 1000
    + ") (local.set 1000 (local.get 0)) (i64.add (call $broad (local.get 1000)) (local.get 1000)))"
)

LOOPS: Final = [
    *_everywhere("loop", SPIN, CapsuleDeadline, says="more than {} of processor time"),
    Case(category="loop", name="of large memory fills", guest=tool(_FILLS, memory=_LARGE), limits=_FAST, ends=CapsuleDeadline),
    Case(category="loop", name="of large memory copies", guest=tool(_COPIES, memory=_LARGE), limits=_FAST, ends=CapsuleDeadline),
    Case(
        category="loop",
        name="of mutual calls that never get deep",
        guest=tool("(loop $on (call $one) (br $on)) unreachable", more="(func $one (call $two)) (func $two)"),
        limits=_FAST,
        ends=CapsuleDeadline,
    ),
    Case(category="loop", name="of tail calls", guest=tool("(call $again) unreachable", more=_TAIL), limits=_FAST, ends=CapsuleDeadline),
    Case(
        category="loop",
        name="of log lines",
        guest=tool("(loop $on (call $log (i32.const 0) (i32.const 0) (i32.const 9)) (br $on)) unreachable", imports=["log"]),
        limits=_FAST,
        ends=CapsuleDeadline,
        after=lambda _, ended: _log_is_bounded(ended),
    ),
    Case(
        category="loop",
        name="with processor time to spare, ended by the wall clock",
        guest=tool(SPIN),
        limits={"cpu_ms": 60_000, "wall_ms": 60},
        ends=CapsuleDeadline,
        says="60ms, waiting included",
    ),
    Case(category="loop", name="that counts fuel", guest=tool(SPIN), engine="deterministic", limits=_FUEL, ends=CapsuleFuel, says="more than 1000000 of fuel"),
    Case(
        category="loop",
        name="that counts fuel, in start",
        guest=tool(more="(func $start (loop $on (br $on))) (start $start)"),
        engine="deterministic",
        limits=_FUEL,
        ends=CapsuleFuel,
    ),
    Case(category="loop", name="that counts fuel, in post-return", guest=tool(post=SPIN), engine="deterministic", limits=_FUEL, ends=CapsuleFuel, says="more than 1000000 of fuel"),
    Case(category="loop", name="that counts fuel, in cabi_realloc", guest=tool(realloc=SPIN), engine="deterministic", limits=_FUEL, ends=CapsuleFuel, says="more than 1000000 of fuel"),
    Case(
        category="loop",
        name="that counts fuel, with large memory fills",
        guest=tool(_FILLS, memory=_LARGE),
        engine="deterministic",
        limits={**_FUEL, "wall_ms": 2_000},
        ends=CapsuleFuel,
    ),
    Case(
        category="loop",
        name="that has fuel for days, ended by the wall clock",
        guest=tool(SPIN),
        engine="deterministic",
        limits={"fuel": 10**15, "cpu_ms": 60_000, "wall_ms": 60},
        ends=CapsuleDeadline,
        says="60ms, waiting included",
    ),
    Case(category="loop", name="that has fuel for days, ended by its processor time", guest=tool(SPIN), engine="deterministic", limits={"fuel": 10**15, **_FAST}, ends=CapsuleDeadline,
         says=f"more than {CPU_MS}ms of processor time"),
]  # fmt: skip


def _log_is_bounded(ended: Ended) -> None:
    # 64 lines, and one that says how many were dropped.
    assert len(ended.log) == 65
    assert ended.log[-1] == f"{ended.log_dropped} more lines were dropped"


RECURSION: Final = [
    *_everywhere("recursion", DIVE, CapsuleStack, more=DIVER),
    Case(category="recursion", name="of two functions", guest=tool("(call $a) unreachable", more=_MUTUAL), limits=_FAST, ends=CapsuleStack),
    Case(category="recursion", name="through a table", guest=tool("(call $f) unreachable", more=_TABLE), limits=_FAST, ends=CapsuleStack),
    Case(category="recursion", name="with large frames", guest=tool("(drop (call $broad (i64.const 1))) unreachable", more=_BROAD), limits=_FAST, ends=CapsuleStack),
    Case(category="recursion", name="that counts fuel", guest=tool(DIVE, more=DIVER), engine="deterministic", ends=CapsuleStack),
]  # fmt: skip


def _memories(pages: int, count: int) -> str:
    return MEMORY + "".join(f"(memory $m{number} {pages})" for number in range(count - 1))


_MIB: Final = {"memory_bytes": 1 << 20, "cpu_ms": 200}
_COPES: Final = "(if (i32.ne (i32.const -1) (memory.grow (i32.const 65000))) (then unreachable)) (call $ok (local.get 0) (local.get 1))"

MEMORIES: Final = [
    *_everywhere("memory", GROW, CapsuleOutOfMemory),
    Case(category="memory", name="grown all at once", guest=tool("(if (i32.eq (i32.const -1) (memory.grow (i32.const 65000))) (then unreachable)) unreachable"), limits=_FAST, ends=CapsuleOutOfMemory),
    Case(category="memory", name="a denial that the guest copes with", guest=tool(_COPES), answer=1),
    Case(category="memory", name="large from the beginning, within the host's limit", guest=tool(memory='(memory (export "memory") 17)'), limits=_MIB, ends=CapsuleOutOfMemory, says="more than 1048576 bytes"),
    Case(category="memory", name="large from the beginning, beyond the host's limit", guest=lambda _: tool(memory='(memory (export "memory") 1025)'), ends=InvalidCapsule),
    Case(category="memory", name="several that are large together", guest=tool(memory=_memories(7, 3)), limits=_MIB, ends=CapsuleOutOfMemory, says="more than 1048576 bytes"),
    Case(category="memory", name="several that grow in turns", guest=tool(
        "(loop $on (br_if $on (i32.and (i32.ne (i32.const -1) (memory.grow 0 (i32.const 1))) (i32.ne (i32.const -1) (memory.grow 1 (i32.const 1)))))) unreachable",
        memory=_memories(1, 2)), limits=_MIB, ends=CapsuleOutOfMemory, says="more than 1048576 bytes"),
    Case(category="memory", name="more of them than fit into a slot", guest=lambda _: tool(memory=_memories(1, 9)), ends=InvalidCapsule),
    Case(category="memory", name="with 64-bit addresses", guest=lambda _: _core('(memory i64 1)'), ends=InvalidCapsule),
    Case(category="memory", name="shared between threads", guest=lambda _: _core('(memory 1 2 shared)'), ends=InvalidCapsule),
    Case(category="memory", name="data beyond its end", guest=tool(more='(data (i32.const 262143) "too far")'), limits=_FAST, ends=CapsuleTrapped),
    Case(category="memory", name="data at an address that wraps", guest=tool(more='(data (i32.const -1) "too far")'), limits=_FAST, ends=CapsuleTrapped),
    Case(category="memory", name="growth that counts fuel", guest=tool(GROW), engine="deterministic", limits={"memory_bytes": 1 << 20}, ends=CapsuleOutOfMemory),
    Case(category="memory", name="the guest's own maximum is no denial", guest=tool("(drop (memory.grow (i32.const 9))) unreachable", memory='(memory (export "memory") 4 5)'), limits=_FAST, ends=CapsuleTrapped),
    Case(category="memory", name="read behind its end", guest=tool("(i32.load (i32.const 262144))"), limits=_FAST, ends=CapsuleTrapped),
    Case(category="memory", name="read far behind its end", guest=tool("(i32.load offset=4294967295 (i32.const -1))"), limits=_FAST, ends=CapsuleTrapped),
    Case(category="memory", name="written behind its end in bulk", guest=tool("(memory.fill (i32.const 262000) (i32.const 1) (i32.const 1000)) unreachable"), limits=_FAST, ends=CapsuleTrapped),
]  # fmt: skip


def _core(memory: str) -> Guest:
    """A component with a core module that is never even instantiated."""
    return component(f"(component (core module {memory}))")


_TABLE_GROW: Final = "(loop $on (br_if $on (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 100))))) unreachable"
_TABLES: Final = {"table_elements": 1000, "cpu_ms": 200}

TABLES: Final = [
    Case(category="table", name="grown for ever", guest=tool(_TABLE_GROW, more="(table $t 1 funcref)"), limits=_TABLES, ends=CapsuleLimit),
    Case(category="table", name="grown for ever under the largest limit", guest=tool(_TABLE_GROW, more="(table $t 1 funcref)"), ends=CapsuleLimit),
    Case(category="table", name="large from the beginning", guest=tool(more="(table $t 1001 funcref)"), limits=_TABLES, ends=CapsuleLimit),
    Case(category="table", name="larger than a slot", guest=lambda _: tool(more="(table $t 100001 funcref)"), ends=InvalidCapsule),
    Case(category="table", name="several that are large together", guest=tool(more="(table $t 600 funcref) (table $u 600 funcref)"), limits=_TABLES, ends=CapsuleLimit),
    Case(category="table", name="more of them than fit into a slot", guest=lambda _: tool(more="(table 1 funcref)" * 40), ends=InvalidCapsule),
    Case(category="table", name="called where it is empty", guest=tool("(call_indirect (i32.const 0)) unreachable", more="(table 1 funcref)"), limits=_FAST, ends=CapsuleTrapped),
    Case(category="table", name="called behind its end", guest=tool("(call_indirect (i32.const 7)) unreachable", more="(table 1 funcref)"), limits=_FAST, ends=CapsuleTrapped),
    Case(category="table", name="called as another type", guest=tool("(call_indirect (param i64) (i64.const 1) (i32.const 0)) unreachable", more="(table 1 funcref) (elem (i32.const 0) $f) (func $f)"), limits=_FAST, ends=CapsuleTrapped),
    Case(category="table", name="of a decision capsule grown for ever", guest=decision(_TABLE_GROW, more="(table $t 1 funcref)"), ends=CapsuleLimit),
]  # fmt: skip

TRAPS: Final = [
    Case(category="trap", name=name, guest=tool(body), limits=_FAST, ends=CapsuleTrapped)
    for name, body in {
        "unreachable": "unreachable",
        "division by zero": "(i32.div_u (i32.const 1) (i32.const 0))",
        "division that overflows": "(i32.div_s (i32.const 0x80000000) (i32.const -1))",
        "no number to an integer": "(i32.trunc_f64_s (f64.const nan))",
    }.items()
]

COMPUTING: Final = [*LOOPS, *RECURSION, *MEMORIES, *TABLES, *TRAPS]
