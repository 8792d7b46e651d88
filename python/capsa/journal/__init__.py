"""The journal: an append-only list of events from which everything else is folded."""

from capsa.errors import (
    NetworkFileSystem,
    NotAStore,
    StoreBusy,
    StoreDamaged,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreTooNew,
    StoreUnwritable,
    UnknownBlob,
    UnknownEvent,
)
from capsa.journal._checkpoint import Checkpoint
from capsa.journal._event import EVENT_TYPES, Event, timestamp
from capsa.journal._interface import FOLLOW_EVENTS, MAX_PAYLOAD_BYTES, Journal
from capsa.journal._memory import MemoryJournal
from capsa.journal._verify import Fault
from capsa.journal.sqlite import (
    Backup,
    Inspection,
    Restored,
    SqliteJournal,
    backup,
    inspect,
    restore,
    sync_folder,
)

__all__ = [
    "EVENT_TYPES",
    "FOLLOW_EVENTS",
    "MAX_PAYLOAD_BYTES",
    "Backup",
    "Checkpoint",
    "Event",
    "Fault",
    "Inspection",
    "Journal",
    "MemoryJournal",
    "NetworkFileSystem",
    "NotAStore",
    "Restored",
    "SqliteJournal",
    "StoreBusy",
    "StoreDamaged",
    "StoreFull",
    "StoreLocked",
    "StoreReadOnly",
    "StoreTooNew",
    "StoreUnwritable",
    "UnknownBlob",
    "UnknownEvent",
    "backup",
    "inspect",
    "restore",
    "sync_folder",
    "timestamp",
]
