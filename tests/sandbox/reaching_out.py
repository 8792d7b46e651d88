"""Cases of guests that want out: every way to a service inside, and what servers do to their clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.sandbox.arena import Arena
from tests.sandbox.case import Case, Ended
from tests.sandbox.guests import SPIN, Guest, Span, call, script, send

from capsa.errors import CapabilityDenied, CapsuleDeadline, CapsuleLimit, InvalidPolicy

_ALL: Final = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def _anywhere(arena: Arena) -> dict[str, Any]:
    """Any public host, at any port of interest."""
    ports = [80, 443, arena.canary.port, arena.site.port]
    return {"http": [{"hosts": ["*"], "schemes": ["http", "https"], "ports": ports, "methods": _ALL}]}


def _one(arena: Arena) -> dict[str, Any]:
    """One host only, but at the canary's port too."""
    ports = [80, 443, arena.canary.port]
    return {"http": [{"hosts": ["api.example.com"], "schemes": ["http", "https"], "ports": ports}]}


def _site(arena: Arena) -> dict[str, Any]:
    """The site, and nothing else inside."""
    private = [f"127.0.0.1:{arena.site.port}"]
    return {"http": [{"schemes": ["http"], "private": private, "methods": _ALL}]}


def _to(url: str, **around: Any) -> Callable[[Arena], Guest]:
    """A guest that asks for a URL in which PORT is the canary's, SITE the site's."""

    def made(arena: Arena) -> Guest:
        return script(send(_placed(url, arena), **around))

    return made


def _placed(url: str, arena: Arena) -> str:
    return url.replace("PORT", str(arena.canary.port)).replace("SITE", str(arena.site.port))


def _denied(
    category: str, name: str, url: str, rule: str, grants: Callable[[Arena], dict[str, Any]] = _anywhere
) -> Case:
    return Case(
        category=category,
        name=name,
        guest=_to(url),
        grants=grants,
        answer=["denied"],
        denied=(("http", rule),),
    )


#: Spellings of addresses inside, as hosts of a URL: each is seen through, or refused as a host.
_INSIDE: Final = {
    "private": (
        "127.0.0.1", "127.1", "127.0.1", "127.1.2.3", "2130706433", "0x7f000001", "0x7F.1", "0x7f.0.0.0x1", "0177.0.0.1", "017700000001",
        "0x00000000007f.1", "127.0.0.1.", "0", "0.0.0.0", "0x0", "00", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]",  # noqa: S104 - nothing is bound
        "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:FFFF:7F00:0001]", "[::127.0.0.1]", "[::7f00:1]",
        "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:1:2:3:4:80ff:fffe]",
        "[fe80::1]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[5f00::1]", "[100::1]", "[2001:db8::1]",
        "[4000::1]", "[::ffff:a9fe:a9fe]", "169.254.169.254", "0xa9fea9fe", "2852039166", "169.254.43518",
        "168.63.129.16", "100.64.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.0.0.1",
        "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "0x7f%2e1",
        "127.0.0.1%2e", "1\u00ad27.0.0.1",
    ),
    "host-form": (
        "[::1%25lo]", "[fe80::1%eth0]", "[::1%251]", "[127.0.0.1]", "[::1", "127.0.0.1..", "127..1", "127.0.0.256", "0x100000000",
        "4294967296", "127.0.0.0.1", "0x7g.1", "09.0.0.1", "[::ffff:127.0.0.256]", "[1::2::3]", "%00127.0.0.1",
        "127.0.0.1%00.api.example.com", "127.0.0.1%09", "api.example.com%0d%0aX:", "api.example.com%2f@127.0.0.1", "a b.test", "..", "*", "%",
        "a" * 64 + ".test", ".".join(["b" * 60] * 5), "xn--a.test", "\u202e.test", "api.example.com%23", "<x>.test", "a|b.test", "^.test",
    ),
    "address": ("inner.test", "INNER.TEST", "inner.test.", "\uff49\uff4e\uff4e\uff45\uff52.test", "inner%2etest", "in\u00adner.test", "inner\u3002test"),
}  # fmt: skip

SPELLINGS: Final = [
    _denied("address", f"spelled {host!r:.60}", f"http://{host}:PORT/", rule)
    for rule, hosts in _INSIDE.items()
    if rule != "host-form"
    for host in hosts
]
HOSTS: Final = [
    Case(
        category="host",
        name=f"spelled {host!r:.60}",
        guest=_to(f"http://{host}:PORT/"),
        grants=_anywhere,
        answer=["denied"],
        denied=None,
        # Which of the rules says it first is not what matters.
        after=lambda _, ended: _denied_by(ended, "host-form", "url-form", "userinfo"),
    )
    for host in _INSIDE["host-form"]
]


