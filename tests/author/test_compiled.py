"""What a spec compiles to, three ways: through Capsa, through the PyPI `wasmtime` package, interpreted."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import wasmtime
from hypothesis import given, note
from hypothesis import strategies as st
from tests.author import spec_strategies as generated
from tests.reference import spec_interpreter as interpreter
from tests.reference.component_oracle import GuestError, Made, Oracle
from tests.reference.yaml_text import to_yaml

import capsa
from capsa import _native

LLM_ROUTER = """\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency: -0.2, cost: -0.2}
"""


@given(data=st.data(), plain=st.booleans())
def test_the_context_key_is_that_of_the_interpreter(
    store: capsa.Store, data: st.DataObject, plain: bool
) -> None:
    """Through `decide` and through `frame` alike: the same key, or an error in all three."""
    spec = data.draw(generated.specs())
    text = to_yaml(spec, plain=plain)
    note(text)
    component = _native.compile_spec(text)
    oracle = Oracle(component)
    capsule = _installed(store, component)
    for _ in range(4):
        value = data.draw(generated.inputs(spec))
        note(repr(value))
        _check_key(spec, capsule, oracle, value)


EVERY_KIND: dict[str, Any] = {
    "name": "every-kind",
    "options": ["a", "b"],
    "contexts": [
        "free",
        {
            "name": "listed",
            "values": list(dict.fromkeys([*generated.AWKWARD, "1", "0.5", "500", "1e21", "-1"])),
        },
        {"name": "in.nested", "buckets": [-1e300, -0.5, -0.0, 5e-324, 0.1, 500, 1e21]},
        {"name": "flagged", "type": "flag"},
        {"name": "more", "type": "category"},
        "dot\\.ted\\\\name",
    ],
    "reward": {
        "share": 0.5,
        "spent": {"weight": -0.25, "budget": 2000},
        "ranged": {"weight": 0.125, "range": [-1, 3]},
        "on the edge|%": {"weight": 1e-9, "budget": 5e-324},
    },
}


def test_every_awkward_value(store: capsa.Store) -> None:
    """Each awkward text and number, in each kind of context, on one component."""
    component = _native.compile_spec(to_yaml(EVERY_KIND))
    capsule, oracle = _installed(store, component), Oracle(component)
    values: list[Any] = [
        *generated.AWKWARD,
        *generated.TOO_LONG,
        "",
        *generated.NUMBERS,
        True,
        False,
        None,
        [],
        ["a"],
        [1.0],
    ]
    inputs: list[dict[str, Any]] = [
        {name: value} for value in values for name in ("free", "listed", "flagged")
    ]
    inputs += [{"in": {"nested": value}} for value in values]
    inputs += [
        {"dot.ted\\name": "here"},
        {"dot": {"ted\\name": "elsewhere"}},
        {"dot\\.ted\\\\name": "nowhere"},
    ]
    inputs += [{"in.nested": 1.0}, {"in": {"nested": 1.0, "other": 2.0}}, {"in": 1.0}, {"in": {}}, {}]
    for edge in EVERY_KIND["contexts"][2]["buckets"]:
        near = (math.nextafter(edge, math.inf), edge, math.nextafter(edge, -math.inf))
        inputs += [{"in": {"nested": value}} for value in near if math.isfinite(value)]
    # Keys around 256 bytes: three categories of 64 bytes, and separators, labels and a fourth category.
    long = {"free": "x" * 64, "listed": "a" * 64, "in": {"nested": 1.0}, "flagged": True}
    inputs += [long | {"more": "%" * count} for count in range(22)]
    inputs += [{"free": "%" * 64, "more": "|" * count} for count in range(10, 20)]
    for value in inputs:
        _check_key(EVERY_KIND, capsule, oracle, value)


def _check_key(spec: dict[str, Any], capsule: capsa.Capsule, oracle: Oracle, value: dict[str, Any]) -> None:
    """All three ways agree on one input."""
    try:
        key = interpreter.context_key(spec, value)
    except interpreter.Refused as refusal:
        with pytest.raises(capsa.InvalidField) as caught:
            capsule.decide(value)
        if refusal.kind == "invalid_field":
            _check_pointer(caught.value, refusal.field)
        _check_frame_refuses(oracle, value)
        return
    assert capsule.decide(value).context_key == key, value
    frames = oracle.frame(interpreter.flatten(value))
    assert [frame.strategy for frame in frames] == list(interpreter.strategies(spec))
    for frame in frames:
        is_digest = key.startswith("#") and len(frame.key.encode()) > interpreter.MAX_KEY_BYTES
        assert frame.key == key or is_digest
        assert (frame.features, frame.allowed, frame.candidates) == ([], None, [])


def _installed(store: capsa.Store, component: bytes) -> capsa.Capsule:
    """Every component in a job of its own: equal names do not meet."""
    return store.job("j" + _native.digest(component)[3:35]).install(component)


def _check_pointer(error: capsa.InvalidField, field: str) -> None:
    """The pointer names the field at fault, whichever way it was nested."""
    pointer = (error.pointer or "").replace("~1", "/").replace("~0", "~").removeprefix("/input/")
    unnested = field.replace("\\.", ".").replace("\\\\", "\\")
    assert pointer.replace("/", ".") in (field.replace("/", "."), unnested.replace("/", "."))


def _check_frame_refuses(oracle: Oracle, value: dict[str, Any]) -> None:
    """Where the input can be sent to the guest at all, the guest refuses it as well."""
    try:
        fields = interpreter.flatten(value)
    except interpreter.Refused:
        return
    with pytest.raises(GuestError):
        oracle.frame(fields)


@given(data=st.data())
def test_the_reward_is_that_of_the_interpreter(store: capsa.Store, data: st.DataObject) -> None:
    """Through `feedback` and through `reward` alike: the same number, or an error in all three."""
    spec = data.draw(generated.specs()) | data.draw(generated.rewards())
    component = _native.compile_spec(to_yaml(spec))
    capsule, oracle = _installed(store, component), Oracle(component)
    for _ in range(4):
        outcome = data.draw(generated.outcomes(spec))
        note(repr(outcome))
        _check_reward(spec, capsule, oracle, outcome)


def test_every_awkward_outcome(store: capsa.Store) -> None:
    """Each number at and around each scale's ends, flags, missing and unknown metrics, on one component."""
    component = _native.compile_spec(to_yaml(EVERY_KIND))
    capsule, oracle = _installed(store, component), Oracle(component)
    inside = {"share": 0.5, "spent": 1000, "ranged": 0, "on the edge|%": 0}
    ends = [-1.0, 0.0, 1.0, 3.0, 2000.0, 5e-324, 0.25]
    near = [math.nextafter(end, end + side) for end in ends for side in (-math.inf, math.inf)]
    for name in inside:
        for value in [*ends, *near, -0.0, -0.5, True, False, *generated.NUMBERS]:
            _check_reward(EVERY_KIND, capsule, oracle, inside | {name: value})
        _check_reward(EVERY_KIND, capsule, oracle, {other: 0 for other in inside if other != name})
    for unknown in ("Share", "shar", "share ", "", "on the edge"):
        _check_reward(EVERY_KIND, capsule, oracle, inside | {unknown: 0.5})


