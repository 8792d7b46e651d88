"""Every answer is what the OpenAPI document says, and nothing more: no key that it does not name."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from openapi_schema_validator import OAS31Validator
from tests.server import tools
from tests.server.serving import INPUT, OUTCOME, Answer, Served
from tests.server.specs import JOINT, PLAIN, SCALED, WIDE, Capsules, Installed
from tests.server.tools import DETERMINISTIC, OPEN, install

from capsa.server._openapi import document
from capsa.server._routes import ROUTES

DOCUMENT: Final[dict[str, Any]] = json.loads(json.dumps(document(ROUTES)))
_BY_NAME: Final = {route.name: route for route in ROUTES}


def _closed(schema: Any) -> Any:
    """A schema under which a key that is not named is a fault, wherever it names keys at all."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _closed(each) for name, each in schema.items()}
    if "properties" in told and told.get("type") == "object":
        told.setdefault("additionalProperties", False)
    return told


_COMPONENTS: Final = {"schemas": _closed(copy.deepcopy(DOCUMENT["components"]["schemas"]))}


def faults(operation: str, answered: Answer) -> list[str]:
    """What of an answer the document does not say."""
    route = _BY_NAME[operation]
    responses = DOCUMENT["paths"][route.path][route.method.lower()]["responses"]
    assert str(answered.status) in responses, (operation, answered.status, answered.body)
    response = responses[str(answered.status)]
    assert set(response["headers"]) <= set(answered.headers)
    media = answered.headers["Content-Type"].partition(";")[0]
    assert media in response["content"]
    if not media.endswith("json"):
        return []
    schema = _closed(response["content"][media]["schema"]) | {"components": _COMPONENTS}
    found = OAS31Validator(schema).iter_errors(answered.value)
    return [f"{error.json_path}: {error.message}" for error in found]


def _calls(served: Served) -> Iterator[tuple[str, Answer]]:
    """Every operation, with answers of every form that it has."""
    capsules = Capsules(served)
    scaled, joint, wide = capsules.install(SCALED), capsules.install(JOINT), capsules.install(WIDE)
    shadow, joint_shadow = (
        capsules.install(PLAIN + b"mode: shadow\n"),
        capsules.install(JOINT + b"mode: shadow\n"),
    )
    off = capsules.install(PLAIN + b"mode: 'off'\n")
    for capsule in (scaled, joint, wide, shadow, joint_shadow, off):
        yield from _of_capsule(capsule)
    yield "decide", scaled.post("/decide", {"options": ["none"]})
    yield "feedback", scaled.post("/feedback", {"decisionId": "dec_none", "reward": 1})
    about = {"decisionId": scaled.decide({"input": INPUT})["decisionId"]}
    yield "feedback", scaled.post("/feedback", about | {"outcome": {"quality": 1}})
    yield "story", scaled.get(f"/decisions/{about['decisionId']}")
    yield "feedback", scaled.post("/feedback", about | {"outcome": OUTCOME | {"quality": 1}})
    yield "feedback", scaled.post("/feedback", about | {"outcome": {"quality": 0}})
    yield "feedback", scaled.post("/feedback", about | {"reward": 0.5}, key=None)
    yield "learning", scaled.get("/learning", key=None)
    yield "patchLearning", scaled.patch({"mode": "shadow"}, headers={"If-Match": '"0"'})
    yield "report", scaled.get("/report")
    change = {
        "algorithm": {"name": "epsilonGreedy", "epsilon": 0.2},
        "decay": {"halfLife": "1d"},
        "shrinkage": {"strength": 3},
    }
    yield "patchLearning", scaled.patch(change)
    yield "report", scaled.get("/report")
    fresh = Installed(served, "shaped")
    yield "install", fresh.post("/install?dryRun=true", PLAIN.replace(b"router", b"shaped"))
    yield "install", fresh.post("/install", PLAIN.replace(b"router", b"shaped"))
    yield "install", fresh.post("/install", b"name: x\n")
    base = "/tenants/shaped"
    yield "createJob", served.post(f"{base}/jobs", {"id": "one", "metadata": {"a": {"b": [None]}}})
    yield "createJob", served.post(f"{base}/jobs", {"id": "one"})
    yield "tenants", served.get("/tenants")
    yield "jobs", served.get(f"{base}/jobs")
    yield "job", served.get(f"{base}/jobs/one")
    yield "capsules", served.get(scaled.path.rpartition("/")[0])
    yield "purgeLogs", served.call("DELETE", f"{scaled.path}/logs")
    yield "story", scaled.get(f"/decisions/{about['decisionId']}")
    yield "deleteCapsule", served.call("DELETE", scaled.path)
    yield "deleteCapsule", served.call("DELETE", scaled.path)
    yield "audit", served.get("/audit?tenant=default&limit=1000")
    yield "deleteJob", served.call("DELETE", f"{base}/jobs/one")
    yield "purgeTenant", served.call("DELETE", base)
    yield from _of_tools(served)
    for name in ("health", "ready", "metrics", "openapi", "problems"):
        yield name, served.get(f"/{'openapi.json' if name == 'openapi' else name}", key=None)
    yield "problem", served.get("/problems/too-large")
    yield "problem", served.get("/problems/none")


