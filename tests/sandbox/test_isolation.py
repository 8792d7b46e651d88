"""Nothing passes from one call to the next, from one version to the next, from one tenant to the next."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.sandbox.arena import OUTSIDE, SECRET, Arena
from tests.sandbox.case import wanted
from tests.sandbox.guests import KEPT, SPIN, Guest, call, decision, script, send, tool

from capsa import _native
from capsa.errors import CapsaError, CapsuleDeadline, CapsuleTrapped, InvalidCapsule
from capsa.policies import effective, load_policy, load_wants

_SEED: Final = bytes(32)
_PAGES: Final = 16
_MEMORY: Final = f'(memory (export "memory") {_PAGES})'
#: Counts the words that are not zero behind what the module itself has written, in memory, a table and globals.
_LOOKS: Final = f"""(local.set $at (i32.const 4096))
    (loop $on
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
        (br_if $on (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const {_PAGES * 65_536}))))
    (local.set $at (i32.const 0))
    (loop $on
        (if (i32.eqz (ref.is_null (table.get $t (local.get $at)))) (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
        (br_if $on (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 500))))
    (if (i64.ne (global.get $g) (i64.const 0)) (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
    (if (i32.ne (table.size $t) (i32.const 500)) (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
    (if (i32.ne (memory.size) (i32.const {_PAGES})) (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
    (if (local.get $found) (then unreachable))"""
#: Leaves its traces everywhere it can reach.
_STAINS: Final = f"""(drop (memory.grow (i32.const 8)))
    (memory.fill (i32.const 4096) (i32.const 0xa5) (i32.const {(_PAGES + 8) * 65_536 - 4096}))
    (global.set $g (i64.const -1))
    (drop (table.grow $t (ref.func $mine) (i32.const 500)))
    (table.fill $t (i32.const 0) (ref.func $mine) (i32.const 500))"""
#: Where the input goes: not into what is looked at.
_LOW: Final = "i32.const 2048"
_STATE: Final = """(global $g (mut i64) (i64.const 0)) (table $t 500 funcref)
    (func $mine) (elem declare func $mine)"""


def _looking(before: str = "") -> Guest:
    """A tool that traps where it finds anything that it did not write."""
    return tool(
        f"(local $at i32) (local $found i32) {before} {_LOOKS} (call $ok (local.get 0) (local.get 1))",
        more=_STATE,
        memory=_MEMORY,
        realloc=_LOW,
    )


def bound(
    host: _native.Host, guest: Guest, grants: dict[str, Any] | None = None, limits: dict[str, int] | None = None,
    engine: str = "fast", **given: Any,
) -> _native.tools.Tool:  # fmt: skip
    """A tool with what it may do."""
    policy = {"schema": 1, "name": "p", "engine": engine, "grants": grants or {}, "limits": limits or {}}
    allowed = effective(load_wants({"wants": wanted(grants or {})}), load_policy(policy), "non_idempotent")
    return host.load_tool(guest.bytes).bind(json.dumps(allowed.to_json()), **given)


def invoked(of: _native.tools.Tool, tenant: str = "acme", text: str = "1") -> _native.tools.Invocation:
    """One call."""
    return of.call(tenant, text, seed=_SEED, now_ns=time.time_ns())


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    made = Arena(tmp_path_factory.mktemp("arena"))
    yield made
    made.close()


@pytest.mark.parametrize("engine", ["fast", "deterministic"])
@pytest.mark.parametrize(
    "ends", ["i32.const 64", "unreachable", SPIN], ids=["answered", "trapped", "stopped"]
)
def test_no_data_is_left_in_the_slots_of_the_pool(ends: str, engine: str) -> None:
    """What one tenant wrote into memory, table and globals is gone, however its call ended."""
    host = _native.Host()
    fuel = {"fuel": 3_000_000} if engine == "deterministic" else {"cpu_ms": 20}
    stains = bound(host, tool(f"{_STAINS} {ends}", more=_STATE, memory=_MEMORY), limits=fuel, engine=engine)
    looks = bound(host, _looking(), limits={"cpu_ms": 2000} if engine == "fast" else {}, engine=engine)
    for _ in range(4):
        assert invoked(stains, "hostile").output in (None, "")
        for _ in range(50 if engine == "fast" else 5):
            seen = invoked(looks, "innocent", "true")
            assert (seen.output, seen.error) == ("true", None)


def test_no_data_is_left_between_decisions_and_tools(host: _native.Host) -> None:
    """Decision capsules and tools take their memories from one pool."""
    stains = host.load(decision(f"{_STAINS} unreachable", more=_STATE, memory=_MEMORY).bytes)
    reads = decision(
        f"(local $at i32) (local $found i32) {_LOOKS} i32.const 64", more=_STATE, memory=_MEMORY, realloc=_LOW
    )
    looks = bound(host, _looking(), limits={"cpu_ms": 2000})
    looks_too = host.load(reads.bytes)
    for _ in range(20):
        with pytest.raises(CapsaError):
            stains.frame({})
        assert invoked(looks).output == "1"
        assert looks_too.frame({})[0]["key"] == "k"


@pytest.mark.parametrize(
    "stain",
    [
        "(i64.store (i32.const 500000) (i64.const 1))",
        "(i64.store8 (i32.const 1048575) (i64.const 1))",
        "(global.set $g (i64.const 1))",
        "(table.set $t (i32.const 499) (ref.func $mine))",
        "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        "(drop (memory.grow (i32.const 1)))",
    ],
)
def test_a_stain_is_seen_within_the_call(host: _native.Host, stain: str) -> None:
    """The two tests above could not fail if the guest that looks were blind."""
    limits = {"cpu_ms": 2000}
    assert type(invoked(bound(host, _looking(stain), limits=limits)).error) is CapsuleTrapped
    assert invoked(bound(host, _looking(), limits=limits)).output == "1"


def test_a_handle_of_an_earlier_call_is_only_a_text(arena: Arena, tmp_path: Path) -> None:
    """It could be kept, and sent by a call that never asked for the secret."""
    arena.begin(tmp_path / "store")
    site = f"127.0.0.1:{arena.site.port}"
    grants = {
        "http": [{"schemes": ["http"], "private": [site]}],
        "secrets": [{"name": "key", "hosts": ["127.0.0.1"]}],
        "kv": {"access": "read_write"},
    }
    given: dict[str, Any] = {"kv": arena.kv, "change": arena.change, "secrets": arena.secrets}
    keeps = script(call("secrets.handle", "key", keep=True), call("kv.set", "handle", KEPT))
    assert invoked(bound(arena.host, keeps, grants, **given)).error is None
    kept = arena.kv.get("handle")
    assert kept is not None
    assert kept.startswith(b"capsa-secret-")
    uses = script(call("kv.get", "handle", keep=True), send(f"http://{site}/one", headers=[("X-Key", KEPT)]))
    assert invoked(bound(arena.host, uses, grants, **given)).error is None
    assert arena.site.asked[-1].header("x-key") == kept.decode()
    assert SECRET not in arena.site.asked[-1].head.decode()


def test_a_new_version_is_bound_while_calls_run(host: _native.Host) -> None:
    """Calls that run end on what they began with; none fails, and none sees a mixture of two versions."""

    def made(number: int) -> _native.tools.Tool:
        works = (
            "(loop $on (br_if $on (i64.lt_u (local.tee $number (i64.add (local.get $number) (i64.const 1)))"
            f" (i64.const {200_000 + number}))))"
        )
        guest = script(call("config.get", "version"), call("config.get", "version"), then=works)
        return bound(host, guest, {"config": {"version": str(number)}}, {"cpu_ms": 2_000})

    current = [made(0)]
    stop = threading.Event()
    seen: list[tuple[str | None, CapsaError | None]] = []

    def calls() -> None:
        while not stop.is_set():
            answered = invoked(current[0])
            seen.append((answered.output, answered.error))

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(calls) for _ in range(4)]
        for number in range(1, 20):
            current[0] = made(number)
            time.sleep(0.02)
        stop.set()
        for each in running:
            each.result()
    assert {error for _, error in seen} == {None}
    versions = [json.loads(output) for output, _ in seen if output is not None]
    assert all(first == second for first, second in versions)
    assert len({first for first, _ in versions}) >= 5
    assert invoked(current[0]).output == '["19","19"]'


@pytest.mark.parametrize("kind", ["tool", "decision"])
def test_a_tenants_endless_loops_leave_others_their_share(host: _native.Host, kind: str) -> None:
    """Eight calls loop to their limit, over and over; another tenant's calls do not wait for them to end."""
    loops = bound(host, tool(SPIN), limits={"cpu_ms": 150, "wall_ms": 60_000})
    innocent_tool = bound(host, tool())
    innocent_decision = host.load(decision().bytes)
    stop = threading.Event()
    ended: list[type[CapsaError]] = []

    def hostile() -> None:
        while not stop.is_set():
            error = invoked(loops, "hostile").error
            assert error is not None
            ended.append(type(error))

    meanwhile = 0
    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(hostile) for _ in range(8)]
        try:
            # Every thread has a past.
            until = time.monotonic() + 60
            while len(ended) < 16 and time.monotonic() < until:
                time.sleep(0.02)
            for _ in range(20):
                before = len(ended)
                if kind == "tool":
                    made = invoked(innocent_tool, "innocent")
                    assert (made.output, made.error) == ("1", None)
                else:
                    assert innocent_decision.frame({})[0]["key"] == "k"
                meanwhile += len(ended) - before
        finally:
            stop.set()
        for each in running:
            each.result()
    assert set(ended) == {CapsuleDeadline}
    # Whoever waited for the end of the call that computes, and of the next one, would have seen two end each time.
    assert meanwhile < 20


def test_a_call_that_waits_outside_lets_others_compute(arena: Arena, tmp_path: Path) -> None:
    """More calls wait for a server than there are processors; a neighbour computes meanwhile."""
    arena.begin(tmp_path / "store")
    grants = {"http": [{"schemes": ["http"], "private": [f"127.0.0.1:{arena.site.port}"]}]}
    waits = bound(
        arena.host, script(send(f"http://127.0.0.1:{arena.site.port}/silent", timeout_ms=2_000)), grants
    )
    quick = bound(arena.host, tool())
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(invoked, waits, "waits") for _ in range(8)]
        until = time.monotonic() + 10
        while len(arena.site.asked) < 8 and time.monotonic() < until:
            time.sleep(0.01)
        assert len(arena.site.asked) == 8
        for _ in range(50):
            assert invoked(quick, "innocent").output == "1"
        assert not any(each.done() for each in waiting)
        assert {each.result().output for each in waiting} == {'["timed-out"]'}


def test_a_directory_that_turns_into_a_link_leads_nowhere(arena: Arena, tmp_path: Path) -> None:
    """Between the look and the opening of a file the name may come to mean something else."""
    arena.begin(tmp_path / "store")
    outside = arena.root / "files" / "acme" / "other"
    real, link, name = arena.own / "real", arena.own / "link", arena.own / "d"
    real.mkdir()
    (real / "plan").write_text("mine")
    link.symlink_to(outside)
    real.rename(name)
    stop = threading.Event()
    turns = 0

    def turning() -> None:
        nonlocal turns
        while not stop.is_set():
            # A write makes the directory where there is none: then this turn fails, and the next begins anew.
            with contextlib.suppress(OSError):
                name.rename(real)
                link.rename(name)
                turns += 1
                name.rename(link)
                real.rename(name)
                continue
            with contextlib.suppress(OSError):
                if name.is_symlink():
                    name.rename(link)
                if real.exists():
                    shutil.rmtree(name, ignore_errors=True)
                    real.rename(name)

    grants = {"files": {"access": "read_write"}}
    files = _native.tools.Files(str(arena.own))
    reads = bound(
        arena.host, script(call("files.read", "d/plan", times=200)), grants, {"cpu_ms": 5_000}, files=files
    )
    writes = bound(
        arena.host,
        script(call("files.write", "d/plan", "mine", times=100)),
        grants,
        {"cpu_ms": 5_000},
        files=files,
    )
    thread = threading.Thread(target=turning)
    thread.start()
    try:
        until = time.monotonic() + 20
        while turns < 100 and time.monotonic() < until:
            for each in (reads, writes):
                said = invoked(each)
                assert said.error is None or type(said.error) is CapsuleDeadline
                assert OUTSIDE not in str(said.output)
                assert OUTSIDE not in str(said.log)
    finally:
        stop.set()
        thread.join()
    assert turns >= 100
    assert (outside / "plan").read_text() == OUTSIDE
    assert sorted(path.name for path in outside.iterdir()) == ["plan"]


_VALID: Final = {
    "tool": script(call("clock.now"), call("kv.get", "a"), send("https://x.test/")).bytes,
    "decision": decision(imports=["log"]).bytes,
}


@pytest.fixture(scope="module")
def flipped() -> _native.Host:
    # Names lead nowhere.
    return _native.Host(dns=["127.0.0.1:9"])


@pytest.mark.parametrize("world", ["tool", "decision"])
@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 1 << 20),
)
@example(flips=[(8, 1)], cut=0)
def test_a_damaged_component_is_refused_or_runs_within_its_limits(
    flipped: _native.Host, world: str, flips: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(_VALID[world])
    for at, bits in flips:
        damaged[at % len(damaged)] ^= bits
    # Now and then the end is missing, too.
    if cut % 8 == 1:
        del damaged[cut % len(damaged) :]
    grants = {"clock": True, "kv": {"access": "read"}, "http": [{"hosts": ["x.test"]}]}
    limits = {"cpu_ms": 50, "wall_ms": 200}
    kept = _native.tools.KeyValues()
    try:
        if world == "decision":
            flipped.load(bytes(damaged)).frame({"a": 1})
        else:
            made = bound(
                flipped, Guest("tool", bytes(damaged)), grants, limits, kv=kept, change=lambda *_: True
            )
            invoked(made)
    except CapsaError as error:
        assert error.detail  # noqa: PT017 - any of them is right, and says what is wrong
    assert invoked(bound(flipped, tool())).output == "1"


@given(st.binary(max_size=400))
@example(b"\0asm\x0d\0\1\0")
@example(b"\0asm\x0d\0\1\0\4\x08\0asm\x0d\0\1\0")
def test_any_bytes_are_refused(flipped: _native.Host, content: bytes) -> None:
    for load in (flipped.load, flipped.load_tool):
        for prefix in (b"", b"\0asm\x0d\0\1\0", b"\0asm\1\0\0\0"):
            with pytest.raises(InvalidCapsule):
                load(prefix + content)
