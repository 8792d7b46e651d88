"""One request and its answer: within its deadline, of bounded size, over connections that are kept."""

from __future__ import annotations

import asyncio
import ssl
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import msgspec
from aiohttp import ClientResponse, ClientSession, TraceConfig, http_exceptions
from yarl import URL

from capsa import _native
from capsa.client._address import Address, proxy
from capsa.client._errors import Unreachable, exception, is_problem
from capsa.client._resolver import Resolver
from capsa.errors import CapsaError, StoreClosed

if TYPE_CHECKING:
    from aiohttp import BaseConnector

#: Connections at once; further calls wait for one, within their deadline.
CONNECTIONS: Final = 100
#: Seconds that a connection is kept without use: shorter than the server keeps it.
KEPT_S: Final = 60.0
#: Largest answer to one decision or feedback, and to anything else.
ANSWER_BYTES: Final = 4 * 1024 * 1024
LARGE_ANSWER_BYTES: Final = 64 * 1024 * 1024
#: Longest that an answer may tell us to wait.
MAX_RETRY_AFTER_S: Final = 60.0

_JSON: Final = ("application/json", "application/problem+json")


class Reply(msgspec.Struct, frozen=True):
    """What a Capsa server answered.

    Attributes:
        status: The HTTP status.
        body: JSON.
        retry_after_s: How long it asks us to wait.
        where: Who answered.
    """

    status: int
    body: bytes
    retry_after_s: float | None
    where: str

    def document(self) -> Any:
        """The body as a value.

        Raises:
            Unreachable: It is no JSON.
        """
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unreachable(f"{self.where} answered {self.status} with no JSON: {error}") from None

    def value(self) -> Any:
        """The body of an answer that went well.

        Raises:
            CapsaError: It did not, as the call in process raises it.
            Unreachable: This is no answer of a Capsa server.
        """
        document = self.document()
        if 200 <= self.status < 300:
            return document
        raise self.refusal(document)

    def refusal(self, document: Any) -> CapsaError:
        """The error that an answer stands for which did not go well."""
        if is_problem(document):
            return exception(document)
        return Unreachable(f"{self.where} answered {self.status} without saying why")


