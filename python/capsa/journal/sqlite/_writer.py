"""The one thread that writes a journal on disk: a commit for all that wait.

A commit costs a sync of the disk, milliseconds, however much it holds. So callers leave their
events in the *open group* and wait; the writing thread takes the whole group, writes it in one
transaction, and meanwhile the next group fills. There are never more than these two.

Invariants:
* an event is acknowledged after the commit that holds it has returned;
* a group is written whole or not at all, and groups in the order in which they were filled;
* after a failure nothing more is written or acknowledged.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from capsa.errors import CapsaError, StoreClosed, StoreUnwritable
from capsa.journal import _chain, _claims
from capsa.journal._errors import unwritable
from capsa.journal._event import EVENT_TYPES, Event
from capsa.journal._interface import MAX_PAYLOAD_BYTES
from capsa.journal.sqlite import _database, _index
from capsa.journal.sqlite._group import Group, Job, Origin, Stream
from capsa.journal.sqlite._tables import SEQUENCE_BITS

#: Most events of one transaction, and so of the queue.
GROUP_EVENTS = 2048
#: Most bytes of payload of one transaction; something larger is written by itself.
GROUP_BYTES = 4 * 1024 * 1024
#: So long what nobody waits for is gathered before it is written: a transaction costs the same for one event as for
#: many, and wakes a thread that then wants the interpreter.
LINGER_S: Final = 0.01
#: From so many events on it is written at once.
_ENOUGH: Final = GROUP_EVENTS // 4
#: Origins that are kept in memory; beyond that they are looked up anew.
_ORIGINS: Final = 10_000

T = TypeVar("T")


class Writer:
    """Writes events and whatever else changes the database.

    Args:
        connection: The one that writes. It is used by no other thread, and closed by `close`.
        folder: The store's, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self._streams = {row.name: Stream(row) for row in _database.streams(connection)}
        self._origins: dict[tuple[str, str, str, str], Origin] = {}
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        #: Whether the writing thread waits for work; whether it waits for more of it.
        self._idle = False
        self._lingering = False
        #: Whether somebody waits for the open group.
        self._wanted = False
        self._open = Group()
        self._writing: Group | None = None
        #: Why nothing more is taken: it failed or was closed.
        self._stopped: CapsaError | None = None
        self._failure: StoreUnwritable | None = None
        #: Set where something was erased that still stands in SQLite's log.
        self.scrub = False
        self._thread = threading.Thread(target=self._write_groups, name="capsa-journal", daemon=True)
        self._thread.start()

    def stream(self, name: str) -> Stream | None:
        """A stream that has events."""
        return self._streams.get(name)

    def streams(self) -> list[Stream]:
        """All streams. A copy: another thread may add one meanwhile."""
        return list(self._streams.values())

    def append(
        self,
        stream: str,
        type_: str,
        time_ms: int,
        principal: str,
        path: str,
        payload: bytes,
        once: Sequence[bytes],
        due_ms: int | None,
    ) -> Event:
        """Gives an event its place and queues it."""
        # Whatever the writing thread could stumble over is refused here.
        if type(payload) is not bytes or len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload is bytes, at most {MAX_PAYLOAD_BYTES}")
        if type(time_ms) is not int or not 0 <= time_ms < 1 << 63:
            raise ValueError(f"{time_ms!r} is not a time in milliseconds since 1970")
        size = len(payload)
        if once:
            once = _claims.checked(once)
            size += sum(map(len, once))
        if due_ms is not None:
            _claims.checked_due(due_ms)
        with self._lock:
            group = self._with_room(size)
            origin = self._origins.get((stream, type_, principal, path))
            if origin is None:
                origin = self._new_origin(stream, type_, principal, path)
            of = origin.stream
            of.length = sequence = of.length + 1
            event = Event(_chain.SCHEMA, stream, sequence, time_ms, type_, principal, path, payload)
            group.events.append((event, origin))
            group.streams[of] = None
            group.bytes += size
            if once:
                group.once += [(key, of, sequence) for key in once]
            if due_ms is not None:
                group.due.append((due_ms, of, sequence))
            if self._idle:
                self._wake()
            elif len(group.events) == _ENOUGH:
                self._want()
        return event

    def run(self, work: Callable[[sqlite3.Connection], T], size: int = 0) -> T:
        """Does something behind what was appended so far; returns once that is durable.

        Args:
            work: Runs in the writing thread, in a transaction. It may refuse with a `CapsaError` before it
                has changed anything.
            size: The bytes that it writes, where that is much.
        """
        job = Job(work)
        self._queue(job, size).wait()
        if job.refusal is not None:
            raise job.refusal
        result: T = job.result
        return result

    def post(self, work: Callable[[sqlite3.Connection], object], size: int = 0) -> None:
        """As `run`, and does not wait: it is durable before whatever is appended after it. It must not refuse."""
        self._queue(Job(work), size)

    def post_next(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """As `post`, for the writing thread itself, which must not wait for room. After the end it is dropped."""
        with self._lock:
            if self._stopped is None:
                self._open.jobs.append(Job(work))

    def _queue(self, job: Job, size: int) -> Group:
        with self._lock:
            group = self._with_room(size)
            group.jobs.append(job)
            group.bytes += size
            self._want()
            if self._idle:
                self._wake()
        return group

    def wait(self, event: Event) -> None:
        """Returns once an event is durable."""
        stream = self._streams.get(event.stream)
        if stream is None or event.sequence > stream.length:
            raise ValueError(f"event {event.sequence} of stream {event.stream!r} was not appended here")
        if event.sequence <= stream.durable:
            return
        with self._lock:
            if event.sequence <= stream.durable:
                return
            if self._failure is not None:
                raise self._failure.again()
            group = self._writing
            if event.sequence > stream.taken:
                group = self._open
                self._want()
        assert group is not None
        group.wait()

    def flush(self) -> None:
        """Returns once everything that was appended so far is durable."""
        with self._lock:
            if self._failure is not None:
                raise self._failure.again()
            group = self._last()
        if group is not None:
            group.wait()

    def when_durable(self, call: Callable[[StoreUnwritable | None], object]) -> None:
        """Calls back once everything that was appended so far is durable, or failed."""
        with self._lock:
            group = self._last()
            if self._failure is None and group is not None:
                group.called.append(call)
                return
        call(self._failure)

    def check(self) -> None:
        """Returns if events are taken."""
        if self._stopped is not None:
            raise self._stopped.again()

    @property
    def crowded(self) -> bool:
        """Whether half of what may wait does."""
        group = self._open
        return len(group.events) >= GROUP_EVENTS // 2 or group.bytes >= GROUP_BYTES // 2

    def grown(self, stream: str, after: int, timeout_s: float) -> bool:
        """Whether a stream has durable events after a sequence; waits for the first one."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                found = self._streams.get(stream)
                if found is not None and found.durable > after:
                    return True
                if self._stopped is not None:
                    raise self._stopped.again()
                group = self._writing or self._open
            left = deadline - time.monotonic()
            if left <= 0 or not group.done.wait(left):
                return False

    def fail(self, failure: StoreUnwritable) -> None:
        """Takes nothing more: the store was found damaged."""
        with self._lock:
            following = self._stop(failure)
        following.end()

    def close(self) -> None:
        """Writes what is queued, ends the thread and closes the connection. Once only.

        Raises:
            StoreUnwritable: Something could not be written.
        """
        with self._lock:
            self._stopped = self._stopped or StoreClosed("this journal was closed", remedy="open it again")
            self._wake()
            self._room.notify_all()
        self._thread.join()
        self._connection.close()
        if self._failure is not None and any(of.length > of.durable for of in self._streams.values()):
            raise self._failure.again()

    def _with_room(self, size: int) -> Group:
        """The open group, once it has room. The lock is held."""
        while True:
            if self._stopped is not None:
                raise self._stopped.again()
            group = self._open
            if not group.filled or (len(group.events) < GROUP_EVENTS and group.bytes + size <= GROUP_BYTES):
                return group
            self._want()
            self._room.wait()

    def _last(self) -> Group | None:
        """The group that what was appended last is in, for somebody who waits for it. The lock is held."""
        if not self._open.filled:
            return self._writing
        self._want()
        return self._open

    def _want(self) -> None:
        """Has the open group written without waiting for more. The lock is held."""
        self._wanted = True
        if self._lingering:
            self._work.notify()

    def _new_origin(self, stream: str, type_: str, principal: str, path: str) -> Origin:
        if type_ not in EVENT_TYPES:
            raise ValueError(f"{type_!r} is not a type of event")
        found = self._streams.get(stream)
        origin = Origin(
            found or Stream(_database.StreamRow(0, stream, 0, _chain.NO_HEAD)), type_, principal, path
        )
        if len(self._origins) >= _ORIGINS:
            self._origins.clear()
        self._origins[stream, type_, principal, path] = origin
        self._streams[stream] = origin.stream
        return origin

    def _wake(self) -> None:
        self._idle = False
        self._work.notify()

    def _write_groups(self) -> None:
        while (group := self._next_group()) is not None:
            try:
                self._commit(group)
            except BaseException as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
                self._give_up(group, error)
                return
            with self._lock:
                for stream in group.streams:
                    stream.durable = stream.written
                self._writing = None
            group.end()

    def _next_group(self) -> Group | None:
        """The open group, once there is something in it; ``None`` at the end."""
        with self._lock:
            while not self._open.filled and self._stopped is None:
                self._idle = True
                self._work.wait()
            self._idle = False
            if not self._wanted and self._stopped is None:
                self._lingering = True
                self._work.wait(LINGER_S)
                self._lingering = False
            self._wanted = False
            group = self._open
            if self._failure is not None or not group.filled:
                group.done.set()
                return None
            self._open = Group()
            self._writing = group
            for stream in group.streams:
                stream.taken = stream.length
            self._room.notify_all()
        return group

    def _commit(self, group: Group) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        for stream in group.streams:
            if not stream.id:
                stream.id = _database.new_stream(connection, stream.name, _chain.NO_HEAD)
        values, anchors = self._chained(group.events)
        _database.insert_events(connection, values)
        if anchors:
            _index.insert_anchors(connection, anchors)
        if group.once:
            _index.insert_once(connection, self._folder, _numbered(group.once))
        if group.due:
            _index.insert_due(connection, _numbered(group.due))
        for stream in group.streams:
            connection.execute(_database.QUESTIONS["grow"], (stream.written, stream.head, stream.id))
        for job in group.jobs:
            job.run(connection)
        connection.execute("COMMIT")
        if self.scrub:
            self._empty_log()

    def _chained(self, events: Sequence[tuple[Event, Origin]]) -> tuple[list[Any], list[Any]]:
        """The values of events, and of places to cut at, for their tables.

        What each event costs the writing thread, it costs here.
        """
        values: list[Any] = []
        anchors: list[Any] = []
        salts = os.urandom(_chain.SALT_BYTES * len(events))
        at = 0
        for event, origin in events:
            stream = origin.stream
            if not origin.id:
                origin.id = _database.origin(
                    self._connection, _chain.SCHEMA, origin.type, origin.principal, origin.path
                )
            salt = salts[at : at + _chain.SALT_BYTES]
            at += _chain.SALT_BYTES
            sequence, time_ms, payload = event.sequence, event.time_ms, event.payload
            header = origin.header.encode(time_ms, sequence, _chain.salted_digest(salt, payload))
            number = (stream.id << SEQUENCE_BITS) + sequence
            if origin.cuttable:
                anchors += (number, stream.head)
            stream.head = _chain.next_head(stream.head, header)
            stream.written = sequence
            values += (
                number,
                time_ms,
                origin.id,
                _chain.checksum(header),
                salt,
                payload,
            )
        return values, anchors

    def _give_up(self, group: Group, error: BaseException) -> None:
        """The commit of a group failed."""
        failure = error if isinstance(error, StoreUnwritable) else unwritable(self._folder, error)
        failure.__cause__ = None if failure is error else error
        try:
            if self._connection.in_transaction:
                self._connection.rollback()
        except sqlite3.Error as second:
            # What was not committed is gone when the store is opened again.
            failure.add_note(f"rolling back failed too: {second}")
        with self._lock:
            following = self._stop(failure)
            self._writing = None
        group.failure = self._failure
        group.end()
        following.end()

    def _stop(self, failure: StoreUnwritable) -> Group:
        """Ends what was not begun yet, and gives it. The lock is held."""
        self._failure = self._failure or failure
        self._stopped = self._failure
        following = self._open
        following.failure = self._failure
        self._work.notify()
        self._room.notify_all()
        return following

    def _empty_log(self) -> None:
        """Makes sure that what was erased no longer stands in SQLite's log."""
        # A reader may be in the way, and must not hold up those who write: then after the next group.
        self._connection.execute("PRAGMA busy_timeout = 0")
        [busy, _, _] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._connection.execute(f"PRAGMA busy_timeout = {_database.BUSY_TIMEOUT_MS}")
        self.scrub = bool(busy)


def _numbered(rows: Sequence[tuple[object, Stream, int]]) -> list[Any]:
    """The values of rows that belong to events: the first one, and the event's number."""
    values: list[Any] = []
    for value, of, sequence in rows:
        values += (value, (of.id << SEQUENCE_BITS) + sequence)
    return values