def _denied_by(ended: Ended, *rules: str) -> None:
    assert [(interface, rule in rules) for interface, rule, _ in ended.denied] == [("http", True)], (
        ended.denied
    )


#: URLs that one parser reads as a host outside, another as one inside.
_SPLIT: Final = {
    "a password that is the granted host": ("http://api.example.com:x@127.0.0.1:PORT/", "userinfo"),
    "a user that is the granted host": ("http://api.example.com@127.0.0.1:PORT/", "userinfo"),
    "a user with the granted host's port": ("http://api.example.com:80@127.0.0.1:PORT/", "userinfo"),
    "an empty user": ("http://@127.0.0.1:PORT/", "userinfo"),
    "an empty password": ("http://:@127.0.0.1:PORT/", "userinfo"),
    "two at signs": ("http://x@api.example.com@127.0.0.1:PORT/", "userinfo"),
    "an at sign behind a fragment": ("http://127.0.0.1:PORT#@api.example.com/", "private"),
    "an at sign behind a query": ("http://127.0.0.1:PORT?@api.example.com/", "private"),
    "an at sign behind a slash": ("http://127.0.0.1:PORT/@api.example.com", "private"),
    "a backslash and an at sign": ("http://127.0.0.1:PORT\\@api.example.com/", "url-form"),
    "a backslash between hosts": ("http://api.example.com\\.127.0.0.1:PORT/", "url-form"),
    "backslashes for slashes": ("http:\\\\127.0.0.1:PORT\\", "url-form"),
    "an encoded at sign": ("http://api.example.com%40127.0.0.1:PORT/", "host-form"),
    "an encoded slash in the host": ("http://127.0.0.1%2f.api.example.com/", "host-form"),
    "an encoded hash in the host": ("http://127.0.0.1%23.api.example.com/", "host-form"),
    "a tab in the host": ("http://127.0.0\t.1:PORT/", "url-form"),
    "a line break in the host": ("http://127.0.0.1\n.api.example.com/", "url-form"),
    "a line break behind the scheme": ("http:\n//127.0.0.1:PORT/", "url-form"),
    "a carriage return at the end": ("http://api.example.com/\r", "url-form"),
    "a NUL in the host": ("http://127.0.0.1\0.api.example.com/", "url-form"),
    "a blank in front": (" http://127.0.0.1:PORT/", "url-form"),
    "a blank in the host": ("http://api.example.com 127.0.0.1/", "url-form"),
    "a delete character": ("http://127.0.0.1\x7f:PORT/", "url-form"),
    "a next-line character": ("http://127.0.0.1\x85:PORT/", "url-form"),
    "no slashes": ("http:127.0.0.1:PORT/", "url-form"),
    "one slash": ("http:/127.0.0.1:PORT/", "url-form"),
    "three slashes": ("http:///127.0.0.1:PORT/", "url-form"),
    "no scheme": ("//127.0.0.1:PORT/", "scheme"),
    "a path alone": ("/etc/passwd", "url-form"),
    "nothing": ("", "url-form"),
    "a URL of 9,000 bytes": ("http://api.example.com/" + "x" * 9000, "url-form"),
    "a port of 0": ("http://api.example.com:0/", "port"),
    "a port of 65,536": ("http://api.example.com:65536/", "port"),
    "a negative port": ("http://api.example.com:-1/", "port"),
    "a port in full-width digits": ("http://api.example.com:\uff18\uff10/", "port"),
    "a port with a sign": ("http://api.example.com:+80/", "port"),
    "a port that wraps to the granted one": ("http://api.example.com:65616/", "port"),
    "a port that is not granted": ("http://api.example.com:22/", "port"),
    "another host": ("http://evil.example.com/", "host"),
    "a host below the granted one": ("http://x.api.example.com/", "host"),
    "a host above the granted one": ("http://example.com/", "host"),
    "a host that begins like the granted one": ("http://api.example.com.evil.test/", "host"),
    "a host that ends like the granted one": ("http://evilapi.example.com/", "host"),
    "a host with a Cyrillic letter": ("http://\u0430pi.example.com/", "host"),
    "an address where a name is granted": ("http://93.184.215.14/", "host"),
    "localhost": ("http://localhost:PORT/", "host"),
    "a file": ("file:///etc/passwd", "scheme"),
    "gopher": ("gopher://127.0.0.1:PORT/_GET", "scheme"),
    "ftp": ("ftp://127.0.0.1:PORT/", "scheme"),
    "a web socket": ("ws://127.0.0.1:PORT/", "scheme"),
    "data": ("data:text/plain,x", "scheme"),
    "javascript": ("javascript:alert(1)", "scheme"),
    "a Unix socket": ("http+unix://%2fvar%2frun%2fdocker.sock/", "scheme"),
    "a view of another URL": ("view-source:http://127.0.0.1:PORT/", "scheme"),
}
PARSERS: Final = [_denied("parser", name, url, rule, _one) for name, (url, rule) in _SPLIT.items()]

