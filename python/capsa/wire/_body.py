"""Bodies as JSON (RFC 8259) and CBOR (RFC 8949): one value, each key once, plain types only."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from capsa._native import read_cbor, read_json

JSON: Final = "application/json"
CBOR: Final = "application/cbor"
#: Nesting of a body; a capsule's input may nest less.
DEPTH: Final = 32

_encode = msgspec.json.Encoder().encode


class Malformed(ValueError):
    """A body that cannot be read; the message says what is wrong, and where."""


def decode(body: bytes, *, cbor: bool = False) -> Any:
    """The value of a body.

    Raises:
        Malformed: It is not one value of JSON types in UTF-8, names a key twice, or nests deeper than `DEPTH`.
    """
    try:
        return read_cbor(body, max_depth=DEPTH) if cbor else read_json(body, max_depth=DEPTH)
    except ValueError as error:
        raise Malformed(_said(str(error), body)) from None


def encode(value: Any, *, cbor: bool = False) -> bytes:
    """A value as JSON or CBOR."""
    if not cbor:
        return _encode(value)
    import cbor2

    return cbor2.dumps(value)


def _said(error: str, body: bytes) -> str:
    if not body:
        return "the body is empty"
    if body.startswith(b"\xef\xbb\xbf"):
        return "the body begins with a byte order mark"
    return error
