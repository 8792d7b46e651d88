"""Rows of the table: paths, keys, queries and headers that are not what they should be."""

from __future__ import annotations

from typing import Final

from tests.server.hostile.attack import SECRET, SMUGGLED, Attack, call
from tests.server.serving import KEY, ROUTER

_NO_PATH: Final = (404, "unknown-path")
_NO_NAME: Final = (400, "invalid-field")
_NO_KEY: Final = (401, "unauthorized")
_CAPSULE: Final = ROUTER.removeprefix("/tenants/default")


def _path(name: str, path: str, status: int = 404, kind: str | None = "unknown-path") -> Attack:
    return Attack("path tricks", name, call("GET", path), status, kind)


_PATHS: Final = (
    _path("two dots", f"{ROUTER}/../router/learning"),
    _path("many dots", f"{ROUTER}/../../../../../tenants"),
    _path("dots as a tenant", "/tenants/../tenants/default/jobs"),
    _path("encoded dots", f"/tenants/%2e%2e{_CAPSULE}/learning", *_NO_NAME),
    _path("encoded twice", f"/tenants/%252e%252e{_CAPSULE}/learning", *_NO_NAME),
    _path("encoded slash before", "/tenants/..%2fdefault/jobs", *_NO_NAME),
    _path("encoded slash inside", "/tenants/default%2Fjobs%2Fdefault/jobs", *_NO_NAME),
    _path("backslash", "/..\\..\\etc\\passwd"),
    _path("encoded backslash", "/..%5c..%5cetc%5cpasswd"),
    _path("NUL behind a name", "/tenants/default%00/jobs", *_NO_NAME),
    _path("NUL alone", "/tenants/%00/jobs", *_NO_NAME),
    _path("two slashes before", "//tenants"),
    _path("two slashes inside", "/tenants//jobs"),
    _path("a slash behind", "/tenants/default/jobs/"),
    _path("a dot before", "/./tenants"),
    _path("parameter", "/tenants;x=1"),
    _path("parameter of a name", "/tenants/default;v=1/jobs", *_NO_NAME),
    _path("large letters in a word", "/Tenants/default/jobs"),
    _path("large letters in a name", "/tenants/DEFAULT/jobs", *_NO_NAME),
    _path("overlong dots", "/tenants/%c0%ae%c0%ae/jobs", *_NO_NAME),
    _path("overlong slash", "/tenants/default%c0%af/jobs", *_NO_NAME),
    _path("a byte that is no UTF-8", "/tenants/%ff/jobs", *_NO_NAME),
    _path("lone surrogate", "/tenants/%ed%a0%80/jobs", *_NO_NAME),
    _path("right to left", "/tenants/%E2%80%AEdefault/jobs", *_NO_NAME),
    _path("wide letters", "/tenants/%ef%bd%84efault/jobs", *_NO_NAME),
    _path("blank behind a name", "/tenants/default%20/jobs", *_NO_NAME),
    _path("line feed", "/tenants/default%0d%0aX-Evil:%201/jobs", *_NO_NAME),
    _path("no hex", "/tenants/%zz/jobs", *_NO_NAME),
    _path("cut off", "/tenants/default%2/jobs", *_NO_NAME),
    _path("as IIS wrote it", "/tenants/%u002e/jobs", *_NO_NAME),
    _path("65 letters", f"/tenants/{'a' * 65}/jobs", *_NO_NAME),
    _path("7,000 letters", f"/tenants/{'a' * 7000}/jobs", *_NO_NAME),
    _path("hyphen first", "/tenants/-rf/jobs", *_NO_NAME),
    _path("shell", "/tenants/$(id)/jobs", *_NO_NAME),
    _path("SQL", "/tenants/'%20or%201=1--/jobs", *_NO_NAME),
    _path("file of the store", "/store.sqlite"),
    _path("file of the machine", "/etc/passwd"),
    _path("file behind problems", "/problems/../../etc/passwd"),
    _path("markup behind problems", "/problems/<script>alert(1)"),
    _path("below what is public", "/health/x"),
    _path("behind what is public", "/health%2f..%2ftenants"),
    _path("fragment", "/health#x"),
    _path("nothing", "/"),
    _path("below a leaf", f"{ROUTER}/decide/batch/x"),
    _path("a decision without id", f"{ROUTER}/decisions/"),
    Attack("path tricks", "HEAD of what is not there", call("HEAD", "/nothing"), *_NO_PATH),
)


def _shown(name: str, *values: bytes, status: int = 401, kind: str = "unauthorized") -> Attack:
    """A request that shows other keys, on a call that would otherwise change something."""
    lines = tuple(b"Authorization: " + value for value in values)
    return Attack("keys", name, call("POST", _TEACHES, SMUGGLED, headers=lines, key=None), status, kind)


