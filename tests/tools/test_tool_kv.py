"""What tools keep: in the journal's order, swapped once, within its quota, and there after whatever happens."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox.guests import Span, call, script, swap
from tests.sandbox.outside import Site
from tests.tools.making import (
    KEEPING,
    component,
    counts,
    echo,
    journal,
    keeps,
    opened,
    outside,
    policy,
    remembers,
    together,
)
from tests.tools.ways import Way

import capsa
from capsa import _native
from capsa.decisions import _snapshots
from capsa.decisions._tools import calls_of
from capsa.journal import backup, restore
from capsa.tools import Invoked

DAY_S = 24 * 3600.0
PLACE = ("default", "default", "tool")


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads of Python take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def kept(store: capsa.Store, place: tuple[str, str, str] = PLACE) -> dict[str, bytes]:
    return dict(store._fold.tools[place].kv.entries())


def folded(store: capsa.Store) -> dict[str, bytes]:
    """What the events say that is kept."""
    found: dict[str, bytes] = {}
    for event in journal(store, "kv_changed"):
        said = cbor2.loads(event.payload)
        if said["value"] is None:
            del found[said["key"]]
        else:
            found[said["key"]] = said["value"]
    return found


# --- what each step does


def test_steps_in_the_order_of_the_journal(way: Way) -> None:
    """Every change is an event before the next step sees it; what changes nothing is none."""
    steps = [
        call("kv.get", "a"), call("kv.set", "a", "1"), call("kv.get", "a"), call("kv.set", "a", "1"), call("kv.set", "b", ""), call("kv.get", "b"),
        call("kv.keys", "", 0, 0, 0, 10), call("kv.remove", "a"), call("kv.remove", "a"), call("kv.get", "a"), call("kv.set", "a", "2"),
    ]  # fmt: skip
    tried = way.install(keeps("tool", *steps))
    tried.set_policy(policy(**KEEPING))
    assert tried.invoke().output == [None, "ok", "1", "ok", "ok", "", ["a", "b"], True, False, None, "ok"]
    said = [cbor2.loads(event.payload) for event in journal(way.store, "kv_changed")]
    assert [(one["key"], one["value"]) for one in said] == [("a", b"1"), ("b", b""), ("a", None), ("a", b"2")]
    assert kept(way.store) == folded(way.store) == {"a": b"2", "b": b""}
    # The call comes behind what it changed.
    assert [event.type for event in journal(way.store)][-5:] == ["kv_changed"] * 4 + ["invoked"]


def test_compare_and_swap(way: Way) -> None:
    """Says whether it was so; an empty value is not none."""
    pairs = [(None, None), ("x", "y"), (None, "1"), (None, "2"), ("", "2"), ("1", "1"), ("1", "2"), ("2", None), ("2", "3"), (None, ""), (None, "4"), ("", "5")]  # fmt: skip
    tried = way.install(keeps("tool", *(swap("k", before, after) for before, after in pairs)))
    tried.set_policy(policy(**KEEPING))
    assert tried.invoke().output == [
        True,
        False,
        True,
        False,
        False,
        True,
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    assert kept(way.store) == {"k": b"5"}
    assert [cbor2.loads(event.payload)["value"] for event in journal(way.store, "kv_changed")] == [b"1", b"2", None, b"", b"5"]  # fmt: skip


def test_what_was_kept_before_a_failure_stays(way: Way) -> None:
    tried = way.install(
        component("tool", script(call("kv.set", "k", "v"), then="unreachable"), "idempotent", **KEEPING)
    )
    tried.set_policy(policy(**KEEPING))
    with pytest.raises(capsa.CapsuleTrapped):
        tried.invoke()
    assert kept(way.store) == {"k": b"v"}
    assert way.store.rebuild().equal


def test_every_tool_has_its_own(way: Way) -> None:
    places = [("acme", "one"), ("acme", "two"), ("default", "one")]
    for tenant, job in places:
        for name in ("tool", "other"):
            tried = way.install(remembers(name), tenant=tenant, job=job)
            tried.set_policy(policy(**KEEPING))
            assert tried.invoke().output == [None, "ok"]
    for tenant, job in places:
        assert kept(way.store, (tenant, job, "tool")) == {"k": b"v"}


@given(
    changes=st.lists(
        st.tuples(st.sampled_from("abcde"), st.none() | st.binary(max_size=40), st.none() | st.tuples(st.none() | st.binary(max_size=2))),
        max_size=25,
    )
)  # fmt: skip
def test_changes_do_what_a_dictionary_does(
    changes: list[tuple[str, bytes | None, tuple[bytes | None] | None]],
) -> None:
    """Within a quota of bytes and keys, against the simplest model; live, folded and restored."""
    with opened() as store:
        store.install(remembers("tool"))
        books = calls_of(store, PLACE)._books
        model: dict[str, bytes] = {}
        for key, value, expected in changes:
            before = model.get(key)
            after = {name: kept for name, kept in model.items() if name != key} | (
                {} if value is None else {key: value}
            )
            size = sum(len(name) + len(kept) for name, kept in after.items())
            fits = (
                value is None
                or (before is not None and len(value) <= len(before))
                or (size <= 60 and len(after) <= 3)
            )
            answer = books.change(key, value, expected, 60, 3)
            if expected is not None and expected[0] != before:
                assert answer is False
            elif not fits:
                assert answer is None
            else:
                model = after
                assert answer is (before is not None or expected is not None)
            assert kept(store) == model
        assert folded(store) == model
        assert store.rebuild().equal
        state = store._fold.tools[PLACE]
        assert _native.tools.KeyValues(state.snapshot()["kv"]).entries() == model


# --- races


def test_no_increment_is_lost(site: Site) -> None:
    """Between its reading and its swapping a call asks outside: others go on meanwhile."""
    url = f"http://127.0.0.1:{site.port}/"
    with opened() as store:
        tried = store.install(counts("tool", url))
        allowed = policy(limits={"concurrency": 16, "cpu_ms": 5000, "host_calls": 10_000, "egress_requests": 5_000}, **KEEPING, **outside(site))  # fmt: skip
        tried.set_policy(allowed)
        answers = together(16, lambda _: [tried.invoke().output for _ in range(4)])
        got = [output for answer in answers if isinstance(answer, list) for output in answer]
        assert sorted(got) == list(range(1, 65)), "each got a number of its own"
        for answer in answers:
            assert isinstance(answer, list)
            assert answer == sorted(answer)
        assert kept(store) == {"n": (64).to_bytes(4, "little")}
        assert len(site.asked) > 64, "some of them had to try again: it was a race"
        said = [
            int.from_bytes(cbor2.loads(event.payload)["value"], "little")
            for event in journal(store, "kv_changed")
        ]
        assert said == list(range(1, 65))
        assert store.rebuild().equal


@pytest.mark.usefixtures("hasty")
def test_swaps_of_many_threads_take_turns() -> None:
    """The store's own part, without a guest that slows it down."""
    with opened() as store:
        store.install(remembers("tool"))
        books = calls_of(store, PLACE)._books
        kv = store._fold.tools[PLACE].kv

        def increments(_: int) -> int:
            failed = 0
            for _ in range(50):
                while True:
                    before = kv.get("n")
                    number = 0 if before is None else int(before)
                    if books.change("n", str(number + 1).encode(), (before,), 1000, 10):
                        break
                    failed += 1
            return failed

        failed = together(16, increments)
        assert kv.get("n") == b"800"
        assert sum(each for each in failed if isinstance(each, int)) > 0, "it was a race"
        assert [int(cbor2.loads(event.payload)["value"]) for event in journal(store, "kv_changed")] == list(
            range(1, 801)
        )


