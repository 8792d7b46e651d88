"""The tables of a store, format by format, and how one becomes the next.

A new store goes through all formats too: so there is one way to the present tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final

from capsa.journal import _chain
from capsa.journal._event import CUT_TYPES
from capsa.journal._verify import Stored, header_of

#: The number of an event in its table: its stream's number, and its sequence in the lower bits.
SEQUENCE_BITS: Final = 40
# LEFT: an origin that is gone must not take its events with it.
#: The events from one number to before another, with their part of the chain.
STORED: Final = """
SELECT e.id, e.time_ms, coalesce(o.schema, 0), coalesce(o.type, ''), coalesce(o.principal, ''),
  coalesce(o.path, ''), e.checksum, e.salt, e.payload, e.digest
FROM event e LEFT JOIN origin o ON o.id = e.origin WHERE e.id >= ? AND e.id < ? ORDER BY e.id"""

_FIRST: Final = """
CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  length INTEGER NOT NULL, head BLOB NOT NULL) STRICT;
CREATE TABLE origin (id INTEGER PRIMARY KEY, schema INTEGER NOT NULL, type TEXT NOT NULL,
  principal TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (path, type, principal, schema)) STRICT;
CREATE TABLE event (id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, origin INTEGER NOT NULL,
  checksum INTEGER NOT NULL, salt BLOB, payload BLOB, digest BLOB) STRICT;
CREATE TABLE blob (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, data BLOB NOT NULL) STRICT;
CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, body BLOB NOT NULL, signature BLOB NOT NULL) STRICT
"""
# Without row numbers: otherwise each key would stand in its table and in its index.
_SECOND: Final = """
ALTER TABLE stream ADD COLUMN first INTEGER NOT NULL DEFAULT 1;
CREATE TABLE once (key BLOB PRIMARY KEY, event INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE due (at_ms INTEGER NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (at_ms, event)) STRICT, WITHOUT ROWID;
CREATE TABLE anchor (event INTEGER PRIMARY KEY, head BLOB NOT NULL) STRICT
"""


def migrate(connection: sqlite3.Connection, found: int) -> None:
    """Makes the present tables out of those of an older format; of none where it is 0.

    In a transaction of the caller's.
    """
    for statements, fill in _FORMATS[found:]:
        for statement in statements.strip().split(";"):
            connection.execute(statement)
        fill(connection)


def _nothing(_: sqlite3.Connection) -> None:
    return


def _find_anchors(connection: sqlite3.Connection) -> None:
    """The heads before the events where a stream may be cut: walks the streams that have some."""
    marks = ", ".join("?" * len(CUT_TYPES))
    question = f"SELECT 1 FROM origin WHERE type IN ({marks}) LIMIT 1"  # noqa: S608 - marks only
    if connection.execute(question, sorted(CUT_TYPES)).fetchone() is None:
        return
    for id_, name in connection.execute("SELECT id, name FROM stream").fetchall():
        base, head = id_ << SEQUENCE_BITS, _chain.NO_HEAD
        for row in connection.execute(STORED, (base, base + (1 << SEQUENCE_BITS))):
            stored = Stored(row[0] - base, *row[1:])
            header = header_of(name, stored)
            if header is None or _chain.checksum(header) != stored.checksum:
                # From here on the head is not known. `verify` says why.
                break
            if stored.type in CUT_TYPES:
                connection.execute("INSERT INTO anchor (event, head) VALUES (?, ?)", (row[0], head))
            head = _chain.next_head(head, header)


#: What leads to each format from the one before it: statements, and what is put in.
_FORMATS: Final[tuple[tuple[str, Callable[[sqlite3.Connection], None]], ...]] = (
    (_FIRST, _nothing),
    (_SECOND, _find_anchors),
)
#: The format of the tables (``PRAGMA user_version``). A later one migrates this one when it opens it.
FORMAT: Final = len(_FORMATS)
