"""What every call of one client shares: its connections, its queue, its measure of time."""

from __future__ import annotations

import math
import ssl
import time
from typing import Any, Final

from capsa.client import _address
from capsa.client._queue import FeedbackQueue, OnRefused
from capsa.client._quiet import Quiet
from capsa.client._transport import LARGE_ANSWER_BYTES, Reply, Transport

#: Seconds that an attempt to send what waits has at least: whoever asks for 50 ms has gone on long ago.
RESEND_S: Final = 10.0
#: Seconds at least for what takes its time: install, delete, purge.
SLOW_S: Final = 60.0


class Line:
    """The way to one server.

    Args:
        url: Where it is.
        key: What it is shown.
        timeout: Seconds for a call, where it does not say otherwise.
        queue: Most feedbacks that wait.
        on_refused: Told what was refused later.
        tls: How certificates are verified.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        timeout: float,
        queue: int,
        on_refused: OnRefused | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.timeout = seconds(timeout)
        if isinstance(queue, bool) or not isinstance(queue, int):
            raise TypeError(f"queue is a number of feedbacks, not {type(queue).__name__}")
        if queue < 0:
            raise ValueError("queue is not negative")
        if on_refused is not None and not callable(on_refused):
            raise TypeError("on_refused is called with a feedback and an error")
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError("tls is an ssl.SSLContext")
        self.where = _address.address(url)
        self.transport = Transport(self.where, _address.key(key), tls)
        self.quiet = Quiet()
        self.queue = FeedbackQueue(self._send_again, queue, self.quiet, on_refused)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        timeout: float | None = None,
        headers: dict[str, str] | None = None,
        most: int = LARGE_ANSWER_BYTES,
        repeatable: bool = True,
    ) -> Reply:
        """Sends a request; see `Transport.send`. `timeout`: seconds, if not the client's."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        reply = await self.transport.send(
            method, path, body, deadline=deadline, headers=headers, most=most, repeatable=repeatable
        )
        self.queue.reached()
        return reply

    async def read(self, path: str) -> Any:
        """What a GET answers.

        Raises:
            CapsaError: It was refused, or no answer came.
        """
        return (await self.ask("GET", path)).value()

    async def _send_again(self, path: str, body: bytes, key: str | None) -> Reply:
        return await self.transport.send(
            "POST",
            path,
            body,
            deadline=time.monotonic() + max(self.timeout, RESEND_S),
            headers=idempotent(key),
            most=LARGE_ANSWER_BYTES,
        )

    def __repr__(self) -> str:
        return self.where.shown


def idempotent(key: str | None) -> dict[str, str] | None:
    """The header that carries an idempotency key."""
    return None if key is None else {"Idempotency-Key": key}


def seconds(given: object) -> float:
    """A timeout.

    Raises:
        TypeError: It is not a number.
        ValueError: It is not finite, or not above 0.
    """
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"a timeout is a number of seconds, not {type(given).__name__}")
    if not (math.isfinite(given) and given > 0):
        raise ValueError("a timeout is finite and above 0")
    return float(given)
