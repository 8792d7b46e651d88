"""Calls of tools: what goes in and comes out, and what is recorded of them."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sandbox import guests
from tests.sandbox.guests import call, fails, script, send, tool
from tests.sandbox.outside import Site
from tests.tools.making import (
    KEEPING,
    asks,
    component,
    decides,
    echo,
    journal,
    opened,
    outside,
    policy,
    remembers,
    says,
)
from tests.tools.ways import Tried, Way

import capsa
from capsa import _native
from capsa.journal import timestamp
from capsa.tools import Invoked

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=16,
)
MIB: Final = 1024 * 1024


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def compensable(name: str, body: str, **wants: Any) -> bytes:
    """A tool that answers what it is sent; taking back is a body of its own."""
    return component(name, tool(compensate=body, imports=["log"]), "idempotent", **wants)


# --- in and out


@given(JSON)
def test_any_json_comes_back(value: Any) -> None:
    """With its names, in their order, and its numbers as they are."""
    with opened() as store:
        output = store.install(echo()).invoke(value).output
        assert output == value
        assert type(output) is type(value)
        assert json.dumps(output) == json.dumps(value)


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, 10**4299, 1.7976931348623157e308, 5e-324, -0.0, 0.1, "\0\x7f\u2028\U0010ffff", {"": {"": ""}}, nested(30), "x" * (MIB - 2)],
    ids=lambda value: str(value)[:12] if not isinstance(value, int) else f"{value.bit_length()} bits",
)  # fmt: skip
def test_edges_come_back(value: Any) -> None:
    with opened() as store:
        output = store.install(echo()).invoke(value).output
        assert output == value
        assert repr(output) == repr(value), "negative zero, too"


def test_a_tuple_is_a_list() -> None:
    with opened() as store:
        assert store.install(echo()).invoke((1, (2,), {"a": (3,)})).output == [1, [2], {"a": [3]}]


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "says_"),
    [
        (math.nan, "finite"),
        ([1, math.inf], "finite"),
        ({"a": [-math.inf]}, "finite"),
        ("\ud800", "surrogate"),
        (["a\udfff"], "surrogate"),
        ({"\ud800": 1}, ""),
        ({1: 2}, "name"),
        ({None: 2}, "name"),
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        (object(), "object"),
        (nested(31), "30 deep"),
        ({"a": nested(30)}, "30 deep"),
        (LOOP, "30 deep"),
        (10**5000, ""),
        ("x" * (MIB - 1), str(MIB + 1)),
        (["é" * (MIB // 2)], "bytes"),
    ],
    ids=lambda value: ascii(type(value).__name__ if not isinstance(value, str) else value)[:14],
)
def test_what_is_no_input_is_refused_and_nothing_happens(value: Any, says_: str) -> None:
    """The input is named; a value of a million bytes is not repeated."""
    with opened() as store:
        tried = store.install(compensable("takes-back", "unreachable"))
        before = len(journal(store))
        calls: list[tuple[str, Callable[[], Invoked]]] = [
            ("/input", lambda: tried.invoke(value)),
            ("/input", lambda: tried.compensate(value, 1)),
            ("/output", lambda: tried.compensate(1, value)),
        ]
        for pointer, made in calls:
            with pytest.raises(capsa.InvalidField) as refused:
                made()
            assert refused.value.pointer == pointer
            assert says_ in str(refused.value)
            assert len(str(refused.value)) < 500
        assert len(journal(store)) == before


@pytest.mark.parametrize(
    ("text", "output"),
    [
        (" \n\t[1 , 2]\r\n", [1, 2]),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"b":1,"a":{"b":2}}', {"b": 1, "a": {"b": 2}}),
        ("1e0", 1.0),
        ("-0.0", -0.0),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("[" * 30 + "]" * 30, nested(30)),
    ],
)
def test_output_is_read_as_json(text: str, output: Any) -> None:
    with opened() as store:
        answered = store.install(says("says", text)).invoke().output
        assert answered == output
        assert repr(answered) == repr(output)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "nope", "1 2", "[1", "{", "{'a': 1}", '{"a":1,"a":2}', '[{"b":{"a":1,"a":1}}]', "NaN", "-Infinity", "1e400", "-1e999", "01", "+1", ".5", "1.",
        '"\\ud800"', '"\\udc00\\ud800"', '"a\nb"', '"\\x"', "9" * 5000, "[" * 31 + "]" * 31, "[" * 60_000, "[" * 30_000 + "]" * 30_000, "[1,]", "\ufeff1", "1\0", "// 1", "True",
    ],
    ids=lambda text: ascii(text)[:14],
)  # fmt: skip
def test_output_that_is_no_json_is_bad_output(text: str) -> None:
    """The tool's fault, recorded as such; the store goes on."""
    with opened() as store:
        tried = store.install(says("says", text))
        with pytest.raises(capsa.CapsuleBadOutput):
            tried.invoke()
        [row] = tried.invocations()
        assert (row.error, row.recorded) == ("capsule-bad-output", False)
        assert row.output_digest == _native.digest(text.encode())
        assert len(row.detail or "") < 300
        assert store.install(echo()).invoke(1).output == 1


