"""Cases of components that should not even load, and of policies that should not even be read."""

from __future__ import annotations

import gzip
from typing import Any, Final

from tests.sandbox.case import Case, Grants
from tests.sandbox.guests import Guest, call, component, decision, script, tool

from capsa.errors import InvalidCapsule, InvalidPolicy

_CLOCK: Final = "capsa:capsule/clock@0.1.0"
_HEADER: Final = b"\0asm\x0d\0\1\0"
_GOOD: Final = tool().bytes
_FAILURE: Final = (
    '(type $record (record (field "code" string) (field "message" string) (field "retryable" bool)))'
)
_MODULE: Final = """(core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "invoke") (param i32 i32) (result i32) (i32.const 64)))
    (core instance $i (instantiate $m))"""
_OPTIONS: Final = '(memory (core memory $i "memory")) (realloc (core func $i "realloc"))'


def _with(parts: str, *, invoke: str | None = None, exports: str = "") -> Guest:
    """A tool in the text of components, with further parts; `invoke` is the type of that function."""
    taken = invoke or '(param "input" string) (result (result string (error $failure)))'
    return component(
        f"""(component {parts} {_FAILURE} (export $failure "failure" (type $record)) {_MODULE}
        (func $invoke {taken} (canon lift (core func $i "invoke") {_OPTIONS}))
        (export "invoke" (func $invoke)) {exports})"""
    )


def _imports(name: str, what: str) -> Guest:
    return _with(f'(import "{name}" {what})')


def _refused(
    category: str, name: str, guest: Guest | bytes, says: str = "", world: str = "tool", **rest: Any
) -> Case:
    made = guest if isinstance(guest, Guest) else Guest(world, guest)
    return Case(category=category, name=name, guest=made, ends=InvalidCapsule, says=says, **rest)


_TEXT_FUNC: Final = '(instance (export "{}" (func (result string))))'

IMPORTS: Final = [
    _refused("import", name, _imports(of, what), says)
    for name, of, what, says in [
        ("the environment of WASI", "wasi:cli/environment@0.2.0", '(instance (export "get-environment" (func (result (list (tuple string string))))))', "get-environment"),
        ("the folders of WASI", "wasi:filesystem/preopens@0.2.0", '(instance (export "get-directories" (func (result (list u32)))))', "get-directories"),
        ("the exit of WASI", "wasi:cli/exit@0.2.0", '(instance (export "exit" (func (param "status" u32))))', "wasi:cli/exit"),
        ("the requests of WASI", "wasi:http/outgoing-handler@0.2.0", '(instance (export "handle" (func (param "request" u32))))', "outgoing-handler"),
        ("a resource of WASI", "wasi:sockets/network@0.2.0", '(instance (export "network" (type (sub resource))))', "network"),
        ("a function of nowhere", "steal", "(func (result string))", "steal"),
        ("a core module", "code", "(core module)", "core module"),
        ("a component", "code", "(component)", "component"),
        ("a later version of an interface", "capsa:capsule/clock@0.2.0", '(instance (export "now" (func (result u64))))', "clock@0.2.0"),
        ("an interface without its version", "capsa:capsule/clock", '(instance (export "now" (func (result u64))))', "clock"),
        ("a further function of an interface", _CLOCK, '(instance (export "now" (func (result u64))) (export "set" (func (param "to" u64))))', "do not fit"),
        ("a function of an interface with another type", _CLOCK, '(instance (export "now" (func (result string))))', "do not fit"),
        ("a function of an interface with more parameters", _CLOCK, '(instance (export "now" (func (param "of" string) (result u64))))', "do not fit"),
        ("a resource in an interface", _CLOCK, '(instance (export "hand" (type (sub resource))))', "do not fit"),
        ("an interface that is a function", _CLOCK, "(func (result u64))", "clock"),
        ("log with another type", "log", "(func (param \"message\" string))", "do not fit"),
        ("log as an instance", "log", _TEXT_FUNC.format("log"), "log"),
    ]
] + [
    _refused("import", "a tool's interface in a decision capsule", Guest("decision", script(call("clock.now")).bytes), "decision"),
]  # fmt: skip

