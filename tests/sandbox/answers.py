"""What the site of hostile cases answers: to what it was sent, and against the rules of HTTP."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Final

from tests.sandbox.outside import Answering, Asked, answer, slowly

_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _echo(asked: Asked) -> Iterator[bytes]:
    """What was sent, as JSON: the value of `x-key`, and the body."""
    yield answer(json.dumps([asked.header("x-key"), asked.body.decode("latin-1")]).encode())


#: Forms in which a server may give back what it was sent: a whole answer each.
_FORMS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "base64": lambda value: answer(b'"' + base64.b64encode(b"key:" + value) + b'"'),
    "base64url": lambda value: answer(b'"' + base64.urlsafe_b64encode(value).rstrip(b"=") + b'"'),
    "hex": lambda value: answer(b'"' + value.hex().encode() + b'"'),
    "percent": lambda value: answer(b'"' + urllib.parse.quote(value, safe="").encode() + b'"'),
    "every byte percent": lambda value: answer(b'"' + b"".join(b"%%%02X" % byte for byte in value) + b'"'),
    "escaped": lambda value: answer(b'"' + b"".join(b"\\u%04x" % byte for byte in value) + b'"'),
    "html": lambda value: answer(b'"' + b"".join(b"&#x%x;" % byte for byte in value) + b'"'),
    "header": lambda value: answer(b"1", f"X-Echo: {value.decode()}"),
    "header name": lambda value: answer(b"1", f"X-{value.decode()}: 1"),
    "status": lambda value: answer(b"1", status=f"200 {value.decode()}"),
    "cookie": lambda value: answer(b"1", f"Set-Cookie: key={urllib.parse.quote(value.decode())}"),
    "location": lambda value: answer(b"1", f"Location: /?key={value.decode()}", status="302 Found"),
    "chunks": lambda value: _CHUNKED + b"".join(_chunk(piece) for piece in [b'"', *_bytes(value), b'"', b""]),
    "trailer": lambda value: _CHUNKED + b"1\r\n1\r\n0\r\nX-Echo: " + value + b"\r\n\r\n",
    "gzip": lambda value: answer(gzip.compress(b'"' + value + b'"'), "Content-Encoding: gzip"),
}
#: Those in which a guest must not find it; of the others some cases speak.
SPELLINGS: Final = tuple(form for form in _FORMS if form not in ("header name", "gzip"))


def _bytes(value: bytes) -> list[bytes]:
    return [value[at : at + 1] for at in range(len(value))]


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def _spelled(form: Callable[[bytes], bytes]) -> Answering:
    return lambda asked: iter([form(asked.header("x-key").encode())])


def raw(*pieces: bytes) -> Answering:
    return lambda _: iter(pieces)


ANSWERS: Final[dict[str, Answering]] = {
    "/": _echo,
    "/one": raw(answer(b"1")),
    "/nearly": raw(answer(b'"' + b"a" * 300_000 + b'"')),
    "/large": raw(answer(b'"' + b"x" * 30_000 + b'"')),
    "/endless": lambda _: slowly(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, 0),
    "/endless-head": lambda _: slowly(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 1000 + b"\r\n", 0),
    "/endless-chunks": lambda _: slowly(_CHUNKED, b"1000\r\n" + b"x" * 4096 + b"\r\n", 0),
    "/endless-trailers": lambda _: slowly(_CHUNKED + b"0\r\n", b"X-More: 1\r\n" * 100, 0),
    "/endless-extension": lambda _: slowly(_CHUNKED + b"1;", b"x" * 4096, 0),
    "/endless-continue": lambda _: slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0),
    "/slow-head": lambda _: slowly(b"HTTP/1.1 200 OK\r\n", b"X", 0.02),
    "/slow-body": lambda _: slowly(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", 0.02),
    "/silent": lambda _: slowly(b"", b"", 0.02),
    "/many-headers": raw(answer(b"1", *(f"X-{number}: 1" for number in range(500)))),
    "/cut": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n123"),
    "/two-lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12"),
    "/chunk-of-all": raw(_CHUNKED + b"ffffffffffffffff\r\n1"),
    "/chunk-beyond": raw(_CHUNKED + b"1ffffffffffffffff\r\n1"),
    "/negative-length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n1"),
    "/not-http": raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "/status-9": raw(b"HTTP/1.1 9 Low\r\nContent-Length: 1\r\n\r\n1"),
    **{f"/{name.replace(' ', '-')}": _spelled(form) for name, form in _FORMS.items()},
}
