"""Clients that take their time, do not read, or are too many: they lose their connections, and nobody else notices."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.hostile.attack import SMUGGLED, answers, call
from tests.server.hostile.hurried import Hurried
from tests.server.serving import KEY, ROUTER, Served

HEAD_S, BODY_S, READ_S, IDLE_S = 0.6, 0.8, 1.0, 6.0
#: What a busy machine may add; less than what lies between a head and idleness, which would end it too.
SLACK_S = 3.0
DECIDE = f"POST {ROUTER}/decide HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode()
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hurried]:
    limits = {"HEAD_S": HEAD_S, "BODY_S": BODY_S, "READ_S": READ_S, "IDLE_S": IDLE_S, "LOOK_S": 0.1}
    with Hurried(tmp_path_factory.mktemp("hurried") / "store", **limits) as served:
        served.install()
        yield served
        assert served.stop() == 0


@contextlib.contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        yield connection


def until_closed(connection: socket.socket, piece: bytes = b"") -> tuple[float, bytes]:
    """Seconds until the server closes, while a piece is sent ten times a second; and what it said."""
    begun, told = time.monotonic(), b""
    connection.settimeout(0.1)
    while time.monotonic() - begun < 20:
        try:
            part = connection.recv(65536)
            if not part:
                return time.monotonic() - begun, told
            told += part
        except TimeoutError:
            with contextlib.suppress(ConnectionError):
                connection.sendall(piece)
        except ConnectionError:
            return time.monotonic() - begun, told
    raise AssertionError("it stays open")


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"G", b"", id="method"),
        pytest.param(b"\r\n", b"\r\n", id="empty lines"),
        pytest.param(b"GET /", b"a", id="target"),
        pytest.param(b"GET /health HTTP/1.1\r\n", b"X: y\r\n", id="headers"),
        pytest.param(b"GET /health HTTP/1.1\r\nX: ", b"y", id="value"),
        pytest.param(DECIDE, b"", id="head without its end"),
    ],
)
def test_a_slow_head_ends_the_connection(hurried: Hurried, first: bytes, piece: bytes) -> None:
    with connected(hurried) as connection:
        connection.sendall(first)
        took, told = until_closed(connection, piece)
    assert HEAD_S * 0.9 <= took < HEAD_S + SLACK_S
    assert told == b""


@pytest.mark.parametrize(
    "together",
    [False, pytest.param(True, marks=pytest.mark.xfail(strict=True, reason="H20: only IDLE_S ends it"))],
)
def test_a_slow_second_head_ends_the_connection(hurried: Hurried, together: bool) -> None:
    """Also where it begins in the packet that the first request ends in."""
    with connected(hurried) as connection:
        connection.sendall(HEALTH + b"GET /hea" * together)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"" if together else b"GET /hea")
        took, told = until_closed(connection)
    assert HEAD_S * 0.9 <= took < HEAD_S + SLACK_S
    assert told == b""


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(b"Content-Length: 5000\r\n\r\n", b" ", id="length"),
        pytest.param(b"Content-Length: 5000\r\n\r\n{", b"", id="silence"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunks"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n5;", b"a", id="extension of a chunk"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: ", b"y", id="trailer"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: y\r\n", id="trailers"),
    ],
)
def test_a_slow_body_is_answered_and_ends_the_connection(hurried: Hurried, head: bytes, piece: bytes) -> None:
    state = hurried.state_hash()
    with connected(hurried) as connection:
        connection.sendall(DECIDE + head)
        took, told = until_closed(connection, piece)
    assert BODY_S * 0.9 <= took < BODY_S + 2.0 + SLACK_S
    [answer] = answers(told)
    assert (answer.status, answer.value["type"]) == (408, "/problems/request-timeout")
    assert answer.headers["Connection"] == "close"
    assert hurried.state_hash() == state


def test_hundreds_of_slow_clients_hold_up_nobody(hurried: Hurried) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connected(hurried)) for _ in range(300)]
        for number, connection in enumerate(slow):
            connection.sendall(DECIDE if number % 2 else DECIDE + b"Content-Length: 5000\r\n\r\n ")
        for _ in range(20):
            begun = time.monotonic()
            assert hurried.post(f"{ROUTER}/decide", {}).status == 200
            assert time.monotonic() - begun < 1.0


def test_a_client_that_goes_away_is_no_fault(hurried: Hurried) -> None:
    """Nobody is to be woken by a client's own timeout."""
    before, said = failures(hurried), len(hurried.said)
    for body in (b"", b"{", b" " * 4000):
        with connected(hurried) as connection:
            connection.sendall(DECIDE + b"Content-Length: 5000\r\n\r\n" + body)
            time.sleep(0.05)
    deadline = time.monotonic() + 10
    while open_connections(hurried) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert failures(hurried) == before
    assert "ERROR" not in hurried.said[said:]