def test_output_larger_than_a_piece_is_bad_output(way: Way) -> None:
    tried = way.install(says("says", f'"{"x" * 998}"'))
    tried.set_policy(policy(limits={"output_bytes": 1000}))
    assert tried.invoke().output == "x" * 998
    tried.set_policy(policy(limits={"output_bytes": 999}))
    with pytest.raises(capsa.CapsuleBadOutput):
        tried.invoke()


# --- what comes of a call


def test_every_field_of_an_answer(way: Way) -> None:
    tried = way.install(remembers())
    set_ = tried.set_policy(policy(**KEEPING))
    made = tried.invoke({"a": 1})
    assert re.fullmatch("inv_[0-9a-f]{32}", made.id)
    assert (made.capsule, made.version, made.effect, made.engine) == ("remembers", 1, "idempotent", "fast")
    assert (made.output, made.recorded, made.denied, made.log) == ([None, "ok"], False, [], [])
    assert made.policy_digest == set_.effective_digest
    assert (made.used.host_calls, made.used.fuel, made.used.egress_requests, made.used.log_lines) == (
        2,
        None,
        0,
        0,
    )
    assert made.used.memory_bytes == 4 * 65_536
    assert 0 < made.used.cpu_ms < 50
    assert made.used.wall_ms > 0
    assert tried.invoke().id != made.id


def test_a_call_is_recorded_as_it_was_answered(way: Way) -> None:
    tried = way.install(remembers())
    tried.set_policy(policy("deterministic", **KEEPING))
    made = tried.invoke({"é": [1]}, record=True)
    row = tried.invocation(made.id)
    assert tried.invocations() == [row]
    assert (row.id, row.function, row.capsule_version, row.principal) == (made.id, "invoke", 1, "local")
    assert (row.policy_digest, row.used, row.denied, row.recorded) == (
        made.policy_digest,
        made.used,
        [],
        True,
    )
    assert row.input_digest == _native.digest('{"é":[1]}'.encode())
    assert row.output_digest == _native.digest(b'[null,"ok"]')
    assert (row.error, row.detail, row.denied_unlisted) == (None, None, 0)
    [event] = journal(way.store, "invoked")
    assert (event.sequence, timestamp(event.time_ms), event.path) == (
        row.sequence,
        row.time,
        "default/remembers",
    )


def test_what_a_tool_says_of_its_failure_is_passed_on(way: Way) -> None:
    for retryable in (0, 1):
        tried = way.install(component("fails", fails("out-of-stock", "nothing is left", retryable)))
        with pytest.raises(capsa.CapsuleRefused, match="nothing is left") as failed:
            tried.invoke()
        assert (failed.value.failure, failed.value.retryable) == ("out-of-stock", bool(retryable))
    rows = tried.invocations()
    assert [(row.error, row.detail) for row in rows] == [("capsule-refused", "nothing is left")] * 2
    # That is no breach: nothing of it is in the audit log.
    assert [row.type for row in tried.sync.audit()] == ["installed"] * 2
    assert way.store.call_counts(("default", "default", "fails")) == {"invoked": 2, "breached": 0}


