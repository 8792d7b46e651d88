"""No feedback is lost while the server is away, none counts twice, and nothing is raised."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.client.sockets import Listener, answering, closing, http, problem, silent
from tests.server.serving import INPUT, KEY, Served

from capsa.client import AsyncClient, Client, _queue
from capsa.errors import CapsaError, FeedbackConflict

TAKEN = {
    "decisionId": "dec_x",
    "status": "applied",
    "reward": 1.0,
    "parts": {},
    "missing": [],
    "contextKey": "k",
    "decisions": [],
    "learnerVersion": 1,
    "sequence": 1,
}


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come to that"
        time.sleep(0.01)


def body_of(request: bytes) -> Any:
    return json.loads(request.partition(b"\r\n\r\n")[2])


def key_of(request: bytes) -> str | None:
    head = request.partition(b"\r\n\r\n")[0].decode()
    return next(
        (line[17:] for line in head.split("\r\n") if line.lower().startswith("idempotency-key: ")), None
    )


def taking(request: bytes) -> bytes:
    """Takes everything, single or in batches."""
    said = body_of(request)
    if "events" in said:
        return http({"results": [TAKEN] * len(said["events"]), "okCount": 0, "errCount": 0})
    return http(TAKEN)


def test_a_service_under_load_loses_nothing_while_the_server_is_killed_and_started(served: Served) -> None:
    """The bar of the issue: threads decide and report all the time, the server dies and comes back, again and again."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    threads, kills = 4, 3
    given: list[list[tuple[str, float]]] = [[] for _ in range(threads)]
    explicit = [0] * threads
    reasons: set[str] = set()
    raised: list[BaseException] = []
    ends = threading.Event()

    with Client(served.url, KEY, timeout=2) as client:

        def work(number: int) -> None:
            capsule = client.capsule("router", timeout=1, default="balanced")
            try:
                turn = 0
                while not ends.is_set():
                    turn += 1
                    decision = capsule.decide(INPUT)
                    reasons.add(decision.reason)
                    reward = (turn % 100) / 100
                    answered = capsule.feedback(decision.id, reward=reward)
                    assert (answered.status == "unrecorded") == (decision.id is None)
                    if decision.id is not None:
                        given[number].append((decision.id, reward))
                    if turn % 7 == 0:
                        # Without an id only the key of the client makes it count once.
                        capsule.feedback(option="balanced", reward=0.5, context_key=f"explicit{number}")
                        explicit[number] += 1
                    time.sleep(0.002)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is what must not be
                raised.append(error)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for _ in range(kills):
            time.sleep(chance.uniform(0.3, 0.8))
            served.kill()
            time.sleep(chance.uniform(0.1, 0.5))
            served.start()
        time.sleep(0.5)
        ends.set()
        for worker in workers:
            worker.join()
        assert raised == []
        assert client.flush(30) == 0
        counts = client.queue
        assert (counts.waiting, counts.dropped, counts.refused) == (0, 0, 0)
        assert counts.sent > 0
        assert "unreachable" in reasons

        told = [each for one in given for each in one]
        _check_learned_once(
            client, told, {f"explicit{number}": count for number, count in enumerate(explicit)}, chance
        )
        print(len(told), "feedbacks by id,", sum(explicit), "without;", counts)


def _check_learned_once(
    client: Client, told: list[tuple[str, float]], explicit: dict[str, int], chance: random.Random
) -> None:
    """Every feedback stands in the journal, once, and was learned."""
    capsule = client.capsule("router")
    contexts: dict[str, int] = {}
    after = 0
    while rows := capsule.feedback_log(after, 1000):
        after = rows[-1].sequence
        for row in rows:
            assert row.status == "applied"
            contexts[row.context_key] = contexts.get(row.context_key, 0) + 1
    assert contexts == {"legal|enterprise|normal": len(told), **{key: n for key, n in explicit.items() if n}}
    for decision_id, reward in chance.sample(told, min(60, len(told))):
        assert [post.reward for post in capsule.story(decision_id).posts] == [reward]