def failures(served: Served) -> float:
    """How many requests ended in a fault of the server."""
    lines = served.get("/metrics").body.decode().splitlines()
    counts = [
        line.split()[1] for line in lines if line.startswith("capsa_requests_total{") and 'status="5' in line
    ]
    return sum(map(float, counts))


def test_an_idle_connection_is_kept_for_a_while(hurried: Hurried) -> None:
    with connected(hurried) as connection:
        connection.sendall(HEALTH)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        time.sleep(HEAD_S + 0.5)
        # Longer than a head may take: nothing has begun.
        connection.sendall(HEALTH)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        took, _ = until_closed(connection)
    assert IDLE_S * 0.9 <= took < IDLE_S + SLACK_S


def test_a_client_that_never_reads_is_dropped_and_its_answers_take_no_memory(hurried: Hurried) -> None:
    before = resident_bytes(hurried)
    with contextlib.ExitStack() as stack:
        deaf = []
        for _ in range(10):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", hurried.port))
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                for _ in range(2000):
                    connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            deaf.append(connection)
        assert hurried.get("/health").status == 200
        # 2,000 answers of tens of kB each were asked for, ten times.
        assert resident_bytes(hurried) - before < 64 * 2**20
        deadline = time.monotonic() + READ_S + SLACK_S + 10
        while open_connections(hurried) > 2:
            assert time.monotonic() < deadline, "they stay open"
            time.sleep(0.1)


def resident_bytes(served: Served) -> int:
    pages = int(Path(f"/proc/{served.process.pid}/statm").read_text().split()[1])
    return pages * 4096


def open_connections(served: Served) -> int:
    text = served.get("/metrics").body.decode()
    [line] = [line for line in text.splitlines() if line.startswith("capsa_connections ")]
    return int(float(line.split()[1]))


def test_connections_beyond_the_limit_are_told_to_come_back(tmp_path: Path) -> None:
    with Hurried(tmp_path / "store", CONNECTIONS=8) as served:
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connected(served)) for _ in range(8)]
            for connection in held:
                connection.sendall(HEALTH)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            for _ in range(20):
                with connected(served) as surplus:
                    surplus.sendall(HEALTH)
                    _, told = until_closed(surplus)
                [answer] = answers(told)
                assert (answer.status, answer.value["type"]) == (503, "/problems/overloaded")
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.headers["Content-Type"] == "application/problem+json"
            # Those that have a place keep it.
            held[0].sendall(HEALTH)
            assert held[0].recv(65536).startswith(b"HTTP/1.1 200")
        deadline = time.monotonic() + 10
        while served.get("/health").status != 200:
            assert time.monotonic() < deadline, "the places are not given back"
            time.sleep(0.05)
        assert "capsa_connections_turned_away_total 2" in served.get("/metrics").body.decode()
        assert served.stop() == 0


def test_slow_calls_beyond_the_limit_are_told_to_come_back(tmp_path: Path) -> None:
    """And decisions go on meanwhile."""
    with Hurried(tmp_path / "store", SLOW_AT_ONCE=1, SLOW_WAITING=2) as served:
        served.install()
        events = {"events": [{"strategyId": 0, "option": 1, "reward": 0.5, "contextKey": "x"}] * 2000}
        found: list[int] = []

        def feed() -> None:
            found.append(served.post(f"{ROUTER}/feedback/batch", events).status)

        callers = [threading.Thread(target=feed) for _ in range(12)]
        for caller in callers:
            caller.start()
        while any(caller.is_alive() for caller in callers):
            assert served.post(f"{ROUTER}/decide", {}).status == 200
        assert set(found) == {200, 503}
        # Nothing of what was refused has been done.
        told = served.get(f"{ROUTER}/report").value["feedback"]["withoutDecision"]
        assert told == 2000 * found.count(200)


def test_many_pipelined_requests_are_answered_in_their_order(hurried: Hurried) -> None:
    """With bodies; a fault among them ends the connection after those before it."""
    told = b""
    with connected(hurried) as connection:
        for number in range(200):
            head = call(
                "POST", f"{ROUTER}/decide", b"{}", headers=(b"X-Request-Id: n%d" % number,), close=False
            )
            connection.sendall(head(None))  # type: ignore[arg-type] # it needs no ground
        while told.count(b"HTTP/1.1") < 200:
            told += connection.recv(65536)
        connection.sendall(
            b"NONSENSE\r\n\r\n" + DECIDE + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
        )
        _, rest = until_closed(connection)
    found = answers(told + rest)
    assert [answer.status for answer in found] == [200] * 200 + [400]
    assert [answer.headers["X-Request-Id"] for answer in found[:200]] == [
        f"n{number}" for number in range(200)
    ]
