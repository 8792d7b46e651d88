"""Tools and slow capsules for the tests in this folder: what they are made of, and what they may do."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.reference.doctored import doctored
from tests.sandbox import guests
from tests.sandbox.guests import Guest, call, data, script, send, tool
from tests.sandbox.outside import Answering, Site, answer

import capsa
from capsa import _native
from capsa.capsules import read_tool_definition
from capsa.policies import effective, load_policy, load_wants

Result = TypeVar("Result")

#: Grants keys and values, as most tools here need them.
KEEPING: Final[dict[str, Any]] = {"kv": {"access": "read_write"}}
#: How often `spun` goes round in a millisecond, about: with it, the true speed is measured.
_ROUNDS_PER_MS: Final = 1_000_000


@functools.cache
def cache() -> Path:
    """For compiled components. One for all stores: so they share a sandbox, of which a process holds some twenty."""
    folder = Path(tempfile.mkdtemp(prefix="compiled-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def opened(path: Path | None = None, **settings: Any) -> capsa.Store:
    """A store whose upkeep is done when a test asks for it."""
    return capsa.open(path, **{"cache_dir": cache(), "upkeep": False, **settings})


async def opened_for_asyncio(path: Path | None = None, **settings: Any) -> capsa.AsyncStore:
    """The same for asyncio."""
    return capsa.AsyncStore(path, **{"cache_dir": cache(), "upkeep": False, **settings})


def policy(engine: str = "fast", limits: dict[str, int] | None = None, **grants: Any) -> dict[str, Any]:
    """A capability policy."""
    return {"schema": 1, "name": "tried", "engine": engine, "grants": grants, "limits": limits or {}}


def component(
    name: str, guest: Guest, effect: str = "pure", limits: dict[str, int] | None = None, **wants: Any
) -> bytes:
    """A tool that can be installed."""
    document: dict[str, Any] = {"schema": 1, "kind": "tool", "name": name, "effect": effect, "wants": wants}
    if limits:
        document["limits"] = limits
    definition = read_tool_definition(document)
    return _native.embed_tool_definition(guest.bytes, json.dumps(definition.to_json()))


@functools.cache
def echo(name: str = "echo", mark: int = 0) -> bytes:
    """Answers what it is sent. Another mark makes other bytes."""
    return component(name, tool(more=f"(global $mark i32 (i32.const {mark}))" if mark else ""))


def says(name: str, text: str) -> bytes:
    """Answers a text, whether it is JSON or not."""
    content = text.encode()
    guest = tool(
        f"(call $ok (i32.const 1024) (i32.const {len(content)}))",
        more=data(1024, content),
        memory='(memory (export "memory") 32)',
    )
    return component(name, guest)


@functools.cache
def keeps(name: str, *steps: guests.Step, effect: str = "idempotent") -> bytes:
    """Takes steps with keys and values."""
    return component(name, script(*steps), effect, **KEEPING)


def remembers(name: str = "remembers") -> bytes:
    """Tells what it kept, and keeps ``v``."""
    return keeps(name, call("kv.get", "k"), call("kv.set", "k", "v"))


def _text(at: int, content: str) -> str:
    return f"(i32.const {at}) (i32.const {len(content)})"


@functools.cache
def counts(name: str = "counts", url: str = "") -> bytes:
    """Adds one to a number that it keeps, with compare and swap, and answers the new one.

    Args:
        name: The tool's.
        url: What it asks for between reading and swapping; meanwhile others compute.
    """
    pause = f"""(call $http.send {_text(2048, "GET")} {_text(2056, url)} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 256))
        (if (i32.load8_u (i32.const 256)) (then unreachable))""" if url else ""  # fmt: skip
    body = f"""(local $has i32) (local $old i32)
        (loop $again
            (global.set $heap (i32.const 131072))
            (call $kv.get {_text(1024, "n")} (i32.const 128))
            (if (i32.load8_u (i32.const 128)) (then unreachable))
            (local.set $has (i32.load8_u (i32.const 132)))
            (local.set $old (i32.const 0))
            (if (local.get $has) (then (local.set $old (i32.load (i32.load (i32.const 136))))))
            {pause}
            (i32.store (i32.const 1032) (local.get $old))
            (i32.store (i32.const 1040) (i32.add (local.get $old) (i32.const 1)))
            (call $kv.swap {_text(1024, "n")} (local.get $has) (i32.const 1032) (i32.const 4)
                (i32.const 1) (i32.const 1040) (i32.const 4) (i32.const 128))
            (if (i32.load8_u (i32.const 128)) (then unreachable))
            (br_if $again (i32.eqz (i32.load8_u offset=4 (i32.const 128)))))
        (global.set $digits (i32.const 1200))
        (call $decimal (i32.add (local.get $old) (i32.const 1)))
        (call $ok (i32.const 1200) (i32.sub (global.get $digits) (i32.const 1200)))"""
    decimal = """(global $digits (mut i32) (i32.const 1200))
        (func $decimal (param $number i32)
            (if (i32.ge_u (local.get $number) (i32.const 10)) (then (call $decimal (i32.div_u (local.get $number) (i32.const 10)))))
            (i32.store8 (global.get $digits) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
            (global.set $digits (i32.add (global.get $digits) (i32.const 1))))"""
    words = data(1024, "n") + data(2048, "GET") + (data(2056, url) if url else "")
    imports = ["kv.get", "kv.swap", *(["http.send"] if url else [])]
    wants: dict[str, Any] = dict(KEEPING)
    if url:
        wants["http"] = [{"hosts": ["*"], "schemes": ["http"], "private": [url.split("/")[2]]}]
    return component(name, tool(body, imports=imports, more=decimal + words), "idempotent", **wants)


def outside(site: Site) -> dict[str, Any]:
    """The grant of a site on loopback."""
    return {"http": [{"schemes": ["http"], "private": [f"127.0.0.1:{site.port}"]}]}


def asks(
    name: str, site: Site, path: str = "/", *steps: guests.Step, effect: str = "read", **wants: Any
) -> bytes:
    """Asks a site, and takes further steps before."""
    sends = send(f"http://127.0.0.1:{site.port}{path}")
    return component(name, script(*steps, sends), effect, **outside(site), **wants)


def tells(body: bytes) -> Answering:
    """What a site answers."""
    return lambda _: iter([answer(body)])


# -- slow ------------------------------------------------------------------------------------------------------------

_SPEC: Final = "name: {name}\noptions: [a, b]\nreward: {{quality: 1}}\nreward_range: [0, 1]\nbaseline: a\n"


def rounds(ms: float) -> int:
    """How many rounds of `spun` take about so long: measured once."""
    return max(1, int(ms * _speed()))


@functools.cache
def _speed() -> float:
    """Rounds in a millisecond of this machine's processor."""
    tried = 20 * _ROUNDS_PER_MS
    allowed = effective(load_wants({}), load_policy(policy(limits={"cpu_ms": 60_000})), "pure")
    component = _native.Host().load_tool(tool(f"{spun(tried)} {guests.ECHO}").bytes)
    bound = component.bind(json.dumps(allowed.to_json()))
    made = [bound.call("nobody", "1", seed=bytes(32), now_ns=1) for _ in range(3)]
    assert {each.output for each in made} == {"1"}
    return float(tried / min(each.used["cpu_ms"] for each in made))


def spun(times: int) -> str:
    """Code that counts to a number, in a local that it declares: it has to come first."""
    return f"""(local $spun i64) (loop $on (br_if $on
        (i64.lt_u (local.tee $spun (i64.add (local.get $spun) (i64.const 1))) (i64.const {times}))))"""


def spins(name: str, ms: float, limits: dict[str, int] | None = None) -> bytes:
    """A pure tool that answers what it is sent, after so much processor time."""
    return component(name, tool(f"{spun(rounds(ms))} {guests.ECHO}"), limits=limits)


def decides(
    name: str, *, frame_ms: float = 0, reward_ms: float = 0, frame: str = "", reward: str = ""
) -> bytes:
    """A decision capsule that takes its time, or does something else first."""
    before_frame = (spun(rounds(frame_ms)) if frame_ms else "") + frame
    before_reward = (spun(rounds(reward_ms)) if reward_ms else "") + reward
    core = f"""(module
        (memory (export "memory") 1)
        (global $heap (mut i32) (i32.const 4096))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
            (global.get $heap)
            (global.set $heap (i32.add (global.get $heap) (local.get 3))))
        (func (export "frame") (param i32 i32) (result i32) {before_frame} i32.const 64)
        (func (export "reward") (param i32 i32 i32 i32) (result i32) {before_reward} i32.const 192)
        {data(16, "choicek")} {data(64, _words(0, 128, 1))}
        {data(128, _words(16, 6, 22, 1, 0, 0, 0, 0, 0, 0, 0, 0))} {data(192, _words(0, 0, 0, 0x3FE00000))})"""
    return doctored(_native.compile_spec(_SPEC.format(name=name)), core)


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


# -- at once ---------------------------------------------------------------------------------------------------------


def together(count: int, work: Callable[[int], Result]) -> list[Result | capsa.CapsaError]:
    """What so many threads get that begin at the same moment; errors of ours stand in their places."""
    begin = threading.Barrier(count)

    def one(number: int) -> Result | capsa.CapsaError:
        begin.wait(20)
        try:
            return work(number)
        except capsa.CapsaError as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


def journal(store: capsa.Store, *types: str, tenant: str = "default") -> list[Any]:
    """The events of some types, in order; all of them where none is named."""
    store._durable()
    return [event for event in store.journal.read(tenant) if not types or event.type in types]
