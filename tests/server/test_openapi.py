"""The OpenAPI document: valid, complete, as it was reviewed; and the problems that it names.

The golden file is renewed, after looking at what differs, by

    PYTHONPATH=python .venv/bin/python -m tests.server.test_openapi
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.server.serving import ROUTER, Served
from tests.server.specs import words

from capsa import errors
from capsa.server._openapi import document
from capsa.server._problems import KINDS, Refused, kind_of
from capsa.server._problems import document as problem_document
from capsa.server._routes import ROUTES

GOLDEN: Final = Path(__file__).parent / "golden" / "openapi.json"
RENEW: Final = "PYTHONPATH=python .venv/bin/python -m tests.server.test_openapi"
#: Types that no route causes by itself: what causes them instead.
ELSEWHERE: Final = {
    "insufficient-scope": "keys with scopes come later",
    "too-many-requests": "limits on a client's rate come later",
    "unknown-path": "paths that are not in the document; and types of problems that do not exist",
    "wrong-method": "methods that are not in the document",
}
VERBS: Final = ("get", "put", "post", "delete", "patch")


def written() -> str:
    """The document of this code, as the golden file has it."""
    told = document(ROUTES)
    # A release is no change of the interface.
    told["info"]["version"] = "0"
    return json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


DOCUMENT: Final[dict[str, Any]] = json.loads(written())
OPERATIONS: Final = {
    operation["operationId"]: operation
    for path in DOCUMENT["paths"].values()
    for verb, operation in path.items()
    if verb in VERBS
}


def test_the_document_is_as_it_was_reviewed() -> None:
    assert GOLDEN.read_text() == written(), f"the interface has changed; if that is meant: {RENEW}"


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_server_answers_this_document(shared: Served) -> None:
    told = shared.get("/openapi.json", key=None).value
    told["info"]["version"] = "0"
    assert told == DOCUMENT


def test_every_route_is_in_the_document() -> None:
    assert set(OPERATIONS) == {route.name for route in ROUTES}
    for route in ROUTES:
        assert DOCUMENT["paths"][route.path][route.method.lower()]["operationId"] == route.name


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_does_takes_and_answers(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"].endswith(".")
    (tag,) = operation["tags"]
    assert {"name": tag} in DOCUMENT["tags"]
    resolved = [_resolved(each) for each in operation["parameters"]]
    parameters = {(each["in"], each["name"]): each for each in resolved}
    assert all(each["description"].endswith(".") and each["schema"] for each in parameters.values())
    path = next(path for path, item in DOCUMENT["paths"].items() if operation in item.values())
    assert {named for where, named in parameters if where == "path"} == set(re.findall(r"{(\w+)}", path))
    refusals = {status: each for status, each in operation["responses"].items() if status >= "400"}
    assert {"400", "500", "503"} <= set(refusals)
    for refusal in refusals.values():
        assert list(refusal["content"]) == ["application/problem+json"]
        assert re.fullmatch(r"`[a-z-]+`(, `[a-z-]+`)*", refusal["description"])
    if {} not in operation.get("security", []):
        assert "401" in refusals
    if "requestBody" in operation:
        assert {"400", "408", "413", "415"} <= set(refusals)
        contents = operation["requestBody"]["content"]
        assert any("example" in content for content in contents.values())


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference into the document stands for."""
    if "$ref" not in part:
        return part
    found: Any = DOCUMENT
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    resolved: dict[str, Any] = found
    return resolved


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_a_schema_is_described_and_spelled_as_json(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    assert schema["description"].strip()
    assert "Attributes:" not in schema["description"]
    kept = {"node_id", "chosen_option", "n_options"}
    properties = schema.get("properties", {})
    if not name.startswith("Spec"):
        assert all(re.fullmatch(r"[a-z][A-Za-z]*", each) for each in properties if each not in kept)
    assert set(schema.get("required", ())) <= set(properties)


def test_every_problem_is_documented_where_it_can_happen() -> None:
    named: dict[str, set[str]] = {}
    for operation in OPERATIONS.values():
        for status, response in operation["responses"].items():
            if status >= "400":
                for kind in re.findall(r"`([a-z-]+)`", response["description"]):
                    named.setdefault(kind, set()).add(status)
    assert set(named) | set(ELSEWHERE) == set(KINDS)
    assert {kind: statuses for kind, statuses in named.items() if statuses != {str(KINDS[kind].status)}} == {}


@pytest.mark.parametrize(
    "class_",
    [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.CapsaError)],
    ids=lambda class_: class_.__name__,
)
def test_every_error_comes_out_as_a_known_type(class_: type[errors.CapsaError]) -> None:
    error = (
        class_("a detail", problems=[(2, 3, "options", "too few")])
        if issubclass(class_, errors.InvalidSpec)
        else class_("a detail", pointer="/a", value="b", remedy="c")
    )
    kind = kind_of(error)
    assert kind in KINDS
    told = problem_document(error, "r1")
    assert told["type"] == f"/problems/{kind}"
    assert (told["status"], told["title"], told["requestId"]) == (KINDS[kind].status, KINDS[kind].title, "r1")
    # A fault of ours tells a client nothing of the inside.
    ours = kind in ("internal", "store-unwritable")
    assert ("a detail" in json.dumps(told)) != ours
    assert ("errors" in told) != ours


