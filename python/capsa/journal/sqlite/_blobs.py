"""Blobs in the database: added, and removed in steps."""

from __future__ import annotations

import sqlite3
from typing import Final

#: Bytes that one transaction removes, so that nobody waits long for it; a larger blob goes by itself.
_STEP_BYTES: Final = 8 * 1024 * 1024


def put(connection: sqlite3.Connection, digest: str, data: bytes) -> None:
    """Adds a blob; one that is there stays."""
    connection.execute("INSERT OR IGNORE INTO blob (digest, data) VALUES (?, ?)", (digest, data))


def to_drop(connection: sqlite3.Connection, keep: frozenset[str]) -> list[list[str]]:
    """The digests of all blobs but some, step by step."""
    steps: list[list[str]] = []
    room = 0
    for digest, size in connection.execute("SELECT digest, length(data) FROM blob ORDER BY id"):
        if digest in keep:
            continue
        if not steps or size > room:
            steps.append([])
            room = _STEP_BYTES
        steps[-1].append(digest)
        room -= size
    return steps


def drop(connection: sqlite3.Connection, digests: list[str]) -> None:
    """Removes blobs."""
    connection.executemany("DELETE FROM blob WHERE digest = ?", [(digest,) for digest in digests])
