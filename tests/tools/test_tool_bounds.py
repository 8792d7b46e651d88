"""What is recorded of a tool is read again at every start, and what changes during a call changes all of it or nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox.answers import ANSWERS
from tests.sandbox.guests import KEPT, call, script, send, tool
from tests.sandbox.outside import Site
from tests.tools.making import (
    component,
    echo,
    journal,
    opened,
    opened_for_asyncio,
    outside,
    policy,
    rounds,
    spins,
)

import capsa
from capsa import _native
from capsa.capsules import read_tool_definition
from capsa.decisions._tools import StoreBooks, calls_of
from capsa.journal import MAX_PAYLOAD_BYTES
from capsa.policies import Grants, HttpRule, Limits, Policy, load_policy
from capsa.tools import _state, check_definition, recorded_policy
from capsa.tools._state import InForce, read_policy

PLACE: Final = ("default", "default", "echo")


def started(path: Path) -> capsa.Store:
    """The store as another process opens it."""
    _state.read_policy.cache_clear()
    _state.read_definition.cache_clear()
    return opened(path)


# -- what is recorded ------------------------------------------------------------------------------------------------


def config(count: int, text: str) -> dict[str, Any]:
    """A policy with so many texts."""
    return policy(config={f"n{number}": text for number in range(count)})


def rules(count: int, hosts: int) -> list[dict[str, Any]]:
    """Rules that say as little as they can: recorded, each has its defaults."""
    return [{"hosts": [f"a{number}.{host}.ex" for host in range(hosts)]} for number in range(count)]


#: Each is longer as it is recorded than as it is written, or was once.
LONG: Final[dict[str, Any]] = {
    "text beyond ASCII": config(60, "\u00e9" * 2000),
    "characters of four bytes": config(50, "\U0001f600" * 4096),
    "quotes": config(60, '"\\' * 2000),
    "controls": config(40, "\x01" * 4096),
    "rules without defaults": policy(http=rules(250, 70)),
    "TOML": 'schema = 1\nname = "long"\n' + "".join(f"[[grants.http]]\nhosts = {json.dumps(rule['hosts'])}\n" for rule in rules(250, 70)),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_a_policy_that_is_taken_is_read_at_the_next_start(tmp_path: Path, name: str) -> None:
    """However much longer it is once every default is written down. Otherwise no tenant could be opened again."""
    with opened(tmp_path / "store") as store:
        tried = store.install(echo())
        set_ = tried.set_policy(LONG[name])
        [event] = journal(store, "policy_changed")
        # Escapes would make it up to three times as long.
        assert ("\\u" in cbor2.loads(event.payload)["policy"]) == (name == "controls")
        assert len(event.payload) > 200_000
        assert set_.policy == load_policy(LONG[name]).to_json()
        assert tried.invoke(1).policy_digest == set_.effective_digest
        assert store.rebuild().equal
    with started(tmp_path / "store") as store:
        assert store.capsule("echo").policy == set_
        assert store.rebuild().equal
        assert store.verify() == []
        store.export(tmp_path / "out")


@given(
    st.dictionaries(st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True), st.text(max_size=40), max_size=8),
    st.text(max_size=40),
)
def test_any_text_of_a_policy_comes_back(texts: dict[str, str], description: str) -> None:
    try:
        said = load_policy(policy(config=texts) | {"description": description})
    except capsa.InvalidPolicy:
        # Half of a surrogate pair.
        return
    recorded = recorded_policy(said)
    assert read_policy(recorded) == said


def test_a_store_of_before_opens(tmp_path: Path) -> None:
    """Policies were recorded with escapes, of six characters each, and read as files are, which have a limit."""
    with opened(tmp_path / "store") as store:
        tried = store.install(echo())
        said = load_policy(config(60, "\u00e9" * 2000))
        payload = cbor2.dumps({"policy": json.dumps(said.to_json(), sort_keys=True), "capsule": "echo"})
        assert len(payload) > 700_000
        with store._lock:
            store._record(PLACE, "policy_changed", store._now_ms(), payload)
        assert tried.policy.policy == said.to_json()
    with started(tmp_path / "store") as store:
        assert store.capsule("echo").policy.policy == said.to_json()
        assert store.rebuild().equal


def test_a_policy_that_is_too_large_to_be_kept_changes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        tried = store.install(echo())
        before, events = tried.policy, len(journal(store))
        with pytest.raises(capsa.InvalidPolicy, match=str(_state.MAX_RECORDED_BYTES)) as refused:
            tried.set_policy(config(64, "\U0001f600" * 4096))
        assert refused.value.remedy
        assert len(journal(store, "refused")) == 1
        assert (tried.policy, len(journal(store)) - 1) == (before, events)
    with started(tmp_path / "store") as store:
        assert store.capsule("echo").policy == before


@pytest.mark.parametrize(
    "made",
    [
        Policy(schema=1, name="x", limits=Limits(cpu_ms=0)),
        Policy(schema=1, name="x", limits=Limits(fuel=5)),
        Policy(schema=1, name="X Y"),
        Policy(schema=1, name="x", description="\ud800"),
        Policy(schema=1, name="x", engine="quick"),  # type: ignore[arg-type]
        Policy(schema=1, name="x", grants=Grants(http=(HttpRule(hosts=("127.0.0.1",)),))),
        Policy(schema=1, name="x", grants=Grants(config={"a b": "c"})),
        Policy(schema=1, name="x", limits=None),  # type: ignore[arg-type]
        Policy(schema=1, name="x", grants=object()),  # type: ignore[arg-type]
    ],
    ids=range(9),
)
def test_a_policy_that_was_made_by_hand_is_checked(tmp_path: Path, made: Policy) -> None:
    with opened(tmp_path / "store") as store:
        tried = store.install(echo())
        before, events = tried.policy, len(journal(store))
        with pytest.raises(capsa.InvalidPolicy):
            tried.set_policy(made)
        assert len(journal(store, "refused")) == 1
        assert (tried.policy, len(journal(store)) - 1) == (before, events)
    with started(tmp_path / "store"):
        pass


def test_a_policy_that_was_made_by_hand_gets_what_is_missing() -> None:
    """Such as the fuel of the deterministic engine."""
    with opened() as store:
        tried = store.install(echo())
        tried.set_policy(Policy(schema=1, name="x", engine="deterministic"))
        assert tried.policy.policy["limits"]["fuel"] == 1_000_000_000
        assert tried.invoke(1).used.fuel


def test_a_definition_that_is_taken_is_read_at_the_next_start(tmp_path: Path) -> None:
    """Its section says little; recorded, every rule has its defaults, and it has more bytes than a section may have."""
    said = {"schema": 1, "kind": "tool", "name": "echo", "effect": "pure", "wants": {"http": rules(256, 79)}}
    source = _native.embed_tool_definition(tool().bytes, json.dumps(said, separators=(",", ":")))
    with opened(tmp_path / "store") as store:
        tried = store.install(source)
        [event] = journal(store, "installed")
        assert len(cbor2.loads(event.payload)["definition"]) > 256 * 1024
        assert tried.invoke(1).output == 1
        assert store.rebuild().equal
    with started(tmp_path / "store") as store:
        assert store.capsule("echo").invoke(1).output == 1
        assert len(store._fold.tools[PLACE].in_force.definition.wants.http) == 256
        assert store.rebuild().equal


def test_a_definition_that_would_not_be_read_again_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is recorded."""
    definition = read_tool_definition({"schema": 1, "kind": "tool", "name": "a", "effect": "pure"})
    text = json.dumps(definition.to_json())
    check_definition(text, definition)
    for other in (text.replace('"a"', '"b"'), text.replace("pure", "read")):
        with pytest.raises(capsa.InvalidCapsule):
            check_definition(other, definition)
    with opened() as store:
        monkeypatch.setattr(_state, "MAX_RECORDED_BYTES", 20)
        for attempt in (store.install, store.plan):
            with pytest.raises(capsa.InvalidCapsule, match="20"):
                attempt(echo())
        assert (store.tool_places(), store.journal.streams()) == ([], [])


