"""A journal in a folder on disk, kept by SQLite."""

from capsa.journal.sqlite._journal import SqliteJournal

__all__ = ["SqliteJournal"]
