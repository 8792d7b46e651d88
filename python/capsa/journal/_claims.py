"""Keys that count once in a whole journal: their limits, their order, their ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from capsa.errors import StoreDamaged

#: Most keys of one event.
MAX_KEYS: Final = 256
#: Longest key.
MAX_KEY_BYTES: Final = 96

TAKEN: Final = "a key that counts once is taken already: what was folded and what is stored disagree"


def checked(once: Sequence[bytes]) -> tuple[bytes, ...]:
    """The keys of one event.

    Raises:
        ValueError: There are too many, one stands there twice, or one is none.
    """
    keys = tuple(once)
    if len(keys) > MAX_KEYS:
        raise ValueError(f"an event has at most {MAX_KEYS} keys that count once, not {len(keys)}")
    for key in keys:
        if type(key) is not bytes or not 0 < len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"a key that counts once is 1 to {MAX_KEY_BYTES} bytes")
    if len(keys) > 1 and len(set(keys)) != len(keys):
        raise ValueError("a key that counts once stands there twice")
    return keys


def checked_due(due_ms: int) -> None:
    """Raises ValueError where this is no time."""
    if type(due_ms) is not int or not 0 <= due_ms < 1 << 63:
        raise ValueError(f"{due_ms!r} is not a time in milliseconds since 1970")


def checked_prefix(prefix: bytes) -> None:
    """Raises ValueError where nothing can be asked with this: no prefix would be all keys."""
    if type(prefix) is not bytes or not prefix:
        raise ValueError("a prefix of keys is at least one byte")


def behind(prefix: bytes) -> bytes:
    """Greater than all keys that begin with a prefix, and than no key behind these."""
    return prefix + b"\xff" * MAX_KEY_BYTES


def taken() -> StoreDamaged:
    """The error for a key that was used before."""
    return StoreDamaged(TAKEN, remedy="keep a copy of the journal, and report this")
