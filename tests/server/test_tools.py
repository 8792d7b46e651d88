"""The contract of tools over HTTP, field by field: calls, what is recorded of them, and what only tools do."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import cbor2
import pytest
from tests.sandbox import guests
from tests.server import tools
from tests.server.serving import INPUT, KEY, SPEC, Served
from tests.server.specs import Installed, problem, words
from tests.server.tools import DETERMINISTIC, OPEN, Tool, install

from capsa import _native
from capsa.server import _limits

INVOKED = words(
    "invocationId tenant job capsule capsuleVersion effect engine output used denied log policyDigest recorded"
)
USED = words("cpuMs wallMs fuel memoryBytes hostCalls egressRequests egressBytes logLines")
RECORD = words(
    "sequence time principal invocationId function capsuleVersion policyDigest inputDigest outputDigest error detail "
    "used denied deniedUnlisted recorded"
)
DIGEST = re.compile("b2:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def echo(shared: Served) -> Tool:
    return install(shared, tools.echo)


@pytest.fixture(scope="module")
def recorded(shared: Served) -> Tool:
    return install(shared, tools.echo, DETERMINISTIC)


# --- calls


def test_every_field_of_a_call(echo: Tool) -> None:
    told = echo.invoke({"a": [1, 2.5, None, True, "é"]}).value
    assert set(told) == INVOKED
    assert re.fullmatch("inv_[0-9a-f]{32}", told["invocationId"])
    assert (told["tenant"], told["job"], told["capsule"], told["capsuleVersion"]) == (
        "default",
        "default",
        echo.name,
        1,
    )
    assert (told["effect"], told["engine"], told["recorded"]) == ("pure", "fast", False)
    assert told["output"] == {"a": [1, 2.5, None, True, "é"]}
    assert set(told["used"]) == USED
    assert told["used"]["cpuMs"] > 0
    assert (told["used"]["fuel"], told["used"]["memoryBytes"]) == (None, 4 * 65_536)
    assert (told["denied"], told["log"]) == ([], [])
    assert DIGEST.fullmatch(told["policyDigest"])


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1.5,
        "",
        "\u0000\uffff",
        [],
        {},
        {"": None},
        2**70,
        [[[[]]]],
        {"camelCase": {"snake_case": 1}},
    ],
    ids=repr,
)
def test_input_and_output_are_any_json(echo: Tool, value: Any) -> None:
    """And names in them stay as they are."""
    assert echo.invoke(value).value["output"] == value


def test_input_may_be_left_out(echo: Tool) -> None:
    assert echo.post("/invoke", {}).value["output"] is None


def test_calls_in_cbor(echo: Tool) -> None:
    headers = {"Content-Type": "application/cbor", "Accept": "application/cbor"}
    answered = echo.post("/invoke", cbor2.dumps({"input": {"a": [1, None]}}), headers=headers)
    assert answered.headers["Content-Type"] == "application/cbor"
    assert cbor2.loads(answered.body)["output"] == {"a": [1, None]}


def test_a_tool_that_keeps_something(shared: Served) -> None:
    tool = install(shared, tools.remember, OPEN)
    first, second = tool.invoke(None).value, tool.invoke(None).value
    assert (first["output"], second["output"]) == ([None, "ok"], ["v", "ok"])
    assert (first["effect"], first["used"]["hostCalls"]) == ("idempotent", 2)


def test_an_effect_in_the_spelling_of_json(shared: Served) -> None:
    def make(name: str) -> bytes:
        return tools.component(name, guests.tool(guests.ECHO), "non_idempotent")

    tool = install(shared, make)
    assert tool.invoke(1).value["effect"] == tool.get().value["effect"] == "nonIdempotent"


def test_what_is_denied_and_logged_is_told(shared: Served) -> None:
    def make(name: str) -> bytes:
        asks = guests.script(guests.send("http://127.0.0.1:9/"))
        return tools.component(name, asks, "read", http=[{"hosts": ["*"], "schemes": ["https", "http"]}])

    policy = (
        b'schema = 1\nname = "x"\n[[grants.http]]\nhosts = ["api.example.com"]\nschemes = ["https", "http"]\n'
    )
    told = install(shared, make, policy).invoke(None).value
    [denial] = told["denied"]
    assert (denial["interface"], denial["rule"]) == ("http", "private")
    assert "127.0.0.1" in denial["detail"]
    [line] = told["log"]
    assert set(line) == {"level", "message"}


def test_a_failure_in_the_tools_own_words(shared: Served) -> None:
    for retryable in (True, False):
        tool = install(shared, lambda name, again=retryable: tools.fails(name, retryable=again))
        refused = tool.invoke(1)
        told = refused.value
        assert (refused.status, told["type"], told["detail"]) == (
            422,
            "/problems/capsule-refused",
            "nothing is left",
        )
        assert (told["failure"], told["retryable"]) == ("out-of-stock", retryable)


def test_a_decision_capsules_refusal_has_no_such_members(shared: Served) -> None:
    """Those are a tool's."""
    refused = problem(shared.get("/tenants/default/jobs/default/capsules/none"), 404, "unknown-capsule")
    assert not {"failure", "retryable"} & set(refused)