def _check_reward(
    spec: dict[str, Any], capsule: capsa.Capsule, oracle: Oracle, outcome: dict[str, Any]
) -> None:
    """All three ways agree on one outcome."""
    decision = capsule.decide(context_key="k")
    assert decision.id is not None
    made = [Made(strategy, option, "k", decision.propensity) for strategy, option in decision.choices.items()]
    fields = {name: value if isinstance(value, bool) else float(value) for name, value in outcome.items()}
    try:
        expected = interpreter.reward(spec, outcome)
    except interpreter.Refused as refusal:
        with pytest.raises(GuestError):
            oracle.reward(fields, made)
        if refusal.kind == "missing":
            return
        with pytest.raises((capsa.MetricOutOfRange, capsa.UnknownMetric, capsa.InvalidField)) as caught:
            capsule.feedback(decision.id, outcome=outcome)
        assert caught.value.pointer is not None
        assert caught.value.pointer.startswith("/outcome/")
        return
    low, high = interpreter.reward_range(spec)
    within = 1e-12 * (high - low)
    feedback = capsule.feedback(decision.id, outcome=outcome)
    assert feedback.status == "applied"
    assert feedback.reward == pytest.approx(expected, abs=within, rel=0)
    assert feedback.reward is not None
    assert low <= feedback.reward <= high
    assert oracle.reward(fields, made) == pytest.approx(feedback.reward, abs=within, rel=0)
    assert sum(feedback.parts.values()) == pytest.approx(expected, abs=within, rel=0)