EXPORTS: Final = [
    _refused("export", "of nothing", component("(component)"), "invoke"),
    _refused("export", "of a number", component(
        f'(component {_MODULE.replace("(param i32 i32) (result i32)", "(param i32) (result i32)")} (func $invoke (param "input" u32) (result u32) (canon lift (core func $i "invoke"))) (export "invoke" (func $invoke)))'), "wrong type"),
    _refused("export", "of text alone", _with("", invoke='(param "input" string) (result string)'), "wrong type"),
    _refused("export", "of an instance", component('(component (instance $i) (export "invoke" (instance $i)))'), "not a function"),
    _refused("export", "of compensate with another type", _with("", exports='(export "compensate" (func $invoke))'), "compensate"),
    _refused("export", "of a decision capsule as a tool", Guest("tool", decision().bytes), "invoke"),
    _refused("export", "of a tool as a decision capsule", Guest("decision", _GOOD), "frame"),
    _refused("export", "of a failure with further fields", component(
        f"""(component (type $record (record (field "code" string) (field "message" string) (field "retryable" bool) (field "more" u8)))
        (export $failure "failure" (type $record)) {_MODULE}
        (func $invoke (param "input" string) (result (result string (error $failure))) (canon lift (core func $i "invoke") {_OPTIONS}))
        (export "invoke" (func $invoke)))"""), "wrong type"),
]  # fmt: skip


def _leb(value: int) -> bytes:
    encoded = bytearray()
    while True:
        encoded.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(encoded)


def nested(depth: int) -> bytes:
    """Components, one inside the other."""
    heads: list[bytes] = []
    size = len(_HEADER)
    for _ in range(depth):
        head = _HEADER + b"\4" + _leb(size)
        heads.append(head)
        size += len(head)
    return b"".join(reversed(heads)) + _HEADER


_CORE: Final = b"\0asm\1\0\0\0"