def test_what_a_tool_does_wrong_is_its_own_problem(shared: Served) -> None:
    """Each of its own kind; others are answered as before."""
    faults = {
        "capsule-deadline": guests.tool(guests.SPIN),
        "capsule-trapped": guests.tool("unreachable"),
        "capsule-stack": guests.tool(guests.DIVE, more=guests.DIVER),
        "capsule-bad-output": guests.tool("i32.const -64"),
        "capsule-out-of-memory": guests.tool(guests.GROW),
        "capsule-limit": guests.script(guests.call("kv.get", "k", times=0)),
    }
    for kind, guest in faults.items():
        wants: dict[str, Any] = {"kv": {"access": "read"}} if kind == "capsule-limit" else {}

        def make(name: str, guest: guests.Guest = guest, wants: dict[str, Any] = wants) -> bytes:
            return tools.component(name, guest, "read", **wants)

        tool = install(shared, make, OPEN)
        problem(tool.invoke(None), 500, kind)
        [record] = tool.get("/invocations").value["invocations"]
        assert (record["error"], record["outputDigest"]) == (kind, None)


def test_fuel_runs_out(shared: Served) -> None:
    tool = install(shared, tools.spins, DETERMINISTIC + b"[limits]\nfuel = 10000\n")
    problem(tool.invoke(None), 500, "capsule-fuel")


def test_what_is_imported_and_not_granted(shared: Served) -> None:
    tool = install(shared, tools.remember)
    refused = problem(tool.invoke(None), 403, "capability-denied")
    assert "kv" in refused["detail"]
    assert tool.get("/policy").value["notGranted"] == ["kv"]
    assert tool.get("/invocations").value["invocations"][0]["error"] == "capability-denied"


def test_compensate(shared: Served) -> None:
    tool = install(shared, tools.compensable)
    done = tool.invoke({"amount": 5}).value
    told = tool.post("/compensate", {"input": {"amount": 5}, "output": done["output"]}).value
    assert set(told) == INVOKED
    assert told["output"] is None
    functions = [row["function"] for row in tool.get("/invocations").value["invocations"]]
    assert functions == ["invoke", "compensate"]
    for missing in ("input", "output"):
        body = {"input": 1, "output": 1}
        del body[missing]
        refused = problem(tool.post("/compensate", body), 400, "invalid-field")
        assert refused["errors"][0]["pointer"] == f"/{missing}"


def test_what_cannot_be_taken_back(echo: Tool) -> None:
    problem(echo.post("/compensate", {"input": 1, "output": 1}), 409, "wrong-kind")