def test_what_a_tool_logs_is_told_and_logged(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    body = f"(call $log (i32.const 2) (i32.const 1024) (i32.const 11)) {guests.ECHO}"
    guest = tool(body, imports=["log"], more=guests.data(1024, "line\nforged"))
    tried = way.install(component("logs", guest))
    with caplog.at_level(logging.DEBUG, "capsa.capsule"):
        made = tried.invoke()
    assert [(line.level, line.message) for line in made.log] == [("warn", "line\nforged")]
    assert made.used.log_lines == 1
    [record] = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "capsa.capsule")
    assert "line\\nforged" in record.getMessage(), "it forges no lines"


# --- taking back


def test_what_was_done_is_taken_back(way: Way) -> None:
    """With what the call was sent and what it answered, and recorded as what it is."""
    # Refuses unless it is handed exactly 1 and [2].
    checks = """(if (i32.ne (local.get 1) (i32.const 1)) (then unreachable))
        (if (i32.ne (i32.load8_u (local.get 0)) (i32.const 0x31)) (then unreachable))
        (if (i32.ne (local.get 3) (i32.const 3)) (then unreachable))
        (if (i32.ne (i32.load16_u (local.get 2)) (i32.const 0x325b)) (then unreachable))
        (i32.store8 (i32.const 64) (i32.const 0)) i32.const 64"""
    tried = way.install(compensable("takes-back", checks))
    made = tried.invoke(1)
    taken = tried.compensate(1, [2])
    assert (taken.output, taken.effect, taken.version) == (None, "idempotent", 1)
    assert taken.id != made.id
    for sent, done in ((2, [2]), (1, 2), (12, [2])):
        with pytest.raises(capsa.CapsuleTrapped):
            tried.compensate(sent, done)
    rows = tried.invocations()
    assert [row.function for row in rows] == ["invoke", *["compensate"] * 4]
    assert [row.output_digest is None for row in rows] == [False, True, True, True, True]


def test_what_cannot_be_taken_back(way: Way) -> None:
    tried = way.install(echo())
    with pytest.raises(capsa.WrongKind):
        tried.compensate(1, 1)


# --- breaches

