"""What schemathesis is told in code: CBOR, ids that exist, capsules that come back, and one check of our own."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import deque
from typing import Any, Final

import cbor2
import schemathesis
import urllib3
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase
from tests.server.hostile.attack import ECHO
from tests.server.serving import INPUT, KEY, ROUTER, SPEC
from tests.server.tools import DETERMINISTIC, compensable

URL: Final = "CAPSA_FUZZ_URL"
_pool = urllib3.PoolManager(retries=False, timeout=30)
#: Decisions that await feedback.
_ids: deque[str] = deque(maxlen=64)
#: Calls of the tool that were recorded.
_calls: deque[str] = deque(maxlen=64)
#: A tool whose policy is set to anything, and which is not called.
ALLOWED: Final = ECHO.replace("echo", "allowed")
#: The capsule that an operation is about, where it is not the router.
_ABOUT: Final = {
    **dict.fromkeys(("invoke", "compensate", "invocations", "invocation", "replayInvocation"), "echo"),
    **dict.fromkeys(("policy", "putPolicy", "explainPolicy"), "allowed"),
}
#: Requests so far, for names that are new.
_numbers = itertools.count(1)


def _call(method: str, path: str, body: bytes) -> Any:
    answered = _pool.request(
        method, os.environ[URL] + path, body=body, headers={"Authorization": f"Bearer {KEY}"}
    )
    assert answered.status == 200, answered.data
    return json.loads(answered.data)


@schemathesis.serializer("application/cbor")
def _to_cbor(_context: Any, value: Any) -> Any:
    return value if isinstance(value, bytes) else cbor2.dumps(_untagged(value))


def _untagged(value: Any) -> Any:
    """The value with integers of more than 64 bits as floats: CBOR writes them with a tag, which we do not read."""
    if isinstance(value, dict):
        return {_untagged(name): _untagged(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if isinstance(value, int) and not -(2**64) <= value < 2**64:
        return float(value)
    return value


@schemathesis.deserializer("application/cbor")
def _from_cbor(_context: Any, response: Any) -> Any:
    return cbor2.loads(response.content)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Gives well-formed requests what no schema knows, so that they reach what lies behind the first look.

    That is ids of decisions and calls that were made, and names, keys and versions that are (or are not) there yet.
    One in four goes as it is.
    """
    if case.meta is None:
        return
    _go_where_something_is(case)
    if not case.meta.generation.mode.is_positive:
        return
    headers = case.headers if case.headers is not None else {}
    if headers.get("If-Match") == "0":
        # What schemathesis 4.32 takes for a match of the pattern, in the coverage phase; it is none.
        headers["If-Match"] = '"0"'
    number = next(_numbers)
    if number % 4 == 0:
        return
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = f"key-{number}"
    if "If-Match" in headers:
        headers["If-Match"] = "*"
    if isinstance(case.body, dict):
        _mend_body(case, case.body, number)
    name = case.operation.definition.raw.get("operationId")
    if name in ("invocation", "replayInvocation") and _calls:
        case.path_parameters["invocationId"] = _calls[0]
    elif name == "story":
        if not _ids:
            # Nothing that decides, or deletes, is in this run.
            _decide(ROUTER)
        case.path_parameters["decisionId"] = _ids[0]


def _go_where_something_is(case: Any) -> None:
    """Sends an operation of tools to the tool that it is for, and in the coverage phase every operation to what is there."""
    there = {
        "tenant": "default",
        "job": "default",
        "capsule": _ABOUT.get(case.operation.definition.raw.get("operationId"), "router"),
    }
    path = case.path_parameters or {}
    if path.get("capsule") in ("router", "echo", "allowed"):
        path["capsule"] = there["capsule"]
    if case.meta.phase.name == TestPhase.COVERAGE and not case.meta.is_negative_at(ParameterLocation.PATH):
        path.update((name, there[name]) for name in path if name in there)