NAMES: Final = [
    *[
        _denied("name", f"that resolves as {name}", f"http://{name}:PORT/", "address")
        for name in (
            "inner.test", "inner6.test", "mapped.test", "translated.test", "tunnelled.test", "metadata.test", "private.test",
            "carrier.test", "any.test", "any6.test", "mixed.test", "mixed6.test", "last-of-many.test", "alias.test",
        )
    ],
    *[
        _denied("name", f"{name} that does not resolve", f"http://{name}:PORT/", "unresolved")
        for name in ("missing.test", "empty.test")
    ],
    *[
        Case(category="name", name=f"{name} whatever it means here", guest=_to(f"http://{name}:PORT/"), grants=_anywhere, answer=["denied"], denied=None,
             after=lambda _, ended: _denied_by(ended, "address", "unresolved"))
        for name in ("localhost", "LOCALHOST", "localhost.", "x.localhost", "localhost.localdomain", "ip6-localhost")
    ],
    Case(category="name", name="whose server is silent", guest=_to("http://silent.test/", timeout_ms=300), grants=_anywhere, answer=["timed-out"]),
    Case(category="name", name="whose server answers garbage", guest=_to("http://garbage.test/", timeout_ms=300), grants=_anywhere, denied=None, answer=["timed-out"]),
    Case(
        category="name",
        name="whose answer changes between look-ups",
        # At the second address the canary listens; at the first the site, with another port: so it must be asked at
        # the site's port, by a grant for this very name.
        guest=_to("http://turning.test:SITE/one"),
        grants=lambda arena: {"http": [{"schemes": ["http"], "private": [f"turning.test:{arena.site.port}"]}]},
        answer=[1],
        after=lambda arena, _: _asked_once(arena, "turning.test"),
    ),
    Case(
        category="name",
        name="whose second answer is inside",
        guest=lambda arena: script(*[send(_placed("http://turning.test:PORT/", arena))] * 2),
        grants=_anywhere,
        answer=["denied", "denied"],
        denied=(("http", "address"),) * 2,
    ),
    Case(
        category="name",
        name="that is granted at another port only",
        guest=_to("http://turning.test:PORT/"),
        grants=lambda arena: {"http": [{"hosts": ["turning.test"], "schemes": ["http"], "ports": [arena.canary.port], "private": [f"turning.test:{arena.site.port}"]}]},
        answer=["denied"],
        denied=(("http", "address"),),
    ),
    Case(
        category="name",
        name="that means the address that is granted",
        guest=_to("http://both.test:SITE/one"),
        grants=_site,
        answer=["denied"],
        denied=(("http", "host"),),
        after=lambda arena, _: _asked_nothing(arena),
    ),
]  # fmt: skip


def _asked_once(arena: Arena, name: str) -> None:
    kinds = [kind for asked, kind in arena.names.asked if asked == name]
    assert sorted(kinds) == [1, 28], arena.names.asked
    assert len(arena.site.asked) == 1


def _asked_nothing(arena: Arena) -> None:
    assert arena.names.asked == []
    assert arena.site.asked == []


REDIRECTS: Final = [
    Case(category="redirect", name=f"by {method} /{path} is handed over, not followed", guest=_to(f"http://127.0.0.1:SITE/{path}", told="status", method=method, body=body),
         grants=_site, answer=[status])
    for path, status, method, body in [
        ("moved", 301, "GET", b""), ("found", 302, "GET", b""), ("found", 302, "POST", b"x"), ("again", 307, "POST", b"x"), ("refresh", 200, "GET", b""),
    ]
] + [
    Case(
        category="redirect",
        name="that the guest follows by itself",
        guest=lambda arena: script(send(_placed("http://127.0.0.1:SITE/found", arena), told="status"), send(_placed("http://127.0.0.1:PORT/", arena))),
        grants=_site,
        answer=[302, "denied"],
        denied=(("http", "private"),),
    ),
]  # fmt: skip