def _of_tools(served: Served) -> Iterator[tuple[str, Answer]]:
    tool = install(served, tools.compensable)
    yield "describe", tool.get()
    yield "policy", tool.get("/policy")
    yield "putPolicy", tool.allow(DETERMINISTIC)
    yield "putPolicy", tool.allow({"schema": 1})
    yield "putPolicy", tool.allow(OPEN, headers={"If-Match": '"none"'})
    yield "explainPolicy", tool.get("/policy/explain?target=https://a.example.com/")
    yield "explainPolicy", tool.get("/policy/explain")
    invoked = tool.invoke({"a": 1}, record=True)
    yield "invoke", invoked
    yield "compensate", tool.post("/compensate", {"input": 1, "output": 2})
    id_ = invoked.value["invocationId"]
    yield "invocation", tool.get(f"/invocations/{id_}")
    yield "invocation", tool.get("/invocations/none")
    yield "replayInvocation", tool.post(f"/invocations/{id_}/replay")
    yield "decide", tool.post("/decide", {})
    for make in (tools.fails, tools.spins, tools.remember):
        other = install(served, make)
        yield "invoke", other.invoke(1)
        yield "invocations", other.get("/invocations")


def _of_capsule(capsule: Installed) -> Iterator[tuple[str, Answer]]:
    decided = capsule.post("/decide", {"input": INPUT})
    yield "decide", decided
    yield "decide", capsule.post("/decide?probabilities=true", {"contextKey": "k"})
    yield "decideBatch", capsule.post("/decide/batch", {"requests": [{}, {"options": [5000]}, 1]})
    about = {"decisionId": decided.value["decisionId"]}
    yield "feedback", capsule.post("/feedback", about | {"reward": 0.5})
    yield "feedback", capsule.post("/feedback", about | {"reward": 0.5})
    ids = [
        each["decisionId"] for each in capsule.post("/decide/batch", {"requests": [{}, {}]}).value["results"]
    ]
    yield "feedback", capsule.post("/feedback", {"decisionId": ids[0], "reward": 0.5, "taken": None})
    strategy = decided.value["decisions"][0]["strategy"]
    explicit = {"strategy": strategy, "option": 0, "reward": 0.5, "contextKey": "k"}
    yield "feedback", capsule.post("/feedback", explicit)
    yield (
        "feedbackBatch",
        capsule.post("/feedback/batch", {"events": [{"decisionId": ids[1], "reward": 1}, explicit, {}]}),
    )
    yield "describe", capsule.get()
    yield "report", capsule.get("/report")
    yield "contexts", capsule.get("/contexts?limit=1")
    yield "learning", capsule.get("/learning")
    yield "putLearning", capsule.put(capsule.get("/learning").value)
    yield "patchLearning", capsule.patch({"rails": {"freeze": True}})
    yield "decide", capsule.post("/decide", {})
    yield "feedback", capsule.post("/feedback", explicit)
    yield "decisions", capsule.get("/decisions?limit=1")
    yield "decisions", capsule.get("/decisions")
    yield "feedbackLog", capsule.get("/feedback")
    yield "capsuleAudit", capsule.get("/audit")
    if about["decisionId"] is not None:
        yield "story", capsule.get(f"/decisions/{about['decisionId']}")


def test_every_answer_is_what_the_document_says(shared: Served) -> None:
    succeeded = set()
    for operation, answered in _calls(shared):
        assert faults(operation, answered) == [], (operation, answered.body[:2000])
        if answered.status < 400:
            succeeded.add(operation)
    assert succeeded == set(_BY_NAME), "every operation has answered well at least once"


def test_a_key_that_the_document_does_not_name_would_be_noticed(shared: Served) -> None:
    answered = shared.get("/tenants/default/jobs/default/capsules/router/report")
    assert faults("report", answered) == []
    told = answered.value
    for change in (told, told["strategies"][0]["options"][0], told["feedback"], told["contexts"]):
        change["added"] = 1
        answered.body = json.dumps(told).encode()
        assert any("'added' was unexpected" in fault for fault in faults("report", answered))
        del change["added"]


@pytest.mark.parametrize("operation", [name for name, route in _BY_NAME.items() if route.body is not None])
def test_the_example_of_a_body_is_taken(shared: Served, operation: str) -> None:
    capsule = Capsules(shared).router
    route = _BY_NAME[operation]
    content = DOCUMENT["paths"][route.path][route.method.lower()]["requestBody"]["content"]
    example = next(each["example"] for each in content.values() if "example" in each)
    if operation == "install":
        # YAML is a superset of JSON.
        capsule = Installed(shared, "exemplary")
        example = example | {"name": capsule.name}
    elif route.tag == "tools":
        capsule = install(shared, tools.compensable)
    path = route.path.format(tenant="default", job="default", capsule=capsule.name)
    answered = shared.call(route.method, path, example)
    assert answered.status < 300, answered.body
    if operation.endswith("Batch"):
        assert not any("type" in result for result in answered.value["results"])
