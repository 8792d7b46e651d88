"""From what SQLite or the system says to an error of ours."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from capsa.errors import (
    StoreBusy,
    StoreDamaged,
    StoreFull,
    StoreReadOnly,
    StoreUnwritable,
    UnknownBlob,
    UnknownEvent,
)

_REMEDIES: dict[type[StoreUnwritable], str] = {
    StoreUnwritable: "look at the disk and its logs, then open the store again",
    StoreFull: "free space on this disk, then open the store again",
    StoreBusy: "end the program that has store.sqlite open, then open the store again",
    StoreReadOnly: "make the folder writable for this user, then open the store again",
    StoreDamaged: "keep a copy of the folder, then see docs/journal.md, Recovery",
}
#: By the low byte of SQLite's result code.
_BY_RESULT: dict[int, type[StoreUnwritable]] = {
    # Our statements are right: then the tables are wrong.
    sqlite3.SQLITE_ERROR: StoreDamaged,
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_CANTOPEN: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
    # A row stands where the next one belongs: somebody else wrote it.
    sqlite3.SQLITE_CONSTRAINT: StoreDamaged,
}
_BY_ERRNO: dict[int, type[StoreUnwritable]] = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EFBIG: StoreFull,
    errno.EACCES: StoreReadOnly,
    errno.EPERM: StoreReadOnly,
    errno.EROFS: StoreReadOnly,
}


def unwritable(path: Path, error: BaseException) -> StoreUnwritable:
    """The error of ours for what SQLite or the system said about the store at `path`."""
    kind, name = StoreUnwritable, type(error).__name__
    if isinstance(error, sqlite3.Error):
        # Python's own have no code: a text that is none, a value of another type than its column's.
        code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        kind = _BY_RESULT.get(code & 0xFF, StoreUnwritable)
        name = getattr(error, "sqlite_errorname", name)
    elif isinstance(error, UnicodeDecodeError):
        # SQLite quotes what it finds in broken tables.
        kind = StoreDamaged
    elif isinstance(error, OSError) and error.errno is not None:
        kind = _BY_ERRNO.get(error.errno, StoreUnwritable)
        name = errno.errorcode.get(error.errno, name)
    said = " ".join(str(error).split())[:200]
    return kind(f"the store {path} cannot be used: {said} ({name})", remedy=_REMEDIES[kind])


def damaged(path: Path, what: str) -> StoreDamaged:
    """The error for files that are not what was written."""
    return StoreDamaged(f"the store {path} is damaged: {what}", remedy=_REMEDIES[StoreDamaged])


def unknown_blob(digest: str) -> UnknownBlob:
    """The error for a blob that is not here."""
    return UnknownBlob(f"no blob {digest[:80]}", value=digest[:80])


def unknown_event(stream: str, sequence: int) -> UnknownEvent:
    """The error for an event that is not here."""
    return UnknownEvent(f"stream {stream[:80]!r} has no event {sequence}", value=str(sequence))
