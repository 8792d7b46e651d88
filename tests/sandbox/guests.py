"""Guests for hostile cases: core modules in WAT, made into components of the worlds tool, compensable-tool and decision.

There are two ways to write one. `tool` and `decision` take bodies in WAT: for what a module does to its host. `script` takes
calls of host functions: for what a module asks its host for; it answers a JSON list with what became of each.

Addresses in every guest: 64 the result, 128 what host functions write, 512 a kept text (`KEPT`), from 1024 the data
of a script, 65,536 its answer, from 131,072 what `cabi_realloc` hands out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import wasmtime

from capsa import _native

#: Bodies that do harm; all but those that return leave nothing on the stack.
SPIN: Final = "(loop $on (br $on)) unreachable"
DIVE: Final = "(drop (call $dive (i64.const 1))) unreachable"
GROW: Final = "(loop $on (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable"
#: What `DIVE` calls.
DIVER: Final = "(func $dive (param i64) (result i64) (i64.add (call $dive (local.get 0)) (local.get 0)))"
#: Answers the input.
ECHO: Final = "(call $ok (local.get 0) (local.get 1))"
ALLOC: Final = "(call $alloc (local.get 2) (local.get 3))"
MEMORY: Final = '(memory (export "memory") 4)'
#: A text of 45 bytes that stands for what a step has kept; anywhere in an argument of a later one.
KEPT: Final = "<what an earlier step has kept, as 45 bytes!>"

#: Of each host function: what it takes and gives as core WebAssembly, and how its answer is told.
_FUNCTIONS: Final[dict[str, tuple[str, str]]] = {
    "clock.now": ("(result i64)", "number"),
    "clock.elapsed": ("(result i64)", "number"),
    "random.bytes": ("(param i32 i32)", "list"),
    "random.number": ("(result i64)", "number"),
    "config.get": ("(param i32 i32 i32)", "option"),
    "kv.get": ("(param i32 i32 i32)", "maybe"),
    "kv.set": ("(param i32 i32 i32 i32 i32)", "done"),
    "kv.remove": ("(param i32 i32 i32)", "flag"),
    "kv.swap": ("(param i32 i32 i32 i32 i32 i32 i32 i32 i32)", "flag"),
    "kv.keys": ("(param i32 i32 i32 i32 i32 i32 i32)", "texts"),
    "http.send": ("(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)", "body"),
    "files.read": ("(param i32 i32 i32)", "text"),
    "files.write": ("(param i32 i32 i32 i32 i32)", "done"),
    "files.remove": ("(param i32 i32 i32)", "done"),
    "files.entries": ("(param i32 i32 i32)", "entries"),
    "secrets.handle": ("(param i32 i32 i32)", "text"),
}
_RETURNS: Final = 128
_KINDS: Final = ("denied", "invalid", "not-found", "too-large", "timed-out", "failed")


@dataclass(frozen=True)
class Guest:
    """A component.

    Attributes:
        world: Which world it follows, or claims to.
        bytes: The component.
    """

    world: str
    bytes: bytes


@dataclass(frozen=True)
class Span:
    """A text or a list of bytes as the guest says where it is, whatever is there."""

    at: int
    size: int


Text: TypeAlias = str | bytes | Span


def _quoted(content: bytes) -> str:
    return '"' + "".join(f"\\{byte:02x}" for byte in content) + '"'


def data(at: int, content: str | bytes) -> str:
    """A data segment."""
    return f"(data (i32.const {at}) {_quoted(content.encode() if isinstance(content, str) else content)})"


def imported(*names: str) -> str:
    """Imports of host functions, by names such as ``kv.get``; and ``log``."""
    lines = ['(import "$root" "log" (func $log (param i32 i32 i32)))'] if "log" in names else []
    for name in names:
        if name != "log":
            interface, function = name.split(".")
            takes, _ = _FUNCTIONS[name]
            lines.append(f'(import "capsa:capsule/{interface}@0.1.0" "{function}" (func ${name} {takes}))')
    return "\n".join(lines)


_ALLOCATOR: Final = """
    (global $heap (mut i32) (i32.const 131072))
    (func $alloc (param $align i32) (param $size i32) (result i32) (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
            (i32.sub (i32.const 0) (local.get $align))))
        (global.set $heap (i32.add (local.get $at) (local.get $size)))
        (block $fits
            (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
            (br_if $fits (i32.ne (i32.const -1) (memory.grow
                (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
            unreachable)
        (local.get $at))
    (func $ok (param $at i32) (param $bytes i32) (result i32)
        (i32.store8 (i32.const 64) (i32.const 0))
        (i32.store (i32.const 68) (local.get $at))
        (i32.store (i32.const 72) (local.get $bytes))
        (i32.const 64))
"""


def module(
    exports: dict[str, tuple[str, str]], *, imports: Sequence[str] = (), more: str = "", memory: str = MEMORY,
    realloc: str = ALLOC,
) -> str:  # fmt: skip
    """A core module.

    Args:
        exports: By name, what a function takes and gives, and its body.
        imports: See `imported`.
        more: Further parts of the module.
        memory: How it declares its memory.
        realloc: The body of `cabi_realloc`.
    """
    functions = "\n".join(
        f'(func (export "{name}") {takes} {body})' for name, (takes, body) in exports.items()
    )
    return f"""(module {imported(*imports)} {memory} {_ALLOCATOR} {more}
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
        {functions})"""


def tool(
    invoke: str = ECHO, *, imports: Sequence[str] = (), more: str = "", memory: str = MEMORY, realloc: str = ALLOC,
    post: str | None = None, compensate: str | None = None, post_compensate: str | None = None,
) -> Guest:  # fmt: skip
    """A tool.

    Args:
        invoke: Leaves the address of the result; the input is parameters 0 (address) and 1 (bytes), and `$ok` answers a text.
        imports: See `imported`.
        more: Further parts of the module.
        memory: How it declares its memory.
        realloc: The body of `cabi_realloc`.
        post: What runs after the answer of `invoke` was taken.
        compensate: If given, the tool is a compensable one.
        post_compensate: Likewise after `compensate`.
    """
    exports = {"invoke": ("(param i32 i32) (result i32)", invoke)}
    if post is not None:
        exports["cabi_post_invoke"] = ("(param i32)", post)
    if compensate is not None:
        exports["compensate"] = ("(param i32 i32 i32 i32) (result i32)", compensate)
    if post_compensate is not None:
        exports["cabi_post_compensate"] = ("(param i32)", post_compensate)
    world = "tool" if compensate is None else "compensable-tool"
    text = module(exports, imports=imports, more=more, memory=memory, realloc=realloc)
    return Guest(world, _native.wrap_module(text.encode(), world))


#: Answers one choice of strategy `choice` in key `k`, and the reward 0.5.
GOOD_FRAME: Final = "i32.const 64"
GOOD_REWARD: Final = "i32.const 192"


def decision(
    frame: str = GOOD_FRAME, reward: str = GOOD_REWARD, *, imports: Sequence[str] = (), more: str = "",
    memory: str = MEMORY, realloc: str = ALLOC, post_frame: str | None = None, post_reward: str | None = None,
) -> Guest:  # fmt: skip
    """A decision capsule without a definition; arguments as those of `tool`.

    Its answer of `frame` is at 64: a list of one choice, which is at 320. A choice has 48 bytes: strategy, key, features (a
    pointer and a length each), allowed (at 24: tag, pointer, length), candidates (at 36).
    """
    exports = {
        "frame": ("(param i32 i32) (result i32)", frame),
        "reward": ("(param i32 i32 i32 i32) (result i32)", reward),
    }
    if post_frame is not None:
        exports["cabi_post_frame"] = ("(param i32)", post_frame)
    if post_reward is not None:
        exports["cabi_post_reward"] = ("(param i32)", post_reward)
    words = [
        data(16, "choicek"),
        data(64, _words(0, 320, 1)),
        data(320, _words(16, 6, 22, 1, 0, 0, 0, 0, 0, 0, 0, 0)),
        data(192, _words(0, 0, 0, 0x3FE00000)),
    ]
    text = module(exports, imports=imports, more=more + "".join(words), memory=memory, realloc=realloc)
    return Guest("decision", _native.wrap_module(text.encode(), "decision"))


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def component(text: str, world: str = "tool") -> Guest:
    """A component from its own text."""
    return Guest(world, bytes(wasmtime.wat2wasm(text)))


def stores(at: int, *words: int) -> str:
    """Code that stores words, one behind the other."""
    return "".join(
        f"(i32.store (i32.const {at + 4 * number}) (i32.const {word}))" for number, word in enumerate(words)
    )


def fails(code: Text, message: Text = "it failed", retryable: int = 0) -> Guest:
    """A tool that answers with a failure of its own."""
    kept = _Data()
    code_at, message_at = kept.place(code), kept.place(message)
    body = stores(64, 1, code_at.at, code_at.size, message_at.at, message_at.size, retryable) + "i32.const 64"
    return tool(body, more="".join(kept.segments), memory='(memory (export "memory") 48)')


# -- scripts ---------------------------------------------------------------------------------------------------------


class _Data:
    """Where the texts of a guest stand."""

    def __init__(self) -> None:
        self.segments: list[str] = []
        #: Code that puts what was kept into the texts placed last.
        self.fill: list[str] = []
        self._next = 1024

    def place(self, text: Text) -> Span:
        if isinstance(text, Span):
            return text
        content = text.encode() if isinstance(text, str) else text
        at, self._next = self._next, (self._next + len(content) + 7) & ~7
        assert self._next <= 65_536, "use a Span"
        self.segments.append(data(at, content))
        kept = content.find(KEPT.encode())
        if kept >= 0:
            self.fill.append(f"(memory.copy (i32.const {at + kept}) (i32.const 512) (i32.const {len(KEPT)}))")
        return Span(at, len(content))

    def words(self, *words: int) -> int:
        at, self._next = self._next, self._next + 4 * len(words)
        self.segments.append(data(at, _words(*words)))
        return at


@dataclass(frozen=True)
class Step:
    """One call of a host function.

    Attributes:
        function: Its name, such as ``kv.get``.
        lower: Gives the arguments as core WebAssembly takes them.
        told: How the answer is told, where it is not in the usual way.
        times: How often it is called; only the last answer is told. 0 = for ever.
        keep: Whether the text that it answers, 45 bytes, is kept for later steps.
    """

    function: str
    lower: Callable[[_Data], list[int]]
    told: str | None = None
    times: int = 1
    keep: bool = False


def _texts(*texts: Text) -> Callable[[_Data], list[int]]:
    def lower(kept: _Data) -> list[int]:
        spans = [kept.place(text) for text in texts]
        return [number for span in spans for number in (span.at, span.size)]

    return lower


def _maybe(kept: _Data, text: Text | None) -> list[int]:
    if text is None:
        return [0, 0, 0]
    span = kept.place(text)
    return [1, span.at, span.size]


def call(
    function: str, *texts: Text | int, told: str | None = None, times: int = 1, keep: bool = False
) -> Step:
    """A call of a function that takes texts, bytes and numbers."""

    def lower(kept: _Data) -> list[int]:
        lowered: list[int] = []
        for text in texts:
            if isinstance(text, int):
                lowered.append(text)
            else:
                span = kept.place(text)
                lowered += [span.at, span.size]
        return lowered

    return Step(function, lower, told, times, keep)


def swap(key: Text, expected: Text | None, value: Text | None) -> Step:
    """``kv.swap``."""
    return Step("kv.swap", lambda kept: [*_texts(key)(kept), *_maybe(kept, expected), *_maybe(kept, value)])


def keys(prefix: Text = "", after: Text | None = None, limit: int = 1000, times: int = 1) -> Step:
    """``kv.keys``."""
    return Step("kv.keys", lambda kept: [*_texts(prefix)(kept), *_maybe(kept, after), limit], None, times)


def send(
    url: Text, *, method: Text = "GET", headers: Sequence[tuple[Text, Text]] | Span = (), body: Text = b"",
    timeout_ms: int | None = None, told: str | None = None, times: int = 1,
) -> Step:  # fmt: skip
    """``http.send``; told is the body, which has to be JSON, or the ``status`` or the ``headers``."""

    def lower(kept: _Data) -> list[int]:
        target = _texts(method, url)(kept)
        if isinstance(headers, Span):
            lines = [headers.at, headers.size]
        else:
            words = [number for name, value in headers for number in _texts(name, value)(kept)]
            lines = [kept.words(*words), len(headers)]
        timeout = [0, 0] if timeout_ms is None else [1, timeout_ms]
        return [*target, *lines, *_texts(body)(kept), *timeout]

    return Step("http.send", lower, told, times)


def script(*steps: Step, pages: int = 4, then: str = "", imports: Sequence[str] = (), more: str = "",
           realloc: str = ALLOC) -> Guest:  # fmt: skip
    """A tool that takes steps and answers a JSON list with what became of each.

    An error of the host is told by its kind, and its sentence logged. What is answered as text is told as it is: what a
    test lets a script read must not need escaping.

    Args:
        steps: What is called.
        pages: Of memory, at least 4.
        then: Code that runs before the answer.
        imports: Further imports, for `then`.
        more: Further parts of the module.
        realloc: The body of `cabi_realloc`.
    """
    kept = _Data()
    code = ["(call $put (i32.const 1) (i32.const 1))"]
    for number, step in enumerate(steps):
        if number:
            code.append("(call $put (i32.const 2) (i32.const 1))")
        code.append(_taken(number, step, kept))
    code += [then, "(call $put (i32.const 3) (i32.const 1))"]
    code.append("(call $ok (i32.const 65536) (i32.sub (global.get $out) (i32.const 65536)))")
    for number, kind in enumerate(_KINDS):
        text = f'"{kind}"'.encode()
        kept.segments.append(data(256 + 16 * number, bytes([len(text)]) + text))
    kept.segments.append(data(1, b'[,]""okfalsetruenull'))
    names = sorted({"log", *imports, *(step.function for step in steps)})
    return tool(
        "(local $time i32) (local $number i64)" + "\n".join(code),
        imports=names,
        more=_TELLING + "".join(kept.segments) + more,
        memory=f'(memory (export "memory") {pages})',
        realloc=realloc,
    )


def _taken(number: int, step: Step, kept: _Data) -> str:
    takes, told = _FUNCTIONS[step.function]
    told = step.told or told
    kept.fill.clear()
    lowered = step.lower(kept)
    direct = "result" in takes
    arguments = " ".join(f"(i32.const {word})" for word in [*lowered, *([] if direct else [_RETURNS])])
    called = f"(call ${step.function} {arguments})"
    if direct:
        called = f"(local.set $number {called})"
    if step.keep:
        called += f"(memory.copy (i32.const 512) (i32.load (i32.const {_RETURNS + _TEXT_AT[told]})) (i32.const {len(KEPT)}))"
    if step.times != 1:
        again = (
            "(br $again)"
            if step.times == 0
            else f"(br_if $again (i32.lt_u (local.tee $time (i32.add (local.get $time) (i32.const 1))) (i32.const {step.times})))"
        )
        called = f"(local.set $time (i32.const 0)) (global.set $heap (i32.const 131072)) (loop $again (global.set $heap (i32.const 131072)) {called} {again})"
    return f"{''.join(kept.fill)} {called} (block $told{number} {_told(told, f'$told{number}')})"


#: Where the pointer to the text of an answer is.
_TEXT_AT: Final = {"text": 4, "maybe": 8}


def _told(told: str, end: str) -> str:
    at = f"(i32.const {_RETURNS})"
    text = "(call $text (i32.load offset={0} " + at + ") (i32.load offset={1} " + at + "))"
    if told in ("number", "list"):
        return _OK
    if told == "option":
        some = text.format(4, 8)
        return f"(if (i32.load8_u {at}) (then {some}) (else {_NULL}))"
    error = f"(br_if {end} (call $error {at}))"
    told_ok = {
        "done": _OK,
        "flag": f"(if (i32.load8_u offset=4 {at}) (then {_TRUE}) (else {_FALSE}))",
        "maybe": f"(if (i32.load8_u offset=4 {at}) (then {text.format(8, 12)}) (else {_NULL}))",
        "text": text.format(4, 8),
        "texts": f"(call $list (i32.load offset=4 {at}) (i32.load offset=8 {at}) (i32.const 8))",
        "entries": f"(call $list (i32.load offset=4 {at}) (i32.load offset=8 {at}) (i32.const 24))",
        "size": f"(call $decimal (i32.load offset=8 {at}))",
        "body": f"(call $put (i32.load offset=16 {at}) (i32.load offset=20 {at}))",
        "status": f"(call $decimal (i32.load16_u offset=4 {at}))",
        "headers": f"(call $headers (i32.load offset=8 {at}) (i32.load offset=12 {at}))",
    }[told]
    return error + told_ok


# Texts of an answer that never change stand at 1: see `script`.
_OK: Final = "(call $text (i32.const 6) (i32.const 2))"
_FALSE: Final = "(call $put (i32.const 8) (i32.const 5))"
_TRUE: Final = "(call $put (i32.const 13) (i32.const 4))"
_NULL: Final = "(call $put (i32.const 17) (i32.const 4))"

#: Puts together the answer of a script.
_TELLING: Final = """
    (global $out (mut i32) (i32.const 65536))
    (func $put (param $at i32) (param $bytes i32)
        (if (i32.gt_u (i32.add (global.get $out) (local.get $bytes)) (i32.const 131072)) (then unreachable))
        (memory.copy (global.get $out) (local.get $at) (local.get $bytes))
        (global.set $out (i32.add (global.get $out) (local.get $bytes))))
    (func $text (param $at i32) (param $bytes i32)
        (call $put (i32.const 4) (i32.const 1))
        (call $put (local.get $at) (local.get $bytes))
        (call $put (i32.const 4) (i32.const 1)))
    (func $error (param $at i32) (result i32) (local $kind i32)
        (if (i32.eqz (i32.load8_u (local.get $at))) (then (return (i32.const 0))))
        (local.set $kind (i32.add (i32.const 256) (i32.mul (i32.const 16) (i32.load8_u offset=4 (local.get $at)))))
        (call $put (i32.add (local.get $kind) (i32.const 1)) (i32.load8_u (local.get $kind)))
        (call $log (i32.const 2) (i32.load offset=8 (local.get $at)) (i32.load offset=12 (local.get $at)))
        (i32.const 1))
    (func $list (param $at i32) (param $count i32) (param $size i32) (local $first i32)
        (call $put (i32.const 1) (i32.const 1))
        (local.set $first (i32.const 1))
        (block $end (loop $next
            (br_if $end (i32.eqz (local.get $count)))
            (if (i32.eqz (local.get $first)) (then (call $put (i32.const 2) (i32.const 1))))
            (local.set $first (i32.const 0))
            (call $text (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
            (local.set $at (i32.add (local.get $at) (local.get $size)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $next)))
        (call $put (i32.const 3) (i32.const 1)))
    (func $headers (param $at i32) (param $count i32) (local $first i32)
        (call $put (i32.const 1) (i32.const 1))
        (local.set $first (i32.const 1))
        (block $end (loop $next
            (br_if $end (i32.eqz (local.get $count)))
            (if (i32.eqz (local.get $first)) (then (call $put (i32.const 2) (i32.const 1))))
            (local.set $first (i32.const 0))
            (call $text (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
            (call $put (i32.const 2) (i32.const 1))
            (call $text (i32.load offset=8 (local.get $at)) (i32.load offset=12 (local.get $at)))
            (local.set $at (i32.add (local.get $at) (i32.const 16)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $next)))
        (call $put (i32.const 3) (i32.const 1)))
    (func $decimal (param $number i32)
        (if (i32.ge_u (local.get $number) (i32.const 10))
            (then (call $decimal (i32.div_u (local.get $number) (i32.const 10)))))
        (i32.store8 (i32.const 40) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
        (call $put (i32.const 40) (i32.const 1)))
"""
