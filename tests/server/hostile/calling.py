"""Rows of the table: calls of tools, and what they are allowed, that must not get through."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import cbor2
from tests.sandbox import guests
from tests.server import tools
from tests.server.hostile.attack import ECHO, Attack, Body, Ground, call
from tests.server.serving import ROUTER

from capsa import _native

_MALFORMED: Final = (400, "malformed-body")
_INVALID: Final = (400, "invalid-field")
_POLICY: Final = (400, "invalid-policy")
_KIND: Final = (409, "wrong-kind")
_CBOR: Final = b"Content-Type: application/cbor"
_MIB: Final = 1024 * 1024


def _at(method: str, path: str, body: Body = b"", *headers: bytes) -> Callable[[Ground], bytes]:
    return call(method, f"{ECHO}{path}", body, headers=headers)


def _invoke(name: str, body: Body, status: int, kind: str, *headers: bytes) -> Attack:
    return Attack("calls", name, _at("POST", "/invoke", body, *headers), status, kind)


_CALLS: Final = (
    _invoke("nothing", b"", *_MALFORMED),
    _invoke("half of it", b'{"input": ', *_MALFORMED),
    _invoke("input twice", b'{"input": 1, "input": 2}', *_MALFORMED),
    _invoke("NaN", b'{"input": NaN}', *_MALFORMED),
    _invoke("1e999", b'{"input": 1e999}', *_MALFORMED),
    _invoke("half of a surrogate pair", b'{"input": "\\ud800"}', *_MALFORMED),
    _invoke("not UTF-8", b'{"input": "\xff"}', *_MALFORMED),
    _invoke("40 levels", b'{"input": ' + b"[" * 40 + b"]" * 40 + b"}", *_MALFORMED),
    _invoke("1,000,000 levels", b'{"input": ' + b"[" * 1_000_000, *_MALFORMED),
    _invoke("31 levels", b'{"input": ' + b"[" * 31 + b"]" * 31 + b"}", *_INVALID),
    _invoke("a text of 1 MiB", b'{"input": "' + b"x" * _MIB + b'"}', *_INVALID),
    _invoke("600,000 numbers", b'{"input": [' + b"1," * 599_999 + b"1]}", *_INVALID),
    _invoke("a body of more than 4 MiB", b" " * (4 * _MIB + 1), 413, "too-large"),
    _invoke("a list", b"[]", *_INVALID),
    _invoke("an unknown key", b'{"inputs": 1}', 400, "unknown-field"),
    _invoke("a key of Python's own", b'{"self": 1}', 400, "unknown-field"),
    _invoke("inline", b'{"inline": true}', 400, "unknown-field"),
    _invoke("record as a text", b'{"record": "true"}', *_INVALID),
    _invoke("record as a number", b'{"record": 1}', *_INVALID),
    _invoke("a key for retries", b'{"input": 1}', *_INVALID, b"Idempotency-Key: k"),
    _invoke("compressed", b'{"input": 1}', 415, "unsupported-type", b"Content-Encoding: gzip"),
    Attack("calls", "a query", _at("POST", "/invoke?record=true", b"{}"), 400, "unknown-field"),
    _invoke("CBOR with a tag", cbor2.dumps({"input": cbor2.CBORTag(1, 5)}), *_MALFORMED, _CBOR),
    _invoke("CBOR with bytes", cbor2.dumps({"input": b"x"}), *_MALFORMED, _CBOR),
    _invoke("CBOR with NaN", cbor2.dumps({"input": float("nan")}), *_MALFORMED, _CBOR),
    _invoke("CBOR with a number as a key", cbor2.dumps({"input": {1: 2}}), *_MALFORMED, _CBOR),
    _invoke("CBOR cut off", cbor2.dumps({"input": "abc"})[:-1], *_MALFORMED, _CBOR),
    Attack("calls", "take back nothing", _at("POST", "/compensate", b'{"input": 1}'), *_INVALID),
    Attack("calls", "take back too much", _at("POST", "/compensate", b'{"output": 1, "x": 1}'), 400, "unknown-field"),
    Attack("calls", "without the key", call("POST", f"{ECHO}/invoke", b"{}", key=None), 401, "unauthorized"),
    Attack("calls", "with a GET", _at("GET", "/invoke"), 405, "wrong-method"),
    Attack("calls", "of a decision capsule", call("POST", f"{ROUTER}/invoke", b"{}"), *_KIND),
    Attack("calls", "to decide", _at("POST", "/decide", b'{"input": {}}'), *_KIND),
    Attack("calls", "to learn", _at("POST", "/feedback", b'{"option": 0, "reward": 1, "contextKey": "k"}'), *_KIND),
    Attack("calls", "to forget by a setting", _at("PATCH", "/learning", b'{"mode": "off"}'), *_KIND),
)  # fmt: skip


def _policy(name: str, body: Any, status: int = 400, kind: str = "invalid-policy", *headers: bytes) -> Attack:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Attack("policies", name, _at("PUT", "/policy", sent, *headers), status, kind)


def _granted(**grants: Any) -> dict[str, Any]:
    return {"schema": 1, "name": "x", "grants": grants}


_POLICIES: Final = (
    _policy("the name of a ready one", b"trusted"),
    _policy("the same in quotes", b'"trusted"'),
    _policy("the same in CBOR", cbor2.dumps("trusted"), *_POLICY, _CBOR),
    _policy("the path of a file", b"/etc/passwd"),
    _policy("the same in CBOR, as a path", cbor2.dumps("/etc/passwd"), *_POLICY, _CBOR),
    _policy("nothing", b""),
    _policy("no object", cbor2.dumps([1]), *_POLICY, _CBOR),
    _policy("half of it", b'{"schema": 1', *_MALFORMED),
    _policy("a key twice", b'{"schema": 1, "name": "x", "name": "y"}', *_MALFORMED),
    _policy("a misspelt grant", _granted(htp=[])),
    _policy("a misspelt limit", {"schema": 1, "name": "x", "limits": {"cpuMS": 1}}),
    _policy("another version", {"schema": 2, "name": "x"}),
    _policy("true for a number", {"schema": True, "name": "x"}),
    _policy("no limit", {"schema": 1, "name": "x", "limits": {"cpuMs": 10**12}}),
    _policy("a limit below nothing", {"schema": 1, "name": "x", "limits": {"egressBytes": -1}}),
    _policy("fuel that nobody counts", {"schema": 1, "name": "x", "limits": {"fuel": 5}}),
    _policy("loopback as a host", _granted(http=[{"hosts": ["127.0.0.1"]}])),
    _policy("loopback in octal", _granted(http=[{"hosts": ["0177.0.0.1"]}])),
    _policy("loopback as a number", _granted(http=[{"hosts": ["2130706433"]}])),
    _policy("loopback by its name", _granted(http=[{"hosts": ["localhost"]}])),
    _policy("the metadata service", _granted(http=[{"hosts": ["169.254.169.254"]}])),
    _policy("a network that holds it", _granted(http=[{"hosts": ["169.0.0.0/8"]}])),
    _policy("an address in an address", _granted(http=[{"hosts": ["::ffff:127.0.0.1"]}])),
    _policy("all of a domain of the first level", _granted(http=[{"hosts": ["*.com"]}])),
    _policy("any method", _granted(http=[{"hosts": ["a.example"], "methods": ["*"]}])),
    _policy("a tunnel", _granted(http=[{"hosts": ["a.example"], "methods": ["CONNECT"]}])),
    _policy("files by a scheme", _granted(http=[{"hosts": ["a.example"], "schemes": ["file"]}])),
    _policy("a secret to anybody", _granted(secrets=[{"name": "k", "hosts": ["*"]}])),
    _policy("a secret in it", _granted(secrets=[{"name": "k", "hosts": ["a.example"], "value": "v"}])),
    _policy("a directory of another", _granted(files={"access": "read", "path": "/etc"})),
    _policy("300 rules", _granted(http=[{"hosts": ["a.example"]}] * 300)),
    _policy("deep TOML", b"a = " + b"[" * 10_000),
    _policy("a dotted key of 100 kB", b"a." * 50_000 + b"b = 1"),
    _policy("deep JSON", b'{"a": ' + b"[" * 100_000, *_MALFORMED),
    _policy("more than 256 KiB", b" " * (256 * 1024 + 1), 413, "too-large"),
    _policy("a tag that is none", _granted(), 400, "malformed-request", b"If-Match: 7"),
    _policy("somebody was faster", _granted(), 412, "stale-document", b'If-Match: "b2:0"'),
    _policy("a tag that is no UTF-8", _granted(), 412, "stale-document", b'If-Match: "b2:\xe9"'),
    _policy("nothing to retry", _granted(), *_INVALID, b"Idempotency-Key: k"),
    Attack("policies", "without the key", call("PUT", f"{ECHO}/policy", b"{}", key=None), 401, "unauthorized"),
    Attack("policies", "read without the key", call("GET", f"{ECHO}/policy", key=None), 401, "unauthorized"),
    Attack("policies", "of a decision capsule", call("PUT", f"{ROUTER}/policy", b'{"schema": 1, "name": "x"}'), *_KIND),
    Attack("policies", "deleted", _at("DELETE", "/policy"), 405, "wrong-method"),
    Attack("policies", "explained for nothing", _at("GET", "/policy/explain"), *_INVALID),
    Attack("policies", "explained twice", _at("GET", "/policy/explain?target=a&target=b"), *_INVALID),
    Attack("policies", "explained by a tunnel", _at("GET", "/policy/explain?target=a&method=CONNECT"), *_INVALID),
    Attack("policies", "explained for no path", _at("GET", "/policy/explain?target=a&method=get"), *_INVALID),
    Attack("policies", "explained otherwise", _at("GET", "/policy/explain?url=a"), 400, "unknown-field"),
    Attack("policies", "secrets over HTTP", call("GET", "/tenants/default/secrets"), 404, "unknown-path"),
    Attack("policies", "secrets of a tool", _at("GET", "/secrets"), 404, "unknown-path"),
)  # fmt: skip


def _id(
    name: str, id_: str | Callable[[Ground], str], kind: str = "unknown-invocation"
) -> tuple[Attack, ...]:
    def get(ground: Ground) -> bytes:
        return _at("GET", f"/invocations/{id_(ground) if callable(id_) else id_}")(ground)

    def replay(ground: Ground) -> bytes:
        return _at("POST", f"/invocations/{id_(ground) if callable(id_) else id_}/replay")(ground)

    return (
        Attack("invocations", name, get, 404, kind),
        Attack("invocations", f"{name}, replayed", replay, 404, kind),
    )


_IDS: Final = (
    *_id("nobody's", f"inv_{0:032}"),
    *_id("a prefix alone", "inv_"),
    *_id("of a decision", lambda ground: ground.decision),
    *_id("of another tool", lambda ground: ground.invocation),
    *_id("in capitals", lambda ground: ground.invocation.upper()),
    *_id("with a NUL", "inv_%00"),
    *_id("with a slash", f"..%2f{0:032}"),
    *_id("not UTF-8", "inv_%ff%fe"),
    *_id("the folder above", "%2e%2e"),
    *_id("of 4 kB", "inv_" + "0" * 4000),
    *_id("nothing at all", "", "unknown-path"),
    Attack("invocations", "a page of none", _at("GET", "/invocations?limit=0"), *_INVALID),
    Attack("invocations", "a page of all", _at("GET", "/invocations?limit=1001"), *_INVALID),
    Attack("invocations", "a page before the first", _at("GET", "/invocations?after=-1"), *_INVALID),
    Attack("invocations", "replayed with a GET", _at("GET", f"/invocations/inv_{0:032}/replay"), 405, "wrong-method"),
)  # fmt: skip


def _defined(guest: guests.Guest, document: str) -> bytes:
    return _native.embed_tool_definition(guest.bytes, document)


def _definition(**said: Any) -> str:
    return json.dumps({"schema": 1, "kind": "tool", "name": "echo", "effect": "pure"} | said)


_ECHO: Final = guests.tool(guests.ECHO)
_DECIDES: Final = guests.decision()
_SETS: Final = guests.script(guests.call("kv.set", "k", "v"))


def _install(name: str, component: bytes, status: int, kind: str, path: str = ECHO) -> Attack:
    return Attack("tools", name, call("POST", f"{path}/install", component), status, kind)


_INSTALLS: Final = (
    _install("over a decision capsule", tools.echo("router"), 409, "install-conflict", ROUTER),
    _install("under another name", tools.echo("other"), *_INVALID),
    _install("without a definition", _ECHO.bytes, 400, "invalid-capsule"),
    _install("a claim that is not true", _defined(_SETS, _definition()), 400, "invalid-capsule"),
    _install("a want that is not said", _defined(_SETS, _definition(effect="idempotent")), 400, "invalid-capsule"),
    _install("a want that cannot be", _defined(_ECHO, _definition(wants={"kv": {"access": "all"}})), *_POLICY),
    _install("an unknown effect", _defined(_ECHO, _definition(effect="none")), 400, "invalid-capsule"),
    _install("an unknown key", _defined(_ECHO, _definition(grants={})), 400, "invalid-capsule"),
    _install("another kind", _defined(_ECHO, _definition(kind="decision")), 400, "invalid-capsule"),
    _install("a name that is none", _defined(_ECHO, _definition(name="../echo")), 400, "invalid-capsule"),
    _install("a summary of 2,000 characters", _defined(_ECHO, _definition(summary="x" * 2000)), 400, "invalid-capsule"),
    _install("half of a surrogate pair in words", _defined(_ECHO, _definition(summary="XXXXXX")).replace(b"XXXXXX", rb"\ud800"), 400, "invalid-capsule"),
    _install("the definition of a tool on another world", _defined(_DECIDES, _definition()), 400, "invalid-capsule"),
    _install("cut off", tools.echo("echo")[:-30], 400, "invalid-capsule"),
)  # fmt: skip

ATTACKS: Final = (*_CALLS, *_POLICIES, *_IDS, *_INSTALLS)