def test_an_error_that_a_caller_cannot_mend_is_not_put_on_the_caller() -> None:
    ours = (
        errors.StoreError,
        errors.HostFault,
        errors.UnknownEvent,
        errors.UnknownBlob,
        errors.CapsuleFailure,
    )
    for class_ in ours:
        for each in (class_, *class_.__subclasses__()):
            assert KINDS[kind_of(each("a detail"))].status >= 500, each
    for asked in (errors.InvalidRequest, errors.Conflict):
        for each in asked.__subclasses__():
            assert 400 <= KINDS[kind_of(each("a detail"))].status < 500, each


def test_the_statuses_are_those_of_the_contract() -> None:
    by_status: dict[int, set[str]] = {}
    for kind, told in KINDS.items():
        by_status.setdefault(told.status, set()).add(kind)
    assert by_status == {
        400: words(
            "malformed-body malformed-request unknown-field invalid-field unknown-option unknown-strategy "
            "no-allowed-option metric-out-of-range reward-out-of-range unknown-metric reward-missing invalid-spec "
            "invalid-capsule invalid-policy"
        ),
        401: {"unauthorized"},
        403: {"insufficient-scope", "foreign-origin", "capability-denied", "install-refused"},
        404: words(
            "unknown-tenant unknown-job unknown-capsule unknown-decision unknown-invocation unknown-path"
        ),
        405: {"wrong-method"},
        408: {"request-timeout"},
        409: words("feedback-conflict install-conflict idempotency-conflict already-exists wrong-kind"),
        412: {"stale-document"},
        413: {"too-large"},
        415: {"unsupported-type"},
        422: {"capsule-refused"},
        429: {"too-many-requests"},
        431: {"header-too-large"},
        500: words(
            "capsule-trapped capsule-deadline capsule-out-of-memory capsule-stack capsule-fuel capsule-limit "
            "capsule-bad-output internal"
        ),
        503: {"overloaded", "store-unwritable", "starting", "stopping"},
    }
    assert all((told.retry_after_s is not None) == (status in (429, 503)) for status, told in _statuses())


def _statuses() -> list[tuple[int, Any]]:
    return [(told.status, told) for told in KINDS.values()]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_type_of_problem_is_a_page(shared: Served, kind: str) -> None:
    page = shared.get(f"/problems/{kind}", key=None)
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    for said in ("What it means", "What has changed", "What to do", str(KINDS[kind].status)):
        assert said in text
    # A guest's failure, and ours, may come after something was done.
    stays = kind == "internal" or kind.startswith("capsule-")
    assert ("<dd>Nothing.</dd>" in text) is not stays
    assert f'href="/problems/{kind}"' in shared.get("/problems", key=None).body.decode()


def test_the_type_of_a_problem_that_was_answered_resolves(shared: Served) -> None:
    asked = [
        ("GET", "/nowhere", None),
        ("GET", f"{ROUTER}/decide", None),
        ("GET", "/problems/no-such-type", None),
        ("POST", f"{ROUTER}/decide", b"{"),
        ("POST", f"{ROUTER}/decide", {"options": ["no"]}),
        ("POST", f"{ROUTER}/feedback", {"decisionId": "dec_no", "reward": 1}),
        ("POST", f"{ROUTER}/decide", b" " * 200_000),
    ]
    seen = set()
    for method, path, body in asked:
        told = shared.call(method, path, body).value
        seen.add(told["type"])
        assert shared.get(told["type"], key=None).status == 200
    assert len(seen) == 6


def test_a_page_cannot_be_made_to_run_anything(shared: Served) -> None:
    page = shared.get("/problems/too-large")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    refused = shared.get("/problems/%3Cscript%3E")
    assert (refused.status, refused.headers["Content-Type"]) == (404, "application/problem+json")


def test_what_the_edge_refuses_by_itself_has_a_known_type() -> None:
    sources = Path(inspect.getfile(Refused)).parent.glob("*.py")
    used = {kind for source in sources for kind in re.findall(r'Refused\(\s*"([a-z-]+)"', source.read_text())}
    assert used
    assert used <= set(KINDS)


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(written())