def _mend_body(case: Any, body: dict[str, Any], number: int) -> None:
    """Puts into a body what a schema cannot know."""
    name = case.operation.definition.raw.get("operationId")
    if name == "feedback" and isinstance(body.get("decisionId"), str) and _ids:
        _about_a_decision(body)
    elif name == "putPolicy":
        _without_hosts(body)
    elif name == "invoke":
        body["record"] = number % 4 == 1
    elif name == "install" and case.meta.phase.name != TestPhase.STATEFUL:
        body["name"] = case.path_parameters["capsule"] = f"made-{number}"
    elif name == "createJob" and case.meta.phase.name != TestPhase.STATEFUL:
        body["id"] = f"made-{number}"


def _about_a_decision(body: dict[str, Any]) -> None:
    """Makes feedback one for a decision: what a schema cannot exclude goes, and a reward comes into its range."""
    body["decisionId"] = _ids.popleft()
    for name in ("strategyId", "strategy", "nodeId", "option", "contextKey"):
        body.pop(name, None)
    if isinstance(body.get("reward"), int | float):
        body.pop("outcome", None)
        body["reward"] = math.fmod(body["reward"], 1)


def _without_hosts(body: dict[str, Any]) -> None:
    """Makes a policy one of which every part can be: which hosts are public, no schema can say."""
    grants, limits = body.get("grants"), body.get("limits")
    if isinstance(grants, dict):
        for name in ("http", "secrets"):
            grants.pop(name, None)
    if isinstance(limits, dict):
        limits.pop("fuel", None)


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    """Keeps ids, and brings back what was deleted.

    In the stateful phase, which asks whether what was deleted is gone, it comes back under another tenant.
    """
    if response.status_code != 200 or case.meta is None:
        return
    name = case.operation.definition.raw.get("operationId")
    if name == "decide":
        decided = response.json()
        if decided["capsule"] == "router" and decided["decisionId"] is not None:
            _ids.append(decided["decisionId"])
    elif name == "invoke":
        called = response.json()
        if called["recorded"]:
            _calls.append(called["invocationId"])
    elif case.method.upper() == "DELETE":
        path, tenant = ROUTER, "/tenants/default"
        if case.meta.phase.name == TestPhase.STATEFUL:
            tenant = f"/tenants/fuzzed-{next(_numbers)}"
            path = ROUTER.replace("/tenants/default", tenant)
        _call("POST", f"{path}/install", SPEC)
        install_tools(tenant)
        _ids.clear()
        _decide(path)


def _decide(path: str) -> None:
    """Makes decisions that can be asked about."""
    for _ in range(3):
        _ids.append(_call("POST", f"{path}/decide", json.dumps({"input": INPUT}).encode())["decisionId"])


def install_tools(tenant: str = "/tenants/default") -> None:
    """Brings the tools, and has one called."""
    for place in (ECHO, ALLOWED):
        path = place.replace("/tenants/default", tenant)
        _call("POST", f"{path}/install", compensable(path.rpartition("/")[2]))
    echo = ECHO.replace("/tenants/default", tenant)
    _call("PUT", f"{echo}/policy", DETERMINISTIC)
    _calls.clear()
    for _ in range(3):
        _calls.append(_call("POST", f"{echo}/invoke", b'{"record": true}')["invocationId"])


#: Of 400, what a well-formed request may be answered.
_RULES: Final = {
    "decide": {"unknown-option", "unknown-strategy", "no-allowed-option", "invalid-field"},
    "feedback": {
        "unknown-option",
        "unknown-strategy",
        "unknown-metric",
        "metric-out-of-range",
        "reward-out-of-range",
        "reward-missing",
        "invalid-field",
    },
    "install": {"invalid-spec", "invalid-capsule", "invalid-field"},
    "putLearning": {"unknown-option", "unknown-strategy", "invalid-field"},
    "patchLearning": {"unknown-option", "unknown-strategy", "invalid-field"},
    "createJob": {"invalid-field"},
    "invoke": {"invalid-field"},
    "compensate": {"invalid-field"},
    "replayInvocation": {"invalid-field"},
    "putPolicy": {"invalid-policy"},
}


@schemathesis.check
def refused_by_a_rule(_context: Any, response: Any, case: Any) -> None:
    """Where a well-formed request is answered 400, a rule of the domain says so, not the reading of the request."""
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    name = case.operation.definition.raw.get("operationId")
    kind = response.json()["type"].removeprefix("/problems/")
    assert kind in _RULES.get(name, ()), f"{name} refuses what its schema allows: {response.text}"