@pytest.mark.usefixtures("hasty")
def test_a_quota_holds_under_races() -> None:
    """Of keys and of bytes: what 16 threads are told was kept is what there is, and never more than may be."""
    with opened() as store:
        store.install(remembers("tool"))
        books = calls_of(store, PLACE)._books
        over = []

        def fills(thread: int) -> list[str]:
            got = []
            for number in range(40):
                key = f"{thread:02}-{number:02}"
                if books.change(key, b"x" * (number % 20), None, 2_000, 50) is not None:
                    got.append(key)
                kv = store._fold.tools[PLACE].kv
                if len(kv) > 50 or kv.bytes > 2_000:
                    over.append(len(kv))
                if number % 3 == 0 and got:
                    books.change(got.pop(), None, None, 2_000, 50)
            return got

        answers = together(16, fills)
        told = {key for answer in answers if isinstance(answer, list) for key in answer}
        assert over == []
        assert set(kept(store)) == told
        assert 45 <= len(told) <= 50, "it came to the quota"
        assert store.rebuild().equal


def test_a_quota_ends_what_a_tool_keeps(way: Way) -> None:
    """It is told so; what it has, it may still make smaller and remove."""
    steps = [call("kv.set", "a", Span(0, 90)), call("kv.set", "b", Span(0, 90)), call("kv.set", "a", Span(0, 8)), call("kv.set", "b", Span(0, 80)), call("kv.set", "c", ""), call("kv.remove", "a"), call("kv.set", "c", "")]  # fmt: skip
    tried = way.install(keeps("tool", *steps))
    tried.set_policy(policy(kv={"access": "read_write", "max_bytes": 100, "max_keys": 2}))
    assert tried.invoke().output == ["ok", "too-large", "ok", "ok", "too-large", True, "ok"]
    # Less is allowed now than there is: nothing is lost, and nothing grows.
    tried.set_policy(policy(kv={"access": "read_write", "max_bytes": 10, "max_keys": 1}))
    before = kept(way.store)
    assert tried.invoke().output == ["too-large", "too-large", "too-large", "ok", "ok", False, "ok"]
    assert kept(way.store) == before