#: Every special address with its port must be named; a neighbour of what is named is not.
PRIVATE: Final = [
    _denied("private", name, url, "private", _site)
    for name, url in {
        "another port": "http://127.0.0.1:PORT/",
        "another address at the port": "http://127.0.0.2:SITE/",
        "the same by IPv6": "http://[::1]:SITE/",
    }.items()
] + [
    _denied("private", "another scheme", "https://127.0.0.1:SITE/", "scheme", _site),
    Case(category="private", name="the same, spelled otherwise", guest=_to("http://0x7f.1:SITE/one"), grants=_site, answer=[1]),
    Case(category="private", name="the same, mapped", guest=_to("http://[::ffff:127.0.0.1]:SITE/one"), grants=_site, answer=[1]),
    Case(
        category="private",
        name="named by the wants alone",
        guest=_to("http://127.0.0.1:SITE/"),
        grants=_one,
        wants={"http": [{"schemes": ["http"], "private": ["127.0.0.1:1"]}]},
        answer=["denied"],
        denied=(("http", "private"),),
    ),
    Case(
        category="private",
        name="granted but not wanted",
        guest=_to("http://127.0.0.1:SITE/"),
        grants=_site,
        wants={"http": [{"hosts": ["api.example.com"], "schemes": ["http"]}]},
        answer=["denied"],
        denied=(("http", "host"),),
    ),
    *[
        Case(category="private", name=f"{host} granted as a public host", guest=_to("http://127.0.0.1:SITE/"), grants={"http": [{"hosts": [host]}]}, ends=InvalidPolicy)
        for host in ("127.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "::/0", "localhost", "[::1]", "::ffff:127.0.0.1", "2130706433", "169.254.169.254", "*.localhost")
    ],
]  # fmt: skip


def _sent(
    name: str,
    headers: Sequence[tuple[Any, Any]] = (),
    *,
    rule: str = "header",
    category: str = "header",
    **around: Any,
) -> Case:
    """A request to the site that is not sent."""
    return Case(
        category=category,
        name=name,
        guest=_to("http://127.0.0.1:SITE/", headers=headers, **around),
        grants=_site,
        answer=["denied"],
        denied=(("http", rule),),
        after=lambda arena, _: _asked_nothing(arena),
    )


HEADERS: Final = [
    _sent(f"{name} that the host alone sets", [(name, "x")])
    for name in (
        "Host", "hOsT", "Content-Length", "Transfer-Encoding", "Connection", "TE", "Trailer", "Upgrade", "Keep-Alive", "Expect",
        "HTTP2-Settings", "Proxy-Authorization", "Proxy-Connection",
    )
] + [
    _sent("a line break in a value", [("X-A", "1\r\nX-B: 2")]),
    _sent("a line feed in a value", [("X-A", "1\nX-B: 2")]),
    _sent("a carriage return in a value", [("X-A", "1\rX-B: 2")]),
    _sent("a whole request in a value", [("X-A", "1\r\n\r\nGET /one HTTP/1.1\r\nHost: x\r\n\r\n")]),
    _sent("a NUL in a value", [("X-A", "1\0")]),
    _sent("a value beyond ASCII", [("X-A", "é")]),
    _sent("a value with a line separator", [("X-A", "1\u2028X-B: 2")]),
    _sent("a value whose low bytes are a line break", [("X-A", "1\u010d\u010aX-B: 2")]),
    _sent("a line break in a name", [("X-A\r\nX-B", "1")]),
    _sent("a colon in a name", [("X-A: 1", "1")]),
    _sent("a blank behind a name", [("Host ", "x")]),
    _sent("a blank before a name", [(" Host", "x")]),
    _sent("an empty name", [("", "x")]),
    _sent("a name that is a pseudo-header", [(":authority", "x")]),
    _sent("65 headers", [(f"X-{number}", "1") for number in range(65)]),
    _sent("17 KiB in one value", [("X-A", Span(65_536 * 2, 17_000))]),
    *[_sent(f"the method {method!r}", method=method, category="method", rule="method")
      for method in ("get", "", "TRACE", "CONNECT", "GET /one HTTP/1.1\r\nX:", "GET ", "POST\n", "PROPFIND", "G\0ET")],
    _sent("a GET with a body", body=b"GET /one HTTP/1.1\r\n\r\n", category="method", rule="method"),
    Case(category="method", name="one that is not granted", guest=_to("https://api.example.com/", method="DELETE"), grants=_one, answer=["denied"], denied=(("http", "method"),)),
    Case(
        category="header",
        name="a line break in the path stays encoded",
        guest=_to("http://127.0.0.1:SITE/one?%0d%0aX-B:%202"),
        grants=_site,
        answer=[1],
        after=lambda arena, _: _is_line(arena, "GET /one?%0d%0aX-B:%202 HTTP/1.1"),
    ),
    Case(
        category="header",
        name="a second request in a body is no request",
        guest=_to("http://127.0.0.1:SITE/one", method="POST", body=b"GET /found HTTP/1.1\r\n\r\n"),
        grants=_site,
        answer=[1],
        after=lambda arena, _: _is_line(arena, "POST /one HTTP/1.1"),
    ),
]  # fmt: skip


def _is_line(arena: Arena, line: str) -> None:
    assert [asked.line for asked in arena.site.asked] == [line]


def _served(name: str, path: str, answer: str, *, timeout_ms: int | None = 400, **limits: int) -> Case:
    return Case(
        category="server",
        name=name,
        guest=_to(f"http://127.0.0.1:SITE/{path}", timeout_ms=timeout_ms),
        grants=_site,
        limits=limits,
        answer=[answer],
    )


SERVERS: Final = [
    _served("that sends its head byte by byte", "slow-head", "timed-out"),
    _served("that sends its body byte by byte", "slow-body", "timed-out"),
    _served("that sends nothing", "silent", "timed-out"),
    _served("whose body never ends", "endless", "too-large", timeout_ms=None),
    _served("whose body never ends, under a small limit of traffic", "endless", "too-large", timeout_ms=None, egress_bytes=10_000),
    _served("whose head never ends", "endless-head", "too-large", timeout_ms=None),
    _served("whose chunks never end", "endless-chunks", "too-large", timeout_ms=None),
    _served("whose trailers never end", "endless-trailers", "too-large", timeout_ms=None),
    _served("whose chunk's extension never ends", "endless-extension", "failed", timeout_ms=None),
    _served("that says go on for ever", "endless-continue", "too-large", timeout_ms=None),
    _served("that sends more than may be handed over", "large", "too-large", output_bytes=20_000),
    _served("that sends 500 headers", "many-headers", "too-large"),
    _served("that closes too early", "cut", "failed"),
    _served("that says two lengths", "two-lengths", "failed"),
    _served("that says a chunk of all there is", "chunk-of-all", "failed"),
    _served("that says a chunk beyond all there is", "chunk-beyond", "failed"),
    _served("that says a negative length", "negative-length", "failed"),
    _served("that speaks something else", "not-http", "failed"),
    _served("whose status is no status", "status-9", "failed"),
    Case(
        category="server",
        name="that is slower than the wall clock",
        guest=lambda arena: script(send(_placed("http://127.0.0.1:SITE/slow-body", arena)), then=SPIN),
        grants=_site,
        limits={"cpu_ms": 60_000, "wall_ms": 300},
        ends=CapsuleDeadline,
        says="300ms, waiting included",
        denied=None,
    ),
    Case(
        category="server",
        name="with a certificate that nobody trusts",
        guest=lambda arena: script(send(f"https://127.0.0.1:{arena.forged.port}/one")),
        grants=lambda arena: {"http": [{"private": [f"127.0.0.1:{arena.forged.port}"]}]},
        answer=["failed"],
        logs="certificate",
    ),
    Case(
        category="server",
        name="with a certificate for another name",
        guest=lambda arena: script(send(f"https://turning.test:{arena.secure.port}/one")),
        grants=lambda arena: {"http": [{"private": [f"turning.test:{arena.secure.port}"]}]},
        answer=["failed"],
        logs="certificate",
    ),
    Case(
        category="server",
        name="that speaks no TLS where it should",
        guest=lambda arena: script(send(f"https://127.0.0.1:{arena.site.port}/one", timeout_ms=300)),
        grants=lambda arena: {"http": [{"private": [f"127.0.0.1:{arena.site.port}"]}]},
        answer=["timed-out"],
    ),
    Case(
        category="server",
        name="with a good certificate is served",
        guest=lambda arena: script(send(f"https://both.test:{arena.secure.port}/one")),
        grants=lambda arena: {"http": [{"private": [f"both.test:{arena.secure.port}"]}]},
        answer=[1],
    ),
]  # fmt: skip


def _sends(count: int) -> Callable[[Arena], Guest]:
    return lambda arena: script(*[send(_placed("http://127.0.0.1:SITE/one", arena))] * count)


def _looked_up_once(arena: Arena, ended: Ended) -> None:
    assert {name for name, _ in arena.names.asked} == {"a-secret.missing.test"}
    assert (ended.used["egress_requests"], ended.used["egress_bytes"]) == (1, len("a-secret.missing.test"))


QUOTAS: Final = [
    Case(category="egress quota", name="one request more than there may be", guest=_sends(3), grants=_site, limits={"egress_requests": 2}, answer=[1, 1, "too-large"],
         after=lambda arena, ended: _used(arena, ended, 2)),
    Case(category="egress quota", name="a request where there may be none", guest=_sends(1), grants=_site, limits={"egress_requests": 0}, answer=["too-large"],
         after=lambda arena, ended: _used(arena, ended, 0)),
    Case(category="egress quota", name="a byte where there may be none", guest=_sends(1), grants=_site, limits={"egress_bytes": 0}, answer=["too-large"],
         after=lambda arena, _: _asked_nothing(arena)),
    Case(category="egress quota", name="bytes of several requests together",
         guest=lambda arena: script(*[send(_placed("http://127.0.0.1:SITE/large", arena), told="status")] * 3), grants=_site, limits={"egress_bytes": 65_000},
         answer=[200, 200, "too-large"]),
    Case(category="egress quota", name="a body larger than what is left", guest=lambda arena: script(send(_placed("http://127.0.0.1:SITE/", arena), method="POST", body=Span(0, 200_000))),
         grants=_site, limits={"egress_bytes": 100_000}, answer=["too-large"], after=lambda arena, _: _asked_nothing(arena)),
    Case(category="egress quota", name="names looked up", guest=script(send("http://a-secret.missing.test/"), send("http://another.missing.test/")), grants={"http": [{"hosts": ["*.missing.test"], "schemes": ["http"]}]},
         limits={"egress_requests": 1}, answer=["denied", "too-large"], denied=(("http", "unresolved"),), after=_looked_up_once),
    Case(category="egress quota", name="bytes of a name looked up", guest=script(send(f"http://{'x' * 60}.missing.test/")), grants={"http": [{"hosts": ["*.missing.test"], "schemes": ["http"]}]},
         limits={"egress_bytes": 150}, answer=["too-large"], after=lambda arena, _: _asked_nothing(arena)),
    Case(category="egress quota", name="denied requests without end", guest=_to("http://127.0.0.1:PORT/", times=0), grants=_anywhere, limits={"host_calls": 100},
         ends=CapsuleLimit, denied=None, after=lambda _, ended: _is_listed(ended)),
    Case(category="egress quota", name="requests without end", guest=_to("http://127.0.0.1:SITE/one", times=0), grants=_site, limits={"host_calls": 100},
         ends=CapsuleLimit, after=lambda arena, ended: _used(arena, ended, 16)),
]  # fmt: skip


def _used(arena: Arena, ended: Ended, requests: int) -> None:
    assert len(arena.site.asked) == ended.used["egress_requests"] == requests


def _is_listed(ended: Ended) -> None:
    assert {(interface, rule) for interface, rule, _ in ended.denied} == {("http", "private")}
    # No more are listed; the rest is counted.
    assert len(ended.denied) == 64


GRANTED: Final = [
    Case(category="no grant", name="http that nobody grants", guest=script(send("https://api.example.com/")), wants={"http": [{"hosts": ["api.example.com"]}]}, ends=CapabilityDenied),
    Case(category="no grant", name="http that the wants do not have", guest=script(send("https://api.example.com/")), grants=_one, wants={}, ends=CapabilityDenied),
    Case(category="no grant", name="http that the policy does not have", guest=script(send("https://api.example.com/"), call("clock.now")), grants={"clock": True},
         wants={"clock": True, "http": [{"hosts": ["*"]}]}, ends=CapabilityDenied),
]  # fmt: skip

REACHING_OUT: Final = [
    *SPELLINGS, *HOSTS, *PARSERS, *NAMES, *REDIRECTS, *PRIVATE, *HEADERS, *SERVERS, *QUOTAS, *GRANTED,
]  # fmt: skip
