"""Servers on loopback that are no Capsa servers, as bad ones are: real sockets, one thread for each connection."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

#: What happens on one connection; returns where it is to be closed.
Behaviour = Callable[[socket.socket], None]


class Listener:
    """A port that behaves.

    Args:
        behaves: What happens on each connection; may be changed at any time.

    Attributes:
        connections: How many were accepted.
        requests: The head and body of every request that `request` read.
    """

    def __init__(self, behaves: Behaviour) -> None:
        self.behaves = behaves
        self.connections = 0
        self.requests: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def request(self, connection: socket.socket) -> bytes:
        """Reads one request whole; empty at the end of the connection."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        while len(body) < length:
            body += connection.recv(65536)
        whole = head + b"\r\n\r\n" + body
        self.requests.append(whole)
        return whole

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.behaves(connection)
        with contextlib.suppress(OSError):
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that accepts.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def http(
    body: Any, status: int = 200, media: str = "application/json", headers: dict[str, str] | None = None
) -> bytes:
    """An answer; a body that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {media}", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def problem(code: str, status: int, *, headers: dict[str, str] | None = None) -> bytes:
    """A problem document as an answer."""
    document = {"type": f"/problems/{code}", "title": code, "status": status, "detail": f"it is {code}"}
    return http(document, status, "application/problem+json", headers)


def answering(listener: Listener, answer: Callable[[bytes], bytes]) -> Behaviour:
    """Answers every request of a connection with what `answer` gives for it."""

    def behave(connection: socket.socket) -> None:
        while request := listener.request(connection):
            connection.sendall(answer(request))

    return behave


def closing(connection: socket.socket) -> None:
    """Closes at once."""
    del connection


def deaf(connection: socket.socket) -> None:
    """Reads what comes first, and closes."""
    connection.recv(65536)


def silent(connection: socket.socket) -> None:
    """Reads, and never answers."""
    while connection.recv(65536):
        pass


def sockets_open() -> int:
    """How many sockets this process holds."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(entry.readlink()).startswith("socket:")
    return count
