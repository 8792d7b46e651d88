"""Tools behind a server are called as tools in process: the same answers, the same errors."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.client.sockets import Listener, deaf, http
from tests.sandbox import guests
from tests.server import tools
from tests.server.serving import KEY, Served
from tests.server.tools import DETERMINISTIC, OPEN

import capsa
from capsa.client import AsyncClient, Client, RemoteCapsule, Unreachable
from capsa.policies import Explanation, load_policy
from capsa.tools import InvocationRecord, Invoked, Replayed

#: What no two calls have in common.
OWN = {"id", "sequence", "time", "principal", "by", "at", "cpu_ms", "wall_ms"}


def plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__ if name not in OWN}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


class Pair:
    """The same tool in process and behind the server."""

    def __init__(self, store: capsa.Store, client: Client, component: bytes) -> None:
        self.inside = store.install(component)
        self.remote = client.install(component)

    def same(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls both, compares, and gives the answer from the server."""
        there = getattr(self.remote, method)(*arguments, **named)
        here = getattr(self.inside, method)(*arguments, **named)
        assert type(there) is type(here)
        assert plain(there) == plain(here)
        return there

    def refused(self, call: Callable[[Any], Any]) -> capsa.CapsaError:
        """What both refuse, in the same way; as the server says it."""
        with pytest.raises(capsa.CapsaError) as there:
            call(self.remote)
        with pytest.raises(capsa.CapsaError) as here:
            call(self.inside)
        for name in ("detail", "pointer", "value", "remedy", "failure", "retryable"):
            assert getattr(there.value, name, None) == getattr(here.value, name, None), name
        assert type(there.value) is type(here.value)
        return there.value


@pytest.fixture(scope="module")
def pairs(shared: Served) -> Iterator[Callable[[bytes], Pair]]:
    with capsa.open() as store, Client(shared.url, KEY) as client:
        yield lambda component: Pair(store, client, component)


@pytest.fixture(scope="module")
def echo(pairs: Callable[[bytes], Pair]) -> Pair:
    return pairs(tools.echo("echo"))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_any_json_goes_there_and_back(echo: Pair, value: Any) -> None:
    """Names and numbers as they are, however large."""
    answered = echo.same("invoke", value)
    assert isinstance(answered, Invoked)
    assert answered.output == value
    assert type(answered.output) is type(value)


def test_calls_that_keep_fail_and_take_back(pairs: Callable[[bytes], Pair]) -> None:
    remember = pairs(tools.remember("remember"))
    denied = remember.refused(lambda capsule: capsule.invoke(1))
    assert isinstance(denied, capsa.CapabilityDenied)
    remember.same("set_policy", OPEN)
    assert [remember.same("invoke").output for _ in range(2)] == [[None, "ok"], ["v", "ok"]]
    compensable = pairs(tools.compensable("compensable"))
    compensable.same("invoke", 1)
    assert compensable.same("compensate", {"a": 1}, None).output is None
    fails = pairs(tools.fails("fails"))
    failed = fails.refused(lambda capsule: capsule.invoke(1))
    assert isinstance(failed, capsa.CapsuleRefused)
    assert (failed.failure, failed.retryable) == ("out-of-stock", True)
    spins = pairs(tools.spins("spins"))
    assert isinstance(spins.refused(lambda capsule: capsule.invoke(1)), capsa.CapsuleDeadline)
    for pair in (remember, compensable, fails, spins):
        assert pair.same("invocations")


def _invoke(sent: Any, capsule: Any) -> Any:
    return capsule.invoke(sent)


def _compensate(answered: Any, capsule: Any) -> Any:
    return capsule.compensate(1, answered)


def _set(policy: Any, capsule: Any) -> Any:
    return capsule.set_policy(policy)


def _page(after: Any, limit: Any, capsule: Any) -> Any:
    return capsule.invocations(after, limit)


def _explain(target: Any, method: Any, capsule: Any) -> Any:
    return capsule.explain(target, method)