#: Changes something wherever the key is taken.
_TEACHES: Final = f"{ROUTER}/feedback"
_RIGHT: Final = KEY.encode()
_WRONG: Final = SECRET.encode()
_KEYS: Final = (
    _shown("none"),
    _shown("empty", b""),
    _shown("scheme alone", b"Bearer"),
    _shown("scheme and blank", b"Bearer "),
    _shown("another", b"Bearer " + _WRONG),
    _shown("all but the last letter", b"Bearer " + _RIGHT[:-1]),
    _shown("all but the first letter", b"Bearer " + _RIGHT[1:]),
    _shown("one letter more", b"Bearer " + _RIGHT + b"x"),
    _shown("twice in a line", b"Bearer " + _RIGHT + b" " + _RIGHT),
    _shown("a list, right first", b"Bearer " + _RIGHT + b", Bearer " + _WRONG),
    _shown("a list, right last", b"Bearer " + _WRONG + b", Bearer " + _RIGHT),
    _shown("large letters", b"Bearer " + _RIGHT.upper()),
    _shown("tab behind the scheme", b"Bearer\t" + _RIGHT),
    _shown("basic", b"Basic " + _RIGHT),
    _shown("token", b"Token " + _RIGHT),
    _shown("no scheme", _RIGHT),
    _shown("quoted", b'Bearer "' + _RIGHT + b'"'),
    _shown("encoded", b"Bearer " + _RIGHT.replace(b"-", b"%2d")),
    _shown("no UTF-8", b"Bearer \xff\xfe" + _WRONG),
    _shown("not ASCII", "Bearer ключ".encode() + _WRONG),
    _shown("hard blank behind", b"Bearer " + _RIGHT + b"\xa0"),
    _shown("wide blank behind", b"Bearer " + _RIGHT + "\u2003".encode()),
    _shown("NUL behind", b"Bearer " + _RIGHT + b"\0", status=400, kind="malformed-request"),
    _shown("8,000 letters", b"Bearer " + _WRONG * 470),
    _shown(
        "two headers, right first",
        b"Bearer " + _RIGHT,
        b"Bearer " + _WRONG,
        status=400,
        kind="malformed-request",
    ),
    _shown(
        "two headers, right last",
        b"Bearer " + _WRONG,
        b"Bearer " + _RIGHT,
        status=400,
        kind="malformed-request",
    ),
    *(
        Attack("keys", name, call("POST", path, SMUGGLED, key=None, headers=lines), *_NO_KEY)
        for name, path, lines in (
            ("in the query", f"{_TEACHES}?key={KEY}", ()),
            ("as a token in the query", f"{_TEACHES}?access_token={KEY}", ()),
            ("as user of an address", f"http://admin:{KEY}@localhost{_TEACHES}", ()),
            ("in a cookie", _TEACHES, (b"Cookie: key=" + _RIGHT,)),
            ("for a proxy", _TEACHES, (b"Proxy-Authorization: Bearer " + _RIGHT,)),
            ("under another name", _TEACHES, (b"X-Api-Key: " + _RIGHT,)),
        )
    ),
    Attack(
        "keys",
        "in the trailer",
        call(
            "POST",
            f"{ROUTER}/decide",
            b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + _RIGHT + b"\r\n\r\n",
            headers=(b"Transfer-Encoding: chunked",),
            key=None,
            length=False,
        ),
        *_NO_KEY,
    ),
    Attack("keys", "none, and a path that is not there", call("GET", "/nothing", key=None), *_NO_KEY),
    Attack("keys", "none, and a method that is not there", call("PATCH", "/health", key=None), *_NO_KEY),
)


def _asked(name: str, path: str, query: str, kind: str | None = "invalid-field", status: int = 400) -> Attack:
    return Attack("cursors", f"{name} {query[:24]}", call("GET", f"{path}?{query}"), status, kind)


_CURSORS: Final = (
    *(
        _asked(action, f"{ROUTER}/{action}", query)
        for action in ("decisions", "feedback", "audit")
        for query in (
            "after=-1",
            "after=1.5",
            "after=x",
            "after=",
            "after=null",
            "after=99999999999999999999",
            "after=9007199254740993",
            "after=%00",
            "after=%ff",
            f"after={'a' * 5000}",
            "after=legal%7Centerprise%7Cnormal",
            "after=1&after=2",
            "after=1;limit=2",
            "limit=0",
            "limit=-1",
            "limit=1001",
            "limit=1e3",
            "limit=1_0",
            "limit=%2B1",
            "limit=0x1",
            "limit=%D9%A3",
            "limit=99999999999999999",
            "limit=1&limit=2",
        )
    ),
    _asked("contexts", f"{ROUTER}/contexts", "limit=0"),
    _asked("contexts", f"{ROUTER}/contexts", "after=a&after=b"),
    _asked("contexts", f"{ROUTER}/contexts", f"after={'a' * 5000}", None, 200),
    _asked("contexts", f"{ROUTER}/contexts", "after=%00", None, 200),
    *(
        _asked("decisions", f"{ROUTER}/decisions", query, "unknown-field")
        for query in ("Limit=1", "cursor=1", "a[]=1", "=1")
    ),
)


def _query(name: str, method: str, path: str, body: bytes = b"", kind: str = "invalid-field") -> Attack:
    return Attack("queries", name, call(method, path, body), 400, kind)