# -- what changes during a call --------------------------------------------------------------------------------------


class Meanwhile(dict[str, Any]):
    """An input; while it is read, something happens."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__(a=1)
        self._happens = [happens]

    def values(self) -> Any:
        """Of the input."""
        while self._happens:
            self._happens.pop()()
        return super().values()


@pytest.mark.parametrize("change", ["install", "policy"])
def test_a_call_on_the_loop_is_made_once_though_its_tool_changes(site: Site, change: str) -> None:
    """As it begins, the tool is pure; as it is called, it is not. Given up on the loop, it would have asked already."""
    spin = f"""(local.set $number (i64.const 0)) (loop $on (br_if $on
        (i64.lt_u (local.tee $number (i64.add (local.get $number) (i64.const 1))) (i64.const {rounds(10)}))))"""
    asks = script(send(f"http://127.0.0.1:{site.port}/"), then=spin)
    wide = component("echo", asks, "non_idempotent", **outside(site))

    async def story() -> None:
        async with await opened_for_asyncio() as store:
            tried = await store.install(echo())
            await tried.set_policy(policy(**outside(site)))
            assert (await tried.invoke(1)).effect == "pure"
            threads = store._threads._threads
            if change == "install":
                made = await tried.invoke(Meanwhile(lambda: store.sync.install(wide)))
                assert (made.effect, made.version, len(site.asked)) == ("non_idempotent", 2, 1)
            else:
                slow = policy(limits={"output_bytes": 2 << 20}, **outside(site))
                made = await tried.invoke(Meanwhile(lambda: tried.sync.set_policy(slow)))
                assert made.output == {"a": 1}
            assert store._threads._threads == threads + 1, "not on the loop"
            assert len(journal(store.sync, "invoked", "breached")) == 2

    asyncio.run(story())


def test_a_call_that_nobody_stopped_in_time_is_the_last_one_on_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async with await opened_for_asyncio() as store:
            tried = await store.install(echo())
            calls = calls_of(store.sync, PLACE)
            assert (await tried.invoke(1)).output == 1
            assert (calls.inline, store._threads._threads) == (True, 0)
            monkeypatch.setattr("capsa.tools._call._INLINE_MS", 0.0)
            assert (await tried.invoke(2)).output == 2
            assert (calls.inline, store._threads._threads) == (False, 0)
            assert (await tried.invoke(3)).output == 3
            assert store._threads._threads == 1

    asyncio.run(story())


def test_a_slow_version_leaves_nothing_to_the_next() -> None:
    async def story() -> None:
        async with await opened_for_asyncio() as store:
            tried = await store.install(spins("echo", 5.0))
            calls = calls_of(store.sync, PLACE)
            inline = [calls.inline]
            # On a busy machine the first may be over before anybody has looked; the second is made in a thread.
            for number in (1, 2):
                assert (await tried.invoke(number)).output == number
            inline.append(calls.inline)
            # Whatever else changes: it is the component that was slow.
            await tried.set_policy(policy(limits={"cpu_ms": 1000}))
            inline.append(calls.inline)
            threads = store._threads._threads
            await store.install(echo())
            assert [*inline, calls.inline] == [True, False, False, True]
            store._threads.close()
            assert (await tried.invoke(3)).output == 3, "on the loop: there are no threads any more"
            assert threads > 0

    asyncio.run(story())


#: When a purge comes, and the next tenant of the name with it.
WHEN: Final = ("before it is bound", "as its files are opened", "as its secrets are read")


@pytest.mark.parametrize("when", WHEN)
def test_a_call_that_is_late_meets_nothing_of_the_next_tenant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Neither its files nor its secrets: it is told that the tool is gone."""
    grants: dict[str, Any] = {
        "files": {"access": "read_write"}, "secrets": [{"name": "key", "hosts": ["127.0.0.1"]}]
    }  # fmt: skip
    with Site(ANSWERS) as site, opened(tmp_path / "store") as store:
        grants |= outside(site)
        url = f"http://127.0.0.1:{site.port}/"
        steps = [call("files.read", "plan"), call("secrets.handle", "key", keep=True), send(url, headers=[("X-Key", KEPT)], told="status")]  # fmt: skip
        tried = store.install(
            component("tool", script(*steps), "read", **grants | {"files": {"access": "read"}})
        )
        tried.set_policy(policy(**grants))
        store.tenant("default").set_secret("key", "of-the-first")

        def ends() -> None:
            store.purge("default")
            writes = component("tool", script(call("files.write", "plan", "next")), "idempotent", **grants)
            again = store.install(writes)
            again.set_policy(policy(**grants))
            store.tenant("default").set_secret("key", "of-the-next")
            assert again.invoke().output == ["ok"]

        happens: list[Callable[[], None]] = [ends]
        for name, at in (("folder", WHEN[1]), ("secrets", WHEN[2])):
            real = getattr(StoreBooks, name)

            def meanwhile(books: StoreBooks, real: Callable[[StoreBooks], Any] = real, at: str = at) -> Any:
                while at == when and happens:
                    happens.pop()()
                return real(books)

            monkeypatch.setattr(StoreBooks, name, meanwhile)
        with pytest.raises(capsa.UnknownCapsule, match="tool"):
            tried.invoke(Meanwhile(lambda: happens.pop()() if when == WHEN[0] else None))
        assert not happens
        assert site.asked == []
        # Nothing is recorded of it in the next one's name, and nothing was changed.
        assert [event.type for event in journal(store)][-1] == "invoked"
        assert len(journal(store, "invoked", "breached")) == 1
        assert store.rebuild().equal


