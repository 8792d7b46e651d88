"""How the server ends and begins: in order, in the middle, beside another one. What was acknowledged is there afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3
from tests.server.hostile.attack import Said, answers
from tests.server.hostile.hurried import Hurried
from tests.server.serving import INPUT, KEY, OUTCOME, ROUTER, Served

#: What a busy machine may add to what a limit says.
SLACK_S = 1.5


class Feeding:
    """Callers that decide and give feedback without pause, each on its own connection.

    Attributes:
        acknowledged: Ids whose feedback was answered 200.
        refused: Statuses of what was answered otherwise.
        broken: Connections that ended within an answer.
    """

    def __init__(self, served: Served, callers: int = 6) -> None:
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self.broken: list[str] = []
        self._url = served.url + ROUTER
        self._threads = [threading.Thread(target=self._feed) for _ in range(callers)]
        for thread in self._threads:
            thread.start()

    def _feed(self) -> None:
        with urllib3.PoolManager(retries=False, timeout=30) as pool:
            headers = {"Authorization": f"Bearer {KEY}"}
            while True:
                try:
                    decided = pool.request(
                        "POST", f"{self._url}/decide", json={"input": INPUT}, headers=headers
                    )
                    if decided.status != 200:
                        self.refused.append(decided.status)
                        return
                    id_ = decided.json()["decisionId"]
                    body = {"decisionId": id_, "outcome": OUTCOME}
                    taken = pool.request("POST", f"{self._url}/feedback", json=body, headers=headers)
                    if taken.status != 200:
                        self.refused.append(taken.status)
                        return
                    self.acknowledged.append(id_)
                except urllib3.exceptions.IncompleteRead as error:
                    self.broken.append(repr(error))
                    return
                except urllib3.exceptions.HTTPError:
                    return

    def wait_for(self, count: int) -> None:
        """Returns once so many were acknowledged."""
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def ended(self) -> None:
        """Returns once all callers have ended."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def check_all_there(served: Served, ids: list[str]) -> None:
    """Every feedback that was acknowledged is known: the same again is a repetition."""
    assert ids
    for first in range(0, len(ids), 5000):
        events = [{"decisionId": id_, "outcome": OUTCOME} for id_ in ids[first : first + 5000]]
        told = served.post(f"{ROUTER}/feedback/batch", {"events": events}).value
        assert {result.get("status") for result in told["results"]} == {"repeated"}


@contextlib.contextmanager
def half_sent(served: Served, body: bytes) -> Iterator[socket.socket]:
    """A request whose last byte is still to come."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        head = f"POST {ROUTER}/decide HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:-1])
        yield connection


def read_all(connection: socket.socket) -> list[Said]:
    told = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            told += part
    return answers(told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_under_load_it_ends_in_order_and_keeps_what_it_acknowledged(
    served: Served, number: signal.Signals
) -> None:
    feeding = Feeding(served)
    feeding.wait_for(100)
    served.process.send_signal(number)
    feeding.ended()
    assert served.stop() == 0
    assert feeding.broken == []
    assert set(feeding.refused) <= {503}
    served.start()
    check_all_there(served, feeding.acknowledged)
    counted = served.get(f"{ROUTER}/report").value["feedback"]
    assert counted["applied"] >= len(feeding.acknowledged)


def test_a_request_in_flight_is_answered(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(half_sent(served, b'{"input":{}}')) for _ in range(20)]
        read_so_far(served)
        served.process.send_signal(signal.SIGTERM)
        until_refused(served)
        for connection in waiting:
            connection.sendall(b"}")
        for connection in waiting:
            [answer] = read_all(connection)
            assert answer.status == 200
            assert answer.value["optionName"]
    assert served.stop() == 0


def test_an_answer_in_the_drain_says_that_its_connection_ends(served: Served) -> None:
    with half_sent(served, b'{"input":{}}') as connection:
        read_so_far(served)
        served.process.send_signal(signal.SIGTERM)
        until_refused(served)
        connection.sendall(b"}")
        [answer] = read_all(connection)
    assert answer.headers.get("Connection") == "close"


def read_so_far(served: Served) -> None:
    """Returns once the server has read what was sent: a younger connection has been answered."""
    said = served.raw(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")


def until_refused(served: Served) -> None:
    """Returns once no new connection is taken."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", served.port), timeout=1).close()
        except ConnectionRefusedError:
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def deaf(served: Served) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", served.port))
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(500):
            connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def silent(served: Served) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port))
    connection.sendall(b"POST /x HTTP/1.1\r\n")
    return connection


def half(served: Served) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", served.port))
    head = f"POST {ROUTER}/decide HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 50\r\n\r\n"
    connection.sendall(head.encode() + b"{")
    return connection