class Transport:
    """Connections to one server. Bound to the event loop that uses it first.

    Args:
        where: The server.
        key: What it is shown; never said in a message.
        tls: How certificates are verified; ``None``: by the system's authorities.
    """

    def __init__(self, where: Address, key: str | None, tls: ssl.SSLContext | None) -> None:
        self.where = where
        self._proxy = proxy(where)
        # With each request: what a session adds by itself, aiohttp shows to the proxy too.
        self._headers = {
            "Accept": "application/json",
            # A small answer must not become a large one.
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": f"capsa/{_native.__version__}",
        }
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._proxy_headers: dict[str, str] | None = None
        if self._proxy is not None and where.base.startswith("https:"):
            self._proxy_headers = self._proxy.headers
        elif self._proxy is not None:
            self._headers |= self._proxy.headers
        self._tls = tls
        self._session: ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        deadline: float,
        headers: dict[str, str] | None = None,
        most: int = LARGE_ANSWER_BYTES,
        repeatable: bool = True,
    ) -> Reply:
        """Sends a request and reads the answer.

        Args:
            method: The HTTP method.
            path: The path, percent-encoded.
            body: JSON.
            deadline: By `time.monotonic`: when all of it has ended, from looking up the name to the last byte.
            headers: What else is said.
            most: Largest answer, bytes.
            repeatable: Whether it is sent again where the server had closed a kept connection meanwhile.

        Raises:
            Unreachable: No answer of a Capsa server came in time.
            StoreClosed: The client was closed.
        """
        session = self._open()
        url = URL(self.where.base + path, encoded=True)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(deadline - begun):
                while True:
                    way = SimpleNamespace(kept=False)
                    try:
                        return await self._once(session, method, url, body, headers, most, way)
                    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                        # Each time one kept connection less, until a new one is made.
                        if not (way.kept and repeatable):
                            raise
        except TimeoutError:
            waited = max(deadline - begun, 0.0)
            raise Unreachable(f"no answer from {self.where.shown} within {waited:.3g} s") from None
        except RuntimeError:
            # The session was closed meanwhile, by another thread or at the end of the process.
            if self.closed:
                raise _closed() from None
            raise
        except (aiohttp.ClientError, OSError, http_exceptions.HttpProcessingError, ValueError) as error:
            # Not as the cause: what aiohttp raises refers to the headers of the request, with the key.
            raise Unreachable(f"no answer from {self.where.shown}: {_said(error)}") from None

    async def _once(
        self,
        session: ClientSession,
        method: str,
        url: URL,
        body: bytes | None,
        headers: dict[str, str] | None,
        most: int,
        way: SimpleNamespace,
    ) -> Reply:
        async with session.request(
            method,
            url,
            data=body,
            headers=self._headers if headers is None else self._headers | headers,
            allow_redirects=False,
            trace_request_ctx=way,
            proxy_headers=self._proxy_headers,
        ) as response:
            where = self.where.shown
            if 300 <= response.status < 400:
                raise Unreachable(f"{where} answered with a redirect, which is not followed")
            if response.content_type not in _JSON or "Content-Encoding" in response.headers:
                raise Unreachable(
                    f"{where} answered {response.status} with {response.content_type[:80]!r}, which is no answer of Capsa"
                )
            read = await _bounded(response, most, where)
            return Reply(response.status, read, _retry_after_s(response), where)

    def _open(self) -> ClientSession:
        if self.closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._loop = loop
            self._session = self._new_session()
        elif self._loop is not loop:
            raise RuntimeError(
                "this client is used by another event loop: make one in each, or use capsa.Client"
            )
        return self._session

    def _new_session(self) -> ClientSession:
        connector: BaseConnector
        if self.where.socket is None:
            connector = aiohttp.TCPConnector(
                limit=CONNECTIONS, keepalive_timeout=KEPT_S, ssl=self._tls or True, resolver=Resolver()
            )
        else:
            connector = aiohttp.UnixConnector(self.where.socket, limit=CONNECTIONS, keepalive_timeout=KEPT_S)
        trace = TraceConfig()
        trace.on_connection_reuseconn.append(_note_kept)
        return ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            # Deadlines are set around the whole.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trace_configs=[trace],
            proxy=None if self._proxy is None else self._proxy.url,
        )

    async def close(self) -> None:
        """Closes the connections; nothing is sent any more."""
        self.closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _closed() -> StoreClosed:
    return StoreClosed("this client was closed", remedy="make a new one")


async def _note_kept(session: ClientSession, context: SimpleNamespace, params: Any) -> None:
    """Says that a request goes over a connection that was used before."""
    del session, params
    context.trace_request_ctx.kept = True


async def _bounded(response: ClientResponse, most: int, where: str) -> bytes:
    """The body of an answer.

    Raises:
        Unreachable: It is larger than that.
    """
    length = response.content_length
    size = 0
    parts: list[bytes] = []
    if length is None or length <= most:
        while part := await response.content.readany():
            size += len(part)
            if size > most:
                break
            parts.append(part)
        else:
            return b"".join(parts)
    raise Unreachable(f"{where} answered more than {most} bytes")


def _retry_after_s(response: ClientResponse) -> float | None:
    text = response.headers.get("Retry-After", "")
    # A date is left to our own measure: it needs equal clocks.
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return min(float(text), MAX_RETRY_AFTER_S)


def _said(error: Exception) -> str:
    """What went wrong, shortened; never more than a host and a port of ours stand in it."""
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        return (inner.strerror or str(inner) or type(inner).__name__)[:200]
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientResponseError | http_exceptions.HttpProcessingError):
        return "what came is no HTTP"
    return (str(error) or type(error).__name__)[:200]
