"""Changing a store behind the journal's back."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from capsa.journal import Fault, SqliteJournal, _chain
from capsa.journal.sqlite._tables import SEQUENCE_BITS


class Tampered:
    """A copy of a store that can be changed with SQL."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = sqlite3.connect(folder / "store.sqlite", isolation_level=None)

    def __call__(self, statement: str, *values: Any) -> list[Any]:
        return self._database.execute(statement, values).fetchall()

    def id(self, sequence: int, stream: str = "acme") -> int:
        [[number]] = self("SELECT id FROM stream WHERE name = ?", stream)
        return int(number << SEQUENCE_BITS) + sequence

    def copy_event(self, source: int, to: int) -> None:
        self(
            "INSERT INTO event (id, time_ms, origin, checksum, salt, payload, digest) "
            "SELECT ?, time_ms, origin, checksum, salt, payload, digest FROM event WHERE id = ?",
            self.id(to),
            self.id(source),
        )

    def close(self) -> None:
        self._database.close()

    def faults(self, public_key: bytes | None = None) -> list[Fault]:
        """What `verify` says once the store is opened with the change."""
        self.close()
        with SqliteJournal(self.folder) as journal:
            return journal.verify(public_key)

    def found(self) -> list[tuple[str, str, int, int]]:
        return [(fault.kind, fault.stream, fault.first, fault.last) for fault in self.faults()]


def rewrite(tampered: Tampered, *, last: int | None = None, forged: int | None = None) -> None:
    """Computes the chain of `acme` anew, as somebody could who knows the format.

    Args:
        tampered: Where.
        last: The stream ends here.
        forged: The event that gets another payload.
    """
    [[length, first]] = tampered("SELECT length, first FROM stream WHERE name = 'acme'")
    last = length if last is None else last
    tampered("DELETE FROM event WHERE id BETWEEN ? AND ?", tampered.id(last + 1), tampered.id(length))
    if forged is not None:
        tampered("UPDATE event SET payload = x'66' WHERE id = ?", tampered.id(forged))
    rows = tampered(
        "SELECT e.id, time_ms, schema, type, principal, path, salt, payload, digest FROM event e "
        "JOIN origin o ON o.id = origin WHERE e.id BETWEEN ? AND ? ORDER BY e.id",
        tampered.id(first),
        tampered.id(last),
    )
    anchors = dict(tampered("SELECT event, head FROM anchor"))
    head = anchors.get(tampered.id(first), _chain.NO_HEAD)
    for sequence, (number, time_ms, *origin, salt, payload, erased) in enumerate(rows, first):
        schema, type_, principal, path = origin
        digest = erased or _chain.salted_digest(salt, payload)
        header = _chain.Header(schema, "acme", type_, principal, path).encode(time_ms, sequence, digest)
        if number in anchors:
            tampered("UPDATE anchor SET head = ? WHERE event = ?", head, number)
        head = _chain.next_head(head, header)
        tampered("UPDATE event SET checksum = ? WHERE id = ?", _chain.checksum(header), number)
    tampered("UPDATE stream SET length = ?, head = ? WHERE name = 'acme'", first + len(rows) - 1, head)