_SPEC: Final = b"name: router\noptions: [a, b]\n"
_QUERIES: Final = (
    *(
        _query(f"dry run {value}", "POST", f"{ROUTER}/install?dryRun={value}", _SPEC)
        for value in ("1", "TRUE", "yes", "", "true%00", "true&dryRun=false", "false&dryRun=true")
    ),
    _query("dry run misspelt", "POST", f"{ROUTER}/install?dryrun=true", _SPEC, "unknown-field"),
    _query("probabilities maybe", "POST", f"{ROUTER}/decide?probabilities=maybe", b"{}"),
    _query("probabilities twice", "POST", f"{ROUTER}/decide?probabilities=true&probabilities=true", b"{}"),
    _query("learn on decide", "POST", f"{ROUTER}/decide?learn=true", b"{}", "unknown-field"),
    _query("of health", "GET", "/health?verbose=1", kind="unknown-field"),
    _query("of metrics", "GET", "/metrics?name[]=x", kind="unknown-field"),
    _query("of a capsule", "GET", f"{ROUTER}?x=1", kind="unknown-field"),
    _query(
        "dry run of feedback",
        "POST",
        f"{ROUTER}/feedback?dryRun=true",
        b'{"strategyId":0,"option":1,"reward":1.0,"contextKey":"x"}',
        "unknown-field",
    ),
    _query(
        "dry run of a batch of feedback",
        "POST",
        f"{ROUTER}/feedback/batch?dryRun=true",
        b'{"events":[]}',
        "unknown-field",
    ),
    _query("dry run of a delete", "DELETE", f"{ROUTER}?dryRun=true", kind="unknown-field"),
)


def _if_match(name: str, *values: bytes, status: int = 412, kind: str = "stale-document") -> Attack:
    lines = tuple(b"If-Match: " + value for value in values)
    body = b'{"rails":{"freeze":true}}'
    return Attack(
        "headers",
        f"If-Match {name}",
        call("PUT", f"{ROUTER}/learning", body, headers=lines),
        status,
        kind,
    )


def _retry(name: str, *values: bytes, kind: str = "invalid-field") -> Attack:
    lines = tuple(b"Idempotency-Key: " + value for value in values)
    return Attack(
        "headers",
        f"Idempotency-Key {name}",
        call("POST", f"{ROUTER}/decide", b"{}", headers=lines),
        400,
        kind,
    )


_HEADERS: Final = (
    _if_match("of another version", b'"999"'),
    _if_match("of nothing", b'""'),
    _if_match("empty", b"", status=400, kind="malformed-request"),
    _if_match("weak", b'W/"0"'),
    _if_match("negative", b'"-1"'),
    _if_match("with a fraction", b'"0.0"'),
    _if_match("of 5,000 digits", b'"' + b"0" * 5000 + b'"'),
    _if_match("no UTF-8", b'"\xff"'),
    _if_match("Arabic digits", '"\u0660"'.encode()),
    _if_match("half quoted", b'"0', status=400, kind="malformed-request"),
    _if_match("quoted twice", b'""0""', status=400, kind="malformed-request"),
    _if_match("twice", b'"998"', b'"999"', status=400, kind="malformed-request"),
    _retry("empty", b""),
    _retry("of 256 letters", b"a" * 256),
    _retry("not ASCII", "clé".encode()),
    _retry("with a tab", b"a\tb"),
    _retry("with DEL", b"a\x7f", kind="malformed-request"),
    _retry("twice", b"a", b"b", kind="malformed-request"),
    *(
        Attack(
            "headers",
            f"X-Request-Id {name}",
            call("GET", "/nothing", headers=(b"X-Request-Id: " + value,)),
            *_NO_PATH,
        )
        for name, value in (
            ("long", _WRONG * 10),
            ("with markup", b"<script>" + _WRONG),
            ("with a blank", b"a " + _WRONG),
        )
    ),
    Attack(
        "headers",
        "two codings of content",
        call(
            "POST",
            f"{ROUTER}/decide",
            b"{}",
            headers=(b"Content-Encoding: identity", b"Content-Encoding: gzip"),
        ),
        400,
        "malformed-request",
    ),
    Attack(
        "headers",
        "a coding of content that is no UTF-8",
        call("POST", f"{ROUTER}/decide", b"{}", headers=(b"Content-Encoding: \xe9",)),
        415,
        "unsupported-type",
    ),
    Attack(
        "headers",
        "Idempotency-Key of a batch",
        call("POST", f"{ROUTER}/feedback/batch", b'{"events":[]}', headers=(b"Idempotency-Key: a",)),
        *_NO_NAME,
    ),
    Attack(
        "headers",
        "two types of content",
        call(
            "POST",
            f"{ROUTER}/decide",
            b"{}",
            headers=(b"Content-Type: application/json", b"Content-Type: application/cbor"),
        ),
        400,
        "malformed-request",
    ),
)

ATTACKS: Final = (*_PATHS, *_KEYS, *_CURSORS, *_QUERIES, *_HEADERS)
