"""Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011), and the draw of a decision from it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

_MASK = 0xFFFFFFFF


def philox4x32_10(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """One block."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first, second = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (second >> 32) ^ c1 ^ k0, second & _MASK, (first >> 32) ^ c3 ^ k1, first & _MASK
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def stream_key(tenant: str, job: str, capsule: str) -> tuple[int, int]:
    """The key words of a capsule's random numbers: 8 bytes of BLAKE2b-256 over its three names."""
    digest = hashlib.blake2b(
        b"".join(name.encode() + b"\0" for name in (tenant, job, capsule)), digest_size=32
    )
    low, high = struct.unpack("<II", digest.digest()[:8])
    return low, high


def uniform(key: tuple[int, int], nonce: bytes, index: int) -> float:
    """The number at an index of a decision's stream: 53 bits, in [0, 1)."""
    low, high, _, _ = philox4x32_10(struct.unpack("<IIII", nonce), (key[0], key[1] ^ index))
    return float(((high << 32 | low) >> 11) * 2.0**-53)
