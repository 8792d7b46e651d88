"""A journal in a folder on disk, kept by SQLite."""

from capsa.journal.sqlite._backup import Backup, Restored, backup, restore
from capsa.journal.sqlite._folder import sync_folder
from capsa.journal.sqlite._inspect import Inspection, inspect
from capsa.journal.sqlite._journal import SqliteJournal

__all__ = ["Backup", "Inspection", "Restored", "SqliteJournal", "backup", "inspect", "restore", "sync_folder"]
