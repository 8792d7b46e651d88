"""A hostile request, what it has to end in, and the ground on which it is tried."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import urllib3
from tests.server.serving import INPUT, KEY, OUTCOME, ROUTER, SPEC, Served
from tests.server.tools import echo

#: Stands where a client would put a secret: neither answers nor the log may say it.
SECRET: Final = "hunter2-swordfish"  # noqa: S105 - nobody's
SECOND_JOB: Final = "/tenants/default/jobs/second/capsules/router"
SECOND_CAPSULE: Final = "/tenants/default/jobs/default/capsules/sibling"
ACME: Final = "/tenants/acme/jobs/default/capsules/router"
ECHO: Final = "/tenants/default/jobs/default/capsules/echo"
OTHER_TOOL: Final = "/tenants/default/jobs/second/capsules/echo"
PLACES: Final = (ROUTER, SECOND_JOB, SECOND_CAPSULE, ACME)
#: Teaches something wherever it gets through: it stands behind what may not hide a request.
SMUGGLED: Final = b'{"strategyId":0,"option":1,"reward":1.0,"contextKey":"smuggled"}'


class Ground:
    """A server with capsules of two tenants, two jobs and two names, a decision of each, and two tools.

    Attributes:
        served: The server.
        decision: The id of an open decision of `ROUTER`.
        answered: One that had feedback.
        foreign: Ids of decisions that are not `ROUTER`'s, by whose they are.
        invocation: The id of a call of a tool that is not `ECHO`.
    """

    def __init__(self, served: Served) -> None:
        self.served = served
        served.install(path=SECOND_JOB)
        served.install(SPEC.replace(b"name: router", b"name: sibling"), SECOND_CAPSULE)
        served.install(path=ACME)
        ids = {place: self._decide(place) for place in PLACES}
        self.decision = ids[ROUTER]
        self.answered = self._decide(ROUTER)
        taken = served.post(f"{ROUTER}/feedback", {"decisionId": self.answered, "outcome": OUTCOME})
        assert taken.value["status"] == "applied"
        self.foreign = {"tenant": ids[ACME], "job": ids[SECOND_JOB], "capsule": ids[SECOND_CAPSULE]}
        for place in (ECHO, OTHER_TOOL):
            served.install(echo("echo"), place)
        self.invocation = served.post(f"{OTHER_TOOL}/invoke", {"input": 1}).value["invocationId"]
        self._read = len(served.said)
        self._refused = {"default": 0, "acme": 0}
        self._sequence = dict(self._refused)

    def _decide(self, place: str) -> str:
        told: str = self.served.post(f"{place}/decide", {"input": INPUT}).value["decisionId"]
        return told

    def state(self) -> list[Any]:
        """What no hostile request may change: learned state, journals but for refusals, and which places there are."""
        self.newly_refused()
        told = [self._learned(place) for place in PLACES]
        tools = [
            self.served.get(f"{place}{path}").value
            for place in (ECHO, OTHER_TOOL)
            for path in ("", "/policy", "/invocations")
        ]
        return [*told, *tools, self.served.get("/tenants").value]

    def _learned(self, place: str) -> tuple[Any, ...]:
        report = self.served.get(f"{place}/report").value
        events = report["sequence"] - self._refused[report["tenant"]]
        return report["stateHash"], events, report["decisions"], report["feedback"]

    def newly_refused(self) -> list[str]:
        """What the audit logs say was refused since the last look: the kinds of problem."""
        kinds: list[str] = []
        for tenant, after in self._sequence.items():
            rows = self.served.get(f"/audit?tenant={tenant}&after={after}").value["audit"]
            found = [row["detail"]["error"]["code"] for row in rows if row["type"] == "refused"]
            self._sequence[tenant] = max((row["sequence"] for row in rows), default=after)
            self._refused[tenant] += len(found)
            kinds += found
        return kinds

    def newly_said(self) -> str:
        """What the log says since the last look."""
        said = self.served.said
        new, self._read = said[self._read :], len(said)
        return new


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    Attributes:
        category: Its kind.
        name: What it tries.
        make: The bytes that are sent, for a ground.
        status: What it ends in.
        kind: The type of problem; ``None`` where there is none, for what is harmless.
        flaw: Why the server does not do this yet.
    """

    category: str
    name: str
    make: Callable[[Ground], bytes]
    status: int
    kind: str | None
    flaw: str | None = None


#: A body that may need an id.
Body = bytes | str | Callable[[Ground], bytes]


def raw(data: bytes) -> Callable[[Ground], bytes]:
    """Bytes as they are."""
    return lambda _: data


def call(
    method: str,
    path: str,
    body: Body = b"",
    *,
    headers: tuple[bytes, ...] = (),
    key: bytes | None = KEY.encode(),
    length: bool = True,
    close: bool = True,
) -> Callable[[Ground], bytes]:
    """A request whose frame holds, whatever it says.

    Args:
        method: Its method.
        path: Its target; `chr(0x80)` and above are sent as these bytes.
        body: What follows the head.
        headers: Lines without their ends.
        key: The key that it shows; ``None`` for none.
        length: Whether it says how long its body is.
        close: Whether it asks for the end of the connection.
    """

    def make(ground: Ground) -> bytes:
        content = body(ground) if callable(body) else body.encode() if isinstance(body, str) else body
        lines = [b"%b %b HTTP/1.1" % (method.encode(), path.encode("latin-1")), b"Host: localhost", *headers]
        if key is not None:
            lines.append(b"Authorization: Bearer " + key)
        if length and (content or method not in ("GET", "HEAD")):
            lines.append(b"Content-Length: %d" % len(content))
        if close:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + content

    return make


def post(action: str, body: Body, *headers: bytes, cbor: bool = False) -> Callable[[Ground], bytes]:
    """A POST to the usual capsule."""
    told = (*headers, b"Content-Type: application/cbor") if cbor else headers
    return call("POST", f"{ROUTER}/{action}", body, headers=told)


def with_id(body: str, which: str = "") -> Callable[[Ground], bytes]:
    """A body in which ``ID`` stands for the id of a decision: the open one, or another's."""
    return lambda ground: body.replace("ID", ground.foreign[which] if which else ground.decision).encode()


def smuggled() -> bytes:
    """A second request behind another one, with the key."""
    head = f"POST {ROUTER}/feedback HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n".encode() + SMUGGLED


class Said:
    """One answer on a raw connection.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body.
    """

    def __init__(self, status: int, headers: urllib3.HTTPHeaderDict, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def value(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def exchange(port: int, data: bytes, *, timeout_s: float = 10.0) -> list[Said]:
    """Sends bytes, and reads answers until the server closes the connection.

    Raises:
        TimeoutError: It stays open.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        told = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                told += part
        except ConnectionError:
            # It need not read what it refuses.
            pass
    return answers(told, head=data.startswith(b"HEAD "))


def answers(told: bytes, *, head: bool = False) -> list[Said]:
    """The answers in what came back; it holds nothing else."""
    found = []
    while told:
        top, _, told = told.partition(b"\r\n\r\n")
        first, *lines = top.decode("ascii").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = urllib3.HTTPHeaderDict()
        for line in lines:
            name, _, value = line.partition(": ")
            headers.add(name, value)
        size = 0 if head else int(headers["Content-Length"])
        assert len(told) >= size
        found.append(Said(int(status), headers, told[:size]))
        told = told[size:]
    return found
