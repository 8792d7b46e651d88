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
from capsa.journal import _chain
from capsa.journal._checkpoint import Checkpoint, decode
from capsa.journal._errors import damaged, unknown_blob, unwritable
from capsa.journal._event import Event
from capsa.journal._verify import Stored
from capsa.journal.sqlite._folder import DATABASE, StoreFolder
from capsa.journal.sqlite._tables import FORMAT, SEQUENCE_BITS, STORED, migrate
from capsa.journal.sqlite._wal import refuse_damaged_log

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
# LEFT: an origin that is gone must not take its events with it.
_READ: Final = """
SELECT e.id, e.time_ms, e.payload, o.schema, o.type, o.principal, o.path
FROM event e LEFT JOIN origin o ON o.id = e.origin WHERE e.id > ? AND e.id <= ? ORDER BY e.id"""
#: Every question whose cost must not grow with the number of events; a test looks at their plans.
QUESTIONS: Final = {
    "read": _READ,
    "stored": STORED,
    "blob": "SELECT data FROM blob WHERE digest = ?",
    "origin": "SELECT id FROM origin WHERE path = ? AND type = ? AND principal = ? AND schema = ?",
    "next stream": "SELECT id FROM event WHERE id >= ? ORDER BY id LIMIT 1",
    "erase": "UPDATE event SET salt = NULL, payload = NULL, digest = ? WHERE id = ?",
    "event": "SELECT salt, payload FROM event WHERE id = ?",
    "grow": "UPDATE stream SET length = ?, head = ? WHERE id = ?",
    "last checkpoint": "SELECT number, body FROM checkpoint ORDER BY number DESC LIMIT 1",
    "first": "SELECT first FROM stream WHERE id = ?",
    "checkpoints": "SELECT number, body, signature FROM checkpoint WHERE number > ? ORDER BY number",
}

# Each statement gives the interpreter away once, and takes it back: after up to 5 ms, where another thread
# computes. So a group is a few statements, not one a row.
_ROWS: Final = (256, 64, 16, 4, 1)


class Insert:
    """Adds rows to a table: the values of one after the other, in few statements."""

    def __init__(self, table: str, *columns: str) -> None:
        marks = f"({', '.join('?' * len(columns))})"
        head = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608 - all ours
        self._statements = [(rows * len(columns), head + ", ".join([marks] * rows)) for rows in _ROWS]

    def __call__(self, connection: sqlite3.Connection, values: Sequence[Any]) -> None:
        """Adds as many rows as there are values for."""
        at = 0
        for step, statement in self._statements:
            while len(values) - at >= step:
                connection.execute(statement, values[at : at + step])
                at += step


insert_events = Insert("event", "id", "time_ms", "origin", "checksum", "salt", "payload")


#: What asking a broken database may raise.
BROKEN: Final = (sqlite3.Error, UnicodeDecodeError)


class StreamRow(NamedTuple):
    """A stream as the database has it."""

    id: int
    name: str
    length: int
    head: bytes
    first: int = 1


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns what SQLite says into errors of ours."""
    try:
        yield
    except BROKEN as error:
        raise unwritable(path, error) from error


def open_database(folder: StoreFolder) -> tuple[sqlite3.Connection, int | None]:
    """The connection that writes, and the format that the tables had, if that was an older one.

    The tables are made where there are none.

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
            migrated_from = _prepare(folder, connection)
        except BaseException:
            connection.close()
            raise
    return connection, migrated_from


def _prepare(folder: StoreFolder, connection: sqlite3.Connection) -> int | None:
    found = format_of(connection)
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    new = not (found or application or tables)
    if new:
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    if not new:
        check_format(folder.path, connection)
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
    if found < FORMAT:
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection, found)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    # The last process may have been killed between writing a commit and syncing it. Whoever sees
    # it now takes it for recorded: so it is synced before anybody can.
    [busy, _, _] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreBusy(f"another program uses {folder.database}", remedy="end it, then open the store again")
    return None if new or found == FORMAT else found


