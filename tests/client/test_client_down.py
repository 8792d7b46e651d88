"""With a default a decision comes in time whatever the server does, and nothing is raised."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.client.sockets import (
    Behaviour,
    Listener,
    answering,
    closing,
    deaf,
    http,
    problem,
    silent,
    sockets_open,
)
from tests.server.serving import INPUT, KEY, SPEC, Served

from capsa import errors
from capsa.client import AsyncClient, Client, RemoteCapsule, Unreachable, _transport

DECIDED = {
    "decisionId": "dec_x",
    "capsule": "router",
    "capsuleVersion": 1,
    "job": "default",
    "tenant": "default",
    "mode": "live",
    "contextKey": "k",
    "contextKeyFrom": "input",
    "strategyId": 0,
    "strategy": "choice",
    "option": 1,
    "optionName": "balanced",
    "propensity": 1.0,
    "reason": "onlyOption",
    "suggested": None,
    "decisions": [],
    "learnerVersion": 1,
    "warnings": [],
}


def say(data: bytes, *, read: bool = True, hold: bool = False) -> Behaviour:
    """Says something whatever was asked, and closes."""

    def behave(connection: socket.socket) -> None:
        if read:
            connection.recv(65536)
        connection.sendall(data)
        if hold:
            silent(connection)

    return behave


def endless(head: bytes, part: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head)
        while True:
            connection.sendall(part)

    return behave


def dripping(connection: socket.socket) -> None:
    """One byte at a time: never silent for long, and never done."""
    connection.recv(65536)
    for byte in http(DECIDED):
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD: dict[str, Behaviour] = {
    "closes": closing,
    "reads and closes": deaf,
    "never answers": silent,
    "drips": dripping,
    "garbage": say(b"\x00\xff\x16\x03garbage\r\n\r\n" * 9),
    "no http": say(b"SSH-2.0-OpenSSH_9\r\n"),
    "half a head": say(b"HTTP/1.1 200 OK\r\nContent-Ty"),
    "half a body": say(http(DECIDED)[:-40]),
    "half a body, held": say(http(DECIDED)[:-40], hold=True),
    "half a chunk": say(CHUNKED + b"ffff\r\n{"),
    "bad chunk": say(CHUNKED + b"zz\r\n{}\r\n"),
    "html": say(http(b"<h1>It works</h1>", media="text/html")),
    "html error": say(http(b"<h1>Bad gateway</h1>", 502, "text/html")),
    "no json": say(http(b"{")),
    "not an object": say(http([1])),
    "another object": say(http({"ok": True})),
    "wrong types": say(http({**DECIDED, "option": "one"})),
    "no type": say(http(b"", 204)),
    "redirect": say(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "gzip": say(http(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})),
    "huge length": say(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{"
    ),
    "endless body": endless(CHUNKED, b"10000\r\n" + b" " * 0x10000 + b"\r\n"),
    "endless head": endless(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 1000 + b"\r\n"),
    "deep json": say(http(b"[" * 100_000)),
    "status 999": say(http({}, 999)),
    "error of nobody": say(http({"error": "x"}, 500)),
}


@pytest.mark.parametrize("behaves", BAD.values(), ids=BAD)
def test_whatever_answers_the_default_stands_in(behaves: Behaviour) -> None:
    with Listener(behaves) as listener, Client(listener.url, KEY) as client:
        capsule = client.capsule("router", timeout=1, default="balanced")
        begun = time.monotonic()
        decision = capsule.decide(INPUT, context_key="k")
        # Ten times what is asked for, on a busy machine.
        assert time.monotonic() - begun < 10
        assert (decision.id, decision.reason, decision.option_name) == (None, "unreachable", "balanced")
        assert (decision.propensity, decision.context_key, decision.choices) == (
            None,
            "k",
            {"choice": "balanced"},
        )
        assert isinstance(decision.error, Unreachable)
        with pytest.raises(Unreachable) as raised:
            client.capsule("router", timeout=0.3).decide(INPUT)
        assert KEY not in f"{raised.value!r} {raised.value.__cause__!r}"
        assert raised.value.__context__ is None or raised.value.__suppress_context__


REFUSALS = [
    ("unknown-capsule", 404, errors.UnknownCapsule),
    ("invalid-field", 400, errors.InvalidField),
    ("capsule-trapped", 500, errors.CapsuleTrapped),
    ("internal", 500, errors.HostFault),
    ("overloaded", 503, errors.Overloaded),
    ("store-unwritable", 503, errors.StoreUnwritable),
    ("too-many-requests", 429, errors.Overloaded),
]


@pytest.mark.parametrize(("code", "status", "class_"), REFUSALS)
def test_a_refusal_gives_the_default_and_says_why(code: str, status: int, class_: type[Exception]) -> None:
    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = answering(listener, lambda _: problem(code, status))
        decision = client.capsule("router").decide(INPUT, default={"timeout": "1s", "retries": "0"})
        assert (decision.reason, type(decision.error)) == ("refused", class_)
        assert decision.choices == {"timeout": "1s", "retries": "0"}
        assert (decision.option_name, decision.strategy) == (None, None)
        with pytest.raises(class_):
            client.capsule("router").decide(INPUT)


def test_what_is_wrong_in_the_request_gives_the_default_too(shared: Served) -> None:
    with Client(shared.url, KEY) as client:
        capsule = client.capsule("router", default="balanced")
        for wrong in ({"x": float("nan")}, {"x": object()}, [1]):
            decision = capsule.decide(wrong)  # type: ignore[arg-type]
            assert (decision.reason, type(decision.error)) == ("refused", errors.InvalidField)
        assert capsule.decide(options=["zz"]).reason == "refused"
        with pytest.raises(TypeError):
            capsule.decide(inputs={})  # type: ignore[call-arg]


@pytest.mark.parametrize("timeout", [0.05, 0.5])
def test_the_deadline_is_kept(timeout: float) -> None:
    with Listener(silent) as listener, Client(listener.url) as client:
        capsule = client.capsule("router", timeout=timeout, default="balanced")
        capsule.decide()
        begun = time.monotonic()
        decision = capsule.decide()
        took = time.monotonic() - begun
        assert decision.reason == "unreachable"
        assert timeout <= took < timeout * 10 + 0.5


def test_the_deadline_holds_where_nobody_accepts() -> None:
    """A full backlog: connecting hangs as it does behind a firewall that drops everything."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(socket.socket())
        port.bind(("127.0.0.1", 0))
        port.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(port.getsockname())
        client = stack.enter_context(Client(f"http://127.0.0.1:{port.getsockname()[1]}"))
        begun = time.monotonic()
        decision = client.capsule("router").decide(timeout=0.3, default="balanced")
        assert decision.reason == "unreachable"
        assert 0.3 <= time.monotonic() - begun < 5


