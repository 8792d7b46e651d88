"""The contract of what a tool is allowed, over HTTP: the policy, its ETag, and why something is denied."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cbor2
import pytest
from tests.sandbox import guests
from tests.server import tools
from tests.server.serving import Served
from tests.server.specs import problem, words
from tests.server.tools import DETERMINISTIC, OPEN, Tool, install

from capsa.server import _limits
from capsa.server._openapi import document
from capsa.server._routes import ROUTES


@pytest.fixture(scope="module")
def echo(shared: Served) -> Tool:
    return install(shared, tools.echo)


def test_every_field_of_a_policy(shared: Served) -> None:
    tool = install(shared, tools.remember)
    answered = tool.get("/policy")
    told = answered.value
    assert set(told) == words("policy digest effective effectiveDigest notGranted by at")
    assert (told["policy"]["name"], told["by"], told["at"]) == ("pure", None, None)
    assert answered.headers["ETag"] == f'"{told["digest"]}"'
    changed = tool.allow(OPEN)
    assert changed.headers["ETag"] == f'"{changed.value["digest"]}"'
    assert changed.value == tool.get("/policy").value
    told = changed.value
    assert (told["policy"]["grants"]["kv"]["access"], told["effective"]["kv"]["access"]) == (
        "readWrite",
        "readWrite",
    )
    # What it does not want it does not get.
    assert (told["policy"]["grants"]["clock"], told["effective"]["clock"]) == (True, False)
    assert (told["by"], told["notGranted"]) == ("key admin", [])
    assert tool.invoke(1).value["policyDigest"] == told["effectiveDigest"]
    assert tool.get("/audit").value["audit"][-1]["type"] == "policyChanged"


CAMEL = {"schema": 1, "name": "x", "grants": {"kv": {"access": "readWrite", "maxKeys": 7}}}
SNAKE = {"schema": 1, "name": "x", "grants": {"kv": {"access": "read_write", "max_keys": 7}}}
TOML = b'schema = 1\nname = "x"\n[grants]\nkv = { access = "read_write", max_keys = 7 }\n'


def test_a_policy_is_read_in_every_form(shared: Served) -> None:
    """JSON and CBOR in either spelling, and the file as it is: all the same policy."""
    tool = install(shared, tools.remember)
    answers = [
        tool.allow(CAMEL),
        tool.allow(SNAKE),
        tool.allow(TOML),
        tool.allow(b"\n  " + json.dumps(CAMEL).encode(), headers={"Content-Type": "text/plain"}),
        tool.allow(cbor2.dumps(CAMEL), headers={"Content-Type": "application/cbor"}),
        tool.allow(tool.allow(TOML).value["policy"]),
    ]
    assert {answered.status for answered in answers} == {200}
    assert len({answered.value["digest"] for answered in answers}) == 1
    assert answers[0].value["effective"]["kv"]["maxKeys"] == 7


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"schema": 1, "name": "x", "grant": {}}, "/grant"),
        ({"schema": 2, "name": "x"}, "/schema"),
        ({"schema": 1, "name": "x", "limits": {"cpuMs": 0}}, "/limits/cpuMs"),
        ({"schema": 1, "name": "x", "grants": {"http": [{"hosts": ["10.0.0.5"]}]}}, "/grants/http/0/hosts/0"),
        (b'schema = 1\nname = "x"\n[limits]\ncpu_ms = 0\n', "/limits/cpu_ms"),
        (b"[1]", "/1"),
        (b"1", None),
        (b"", None),
        (b"\xff", None),
        (b"a." * 60_000 + b"b = 1", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_policy_that_does_not_hold(echo: Tool, body: Any, pointer: str | None) -> None:
    """Is refused with its place, and changes nothing."""
    before = echo.get("/policy").value
    refused = problem(echo.allow(body), 400, "invalid-policy")
    if pointer is not None:
        assert refused["errors"][0]["pointer"] == pointer
    assert echo.get("/policy").value == before
    row = echo.get("/audit?limit=1000").value["audit"][-1]
    assert (row["type"], row["principal"], row["capsule"]) == ("refused", "key admin", echo.name)
    assert row["detail"] == {
        "what": "policy",
        "error": {"code": "invalid-policy", "detail": refused["detail"]},
    }


@pytest.mark.parametrize("value", ["trusted", "/etc/passwd", ["x"], 5, None], ids=repr)
def test_a_policy_is_never_a_name(echo: Tool, value: Any) -> None:
    """Neither of a ready one nor of a file of the server's."""
    before = echo.get("/policy").value
    as_cbor = {"Content-Type": "application/cbor"}
    problem(echo.allow(cbor2.dumps(value), headers=as_cbor), 400, "invalid-policy")
    problem(echo.allow(json.dumps(value).encode()), 400, "invalid-policy")
    problem(echo.allow(str(value).encode()), 400, "invalid-policy")
    assert echo.get("/policy").value == before