def test_what_is_refused_is_refused_alike(echo: Pair) -> None:
    deep: Any = None
    for _ in range(31):
        deep = [deep]
    wrong: Any
    for wrong in (math.nan, [math.inf], b"1", {1: 2}, "\ud800", {"a": {1, 2}}, deep, "x" * 1_048_576, object):
        assert isinstance(echo.refused(partial(_invoke, wrong)), capsa.InvalidField)
        echo.refused(partial(_compensate, wrong))
    echo.refused(lambda c: c.compensate(1, 1))
    echo.refused(lambda c: c.invoke(1, record=True))
    unknown: list[Callable[[Any], Any]] = [
        lambda c: c.invocation("inv_0"),
        lambda c: c.replay_invocation("inv_" + "0" * 32),
        lambda c: c.invocation("é/../x"),
        lambda c: c.invocation(""),
        lambda c: c.replay_invocation(""),
        lambda c: c.invocation("\ud800"),
        lambda c: c.invocation(5),
    ]
    for call in unknown:
        assert isinstance(echo.refused(call), capsa.UnknownInvocation)
    for after, limit in ((0, 0), ("0", 1), (0, "1"), (0, 1.0), (-1, 1), (True, 1), (0, None)):
        assert isinstance(echo.refused(partial(_page, after, limit)), capsa.InvalidField)
    echo.refused(lambda c: c.decide({}))


def test_a_recorded_call_is_replayed(pairs: Callable[[bytes], Pair]) -> None:
    pair = pairs(tools.echo("recorded"))
    pair.same("set_policy", DETERMINISTIC)
    remote, inside = pair.remote.invoke({"a": 1}, record=True), pair.inside.invoke({"a": 1}, record=True)
    assert remote.used.fuel == inside.used.fuel
    again = pair.remote.replay_invocation(remote.id)
    assert isinstance(again, Replayed)
    assert plain(again) == plain(pair.inside.replay_invocation(inside.id))
    assert (again.id, again.same) == (remote.id, True)
    record = pair.remote.invocation(remote.id)
    assert isinstance(record, InvocationRecord)
    assert plain(record) == plain(pair.inside.invocation(inside.id))
    assert (record.id, record.recorded) == (remote.id, True)
    [listed] = pair.remote.invocations(limit=1)
    assert listed == record
    assert pair.remote.invocations(record.sequence) == []


def test_policies(pairs: Callable[[bytes], Pair], tmp_path: Path) -> None:
    """From a name, a file, text, bytes, a mapping or a policy; and only if nobody was faster."""
    pair = pairs(tools.remember("allowed"))
    before = pair.remote.policy
    assert plain(before) == plain(pair.inside.policy)
    assert (before.by, before.policy["name"]) == (None, "pure")
    file = tmp_path / "mine.toml"
    file.write_bytes(OPEN)
    sources: list[Any] = [
        "tool-default",
        file,
        str(file),
        OPEN.decode(),
        OPEN,
        load_policy(OPEN),
        load_policy(OPEN).to_json(),
        {"schema": 1, "name": "x", "limits": {"cpu_ms": 7}},
    ]
    for source in sources:
        pair.same("set_policy", source)
    assert pair.remote.policy.effective["limits"]["cpuMs"] == 7
    assert pair.remote.policy.by == "key admin"
    stale = pair.refused(lambda c: c.set_policy("pure", if_digest=before.digest))
    assert isinstance(stale, capsa.StaleDocument)
    pair.same("set_policy", "pure", if_digest=pair.remote.policy.digest)
    with pytest.raises(capsa.InvalidField):
        pair.remote.set_policy("pure", if_digest='"\n')
    for wrong in ({"schema": 1}, "tool-defualt", b"\xff"):
        assert isinstance(pair.refused(partial(_set, wrong)), capsa.InvalidPolicy)


def test_explanations(pairs: Callable[[bytes], Pair]) -> None:
    component = tools.component("explained", guests.tool(guests.ECHO), "read", http=[{"hosts": ["*"]}])
    pair = pairs(component)
    pair.same("set_policy", {"schema": 1, "name": "x", "grants": {"http": [{"hosts": ["*.example.com"]}]}})
    for target in ("https://api.example.com/", "https://evil.example/ü?&=#", "kv:a", "../x", "", "secret:é"):
        for method in ("GET", "POST"):
            assert isinstance(pair.same("explain", target, method), Explanation)


@pytest.mark.parametrize("method", ["get", "TRACE", "", "é"])
def test_a_method_that_no_policy_can_grant(echo: Pair, method: str) -> None:
    for target in ("https://api.example.com/", "kv:a"):
        assert isinstance(echo.refused(partial(_explain, target, method)), capsa.InvalidField)


