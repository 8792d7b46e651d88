"""Capsules for tests over HTTP: each test installs its own, under a name of its own; and what answers must be."""

from __future__ import annotations

import itertools
from typing import Any, Final

from tests.server.serving import ROUTER, Answer, Served

PLAIN: Final = b"name: router\noptions: [a, b, c]\nreward: {quality: 1}\n"
SCALED: Final = b"""\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency_ms: {weight: -0.2, budget: 2000}, cost_usd: {weight: -0.2, budget: 0.02}}
"""
JOINT: Final = b"""\
name: router
strategies:
  timeout: {options: [1s, 2s, 5s]}
  retries: {options: ["0", "1", "3"]}
valid:
  - {timeout: 1s}
  - {timeout: [2s, 5s], retries: ["0", "1"]}
"""
#: One option more than are listed unasked.
WIDE: Final = f"name: router\noptions: [{', '.join(f'o{number}' for number in range(65))}]\n".encode()

_numbers = itertools.count(1)


class Installed:
    """A capsule on a server.

    Args:
        served: The server.
        name: The capsule's name.
    """

    def __init__(self, served: Served, name: str) -> None:
        self.served = served
        self.name = name
        self.path = f"/tenants/default/jobs/default/capsules/{name}"

    def get(self, path: str = "", **more: Any) -> Answer:
        """A GET below it."""
        return self.served.get(self.path + path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        """A POST below it."""
        return self.served.post(self.path + path, body, **more)

    def put(self, body: Any, **more: Any) -> Answer:
        """Puts its learning document."""
        return self.served.call("PUT", f"{self.path}/learning", body, **more)

    def patch(self, body: Any, **more: Any) -> Answer:
        """Changes its learning document."""
        return self.served.call("PATCH", f"{self.path}/learning", body, **more)

    def decide(self, body: Any, *, query: str = "") -> Any:
        """A decision that is made."""
        answered = self.post(f"/decide{query}", body)
        assert answered.status == 200, answered.body
        return answered.value

    def feedback(self, body: Any) -> Any:
        """A feedback that is taken."""
        answered = self.post("/feedback", body)
        assert answered.status == 200, answered.body
        return answered.value

    def state_hash(self) -> str:
        """The digest of what it has learned."""
        return self.served.state_hash(self.path)


class Capsules:
    """The capsules of one server.

    Args:
        served: The server, with the usual capsule.
    """

    def __init__(self, served: Served) -> None:
        self._served = served
        self.router = Installed(served, ROUTER.rpartition("/")[2])

    def install(self, spec: bytes) -> Installed:
        """A new capsule; ``name: router`` in its spec becomes a name of its own."""
        capsule = Installed(self._served, f"own-{next(_numbers)}")
        renamed = spec.replace(b"name: router", f"name: {capsule.name}".encode(), 1)
        answered = capsule.post("/install", renamed)
        assert answered.status == 200, answered.body
        return capsule


def problem(answered: Answer, status: int, kind: str) -> dict[str, Any]:
    """The problem document that an answer must be."""
    told: dict[str, Any] = answered.value
    assert (answered.status, told["type"]) == (status, f"/problems/{kind}"), answered.body
    assert answered.headers["Content-Type"] == "application/problem+json"
    assert set(told) - {"errors"} == {"type", "title", "status", "detail", "requestId"}
    assert told["status"] == status
    assert told["requestId"] == answered.headers["X-Request-Id"]
    return told


def words(text: str) -> set[str]:
    """The words of a text: the names of fields, where there are many."""
    return set(text.split())