def test_what_waits_arrives_in_order_and_together() -> None:
    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = closing
        capsule = client.capsule("router")
        for number in range(40):
            assert capsule.feedback(f"dec_{number}", reward=number / 100).status == "queued"
        assert client.queue.waiting == 40
        listener.behaves = answering(listener, taking)
        assert client.flush(20) == 0
        assert client.queue.sent == 40
        arrived = [
            event
            for request in listener.requests
            for event in body_of(request).get("events", [body_of(request)])
        ]
        assert [event["decisionId"] for event in arrived] == [f"dec_{number}" for number in range(40)]
        assert len(listener.requests) < 5
        # Then it goes straight again.
        assert capsule.feedback("dec_x", reward=1).status == "applied"


def test_an_answer_that_was_lost_is_sent_again_with_the_same_key() -> None:
    """The server takes it and dies before it answers: the second time must not count."""

    def dies(connection: socket.socket) -> None:
        listener.request(connection)

    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = dies
        capsule = client.capsule("router")
        assert capsule.feedback(option="balanced", reward=1, context_key="k").status == "queued"
        assert capsule.feedback(option="balanced", reward=1, context_key="k").status == "queued"
        listener.behaves = answering(listener, taking)
        assert client.flush(20) == 0
        keys = [key_of(request) for request in listener.requests]
        assert None not in keys
        # Two feedbacks that say the same are two.
        assert len(set(keys)) == 2
        assert len(keys) >= 3
        assert capsule.feedback(option="balanced", reward=1, idempotency_key="mine").status == "applied"
        assert key_of(listener.requests[-1]) == "mine"


def test_explicit_feedback_counts_once_at_the_real_server(served: Served) -> None:
    """A proxy loses the first answer: the request had arrived."""
    lost = threading.Event()

    def losing(connection: socket.socket) -> None:
        while request := listener.request(connection):
            with socket.create_connection(("127.0.0.1", served.port)) as onward:
                onward.sendall(request)
                answer = onward.recv(65536)
            if not lost.is_set():
                lost.set()
                return
            connection.sendall(answer)

    with Listener(losing) as listener, Client(listener.url, KEY) as client:
        capsule = client.capsule("router")
        assert capsule.feedback(option="balanced", reward=1, context_key="k").status == "queued"
        assert client.flush(20) == 0
        report = capsule.report()
        assert (report.feedback.applied, report.feedback.repeated) == (1, 1)


@pytest.mark.parametrize(
    ("code", "status"), [("overloaded", 503), ("too-many-requests", 429), ("internal", 500)]
)
def test_a_server_that_has_no_time_gets_it_later(code: str, status: int) -> None:
    refusing = True

    def answer(request: bytes) -> bytes:
        return problem(code, status) if refusing else taking(request)

    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = answering(listener, answer)
        assert client.capsule("router").feedback("dec_x", reward=1).status == "queued"
        assert client.queue.waiting == 1
        refusing = False
        assert client.flush(20) == 0
        assert (client.queue.sent, client.queue.refused) == (1, 0)


def test_retry_after_is_honoured() -> None:
    refusing = True

    def answer(request: bytes) -> bytes:
        return problem("starting", 503, headers={"Retry-After": "2"}) if refusing else taking(request)

    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = answering(listener, answer)
        assert client.capsule("router").feedback("dec_x", reward=1).status == "queued"
        begun = time.monotonic()
        refusing = False
        until(lambda: client.queue.sent == 1)
        # Without it the first pause is at most 0.1 s.
        assert time.monotonic() - begun > 1.5


