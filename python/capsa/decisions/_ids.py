"""Decision ids: what names a decision and its random numbers."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Final

from capsa.errors import InvalidField, UnknownDecision, shown

_PREFIX: Final = "dec_"
_NONCE_BYTES: Final = 16
_RANDOM_BYTES: Final = 10
_POOL_NONCES: Final = 256


class Nonces:
    """Time-ordered nonces: 6 bytes of milliseconds since 1970, then 10 random bytes.

    Args:
        seed: Makes the random bytes a function of the seed and the count of nonces, for demos and
            tests. Without it they come from the operating system.
        after: With a seed: how many events there are already, so that a store that is opened again goes on
            with other nonces.
    """

    def __init__(self, seed: int | None = None, after: int = 0) -> None:
        if seed is not None and not _is_seed(seed):
            raise InvalidField(
                "seed is not a whole number of 128 bits",
                pointer="/seed",
                value=shown(seed),
                remedy="use such a number, or leave it out for draws that nobody can predict",
            )
        self._seed = None if seed is None else seed.to_bytes(16, "big", signed=True)
        self._count = after
        self._pool = b""
        self._at = 0
        self._lock = threading.Lock()

    def take(self, now_ms: int) -> bytes:
        """One nonce that was never given before."""
        with self._lock:
            if self._at == len(self._pool):
                self._pool = self._more()
                self._at = 0
            random = self._pool[self._at : self._at + _RANDOM_BYTES]
            self._at += _RANDOM_BYTES
        return now_ms.to_bytes(6, "big") + random

    def _more(self) -> bytes:
        if self._seed is None:
            return os.urandom(_RANDOM_BYTES * _POOL_NONCES)
        self._count += 1
        block = hashlib.shake_128(self._seed + self._count.to_bytes(8, "big"))
        return block.digest(_RANDOM_BYTES * _POOL_NONCES)


def _is_seed(seed: object) -> bool:
    return isinstance(seed, int) and -(2**127) <= seed < 2**127


def decision_id(nonce: bytes) -> str:
    """The id of the decision with this nonce."""
    return _PREFIX + nonce.hex()


def parse_decision_id(decision_id: object) -> bytes:
    """The nonce of a decision id.

    Raises:
        UnknownDecision: The text is not an id of this version.
    """
    if isinstance(decision_id, str) and decision_id.startswith(_PREFIX):
        digits = decision_id.removeprefix(_PREFIX)
        if (
            len(digits) == 2 * _NONCE_BYTES
            and digits == digits.lower()
            and digits.isascii()
            and digits.isalnum()
        ):
            try:
                return bytes.fromhex(digits)
            except ValueError:
                pass
    raise unknown_decision(decision_id)


def unknown_decision(decision_id: object) -> UnknownDecision:
    """The one answer for ids that are malformed, foreign or forgotten."""
    return UnknownDecision(
        "no decision of this capsule has this id",
        pointer="/decisionId",
        value=shown(decision_id),
        remedy="send the id as decide gave it, to the same capsule",
    )
