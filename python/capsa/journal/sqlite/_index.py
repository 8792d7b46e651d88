"""What stands beside the events so that it is found at once: keys that count once, times, places to cut at.

All of it is written in the transaction of its event.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from capsa.journal import _claims
from capsa.journal._errors import damaged
from capsa.journal._event import Event
from capsa.journal.sqlite import _database
from capsa.journal.sqlite._tables import SEQUENCE_BITS

#: Rows that one transaction removes at most, so that nobody waits long for it.
STEP_ROWS = 2000


def _settle(rows: int) -> str:
    # By the pairs alone SQLite would look at all rows.
    times, pairs = ", ".join(["?"] * rows), ", ".join(["(?, ?)"] * rows)
    return f"DELETE FROM due WHERE at_ms IN ({times}) AND (at_ms, event) IN (VALUES {pairs})"  # noqa: S608


#: Every question whose cost must not grow with the number of events; a test looks at their plans.
QUESTIONS: Final = {
    "claims": "SELECT key, event FROM once WHERE key >= ? AND key < ? ORDER BY key",
    "release": "DELETE FROM once WHERE key IN (SELECT key FROM once WHERE key < ? ORDER BY key LIMIT ?)",
    "due": """
SELECT d.at_ms, d.event, e.id, e.time_ms, e.payload, o.schema, o.type, o.principal, o.path
FROM due d LEFT JOIN event e ON e.id = d.event LEFT JOIN origin o ON o.id = e.origin
WHERE (d.at_ms, d.event) > (?, ?) AND d.at_ms <= ? ORDER BY d.at_ms, d.event LIMIT ?""",
    "settle": _settle(2),
    "anchors": "SELECT event, head FROM anchor WHERE event >= ? AND event < ? ORDER BY event",
    "anchor": "SELECT 1 FROM anchor WHERE event = ?",
    "drop anchors": "DELETE FROM anchor WHERE event >= ? AND event < ?",
    "begin": "UPDATE stream SET first = ? WHERE id = ?",
    "cut": "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)",
    "left": "SELECT 1 FROM event WHERE id >= ? AND id < ? LIMIT 1",
}
# One statement a row would give the interpreter away each time, see `_database`.
_SETTLED_AT_ONCE: Final = 256

insert_anchors = _database.Insert("anchor", "event", "head")
_insert_once = _database.Insert("once", "key", "event")
insert_due = _database.Insert("due", "at_ms", "event")


def insert_once(connection: sqlite3.Connection, folder: Path, values: Sequence[Any]) -> None:
    """Adds keys that count once: key and event, one after the other.

    Raises:
        StoreDamaged: One is taken.
    """
    try:
        _insert_once(connection, values)
    except sqlite3.IntegrityError as error:
        raise damaged(folder, _claims.TAKEN) from error


def settle(connection: sqlite3.Connection, rows: Sequence[tuple[int, int]]) -> None:
    """Removes times that are dealt with: due time and event."""
    for at in range(0, len(rows), _SETTLED_AT_ONCE):
        part = rows[at : at + _SETTLED_AT_ONCE]
        values = [at_ms for at_ms, _ in part] + [value for row in part for value in row]
        connection.execute(_settle(len(part)), values)


class Due(NamedTuple):
    """A time that has come, and what there is of its event: ``None`` where that is gone."""

    at_ms: int
    number: int
    found: int | None
    time_ms: int
    payload: bytes | None
    schema: int | None
    type: str
    principal: str
    path: str

    @property
    def stream_id(self) -> int:
        """The number of its stream."""
        return self.number >> SEQUENCE_BITS

    @property
    def sequence(self) -> int:
        """Its place in the stream."""
        return self.number & (1 << SEQUENCE_BITS) - 1

    def event(self, folder: Path, stream: str | None) -> Event:
        """The event, of a stream with this name.

        Raises:
            StoreDamaged: It is gone.
        """
        if stream is None or self.found is None or self.schema is None:
            raise damaged(folder, f"event {self.sequence} of stream {stream!r} is due and not there")
        return Event(
            self.schema,
            stream,
            self.sequence,
            self.time_ms,
            self.type,
            self.principal,
            self.path,
            b"" if self.payload is None else self.payload,
            self.payload is None,
        )


def due(connection: sqlite3.Connection, after: tuple[int, int], until_ms: int, limit: int) -> list[Due]:
    """Times that have come, from after one on."""
    return [Due(*row) for row in connection.execute(QUESTIONS["due"], (*after, until_ms, limit))]


def claims(rows: Sequence[Sequence[Any]], stream_id: int) -> list[tuple[bytes, int]]:
    """Those of one stream among the answers to ``claims``: keys and sequences."""
    base = stream_id << SEQUENCE_BITS
    end = base + (1 << SEQUENCE_BITS)
    return [(key, event - base) for key, event in rows if base < event < end]


def release(connection: sqlite3.Connection, before: bytes) -> int:
    """Removes keys smaller than another one, one step; gives how many."""
    return connection.execute(QUESTIONS["release"], (before, STEP_ROWS)).rowcount


def anchors(connection: sqlite3.Connection, stream_id: int) -> dict[int, bytes]:
    """By sequence of the events where a stream may be cut: the heads before them."""
    base = stream_id << SEQUENCE_BITS
    rows = connection.execute(QUESTIONS["anchors"], (base, base + (1 << SEQUENCE_BITS)))
    return {event - base: head for event, head in (_database.typed(row, int, bytes) for row in rows)}


def cuttable(connection: sqlite3.Connection, stream_id: int, sequence: int) -> bool:
    """Whether a stream may be cut before an event."""
    at = (stream_id << SEQUENCE_BITS) + sequence
    return connection.execute(QUESTIONS["anchor"], (at,)).fetchone() is not None


def begin(connection: sqlite3.Connection, stream_id: int, first: int) -> None:
    """Makes an event the first of its stream. Those before it count no more, but are still there."""
    base = stream_id << SEQUENCE_BITS
    connection.execute(QUESTIONS["begin"], (first, stream_id))
    connection.execute(QUESTIONS["drop anchors"], (base, base + first))


def cut(connection: sqlite3.Connection, stream_id: int, first: int) -> int:
    """Removes events that count no more, one step; gives how many."""
    base = stream_id << SEQUENCE_BITS
    return connection.execute(QUESTIONS["cut"], (base, base + first, STEP_ROWS)).rowcount


def left(connection: sqlite3.Connection, stream_id: int, first: int) -> bool:
    """Whether there are events that count no more."""
    base = stream_id << SEQUENCE_BITS
    return connection.execute(QUESTIONS["left"], (base, base + first)).fetchone() is not None
