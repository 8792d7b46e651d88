"""Verification of a whole database: its checkpoints, its streams, its blobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

from capsa.journal import _chain
from capsa.journal._checkpoint import Checkpoint, sound
from capsa.journal._verify import Anchor, Beginning, Fault, Stored, anchors, signed_cut, verify_stream
from capsa.journal.sqlite import _database, _index
from capsa.journal.sqlite._tables import SEQUENCE_BITS


def verify_database(connection: sqlite3.Connection, public_key: Callable[[], bytes]) -> list[Fault]:
    """Everything that is not as it was written.

    Args:
        connection: In a transaction, so that it sees one moment.
        public_key: Gives the key of the checkpoints; asked only where there are some.
    """
    faults: list[Fault] = []
    good: list[Checkpoint] = []
    try:
        stored = connection.execute(_database.QUESTIONS["checkpoints"], (0,)).fetchall()
        if stored:
            good, broken = sound(stored, public_key())
            faults += [Fault("checkpoint", "", number, number, detail) for number, detail in broken]
        streams = _database.streams(connection)
        # By name: their numbers are in the order in which they were first written.
        for stream in sorted(streams, key=lambda stream: stream.name):
            faults += _stream(connection, stream, good)
        faults += _strangers(connection, streams, good)
        faults += _blobs(connection)
        if not any(fault.kind == "unreadable" for fault in faults):
            faults += _pages(connection)
    except _database.BROKEN as error:
        faults.append(Fault("unreadable", "", 0, 0, f"SQLite cannot read on: {error}"))
    return faults


def _stream(
    connection: sqlite3.Connection, stream: _database.StreamRow, good: Sequence[Checkpoint]
) -> list[Fault]:
    faults = []
    at = stream.first - 1

    def rows() -> Iterator[Stored]:
        nonlocal at
        for row in _database.read_stored(connection, stream.id, stream.first):
            yield row
            at = row.sequence

    end = Anchor(stream.length, stream.head, "the end of the stream")
    try:
        kept = _database.format_of(connection) > 1
        heads = _index.anchors(connection, stream.id) if kept else None
        beginning = Beginning(stream.first, signed_cut(good, stream.name), heads)
        for fault in verify_stream(stream.name, rows(), end, anchors(good, stream.name), beginning):
            # What was found before SQLite fails is kept.
            faults.append(fault)  # noqa: PERF402
    except _database.BROKEN as error:
        last = max(stream.length, at + 1)
        faults.append(
            Fault("unreadable", stream.name, at + 1, last, f"SQLite cannot read these events: {error}")
        )
    return faults


def _strangers(
    connection: sqlite3.Connection, streams: Sequence[_database.StreamRow], good: Sequence[Checkpoint]
) -> Iterator[Fault]:
    """Streams that are sealed but gone, and events of streams that never were."""
    names, known = {stream.name for stream in streams}, {stream.id for stream in streams}
    for name in sorted({name for checkpoint in good for name in checkpoint.heads} - names):
        cut = signed_cut(good, name)
        yield from verify_stream(name, [], None, anchors(good, name), Beginning(cut, cut))
    at = -(1 << 63)
    while (row := connection.execute(_database.QUESTIONS["next stream"], (at,)).fetchone()) is not None:
        number, sequence = divmod(row[0], 1 << SEQUENCE_BITS)
        if number not in known:
            yield Fault("added", "", sequence, sequence, f"events of a stream {number} that does not exist")
        at = (number + 1) << SEQUENCE_BITS


def _pages(connection: sqlite3.Connection) -> Iterator[Fault]:
    """What SQLite finds in its pages, those of keys and times among them, which no chain covers."""
    for (said,) in connection.execute("PRAGMA integrity_check(1)"):
        if said != "ok":
            yield Fault("unreadable", "", 0, 0, f"SQLite's pages do not fit together: {said}")


def _blobs(connection: sqlite3.Connection) -> Iterator[Fault]:
    for digest, data in _database.blobs(connection):
        try:
            _chain.check_digest(digest, data)
        except ValueError as error:
            yield Fault("changed", "", 0, 0, f"a blob: {error}")
