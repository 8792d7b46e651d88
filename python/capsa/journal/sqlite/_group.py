"""What goes into one transaction, and what the writer knows of its streams."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any

from capsa.errors import CapsaError, StoreUnwritable
from capsa.journal import _chain
from capsa.journal._event import CUT_TYPES, Event
from capsa.journal.sqlite import _database


class Stream:
    """What the writer knows of a stream.

    Attributes:
        name: The tenant.
        id: Its number in the database; 0 before its first event is written.
        length: Events that were given a place. The lock guards it.
        taken: Events that are written or being written. The lock guards it.
        durable: Events that are on disk. The lock guards it.
        written: Events in the database. The writing thread's own.
        head: Its head after `written` events. The writing thread's own.
        first: The first event that was not cut off. The writing thread changes it.
    """

    __slots__ = ("durable", "first", "head", "id", "length", "name", "taken", "written")

    def __init__(self, row: _database.StreamRow) -> None:
        self.id, self.name, self.length, self.head, self.first = row
        self.taken = self.durable = self.written = row.length


class Origin:
    """What events of one stream, type, principal and path have in common."""

    __slots__ = ("cuttable", "header", "id", "path", "principal", "stream", "type")

    def __init__(self, stream: Stream, type_: str, principal: str, path: str) -> None:
        self.stream, self.type, self.principal, self.path = stream, type_, principal, path
        self.header = _chain.Header(_chain.SCHEMA, stream.name, type_, principal, path)
        self.cuttable = type_ in CUT_TYPES
        self.id = 0


class Job:
    """Something else to be done in a transaction."""

    __slots__ = ("_work", "refusal", "result")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self._work = work
        self.result: Any = None
        self.refusal: CapsaError | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Does it. A refusal is the caller's, and has changed nothing; anything else is the journal's."""
        try:
            self.result = self._work(connection)
        except StoreUnwritable:
            raise
        except CapsaError as refusal:
            self.refusal = refusal


class Group:
    """What goes into one transaction."""

    __slots__ = ("bytes", "called", "done", "due", "events", "failure", "jobs", "once", "streams")

    def __init__(self) -> None:
        self.events: list[tuple[Event, Origin]] = []
        #: In the order of their first event: a dict, for a set has none.
        self.streams: dict[Stream, None] = {}
        #: Keys that count once, and times to be looked at, with stream and sequence of their event.
        self.once: list[tuple[bytes, Stream, int]] = []
        self.due: list[tuple[int, Stream, int]] = []
        self.jobs: list[Job] = []
        self.bytes = 0
        self.done = threading.Event()
        self.failure: StoreUnwritable | None = None
        #: Who is called once it is done. The writer's lock guards it.
        self.called: list[Callable[[StoreUnwritable | None], object]] = []

    @property
    def filled(self) -> bool:
        return bool(self.events or self.jobs)

    def wait(self) -> None:
        self.done.wait()
        if self.failure is not None:
            raise self.failure.again()

    def end(self) -> None:
        """Tells all who wait. Nobody can join them any more: it is not open, and not being written."""
        self.done.set()
        for call in self.called:
            call(self.failure)
