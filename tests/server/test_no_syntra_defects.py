"""The weaknesses of the nearest system, by the numbers under which they were recorded: each has a test that shows we lack it.

1-11 concern data, 12-14 availability, 15 security. What is left out does not exist here yet (snapshots that users make,
evolution, scoped tokens, capabilities).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3
from tests.contract.test_capsule_failures import DIVE, DIVER, SPIN, guest
from tests.server.serving import INPUT, KEY, OUTCOME, ROUTER, SPEC, Served

GUEST = ROUTER.replace("router", "guest")


@pytest.fixture
def learned(served: Served) -> Served:
    """A server whose capsule has learned something in 30 contexts."""
    events = [
        {"strategyId": 0, "option": number % 3, "reward": number / 30, "contextKey": f"c{number}"}
        for number in range(30)
    ]
    told = served.post(f"{ROUTER}/feedback/batch", {"events": events}).value
    assert told["okCount"] == 30
    return served


def together(
    served: Served, callers: int, times: int, call: Callable[[urllib3.HTTPConnectionPool, int], Any]
) -> list[Any]:
    """What many callers get, each on a connection of its own: `call` is told the connection and a number."""

    def work(caller: int) -> list[Any]:
        with urllib3.HTTPConnectionPool("127.0.0.1", served.port, maxsize=1, timeout=60) as pool:
            return [call(pool, caller * times + number) for number in range(times)]

    with ThreadPoolExecutor(callers) as pool:
        return [answer for answers in pool.map(work, range(callers)) for answer in answers]


def posted(pool: urllib3.HTTPConnectionPool, action: str, body: Any) -> Any:
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = pool.request("POST", f"{ROUTER}/{action}", json=body, headers=headers, retries=False)
    assert answer.status == 200, answer.data
    return answer.json()


def pages(served: Served, path: str, name: str) -> list[dict[str, Any]]:
    """All rows of a log."""
    rows: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = served.get(f"{path}?after={after}&limit=1000").value
        rows += page[name]
        after = page["next"]
    return rows


@pytest.mark.parametrize("callers", [4, 8, 32])
def test_1_concurrent_deciders_erase_nothing_that_was_learned(learned: Served, callers: int) -> None:
    """A decision writes no learned state: the hash and every context are as before, also after a restart."""
    before = learned.state_hash(), learned.get(f"{ROUTER}/contexts").value
    together(
        learned,
        callers,
        400 // callers,
        lambda pool, number: posted(pool, "decide", {"contextKey": f"c{number % 40}"}),
    )
    assert (learned.state_hash(), learned.get(f"{ROUTER}/contexts").value["contexts"][0]["weights"]) == (
        before[0],
        before[1]["contexts"][0]["weights"],
    )
    learned.kill()
    learned.start()
    assert learned.state_hash() == before[0]


def test_2_no_acknowledged_feedback_is_lost_beside_deciders(served: Served) -> None:
    """Every one of them is counted, and is there after a kill."""

    def call(pool: urllib3.HTTPConnectionPool, number: int) -> str | None:
        decided = posted(pool, "decide", {"input": INPUT})
        if number % 2:
            return None
        taken = posted(pool, "feedback", {"decisionId": decided["decisionId"], "outcome": OUTCOME})
        assert taken["status"] == "applied"
        return str(decided["decisionId"])

    fed = [id_ for id_ in together(served, 8, 60, call) if id_]
    assert len(fed) == 240
    assert served.get(f"{ROUTER}/report").value["feedback"]["applied"] == 240
    state = served.state_hash()
    served.kill()
    served.start()
    assert served.get(f"{ROUTER}/report").value["feedback"]["applied"] == 240
    assert served.state_hash() == state


def test_3_concurrent_deciders_leave_whole_logs(served: Served) -> None:
    """Every decision is in the log once, with its propensity, its time and the names; every id is usable."""
    answers = together(served, 12, 50, lambda pool, _: posted(pool, "decide", {"input": INPUT}))
    rows = {row["decisionId"]: row for row in pages(served, f"{ROUTER}/decisions", "decisions")}
    assert len(rows) == len(answers) == 600
    for answer in answers:
        row = rows[answer["decisionId"]]
        assert (row["propensity"], row["reason"]) == (answer["propensity"], answer["reason"])
        assert row["time"].endswith("Z")
    events = [{"decisionId": answer["decisionId"], "reward": 0.5} for answer in answers]
    assert served.post(f"{ROUTER}/feedback/batch", {"events": events}).value["okCount"] == 600


def test_4_after_a_kill_the_logs_agree_with_what_was_learned(served: Served) -> None:
    """There is one journal: state is its fold, the log shows it, and no temporary files stay."""
    for _ in range(3):
        with ThreadPoolExecutor(1) as background:
            feeding = background.submit(feed_until_gone, served)
            time.sleep(0.5)
            served.kill()
            acknowledged = feeding.result()
        served.start()
        report = served.get(f"{ROUTER}/report").value
        log = pages(served, f"{ROUTER}/feedback", "feedback")
        assert report["feedback"]["applied"] == len(log)
        assert {row["sequence"] for row in log} >= set(acknowledged)
        assert not list(served.store.rglob("*.tmp"))
    rebuilt = served.state_hash()
    assert served.stop() == 0
    served.start()
    assert served.state_hash() == rebuilt


def feed_until_gone(served: Served) -> list[int]:
    """Feedback until the server is gone: the places of what was acknowledged."""
    found: list[int] = []
    with (
        contextlib.suppress(urllib3.exceptions.HTTPError),
        urllib3.HTTPConnectionPool("127.0.0.1", served.port) as pool,
    ):
        while True:
            decided = posted(pool, "decide", {"input": INPUT})
            taken = posted(pool, "feedback", {"decisionId": decided["decisionId"], "outcome": OUTCOME})
            found.append(taken["sequence"])
    return found


def test_5_refused_feedback_counts_nowhere(learned: Served) -> None:
    """Neither in the state nor in the report nor in the log, however extreme its reward."""
    before = learned.state_hash(), learned.get(f"{ROUTER}/report").value["feedback"]
    for number in range(35):
        answer = learned.post(f"{ROUTER}/feedback", {"decisionId": f"dec_{number}", "reward": 1e9})
        assert answer.status in (400, 404)
        assert (
            learned.post(f"{ROUTER}/feedback", {"decisionId": f"dec_{number}", "reward": 1.0}).status == 404
        )
    assert (learned.state_hash(), learned.get(f"{ROUTER}/report").value["feedback"]) == before


@pytest.mark.parametrize("id_", ["", "d", "dec_", "algorithm", '"contextKey":"c0"', "decisionId"])
def test_6_a_piece_of_the_log_is_no_id(shared: Served, id_: str) -> None:
    """An id is opened, not searched for."""
    shared.post(f"{ROUTER}/decide", {"contextKey": "c0"})
    state = shared.state_hash()
    assert shared.post(f"{ROUTER}/feedback", {"decisionId": id_, "reward": 1.0}).status == 404
    assert shared.state_hash() == state


def test_7_one_decision_is_learned_once(shared: Served) -> None:
    """Posted five times it moves the weights once; with a key, so does feedback without a decision."""
    decided = shared.post(f"{ROUTER}/decide", {"input": INPUT}).value
    post = {"decisionId": decided["decisionId"], "outcome": OUTCOME}
    told = [shared.post(f"{ROUTER}/feedback", post).value for _ in range(5)]
    assert [each["status"] for each in told] == ["applied", *["repeated"] * 4]
    assert {json.dumps(each["after"]) for each in told} == {json.dumps(told[0]["after"])}
    state = shared.state_hash()
    explicit = {"strategyId": 0, "option": 1, "reward": 1.0, "contextKey": "once"}
    again = [
        shared.post(f"{ROUTER}/feedback", explicit, headers={"Idempotency-Key": "k-7"}).value
        for _ in range(5)
    ]
    assert [each["status"] for each in again] == ["applied", *["repeated"] * 4]
    assert shared.state_hash() != state
    assert len({each["sequence"] for each in again}) == 1


@pytest.mark.parametrize("reward", [1e12, -1e12, 1.0000001, 1e308])
def test_8_a_reward_out_of_range_reaches_nothing(shared: Served, reward: float) -> None:
    """It is refused, not clipped in one place and taken in another."""
    decided = shared.post(f"{ROUTER}/decide", {"input": INPUT}).value
    before = shared.state_hash(), shared.get(f"{ROUTER}/report").value["feedback"]
    for body in (
        {"decisionId": decided["decisionId"], "reward": reward},
        {"strategyId": 0, "option": 0, "contextKey": "x", "reward": reward},
    ):
        answer = shared.post(f"{ROUTER}/feedback", body)
        assert (answer.status, answer.value["type"]) == (400, "/problems/reward-out-of-range")
    assert (shared.state_hash(), shared.get(f"{ROUTER}/report").value["feedback"]) == before


def test_9_contexts_do_not_leak_and_are_bounded(served: Served) -> None:
    """Feedback in one context moves no other; long keys are refused; beyond the limit the oldest goes, and is counted."""
    small = SPEC + b"max_contexts: 20\n"
    path = ROUTER.replace("router", "small")
    served.install(small.replace(b"name: router", b"name: small"), path)

    def feed(key: str, reward: float) -> int:
        body = {"strategyId": 0, "option": 0, "reward": reward, "contextKey": key}
        return served.post(f"{path}/feedback", body).status

    def weights(key: str) -> Any:
        listed = served.get(f"{path}/contexts").value["contexts"]
        return next(row["weights"] for row in listed if row["contextKey"] == key)

    assert feed("first", 0.5) == 200
    before = weights("first")
    for _ in range(20):
        assert feed("second", -1.0) == 200
    assert weights("first") == before
    for number in range(40):
        assert feed(f"more{number}", 0.1) == 200
    told = served.get(f"{path}/report").value["contexts"]
    assert (told["count"], told["limit"], told["evicted"]) == (20, 20, 22)
    assert feed("x" * 257, 0.1) == 400
    assert feed("x" * 1_000_000, 0.1) == 413
    assert served.get(f"{path}/report").value["contexts"]["evicted"] == 22


def test_10_frozen_is_frozen_and_settings_are_taken_whole_or_not_at_all(learned: Served) -> None:
    """Nothing is learned while frozen; a change of something else does not thaw; what is unknown is refused, with its company."""
    assert learned.call("PUT", f"{ROUTER}/learning", {"rails": {"freeze": True}}).status == 200
    state = learned.state_hash()
    decided = learned.post(f"{ROUTER}/decide", {"contextKey": "c1"}).value
    assert (decided["reason"], decided["propensity"]) == ("frozen", 1.0)
    taken = learned.post(f"{ROUTER}/feedback", {"decisionId": decided["decisionId"], "reward": 1.0}).value
    assert (taken["status"], taken["before"]) == ("frozen", taken["after"])
    assert learned.state_hash() == state
    changes: list[tuple[str, dict[str, Any]]] = [
        ("PUT", {"rails": {"minExploration": 0.05}}),
        ("PATCH", {"baseline": "balanced"}),
    ]
    for method, change in changes:
        told = learned.call(method, f"{ROUTER}/learning", change).value
        assert told["rails"]["freeze"] is True
    version = learned.get(f"{ROUTER}/learning").value["version"]
    for body in (
        {"algorithm": "gradient"},
        {"rails": {"freeze": False}, "algorithm": "gradient"},
        {"freezeLearning": False},
    ):
        assert learned.call("PUT", f"{ROUTER}/learning", body).status == 400
    told = learned.get(f"{ROUTER}/learning").value
    assert (told["rails"]["freeze"], told["version"]) == (True, version)


def test_11_changes_and_deletes_are_audited_and_the_audit_outlives_the_logs(learned: Served) -> None:
    """Who changed what: settings, logs, capsules, jobs; and no call takes that away."""
    learned.call("PUT", f"{ROUTER}/learning", {"rails": {"freeze": True}})
    assert learned.call("DELETE", f"{ROUTER}/logs").status == 200
    assert learned.get(f"{ROUTER}/decisions").value["decisions"] == []
    kept = [(row["type"], row["principal"]) for row in learned.get(f"{ROUTER}/audit").value["audit"]]
    assert ("installed", "key admin") in kept
    assert ("learning_changed", "key admin") in kept or ("learningChanged", "key admin") in kept
    assert len(kept) >= 3
    assert learned.state_hash()
    assert learned.call("DELETE", ROUTER).status == 200
    audit = learned.get("/audit?tenant=default").value["audit"]
    assert ("deleted", "key admin") in [(row["type"], row["principal"]) for row in audit]


@pytest.mark.parametrize("count", [32, 64, 1000])
def test_12_connections_opened_at_once_are_all_served(shared: Served, count: int) -> None:
    """While all the others stay open."""
    request = f"POST {ROUTER}/decide HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 2\r\n\r\n{{}}"
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in range(count)]
        for connection in connections:
            connection.settimeout(30)
            connection.connect(("127.0.0.1", shared.port))
        for _ in range(2):
            for connection in connections:
                connection.sendall(request.encode())
            for connection in connections:
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("component", "kind"),
    [
        pytest.param(guest(frame=SPIN), "capsule-deadline", id="loop"),
        pytest.param(guest(frame=DIVE, more=DIVER), "capsule-stack", id="recursion"),
        pytest.param(guest(frame="unreachable"), "capsule-trapped", id="trap"),
    ],
)
def test_13_a_capsule_that_fails_stops_nobody_else(served: Served, component: bytes, kind: str) -> None:
    """More calls to it at once than there are threads: each ends in its error, others are answered meanwhile."""
    served.install(component, GUEST)
    headers = {"Authorization": f"Bearer {KEY}"}

    def fail(pool: urllib3.HTTPConnectionPool, _: int) -> str:
        answer = pool.request("POST", f"{GUEST}/decide", body=b"{}", headers=headers, retries=False)
        assert answer.status == 500
        return str(answer.json()["type"])

    with ThreadPoolExecutor(1) as background:
        failing = background.submit(together, served, 12, 3, fail)
        slowest = 0.0
        while not failing.done():
            begun = time.monotonic()
            assert served.get("/health").status == 200
            assert served.post(f"{ROUTER}/decide", {}).status == 200
            slowest = max(slowest, time.monotonic() - begun)
        assert set(failing.result()) == {f"/problems/{kind}"}
    assert slowest < 5.0
    assert served.stop() == 0


@pytest.mark.parametrize("name", ["größe", "名前", "r\u043euter", "a\u202eb", "\U0001f980"])
def test_13_a_name_that_is_not_ascii_stops_nothing(shared: Served, name: str) -> None:
    """Whether it stands in the path, the body or a header."""
    quoted = urllib3.util.parse_url(f"http://x/{name}").path
    state = shared.state_hash()
    spec = SPEC.replace(b"name: router", f"name: {name}".encode())
    assert shared.post(f"{ROUTER}/install", spec).status == 400
    assert shared.get(f"/tenants/default/jobs/default/capsules{quoted}/report").status in (400, 404)
    assert shared.post("/tenants/default/jobs", {"id": name}).status == 400
    assert shared.state_hash() == state
    assert shared.get("/ready").status == 200


def test_14_a_decision_waits_for_nothing_and_nobody_is_rationed(learned: Served) -> None:
    """Keep-alive decisions of a capsule that has learned take a few milliseconds, and thousands in a row are all answered."""
    connection = http.client.HTTPConnection("127.0.0.1", learned.port, timeout=30)
    took = []
    for number in range(1500):
        begun = time.perf_counter()
        body = json.dumps({"contextKey": f"c{number % 30}"})
        connection.request("POST", f"{ROUTER}/decide", body, {"Authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        took.append(time.perf_counter() - begun)
    connection.close()
    # The nearest system needs 44 ms; here it is below one on a quiet machine.
    assert statistics.median(took) < 0.020


def test_15_what_needs_no_key_names_nothing(shared: Served) -> None:
    """Neither tenants, jobs and capsules nor where the store lies."""
    shared.install(
        SPEC.replace(b"name: router", b"name: hidden-capsule"),
        "/tenants/hidden-tenant/jobs/hidden-job/capsules/hidden-capsule",
    )
    for path in (
        "/health",
        "/ready",
        "/metrics",
        "/openapi.json",
        "/problems",
        "/problems/internal",
        "/nothing",
        "/",
    ):
        text = shared.get(path, key=None).body.decode()
        assert "hidden" not in text
        assert str(shared.store) not in text
    assert "hidden-capsule" in shared.get("/metrics").body.decode()


def test_15_reading_calls_teach_nothing(learned: Served) -> None:
    """Nothing that is read changes state, and no parameter makes a decision learn."""
    state = learned.state_hash()
    decided = learned.post(f"{ROUTER}/decide", {"contextKey": "c1"}).value
    for path in (
        "report",
        "contexts",
        "learning",
        "decisions",
        "feedback",
        "audit",
        f"decisions/{decided['decisionId']}",
    ):
        assert learned.get(f"{ROUTER}/{path}").status == 200
    for query in ("learn=true", "update=1", "mode=live"):
        assert learned.post(f"{ROUTER}/decide?{query}", {}).status == 400
    assert learned.state_hash() == state


@pytest.mark.parametrize(
    "body", [b"garbage", b"", b"[]", b'{"contexts":', b"\xff\xfe", b'{"contextkey":"x"}']
)
def test_15_decide_takes_no_garbage(shared: Served, body: bytes) -> None:
    decisions = shared.get(f"{ROUTER}/report").value["decisions"]
    assert shared.post(f"{ROUTER}/decide", body).status == 400
    assert shared.get(f"{ROUTER}/report").value["decisions"] == decisions


def test_15_a_job_takes_no_policy_and_install_takes_no_garbage(shared: Served) -> None:
    """A grant that nobody looks at would look like one; what is no capsule is refused when it is installed."""
    body = {"id": "granted", "policy": {"allow_network": "yes"}}
    answer = shared.post("/tenants/default/jobs", body)
    assert (answer.status, answer.value["type"]) == (400, "/problems/unknown-field")
    assert shared.get("/tenants/default/jobs/granted").status == 404
    for garbage in (b"garbage", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0garbage", bytes(1000)):
        assert shared.post(f"{GUEST}/install", garbage).status == 400
    assert shared.get(GUEST).status == 404
    assert guest(more="").startswith(b"\0asm")


def test_15_a_wrong_method_is_not_a_missing_path(shared: Served) -> None:
    answer = shared.get(f"{ROUTER}/decide")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