def test_refusals_raise_at_once_and_are_told_later(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[Any, CapsaError]] = []

    def answer(request: bytes) -> bytes:
        said = body_of(request)
        if "events" not in said:
            return problem("feedback-conflict", 409) if said["decisionId"] == "dec_1" else http(TAKEN)
        conflict = {"type": "/problems/feedback-conflict", "title": "t", "status": 409, "detail": "other"}
        return http(
            {"results": [conflict if event["decisionId"] == "dec_1" else TAKEN for event in said["events"]]}
        )

    def listen(event: Any, error: CapsaError) -> None:
        told.append((event, error))
        raise ZeroDivisionError("the caller's own fault")

    with Listener(silent) as listener, Client(listener.url, on_refused=listen) as client:
        listener.behaves = answering(listener, answer)
        capsule = client.tenant("acme").job("j").capsule("a b")
        with pytest.raises(FeedbackConflict):
            capsule.feedback("dec_1", reward=1)
        assert told == []
        listener.behaves = closing
        _close_kept(client)
        for number in range(3):
            assert capsule.feedback(f"dec_{number}", reward=1).status == "queued"
        listener.behaves = answering(listener, answer)
        assert client.flush(20) == 0
        counts = client.queue
        assert (counts.sent, counts.refused) == (2, 1)
    (event, error) = told[0]
    assert (event["tenant"], event["job"], event["capsule"]) == ("acme", "j", "a b")
    assert (event["decisionId"], type(error)) == ("dec_1", FeedbackConflict)
    assert "refused" in caplog.text


def _close_kept(client: Client) -> None:
    """Lets go of kept connections, as the client does by itself after a minute."""
    running = client._worker._running
    assert running is not None

    async def close() -> None:
        session = running.client._line.transport._session
        assert session is not None
        await session.close()
        running.client._line.transport._session = None

    asyncio.run_coroutine_threadsafe(close(), running.loop).result(10)


def test_one_feedback_that_the_server_fails_over_stops_no_other() -> None:
    """It answers 500 to every batch that has it, and to it alone: after some attempts it counts as refused."""

    def answer(request: bytes) -> bytes:
        return problem("internal", 500) if b"dec_1" in request else taking(request)

    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = closing
        capsule = client.capsule("router")
        for number in range(3):
            capsule.feedback(f"dec_{number}", reward=1)
        client.capsule("other").feedback("dec_9", reward=1)
        listener.behaves = answering(listener, answer)
        assert client.flush(60) == 0
        assert (client.queue.sent, client.queue.refused) == (3, 1)
        alone = [request for request in listener.requests if b"dec_1" in request and b"events" not in request]
        assert _queue.FAULTS <= len(alone) <= _queue.FAULTS + 2