@pytest.mark.parametrize("slow", [deaf, silent, half])
def test_slow_clients_hold_up_the_end_no_longer_than_is_declared(
    tmp_path: Path, slow: Callable[[Served], socket.socket]
) -> None:
    with Hurried(tmp_path / "store", DRAIN_S=2.0) as served, contextlib.ExitStack() as stack:
        served.install()
        for _ in range(5):
            stack.enter_context(slow(served))
        read_so_far(served)
        begun = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - begun < 2.0 + SLACK_S


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_changes_nothing(served: Served, again: signal.Signals) -> None:
    with half_sent(served, b'{"input":{}}') as connection:
        read_so_far(served)
        served.process.send_signal(signal.SIGTERM)
        until_refused(served)
        for _ in range(3):
            served.process.send_signal(again)
            time.sleep(0.05)
        connection.sendall(b"}")
        [answer] = read_all(connection)
        assert answer.status == 200
    assert served.stop() == 0
    served.start()
    assert served.get(f"{ROUTER}/report").value["decisions"] == 1


def test_killed_and_started_again_it_has_everything_it_acknowledged(served: Served) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        feeding = Feeding(served)
        feeding.wait_for(60)
        served.kill()
        feeding.ended()
        assert feeding.refused == []
        acknowledged += feeding.acknowledged
        # The same port: nothing of the killed one is in the way.
        served.start()
    check_all_there(served, acknowledged)
    assert served.get("/ready").status == 200


def refused_start(store: Path, *arguments: str, key: str | None = KEY) -> tuple[int, str]:
    """The exit code and the words of a start that fails."""
    environment = {name: value for name, value in os.environ.items() if name != "CAPSA_ADMIN_KEY"}
    if key is not None:
        environment["CAPSA_ADMIN_KEY"] = key
    words = [sys.executable, "-m", "capsa", "serve", str(store), "--port", "0", *arguments]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    return ran.returncode, ran.stderr


def test_a_store_that_another_server_holds_is_not_served(served: Served) -> None:
    state = served.state_hash()
    code, said = refused_start(served.store)
    assert code != 0
    assert "another" in said
    assert str(served.store) in said
    assert served.state_hash() == state
    assert served.post(f"{ROUTER}/decide", {"input": INPUT}).status == 200


def test_a_port_that_is_taken_is_said(served: Served, tmp_path: Path) -> None:
    code, said = refused_start(tmp_path / "other", "--port", str(served.port))
    assert code != 0
    assert f"127.0.0.1:{served.port}" in said
    assert served.get("/health").status == 200


@pytest.mark.parametrize(
    ("key", "arguments", "word"),
    [
        pytest.param(None, (), "no admin key", id="no key"),
        pytest.param("", (), "16", id="empty key"),
        pytest.param("short", (), "16", id="short key"),
        pytest.param("a" * 600, (), "512", id="long key"),
        pytest.param("with blanks in the middle", (), "without spaces", id="blanks"),
        pytest.param("schlüssel-0123456789", (), "ASCII", id="not ASCII"),
        pytest.param(None, ("--dev-mode", "--host", "0.0.0.0"), "this machine", id="dev mode for all"),  # noqa: S104
        pytest.param(None, ("--dev-mode", "--host", "::"), "this machine", id="dev mode for all, IPv6"),
        pytest.param(None, ("--dev-mode", "--host", ""), "this machine", id="dev mode for an empty host"),
    ],
)
def test_it_does_not_start_without_a_key_that_holds(
    tmp_path: Path, key: str | None, arguments: tuple[str, ...], word: str
) -> None:
    code, said = refused_start(tmp_path / "store", *arguments, key=key)
    assert code != 0
    assert word in said
    assert not key or key not in said
    assert not (tmp_path / "store").exists()


def test_a_key_that_others_can_read_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o644)
    code, said = refused_start(tmp_path / "store", "--admin-key-file", str(file), key=None)
    assert code != 0
    assert "chmod 600" in said
    assert KEY not in said


def test_a_socket_is_for_this_user_and_replaces_only_one_that_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "capsa.sock"
    with Served(tmp_path / "store", "--unix-socket", str(path)) as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        code, said = refused_start(tmp_path / "other", "--unix-socket", str(path))
        assert code != 0
        assert str(path) in said
        assert path.is_socket()
        served.kill()
        assert path.is_socket()
        served.start()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            [answer] = read_all(connection)
            assert answer.status == 200
        assert served.stop() == 0
    assert not path.exists()
    path.write_text("a file of somebody's")
    code, said = refused_start(tmp_path / "other", "--unix-socket", str(path))
    assert code != 0
    assert path.read_text() == "a file of somebody's"