@pytest.mark.parametrize(
    ("body", "kind", "pointer"),
    [
        ({"input": 1, "inputs": 1}, "unknown-field", "/inputs"),
        ({"input": 1, "record": "yes"}, "invalid-field", "/record"),
        ({"input": 1, "record": None}, "invalid-field", "/record"),
        ([1], "invalid-field", ""),
        ({"input": "x" * (1024 * 1024)}, "invalid-field", "/input"),
        ({"input": json.loads("[" * 31 + "]" * 31)}, "invalid-field", "/input"),
        (b'{"input": 1, "input": 2}', "malformed-body", None),
        (b'{"input": NaN}', "malformed-body", None),
        (b'{"input": ' + b"[" * 40 + b"]" * 40 + b"}", "malformed-body", None),
        (b"", "malformed-body", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_call_refuses(echo: Tool, body: Any, kind: str, pointer: str | None) -> None:
    """Nothing is called, and nothing recorded."""
    before = echo.get("/invocations?limit=1000").value
    refused = problem(echo.post("/invoke", body), 400, kind)
    if pointer is not None:
        assert refused["errors"][0]["pointer"] == pointer
    assert echo.get("/invocations?limit=1000").value == before


def test_the_largest_input_is_taken(echo: Tool) -> None:
    """30 levels, and 1 MiB as JSON without blanks; the limit of the body leaves room for how it is written."""
    assert echo.invoke(json.loads("[" * 30 + "]" * 30)).status == 200
    text = "x" * (1024 * 1024 - 2)
    assert echo.invoke(text).value["output"] == text
    spelled = b'{"input": "' + b"\\u0061" * 300_000 + b'"}'
    assert echo.post("/invoke", spelled).value["output"] == "a" * 300_000
    problem(echo.post("/invoke", b'{"input": 1}' + b" " * _limits.CALL_BYTES), 413, "too-large")


def test_a_key_for_retries_has_no_effect_and_is_refused(echo: Tool) -> None:
    answered = echo.post("/invoke", {"input": 1}, headers={"Idempotency-Key": "k"})
    problem(answered, 400, "invalid-field")


def test_a_call_needs_the_key(echo: Tool) -> None:
    for method, path in (
        ("POST", "/invoke"),
        ("POST", "/compensate"),
        ("GET", "/policy"),
        ("PUT", "/policy"),
        ("GET", "/policy/explain?target=x"),
        ("GET", "/invocations"),
    ):
        problem(echo.served.call(method, echo.path + path, key=None), 401, "unauthorized")


# --- recorded calls


def test_a_recorded_call_is_replayed(recorded: Tool) -> None:
    done = recorded.invoke({"a": 1}, record=True).value
    assert (done["engine"], done["recorded"]) == ("deterministic", True)
    assert done["used"]["fuel"] > 0
    path = f"/invocations/{done['invocationId']}"
    again = recorded.post(f"{path}/replay").value
    assert again == {
        "invocationId": done["invocationId"],
        "same": True,
        "differences": [],
        "output": {"a": 1},
        "recordedOutput": {"a": 1},
    }
    record = recorded.get(path).value
    assert set(record) == RECORD
    assert (record["invocationId"], record["recorded"], record["error"]) == (done["invocationId"], True, None)
    assert (record["function"], record["principal"], record["capsuleVersion"]) == ("invoke", "key admin", 1)
    assert (record["policyDigest"], record["used"]) == (done["policyDigest"], done["used"])
    assert DIGEST.fullmatch(record["inputDigest"])
    assert record["inputDigest"] == record["outputDigest"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])


def test_what_was_not_recorded_is_not_replayed(recorded: Tool, echo: Tool) -> None:
    done = recorded.invoke(1).value
    refused = problem(recorded.post(f"/invocations/{done['invocationId']}/replay"), 400, "invalid-field")
    assert refused["errors"][0]["pointer"] == "/invocationId"
    refused = problem(echo.invoke(1, record=True), 400, "invalid-field")
    assert refused["errors"][0]["pointer"] == "/record"


@pytest.mark.parametrize("id_", ["inv_" + "0" * 32, "inv_", "nonsense", "dec_0", "inv_" + "0" * 500])
def test_ids_that_are_not_of_this_tool(recorded: Tool, echo: Tool, id_: str) -> None:
    """Another tool's is as unknown as one that nobody gave."""
    foreign = echo.invoke(1).value["invocationId"]
    for each in (id_, foreign):
        problem(recorded.get(f"/invocations/{each}"), 404, "unknown-invocation")
        problem(recorded.post(f"/invocations/{each}/replay"), 404, "unknown-invocation")


def test_invocations_page_by_cursor(shared: Served) -> None:
    tool = install(shared, tools.echo)
    ids = [tool.invoke(number).value["invocationId"] for number in range(5)]
    whole = tool.get("/invocations").value
    assert [row["invocationId"] for row in whole["invocations"]] == ids
    assert whole["next"] is None
    paged: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = tool.get(f"/invocations?limit=2&after={after}").value
        assert len(page["invocations"]) <= 2
        paged += page["invocations"]
        after = page["next"]
    assert paged == whole["invocations"]
    for query in ("limit=0", "limit=1001", "limit=x", "after=-1"):
        problem(tool.get(f"/invocations?{query}"), 400, "invalid-field")


def test_logs_that_are_purged_are_forgotten(shared: Served) -> None:
    tool = install(shared, tools.echo)
    done = tool.invoke(1).value["invocationId"]
    assert shared.call("DELETE", f"{tool.path}/logs").status == 200
    assert tool.get("/invocations").value["invocations"] == []
    problem(tool.get(f"/invocations/{done}"), 404, "unknown-invocation")


# --- of which kind


def test_what_only_the_other_kind_does(shared: Served, echo: Tool) -> None:
    router = Installed(shared, "router")
    decides: list[tuple[str, str, Any]] = [
        ("POST", "/decide", {"input": INPUT}),
        ("POST", "/decide", {"input": INPUT, "subject": "a"}),
        ("POST", "/feedback", {"decisionId": "dec_0", "reward": 1}),
        ("POST", "/feedback", {"option": 0, "reward": 1, "contextKey": "k"}),
        ("POST", "/decide/batch", {"requests": [{}]}),
        ("POST", "/feedback/batch", {"events": [{"decisionId": "dec_0", "reward": 1}]}),
        ("GET", "/report", None),
        ("GET", "/contexts", None),
        ("GET", "/learning", None),
        ("PATCH", "/learning", {"mode": "shadow"}),
        ("PUT", "/learning", {"mode": "shadow"}),
        ("GET", "/decisions", None),
        ("GET", "/decisions/dec_0", None),
        ("GET", "/feedback", None),
    ]
    for method, path, body in decides:
        problem(shared.call(method, echo.path + path, body), 409, "wrong-kind")
    invokes: list[tuple[str, str, Any]] = [
        ("POST", "/invoke", {}),
        ("POST", "/compensate", {"input": 1, "output": 1}),
        ("GET", "/policy", None),
        ("PUT", "/policy", {"schema": 1, "name": "x"}),
        ("GET", "/policy/explain?target=x", None),
        ("GET", "/invocations", None),
        ("GET", f"/invocations/inv_{0:032}", None),
        ("POST", f"/invocations/inv_{0:032}/replay", None),
    ]
    for method, path, body in invokes:
        problem(shared.call(method, router.path + path, body), 409, "wrong-kind")


def test_a_tool_is_installed_and_described(shared: Served) -> None:
    tool = Tool(shared, "described")
    component = tools.remember("described")
    dry = tool.post("/install?dryRun=true", component).value
    assert (dry["capsuleVersion"], dry["unchanged"], dry["dryRun"]) == (1, False, True)
    problem(tool.get(), 404, "unknown-capsule")
    assert tool.post("/install", component).value == dry | {"dryRun": False}
    assert tool.post("/install", component).value["unchanged"] is True
    told = tool.get().value
    assert set(told) == words("tenant job capsule capsuleVersion digest definition kind effect imports")
    assert (told["kind"], told["effect"], told["imports"], told["digest"]) == (
        "tool",
        "idempotent",
        ["kv"],
        dry["digest"],
    )
    assert told["definition"]["summary"] == "For tests."
    assert Installed(shared, "router").get().value["kind"] == "decision"
    assert "described" in shared.get("/tenants/default/jobs/default/capsules").value["capsules"]
    problem(tool.post("/install", SPEC.replace(b"name: router", b"name: described")), 409, "install-conflict")
    problem(Installed(shared, "router").post("/install", tools.echo("router")), 409, "install-conflict")


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ({"effect": "pure"}, "invalid-capsule"),
        ({"effect": "idempotent"}, "invalid-capsule"),
        ({"effect": "idempotent", "wants": {"kv": {"access": "write"}}}, "invalid-policy"),
    ],
    ids=str,
)
def test_a_definition_that_does_not_hold(shared: Served, definition: dict[str, Any], kind: str) -> None:
    """A claim that its imports disprove, an import that it does not want, a want that cannot be."""
    asks = guests.script(guests.call("kv.set", "k", "v"))
    document = {"schema": 1, "kind": "tool", "name": "wrong"} | definition
    component = _native.embed_tool_definition(asks.bytes, json.dumps(document))
    tool = Tool(shared, "wrong")
    problem(tool.post("/install?dryRun=true", component), 400, kind)
    before = len(refusals(shared))
    told = problem(tool.post("/install", component), 400, kind)
    problem(tool.get(), 404, "unknown-capsule")
    rows = refusals(shared)
    assert (len(rows), rows[-1]["principal"], rows[-1]["job"]) == (before + 1, "key admin", "default")
    assert rows[-1]["detail"] == {"what": "install", "error": {"code": kind, "detail": told["detail"]}}


