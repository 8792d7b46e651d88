"""Answers in one piece.

aiohttp's own response takes seven steps and two buffers for what is, for a body that is there already, one write. It
asks three things of a response, and these are here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time

#: Larger answers wait until the other side has read most of them.
_LARGE: Final = 64 * 1024
_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Written:
    """An answer that is written at once.

    Args:
        request: What it answers.
        status: The HTTP status.
        headers: By name; they are the server's own words, never a client's.
        body: Left out of the answer to HEAD.
        close: Whether the connection ends with it.
    """

    __slots__ = ("_data", "_request", "keep_alive", "status")

    def __init__(
        self, request: web.BaseRequest, status: int, headers: dict[str, str], body: bytes, *, close: bool
    ) -> None:
        self.status = status
        self.keep_alive = keep = request.keep_alive and not close
        if not keep:
            connection = "Connection: close\r\n"
        elif request.version < HttpVersion11:
            connection = "Connection: keep-alive\r\n"
        else:
            connection = ""
        told = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = (
            f"{_LINES[status]}{told}{connection}Content-Length: {len(body)}\r\n"
            f"Date: {rfc822_formatted_time()}\r\nServer: capsa\r\n\r\n"
        ).encode("latin-1")
        self._data = head if request.method == "HEAD" else head + body
        self._request = request

    async def prepare(self, _: web.BaseRequest) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self) -> None:
        """Writes it.

        Raises:
            ConnectionResetError: Nobody is there any more.
        """
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        transport.write(self._data)
        if len(self._data) > _LARGE:
            await self._request.writer.drain()
