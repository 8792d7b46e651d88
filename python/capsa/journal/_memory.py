"""A journal in memory: it ends with the process, and says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from capsa import _native
from capsa.journal._event import EVENT_TYPES, Event


class MemoryJournal:
    """Events in memory, one stream per tenant. Safe to use from many threads."""

    def __init__(self) -> None:
        self._streams: dict[str, list[Event]] = {}
        self._lock = threading.Lock()

    def append(
        self, stream: str, type_: str, time_ms: int, principal: str, path: str, payload: bytes
    ) -> Event:
        """Adds one event and gives it its place in the stream."""
        if type_ not in EVENT_TYPES:
            raise ValueError(f"{type_!r} is not a type of event")
        with self._lock:
            events = self._streams.setdefault(stream, [])
            event = Event(
                _native.EVENT_SCHEMA,
                stream,
                len(events) + 1,
                time_ms,
                type_,
                principal,
                path,
                payload,
            )
            events.append(event)
        return event

    def read(self, stream: str, after: int = 0) -> Iterator[Event]:
        """The events of one stream in order, from after a sequence number."""
        events = self._streams.get(stream, [])
        for at in range(after, len(events)):
            yield events[at]

    def length(self, stream: str) -> int:
        """The sequence number of the stream's last event; 0 where there is none."""
        return len(self._streams.get(stream, ()))

    def streams(self) -> list[str]:
        """The names of all streams, sorted."""
        return sorted(self._streams)
