"""What reads bytes from outside in Python, or can only be asked from Python."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import cbor2
from tests.fuzz.mutations import Target

import capsa.policies
from capsa import _native
from capsa.errors import InvalidPolicy
from capsa.policies import Policy, diff, effective, explain, load_policy, load_wants

_ECHO: Final = b"""(module (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "invoke") (param i32 i32) (result i32)
        (i32.store (i32.const 64) (i32.const 0)) (i32.store (i32.const 68) (local.get 0))
        (i32.store (i32.const 72) (local.get 1)) (i32.const 64)))"""
_PUBLIC: Final = (
    "https://api.example.com/",
    "https://example.org:8080/",
    "http://93.184.216.34/",
)
_INSIDE: Final = (
    "http://127.0.0.1/",
    "http://10.0.0.5:8080/",
    "https://[fd00::1]/",
    "https://[::ffff:10.0.0.5]:8080/",
)


@functools.cache
def _tool() -> _native.tools.ToolComponent:
    return _native.Host().load_tool(_native.wrap_module(_ECHO, "tool"))


def policy(data: bytes) -> None:
    """A document is refused with words, or says the same in every form and is what native code takes."""
    try:
        loaded = load_policy(data)
    except InvalidPolicy as refusal:
        told = str(refusal)
    else:
        _check_accepted(loaded)
        return
    assert len(told) < 4096


def _check_accepted(loaded: Policy) -> None:
    plain = loaded.to_json()
    again = load_policy(json.dumps(plain).encode())
    assert again == loaded
    assert again.digest == loaded.digest
    assert load_policy(plain) == loaded
    assert diff(loaded, again).is_empty
    _check_effective(loaded, plain)


def _check_effective(loaded: Policy, plain: Mapping[str, Any]) -> None:
    """Wanting all that is allowed gives what is allowed; native code takes it, and sees the same in it."""
    wanted = dict(plain["grants"])
    wanted["config"] = list(wanted.get("config", {}))
    limits = {name: limit for name, limit in plain["limits"].items() if limit is not None}
    wants = load_wants({"wants": wanted, "limits": limits})
    whole = effective(wants, loaded, "non_idempotent")
    assert whole.limits == loaded.limits
    assert whole.config == loaded.grants.config
    native = json.dumps(whole.to_json())
    _tool().bind(native, kv=None, change=None)
    private = {pair for rule in loaded.grants.http for pair in rule.private}
    for url in _PUBLIC + _INSIDE:
        said = _native.explain_url(native, "GET", url)
        assert explain(whole, url).allowed == said["allowed"], url
        if said["allowed"] and url in _INSIDE:
            # The loader has brought them to this form, whatever they were written as.
            assert f"{said['host']}:{said['port']}" in private, url
        nothing = json.dumps(effective(load_wants({}), loaded, "pure").to_json())
        assert not _native.explain_url(nothing, "GET", url)["allowed"]


def body(data: bytes) -> None:
    """What is read of a body is what others read, and JSON that others read is read."""
    try:
        read = _native.read_json(data)
    except ValueError:
        assert not _is_plain_json(data)
    else:
        assert json.dumps(read) == json.dumps(json.loads(data.decode()))
    try:
        read = _native.read_cbor(data)
    except ValueError:
        return
    try:
        theirs = cbor2.loads(data)
    except cbor2.CBORDecodeError as error:
        # ciborium lets the pieces of a text be in pieces themselves, which RFC 8949 does not.
        if "indefinite length not allowed here" in str(error):
            return
        raise
    # Of CBOR's two words for nothing JSON has one.
    assert json.dumps(read, allow_nan=False) == json.dumps(theirs, default=_null)


def _null(value: object) -> None:
    assert value is cbor2.undefined


def _is_plain_json(data: bytes) -> bool:
    """Whether it is JSON by RFC 8259, each key once, every number finite, at most 32 deep."""

    def refuse(_text: str) -> NoReturn:
        raise ValueError

    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError
        return dict(pairs)

    try:
        value = json.loads(data.decode(), parse_constant=refuse, object_pairs_hook=each_once)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return _depth(value) <= 32


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


_WORDS_OF_POLICIES: Final = """
schema = 1|name = "a"|engine = "deterministic"|description = ""|[grants]|[limits]|[[grants.http]]|[[grants.secrets]]
clock = true|random = false|config = {a = "b"}|kv = { access = "read_write" }|files = { access = "read", max_files = 1 }
hosts = ["*"]|"*.example.com"|"93.184.216.0/24"|"2606:4700::/32"|"::1"|"0x7f.1"|"localhost"|"EXAMPLE.com."|"bücher.example"
schemes = ["http"]|"https"|ports = [0]|65536|8080|methods = ["POST"]|"*"|private = ["10.0.0.5:8080"]|"[fd00::1]:443"
cpu_ms = 1|wall_ms = 600_000|fuel = 1000000|memory_bytes = 65536|concurrency = 0|log_lines = 10001|output_bytes = 1e3
-1|0|1|0x10|1_0|inf|nan|1979-05-27|\"\"\"|'''|{|}|[|]|=|.|,|#|"|\\u0000|\\ud800|9223372036854775808
"maxBytes"|"maxKeys": 1|"access": "readWrite"|:|null|true|{"schema": 1, "name": "a"}
"""
_WORDS_OF_BODIES: Final = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b'"a":',
        b"null",
        b"true",
        b"1",
        b"-",
        b"1e400",
        b"-0.0",
        b"1E5",
    ),
    *(b"\\u0000", b"\\ud800", b'\\"', b"\\ud83d\\ude00"),
    *(
        b"\xff",
        b"\x9f",
        b"\xbf",
        b"\x5f",
        b"\x7f",
        b"\xf9\x7e\x00",
        b"\xfb",
        b"\x1b",
        b"\xc2\x41\x01",
        b"\xd9\xd9\xf7",
    ),
    *(
        b"\xa1\x61a",
        b"\x81" * 33,
        b"[" * 33,
        b"\xf6",
        b"\xf7",
        b"\xf8\x18",
        b"\x3b" + b"\xff" * 8,
        b"9" * 400,
    ),
)

TARGETS: Final = {
    target.name: target
    for target in (
        Target(
            "policy",
            policy,
            [
                word.encode() + b"\n" * end
                for word in _WORDS_OF_POLICIES.replace("\n", "|").split("|")
                for end in (0, 1)
            ],
            Path(capsa.policies.__file__).parent,
        ),
        Target("body", body, _WORDS_OF_BODIES),
    )
}