def refusals(served: Served) -> list[dict[str, Any]]:
    rows = served.get("/audit?tenant=default&limit=1000").value["audit"]
    return [row for row in rows if row["type"] == "refused"]


def test_a_deleted_tool_is_gone(shared: Served) -> None:
    tool = install(shared, tools.remember, OPEN)
    tool.invoke(1)
    assert shared.call("DELETE", tool.path).value["capsule"] == tool.name
    for path in ("", "/policy", "/invocations"):
        problem(tool.get(path), 404, "unknown-capsule")
    problem(tool.invoke(1), 404, "unknown-capsule")
    assert tool.post("/install", tools.remember(tool.name)).status == 200
    assert tool.allow(OPEN).status == 200
    assert tool.invoke(1).value["output"] == [None, "ok"], "nothing of the old one is left"


# --- the server


def test_secrets_have_no_path(echo: Tool) -> None:
    for path in (f"{echo.path}/secrets", "/tenants/default/secrets", "/tenants/default/secrets/stripe"):
        for method in ("GET", "PUT", "POST"):
            assert echo.served.call(method, path, b"{}").status in (404, 405)


def test_calls_are_counted(served: Served) -> None:
    """By what became of them; only for who shows the key."""
    tool = install(served, tools.echo)
    broken = install(served, tools.spins, OPEN)
    for _ in range(3):
        tool.invoke(1)
    broken.invoke(1)
    told = served.get("/metrics").body.decode()
    counted = re.findall(r"^capsa_invocations_total{(.*)} (\S+)$", told, flags=re.MULTILINE)
    where = 'capsule="{}",job="default",status="{}",tenant="default"'
    assert {name: float(count) for name, count in counted} == {
        where.format(tool.name, "invoked"): 3.0,
        where.format(tool.name, "breached"): 0.0,
        where.format(broken.name, "invoked"): 0.0,
        where.format(broken.name, "breached"): 1.0,
    }
    assert "\ncapsa_capsules 3.0\n" in told
    assert tool.name not in served.get("/metrics", key=None).body.decode()


