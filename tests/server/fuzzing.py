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
from tests.server.serving import INPUT, KEY, ROUTER, SPEC

URL: Final = "CAPSA_FUZZ_URL"
_pool = urllib3.PoolManager(retries=False, timeout=30)
#: Decisions that await feedback.
_ids: deque[str] = deque(maxlen=64)
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

    That is ids of decisions that were made, and names, keys and versions that are (or are not) there yet. One in
    four goes as it is.
    """
    if case.meta is None:
        return
    if case.meta.phase.name == TestPhase.COVERAGE and not case.meta.is_negative_at(ParameterLocation.PATH):
        # Whatever else is tried: where there is something.
        known = {"tenant": "default", "job": "default", "capsule": "router"}
        case.path_parameters.update((name, known[name]) for name in case.path_parameters if name in known)
    if not case.meta.generation.mode.is_positive:
        return
    if case.headers is not None and case.headers.get("If-Match") == "0":
        # What schemathesis 4.32 takes for a match of the pattern, in the coverage phase; it is none.
        case.headers["If-Match"] = '"0"'
    number = next(_numbers)
    if number % 4 == 0:
        return
    name, body = case.operation.definition.raw.get("operationId"), case.body
    if case.headers is not None and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = f"key-{number}"
    if case.headers is not None and "If-Match" in case.headers:
        case.headers["If-Match"] = "*"
    if name == "feedback" and isinstance(body, dict) and isinstance(body.get("decisionId"), str) and _ids:
        _about_a_decision(body)
    elif name == "story" and _ids:
        case.path_parameters["decisionId"] = _ids[0]
    elif name == "install" and isinstance(body, dict) and case.meta.phase.name != TestPhase.STATEFUL:
        body["name"] = case.path_parameters["capsule"] = f"made-{number}"
    elif name == "createJob" and isinstance(body, dict) and case.meta.phase.name != TestPhase.STATEFUL:
        body["id"] = f"made-{number}"


def _about_a_decision(body: dict[str, Any]) -> None:
    """Makes feedback one for a decision: what a schema cannot exclude goes, and a reward comes into its range."""
    body["decisionId"] = _ids.popleft()
    for name in ("strategyId", "strategy", "nodeId", "option", "contextKey"):
        body.pop(name, None)
    if isinstance(body.get("reward"), int | float):
        body.pop("outcome", None)
        body["reward"] = math.fmod(body["reward"], 1)


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
    elif case.method.upper() == "DELETE":
        path = ROUTER
        if case.meta.phase.name == TestPhase.STATEFUL:
            path = ROUTER.replace("/tenants/default", f"/tenants/fuzzed-{next(_numbers)}")
        _call("POST", f"{path}/install", SPEC)
        _ids.clear()
        for _ in range(3):
            _ids.append(_call("POST", f"{path}/decide", json.dumps({"input": INPUT}).encode())["decisionId"])


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
}


@schemathesis.check
def refused_by_a_rule(_context: Any, response: Any, case: Any) -> None:
    """Where a well-formed request is answered 400, a rule of the domain says so, not the reading of the request."""
    if response.status_code != 400 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    name = case.operation.definition.raw.get("operationId")
    kind = response.json()["type"].removeprefix("/problems/")
    assert kind in _RULES.get(name, ()), f"{name} refuses what its schema allows: {response.text}"
