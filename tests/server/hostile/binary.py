"""Rows of the table: what CBOR has and JSON has not."""

from __future__ import annotations

from typing import Final

import cbor2
from tests.server.hostile.attack import SECRET, Attack, post
from tests.server.serving import INPUT

_MALFORMED: Final = (400, "malformed-body")


def shared(levels: int) -> bytes:
    """A list of two equal lists, and so on: some 5 bytes a level, and 2 to the power of levels once it is copied."""
    inner = b"\xd8\x1c\x81\x01"
    references = b"".join(b"\xd8\x1d" + cbor2.dumps(level) for level in range(levels, 0, -1))
    return b"\xd8\x1c\x82" * levels + inner + references


def _tag(number: int, value: object) -> bytes:
    return cbor2.dumps({"contextKey": cbor2.CBORTag(number, value)})


#: A regular expression that takes long to compile.
_PATTERN: Final = "(?i)[\u0000-\U0010fff0]"

_FLAWS: Final = {"undefined": "H24: it is taken for null"}

ATTACKS: Final = tuple(
    Attack("CBOR", name, post("decide", body, cbor=True), *_MALFORMED, _FLAWS.get(name))
    for name, body in (
        ("nothing", b""),
        ("JSON", b'{"input":{}}'),
        ("list of 2^64", bytes.fromhex("9bffffffffffffffff")),
        ("list of 2^36", bytes.fromhex("9b0000001000000000")),
        ("map of 2^63", bytes.fromhex("bb7fffffffffffffff")),
        ("bytes of 2^63", bytes.fromhex("5b7fffffffffffffff")),
        ("text of 16 GiB", bytes.fromhex("7b00000003ffffffff")),
        ("list without end", b"\x9f" + b"\x01" * 100),
        ("text without end", b"\x7f" + b"\x61a" * 100),
        ("bytes in a text", bytes.fromhex("7f4161ff")),
        ("end without beginning", b"\xff"),
        ("reserved", b"\x1c"),
        ("100,000 lists", b"\x81" * 100_000 + b"\x01"),
        ("50,000 maps", b"\xa1\x61a" * 50_000 + b"\x01"),
        ("50,000 tags", b"\xd9\xd9\xf7" * 50_000 + b"\x01"),
        ("NaN", b"\xa1\x65input\xa1\x61x\xf9\x7e\x00"),
        ("infinity", b"\xa1\x65input\xa1\x61x" + bytes.fromhex("fb7ff0000000000000")),
        ("undefined", b"\xa1\x65input\xf7"),
        ("simple value", b"\xa1\x65input\xf8\x20"),
        ("bytes", b"\xa1\x6acontextKey\x41a"),
        ("bytes as a key", b"\xa1\x45input\xa0"),
        ("number as a key", b"\xa1\x01\x01"),
        ("list as a key", b"\xa1\x81\x01\x01"),
        ("key twice", b"\xa2\x65input\xa0\x65input\xa0"),
        ("key twice, without length", b"\xbf\x65input\xa0\x65input\xa0\xff"),
        (
            "secret key twice",
            b"\xa2" + cbor2.dumps(SECRET) + b"\x01" + cbor2.dumps(SECRET) + b"\x02",
        ),
        ("bytes behind", cbor2.dumps({"input": INPUT}) + b"\x02"),
        ("no UTF-8", b"\xa1\x6acontextKey\x61\xff"),
        ("surrogate", b"\xa1\x6acontextKey\x63\xed\xa0\x80"),
        ("shared values", shared(30)),
        ("cycle", bytes.fromhex("d81c81d81d00")),
        ("cycle that branches", bytes.fromhex("d81c82d81d00d81d00")),
        ("references to texts", bytes.fromhex("d9010082") + b"\x63abc\xd8\x19\x00"),
        ("large integer", _tag(2, b"\xff" * 9000)),
        ("large float", _tag(5, [10**9, 3])),
        ("decimal", _tag(4, [10**18, 3])),
        ("fraction by zero", _tag(30, [1, 0])),
        ("date", _tag(0, SECRET)),
        ("time", _tag(1, 1e300)),
        ("pattern", _tag(35, _PATTERN)),
        ("message", _tag(36, f"Subject: {SECRET}")),
        ("UUID", _tag(37, b"abc")),
        ("set", _tag(258, ["a"])),
        ("address", _tag(52, b"\x7f\0\0\1")),
        ("unknown", _tag(4711, SECRET)),
    )
)
