"""What the server serves: a store, and every request from its head to its answer."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import http_exceptions, web

from capsa.decisions import AsyncStore
from capsa.errors import CapsaError, HostFault, InvalidField, Overloaded, UnknownCapsule
from capsa.server import _limits, _problems
from capsa.server._call import Answer, Call
from capsa.server._head import check_head, wants_cbor
from capsa.server._metrics import Meter
from capsa.server._problems import Refused
from capsa.server._router import Route, Router
from capsa.server._written import Written
from capsa.wire import CBOR, JSON, decode, encode

if TYPE_CHECKING:
    from capsa.decisions import AsyncCapsule
    from capsa.server._access import Access

_log = logging.getLogger("capsa.server")

_PROBLEM: Final = "application/problem+json"
#: Capsules whose handles are kept at hand.
_HANDLES: Final = 10_000
_PUBLIC_ID: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_MAX_ID: Final = 64


class Service:
    """A store behind HTTP.

    Args:
        access: Who may call.
        router: What is served where.
        log_requests: Whether every request has a line in the log, not only those that failed.
    """

    def __init__(self, access: Access, router: Router, *, log_requests: bool = False) -> None:
        self.access = access
        self.router = router
        self.meter = Meter()
        self.stopping = False
        self._log_requests = log_requests
        self._store: AsyncStore | None = None
        self._capsules: dict[tuple[str, str, str], AsyncCapsule] = {}
        self._slow = asyncio.Semaphore(_limits.SLOW_AT_ONCE)
        self._waiting = 0
        #: Held while metrics are gathered: once at a time.
        self.measuring = asyncio.Lock()
        self._prefix = f"{time.time_ns() // 1_000_000:011x}{os.getpid() & 0xFFFF:04x}"
        self._numbers = itertools.count(1)

    @property
    def store(self) -> AsyncStore:
        """The store.

        Raises:
            Refused: It is not open yet, or no more.
        """
        if self._store is None:
            raise Refused("starting", "the store is being read", remedy="try again in a moment")
        return self._store

    @property
    def ready(self) -> bool:
        """Whether the store is open, and the server not about to stop."""
        return self._store is not None and not self.stopping

    async def open(self, path: str | Path | None, **settings: Any) -> None:
        """Opens the store; the server answers meanwhile that it is starting.

        Raises:
            CapsaError: It cannot be opened.
        """
        self._store = await asyncio.to_thread(
            lambda: AsyncStore(path, principal=self.access.principal, **settings)
        )

    async def close(self) -> None:
        """Writes what is queued and closes the store; the threads of its tools end with it.

        Raises:
            StoreUnwritable: Decisions that were answered could not be recorded.
        """
        store, self._store = self._store, None
        self._capsules.clear()
        if store is not None:
            await store.close()

    def capsule(self, tenant: str, job: str, name: str) -> AsyncCapsule:
        """The capsule at a place.

        Raises:
            NotFound: There is none.
            InvalidField: A name cannot be one.
        """
        place = tenant, job, name
        found = self._capsules.get(place)
        if found is None:
            if len(self._capsules) >= _HANDLES:
                self._capsules.clear()
            found = self._capsules[place] = self.store.capsule(name, tenant=tenant, job=job)
        return found

    def forget(self, *place: str) -> None:
        """Drops what is at hand of a tenant, a job or a capsule that was deleted."""
        for known in [known for known in self._capsules if known[: len(place)] == place]:
            del self._capsules[known]

    async def breathe(self) -> None:
        """Lets the disk catch up where much waits for it: recording would otherwise hold up the whole server."""
        store = self.store
        if store.sync.journal.crowded:
            await store.durable()

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """A place for a call that takes its time.

        Raises:
            Overloaded: Too many wait already.
        """
        if self._waiting >= _limits.SLOW_WAITING:
            raise Overloaded(
                f"{_limits.SLOW_WAITING} calls of this kind wait already",
                remedy="try again, with fewer at once",
            )
        self._waiting += 1
        try:
            await self._slow.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slow.release()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        begun = time.perf_counter()
        request_id = self._request_id(request)
        close = False
        route: Route | None = None
        try:
            check_head(request)
            methods, named = self.router.find(request.raw_path.partition("?")[0])
            route = methods.get("GET" if request.method == "HEAD" else request.method)
            if route is None or not route.public:
                self.access.check(request.headers)
            if route is None:
                raise _no_route(request, sorted(methods))
            self._check_open(request, route)
            answer = await route.serve(Call(request, self, route, named))
            status, headers = answer.status, answer.headers
            media, body = _encoded(answer, request)
        except CapsaError as error:
            status, media, headers, body = self._refused(error, request, request_id)
            close = isinstance(error, Refused) and error.close
            if isinstance(error, UnknownCapsule):
                self._capsules.clear()
        except ConnectionError:
            # Nobody is there any more.
            raise
        except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit):
            # Who ends the call or the process.
            raise
        except BaseException:  # noqa: BLE001 - whoever asked must get an answer, and the log the rest; a panic is no Exception
            _log.exception("%s: %s %s failed", request_id, request.method, _place(request))
            fault = HostFault("a fault")
            status, media, headers, body = self._refused(fault, request, request_id, logged=True)
        told = {"Content-Type": media, "X-Request-Id": request_id}
        if headers:
            told.update(headers)
        response = Written(request, status, told, body, close=close or self.stopping)
        self.meter.count("unknown" if route is None else route.name, status, time.perf_counter() - begun)
        if self._log_requests:
            _log.info("%s: %s %s %d", request_id, request.method, _place(request), status)
        # All that aiohttp asks of a response.
        return cast(web.StreamResponse, response)

    def _check_open(self, request: web.BaseRequest, route: Route) -> None:
        """Lets a request pass to its route, if the server goes on and it says nothing that would have no effect."""
        if self.stopping and not route.public:
            raise Refused("stopping", "the server is about to stop", remedy="try again in a moment")
        if "Idempotency-Key" in request.headers and "Idempotency-Key" not in route.headers:
            raise _no_idempotency()

    def _request_id(self, request: web.BaseRequest) -> str:
        given = request.headers.get("X-Request-Id")
        if given is not None and 0 < len(given) <= _MAX_ID and _PUBLIC_ID.issuperset(given):
            return given
        return self._next_id()

    def _next_id(self) -> str:
        return f"{self._prefix}{next(self._numbers):x}"

    def _refused(
        self, error: CapsaError, request: web.BaseRequest, request_id: str, *, logged: bool = False
    ) -> tuple[int, str, dict[str, str], bytes]:
        kind = _problems.KINDS[_problems.kind_of(error)]
        headers = {"X-Content-Type-Options": "nosniff"}
        if isinstance(error, Refused):
            headers |= error.headers
        if kind.retry_after_s is not None:
            headers["Retry-After"] = str(kind.retry_after_s)
        if kind.status == 401:
            _log.warning("%s: no valid key from %s for %s", request_id, _peer(request), _place(request))
        elif kind.status >= 500 and not logged and not isinstance(error, Refused | Overloaded):
            _log.error("%s: %s: %s", request_id, type(error).__name__, error)
        return kind.status, _PROBLEM, headers, encode(_problems.document(error, request_id))

    def broken(self, request: web.BaseRequest, error: BaseException | None) -> web.StreamResponse:
        """The answer to what is no request that could be served; the connection ends with it."""
        name, said = "malformed-request", "this is no request that HTTP/1.1 allows"
        if isinstance(error, http_exceptions.LineTooLong) or "too many headers" in str(error).lower():
            name, said = "header-too-large", "the head of the request is too large"
        elif not isinstance(error, http_exceptions.HttpProcessingError | ConnectionError):
            _log.error("an answer failed", exc_info=error)
            name, said = "internal", ""
        request_id = self._next_id()
        code, media, headers, body = self._refused(Refused(name, said), request, request_id)
        self.meter.count("broken", code, 0.0)
        told = {"Content-Type": media, "X-Request-Id": request_id, **headers}
        return cast(web.StreamResponse, Written(request, code, told, body, close=True))


def _encoded(answer: Answer, request: web.BaseRequest) -> tuple[str, bytes]:
    """The content type and the bytes of an answer."""
    value = answer.value
    if answer.media is not None:
        return answer.media, value
    if not wants_cbor(request.headers.get("Accept")):
        return JSON, value if isinstance(value, bytes) else encode(value)
    return CBOR, encode(decode(value) if isinstance(value, bytes) else value, cbor=True)


def _no_route(request: web.BaseRequest, methods: list[str]) -> Refused:
    path, method = request.raw_path.partition("?")[0], request.method
    if not methods:
        return Refused(
            "unknown-path",
            "nothing is served under this path",
            value=_shown(path),
            remedy="see /openapi.json",
            close=method == "CONNECT",
        )
    allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
    return Refused(
        "wrong-method",
        f"this path does not take {_shown(method)}",
        value=_shown(method),
        remedy=f"use {allowed}",
        headers={"Allow": allowed},
        # What follows would be for the other end of a tunnel.
        close=method == "CONNECT",
    )


def _no_idempotency() -> InvalidField:
    return InvalidField(
        "this call takes no Idempotency-Key",
        pointer="Idempotency-Key",
        remedy="leave it out; in a batch, feedback by decisionId counts once by itself",
    )


def _shown(text: str) -> str:
    """A text that a client sent, so that it cannot forge lines."""
    return text[:200].encode("ascii", "backslashreplace").decode().encode("unicode_escape").decode()


def _place(request: web.BaseRequest) -> str:
    """The path as the log shows it: what stands before and behind it may hold a secret."""
    path = request.raw_path.partition("?")[0]
    return _shown(path) if path.startswith("/") else "(no path)"


def _peer(request: web.BaseRequest) -> str:
    return request.remote or "a local socket"
