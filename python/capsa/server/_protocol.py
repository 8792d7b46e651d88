"""Connections: how many, how long they may take to say something, and what is said to what is no HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from capsa.server import _limits
from capsa.server._problems import Refused, document

if TYPE_CHECKING:
    from capsa.server._service import Service

#: Seconds between two looks at all connections.
_LOOK_S: Final = 1.0
#: Seconds between two looks at a connection that is about to end.
_DRAIN_LOOK_S: Final = 0.02


def _turned_away() -> bytes:
    body = msgspec.json.encode(document(Refused("overloaded", "too many connections are open"), ""))
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Server(web.Server):
    """aiohttp's server with our connections.

    Args:
        service: What answers.
    """

    def __init__(self, service: Service) -> None:
        loop = asyncio.get_running_loop()

        def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop)

        self.service = service
        self._settings: dict[str, Any] = {
            "keepalive_timeout": _limits.IDLE_S,
            "access_log": None,
            "max_line_size": _limits.HEADER_BYTES,
            "max_field_size": _limits.HEADER_BYTES,
            "max_headers": _limits.HEADERS,
            # A small body must not become a large one.
            "auto_decompress": False,
            "lingering_time": 2.0,
        }
        super().__init__(service.handle, request_factory=make, loop=loop)
        self._turned_away = _turned_away()

    def __call__(self) -> RequestHandler:
        """Makes the protocol of a new connection."""
        return Connection(self, self._settings)

    def pre_shutdown(self) -> None:
        """Ends the connections that nothing is asked on. The others are answered first, and end with that."""
        for connection in self.connections:
            if not cast(Connection, connection).busy:
                connection.close()

    async def watch(self) -> None:
        """Ends connections that keep the server waiting; runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            now = loop.time()
            for connection in self.connections:
                cast(Connection, connection).look(now)


class Connection(RequestHandler):
    """One connection."""

    __slots__ = ("_counted", "_server", "_stalled_since", "_waited_since")

    def __init__(self, server: Server, settings: dict[str, Any]) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self._server = server
        self._counted = False
        # Since when a head that has begun is awaited.
        self._waited_since: float | None = None
        # Since when the other side does not read what was answered.
        self._stalled_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, or turns it away where too many are open."""
        meter = self._server.service.meter
        if meter.connections >= _limits.CONNECTIONS:
            meter.turned_away += 1
            self._force_close = True
            stream = cast(asyncio.Transport, transport)
            stream.write(self._server._turned_away)
            stream.close()
            return
        meter.connections += 1
        self._counted = True
        self._waited_since = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives the place to another one."""
        if self._counted:
            self._counted = False
            self._server.service.meter.connections -= 1
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what came, and notes whether a head has begun and not ended."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._waited_since = None
        elif self._waited_since is None and self._current_request is None and not self._messages:
            self._waited_since = self._loop.time()

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or waits for its turn."""
        return self._current_request is not None or bool(self._messages)

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Ends the connection once what was asked is answered, or the time is over.

        aiohttp throws away what still arrives as soon as it begins with this: so it begins late.
        """
        end = self._loop.time() + (timeout or 0.0)
        while self.busy and self._loop.time() < end:
            await asyncio.sleep(_DRAIN_LOOK_S)
        transport = self.transport
        if transport is not None and self.busy:
            transport.abort()
        await super().shutdown(_DRAIN_LOOK_S)

    def look(self, now: float) -> None:
        """Ends the connection where the other side keeps the server waiting for too long."""
        transport = self.transport
        if transport is None:
            return
        if transport.get_write_buffer_size() == 0:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since > _limits.READ_S:
            transport.abort()
            return
        if self._waited_since is not None and now - self._waited_since > _limits.HEAD_S:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - aiohttp's signature
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answers what aiohttp itself refuses, mostly what is no HTTP."""
        return self._server.service.broken(request, exc)
