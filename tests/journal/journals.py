"""The journals that there are, each to be opened and filled in the same way."""

from __future__ import annotations

from pathlib import Path

from capsa.journal import Event, Journal, MemoryJournal, SqliteJournal

KINDS = ["memory", "sqlite"]


def open_journal(kind: str, folder: Path) -> Journal:
    return MemoryJournal() if kind == "memory" else SqliteJournal(folder / "store")


def add(
    journal: Journal, stream: str = "acme", payload: bytes = b"\xa0", time_ms: int = 1, type_: str = "decided"
) -> Event:
    return journal.append(stream, type_, time_ms, "local", "default/router", payload)


def fill(journal: Journal, types: str, stream: str = "acme") -> None:
    """Appends an event for each letter: a decision, a snapshot (s), a purge (p)."""
    for number, letter in enumerate(types):
        type_ = {"s": "snapshot_sealed", "p": "purged"}.get(letter, "decided")
        add(journal, stream, b"%d" % number, type_=type_)
    journal.flush()