def check_format(folder: Path, connection: sqlite3.Connection) -> int:
    """The format of a database that is ours.

    Raises:
        NotAStore: Somebody else made it.
        StoreTooNew: A newer version did.
    """
    [application] = connection.execute("PRAGMA application_id").fetchone()
    found = format_of(connection)
    if application != _APPLICATION:
        raise NotAStore(f"{folder / DATABASE} is not a database of Capsa", remedy="name another folder")
    if found > FORMAT:
        raise StoreTooNew(
            f"the store {folder} has format {found}; this version knows formats up to {FORMAT}",
            value=str(found),
            remedy="open it with the version of Capsa that wrote it, or a newer one",
        )
    return found


def typed(row: Sequence[Any], *types: type) -> Sequence[Any]:
    """A row whose values have these types. STRICT tables promise that, but a rotten one breaks it."""
    if not all(isinstance(value, type_) for value, type_ in zip(row, types, strict=True)):
        raise sqlite3.DatabaseError("a row holds values of other types than its table")
    return row


def streams(connection: sqlite3.Connection) -> list[StreamRow]:
    """All streams, in the order of their numbers."""
    # A store that is only looked at may have an older format.
    first = "first" if format_of(connection) > 1 else "1"
    rows = connection.execute(f"SELECT id, name, length, head, {first} FROM stream ORDER BY id")  # noqa: S608
    return [StreamRow(*typed(row, int, str, int, bytes, int)) for row in rows]


def format_of(connection: sqlite3.Connection) -> int:
    """The format of the tables."""
    [found] = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


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


def read_events(
    connection: sqlite3.Connection, folder: Path, stream_id: int, stream: str, after: int, count: int
) -> list[Event]:
    """The `count` events of a stream from after a sequence; fewer where it is being cut behind that.

    Raises:
        StoreDamaged: They are not all there.
    """
    base = stream_id << SEQUENCE_BITS
    rows = connection.execute(QUESTIONS["read"], (base + after, base + after + count)).fetchall()
    if len(rows) != count:
        cut = _cut_behind(connection, stream_id, after)
        if cut:
            return read_events(connection, folder, stream_id, stream, cut, max(0, after + count - cut))
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


def _cut_behind(connection: sqlite3.Connection, stream_id: int, after: int) -> int | None:
    """The last sequence that was cut off, where that is behind another one."""
    if format_of(connection) == 1:
        return None
    row = connection.execute(QUESTIONS["first"], (stream_id,)).fetchone()
    if row is None:
        return None
    [first] = typed(row, int)
    return first - 1 if first - 1 > after else None


def read_stored(connection: sqlite3.Connection, stream_id: int, first: int = 0) -> Iterator[Stored]:
    """Everything of a stream from a sequence on, for verifying."""
    base = stream_id << SEQUENCE_BITS
    for row in connection.execute(QUESTIONS["stored"], (base + first, base + (1 << SEQUENCE_BITS))):
        yield Stored(row[0] - base, *row[1:])


def read_blob(connection: sqlite3.Connection, digest: str) -> bytes | None:
    """The bytes with a digest, as they are stored."""
    row = connection.execute(QUESTIONS["blob"], (digest,)).fetchone()
    if row is None:
        return None
    [data] = typed(row, bytes)
    return bytes(data)


def checked_blob(folder: Path, digest: str, data: bytes | None) -> bytes:
    """The bytes that `read_blob` gave, compared with their digest.

    Raises:
        UnknownBlob: There are none.
        StoreDamaged: They have changed.
    """
    if data is None:
        raise unknown_blob(digest)
    try:
        _chain.check_digest(digest, data)
    except ValueError as error:
        raise damaged(folder, str(error)) from None
    return data


def read_checkpoints(connection: sqlite3.Connection, folder: Path, after: int) -> list[Checkpoint]:
    """The checkpoints from after a number on.

    Raises:
        StoreDamaged: One of them cannot be read.
    """
    rows = connection.execute(QUESTIONS["checkpoints"], (after,)).fetchall()
    try:
        return [decode(body, signature) for _, body, signature in rows]
    except ValueError as error:
        raise damaged(folder, str(error)) from error


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

    def ask(self, question: str, values: Sequence[Any]) -> list[Any]:
        """All answers to one question. As with `connection`, in half the time."""
        try:
            connection = self._idle.pop()
        except IndexError:
            with self.connection() as connection:
                return connection.execute(question, values).fetchall()
        try:
            return connection.execute(question, values).fetchall()
        except BROKEN as error:
            raise unwritable(self._folder, error) from error
        finally:
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