@given(spec=generated.specs(), plain=st.booleans())
def test_a_component_says_what_it_is(spec: dict[str, Any], plain: bool) -> None:
    """Equal specs give equal bytes; nothing is imported; the definition reads back as it was declared."""
    text = to_yaml(spec, plain=plain)
    component = _native.compile_spec(text)
    assert _native.compile_spec(to_yaml(spec, plain=not plain)) == component
    facts = _native.inspect_component(component)
    assert facts["size_bytes"] == len(component)
    assert facts["digest"] == _native.digest(component)
    oracle = Oracle(component)
    assert not [name for name in oracle.imports() if "types" not in name]
    assert {"frame", "reward"} <= set(oracle.exports())
    declared = json.loads(_native.spec_definition(text))
    assert facts["definition"] is not None
    assert json.loads(facts["definition"]) == declared
    assert {s["name"]: s["options"] for s in declared["strategies"]} == interpreter.strategies(spec)
    assert [context["name"] for context in declared.get("contexts", [])] == [
        context["name"] for context in interpreter.contexts(spec)
    ]
    for context, wanted in zip(declared.get("contexts", []), interpreter.contexts(spec), strict=True):
        assert context.get("values") == wanted.get("values")
        assert context.get("buckets") == wanted.get("buckets")
    metrics = {name: dict(metric) for name, metric in declared.get("reward", {}).items()}
    assert metrics == interpreter.metrics(spec)
    filled = json.loads(_native.filled_definition(facts["definition"]))
    low, high = interpreter.reward_range(spec)
    assert filled["rewardRange"] == [low, high]
    assert (filled["mode"], filled["maxContexts"], filled["logInput"]) == ("live", 10_000, "contexts")
    assert (filled["rails"]["minExploration"], filled["rails"]["freeze"]) == (0.02, False)
    assert filled["horizon"] == {"afterSeconds": 30 * 86400}
    for strategy in filled["strategies"]:
        assert strategy["algorithm"] == "thompson"
        assert strategy["baseline"] == spec.get("baseline", strategy["options"][0])


@given(spec=generated.specs())
def test_the_readable_text_assembles(spec: dict[str, Any]) -> None:
    """What `--wat-out` writes is a core module that exports what the world needs, and imports nothing."""
    module = wasmtime.Module(wasmtime.Engine(), bytes(wasmtime.wat2wasm(_native.spec_wat(to_yaml(spec)))))
    assert not module.imports
    exported = {export.name for export in module.exports}
    assert {"memory", "cabi_realloc"} <= exported
    assert any(name.endswith("frame") for name in exported)
    assert any(name.endswith("reward") for name in exported)


def test_the_llm_router_is_small() -> None:
    """The short form of the contract's example, three categories.

    The aim of 2,048 bytes was missed; ARCHITECTURE.md says what takes the room. It must not grow.
    """
    component = _native.compile_spec(LLM_ROUTER)
    assert len(component) <= 2740
    (choice,) = Oracle(component).frame({"task_type": "legal", "customer_tier": "free", "urgency": "high"})
    assert (choice.strategy, choice.key) == ("choice", "legal|free|high")


def test_the_contract_key_example(store: capsa.Store) -> None:
    """`legal|enterprise|500-2000|no`, as the contract writes it."""
    spec = LLM_ROUTER.replace(
        "[task_type, customer_tier, urgency]",
        "[task_type, {name: customer_tier, values: [free, standard, enterprise]}, "
        "{name: tokens, buckets: [500, 2000, 8000]}, {name: urgent, type: flag}]",
    )
    capsule = store.install(spec)
    given_input = {"task_type": "legal", "customer_tier": "enterprise", "tokens": 1800, "urgent": False}
    assert capsule.decide(given_input).context_key == "legal|enterprise|500-2000|no"
    assert capsule.decide(given_input | {"tokens": 500}).context_key == "legal|enterprise|500-2000|no"
    assert capsule.decide(given_input | {"tokens": 8000}).context_key == "legal|enterprise|>=8000|no"
    missing = capsule.decide({"customer_tier": "gold", "task_type": "unknown"})
    assert missing.context_key == "%75nknown|other|unknown|unknown"
    assert len(missing.warnings) == 3
    assert "customer_tier" in "\n".join(missing.warnings)


def test_an_empty_text_is_a_category_like_any_other(store: capsa.Store) -> None:
    """The key that it makes can be learned in, seen and asked for."""
    capsule = store.install("name: bare\noptions: [a, b]\ncontexts: [tier]\n")
    decision = capsule.decide({"tier": ""})
    assert decision.id is not None
    assert capsule.feedback(decision.id, reward=1.0).status == "applied"
    assert [row.context_key for row in capsule.contexts()] == [decision.context_key]
    assert capsule.decide({"tier": ""}).context_key == decision.context_key
