"""The two calls that matter have a short way from a body to its answer; it must answer what the long way does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import capsa
from capsa.decisions import _short
from capsa.wire import Decide, FeedbackPost, Malformed, decode, decoded, feedback_json

SPECS = {
    "one": """
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, {name: tokens, buckets: [500, 2000]}, {name: urgent, type: flag}]
reward: {quality: 0.6, latency_ms: {weight: -0.2, budget: 2000}}
""",
    "several": """
name: router
strategies: {timeout: {options: [1s, 2s]}, retries: {options: ["0", "1", "3"]}}
valid: [{timeout: 1s}, {timeout: 2s, retries: ["0", "1"]}]
contexts: [task_type]
reward: {quality: 1}
""",
    "shadow": """
name: router
options: [a, b]
mode: shadow
contexts: [task_type]
reward: {quality: 1}
""",
    "off": """
name: router
options: [a, b]
mode: "off"
""",
    "frozen": """
name: router
options: [a, b]
rails: {freeze: true}
reward: {quality: 1}
""",
    "horizon": """
name: router
options: [a, b]
reward: {quality: 1}
horizon: {after: 1h, outcome: {quality: 0}}
""",
    "weighted": """
name: router
options: [a, b, c]
algorithm: simple_weighted
reward_range: [0, 2]
""",
}


class Twin:
    """A store whose draws and times are those of its twin."""

    def __init__(self, spec: str) -> None:
        self.now = 1_800_000_000.0
        self.store = capsa.open(seed=7, clock=lambda: self.now, upkeep=False)
        self.capsule = self.store.install(spec.encode())

    def events(self) -> list[tuple[str, bytes]]:
        """What was recorded."""
        return [(event.type, event.payload) for event in self.store.journal.read("default")]


def long_decide(twin: Twin, body: bytes) -> Any:
    """As the server decides where the short way does not."""
    asked = decoded(decode(body), Decide)
    decision = twin.capsule.decide(
        asked.input,
        context_key=asked.context_key,
        options=asked.options,
        current=asked.current,
        subject=asked.subject,
    )
    return json.loads(twin.capsule.answer(decision))


def long_feedback(twin: Twin, body: bytes) -> Any:
    """As the server takes feedback where the short way does not."""
    return feedback_json(twin.capsule.feedback(**decoded(decode(body), FeedbackPost).arguments()))


def came_of(call: Any, *arguments: Any) -> Any:
    """An answer, or the refusal that came instead."""
    try:
        return call(*arguments)
    except (capsa.CapsaError, Malformed) as error:
        return type(error).__name__, getattr(error, "pointer", None)


def short_decide(twin: Twin, other: Twin, body: bytes) -> Any:
    """The short way, with the long one behind it: as the server does it."""
    decision = _short.decide(twin.capsule, body)
    if decision is None:
        # It has used a nonce up.
        other.store._nonces.take(int(other.now * 1000))
        return long_decide(twin, body)
    return json.loads(twin.capsule.answer(decision))


def short_feedback(twin: Twin, body: bytes) -> Any:
    """As `short_decide`."""
    answer = _short.feedback(twin.capsule, body)
    return long_feedback(twin, body) if answer is None else json.loads(answer)


texts = st.text(max_size=4) | st.sampled_from(["legal", "unknown", "a|b", "%", "é" * 40, "x" * 70, "\0"])
numbers = (
    st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 3000)
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
names = st.sampled_from(["a", "b", "c", "balanced", "cheap_fast", "1s", "0", "nope", ""]) | st.integers(-1, 3)
inputs = st.dictionaries(st.sampled_from(["task_type", "tokens", "urgent"]) | texts, values, max_size=4)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "input": inputs | st.just([]) | st.none(),
        "contextKey": texts | st.just("") | st.just("k" * 300) | st.none(),
        "options": st.lists(names, max_size=3)
        | st.dictionaries(names.map(str), st.lists(names, max_size=2), max_size=2),
        "current": names
        | st.dictionaries(st.sampled_from(["timeout", "retries"]), names, max_size=2)
        | st.none(),
        "inputt": st.just(1),
    },
)
metrics = st.dictionaries(
    st.sampled_from(["quality", "latency_ms", "nope"]), st.booleans() | numbers | st.just("x"), max_size=3
)
posts = st.fixed_dictionaries(
    {},
    optional={
        "outcome": metrics
        | st.fixed_dictionaries({"quality": st.floats(0, 1), "latency_ms": st.floats(0, 2000)}),
        "reward": st.floats(-2, 3, allow_nan=False) | st.integers(-2, 3) | st.none(),
        "taken": names | st.none(),
        "option": names,
    },
)


@pytest.fixture(scope="module", params=sorted(SPECS))
def spec(request: pytest.FixtureRequest) -> str:
    """Each kind of capsule."""
    chosen: str = SPECS[request.param]
    return chosen


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(bodies, st.lists(posts, max_size=3), st.sampled_from([0, 1, 4000, 90_000, 3e6])), max_size=6
    )
)
def test_both_ways_answer_and_record_the_same(spec: str, story: list[tuple[Any, list[Any], float]]) -> None:
    """Decisions with their feedback, in time, late, in parts, again and contradicting."""
    one, other = Twin(spec), Twin(spec)
    for body, told, later_s in story:
        sent = json.dumps(body).encode()
        decided = came_of(short_decide, one, other, sent)
        assert decided == came_of(long_decide, other, sent)
        decision_id = decided.get("decisionId") if isinstance(decided, dict) else "dec_none"
        for post in told:
            one.now = other.now = one.now + later_s
            sent = json.dumps({"decisionId": decision_id, **post}).encode()
            assert came_of(short_feedback, one, sent) == came_of(long_feedback, other, sent)
    assert one.events() == other.events()
    assert one.capsule.state_hash == other.capsule.state_hash
    assert one.capsule.report().feedback == other.capsule.report().feedback


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":{"task_type":"a","task_type":"b"}}',
        b'{"contextKey":"a","contextKey":"b"}',
        b'{"input":{"x":1e999}}',
        b'{"input":{"x":' + b"[" * 20 + b"]" * 20 + b"}}",
        b'{"input":{"x":' + b"[" * 60 + b"]" * 60 + b"}}",
        b'{"input":{"x":"' + b"y" * 70_000 + b'"}}',
        b'{"input":{"x":"' + b"y" * 15_000 + b'"}}',
        b'{"input":{"x":9007199254740993}}',
        b'{"input":{"x":-0.0,"y":-0}}',
        b'\xef\xbb\xbf{"input":{}}',
        b'{"input":{}} {}',
        b'{"input":{"\\ud800":1}}',
        b"[]",
        b"",
        b" {} ",
    ],
    ids=range(15),
)
def test_odd_bodies(body: bytes) -> None:
    """What no dictionary of Python's can say."""
    one, other = Twin(SPECS["one"]), Twin(SPECS["one"])
    assert came_of(short_decide, one, other, body) == came_of(long_decide, other, body)
    assert one.events() == other.events()


