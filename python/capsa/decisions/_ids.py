"""Decision ids: what names a decision and its random numbers, and the keys that seal them."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from typing import TYPE_CHECKING, Final

from capsa import _native
from capsa.errors import HostFault, InvalidField, UnknownDecision, shown

if TYPE_CHECKING:
    from capsa.journal import Journal

#: Most characters of a subject.
MAX_SUBJECT: Final = 128

#: The name of a key: its number, and since when it is in use, milliseconds since 1970.
_KEY_NAME: Final = re.compile("ids-([0-9]{1,5})-([0-9]{1,15})")
_MOST_KEYS: Final = 65535
_FIRST_ID: Final = re.compile("dec_([0-9a-f]{32})")
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


class IdKeys:
    """The keys of a journal's decision ids. They are made at first use and never forgotten: an id that was given opens.

    Args:
        journal: Which keeps them.
        seed: Of a journal in memory: makes its first key repeatable.

    Attributes:
        ring: The keys.
    """

    def __init__(self, journal: Journal, seed: int | None = None) -> None:
        self._journal = journal
        self.ring = _native.Keyring()
        self._last = -1
        if seed is not None and not journal.persistent:
            # The same calls give the same ids, too.
            key = hashlib.blake2b(seed.to_bytes(16, "big", signed=True), digest_size=32).digest()
            self.ring.add(0, 0, key)
            self._last = 0
            return
        for name in journal.secrets():
            if (match := _KEY_NAME.fullmatch(name)) is not None:
                self._add(int(match[1]), int(match[2]))
        if self._last < 0:
            self._add(0, 0)

    def rotate(self, now_ms: int) -> int:
        """Makes a new key that seals decisions from the next millisecond on; gives its number."""
        if self._last >= _MOST_KEYS:
            raise HostFault("this store has as many keys as an id can name", remedy="keep the last one")
        # Not this millisecond's: some of its decisions have their ids already.
        self._add(self._last + 1, now_ms + 1)
        return self._last

    def _add(self, number: int, since_ms: int) -> None:
        self.ring.add(number, since_ms, self._journal.secret(f"ids-{number}-{since_ms}"))
        self._last = max(self._last, number)


def subject_hash(key: bytes, subject: object) -> bytes:
    """The keyed hash that stands for a subject, 16 bytes: who has not the key cannot tell whom it means.

    Raises:
        InvalidField: It is not a text of 1 to `MAX_SUBJECT` characters.
    """
    valid = isinstance(subject, str) and 1 <= len(subject) <= MAX_SUBJECT
    if not valid or any("\ud800" <= char <= "\udfff" for char in str(subject)):
        raise InvalidField(
            f"subject is not a text of 1 to {MAX_SUBJECT} characters",
            pointer="/subject",
            remedy="send such a text, or leave it out",
        )
    return hashlib.blake2b(str(subject).encode(), key=key, digest_size=16).digest()


def first_id(decision_id: object) -> bytes | None:
    """The nonce of an id as format 1 gave it: 32 hexadecimal digits, not sealed."""
    match = _FIRST_ID.fullmatch(decision_id) if isinstance(decision_id, str) else None
    return None if match is None else bytes.fromhex(match[1])


def unknown_decision(decision_id: object) -> UnknownDecision:
    """The one answer for ids that are malformed, tampered with, foreign or forgotten."""
    return UnknownDecision(
        "no decision of this capsule has this id",
        pointer="/decisionId",
        value=shown(decision_id),
        remedy="send the id as decide gave it, to the same capsule",
    )
