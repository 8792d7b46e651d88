"""The database of a store: its tables, and what is asked of them.

One connection writes; it alone moves the log into the database. Reading connections are opened
read-only, so they cannot: SQLite before 3.51.3 can lose a commit where two connections do.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from capsa.errors import NotAStore, StoreBusy, StoreTooNew, StoreUnsupported
from capsa.journal._errors import damaged, unwritable
from capsa.journal._event import Event
from capsa.journal._verify import Stored
from capsa.journal.sqlite._folder import StoreFolder
from capsa.journal.sqlite._wal import refuse_damaged_log

#: The format of the tables (``PRAGMA user_version``). A later one migrates this one when it opens it.
FORMAT: Final = 1
#: What a commit waits for: the disk. A test shows that anything less is noticed.
SYNCHRONOUS = "FULL"
#: How long another program's lock on the file is waited for.
BUSY_TIMEOUT_MS = 5000
#: The database file says whose it is (``PRAGMA application_id``): "CAPS".
_APPLICATION: Final = 0x43415053
#: STRICT tables.
_OLDEST_SQLITE: Final = (3, 37, 0)
#: Reading connections that are kept for the next reader.
_IDLE_READERS: Final = 4
#: Of pages of 4096 bytes, 7 % would stay empty: an event has about 300 and is not divided.
_PAGE_BYTES: Final = 8192
#: The log's file is cut to this after it was moved into the database.
_LOG_BYTES: Final = 16 * 1024 * 1024
#: The number of an event in its table: its stream's number, and its sequence in the lower bits.
SEQUENCE_BITS: Final = 40

_TABLES: Final = """
CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  length INTEGER NOT NULL, head BLOB NOT NULL) STRICT;
CREATE TABLE origin (id INTEGER PRIMARY KEY, schema INTEGER NOT NULL, type TEXT NOT NULL,
  principal TEXT NOT NULL, path TEXT NOT NULL, UNIQUE (path, type, principal, schema)) STRICT;
CREATE TABLE event (id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, origin INTEGER NOT NULL,
  checksum INTEGER NOT NULL, salt BLOB, payload BLOB, digest BLOB) STRICT;
CREATE TABLE blob (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, data BLOB NOT NULL) STRICT;
CREATE TABLE checkpoint (number INTEGER PRIMARY KEY, body BLOB NOT NULL, signature BLOB NOT NULL) STRICT;
"""
# LEFT: an origin that is gone must not take its events with it.
_READ: Final = """
SELECT e.id, e.time_ms, e.payload, o.schema, o.type, o.principal, o.path
FROM event e LEFT JOIN origin o ON o.id = e.origin WHERE e.id > ? AND e.id <= ? ORDER BY e.id"""
_READ_STORED: Final = """
SELECT e.id, e.time_ms, coalesce(o.schema, 0), coalesce(o.type, ''), coalesce(o.principal, ''),
  coalesce(o.path, ''), e.checksum, e.salt, e.payload, e.digest
FROM event e LEFT JOIN origin o ON o.id = e.origin WHERE e.id >= ? AND e.id < ? ORDER BY e.id"""

#: Every question whose cost must not grow with the number of events; a test looks at their plans.
QUESTIONS: Final = {
    "read": _READ,
    "stored": _READ_STORED,
    "blob": "SELECT data FROM blob WHERE digest = ?",
    "origin": "SELECT id FROM origin WHERE path = ? AND type = ? AND principal = ? AND schema = ?",
    "next stream": "SELECT id FROM event WHERE id >= ? ORDER BY id LIMIT 1",
    "erase": "UPDATE event SET salt = NULL, payload = NULL, digest = ? WHERE id = ?",
    "event": "SELECT salt, payload FROM event WHERE id = ?",
    "grow": "UPDATE stream SET length = ?, head = ? WHERE id = ?",
    "last checkpoint": "SELECT number, body FROM checkpoint ORDER BY number DESC LIMIT 1",
    "checkpoints": "SELECT number, body, signature FROM checkpoint WHERE number > ? ORDER BY number",
}

#: Values of an event in its table, in order.
EVENT_COLUMNS: Final = 6
# Each statement gives the interpreter away once, and takes it back: after up to 5 ms, where another thread
# computes. So a group is a few statements, not one a row.
_INSERTS: Final = [
    (
        rows,
        "INSERT INTO event (id, time_ms, origin, checksum, salt, payload) VALUES "  # noqa: S608 - all ours
        + ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows),
    )
    for rows in (256, 64, 16, 4, 1)
]


#: What asking a broken database may raise.
BROKEN: Final = (sqlite3.Error, UnicodeDecodeError)


class StreamRow(NamedTuple):
    """A stream as the database has it."""

    id: int
    name: str
    length: int
    head: bytes


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns what SQLite says into errors of ours."""
    try:
        yield
    except BROKEN as error:
        raise unwritable(path, error) from error


