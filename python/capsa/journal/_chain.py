"""The hash chain of a stream: what is hashed, and in which bytes.

An event's header holds everything but its payload, and of that a salted digest. So an erased
payload leaves the chain as it was, and what was erased cannot be guessed from its digest.

The bytes are written down in docs/journal.md, with golden vectors.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final
from zlib import crc32

from capsa import _native

#: The version of the header, and of what the payloads hold.
SCHEMA: Final = _native.EVENT_SCHEMA
#: The head of a stream without events.
NO_HEAD: Final = bytes(32)
#: Length of a digest, bytes.
DIGEST_BYTES: Final = 32
#: Length of a salt, bytes.
SALT_BYTES: Final = 16

# Deterministic CBOR sorts the keys of a map by their encoding: short names first. A map of 8 entries.
_MAP: Final = b"\xa8"
_DIGEST: Final = b"\x66digest\x58\x20"
_SEQUENCE: Final = b"\x68sequence"


class Header:
    """What the headers of one stream, type, principal and path have in common, encoded once.

    A header is encoded by the million, and nearly always like the one before.
    """

    __slots__ = ("_after", "_before", "_between")

    def __init__(self, schema: int, stream: str, type_: str, principal: str, path: str) -> None:
        self._before = _MAP + b"\x64path" + _text(path) + b"\x64type" + _text(type_) + _DIGEST
        self._between = b"\x66schema" + _uint(schema) + b"\x66stream" + _text(stream) + b"\x67time_ms"
        self._after = b"\x69principal" + _text(principal)

    def encode(self, time_ms: int, sequence: int, digest: bytes) -> bytes:
        """The header of one event: deterministic CBOR."""
        return b"".join(
            (
                self._before,
                digest,
                self._between,
                _uint(time_ms),
                _SEQUENCE,
                _uint(sequence),
                self._after,
            )
        )


def salted_digest(salt: bytes, payload: bytes) -> bytes:
    """The digest of a payload that stands in the header."""
    return blake2b(salt + payload, digest_size=32).digest()


def next_head(head: bytes, header: bytes) -> bytes:
    """The head after one more event."""
    return blake2b(head + header, digest_size=32).digest()


def check_digest(digest: str, data: bytes) -> None:
    """Raises ValueError where bytes have another digest than said."""
    if _native.digest(data) != digest:
        raise ValueError(f"these {len(data)} bytes do not have the digest {digest[:80]}")


def checksum(header: bytes) -> int:
    """Tells which event was changed, where a head can only tell that one was. Signed, 32 bits.

    No protection: whoever changes an event on purpose can change its checksum too. That is
    what heads and their signed checkpoints are for.
    """
    found = crc32(header)
    # SQLite stores a signed number of 32 bits in 4 bytes, an unsigned one in 6.
    return found - (found >> 31 << 32)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _head(0x60, len(encoded)) + encoded


def _uint(number: int) -> bytes:
    return _head(0, number)


def _head(major: int, argument: int) -> bytes:
    if argument > 0xFFFF_FFFF:
        return struct.pack(">BQ", major | 27, argument)
    if argument > 0xFFFF:
        return struct.pack(">BI", major | 26, argument)
    if argument > 0xFF:
        return struct.pack(">BH", major | 25, argument)
    if argument > 23:
        return bytes((major | 24, argument))
    return bytes((major | argument,))
