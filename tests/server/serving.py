"""The real server as a process on loopback, for tests of everything around it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import urllib3

KEY = "tests-0123456789abcdef"
SPEC = b"""\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency_ms: {weight: -0.2, budget: 2000}, cost_usd: {weight: -0.2, budget: 0.02}}
"""
INPUT = {"task_type": "legal", "customer_tier": "enterprise", "urgency": "normal"}
OUTCOME = {"quality": 0.9, "latency_ms": 640, "cost_usd": 0.0011}
ROUTER = "/tenants/default/jobs/default/capsules/router"


class Answer:
    """What the server answered.

    Attributes:
        status: The HTTP status.
        headers: Its headers, by name in any case.
        body: Its bytes.
    """

    def __init__(self, answered: urllib3.BaseHTTPResponse) -> None:
        self.status = answered.status
        self.headers = answered.headers
        self.body = answered.data

    @property
    def value(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Served:
    """`capsa serve` in a process of its own.

    Args:
        store: The folder of its store.
        arguments: Further words of the command.
        key: The admin key; ``None``: dev mode.
        port: 0 takes a free one; a restart keeps it.
    """

    def __init__(self, store: Path, *arguments: str, key: str | None = KEY, port: int = 0) -> None:
        self.store = store
        self.key = key
        self.port = port
        self._arguments = arguments
        self._pool = urllib3.PoolManager(retries=False, timeout=30)
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it serves."""
        words = ["serve", str(self.store), "--port", str(self.port), *self._arguments]
        environment = {name: value for name, value in os.environ.items() if name != "CAPSA_ADMIN_KEY"}
        if self.key is None:
            words.append("--dev-mode")
        else:
            environment["CAPSA_ADMIN_KEY"] = self.key
        self.log = (self.store.parent / f"{self.store.name}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "capsa", *words],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"http://[^ ]*:(\d+)", said)
        if found is not None:
            self.port = int(found[1])
        elif "unix:" not in said:
            self.stop()
            raise AssertionError(f"it does not serve: {said!r}\n{self.said}")

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """Its log."""
        return (self.store.parent / f"{self.store.name}.log").read_text()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        key: str | None = "",
    ) -> Answer:
        """One request; a body that is not bytes is sent as JSON. `key`: another one, or ``None`` for none."""
        shown = self.key if key == "" else key
        told = {} if shown is None else {"Authorization": f"Bearer {shown}"}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return Answer(self._pool.request(method, self.url + path, body=data, headers=told | (headers or {})))

    def get(self, path: str, **more: Any) -> Answer:
        """A GET."""
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        """A POST."""
        return self.call("POST", path, body, **more)

    def install(self, spec: bytes = SPEC, path: str = ROUTER) -> None:
        """Installs the usual capsule."""
        answered = self.post(f"{path}/install", spec)
        assert answered.status == 200, answered.body

    def state_hash(self, path: str = ROUTER) -> str:
        """The digest of what a capsule has learned."""
        told: str = self.get(f"{path}/report").value["stateHash"]
        return told

    def raw(self, data: bytes, *, timeout: float = 20.0) -> bytes:
        """Sends bytes on a connection of their own, and gives what comes back until it is closed or silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(data)
            told = b""
            try:
                while part := connection.recv(65536):
                    told += part
            except (TimeoutError, ConnectionError):
                pass
            return told

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.process.kill()
        self._ended()

    def stop(self, timeout: float = 40.0) -> int:
        """Tells it to stop, and gives its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout)
        return self._ended()

    def _ended(self) -> int:
        code = self.process.wait(40)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        self._pool.clear()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._ended()