BYTES: Final = [
    _refused("bytes", name, content, says, world)
    for world in ("tool", "decision")
    for name, content, says in [
        (f"nothing, as a {world}", b"", "not WebAssembly"),
        (f"text, as a {world}", b"name: router\noptions: [a, b]\n", "not WebAssembly"),
        (f"WebAssembly text, as a {world}", b"(component)", "not WebAssembly"),
        (f"a program of the machine, as a {world}", b"\x7fELF" + bytes(100), "not WebAssembly"),
        (f"a compressed component, as a {world}", gzip.compress(_GOOD), "not WebAssembly"),
        (f"the magic alone, as a {world}", b"\0asm", "known version"),
        (f"the header alone, as a {world}", _HEADER, "does not export"),
        (f"a core module, as a {world}", _CORE, "core WebAssembly module"),
        (f"another version, as a {world}", b"\0asm\x0e\0\1\0", "known version"),
        (f"half a component, as a {world}", _GOOD[: len(_GOOD) // 2], "invalid"),
        (f"all but its last byte, as a {world}", _GOOD[:-1], ""),
        (f"two components in one file, as a {world}", _GOOD + _GOOD, ""),
        (f"something behind its end, as a {world}", _GOOD + b"\xff", ""),
        (f"a file of 64 MiB and one byte, as a {world}", _HEADER + bytes((64 << 20) - 7), "at most"),
        (f"a section that is longer than the file, as a {world}", _HEADER + b"\1\xff\xff\xff\xff\x0f", "invalid"),
        (f"a section of a length of six bytes, as a {world}", _HEADER + b"\1\xff\xff\xff\xff\xff\x0f", "invalid"),
    ]
]  # fmt: skip

_TUPLES: Final = '(component (type $t0 (tuple u8 u8))' + "".join(
    f"(type $t{n} (tuple $t{n - 1} $t{n - 1}))" for n in range(1, 64)
) + ")"  # fmt: skip


def _lists(depth: int) -> str:
    return (
        "(component (type $t0 (list u8))"
        + "".join(f"(type $t{n} (list $t{n - 1}))" for n in range(1, depth))
        + ")"
    )


def _levels(count: int) -> str:
    """Components that instantiate the one inside ten times, and so on."""
    inner = "(component $c0)"
    for level in range(1, count + 1):
        inner = f"(component $c{level} {inner} {f'(instance (instantiate $c{level - 1}))' * 10})"
    return f"(component {inner} (instance (instantiate $c{count})))"


#: Who is handed a component may make instances of it whose number nobody knows before.
_HANDED: Final = """(component (component $c (import "x" (component $x)) (instance (instantiate $x)))
    (component $d) (instance (instantiate $c (with "x" (component $d)))))"""


BOMBS: Final = [
    _refused("bomb", "nested 50,000 deep", nested(50_000), "nest"),
    _refused("bomb", "types that double 64 times", component(_TUPLES), "invalid"),
    _refused("bomb", "a list of lists 2,000 deep", component(_lists(2_000)), "invalid"),
    _refused("bomb", "a tuple of 5,000 parts", component("(component (type (tuple" + " u8" * 5_000 + ")))")),
    _refused("bomb", "60,000 locals", component("(component (core module (func (local" + " i64" * 60_000 + "))))"), "invalid"),
    _refused("bomb", "a function of 2,000 parameters", component("(component (core module (func (param" + " i64" * 2_000 + "))))"), "invalid"),
    _refused("bomb", "a name of 200,000 bytes", component(f'(component (import "{"a" * 200_000}" (func)))'), "invalid"),
    _refused("bomb", "200 memories", component("(component (core module" + "(memory 1)" * 200 + "))"), "invalid"),
    _refused("bomb", "200 tables", component("(component (core module" + "(table 1 funcref)" * 200 + "))"), "invalid"),
    _refused("bomb", "2,000 instances of one module", component(
        "(component (core module $m (memory 1))" + "(core instance (instantiate $m))" * 2_000 + ")"), ""),
    _refused("bomb", "a billion instances of instances", component(_levels(9)), "1000 instances"),
    _refused("bomb", "instances of what it is handed", component(_HANDED), "1000 instances"),
    Case(category="bomb", name="2,000 functions are only many", guest=tool(more="(func)" * 2_000), answer=1),
    Case(category="bomb", name="blocks 20,000 deep are only deep", guest=tool(more="(func " + "(block " * 20_000 + ")" * 20_000 + ")"), answer=1),
    *[_refused("bomb", f"uses {name}", component(f"(component (core module {text}))"), "invalid")
      for name, text in {
          "threads": "(memory 1 1 shared) (func (drop (i32.atomic.load (i32.const 0))))",
          "64-bit memories": "(memory i64 1)",
          "relaxed vectors": "(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
          "garbage collection": "(type (struct (field i32)))",
          "exceptions": "(tag)",
      }.items()],
]  # fmt: skip

#: Of a policy everything that is not known, or out of its range, is refused.
_BAD_POLICIES: Final[list[tuple[str, Grants, dict[str, int], str]]] = [
    ("an unknown grant", {"network": True}, {}, "network"),
    ("a misspelt limit", {}, {"cpu_milliseconds": 1}, "cpu_milliseconds"),
    ("a grant of all that there is", {"*": True}, {}, "*"),
    ("no processor time", {}, {"cpu_ms": 0}, "cpu_ms"),
    ("endless processor time", {}, {"cpu_ms": 60_001}, "cpu_ms"),
    ("a negative limit", {}, {"host_calls": -1}, "host_calls"),
    ("more memory than there are addresses", {}, {"memory_bytes": (4 << 30) + 1}, "memory_bytes"),
    ("fuel that nobody counts", {}, {"fuel": 1}, "fuel"),
    ("files outside", {"files": {"access": "read", "path": "/etc"}}, {}, "path"),
    ("an access that there is not", {"kv": {"access": "admin"}}, {}, "access"),
    ("every method", {"http": [{"hosts": ["*"], "methods": ["*"]}]}, {}, "methods"),
    ("a method that opens tunnels", {"http": [{"hosts": ["*"], "methods": ["CONNECT"]}]}, {}, "methods"),
    ("another scheme", {"http": [{"hosts": ["*"], "schemes": ["file"]}]}, {}, "schemes"),
    ("a secret for every host", {"secrets": [{"name": "key", "hosts": ["*"]}]}, {}, "hosts"),
    ("a private range", {"http": [{"private": ["10.0.0.0/8:80"]}]}, {}, "private"),
    ("a private destination without a port", {"http": [{"private": ["10.0.0.1"]}]}, {}, "private"),
    ("every private destination", {"http": [{"private": ["*:80"]}]}, {}, "private"),
    ("hosts of a whole top-level domain", {"http": [{"hosts": ["*.com"]}]}, {}, "hosts"),
    ("a host with a path", {"http": [{"hosts": ["api.example.com/v1"]}]}, {}, "hosts"),
    ("a host with a user", {"http": [{"hosts": ["api.example.com@evil.test"]}]}, {}, "hosts"),
]  # fmt: skip

POLICIES: Final = [
    Case(category="policy", name=name, guest=tool(), grants=grants, wants={}, limits=limits, ends=InvalidPolicy, says=says)
    for name, grants, limits, says in _BAD_POLICIES
]  # fmt: skip

LOADING: Final = [*IMPORTS, *EXPORTS, *BYTES, *BOMBS, *POLICIES]