_LOOPS: Final = script(call("kv.get", "k", times=0))
BREACHES: Final[dict[str, tuple[bytes, dict[str, Any], str]]] = {
    "deadline": (component("broken", tool(guests.SPIN)), policy(limits={"cpu_ms": 5}), "capsule-deadline"),
    "wall": (component("broken", tool(guests.SPIN)), policy(limits={"cpu_ms": 5000, "wall_ms": 10}), "capsule-deadline"),
    "fuel": (component("broken", tool(guests.SPIN)), policy("deterministic", {"fuel": 1000}), "capsule-fuel"),
    "trap": (component("broken", tool("unreachable")), policy(), "capsule-trapped"),
    "stack": (component("broken", tool(guests.DIVE, more=guests.DIVER)), policy(), "capsule-stack"),
    "memory": (component("broken", tool(guests.GROW)), policy(limits={"memory_bytes": 1 << 20}), "capsule-out-of-memory"),
    "host calls": (component("broken", _LOOPS, "read", kv={"access": "read"}), policy(**KEEPING), "capsule-limit"),
    "bad output": (says("broken", "nope"), policy(), "capsule-bad-output"),
    "answer elsewhere": (component("broken", tool("i32.const -64")), policy(), "capsule-bad-output"),
    "not granted": (component("broken", _LOOPS, "read", kv={"access": "read"}), policy(), "capability-denied"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREACHES)
def test_each_breach_is_in_the_audit_log(way: Way, name: str) -> None:
    """On disk when the caller hears of it, if it did not run inline; as its own kind of problem."""
    source, allowed, code = BREACHES[name]
    tried = way.install(source)
    tried.set_policy(allowed)
    with pytest.raises(capsa.CapsaError) as broken:
        tried.invoke({"private": "input"})
    assert broken.value.code == code
    assert broken.value.detail
    [row] = tried.invocations()
    audited = tried.sync.audit()[-1]
    assert (audited.type, audited.sequence, audited.principal) == ("breached", row.sequence, "local")
    assert audited.detail["error"]["code"] == row.error == code
    assert way.store.audit()[-1] == audited
    assert way.store.call_counts(("default", "default", "broken")) == {"invoked": 0, "breached": 1}
    assert "private" not in json.dumps(audited.detail)
    assert way.install(echo()).invoke(1).output == 1
    assert way.store.rebuild().equal
    if way.persistent:
        way.restart()
        assert way.store.call_counts(("default", "default", "broken")) == {"invoked": 0, "breached": 1}


def test_a_denial_is_a_breach_though_the_call_is_answered(way: Way, site: Site) -> None:
    steps = [send(f"http://127.0.0.1:{site.port}/", method="POST") for _ in range(70)]
    tried = way.install(
        component("asks", script(*steps), "read", http=[{"hosts": ["*"], "schemes": ["http"]}])
    )
    tried.set_policy(policy(limits={"egress_requests": 100}, **outside(site)))
    made = tried.invoke()
    assert made.output == ["denied"] * 70
    assert {(denial.interface, denial.rule) for denial in made.denied} == {("http", "method")}
    [row] = tried.invocations()
    assert (len(row.denied), row.denied_unlisted, row.error) == (64, 6, None)
    assert row.denied == made.denied
    assert row.output_digest is not None
    assert tried.sync.audit()[-1].type == "breached"
    assert site.asked == []


@pytest.mark.parametrize("function", ["frame", "reward"])
def test_breaches_of_decision_capsules_are_audited(way: Way, function: str) -> None:
    """They change nothing else."""
    broken = decides("broken", **{function: "unreachable"})  # type: ignore[arg-type]
    tried = way.install(broken)
    if function == "frame":
        with pytest.raises(capsa.CapsuleTrapped):
            tried.call("decide", {})
        decisions = 0
    else:
        decision = tried.call("decide", {})
        with pytest.raises(capsa.CapsuleTrapped):
            tried.call("feedback", decision.id, outcome={"quality": 1})
        decisions = 1
    audited = tried.sync.audit()[-1]
    assert (audited.type, audited.capsule) == ("breached", "broken")
    assert (audited.detail["function"], audited.detail["error"]["code"], audited.detail["version"]) == (
        function,
        "capsule-trapped",
        1,
    )
    report = tried.call("report")
    assert (report.decisions, report.feedback.applied) == (decisions, 0)
    assert way.store.rebuild().equal
    if way.persistent:
        way.restart()
        assert way.again(tried).call("report").decisions == decisions


def test_the_audit_log_holds_no_input_of_a_recorded_breach() -> None:
    source = component("broken", tool("unreachable", imports=["config.get"]), config=["place"])
    with opened() as store:
        tried = store.install(source)
        tried.set_policy(policy("deterministic", config={"place": "a place that only this tool may know"}))
        with pytest.raises(capsa.CapsuleTrapped):
            tried.invoke({"private": "input"}, record=True)
        said = json.dumps(store.audit()[-1].detail)
        assert "private" not in said
        assert "only this tool" not in said


# --- the log of calls


def test_calls_are_paged(way: Way) -> None:
    tried, other = way.install(echo()), way.install(echo("other"))
    made = []
    for number in range(7):
        made.append(tried.invoke(number).id)
        other.invoke(number)
    pages: list[list[str]] = []
    after = 0
    while page := tried.invocations(after, 3):
        pages.append([row.id for row in page])
        assert [row.sequence for row in page] == sorted({row.sequence for row in page})
        after = page[-1].sequence
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [id_ for page in pages for id_ in page] == made
    assert [row.id for row in tried.invocations()] == made
    for wrong in ({"after": -1}, {"limit": 0}, {"limit": 1001}, {"limit": True}, {"after": 1.5}):
        with pytest.raises(capsa.InvalidField):
            tried.invocations(**wrong)


UNKNOWN: Final[list[Any]] = [
    "inv_" + "0" * 32, "inv_" + "0" * 31, "inv_" + "0" * 33, "inv_" + "A" * 32, "inv_" + "é" * 32, "INV_" + "0" * 32, "dec_" + "0" * 32, "", "0" * 32, "inv_" + "0" * 32 + "\n",
    None, 5, b"inv_", ["inv_"],
]  # fmt: skip


def test_ids_that_nobody_gave(way: Way) -> None:
    tried = way.install(echo())
    tried.invoke(1)
    for id_ in UNKNOWN:
        for ask in (tried.invocation, tried.replay):
            with pytest.raises(capsa.UnknownInvocation):
                ask(id_)


def test_ids_of_others(way: Way) -> None:
    """Another capsule's, job's or tenant's call is as unknown as none; and so is a decision's nonce."""
    tried = way.install(echo())
    others = [way.install(echo("other")), way.install(echo(), job="two"), way.install(echo(), tenant="acme")]
    tried.set_policy(policy("deterministic"))
    for other in others:
        other.set_policy(policy("deterministic"))
        foreign = other.invoke(1, record=True).id
        assert other.replay(foreign).same
        for ask in (tried.invocation, tried.replay):
            with pytest.raises(capsa.UnknownInvocation) as unknown:
                ask(foreign)
            assert unknown.value.value == foreign
    decider = way.install(decides("decides"))
    decider.call("decide", {})
    [event] = journal(way.store, "decided")
    nonce = next(part for part in _bytes_in(event.payload) if len(part) == 16)
    with pytest.raises(capsa.UnknownInvocation):
        tried.invocation(f"inv_{nonce.hex()}")


def _bytes_in(payload: bytes) -> list[bytes]:
    found, left = [], [cbor2.loads(payload)]
    while left:
        match left.pop():
            case bytes() as part:
                found.append(part)
            case dict() as inner:
                left += inner.values()
            case list() as inner:
                left += inner
    return found


def test_a_call_outlives_the_store(tmp_path: Path) -> None:
    with Way("folder, threads", tmp_path / "store") as way:
        tried = way.install(echo())
        rows = [tried.invocation(tried.invoke(number).id) for number in range(3)]
        for _ in range(2):
            way.restart()
            tried = way.again(tried)
            assert tried.invocations() == rows
            assert [tried.invocation(row.id) for row in rows] == rows
        assert [msgspec.structs.asdict(row)["function"] for row in rows] == ["invoke"] * 3


def test_an_export_shows_calls_and_what_was_kept(way: Way, tmp_path: Path) -> None:
    tried = way.install(remembers())
    tried.set_policy(policy(**KEEPING))
    tried.invoke()
    way.store.export(tmp_path / "export")
    folder = tmp_path / "export" / "tenants" / "default" / "jobs" / "default" / "capsules" / "remembers"
    [line] = (folder / "invocations.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == tried.invocations()[0].id
    told = json.loads((folder / "tool.json").read_text())
    assert bytes.fromhex(told["kv"]["k"]) == b"v"
    assert (told["invoked"], told["policy"]["name"], told["version"]) == (1, "tried", 1)
    assert (folder / "current.wasm").read_bytes() == remembers()
    assert (folder / "snapshots" / "1.wasm").read_bytes() == remembers()
    types = [
        json.loads(row)["type"] for row in (tmp_path / "export" / "events.jsonl").read_text().splitlines()
    ]
    assert types == ["created", "created", "installed", "policy_changed", "kv_changed", "invoked"]


def test_what_asks_outside_is_counted(way: Way, site: Site) -> None:
    tried: Tried = way.install(asks("asks", site))
    tried.set_policy(policy(**outside(site)))
    made = tried.invoke()
    assert (made.output, made.effect) == ([1], "read")
    assert (made.used.host_calls, made.used.egress_requests) == (1, 1)
    assert made.used.egress_bytes > 50
    assert len(site.asked) == 1
