"""The contract of what stands around every call, over HTTP: bodies, methods, keys, request ids, metrics, readiness."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import cbor2
import pytest
import urllib3
from tests.server.serving import INPUT, KEY, OUTCOME, ROUTER, Answer, Served
from tests.server.specs import PLAIN, SCALED, Capsules, problem

from capsa.server._access import Access
from capsa.server._protocol import Server
from capsa.server._router import Router
from capsa.server._routes import ROUTES
from capsa.server._service import Service

CBOR = {"Content-Type": "application/cbor", "Accept": "application/cbor"}


@pytest.fixture
def capsules(shared: Served) -> Capsules:
    return Capsules(shared)


def test_cbor_in_and_out_says_the_same(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    decided = capsule.post("/decide", cbor2.dumps({"input": INPUT, "options": [1]}), headers=CBOR)
    assert decided.headers["Content-Type"] == "application/cbor"
    decision = cbor2.loads(decided.body)
    plain = capsule.decide({"input": INPUT, "options": [1]})
    assert {**decision, "decisionId": ""} == {**plain, "decisionId": ""}
    body = {"decisionId": decision["decisionId"], "outcome": OUTCOME}
    taken = cbor2.loads(capsule.post("/feedback", cbor2.dumps(body), headers=CBOR).body)
    assert capsule.feedback(body) == taken | {"status": "repeated"}
    for path in ("/report", "/contexts", "/learning", "/decisions", "/feedback", "/audit", ""):
        told = cbor2.loads(capsule.get(path, headers={"Accept": "application/cbor"}).body)
        again = capsule.get(path).value
        assert told | {"asOf": ""} == again | {"asOf": ""}
    batch = capsule.post("/decide/batch", cbor2.dumps({"requests": [{"options": ["nope"]}]}), headers=CBOR)
    assert cbor2.loads(batch.body)["results"][0]["type"] == "/problems/unknown-option"


@pytest.mark.parametrize(
    "media",
    [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/json; charset=utf-8",
        "application/nonsense",
    ],
)
def test_a_body_is_json_whatever_its_type_says(shared: Served, media: str) -> None:
    answered = shared.post(f"{ROUTER}/decide", b'{"options": [1]}', headers={"Content-Type": media})
    assert (answered.status, answered.value["option"]) == (200, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"input": {}, "input": {}}',
        b'{"reward": NaN}',
        b"[" * 40 + b"]" * 40,
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_is_malformed(shared: Served, body: bytes) -> None:
    problem(shared.post(f"{ROUTER}/decide", body), 400, "malformed-body")


@pytest.mark.parametrize("body", [b"", b"\xa1", cbor2.dumps({1: 2}), cbor2.dumps({"reward": float("nan")})])
def test_what_is_no_cbor_is_malformed(shared: Served, body: bytes) -> None:
    problem(
        shared.post(f"{ROUTER}/feedback", body, headers={"Content-Type": "application/cbor"}),
        400,
        "malformed-body",
    )


def test_head_answers_as_get_without_a_body(shared: Served) -> None:
    for path in ("/health", f"{ROUTER}/learning", "/problems/too-large"):
        got, head = shared.get(path), shared.call("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == str(len(got.body))
        assert head.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", f"{ROUTER}/decide", "POST"),
        ("DELETE", f"{ROUTER}/learning", "GET, PATCH, PUT, HEAD"),
        ("POST", "/tenants", "GET, HEAD"),
        ("PATCH", "/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(shared: Served, method: str, path: str, allow: str) -> None:
    answered = shared.call(method, path)
    problem(answered, 405, "wrong-method")
    assert answered.headers["Allow"] == allow


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/nowhere", "unknown-path"),
        (f"{ROUTER}/nothing", "unknown-path"),
        ("/tenants/nobody/jobs/default/capsules/router/report", "unknown-tenant"),
        ("/tenants/default/jobs/none/capsules/router/report", "unknown-job"),
        ("/tenants/default/jobs/default/capsules/none/report", "unknown-capsule"),
        (f"{ROUTER}/decisions/dec_none", "unknown-decision"),
    ],
)
def test_what_is_not_there(shared: Served, path: str, kind: str) -> None:
    problem(shared.get(path), 404, kind)


def test_a_request_id_is_said_back_or_made(shared: Served) -> None:
    assert (
        shared.get("/health", headers={"X-Request-Id": "mine-1.a_B"}).headers["X-Request-Id"] == "mine-1.a_B"
    )
    made = [
        shared.get("/health", headers=headers).headers["X-Request-Id"]
        for headers in ({}, {"X-Request-Id": ""}, {"X-Request-Id": "x" * 65}, {"X-Request-Id": "a b"})
    ]
    assert all(re.fullmatch(r"[0-9a-f]{16,32}", each) for each in made)
    assert len(set(made)) == len(made)
    refused = shared.get("/nowhere", headers={"X-Request-Id": "mine-2"})
    assert refused.value["requestId"] == "mine-2"


def test_a_key_is_needed_and_never_echoed(shared: Served) -> None:
    # Neither one that begins as it does nor its beginning is the key.
    for key in (None, "wrong-key-0123456789", KEY + "0", KEY[:-1], KEY.upper()):
        for path in (f"{ROUTER}/report", "/tenants", "/nowhere"):
            answered = shared.get(path, key=key)
            problem(answered, 401, "unauthorized")
            assert answered.headers["WWW-Authenticate"] == 'Bearer realm="capsa"'
            assert key is None or key.encode() not in answered.body
    assert all(
        shared.get(path, key=None).status == 200
        for path in ("/health", "/ready", "/metrics", "/openapi.json")
    )


def test_an_over_long_value_is_not_echoed(shared: Served) -> None:
    refused = problem(shared.post(f"{ROUTER}/decide", {"options": ["x" * 1000]}), 400, "unknown-option")
    assert len(refused["errors"][0]["value"]) <= 81
    assert len(json.dumps(refused)) < 1000


def test_metrics_name_capsules_only_to_who_shows_the_key(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    capsule.feedback({"decisionId": capsule.decide({})["decisionId"], "reward": 1})
    told = capsule.served.get("/metrics")
    assert told.headers["Content-Type"].startswith("text/plain")
    assert (
        f'capsa_decisions_total{{capsule="{capsule.name}",job="default",tenant="default"}} 1.0'.encode()
        in told.body
    )
    for line in (
        b'capsa_requests_total{operation="decide",status="200"}',
        b"capsa_request_seconds_bucket",
        b"process_",
    ):
        assert line in told.body
    nameless = capsule.served.get("/metrics", key=None).body
    assert b"capsa_decisions_total" not in nameless
    assert b'capsa_requests_total{operation="' in nameless
    assert capsule.name.encode() not in nameless
    assert b'"default"' not in nameless


def test_until_the_store_is_open_only_health_is_answered() -> None:
    async def scene() -> None:
        service = Service(Access(KEY, local=False), Router(ROUTES))
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(Server(service), "127.0.0.1", 0)
        try:
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            ask = _asking(url)
            for path in ("/ready", f"{ROUTER}/report", "/tenants"):
                answered = await ask(path)
                problem(answered, 503, "starting")
                assert int(answered.headers["Retry-After"]) >= 1
            assert (await ask("/health")).status == 200
            assert (await ask("/metrics")).status == 200
            await service.open(None)
            assert (await ask("/ready")).value == {"ok": True, "service": "capsa"}
            service.stopping = True
            problem(await ask("/ready"), 503, "stopping")
            problem(await ask("/tenants"), 503, "stopping")
        finally:
            listening.close()
            await service.close()

    asyncio.run(scene())


def _asking(url: str) -> Callable[[str], Awaitable[Answer]]:
    headers = {"Authorization": f"Bearer {KEY}", "Connection": "close"}

    def ask(path: str) -> Answer:
        with urllib3.PoolManager(retries=False, timeout=10) as pool:
            return Answer(pool.request("GET", url + path, headers=headers))

    return lambda path: asyncio.to_thread(ask, path)