def open_database(folder: StoreFolder) -> sqlite3.Connection:
    """The connection that writes; the tables are made where there are none.

    Raises:
        StoreTooNew: A newer version made the tables.
        NotAStore: Somebody else did.
        StoreUnwritable: SQLite or the disk refuses.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreUnsupported(
            f"this Python has SQLite {sqlite3.sqlite_version}",
            value=sqlite3.sqlite_version,
            remedy=f"use one with SQLite {'.'.join(map(str, _OLDEST_SQLITE))} or later",
        )
    refuse_damaged_log(folder.path)
    with translated(folder.path):
        try:
            # SQLite would make it readable for all; the files beside it get the same mode.
            os.close(os.open(folder.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise unwritable(folder.path, error) from error
        connection = sqlite3.connect(
            folder.database,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(folder, connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(folder: StoreFolder, connection: sqlite3.Connection) -> None:
    [found] = connection.execute("PRAGMA user_version").fetchone()
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    new = not (found or application or tables)
    if new:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    if not new and application != _APPLICATION:
        raise NotAStore(
            f"{folder.database} is not a database of Capsa", remedy="name an empty or a new folder"
        )
    if found > FORMAT:
        raise StoreTooNew(
            f"the store {folder.path} has format {found}; this version knows formats up to {FORMAT}",
            value=str(found),
            remedy="open it with the version of Capsa that wrote it, or a newer one",
        )
    for pragma in (
        f"synchronous = {SYNCHRONOUS}",
        f"journal_size_limit = {_LOG_BYTES}",
        # What was erased is overwritten.
        "secure_delete = ON",
        "cell_size_check = ON",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}")
    [mode] = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnsupported(f"SQLite keeps no write-ahead log in {folder.path}", value=mode)
    if new:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.strip().split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    # The last process may have been killed between writing a commit and syncing it. Whoever sees
    # it now takes it for recorded: so it is synced before anybody can.
    [busy, _, _] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreBusy(f"another program uses {folder.database}", remedy="end it, then open the store again")


def typed(row: Sequence[Any], *types: type) -> Sequence[Any]:
    """A row whose values have these types. STRICT tables promise that, but a rotten one breaks it."""
    if not all(isinstance(value, type_) for value, type_ in zip(row, types, strict=True)):
        raise sqlite3.DatabaseError("a row holds values of other types than its table")
    return row


def streams(connection: sqlite3.Connection) -> list[StreamRow]:
    """All streams, in the order of their numbers."""
    rows = connection.execute("SELECT id, name, length, head FROM stream ORDER BY id")
    return [StreamRow(*typed(row, int, str, int, bytes)) for row in rows]


def last_checkpoint(connection: sqlite3.Connection) -> tuple[int, bytes] | None:
    """Number and body of the newest checkpoint."""
    row = connection.execute(QUESTIONS["last checkpoint"]).fetchone()
    if row is None:
        return None
    number, body = typed(row, int, bytes)
    return number, body


def new_stream(connection: sqlite3.Connection, name: str, head: bytes) -> int:
    """The number of a new stream."""
    row = connection.execute("INSERT INTO stream (name, length, head) VALUES (?, 0, ?)", (name, head))
    assert row.lastrowid is not None
    return row.lastrowid


def origin(connection: sqlite3.Connection, schema: int, type_: str, principal: str, path: str) -> int:
    """The number of what many events have in common."""
    key = (path, type_, principal, schema)
    found = connection.execute(QUESTIONS["origin"], key).fetchone()
    if found is not None:
        return int(found[0])
    row = connection.execute("INSERT INTO origin (path, type, principal, schema) VALUES (?, ?, ?, ?)", key)
    assert row.lastrowid is not None
    return row.lastrowid


def insert_events(connection: sqlite3.Connection, values: Sequence[Any]) -> None:
    """Adds events: `EVENT_COLUMNS` values each, one after the other."""
    at = 0
    for rows, statement in _INSERTS:
        step = rows * EVENT_COLUMNS
        while len(values) - at >= step:
            connection.execute(statement, values[at : at + step])
            at += step


def read_events(
    connection: sqlite3.Connection, folder: Path, stream_id: int, stream: str, after: int, count: int
) -> list[Event]:
    """The `count` events of a stream from after a sequence.

    Raises:
        StoreDamaged: They are not all there.
    """
    base = stream_id << SEQUENCE_BITS
    rows = connection.execute(QUESTIONS["read"], (base + after, base + after + count)).fetchall()
    if len(rows) != count:
        what = (
            f"{count - len(rows)} of events {after + 1} to {after + count} of stream {stream!r} are missing"
        )
        raise damaged(folder, what)
    for _, time_ms, payload, *origin in rows:
        # As `typed`, but for every event that is ever read.
        if type(time_ms) is not int or not (payload is None or type(payload) is bytes):
            raise damaged(folder, f"events of stream {stream!r} hold values of other types than their table")
        if None in origin:
            raise damaged(folder, f"events of stream {stream!r} have lost their origin")
    return [
        Event(
            schema,
            stream,
            id_ - base,
            time_ms,
            type_,
            principal,
            path,
            b"" if payload is None else payload,
            payload is None,
        )
        for id_, time_ms, payload, schema, type_, principal, path in rows
    ]


def read_stored(connection: sqlite3.Connection, stream_id: int) -> Iterator[Stored]:
    """Everything of a stream, for verifying."""
    base = stream_id << SEQUENCE_BITS
    for row in connection.execute(QUESTIONS["stored"], (base, base + (1 << SEQUENCE_BITS))):
        yield Stored(row[0] - base, *row[1:])


def read_blob(connection: sqlite3.Connection, digest: str) -> bytes | None:
    """The bytes with a digest, as they are stored."""
    row = connection.execute(QUESTIONS["blob"], (digest,)).fetchone()
    if row is None:
        return None
    [data] = typed(row, bytes)
    return bytes(data)


def blobs(connection: sqlite3.Connection) -> Iterator[tuple[str, bytes]]:
    """All blobs, one at a time."""
    for row in connection.execute("SELECT digest, data FROM blob ORDER BY id"):
        digest, data = typed(row, str, bytes)
        yield digest, data


class Readers:
    """Connections that read, each used by one thread at a time."""

    def __init__(self, folder: StoreFolder) -> None:
        self._folder = folder.path
        self._address = f"{folder.database.as_uri()}?mode=ro"
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lends one out."""
        with translated(self._folder):
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = sqlite3.connect(
                    self._address,
                    uri=True,
                    timeout=BUSY_TIMEOUT_MS / 1000,
                    isolation_level=None,
                    check_same_thread=False,
                )
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.rollback()
                self._idle.append(connection)
                if self._closed or len(self._idle) > _IDLE_READERS:
                    self._drop()

    def close(self) -> None:
        """Closes those that nobody uses; the others follow when they come back."""
        self._closed = True
        while self._idle:
            self._drop()

    def _drop(self) -> None:
        try:
            self._idle.pop().close()
        except IndexError:
            # Another thread took it.
            return