def test_the_deadline_holds_while_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up itself cannot be cancelled; nobody waits for it, and neither does the end of the client."""
    asked = threading.Event()
    end = threading.Event()

    def hanging(*_: object, **__: object) -> list[object]:
        asked.set()
        end.wait(30)
        raise socket.gaierror("not found")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        with Client("http://capsa.invalid:8787") as client:
            begun = time.monotonic()
            decision = client.capsule("router").decide(timeout=0.3, default="balanced")
            assert asked.is_set()
            assert 0.3 <= time.monotonic() - begun < 5
            assert decision.reason == "unreachable"
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
    finally:
        end.set()


def test_names_are_looked_up(shared: Served) -> None:
    with Client(f"http://localhost:{shared.port}", KEY) as client:
        assert client.capsule("router").decide(INPUT).id is not None
    with Client("http://capsa.invalid") as client:
        assert client.capsule("router").decide(default="balanced").reason == "unreachable"


def test_calls_that_time_out_leave_no_sockets() -> None:
    with Listener(silent) as listener, Client(listener.url) as client:
        capsule = client.capsule("router", timeout=0.02, default="balanced")
        capsule.decide()
        before = sockets_open()
        threads = [threading.Thread(target=lambda: [capsule.decide() for _ in range(10)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert listener.connections > 20
        # Those of the listener in this very process among them: they end a moment later.
        ends = time.monotonic() + 10
        while sockets_open() > before + 2 and time.monotonic() < ends:
            time.sleep(0.05)
        assert sockets_open() <= before + 2


def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    """The server closes after each answer without saying so: the next request finds that out, and is sent again."""

    def once(connection: socket.socket) -> None:
        if listener.request(connection):
            connection.sendall(http(DECIDED))
            # As a restart does: the next request is read and not answered.
            listener.request(connection)

    with Listener(once) as listener, Client(listener.url) as client:
        capsule = client.capsule("router")
        for _ in range(5):
            assert capsule.decide().id == "dec_x"
        assert listener.connections == 5


def test_a_new_connection_that_is_closed_is_not_tried_for_ever() -> None:
    with (
        Listener(deaf) as listener,
        Client(listener.url) as client,
    ):
        assert client.capsule("router").decide(default="balanced").reason == "unreachable"
        assert listener.connections == 1


def test_connections_are_kept() -> None:
    with Listener(silent) as listener, Client(listener.url) as client:
        listener.behaves = answering(listener, lambda _: http(DECIDED))
        for _ in range(20):
            client.capsule("router").decide()
        assert listener.connections == 1
        head = listener.requests[-1].lower()
        assert b"authorization" not in head
        assert b"accept-encoding: identity" in head


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    body = http({**DECIDED, "warnings": ["x" * 1000] * 10})
    with Listener(say(body)) as listener, Client(listener.url) as client:
        assert client.capsule("router").decide().id == "dec_x"
        monkeypatch.setattr("capsa.client._capsule.ANSWER_BYTES", 1000)
        with pytest.raises(Unreachable, match="more than 1000 bytes"):
            client.capsule("router").decide()
    assert _transport.ANSWER_BYTES < _transport.LARGE_ANSWER_BYTES


def test_batches_of_decisions_stand_in_too(served: Served) -> None:
    with Client(served.url, KEY) as client:
        capsule = client.capsule("router", default="balanced")
        answers = capsule.decide_batch(
            [{"input": INPUT}, {"options": ["zz"]}, {"context_key": "k", "current": 1.5}]
        )
        assert [getattr(answer, "reason", "")[:7] for answer in answers] == ["learned", "refused", "refused"]
        served.kill()
        some: Any = iter([{"context_key": "k"}, 5])
        answers = capsule.decide_batch(some)
        assert [getattr(answer, "reason", None) for answer in answers] == ["unreachable"] * 2
        assert capsule.decide_batch([{}] * 1001)[1000].reason == "refused"  # type: ignore[union-attr]


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with Served(tmp_path / "store", "--unix-socket", str(path)):
        for url in (f"unix:{path}", f"unix://{path}"):
            with Client(url, KEY) as client:
                capsule = client.install(SPEC)
                decision = capsule.decide(INPUT)
                assert capsule.feedback(decision.id, reward=0.5).status == "applied"
                assert str(path) in repr(client)
    with Client(f"unix:{path}.nowhere") as client:
        assert client.capsule("router").decide(default="balanced").reason == "unreachable"


def test_a_proxy_is_used_for_others_and_not_for_this_machine(
    shared: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Listener(silent) as through:
        through.behaves = answering(through, lambda _: http(DECIDED))
        monkeypatch.setenv("http_proxy", through.url.replace("http://", "http://user:hunter2@"))
        with Client(shared.url, KEY) as client:
            assert client.capsule("router").decide(INPUT).id != "dec_x"
        assert through.connections == 0
        with Client("http://capsa.invalid", KEY) as client:
            assert client.capsule("router").decide(INPUT).id == "dec_x"
            assert "hunter2" not in repr(client)
        assert through.requests[0].startswith(
            b"POST http://capsa.invalid/tenants/default/jobs/default/capsules/router/decide"
        )
        assert b"\r\nProxy-Authorization: Basic " in through.requests[0]
        # To a server with TLS it only leads: the key is not for it to see.
        monkeypatch.setenv("https_proxy", through.url.replace("http://", "http://user:hunter2@"))
        with Client("https://capsa.invalid", KEY) as client:
            assert client.capsule("router").decide(default="balanced").reason == "unreachable"
        assert through.requests[-1].startswith(b"CONNECT capsa.invalid:443")
        assert b"\r\nProxy-Authorization: Basic " in through.requests[-1]
        assert KEY.encode() not in through.requests[-1]


def test_tls_is_verified(tmp_path: Path) -> None:
    """A certificate of nobody: no answer, and not a byte of the request."""
    import ssl
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    heard: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            heard.append(secured.recv(65536))
            secured.sendall(http(DECIDED))

    with Listener(behave) as listener:
        url = listener.url.replace("http://127.0.0.1", "https://localhost")
        with Client(url, KEY) as client:
            assert client.capsule("router").decide(default="balanced").reason == "unreachable"
        assert heard == []
        trusted = ssl.create_default_context(cafile=str(certificate))
        with Client(url, KEY, tls=trusted) as client:
            assert client.capsule("router").decide().id == "dec_x"


def test_async_calls_and_cancellation(shared: Served) -> None:
    async def run() -> None:
        async with AsyncClient(shared.url, KEY) as client:
            capsule = client.capsule("router")
            decisions = await asyncio.gather(*(capsule.decide(INPUT) for _ in range(20)))
            answers = await asyncio.gather(*(capsule.feedback(each.id, reward=0.5) for each in decisions))
            assert {answer.status for answer in answers} == {"applied"}
            assert (await capsule.story(decisions[0].id or "")).status == "applied"
        with Listener(silent) as listener:
            async with AsyncClient(listener.url) as client:
                before = sockets_open()
                task = asyncio.create_task(client.capsule("router", default="balanced").decide())
                while not listener.connections:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert sockets_open() <= before + 1

    asyncio.run(run())
    gc.collect()


def test_an_async_client_stays_on_its_loop(shared: Served) -> None:
    client = AsyncClient(shared.url, KEY)

    async def decide(*, close: bool = False) -> None:
        await client.capsule("router", default="balanced").decide()
        if close:
            await client.close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(decide())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(decide())
    loop.run_until_complete(decide(close=True))
    loop.close()


def test_after_close(shared: Served) -> None:
    client = Client(shared.url, KEY)
    capsule = client.capsule("router")
    decision = capsule.decide(INPUT)
    assert client.close() == 0
    assert client.close() == 0
    with pytest.raises(errors.StoreClosed):
        capsule.decide(INPUT)
    assert capsule.decide(INPUT, default="balanced").reason == "unreachable"
    assert capsule.feedback(decision.id, reward=1).status == "dropped"
    assert [answer.status for answer in capsule.feedback_batch([{"decision_id": decision.id}])] == ["dropped"]  # type: ignore[union-attr]


def test_closing_while_others_call_raises_nothing(shared: Served) -> None:
    raised: list[BaseException] = []
    for _ in range(5):
        client = Client(shared.url, KEY)
        stop = threading.Event()

        def call(client: Client = client, stop: threading.Event = stop) -> None:
            capsule = client.capsule("router", timeout=5, default="balanced")
            try:
                while not stop.is_set():
                    decision = capsule.decide(INPUT)
                    capsule.feedback(decision.id, reward=1)
            except BaseException as error:  # noqa: BLE001 - nothing may come
                raised.append(error)

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        client.close()
        time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    assert raised == []


def _thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_client_that_nobody_holds_ends_its_thread(shared: Served) -> None:
    def use() -> None:
        capsule: RemoteCapsule = Client(shared.url, KEY).capsule("router")
        gc.collect()
        # The capsule holds its client.
        assert capsule.decide(INPUT).id is not None
        assert "capsa-client" in _thread_names()

    use()
    gc.collect()
    ends = time.monotonic() + 10
    while any(name.startswith("capsa-client") for name in _thread_names()) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not any(name.startswith("capsa-client") for name in _thread_names())


def test_nothing_happens_before_the_first_call() -> None:
    with Listener(silent) as listener:
        client = Client(listener.url)
        client.capsule("router")
        assert "capsa-client" not in _thread_names()
        assert (client.queue.waiting, client.flush(), client.close()) == (0, 0, 0)
        assert listener.connections == 0