def test_a_tool_is_described(pairs: Callable[[bytes], Pair]) -> None:
    described = pairs(tools.remember("described")).remote.describe()
    assert (described["kind"], described["effect"], described["imports"]) == ("tool", "idempotent", ["kv"])


@pytest.mark.usefixtures("echo")
def test_for_asyncio(shared: Served) -> None:
    async def calls() -> None:
        async with AsyncClient(shared.url, KEY) as client:
            capsule = client.capsule("echo")
            answers = await asyncio.gather(*(capsule.invoke(number) for number in range(20)))
            assert [answer.output for answer in answers] == list(range(20))
            assert (await capsule.policy()).policy["name"] == "pure"
            found = await capsule.invocation(answers[0].id)
            assert (await capsule.invocations(after=found.sequence - 1, limit=1)) == [found]
            await capsule.set_policy(DETERMINISTIC)
            done = await capsule.invoke(1, record=True)
            assert (await capsule.replay_invocation(done.id)).same
            assert not (await capsule.explain("https://a.example.com/")).allowed
            await capsule.set_policy("pure")
            with pytest.raises(capsa.WrongKind):
                await capsule.compensate(1, 1)

    asyncio.run(calls())


def test_a_call_takes_its_time(pairs: Callable[[bytes], Pair], shared: Served) -> None:
    """It has a minute where it does not say otherwise, whatever the client's timeout is; and its own where it does."""
    pair = pairs(tools.spins("slow"))
    pair.remote.set_policy(OPEN + b"[limits]\ncpu_ms = 400\n")
    with Client(shared.url, KEY, timeout=0.1) as hasty:
        with pytest.raises(capsa.CapsuleDeadline):
            hasty.capsule("slow").invoke(1)
        with pytest.raises(Unreachable):
            hasty.capsule("slow").invoke(1, timeout=0.05)

    async def calls() -> None:
        async with AsyncClient(shared.url, KEY, timeout=0.1) as hasty:
            with pytest.raises(capsa.CapsuleDeadline):
                await hasty.capsule("slow").invoke(1)
            with pytest.raises(Unreachable):
                await hasty.capsule("slow").invoke(1, timeout=0.05)

    asyncio.run(calls())


@pytest.mark.parametrize("call", ["invoke", "compensate", "read"])
def test_a_call_is_sent_once(call: str) -> None:
    """Where a kept connection is closed instead of an answer, nobody knows whether it was made; reading may go again."""

    def behave(connection: socket.socket) -> None:
        if listener.connections == 1:
            listener.request(connection)
            connection.sendall(http({"invocations": [], "next": None}))
        listener.request(connection)

    with Listener(deaf) as listener, Client(listener.url, KEY) as client:
        listener.behaves = behave
        capsule: RemoteCapsule = client.capsule("echo")
        assert capsule.invocations() == []
        calls: dict[str, Callable[[], Any]] = {
            "invoke": lambda: capsule.invoke(1),
            "compensate": lambda: capsule.compensate(1, 1),
            "read": capsule.invocations,
        }
        with pytest.raises(Unreachable):
            calls[call]()
        assert (len(listener.requests) > 2) == (call == "read")


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {"invocationId": 5},
        {"invocationId": "inv_0", "capsuleVersion": 1, "effect": "pure"},
        {"invocationId": "inv_0", "time": "yesterday", "sequence": 1},
        {"invocationId": "inv_0", "time": None},
        {"invocations": [{}]},
    ],
    ids=str,
)
def test_answers_that_are_none(told: Any) -> None:
    """Of something else that listens there."""

    def behave(connection: socket.socket) -> None:
        while listener.request(connection):
            connection.sendall(http(told))

    with Listener(behave) as listener, Client(listener.url, KEY) as client:
        capsule = client.capsule("echo")
        calls: list[Callable[[], Any]] = [
            lambda: capsule.invoke(1),
            lambda: capsule.policy,
            lambda: capsule.explain("x"),
            lambda: capsule.invocation(f"inv_{0:032}"),
            lambda: capsule.replay_invocation(f"inv_{0:032}"),
            capsule.invocations,
        ]
        for call in calls:
            with pytest.raises(Unreachable):
                call()