def test_a_call_that_is_late_makes_no_directory_of_what_is_gone(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        tried = store.install(
            component("tool", script(call("files.read", "a")), "read", files={"access": "read"})
        )
        tried.set_policy(policy(files={"access": "read"}))
        with pytest.raises(capsa.UnknownCapsule):
            tried.invoke(Meanwhile(lambda: store.purge("default")))
        assert [path for path in (tmp_path / "store").rglob("*") if path.name == "tool"] == []


def test_what_is_told_of_a_policy_is_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        tried = store.install(echo())
        real = InForce.effective
        sets = [lambda: tried.set_policy(policy("deterministic"))]

        def meanwhile(now: InForce) -> Any:
            if sets:
                sets.pop()()
            return real(now)

        monkeypatch.setattr(InForce, "effective", meanwhile)
        told = tried.policy
        assert not sets
        assert (told.policy["name"], told.effective["engine"], told.by) == ("pure", "fast", None)
        assert told.digest == load_policy(told.policy).digest
        now = tried.policy
        assert (now.policy["name"], now.effective["engine"], now.by) == ("tried", "deterministic", "local")
        assert now.digest == load_policy(now.policy).digest


# -- what is kept of a call ------------------------------------------------------------------------------------------


def answers_much(bytes_: int, quote: str = '"') -> bytes:
    """A tool that answers a text so long, within quotes; which is no JSON without them."""
    guest = tool(
        f"""(memory.fill (i32.const 1024) (i32.const 97) (i32.const {bytes_}))
            (i32.store8 (i32.const 1024) (i32.const {ord(quote)}))
            (i32.store8 (i32.const {1023 + bytes_}) (i32.const {ord(quote)}))
            (call $ok (i32.const 1024) (i32.const {bytes_}))""",
        memory='(memory (export "memory") 300)',
    )
    return component("echo", guest, "non_idempotent")


MUCH: Final = policy("deterministic", {"output_bytes": 32 << 20, "cpu_ms": 10_000})


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_recording_that_is_too_large_to_be_kept_ends_the_call(tmp_path: Path, where: str) -> None:
    """The call was made: it is in the audit log, on disk, with what it ended as. Without a recording it is answered."""
    much, limit = 17 << 20, MAX_PAYLOAD_BYTES
    with opened(tmp_path / "store" if where == "folder" else None) as store:
        tried = store.install(answers_much(much))
        tried.set_policy(MUCH)
        with pytest.raises(capsa.CapsuleLimit, match=str(limit)) as ended:
            tried.invoke(1, record=True)
        assert "record" in str(ended.value.remedy)
        [row] = tried.invocations()
        assert (row.recorded, row.error, row.output_digest) == (False, "capsule-limit", None)
        assert row.detail == ended.value.detail
        assert row.used.fuel
        assert [event.type for event in journal(store, "invoked", "breached")] == ["breached"]
        with pytest.raises(capsa.InvalidField, match="not recorded"):
            tried.replay_invocation(row.id)
        assert len(tried.invoke(1).output) == much - 2
        assert store.call_counts(PLACE) == {"invoked": 1, "breached": 1}
        assert store.rebuild().equal


def test_a_recording_that_is_just_small_enough_is_kept() -> None:
    with opened() as store:
        tried = store.install(answers_much(MAX_PAYLOAD_BYTES - 4096))
        tried.set_policy(MUCH)
        made = tried.invoke(1, record=True)
        assert made.recorded
        [event] = journal(store, "invoked")
        assert MAX_PAYLOAD_BYTES - 4096 < len(event.payload) <= MAX_PAYLOAD_BYTES
        assert tried.replay_invocation(made.id).same


def test_a_recording_that_is_too_large_leaves_an_error_as_it_is() -> None:
    with opened() as store:
        tried = store.install(answers_much(17 << 20, quote="a"))
        tried.set_policy(MUCH)
        with pytest.raises(capsa.CapsuleBadOutput):
            tried.invoke(1, record=True)
        [row] = tried.invocations()
        assert (row.recorded, row.error) == (False, "capsule-bad-output")


def test_a_replay_on_a_busy_host_says_so() -> None:
    """It never began: that says nothing of the call."""
    with Site(ANSWERS) as site, opened() as store:
        tried = store.install(echo())
        tried.set_policy(policy("deterministic"))
        made = tried.invoke(1, record=True)
        waits = script(send(f"http://127.0.0.1:{site.port}/silent", timeout_ms=2_500))
        busy = store.install(component("waits", waits, "read", **outside(site)))
        busy.set_policy(policy(limits={"concurrency": 100, "wall_ms": 5_000}, **outside(site)))
        with ThreadPoolExecutor(64) as threads:
            waiting = [threads.submit(busy.invoke) for _ in range(64)]
            until = time.monotonic() + 10
            while len(site.asked) < 64 and time.monotonic() < until:
                time.sleep(0.005)
            with pytest.raises(capsa.Overloaded):
                tried.replay_invocation(made.id)
            assert {tuple(each.result().output) for each in waiting} == {("timed-out",)}
        assert tried.replay_invocation(made.id).same