def test_the_defaults_of_the_document_may_be_sent(echo: Tool) -> None:
    """As they stand in the OpenAPI document, of the whole and of its parts; null is none of them."""
    schemas = document(ROUTES)["components"]["schemas"]

    def defaults(name: str) -> dict[str, Any]:
        told = schemas[name]["properties"].items()
        return {key: schema["default"] for key, schema in told if "default" in schema}

    policy = {"schema": 1, "name": "x", **defaults("Policy")}
    assert echo.allow(policy).value["digest"] == echo.allow({"schema": 1, "name": "x"}).value["digest"]
    assert echo.allow({**policy, "grants": defaults("Grants"), "limits": defaults("Limits")}).status == 200
    for kind in ("Grants", "Limits"):
        assert '"null"' not in json.dumps(schemas[kind])
    problem(echo.allow({**policy, "grants": {"kv": None}}), 400, "invalid-policy")


def test_what_cannot_be_read_at_all(echo: Tool) -> None:
    problem(echo.allow(b'{"schema": 1, "schema": 1}'), 400, "malformed-body")
    problem(echo.allow(b"{"), 400, "malformed-body")
    problem(echo.allow(b'{"a": "' + b"x" * _limits.POLICY_BYTES + b'"}'), 413, "too-large")


def test_a_policy_that_somebody_else_has_changed(shared: Served) -> None:
    tool = install(shared, tools.echo)
    old = tool.get("/policy").headers["ETag"]
    assert tool.allow(OPEN, headers={"If-Match": old}).status == 200
    now = tool.get("/policy").value
    for sent in (old, '"nonsense"', f'W/"{now["digest"]}"'):
        refused = problem(tool.allow(DETERMINISTIC, headers={"If-Match": sent}), 412, "stale-document")
        assert now["digest"] in refused["detail"], "it shows the present one"
    problem(tool.allow(DETERMINISTIC, headers={"If-Match": "nonsense"}), 400, "malformed-request")
    assert tool.get("/policy").value == now
    both = f'"other", "{now["digest"]}"'
    assert tool.allow(DETERMINISTIC, headers={"If-Match": both}).status == 200
    assert tool.allow(OPEN, headers={"If-Match": "*"}).status == 200


def test_a_policy_holds_from_the_next_call_on(shared: Served) -> None:
    tool = install(shared, tools.spins, OPEN + b"[limits]\ncpu_ms = 10\n")
    refused = problem(tool.invoke(None), 500, "capsule-deadline")
    assert "10ms" in refused["detail"]
    tool.allow(OPEN + b"[limits]\ncpu_ms = 20\n")
    assert "20ms" in problem(tool.invoke(None), 500, "capsule-deadline")["detail"]


def test_so_many_calls_at_once_and_no_more(shared: Served) -> None:
    """As its policy says: the others are told to come back, and nothing of them was done."""
    tool = install(shared, tools.spins, OPEN + b"[limits]\ncpu_ms = 3000\nconcurrency = 1\n")
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: tool.invoke(None), range(3)))
    refused = [answered for answered in answers if answered.status == 503]
    assert len(refused) == 2
    for answered in refused:
        assert "1 call" in problem(answered, 503, "overloaded")["detail"]
        assert int(answered.headers["Retry-After"]) >= 1
    [ended] = [answered for answered in answers if answered not in refused]
    problem(ended, 500, "capsule-deadline")
    assert len(tool.get("/invocations").value["invocations"]) == 1


def test_explain(shared: Served) -> None:
    def make(name: str) -> bytes:
        return tools.component(name, guests.tool(guests.ECHO), "read", http=[{"hosts": ["*"]}])

    policy = b'schema = 1\nname = "x"\n[[grants.http]]\nhosts = ["*.example.com"]\n'
    tool = install(shared, make, policy)
    told = tool.get("/policy/explain?target=https%3A%2F%2Fapi.example.com%2Fv1").value
    assert set(told) == words("target allowed rule detail needed wanted allowedRule needsResolving")
    assert (told["allowed"], told["wanted"], told["allowedRule"], told["rule"]) == (True, 0, 0, None)
    denied = tool.get("/policy/explain?target=https://evil.example/").value
    assert (denied["allowed"], denied["rule"]) == (False, "host")
    assert denied["needed"]
    assert tool.get("/policy/explain?target=https://api.example.com/&method=POST").value["rule"] == "method"
    assert tool.get("/policy/explain?target=kv:a").value["rule"] == "not-granted"
    problem(tool.get("/policy/explain"), 400, "invalid-field")
    problem(tool.get("/policy/explain?target=x&method=BREW"), 400, "invalid-field")
    problem(tool.get("/policy/explain?url=x"), 400, "unknown-field")