# --- what stays


@pytest.mark.parametrize("way", ["folder, threads", "folder, asyncio"], indirect=True)
def test_it_is_there_after_a_restart(way: Way) -> None:
    """From the journal, from a snapshot, from a snapshot and what came behind."""
    tried = way.install(counts("tool"))
    tried.set_policy(policy(**KEEPING))
    for expected in range(1, 6):
        assert tried.invoke().output == expected
        if expected in (2, 3):
            _snapshots.seal(way.store, "default", "events")
        hashed = way.store._fold.state_hash(PLACE)
        way.restart()
        tried = way.again(tried)
        assert way.store._fold.state_hash(PLACE) == hashed
        assert way.store.rebuild().equal
        assert way.store.verify() == []
        assert way.store.call_counts(PLACE) == {"invoked": expected, "breached": 0}


def test_it_is_there_when_retention_has_cut_its_events(tmp_path: Path) -> None:
    now = [1.8e9]
    settings: dict[str, Any] = {"clock": lambda: now[0], "retention": "2d"}
    store = opened(tmp_path / "store", **settings)
    tried = store.install(counts("tool"))
    set_ = tried.set_policy(policy("deterministic", **KEEPING))
    first = tried.invoke(record=True).id
    for day in range(2, 10):
        assert tried.invoke().output == day
        _snapshots.seal(store, "default", "events")
        now[0] += DAY_S
        store.upkeep()
    assert store.journal.first("default") > 5, "its install is cut off"
    for _ in range(2):
        assert kept(store) == {"n": (9).to_bytes(4, "little")}
        assert tried.policy == set_
        assert len(tried.invocations()) < 9
        for ask in (tried.invocation, tried.replay_invocation):
            with pytest.raises(capsa.UnknownInvocation):
                ask(first)
        assert store.rebuild().equal
        assert store.verify() == []
        store.close()
        store = opened(tmp_path / "store", **settings)
        tried = store.capsule("tool")
    assert tried.invoke().output == 10
    assert tried.replay_invocation(tried.invoke(record=True).id).same
    store.close()


def test_a_backup_holds_it(tmp_path: Path) -> None:
    """Taken while calls go on: what it holds is a moment of it."""
    with opened(tmp_path / "store") as store:
        tried = store.install(counts("tool"))
        tried.set_policy(policy("deterministic", **KEEPING))
        recorded = tried.invoke(record=True)
        stop = threading.Event()

        def goes_on() -> None:
            while not stop.is_set():
                tried.invoke()

        thread = threading.Thread(target=goes_on)
        thread.start()
        try:
            time.sleep(0.05)
            store.backup(tmp_path / "copy", keys=True)
        finally:
            stop.set()
            thread.join()
        last = tried.invoke().output
    with opened(tmp_path / "copy") as copy:
        found = copy.capsule("tool")
        number = int.from_bytes(kept(copy)["n"], "little")
        assert 1 <= number <= last
        assert found.invoke().output == number + 1
        assert found.replay_invocation(recorded.id).same
        assert copy.rebuild().equal
        assert copy.verify() == []
    backup(tmp_path / "store", tmp_path / "second")
    restore(tmp_path / "second", tmp_path / "third")
    with opened(tmp_path / "third") as third:
        assert third.capsule("tool").invoke().output == last + 1
        assert third.rebuild().equal


