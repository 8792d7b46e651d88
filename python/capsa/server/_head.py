"""The head of a request: what the parser lets through and we do not."""

from __future__ import annotations

import re
from typing import Final, TypeVar

from aiohttp import HttpVersion10, HttpVersion11, web

from capsa.server._problems import Refused
from capsa.wire import CBOR

T = TypeVar("T")

#: Headers of which two would contradict each other: between us and a proxy each might count.
_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"if-match",
        b"origin",
        b"x-request-id",
    }
)
#: uri-host and port of RFC 3986, without what only user names need.
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%-]*)(:[0-9]{0,5})?")
#: Hosts, and headers' names in their order, that were looked at and are fine.
_KNOWN_HOSTS: Final[set[str]] = set()
_KNOWN_NAMES: Final[set[tuple[bytes, ...]]] = set()
_MOST_KNOWN: Final = 1000
#: Longer ones, together, are not remembered: whoever sends them has no key yet.
_SHORT_NAMES: Final = 512


def check_head(request: web.BaseRequest) -> None:
    """Lets a request pass whose head says one thing only.

    Raises:
        Refused: Another version of HTTP, a header that stands twice, or a host that is none.
    """
    version = request.version
    if version not in (HttpVersion11, HttpVersion10):
        raise _malformed("this is neither HTTP/1.1 nor HTTP/1.0")
    names = tuple([name for name, _ in request.raw_headers])
    # A client says the same names every time.
    if names not in _KNOWN_NAMES:
        _check_once([name.lower() for name in names])
        if sum(map(len, names)) <= _SHORT_NAMES:
            _remember(_KNOWN_NAMES, names)
    host = request.headers.get("Host")
    if host is None:
        if version == HttpVersion11:
            raise _malformed("the header Host is missing")
    elif host not in _KNOWN_HOSTS:
        if _HOST.fullmatch(host) is None:
            raise _malformed("the header Host names no host")
        if len(host) <= _SHORT_NAMES:
            _remember(_KNOWN_HOSTS, host)


def _remember(known: set[T], value: T) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known.add(value)


def _check_once(names: list[bytes]) -> None:
    for name in _ONCE:
        if names.count(name) > 1:
            raise _malformed(f"the header {name.decode()} stands twice")


def _malformed(said: str) -> Refused:
    return Refused(
        "malformed-request", said, remedy="mend the client, or the proxy before this server", close=True
    )


def is_cbor(content_type: str | None) -> bool:
    """Whether a content type says that a body is CBOR; everything else is JSON."""
    return content_type is not None and content_type.partition(";")[0].strip(" \t").lower() == CBOR


def wants_cbor(accept: str | None) -> bool:
    """Whether an answer is asked for in CBOR."""
    if accept is None or "cbor" not in accept.lower():
        return False
    for each in accept.split(","):
        media, _, parameters = each.partition(";")
        if media.strip(" \t").lower() == CBOR:
            return re.search(r"(^|;)\s*q\s*=\s*0(\.0*)?\s*($|;)", parameters) is None
    return False