def test_a_server_that_fails_over_everything_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad release answers 500 to all: however often, nothing is given up."""
    monkeypatch.setattr(_queue, "LONGEST_S", 0.01)
    failing = True

    def answer(request: bytes) -> bytes:
        return problem("internal", 500) if failing else taking(request)

    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = answering(listener, answer)
        capsule = client.capsule("router")
        for number in range(3):
            assert capsule.feedback(f"dec_{number}", reward=1).status == "queued"
        until(lambda: len(listener.requests) > 10 * _queue.FAULTS)
        assert (client.queue.waiting, client.queue.refused) == (3, 0)
        failing = False
        assert client.flush(20) == 0
        assert (client.queue.sent, client.queue.refused) == (3, 0)


def test_a_wrong_key_meanwhile_loses_nothing(served: Served) -> None:
    with Client(served.url, KEY) as client:
        capsule = client.capsule("router")
        ids = [capsule.decide(INPUT).id for _ in range(3)]
        served.kill()
        assert {capsule.feedback(each, reward=1).status for each in ids} == {"queued"}
        served.key = "another-key-0123456789"
        served.start()
        assert client.flush(1.0) == 3
        served.kill()
        served.key = KEY
        served.start()
        assert client.flush(20) == 0
        assert (client.queue.sent, client.queue.refused) == (3, 0)
        assert capsule.report().feedback.applied == 3


def test_a_full_queue_drops_the_newest(caplog: pytest.LogCaptureFixture) -> None:
    with Client("http://127.0.0.1:1", queue=3) as client:
        capsule = client.capsule("router")
        statuses = [capsule.feedback(f"dec_{number}", reward=1).status for number in range(20)]
        assert statuses == ["queued"] * 3 + ["dropped"] * 17
        assert (client.queue.waiting, client.queue.dropped) == (3, 17)
        answered = capsule.feedback_batch([{"decision_id": "dec_x", "reward": 1}, {"decision_id": None}])
        assert [getattr(each, "status", None) for each in answered] == ["dropped", "unrecorded"]
        dropped = [record for record in caplog.records if "dropped" in record.message]
        # At most one line in some seconds.
        assert len(dropped) == 1
        assert dropped[0].levelno == logging.WARNING
        begun = time.monotonic()
        assert client.close(0.3) == 3
        assert time.monotonic() - begun < 5


def test_bytes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_queue, "QUEUE_BYTES", 1000)
    with Client("http://127.0.0.1:1") as client:
        statuses = [client.capsule("router").feedback("d" * 400, reward=1).status for _ in range(5)]
        assert statuses == ["queued"] * 2 + ["dropped"] * 3
        client.close(0.1)


def test_while_some_wait_nobody_waits_for_the_server() -> None:
    """A server that is silent costs the first feedback its timeout, and the others nothing."""
    with Listener(silent) as listener, Client(listener.url, timeout=1) as client:
        capsule = client.capsule("router")
        assert capsule.feedback("dec_0", reward=1).status == "queued"
        begun = time.monotonic()
        for number in range(100):
            assert capsule.feedback(f"dec_{number}", reward=1).status == "queued"
        assert time.monotonic() - begun < 10
        client.close(0.1)


def test_an_answer_to_a_decision_wakes_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_queue, "FIRST_S", 1000.0)
    monkeypatch.setattr(_queue, "LONGEST_S", 1000.0)
    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = closing
        capsule = client.capsule("router")
        capsule.feedback("dec_0", reward=1)
        # One attempt of the queue's own has failed.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_queue, "FLUSHING_S", 0.01)
            client.flush(0.5)
        # Then the pause is long: nothing comes by itself.
        tried = -1
        while tried != listener.connections:
            tried = listener.connections
            time.sleep(0.3)
        listener.behaves = answering(
            listener,
            lambda request: problem("unknown-capsule", 404) if b"/decide" in request else taking(request),
        )
        assert capsule.decide(default="balanced").reason == "refused"
        until(lambda: client.queue.sent == 1)


def test_feedback_in_batches(served: Served) -> None:
    with Client(served.url, KEY) as client:
        capsule = client.capsule("router")
        ids = [capsule.decide(INPUT).id for _ in range(5)]
        events = [{"decision_id": each, "reward": 0.5} for each in ids]
        explicit = {"option": "balanced", "reward": 0.5, "context_key": "k"}
        served.kill()
        answers = capsule.feedback_batch([events[0], explicit, events[1], {"rewards": 1}])
        assert [getattr(each, "status", None) for each in answers] == ["queued", "queued", "queued", None]
        served.start()
        assert client.flush(20) == 0
        answers = capsule.feedback_batch([*events, explicit])
        assert [getattr(each, "status", None) for each in answers] == ["repeated"] * 2 + ["applied"] * 4
        assert capsule.report().feedback.applied == 7


def test_feedback_without_ids_is_sent_many_at_once() -> None:
    """Each needs a request of its own: one after the other, a service would bring more than goes away."""
    at_once, most, lock = 0, 0, threading.Lock()

    def answer(request: bytes) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1
        return taking(request)

    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = closing
        capsule = client.capsule("router")
        for number in range(60):
            capsule.feedback(option="balanced", reward=1, context_key=f"k{number}")
            capsule.feedback(f"dec_{number}", reward=1)
        listener.requests.clear()
        listener.behaves = answering(listener, answer)
        assert client.flush(30) == 0
        assert client.queue.sent == 120
        assert most > 8
        batched = [
            event["decisionId"]
            for request in listener.requests
            for event in body_of(request).get("events", [])
        ]
        assert batched == [f"dec_{number}" for number in range(60)]
        assert len({key_of(request) for request in listener.requests} - {None}) == 60


def test_a_cancelled_feedback_still_counts(served: Served) -> None:
    """A web framework cancels the handler where its caller has gone; what it reported is no less true."""

    async def run() -> None:
        async with AsyncClient(served.url, KEY) as client:
            capsule = client.capsule("router")
            decision = await capsule.decide(INPUT)
            served.process.send_signal(19)
            task = asyncio.create_task(capsule.feedback(decision.id, reward=0.5))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client.queue.waiting == 1
            served.process.send_signal(18)
            assert await client.flush(20) == 0
            assert (await capsule.report()).feedback.applied == 1

    asyncio.run(run())
