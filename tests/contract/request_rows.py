"""Every wrong thing in a request: sections 3 (decide) and 4 (feedback) of the contract, and names."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.contract.world import Row, World

import capsa

NAN, INF = math.nan, math.inf
LONG_KEY = "k" * 257


def decide(
    id_: str, error: type[BaseException], pointer: str, detail: str = "", remedy: str = "", **call: Any
) -> Row:
    def run(world: World) -> object:
        return world.router.decide(call.get("input"), **{k: v for k, v in call.items() if k != "input"})

    return Row(f"decide: {id_}", run, error, pointer, detail, remedy)


def retries(
    id_: str, error: type[BaseException], pointer: str, detail: str = "", remedy: str = "", **call: Any
) -> Row:
    return Row(f"joint: {id_}", lambda world: world.retries.decide(**call), error, pointer, detail, remedy)


def feedback(
    id_: str, error: type[BaseException], pointer: str, detail: str = "", remedy: str = "", **post: Any
) -> Row:
    return Row(
        f"feedback: {id_}", lambda w: w.router.feedback(w.routed, **post), error, pointer, detail, remedy
    )


def explicit(
    id_: str, error: type[BaseException], pointer: str, detail: str = "", remedy: str = "", **post: Any
) -> Row:
    return Row(
        f"explicit: {id_}", lambda world: world.router.feedback(**post), error, pointer, detail, remedy
    )


def on(
    id_: str,
    call: Callable[[World], object],
    error: type[BaseException],
    pointer: str | None,
    detail: str = "",
    remedy: str = "",
) -> Row:
    return Row(id_, call, error, pointer, detail, remedy)


def nested(depth: int) -> dict[str, Any]:
    """An object that is `depth` deep."""
    value: dict[str, Any] = {"x": 1}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["x"] = value
    return value


def endless_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


Invalid = capsa.InvalidField

_INPUTS = [
    decide("input is a list", Invalid, "/input", "not a mapping", "by name", input=["legal"]),
    decide("input is a text", Invalid, "/input", "not a mapping", input="legal"),
    decide("input is a number", Invalid, "/input", "not a mapping", input=5),
    decide("a name is a number", Invalid, "/input", "names a field", "text", input={1: 2}),
    decide("a name is half a surrogate pair", Invalid, "/input", "surrogate", "unicode", input={"\ud800": 1}),
    decide("bytes", Invalid, "/input/task_type", "JSON does not have", "texts", input={"task_type": b"legal"}),
    decide("a set", Invalid, "/input/x", "JSON does not have", input={"x": {1}}),
    decide("a date", Invalid, "/input/x", "JSON does not have", input={"x": dt.date(2026, 1, 1)}),
    decide("a decimal", Invalid, "/input/x", "JSON does not have", input={"x": Decimal("0.1")}),
    decide("a complex number", Invalid, "/input/x", "JSON does not have", input={"x": 1j}),
    decide("an object", Invalid, "/input/x", "JSON does not have", input={"x": object()}),
    decide("a text of half a surrogate pair", Invalid, "/input/task_type", "surrogate", input={"task_type": "a\udfff"}),
    decide("2^53 + 1", Invalid, "/input/x", "64-bit float", "text", input={"x": 2**53 + 1}),
    decide("-2^53 - 1", Invalid, "/input/tokens", "64-bit float", "text", input={"tokens": -(2**53) - 1}),
    decide("a huge integer", Invalid, "/input/x", "64-bit float", "text", input={"x": 10**400}),
    decide("NaN", Invalid, "/input/tokens", "finite", "finite", input={"tokens": NAN}),
    decide("infinity", Invalid, "/input/tokens", "finite", "finite", input={"tokens": INF}),
    decide("minus infinity in no context", Invalid, "/input/x", "finite", input={"x": -INF}),
    decide("NaN in a list", Invalid, "/input/x", "finite", input={"x": [1.0, NAN]}),
    decide("numbers and texts in a list", Invalid, "/input/x", "mixes", "only", input={"x": [1, "a"]}),
    decide("texts and numbers in a list", Invalid, "/input/x", "mixes", input={"x": ["a", 1]}),
    decide("flags in a list", Invalid, "/input/x", "list", input={"x": [True]}),
    decide("lists in a list", Invalid, "/input/x", "list", input={"x": [[1]]}),
    decide("objects in a list", Invalid, "/input/x", "list", input={"x": [{}]}),
    decide("null in a list", Invalid, "/input/x", "list", input={"x": [None]}),
    decide("a pointer escapes its names", Invalid, "/input/a~1b/c~0d", "finite", input={"a/b": {"c~d": NAN}}),
    decide("17 deep", Invalid, "/input" + "/x" * 16, "16 deep", input=nested(17)),
    decide("1000 deep", Invalid, "/input" + "/x" * 64, "deep", input=nested(1000)),
    decide("an object in itself", Invalid, "/input" + "/x" * 64, "deep", input=endless()),
    decide("a list in itself", Invalid, "/input/x", "", input={"x": endless_list()}),
    decide("more than 64 KiB", Invalid, "/input", "65536 bytes", input={"x": "y" * 65536}),
    decide("more than 64 KiB in small fields", Invalid, "/input", "65536 bytes", input={f"{n:05}": 1.0 for n in range(6000)}),
    decide("a category of 65 bytes", Invalid, "/input/task_type", "65 bytes", "short", input={"task_type": "x" * 65}),
    decide("a category of 66 bytes in 33 characters", Invalid, "/input/task_type", "66 bytes", input={"task_type": "ü" * 33}),
    decide("a number too long for a category", Invalid, "/input/task_type", "bytes", input={"task_type": 1e300}),
    decide("a flag for a category", Invalid, "/input/task_type", "a flag", "text", input={"task_type": True}),
    decide("a list for a category", Invalid, "/input/customer_tier", "a list", input={"customer_tier": ["free"]}),
    decide("a text for a number", Invalid, "/input/tokens", "a text", "number", input={"tokens": "500"}),
    decide("a flag for a number", Invalid, "/input/tokens", "a flag", "number", input={"tokens": True}),
    decide("a list for a number", Invalid, "/input/tokens", "a list", input={"tokens": [500]}),
    decide("a text for a flag", Invalid, "/input/urgent", "a text", "true or false", input={"urgent": "no"}),
    decide("a number for a flag", Invalid, "/input/urgent", "a number", "true or false", input={"urgent": 1}),
]  # fmt: skip

_ASKED = [
    decide("an empty context key", Invalid, "/contextKey", "0 bytes", "1 to 256", context_key=""),
    decide("a context key of 257 bytes", Invalid, "/contextKey", "257 bytes", "1 to 256", context_key=LONG_KEY),
    decide("a context key of 258 bytes in 129 characters", Invalid, "/contextKey", "258", context_key="ü" * 129),
    decide("half a surrogate pair in a context key", Invalid, "/contextKey", "surrogate", context_key="\ud800"),
    decide("no options", Invalid, "/options", "empty", "leave it out", options=[]),
    decide("options is a text", Invalid, "/options", "not a list", "list", options="balanced"),
    decide("options is a number", Invalid, "/options", "not a list", options=1),
    decide("options is a set", Invalid, "/options", "not a list", options={"balanced"}),
    decide("an unknown option", capsa.UnknownOption, "/options/1", "ballanced", "balanced", options=["balanced", "ballanced"]),
    decide("an option's number is too large", capsa.UnknownOption, "/options/0", "3", "cheap_fast", options=[3]),
    decide("an option's number is negative", capsa.UnknownOption, "/options/0", "-1", options=[-1]),
    decide("an option's number is huge", capsa.UnknownOption, "/options/0", "", options=[2**70]),
    decide("an empty option", capsa.UnknownOption, "/options/0", '""', options=[""]),
    decide("options differ in case", capsa.UnknownOption, "/options/0", "Balanced", options=["Balanced"]),
    decide("an option is a flag", Invalid, "/options/0", "not an option", "name or number", options=[True]),
    decide("an option is a fraction", Invalid, "/options/0", "not an option", options=[1.0]),
    decide("an option is null", Invalid, "/options/1", "not an option", options=[0, None]),
    decide("an option is a list", Invalid, "/options/0", "not an option", options=[["balanced"]]),
    decide("options of an unknown strategy", capsa.UnknownStrategy, "/options", "other", "choice", options={"other": [0]}),
    decide("options of a strategy by number", Invalid, "/options", "strategy", options={0: [0]}),
    decide("options of a strategy are no list", Invalid, "/options/choice", "not a list", options={"choice": 0}),
    decide("an unknown current", capsa.UnknownOption, "/current", "dear", "cheap_fast", current="dear"),
    decide("an unknown current by number", capsa.UnknownOption, "/current", "3", current=3),
    decide("current is a flag", Invalid, "/current", "not an option", current=True),
    decide("current is a list", Invalid, "/current", "not an option", current=["balanced"]),
    decide("current is not allowed", Invalid, "/current", "not among the allowed", "leave it out", current="balanced", options=[0]),
    decide("current of an unknown strategy", capsa.UnknownStrategy, "/current", "other", current={"other": 0}),
    retries("options for no strategy", Invalid, "/options", "which strategy", "timeout", options=["1s"]),
    retries("an unknown option", capsa.UnknownOption, "/options/timeout/0", "1m", "1s", options={"timeout": ["1m"]}),
    retries("no options of a strategy", Invalid, "/options/timeout", "empty", options={"timeout": []}),
    retries("an unknown strategy", capsa.UnknownStrategy, "/options/timeouts", "timeouts", "timeout", options={"timeouts": ["1s"]}),
    retries("nothing valid is allowed", capsa.NoAllowedOption, "/options", "no option", "allow", options={"timeout": ["2s"], "retries": ["3"]}),
    retries("current for no strategy", Invalid, "/current", "which strategy", current="1s"),
    retries("current lacks a strategy", Invalid, "/current", "retries", "every strategy", current={"timeout": "1s"}),
    retries("current is not valid", Invalid, "/current", "not among the allowed", current={"timeout": "2s", "retries": "3"}),
    retries("an unknown option in current", capsa.UnknownOption, "/current/retries", "2", current={"timeout": "1s", "retries": "2"}),
]  # fmt: skip

_FEEDBACK = [
    on("feedback: nothing is said", lambda w: w.router.feedback(), Invalid, "/decisionId", "neither", "decisionId"),
    on("feedback: a strategy alone", lambda w: w.router.feedback(strategy=0, reward=1), Invalid, "/decisionId", "neither"),
    on("feedback: an invented id", lambda w: w.router.feedback("dec_" + "0" * 32, reward=1), capsa.UnknownDecision, "/decisionId", "no decision", "as decide gave it"),
    on("feedback: no id at all", lambda w: w.router.feedback("hello", reward=1), capsa.UnknownDecision, "/decisionId"),
    on("feedback: an empty id", lambda w: w.router.feedback("", reward=1), capsa.UnknownDecision, "/decisionId"),
    on("feedback: an id in capitals", lambda w: w.router.feedback("dec_" + w.routed[4:].upper() + "A", reward=1), capsa.UnknownDecision, "/decisionId"),
    on("feedback: an id and more", lambda w: w.router.feedback(w.routed + "0", reward=1), capsa.UnknownDecision, "/decisionId"),
    on("feedback: an id with other digits", lambda w: w.router.feedback("dec_" + "٣" * 32, reward=1), capsa.UnknownDecision, "/decisionId"),
    on("feedback: an id that is a number", lambda w: w.router.feedback(5, reward=1), capsa.UnknownDecision, "/decisionId"),  # type: ignore[arg-type]
    on("feedback: another capsule's id", lambda w: w.router.feedback(w.plainly, reward=1), capsa.UnknownDecision, "/decisionId"),
    feedback("no reward", capsa.RewardMissing, "/outcome", "neither", "reward"),
    feedback("an empty outcome", capsa.RewardMissing, "/outcome", "neither", outcome={}),
    feedback("outcome and reward", Invalid, "/reward", "both", outcome={"quality": 1}, reward=1),
    feedback("outcome is a list", Invalid, "/outcome", "not a mapping", "by name", outcome=[1]),
    feedback("outcome is a number", Invalid, "/outcome", "not a mapping", outcome=0.5),
    feedback("outcome is a text", Invalid, "/outcome", "not a mapping", outcome="good"),
    feedback("a metric's name is a number", Invalid, "/outcome", "not a text", outcome={1: 0.5}),
    feedback("an unknown metric", capsa.UnknownMetric, "/outcome/qualty", "quality", "latency_ms", outcome={"qualty": 1}),
    feedback("an unknown metric beside a known one", capsa.UnknownMetric, "/outcome/speed~1x", "speed/x", outcome={"quality": 1, "speed/x": 1}),
    feedback("a share above 1", capsa.MetricOutOfRange, "/outcome/quality", "1.1", "budget: or range:", outcome={"quality": 1.1}),
    feedback("a share below 0", capsa.MetricOutOfRange, "/outcome/quality", "-0.1", "budget: or range:", outcome={"quality": -0.1}),
    feedback("a negative metric with a budget", capsa.MetricOutOfRange, "/outcome/latency_ms", "-1", "budget:", outcome={"latency_ms": -1}),
    feedback("above a range", capsa.MetricOutOfRange, "/outcome/cost_usd", "0.03", "range:", outcome={"cost_usd": 0.03}),
    feedback("below a range", capsa.MetricOutOfRange, "/outcome/cost_usd", "-0.0001", "range:", outcome={"cost_usd": -0.0001}),
    feedback("one metric of three out of range", capsa.MetricOutOfRange, "/outcome/cost_usd", "1", outcome={"quality": 1, "latency_ms": 1, "cost_usd": 1}),
    feedback("a metric is NaN", Invalid, "/outcome/quality", "finite", "finite", outcome={"quality": NAN}),
    feedback("a metric is infinite", Invalid, "/outcome/latency_ms", "finite", outcome={"latency_ms": INF}),
    feedback("a metric is a text", Invalid, "/outcome/quality", "not a number", "number", outcome={"quality": "good"}),
    feedback("a metric is null", Invalid, "/outcome/quality", "not a number", outcome={"quality": None}),
    feedback("a metric is a list", Invalid, "/outcome/quality", "not a number", outcome={"quality": [1]}),
    feedback("a metric is beyond 2^53", Invalid, "/outcome/latency_ms", "64-bit float", outcome={"latency_ms": 2**53 + 1}),
    feedback("a reward above its range", capsa.RewardOutOfRange, "/reward", "1.5", "reward_range:", reward=1.5),
    feedback("a reward below its range", capsa.RewardOutOfRange, "/reward", "-2", "reward_range:", reward=-2),
    feedback("a reward is NaN", Invalid, "/reward", "finite", reward=NAN),
    feedback("a reward is infinite", Invalid, "/reward", "finite", reward=INF),
    feedback("a reward is a text", Invalid, "/reward", "not a number", "number", reward="1"),
    feedback("a reward is a list", Invalid, "/reward", "not a number", reward=[1]),
    feedback("a reward is complex", Invalid, "/reward", "not a number", reward=1j),
    feedback("a reward is a decimal", Invalid, "/reward", "not a number", reward=Decimal("0.5")),
    feedback("a reward is beyond 2^53", Invalid, "/reward", "64-bit float", reward=2**53 + 1),
    on("feedback: a reward below 0 to 1", lambda w: w.plain.feedback(w.plainly, reward=-0.001), capsa.RewardOutOfRange, "/reward", "-0.001", "reward_range:"),
    on("feedback: an outcome without declared metrics", lambda w: w.plain.feedback(w.plainly, outcome={"quality": 1}), capsa.CapsuleRefused, None, ""),
    feedback("taken is unknown", capsa.UnknownOption, "/taken", "dear", "balanced", reward=1, taken="dear"),
    feedback("taken is an unknown number", capsa.UnknownOption, "/taken", "3", reward=1, taken=3),
    feedback("taken is a flag", Invalid, "/taken", "not an option", reward=1, taken=True),
    feedback("taken is a list", Invalid, "/taken", "not an option", reward=1, taken=["balanced"]),
    feedback("taken is of an unknown strategy", capsa.UnknownStrategy, "/taken", "other", reward=1, taken={"other": "balanced"}),
    on("feedback: taken lacks a strategy", lambda w: w.retries.feedback(w.retried, reward=1, taken={"timeout": "1s"}), Invalid, "/taken", "retries", "every strategy"),
    on("feedback: taken for no strategy", lambda w: w.retries.feedback(w.retried, reward=1, taken="1s"), Invalid, "/taken", "which strategy"),
    on("feedback: taken with an unknown option", lambda w: w.retries.feedback(w.retried, reward=1, taken={"timeout": "1s", "retries": 3}), capsa.UnknownOption, "/taken/retries"),
    feedback("an id and an option", Invalid, "/option", "stand with a decision id", "taken", reward=1, option="balanced"),
    feedback("an id and a strategy", Invalid, "/option", "stand with a decision id", reward=1, strategy=0),
    feedback("an id and a context key", Invalid, "/option", "stand with a decision id", reward=1, context_key="k"),
    explicit("an unknown option", capsa.UnknownOption, "/option", "dear", "balanced", option="dear", reward=1, context_key="k"),
    explicit("an unknown number", capsa.UnknownOption, "/option", "3", option=3, reward=1, context_key="k"),
    explicit("an option is a flag", Invalid, "/option", "not an option", option=False, reward=1, context_key="k"),
    explicit("an unknown strategy", capsa.UnknownStrategy, "/strategyId", "other", "choice", strategy="other", option=0, reward=1, context_key="k"),
    explicit("an unknown strategy's number", capsa.UnknownStrategy, "/strategyId", "1", "choice", strategy=1, option=0, reward=1, context_key="k"),
    explicit("a strategy is a flag", Invalid, "/strategyId", "", strategy=True, option=0, reward=1, context_key="k"),
    explicit("no reward", capsa.RewardMissing, "/reward", "missing", "reward", option=0, context_key="k"),
    explicit("an outcome", Invalid, "/outcome", "decision id", option=0, outcome={"quality": 1}, context_key="k"),
    explicit("taken", Invalid, "/taken", "decision id", option=0, reward=1, taken="balanced", context_key="k"),
    explicit("a reward out of range", capsa.RewardOutOfRange, "/reward", "1.5", option=0, reward=1.5, context_key="k"),
    explicit("a reward is NaN", Invalid, "/reward", "finite", option=0, reward=NAN, context_key="k"),
    explicit("no context key", Invalid, "/contextKey", "missing", "default", option=0, reward=1),
    explicit("an empty context key", Invalid, "/contextKey", "0 bytes", option=0, reward=1, context_key=""),
    explicit("a context key of 257 bytes", Invalid, "/contextKey", "257", option=0, reward=1, context_key=LONG_KEY),
    on("explicit: no strategy of several", lambda w: w.retries.feedback(option="1s", reward=1, context_key="k"), Invalid, "/strategyId", "missing", "timeout"),
    on("explicit: an option of another strategy", lambda w: w.retries.feedback(strategy="retries", option="1s", reward=1, context_key="k"), capsa.UnknownOption, "/option", "1s"),
]  # fmt: skip

_NAMES = [
    on("an unknown capsule", lambda w: w.store.capsule("rooter"), capsa.UnknownCapsule, None, "rooter", "install"),
    on("a capsule of another job", lambda w: w.store.job("other").capsule("router"), capsa.UnknownJob, None, "no job 'other' in default", "make it"),
    on("a capsule of another tenant", lambda w: w.store.tenant("acme").job("default").capsule("router"), capsa.UnknownTenant, None, "no tenant 'acme'", "install"),
    *(
        on(f"{what} named {name!r:.12}", lambda w, what=what, name=name: getattr(w.store, what)(name), Invalid, f"/{what}", "cannot be the name", "a-z")  # type: ignore[misc]
        for what in ("tenant", "job")
        for name in ("", "Acme", "a/b", "a b", "-a", "_a", "x" * 65, "é", "²", "a\n", "..", 5, None)
    ),
    *(
        on(f"contexts: limit {limit!r}", lambda w, limit=limit: w.router.contexts(limit=limit), Invalid, "/limit", "limit", "1 to 1000")  # type: ignore[misc]
        for limit in (0, -1, 1001, 2**70, True, "5", 1.5, None)
    ),
]  # fmt: skip

ROWS = [*_INPUTS, *_ASKED, *_FEEDBACK, *_NAMES]
