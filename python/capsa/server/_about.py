"""What the server says of itself: health, readiness, metrics, its document and its problems."""

from __future__ import annotations

import asyncio
from functools import cache

from prometheus_client import CONTENT_TYPE_LATEST

from capsa import __version__
from capsa.server import _problems
from capsa.server._call import Answer, Call
from capsa.server._metrics import exposition
from capsa.server._problems import Refused

_HTML = "text/html; charset=utf-8"
# A page that runs nothing and loads nothing.
_STATIC = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


async def health(call: Call) -> Answer:
    """Whether the process answers."""
    call.query()
    return Answer({"ok": True, "service": "capsa", "version": __version__})


async def ready(call: Call) -> Answer:
    """Whether requests are served; 503 while the store is being read, is not writable, or the server is about to stop."""
    call.query()
    if call.service.stopping:
        raise Refused("stopping", "the server is about to stop", remedy="try again in a moment")
    call.store.sync.check()
    return Answer({"ok": True, "service": "capsa"})


async def metrics(call: Call) -> Answer:
    """Counters for Prometheus; capsules are named only to who shows the key."""
    call.query()
    service = call.service
    store = service.store.sync if service.ready and service.access.lets_pass(call.request.headers) else None
    # A place of its own: whoever has no key must not take those of who has.
    async with service.measuring:
        text = await asyncio.to_thread(exposition, service.meter, store)
    return Answer(text, media=CONTENT_TYPE_LATEST)


async def openapi(call: Call) -> Answer:
    """The document of every path there is, OpenAPI 3.1."""
    call.query()
    return Answer(_document(), media="application/json")


@cache
def _document() -> bytes:
    import msgspec

    from capsa.server._openapi import document
    from capsa.server._routes import ROUTES

    return msgspec.json.encode(document(ROUTES))


async def problems(call: Call) -> Answer:
    """The page that lists every type of problem."""
    call.query()
    return Answer(_problems.index().encode(), media=_HTML, headers=_STATIC)


async def problem(call: Call) -> Answer:
    """The page of one type of problem."""
    call.query()
    page = _problems.page(call.named["type"])
    if page is None:
        raise Refused("unknown-path", "there is no such type of problem", remedy="see /problems")
    return Answer(page.encode(), media=_HTML, headers=_STATIC)