def test_the_server_answers_while_tools_run(shared: Served) -> None:
    """Slow ones have threads; what is quick is answered at once, and in other tenants too."""
    slow = install(shared, tools.spins, OPEN + b"[limits]\ncpu_ms = 1000\nwall_ms = 5000\n")
    # It is known to be slow from its first call on.
    problem(slow.invoke(None), 500, "capsule-deadline")
    running = [threading.Thread(target=slow.invoke) for _ in range(4)]
    for thread in running:
        thread.start()
    longest = 0.0
    while any(thread.is_alive() for thread in running):
        begun = time.perf_counter()
        assert shared.get("/health", key=None).status == 200
        longest = max(longest, time.perf_counter() - begun)
    for thread in running:
        thread.join()
    assert longest < 0.7


def test_a_stop_ends_the_threads_of_tools(tmp_path: Path) -> None:
    """A call that is running is answered, and then the process ends."""
    with Served(tmp_path / "store", key=KEY) as served:
        tool = install(served, tools.spins, OPEN + b"[limits]\ncpu_ms = 1500\nwall_ms = 5000\n")
        tool.invoke(None)
        answers: list[int] = []
        running = threading.Thread(target=lambda: answers.append(tool.invoke(None).status))
        running.start()
        time.sleep(0.3)
        begun = time.monotonic()
        assert served.stop() == 0
        running.join()
        assert answers == [500]
        assert time.monotonic() - begun < 10
        assert "Traceback" not in served.said


def test_what_was_called_is_there_after_a_restart(tmp_path: Path) -> None:
    with Served(tmp_path / "store") as served:
        tool = install(served, tools.remember, OPEN)
        before = tool.invoke(1).value
        served.kill()
        served.start()
        assert tool.get(f"/invocations/{before['invocationId']}").value["recorded"] is False
        assert tool.invoke(1).value["output"] == ["v", "ok"]
        assert tool.get("/policy").value["policy"]["name"] == "replayable"