def test_an_export_holds_it(way: Way, tmp_path: Path) -> None:
    tried = way.install(keeps("tool", call("kv.set", "é", "\0ÿ"), call("kv.set", "b", "")))
    tried.set_policy(policy(**KEEPING))
    tried.invoke()
    way.store.export(tmp_path / "export")
    [file] = (tmp_path / "export").rglob("tool.json")
    told = json.loads(file.read_text())["kv"]
    assert {key: bytes.fromhex(value) for key, value in told.items()} == kept(way.store)


def test_a_rebuild_finds_what_no_event_says(way: Way) -> None:
    """The comparison sees what is kept."""
    tried = way.install(remembers("tool"))
    tried.set_policy(policy(**KEEPING))
    tried.invoke()
    assert way.store.rebuild().equal
    way.store._fold.tools[PLACE].kv.apply("k", b"forged")
    rebuilt = way.store.rebuild()
    assert not rebuilt.equal
    assert [capsule.capsule for capsule in rebuilt.capsules if not capsule.equal] == ["tool"]


def test_the_digest_in_a_snapshot_covers_what_is_kept(tmp_path: Path) -> None:
    """So one that was changed is not believed: see `_snapshots.load`."""
    with opened(tmp_path / "store") as store:
        tried = store.install(remembers("tool"))
        tried.set_policy(policy(**KEEPING))
        tried.invoke()
        event = _snapshots.seal(store, "default", "events")
        assert event is not None
        store._durable()
        sealed = _snapshots.read_sealed(event)
        blob = cbor2.loads(store.journal.blob(sealed.digest))
        assert blob["capsules"]["default/tool"]["kv"] == {"k": b"v"}
        assert sealed.states["default/tool"] == store._fold.state_hash(PLACE)
        blob["capsules"]["default/tool"]["kv"]["k"] = b"forged"
        fold = type(store._fold)(store._components, store._ids.ring)
        fold.restore(PLACE, blob["capsules"]["default/tool"])
        assert fold.state_hash(PLACE) != sealed.states["default/tool"]


def test_a_call_of_a_tool_that_is_deleted_meanwhile_keeps_nothing(site: Site) -> None:
    """It ends; what it would have kept or recorded is not put into the next one of its name."""
    held, go = threading.Event(), threading.Event()

    def waits(_: object) -> Iterator[bytes]:
        held.set()
        assert go.wait(20)
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"

    site._answers = {"/": waits}
    with opened() as store:
        source = counts("tool", f"http://127.0.0.1:{site.port}/")
        tried = store.install(source)
        tried.set_policy(policy(**KEEPING, **outside(site)))
        ended: list[Invoked | capsa.CapsaError | None] = []
        thread = threading.Thread(target=lambda: ended.extend(together(1, lambda _: tried.invoke())))
        thread.start()
        assert held.wait(20)
        tried.delete()
        again = store.install(source)
        go.set()
        thread.join()
        assert isinstance(ended[0], capsa.CapsuleTrapped), "the guest gave up: its change failed"
        assert kept(store) == {}
        assert again.invocations() == []
        assert store.call_counts(PLACE) == {"invoked": 0, "breached": 0}
        assert store.rebuild().equal


def test_a_copied_folder_is_another_store(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        store.install(counts("tool")).set_policy(policy(**KEEPING))
        store.install(echo())
        store.capsule("tool").invoke()
    shutil.copytree(tmp_path / "store", tmp_path / "copied")
    with opened(tmp_path / "store") as one, opened(tmp_path / "copied") as other:
        assert [one.capsule("tool").invoke().output for _ in range(3)] == [2, 3, 4]
        assert other.capsule("tool").invoke().output == 2
