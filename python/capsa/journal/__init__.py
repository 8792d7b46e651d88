"""The journal: an append-only list of events from which everything else is folded."""

from capsa.journal._event import EVENT_TYPES, Event
from capsa.journal._memory import MemoryJournal

__all__ = ["EVENT_TYPES", "Event", "MemoryJournal"]
