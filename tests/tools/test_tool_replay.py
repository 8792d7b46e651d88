"""A recorded call is made again from its recording: to the same bytes, whatever has changed since."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox import guests
from tests.sandbox.answers import ANSWERS, SPELLINGS
from tests.sandbox.guests import KEPT, call, fails, keys, script, send, swap, tool
from tests.sandbox.outside import Asked, Site, answer
from tests.tools.making import KEEPING, component, echo, journal, opened, outside, policy, says
from tests.tools.ways import Way

import capsa
from capsa import _native
from capsa.capsules import read_source
from capsa.decisions._tools import calls_of
from capsa.tools import Replayed

PLACE: Final = ("default", "default", "tool")
SECRET: Final = "hunter2-sword+fish=42"  # noqa: S105 - nobody's


def counted(asked: Asked) -> Iterator[bytes]:
    """Another answer every time."""
    counted_.append(asked)
    yield answer(str(len(counted_)).encode(), f"X-Number: {len(counted_)}")


counted_: list[Asked] = []


@pytest.fixture
def turning() -> Iterator[Site]:
    """A site that never answers the same twice; and some that give back what they are sent."""
    counted_.clear()
    with Site({**ANSWERS, "/": counted}) as made:
        yield made


def everything(site: Site) -> bytes:
    """Asks every host interface there is, and writes."""
    url = f"http://127.0.0.1:{site.port}/"
    steps = [
        call("clock.now"), call("clock.elapsed"), call("random.number"), call("random.bytes", 100), call("config.get", "place"), call("config.get", "none"),
        call("kv.get", "k"), call("kv.set", "k", "v"), swap("k", "v", "w"), call("kv.get", "k"), keys(), call("kv.remove", "gone"),
        call("files.read", "a"), call("files.write", "a", "1"), call("files.entries", ""), call("files.remove", "a"), call("files.read", "../a"),
        call("secrets.handle", "key", keep=True), send(url, headers=[("X-Key", KEPT)]), send(url, told="headers"), send("http://127.0.0.1:1/"), call("kv.set", "k", "last"),
    ]  # fmt: skip
    return component("tool", script(*steps), "idempotent", **wanted(site))


def wanted(site: Site) -> dict[str, Any]:
    return {
        "clock": True,
        "random": True,
        "config": ["place", "none"],
        "files": {"access": "read_write"},
        "secrets": [{"name": "key", "hosts": ["127.0.0.1"]}],
        **KEEPING,
        **outside(site),
    }


def allowed(site: Site) -> dict[str, Any]:
    grants = wanted(site) | {"config": {"place": "here"}}
    return policy("deterministic", {"egress_requests": 100}, **grants)


def test_everything_comes_back_to_the_same_bytes(tmp_path: Path, turning: Site) -> None:
    """After a restart, an upgrade, another policy, another secret and other contents, with the site gone."""
    with Way("folder, threads", tmp_path / "store") as way:
        tried = way.install(everything(turning))
        way.store.tenant("default").set_secret("key", SECRET)
        tried.set_policy(allowed(turning))
        made = [tried.invoke({"call": number}, record=True) for number in range(3)]
        first, second, _ = (one.output for one in made)
        assert all(one.recorded for one in made)
        assert first[6:10] == [None, "ok", True, "w"]
        assert (second[6], second[9]) == ("last", "w")
        assert first[18:20] != second[18:20], "the site turns"
        assert turning.asked[0].header("x-key") == SECRET
        asked, before = len(turning.asked), journal(way.store)

        def check() -> None:
            for one in made:
                again = tried.replay(one.id)
                assert again == Replayed(
                    id=one.id, same=True, differences=[], output=one.output, recorded_output=one.output
                )

        check()
        assert len(turning.asked) == asked, "nothing outside is asked"
        assert journal(way.store) == before, "nothing is recorded"
        way.restart()
        tried = way.again(tried)
        check()
        # Another component, which answers something else and imports nothing.
        way.install(echo("tool"))
        assert tried.invoke(1).version == 2
        check()
        tried.set_policy("pure")
        check()
        way.store.tenant("default").remove_secret("key")
        way.restart()
        tried = way.again(tried)
        turning.close()
        check()
        assert tried.invocation(made[0].id).capsule_version == 1
        assert way.store.verify() == []


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=6))  # fmt: skip
def test_any_input_comes_back(value: Any) -> None:
    with opened() as store:
        tried = store.install(echo())
        tried.set_policy(policy("deterministic"))
        again = tried.replay_invocation(tried.invoke(value, record=True).id)
        assert (again.same, again.output, again.recorded_output) == (True, value, value)


ENDS: Final[dict[str, tuple[bytes, type[capsa.CapsaError], dict[str, int]]]] = {
    "a failure": (component("tool", fails("out-of-stock", "nothing is left")), capsa.CapsuleRefused, {}),
    "a trap": (component("tool", tool("unreachable")), capsa.CapsuleTrapped, {}),
    "fuel": (component("tool", tool(guests.SPIN)), capsa.CapsuleFuel, {"fuel": 12_345}),
    "stack": (component("tool", tool(guests.DIVE, more=guests.DIVER)), capsa.CapsuleStack, {}),
    "memory": (component("tool", tool(guests.GROW)), capsa.CapsuleOutOfMemory, {"memory_bytes": 1 << 20}),
    "host calls": (component("tool", script(call("clock.now", times=0)), "read", clock=True), capsa.CapsuleLimit, {"host_calls": 50}),
    "an answer elsewhere": (component("tool", tool("i32.const -64")), capsa.CapsuleBadOutput, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_a_call_that_failed_fails_again(way: Way, name: str) -> None:
    """In the same words, with the same fuel."""
    source, error, limits = ENDS[name]
    tried = way.install(source)
    tried.set_policy(policy("deterministic", limits, clock=True))
    with pytest.raises(error):
        tried.invoke(1, record=True)
    [row] = tried.invocations()
    assert row.recorded
    for _ in range(2):
        again = tried.replay(row.id)
        assert (again.same, again.differences, again.output, again.recorded_output) == (True, [], None, None)


def test_what_takes_back_is_not_recorded(way: Way) -> None:
    body = "(i32.store8 (i32.const 64) (i32.const 0)) i32.const 64"
    tried = way.install(component("tool", tool(compensate=body)))
    tried.set_policy(policy("deterministic"))
    taken = tried.compensate(1, 2)
    assert not taken.recorded
    with pytest.raises(capsa.InvalidField):
        tried.replay(taken.id)


@pytest.mark.parametrize("text", ["nope", "9" * 5000, "[1"], ids=lambda text: text[:5])
def test_a_call_with_bad_output_is_replayed(text: str) -> None:
    with opened() as store:
        tried = store.install(says("tool", text))
        tried.set_policy(policy("deterministic"))
        with pytest.raises(capsa.CapsuleBadOutput):
            tried.invoke(record=True)
        again = tried.replay_invocation(tried.invocations()[0].id)
        assert (again.same, again.output, again.recorded_output) == (True, None, None)


@pytest.mark.parametrize("text", ["NaN", '{"a":1,"a":2}'])
def test_bad_output_is_none_in_a_replay_either(text: str) -> None:
    with opened() as store:
        tried = store.install(says("tool", text))
        tried.set_policy(policy("deterministic"))
        with pytest.raises(capsa.CapsuleBadOutput):
            tried.invoke(record=True)
        again = tried.replay_invocation(tried.invocations()[0].id)
        assert (again.output, again.recorded_output) == (None, None)


def test_a_call_that_ran_out_of_time_cannot_be_repeated(turning: Site) -> None:
    """Its end was a matter of time, which no recording holds: that is said, instead of a difference."""
    slow = f"http://127.0.0.1:{turning.port}/silent"
    source = component("tool", script(send(slow), call("clock.now")), "read", clock=True, **outside(turning))
    with opened() as store:
        tried = store.install(source)
        tried.set_policy(policy("deterministic", {"wall_ms": 100}, clock=True, **outside(turning)))
        with pytest.raises(capsa.CapsuleDeadline):
            tried.invoke(record=True)
        [row] = tried.invocations()
        with pytest.raises(capsa.InvalidField, match="time") as refused:
            tried.replay_invocation(row.id)
        assert refused.value.pointer == "/invocationId"


# --- what is not recorded


def test_what_was_not_recorded_cannot_be_replayed(way: Way) -> None:
    tried = way.install(echo())
    tried.set_policy(policy("deterministic"))
    made = tried.invoke(1)
    assert not made.recorded
    with pytest.raises(capsa.InvalidField) as refused:
        tried.replay(made.id)
    assert (refused.value.pointer, refused.value.value) == ("/invocationId", made.id)


def test_only_the_deterministic_engine_records(way: Way) -> None:
    """Said before anything is called."""
    tried = way.install(echo())
    for engine in ("fast", "deterministic", "fast"):
        tried.set_policy(policy(engine))
        if engine == "fast":
            with pytest.raises(capsa.InvalidField, match="deterministic"):
                tried.invoke(1, record=True)
        else:
            assert tried.invoke(1, record=True).recorded
    assert way.store.call_counts(("default", "default", "echo")) == {"invoked": 1, "breached": 0}


def test_a_recording_that_gets_too_large_ends_the_call(way: Way) -> None:
    """Nothing larger than a recording may be comes into the journal."""
    tried = way.install(
        component("tool", script(call("random.bytes", 65_536, times=200)), "read", random=True)
    )
    tried.set_policy(policy("deterministic", {"memory_bytes": 1 << 26, "cpu_ms": 10_000}, random=True))
    tried.invoke()
    with pytest.raises(capsa.CapsuleLimit):
        tried.invoke(record=True)
    # What there is of it repeats nothing.
    row = tried.invocations()[-1]
    assert (row.recorded, row.error) == (False, "capsule-limit")
    with pytest.raises(capsa.InvalidField, match="not recorded"):
        tried.replay(row.id)
    assert max(len(event.payload) for event in journal(way.store)) < 9 << 20


# --- a recording that is not what was recorded


def _said(store: capsa.Store, id_: str) -> dict[str, Any]:
    [event] = [
        event
        for event in journal(store, "invoked", "breached")
        if id_[4:] == cbor2.loads(event.payload)["id"].hex()
    ]
    recording: dict[str, Any] = cbor2.loads(event.payload)["recording"]
    return recording


def _tampered_calls(calls: bytes, at: int, **changes: Any) -> bytes:
    exchanges = cbor2.loads(calls)
    exchanges[at] |= changes
    return cbor2.dumps(exchanges)


TAMPERED: Final[dict[str, tuple[Any, str]]] = {
    "output": (lambda _: {"output": '["forged"]'}, "output"),
    "error": (lambda _: {"error": ["capsule-trapped", "forged"]}, "error"),
    "log": (lambda said: {"log": [*said["log"], ["info", "forged"]]}, "log"),
    "fuel": (lambda said: {"fuel": said["fuel"] + 1}, "fuel"),
    "input": (lambda _: {"input": '{"call":17}'}, "output"),
    "an answer": (lambda said: {"calls": _tampered_calls(said["calls"], 0, answer=cbor2.dumps("forged"))}, "output"),
    "an answer of another type": (lambda said: {"calls": _tampered_calls(said["calls"], 0, answer=cbor2.dumps(5))}, "error"),
    "what was asked": (lambda said: {"calls": _tampered_calls(said["calls"], 0, args=cbor2.dumps("other"))}, "error"),
    "a name": (lambda said: {"calls": _tampered_calls(said["calls"], 0, name="kv.get")}, "error"),
    "one call fewer": (lambda said: {"calls": cbor2.dumps(cbor2.loads(said["calls"])[:-1])}, "error"),
    "one call more": (lambda said: {"calls": cbor2.dumps(cbor2.loads(said["calls"]) * 2)}, "calls"),
    "less fuel": (lambda said: {"policy": said["policy"].replace('"fuel": 1000000000', '"fuel": 100')}, "error"),
    "less output": (lambda said: {"policy": said["policy"].replace('"outputBytes": 1048576', '"outputBytes": 1')}, "error"),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_recording_differs(what: str) -> None:
    """And is told what differs; the untouched one beside it does not."""
    # Answers the value of `place`, and what it was sent.
    told = script(call("config.get", "place"), call("clock.now"), then="(call $put (i32.const 2) (i32.const 1)) (call $put (local.get 0) (local.get 1))")  # fmt: skip
    with opened() as store:
        tried = store.install(component("tool", told, "read", clock=True, config=["place"]))
        tried.set_policy(policy("deterministic", clock=True, config={"place": "here"}))
        made = tried.invoke({"call": 1}, record=True)
        assert made.output == ["here", "ok", {"call": 1}]
        said = _said(store, made.id)
        calls, loaded = calls_of(store, PLACE), store._components.load_tool(said["component"])
        assert calls.replay(said, made.id, loaded).same
        change, expected = TAMPERED[what]
        changed = said | change(said)
        assert changed != said
        again = calls.replay(changed, made.id, loaded)
        assert not again.same
        assert expected in again.differences
        # Another component does not come to the same either.
        other = store._components.compiled(read_source(echo("tool")))
        assert isinstance(other, _native.tools.ToolComponent)
        assert not calls.replay(said, made.id, other).same


def test_a_recording_that_was_changed_on_disk_is_found(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        tried = store.install(echo())
        tried.set_policy(policy("deterministic"))
        tried.invoke("what-was-sent", record=True)
    for file in (tmp_path / "store").rglob("*.sqlite*"):
        content = file.read_bytes()
        file.write_bytes(content.replace(b"what-was-sent", b"what-was-SENT"))
    with opened(tmp_path / "store") as store:
        assert store.verify() != []


# --- secrets


def _everywhere(folder: Path) -> bytes:
    return b"\n".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.parent.name != "vault"
    )


@pytest.mark.parametrize("spelled", ["echo", *SPELLINGS])
def test_a_recording_never_holds_a_secret(tmp_path: Path, turning: Site, spelled: str) -> None:
    """Though the site gives it back, in whatever form: recording, journal, export, answer and replay hold none of it."""
    path = "/" if spelled == "echo" else f"/{spelled.replace(' ', '-')}"
    url = f"http://127.0.0.1:{turning.port}{path}"
    turning._answers = ANSWERS
    told = (
        "headers"
        if spelled in ("header", "cookie", "location")
        else "status"
        if spelled == "status"
        else None
    )
    steps = script(call("secrets.handle", "key", keep=True), send(url, headers=[("X-Key", KEPT)], told=told))
    with opened(tmp_path / "store") as store:
        tried = store.install(component("tool", steps, "read", **{name: value for name, value in wanted(turning).items() if name in ("secrets", "http")}))  # fmt: skip
        store.tenant("default").set_secret("key", SECRET)
        tried.set_policy(
            policy("deterministic", **outside(turning), secrets=[{"name": "key", "hosts": ["127.0.0.1"]}])
        )
        try:
            made = repr(tried.invoke(record=True))
        except capsa.CapsaError as error:
            made = repr(error)
        assert turning.asked[0].header("x-key") == SECRET
        [row] = tried.invocations()
        assert row.recorded
        again = tried.replay_invocation(row.id)
        assert again.same
        store.export(tmp_path / "export")
        store._durable()
        said = _everywhere(tmp_path) + "\n".join([made, repr(again), repr(row), repr(store.audit())]).encode()
        for part in (
            b"hunter2",
            b"sword",
            b"68756e746572",
            b"aHVudGVy",
            b"%68%75",
            b"\\u0068\\u0075",
            b"&#x68;",
        ):
            assert part not in said, part
        assert re.search(b"capsa-secret-[0-9a-f]{32}", said), "its handle is there"


def test_calls_are_recorded_by_many_threads(way: Way) -> None:
    """Each in its own recording."""
    tried = way.install(component("tool", script(call("random.number"), call("clock.now")), "read", random=True, clock=True))  # fmt: skip
    tried.set_policy(policy("deterministic", {"concurrency": 8}, random=True, clock=True))
    ids: list[str] = []

    def records() -> None:
        ids.extend(tried.sync.invoke(number, record=True).id for number in range(10))

    threads = [threading.Thread(target=records) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 80
    assert all(tried.sync.replay_invocation(id_).same for id_ in ids)
    seeds = [cbor2.loads(event.payload)["recording"]["seed"] for event in journal(way.store, "invoked")]
    assert len(set(seeds)) == 80, "no two have the same random numbers"
