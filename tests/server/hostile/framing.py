"""Rows of the table: what is sent is hardly HTTP, or says two things about where it ends."""

from __future__ import annotations

from typing import Final

from tests.server.hostile.attack import Attack, call, raw, smuggled
from tests.server.serving import KEY, ROUTER

_TO: Final = f"POST {ROUTER}/decide HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n".encode()
_CHUNKED: Final = _TO + b"Transfer-Encoding: chunked\r\n\r\n"
_END: Final = b"0\r\n\r\n"
_NOT_HTTP: Final = (400, "malformed-request")
_TOO_LARGE: Final = (431, "header-too-large")


def _head(name: str, lines: bytes, rest: bytes = b"") -> Attack:
    """A head that does not hold, with a whole request behind it that must not be served."""
    return Attack("smuggling", name, raw(_TO + lines + b"\r\n\r\n" + rest + smuggled()), *_NOT_HTTP)


def _chunks(name: str, chunks: bytes) -> Attack:
    return Attack("smuggling", name, raw(_CHUNKED + chunks + smuggled()), *_NOT_HTTP)


_SMUGGLING: Final = (
    _head("length and chunked", b"Content-Length: 5\r\nTransfer-Encoding: chunked", _END),
    _head("chunked and length", b"Transfer-Encoding: chunked\r\nContent-Length: 5", _END),
    _head("two lengths", b"Content-Length: 0\r\nContent-Length: 40"),
    _head("two equal lengths", b"Content-Length: 2\r\nContent-Length: 2", b"{}"),
    _head("a list of lengths", b"Content-Length: 2, 2", b"{}"),
    _head("negative length", b"Content-Length: -1"),
    _head("length with plus", b"Content-Length: +2", b"{}"),
    _head("length in hex", b"Content-Length: 0x2", b"{}"),
    _head("length with underscore", b"Content-Length: 1_0", b"{}"),
    _head("length in Arabic digits", "Content-Length: ٢".encode(), b"{}"),
    _head("length beyond 64 bits", b"Content-Length: 99999999999999999999999"),
    _head("no length", b"Content-Length: "),
    _head("blank before the colon", b"Content-Length : 2", b"{}"),
    _head("folded line", b"X-A: b\r\n Content-Length: 2\r\nContent-Length: 0"),
    _head("folded coding", b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 4", _END),
    _head("coding identity", b"Transfer-Encoding: identity\r\nContent-Length: 2", b"{}"),
    _head("unknown coding", b"Transfer-Encoding: xchunked", _END),
    _head("chunked is not last", b"Transfer-Encoding: chunked, identity", _END),
    _head("chunked twice", b"Transfer-Encoding: chunked, chunked", _END),
    _head("two codings", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", _END),
    _head("vertical tab before chunked", b"Transfer-Encoding: \x0bchunked", _END),
    Attack(
        "smuggling",
        "chunked in HTTP/1.0",
        raw(_CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + _END + smuggled()),
        *_NOT_HTTP,
    ),
    _chunks("negative chunk", b"-1\r\n{}\r\n0\r\n\r\n"),
    _chunks("chunk with 0x", b"0x2\r\n{}\r\n0\r\n\r\n"),
    _chunks("chunk with underscore", b"0_2\r\n{}\r\n0\r\n\r\n"),
    _chunks("chunk beyond 64 bits", b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    _chunks("chunk with bare line feeds", b"2\n{}\n0\n\n"),
    _chunks("chunk without its end", b"2\r\n{}0\r\n\r\n"),
    _chunks("line feed in an extension", b"2;a\nb\r\n{}\r\n0\r\n\r\n"),
    _chunks("blank behind the chunk's size", b"2 \r\n{}\r\n0\r\n\r\n"),
    _chunks("length in the trailer", b"2\r\n{}\r\n0\r\nContent-Length: 100\r\n\r\n"),
    Attack(
        "smuggling",
        "bare line feeds",
        raw(
            b"GET /tenants HTTP/1.1\nHost: localhost\nAuthorization: Bearer "
            + KEY.encode()
            + b"\n\n"
            + smuggled()
        ),
        *_NOT_HTTP,
    ),
    _head("bare carriage return", b"X: a\rContent-Length: 2"),
    _head("NUL in a value", b"X: a\0b"),
    _head("NUL in a name", b"X\0: a"),
    _head("blank in a name", b"X Y: a"),
    _head("no colon", b"XY"),
    _head("no name", b": a"),
    _head("a name that is not ASCII", b"X\xe9: a"),
    _head("two hosts", b"Host: other"),
    Attack(
        "smuggling",
        "first line folded",
        raw(b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n" + smuggled()),
        *_NOT_HTTP,
    ),
    Attack("smuggling", "behind what is no request", raw(b"BAD\r\n\r\n" + smuggled()), *_NOT_HTTP),
    Attack(
        "smuggling",
        "behind the end of the connection",
        lambda ground: call("GET", "/health")(ground) + smuggled(),
        *_NOT_HTTP,
    ),
    Attack(
        "smuggling",
        "in the body of a GET",
        call("GET", "/tenants/acme/jobs/none", smuggled()),
        404,
        "unknown-job",
    ),
    Attack(
        "smuggling",
        "behind CONNECT",
        lambda ground: call("CONNECT", "elsewhere.example:443", close=False)(ground) + smuggled(),
        404,
        "unknown-path",
    ),
    Attack(
        "smuggling",
        "behind a body that is too large",
        lambda ground: (
            call("POST", f"{ROUTER}/decide", headers=(b"Content-Length: 200000",), length=False, close=False)(
                ground
            )
            + smuggled()
        ),
        413,
        "too-large",
    ),
    Attack(
        "smuggling",
        "another method in a header",
        call(
            "GET",
            f"{ROUTER}/nothing",
            headers=(b"X-HTTP-Method-Override: DELETE", b"X-Original-URL: " + ROUTER.encode()),
        ),
        404,
        "unknown-path",
    ),
)


def _line(
    name: str, line: bytes, status: int = 400, kind: str | None = "malformed-request", host: bool = True
) -> Attack:
    told = b"Host: localhost\r\n" if host else b""
    return Attack(
        "request line", name, raw(line + b"\r\n" + told + b"Connection: close\r\n\r\n"), status, kind
    )


_LINES: Final = (
    _line("version 1.2", b"GET /health HTTP/1.2"),
    _line("version 11.1", b"GET /health HTTP/11.1"),
    _line("version in small letters", b"GET /health http/1.1"),
    _line("something behind the version", b"GET /health HTTP/1.1x"),
    _line("HTTP/2.0", b"GET /health HTTP/2.0"),
    _line("HTTP/0.9", b"GET /health", host=False),
    _line("host that is none", b"GET /health HTTP/1.1\r\nHost: a b/c", host=False),
    _line("no host", b"GET /health HTTP/1.1", host=False),
    _line("blank before the method", b" GET /health HTTP/1.1"),
    _line("tabs", b"GET\t/health\tHTTP/1.1"),
    _line("blank in the target", b"GET /health x HTTP/1.1"),
    _line("no target", b"GET  HTTP/1.1"),
    _line("asterisk", b"GET * HTTP/1.1"),
    _line("authority", b"GET elsewhere.example:80 HTTP/1.1"),
    _line("another server's address", b"GET http://elsewhere.example/tenants HTTP/1.1", 401, "unauthorized"),
    _line("an address that is none", b"GET http://[/tenants HTTP/1.1"),
    _line("bytes above 127", b"GET /tenants/\xff/jobs HTTP/1.1"),
    _line("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n"),
    _line("SSH", b"SSH-2.0-OpenSSH_9.9"),
    Attack("request line", "TLS", raw(bytes.fromhex("16030100a5010000a10303") + bytes(160)), *_NOT_HTTP),
    Attack("request line", "every byte", raw(bytes(range(256)) * 4), *_NOT_HTTP),
)

_METHODS: Final = (
    *(
        Attack(
            "methods",
            f"{method} where it is not served",
            call(method, f"{ROUTER}/decide"),
            405,
            "wrong-method",
        )
        for method in ("GET", "HEAD", "OPTIONS", "PATCH", "DELETE", "PUT", "TRACE", "M-SEARCH", "PROPFIND")
    ),
    Attack("methods", "POST to what is read", call("POST", f"{ROUTER}/report", b"{}"), 405, "wrong-method"),
    Attack(
        "methods",
        "TRACE of what is public",
        call("TRACE", "/health", headers=(b"X: hunter2-swordfish",)),
        405,
        "wrong-method",
    ),
    Attack("methods", "OPTIONS of everything", call("OPTIONS", "*"), 404, "unknown-path"),
    Attack("methods", "CONNECT to a capsule", call("CONNECT", f"{ROUTER}/learning"), 405, "wrong-method"),
    Attack("methods", "small letters", call("get", "/health"), *_NOT_HTTP),
    Attack("methods", "mixed letters", call("Post", f"{ROUTER}/decide", b"{}"), *_NOT_HTTP),
    Attack("methods", "one of 5,000 letters", call("A" * 5000, "/health"), *_NOT_HTTP),
    Attack("methods", "endless", raw(b"A" * 300_000), *_NOT_HTTP),
)


def _fields(name: str, *headers: bytes, status: int = 431, kind: str = "header-too-large") -> Attack:
    return Attack("oversize head", name, call("GET", "/health", headers=headers), status, kind)


_OVERSIZE: Final = (
    _fields("value of 9 kB", b"X: " + b"a" * 9000),
    _fields("value of 64 kB", b"X: " + b"a" * 65536),
    _fields("value without end", b"X: " + b"a" * 1_000_000),
    _fields("name of 9 kB", b"X" * 9000 + b": a"),
    _fields("key of 9 kB", b"Authorization: Bearer " + b"a" * 9000),
    *(
        _fields(
            f"{count} headers",
            *(b"X%d: a" % each for each in range(count)),
        )
        for count in (65, 1000, 100_000)
    ),
    Attack("oversize head", "target of 9 kB", call("GET", "/health?" + "a" * 9000), *_TOO_LARGE),
    Attack("oversize head", "target of 70 kB", call("GET", "/" + "a" * 70_000), *_TOO_LARGE),
    Attack(
        "oversize head",
        "trailer without end",
        raw(_CHUNKED + b"2\r\n{}\r\n0\r\nX: " + b"y" * 300_000),
        *_TOO_LARGE,
    ),
    Attack(
        "oversize head",
        "5,000 trailers",
        raw(_CHUNKED + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
        *_TOO_LARGE,
    ),
)

ATTACKS: Final = (*_SMUGGLING, *_LINES, *_METHODS, *_OVERSIZE)
