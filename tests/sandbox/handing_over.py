"""Cases of guests that hand over what the canonical ABI, the world or a limit does not allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.sandbox.arena import Arena
from tests.sandbox.case import CPU_MS, Case, Ended, Grants
from tests.sandbox.guests import ECHO, Guest, Span, call, data, decision, fails, script, send, stores, tool

from capsa.errors import CapsaError, CapsuleBadOutput, CapsuleRefused, CapsuleTrapped

_FAST: Final = {"cpu_ms": CPU_MS}
_KV: Final[Grants] = {"kv": {"access": "read_write"}}
_ANY: Final[Grants] = {"http": [{"hosts": ["*"]}]}
_END: Final = 4 * 65_536
_SURROGATE: Final = b"\xed\xa0\x80"
_OVERLONG: Final = b"\xc0\xaf"
_CUT: Final = b"\xf0\x9f\x98"


def _answers(*words: int, more: str = "") -> Guest:
    """A tool whose answer is these words: tag, and of a text address and bytes; of a failure two texts and a flag."""
    return tool(stores(64, *words) + "i32.const 64", more=more)


def _bad(name: str, guest: Guest, says: str = "", category: str = "abi") -> Case:
    return Case(
        category=category, name=name, guest=guest, limits={"cpu_ms": 100}, ends=CapsuleBadOutput, says=says
    )


ANSWERS: Final = [
    _bad("an answer's address behind the memory", tool("i32.const 262144")),
    _bad("an answer's address that reaches behind the memory", tool("i32.const 262140")),
    _bad("an answer's address of -4", tool("i32.const -4")),
    _bad("an answer's address that is not aligned", tool("i32.const 66")),
    _bad("a tag that there is not", _answers(2, 4096, 4)),
    _bad("a tag of 255", _answers(255, 4096, 4)),
    _bad("a text behind the memory", _answers(0, _END, 1)),
    _bad("a text that reaches behind the memory", _answers(0, _END - 4, 5)),
    _bad("a text whose end wraps", _answers(0, -16, 32)),
    _bad("a text of 4 GiB", _answers(0, 0, -1)),
    _bad("a text with the mark of UTF-16", _answers(0, 0, -(1 << 31))),
    _bad("a text that is half a surrogate pair", _answers(0, 4096, 3, more=data(4096, _SURROGATE))),
    _bad("a text that is overlong UTF-8", _answers(0, 4096, 2, more=data(4096, _OVERLONG))),
    _bad("a text that is cut UTF-8", _answers(0, 4096, 3, more=data(4096, _CUT))),
    _bad("a failure's message behind the memory", fails("code", Span(48 * 65_536 - 1, 2))),
    _bad("a failure's message that is no UTF-8", fails("code", _SURROGATE)),
    _bad("a failure's code that is no UTF-8", fails(_OVERLONG)),
    _bad("a failure of compensate with a tag that there is not",
         tool(compensate=stores(64, 7) + "i32.const 64")),
]  # fmt: skip
ANSWERS[-1] = Case(**{**ANSWERS[-1].__dict__, "output": "1"})

CODES: Final = [
    _bad(f"a failure's code {name}", fails(code), "the code of its failure", category="failure")
    for name, code in {
        "that is empty": "",
        "with capitals": "Not-Found",
        "with blanks": "not found",
        "beyond ASCII": "é",
        "of 65 letters": "a" * 65,
        "with a line break": "a\n",
        "with a NUL": "a\0",
    }.items()
] + [
    Case(category="failure", name="is the tool's own", guest=fails("not-there", "sorry"), ends=CapsuleRefused, says="sorry"),
    Case(
        category="failure",
        name="whose flag is neither 0 nor 1",
        guest=fails("code", "sorry", retryable=77),
        ends=CapsuleRefused,
    ),
    Case(
        category="failure",
        name="with a message that is cut",
        guest=fails("code", Span(65_536, 900_000)),
        ends=CapsuleRefused,
        after=lambda _, ended: _is_cut(ended.error),
    ),
]  # fmt: skip


def _is_cut(error: CapsaError | None) -> None:
    assert error is not None
    assert len(error.detail) <= 4100


_HUGE: Final = Span(0, 1_100_000)
_PAGES: Final = '(memory (export "memory") 48)'
#: A choice that names a text of 64 KiB four times; a list of many such would be gigabytes.
_AMPLIFIED: Final = """(local $n i32)
    (loop $on
        (i32.store (i32.add (i32.const 131072) (local.get $n)) (i32.const 65536))
        (i32.store offset=4 (i32.add (i32.const 131072) (local.get $n)) (i32.const 65536))
        (i32.store offset=8 (i32.add (i32.const 131072) (local.get $n)) (i32.const 65536))
        (i32.store offset=12 (i32.add (i32.const 131072) (local.get $n)) (i32.const 65536))
        (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 48))) (i32.const 480000))))"""

OUTPUTS: Final = [
    _bad("a text of more than a megabyte", tool(stores(64, 0, 0, 1_100_000) + "i32.const 64", memory=_PAGES), "in one piece", "output"),
    _bad("a failure's message of more than a megabyte", fails("code", _HUGE), "in one piece", "output"),
    _bad("a failure's code of more than a megabyte", fails(_HUGE), "in one piece", "output"),
    Case(category="output", name="one byte more than the policy lets", guest=tool(ECHO), input='"' + "x" * 99 + '"', limits={"output_bytes": 100}, ends=CapsuleBadOutput, says="in one piece"),
    Case(category="output", name="as much as the policy lets", guest=tool(ECHO), input='"' + "x" * 98 + '"', limits={"output_bytes": 100}, answer="x" * 98),
    _bad("a refusal of a decision capsule of more than a megabyte", decision(stores(64, 1, 0, 1_100_000) + "i32.const 64", memory=_PAGES), "in one piece", "output"),
    _bad("choices that name one large text many times", decision(_AMPLIFIED + stores(64, 0, 131072, 10_000) + "i32.const 64", memory=_PAGES), "in one piece", "output"),
    _bad("a hundred million choices", decision(stores(64, 0, 320, 100_000_000) + "i32.const 64"), category="output"),
    _bad("choices whose bytes are 4 GiB and a few more", decision(stores(64, 0, 320, 0x05555556) + "i32.const 64"), category="output"),
    _bad("a list of features behind the memory", decision(stores(336, 65536, 0x10000000) + "i32.const 64"), category="output"),
    _bad("a headers list of many times one large text", script(call("clock.now"), then="(call $flood)", imports=["http.send"],
         more="""(func $flood (local $n i32)
            (loop $on
                (i32.store (i32.add (i32.const 131072) (local.get $n)) (i32.const 131072))
                (i32.store offset=4 (i32.add (i32.const 131072) (local.get $n)) (i32.const 131072))
                (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 8))) (i32.const 65536))))
            (call $http.send (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 131072) (i32.const 4096)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 128)))"""), "in one piece", "output"),
]  # fmt: skip
OUTPUTS[-1] = Case(**{**OUTPUTS[-1].__dict__, "grants": {**_ANY, "clock": True}})

_BAD_ARGUMENTS: Final[list[tuple[str, Guest, Grants]]] = [
    ("a key behind the memory", script(call("kv.get", Span(_END, 1))), _KV),
    ("a key whose end wraps", script(call("kv.get", Span(-8, 16))), _KV),
    ("a key that is no UTF-8", script(call("kv.get", b"\xff")), _KV),
    ("a key that is half a surrogate pair", script(call("kv.get", _SURROGATE)), _KV),
    ("a value of 4 GiB", script(call("kv.set", "k", Span(0, -1))), _KV),
    ("a value of more than a megabyte", script(call("kv.set", "k", _HUGE), pages=48), _KV),
    ("an option with a tag that there is not", script(call("kv.keys", "", 2, 0, 0, 9)), _KV),
    ("a place for the answer behind the memory", tool("(call $kv.get (i32.const 16) (i32.const 1) (i32.const 262140)) unreachable", imports=["kv.get"]), _KV),
    ("a place for the answer that is not aligned", tool("(call $kv.get (i32.const 16) (i32.const 1) (i32.const 130)) unreachable", imports=["kv.get"]), _KV),
    ("a list of headers behind the memory", script(send("https://x.test/", headers=Span(_END - 8, 1))), _ANY),
    ("a list of headers that is not aligned", script(send("https://x.test/", headers=Span(4098, 1))), _ANY),
    ("a list of headers of 4 GiB and a few more", script(send("https://x.test/", headers=Span(4096, 0x10000001))), _ANY),
    ("a method that is no UTF-8", script(send("https://x.test/", method=b"\xfe")), _ANY),
    ("a body behind the memory", script(send("https://x.test/", body=Span(_END - 1, 2))), _ANY),
    ("a path that is no UTF-8", script(call("files.read", _OVERLONG)), {"files": {"access": "read"}}),
    ("a level of the log that there is not", tool("(call $log (i32.const 4) (i32.const 0) (i32.const 1)) unreachable", imports=["log"]), {}),
    ("a log message that is no UTF-8", tool("(call $log (i32.const 0) (i32.const 4096) (i32.const 1)) unreachable", imports=["log"], more=data(4096, b"\xff")), {}),
    ("a log message behind the memory", tool("(call $log (i32.const 0) (i32.const -1) (i32.const 2)) unreachable", imports=["log"]), {}),
    ("a log message of more than a megabyte", tool("(call $log (i32.const 0) (i32.const 0) (i32.const 1100000)) unreachable", imports=["log"], memory=_PAGES), {}),
]  # fmt: skip
ARGUMENTS: Final = [
    Case(category="argument", name=name, guest=guest, grants=grants, limits={"cpu_ms": 100}, ends=CapsuleBadOutput)
    for name, guest, grants in _BAD_ARGUMENTS
]  # fmt: skip

ALLOCATORS: Final = [
    Case(category="allocator", name=name, guest=tool(realloc=realloc), limits=_FAST, ends=ends, says=says)
    for name, realloc, ends, says in [
        ("that answers an address behind the memory", "i32.const 262144", CapsuleBadOutput, "realloc"),
        ("that answers -16", "i32.const -16", CapsuleBadOutput, "realloc"),
        ("that traps", "unreachable", CapsuleTrapped, ""),
    ]
] + [
    Case(category="allocator", name="that answers the last address there is", guest=tool(realloc="i32.const 262143"), answer=1),
    Case(category="allocator", name="of a decision capsule that is not aligned", guest=decision(realloc="i32.const 4097"), ends=CapsuleBadOutput, says="realloc"),
    Case(category="allocator", name="of a decision capsule that answers an address behind the memory", guest=decision(realloc="i32.const 262140"), ends=CapsuleBadOutput, says="realloc"),
    Case(category="allocator", name="that gives its own result's place away", guest=tool(realloc="i32.const 64"), ends=CapsuleBadOutput, input="[" + "9" * 200 + "]"),
    Case(category="allocator", name="that gives the same place every time", guest=script(call("kv.get", "a"), call("kv.get", "b"), realloc="i32.const 200000"), grants=_KV, answer=[None, None]),
    Case(category="allocator", name="that lies to the host's answer", guest=script(call("kv.get", "large"), realloc="(if (result i32) (i32.eq (local.get 3) (i32.const 777)) (then (i32.const -64)) (else (call $alloc (local.get 2) (local.get 3))))"),
         grants=_KV, limits=_FAST, before=lambda arena: arena.kv.apply("large", b"x" * 777), ends=CapsuleBadOutput, says="realloc"),
    Case(category="allocator", name="that calls the host again", guest=tool(imports=["log"], realloc="(call $log (i32.const 0) (i32.const 16) (i32.const 1)) i32.const 4096"), limits=_FAST, ends=CapsuleTrapped),
    Case(category="allocator", name="that calls the host again while the host answers",
         guest=script(call("kv.get", "large"), imports=["kv.remove"], realloc="(if (i32.eq (local.get 3) (i32.const 777)) (then (call $kv.remove (i32.const 1024) (i32.const 5) (i32.const 128)))) (call $alloc (local.get 2) (local.get 3))"),
         grants=_KV, limits=_FAST, before=lambda arena: arena.kv.apply("large", b"x" * 777), ends=CapsuleTrapped,
         after=lambda arena, _: _is_kept(arena.kv.get("large"))),
    Case(category="allocator", name="whose post-return calls the host", guest=tool(imports=["log"], post="(call $log (i32.const 0) (i32.const 16) (i32.const 1))"), limits=_FAST, ends=CapsuleTrapped),
]  # fmt: skip


def _is_kept(value: bytes | None) -> None:
    assert value == b"x" * 777


_LINES: Final = """(local $n i32)
    (loop $on
        (call $log (i32.const 1) (i32.const 65536) (i32.const {bytes}))
        (br_if $on (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const {lines}))))
    (call $ok (local.get 0) (local.get 1))"""


def _flood(lines: int, bytes_: int) -> Guest:
    return tool(_LINES.format(lines=lines, bytes=bytes_), imports=["log"])


def _logged(lines: int, dropped: int) -> Callable[[Arena, Ended], None]:
    def check(_: Arena, ended: Ended) -> None:
        # The last line says how many there were besides.
        told = (len(ended.log) - (dropped > 0), ended.log_dropped)
        assert told == (lines, dropped)

    return check


LOGS: Final = [
    Case(
        category="log",
        name=name,
        guest=_flood(lines, size),
        limits=limits,
        answer=1,
        after=_logged(kept, lines - kept),
    )
    for name, lines, size, limits, kept in [
        ("a flood of lines", 5000, 1, {}, 64),
        ("a flood of bytes", 100, 5000, {}, 3),
        ("a flood of lines under a limit of 2", 100, 1, {"log_lines": 2}, 2),
        ("one line where there may be none", 1, 1, {"log_lines": 0}, 0),
        ("one byte where there may be none", 1, 1, {"log_bytes": 0}, 0),
        ("as much as there may be", 4, 4096, {}, 4),
    ]
]

CHOICES: Final = [
    _bad(f"a choice {name}", decision(stores(320 + 4 * at, *words) + "i32.const 64", more=more), category="choice")
    for name, at, words, more in [
        ("without a strategy", 0, (16, 0), ""),
        ("whose mask has a tag that there is not", 6, (2, 0, 0), ""),
        ("with a feature that is no number", 4, (4096, 1), data(4096, b"\0\0\xc0\x7f")),
        ("with a feature that is infinite", 4, (4096, 1), data(4096, b"\0\0\x80\x7f")),
        ("whose features are not aligned", 4, (4097, 1), ""),
        ("whose candidate has no name", 9, (4096, 1), ""),
        ("with a mask and candidates", 6, (1, 0, 0, 4096, 1), data(4096, b"\x10\0\0\0\x01\0\0\0")),
        ("whose key is no UTF-8", 2, (4096, 1), data(4096, b"\xff")),
    ]
] + [
    _bad("two choices of one strategy", decision(stores(368, 16, 6, 22, 1) + stores(64, 0, 320, 2) + "i32.const 64"), category="choice"),
    *[
        Case(category="choice", name=f"a reward that is {name}", guest=decision(reward=f"(f64.store (i32.const 200) (f64.const {value})) i32.const 192"), output="1", ends=CapsuleBadOutput)
        for name, value in {"no number": "nan", "infinite": "inf", "minus infinity": "-inf"}.items()
    ],
]  # fmt: skip

HANDING_OVER: Final = [*ANSWERS, *CODES, *OUTPUTS, *ARGUMENTS, *ALLOCATORS, *LOGS, *CHOICES]