def test_most_go_the_short_way() -> None:
    """Otherwise everything above compares the long way with itself."""
    twin = Twin(SPECS["one"])
    decision = _short.decide(
        twin.capsule, b'{"input":{"task_type":"a"},"options":["balanced",0],"current":0}'
    )
    assert decision is not None
    body = json.dumps({"decisionId": decision.id, "outcome": {"quality": 1, "latency_ms": 3}}).encode()
    assert _short.feedback(twin.capsule, body) is not None
    assert _short.feedback(twin.capsule, body) is None
    assert long_feedback(twin, body)["status"] == "repeated"


def given_id(twin: Twin, **more: Any) -> str:
    """The id of a new decision."""
    decision_id = twin.capsule.decide({"task_type": "a"}, **more).id
    assert decision_id is not None
    return decision_id


def forgotten(twin: Twin) -> dict[str, str]:
    """Ids of decisions that were taken away since, in each way there is."""
    purged_tenant = given_id(twin)
    twin.store.purge("default")
    twin.now += 1
    twin.capsule = twin.store.install(SPECS["one"].encode())
    deleted = given_id(twin)
    twin.capsule.delete()
    twin.capsule = twin.store.install(SPECS["one"].encode())
    logs = given_id(twin)
    twin.capsule.purge_logs()
    # Otherwise it is as old as what was purged, which would be enough to know.
    twin.now += 1
    erased = given_id(twin, subject="ann")
    twin.store.erase_subject("ann")
    return {"tenant": purged_tenant, "capsule": deleted, "logs": logs, "subject": erased}


def test_the_short_way_knows_what_was_taken_away() -> None:
    """Each of these would otherwise be learned: its id still opens."""
    twin = Twin(SPECS["one"])
    ids = forgotten(twin)
    state = twin.capsule.state_hash
    for way, decision_id in ids.items():
        body = json.dumps({"decisionId": decision_id, "outcome": {"quality": 1, "latency_ms": 3}}).encode()
        assert _short.feedback(twin.capsule, body) is None, way
        with pytest.raises(capsa.UnknownDecision):
            long_feedback(twin, body)
    assert twin.capsule.state_hash == state
    twin.now += 1
    body = json.dumps({"decisionId": given_id(twin), "outcome": {"quality": 1, "latency_ms": 3}}).encode()
    assert _short.feedback(twin.capsule, body) is not None


def test_what_is_valued_while_the_settings_change_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen in between: nothing is learned by what was worked out before."""
    twin = Twin(SPECS["one"])
    body = json.dumps({"decisionId": given_id(twin), "outcome": {"quality": 1, "latency_ms": 3}}).encode()
    row = twin.store._ledger.row

    def changed_meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        twin.capsule.update_learning(rails={"freeze": True})
        return row(*arguments)

    monkeypatch.setattr(twin.store._ledger, "row", changed_meanwhile)
    assert _short.feedback(twin.capsule, body) is None
    assert short_feedback(twin, body)["status"] == "frozen"


@pytest.mark.parametrize(("spec_name", "waits"), [("one", 0), ("horizon", 1)])
def test_a_decision_with_a_declared_outcome_is_on_disk_first(
    tmp_path: Path, spec_name: str, waits: int
) -> None:
    """Its id does not say everything that feedback needs."""

    async def scene() -> None:
        async with capsa.AsyncStore(tmp_path / "store") as store:
            capsule = await store.install(SPECS[spec_name].encode())
            asked = []
            when_durable = store.sync.journal.when_durable

            def counted(call: Any) -> None:
                asked.append(call)
                when_durable(call)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(store.sync.journal, "when_durable", counted)
                decision = await capsule.decide_body(b"{}")
            assert decision is not None
            assert len(asked) == waits
            durable = store.sync.journal.durable("default")
            assert waits == 0 or durable == decision.sequence

    asyncio.run(scene())
