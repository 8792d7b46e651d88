"""A journal in a folder on disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from capsa.errors import StoreDamaged, StoreUnwritable
from capsa.journal import _chain, _claims
from capsa.journal._checkpoint import Checkpoint
from capsa.journal._errors import damaged, unknown_event
from capsa.journal._event import Event
from capsa.journal._interface import FOLLOW_EVENTS, MAX_BLOB_BYTES
from capsa.journal._verify import Fault
from capsa.journal.sqlite import _blobs, _database, _index, _keys
from capsa.journal.sqlite._backup import Backup, Progress, backup_open
from capsa.journal.sqlite._group import Stream
from capsa.journal.sqlite._opened import OpenStore
from capsa.journal.sqlite._tables import SEQUENCE_BITS
from capsa.journal.sqlite._verify import verify_database

#: Events that are read at once. Between pages no transaction is open, so that the log can be used again.
_PAGE_EVENTS: Final = 1000


class SqliteJournal(OpenStore):
    """Events in a folder on disk, one stream per tenant. Safe to use from many threads, not after a fork.

    What it does is in `Journal`; files, format and recovery are in docs/journal.md.

    Args:
        folder: Made where there is none. One process at a time holds it.

    Raises:
        StoreLocked: Somebody else has it open.
        StoreUnsupported: It is on a network file system, or of a newer format.
        NotAStore: It holds other things.
        StoreUnwritable: It cannot be written, or is damaged.
        HostFault: It is not ours alone.
    """

    persistent: Final = True

    def append(
        self,
        stream: str,
        type_: str,
        time_ms: int,
        principal: str,
        path: str,
        payload: bytes,
        *,
        once: Sequence[bytes] = (),
        due_ms: int | None = None,
    ) -> Event:
        """As in `Journal`."""
        if self._ended is not None:
            raise self._ended.again()
        return self._writer.append(stream, type_, time_ms, principal, path, payload, once, due_ms)

    def wait(self, event: Event) -> None:
        """As in `Journal`."""
        self._check_not_forked()
        self._writer.wait(event)

    def flush(self) -> None:
        """As in `Journal`."""
        self._check_open()
        self._writer.flush()

    def when_durable(self, call: Callable[[StoreUnwritable | None], object]) -> None:
        """As in `Journal`."""
        self._check_open()
        self._writer.when_durable(call)

    def check(self) -> None:
        """As in `Journal`."""
        self._check_open()
        self._writer.check()

    @property
    def crowded(self) -> bool:
        """As in `Journal`."""
        return self._writer.crowded

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """As in `Journal`."""
        self._check_open()
        found = self._writer.stream(stream)
        if found is None:
            return iter(())
        after = max(after, found.first - 1)
        last = found.durable if limit is None else min(found.durable, after + limit)
        return self._pages(found, after, last)

    def _pages(self, stream: Stream, after: int, last: int) -> Iterator[Event]:
        while after < last:
            count = min(last - after, _PAGE_EVENTS)
            with self._reading() as connection:
                events = _database.read_events(
                    connection, self._folder.path, stream.id, stream.name, after, count
                )
            yield from events
            after += count

    def follow(self, stream: str, after: int, timeout_s: float) -> list[Event]:
        """As in `Journal`."""
        self._check_open()
        if not self._writer.grown(stream, after, timeout_s):
            return []
        return list(self.read(stream, after, FOLLOW_EVENTS))

    def length(self, stream: str) -> int:
        """As in `Journal`."""
        self._check_open()
        found = self._writer.stream(stream)
        return found.length if found else 0

    def streams(self) -> list[str]:
        """As in `Journal`."""
        self._check_open()
        return sorted(stream.name for stream in self._writer.streams())

    def durable(self, stream: str) -> int:
        """As in `Journal`."""
        self._check_open()
        found = self._writer.stream(stream)
        return found.durable if found else 0

    def claims(self, stream: str, prefix: bytes) -> list[tuple[bytes, int]]:
        """As in `Journal`."""
        if self._ended is not None:
            raise self._ended.again()
        _claims.checked_prefix(prefix)
        found = self._writer.stream(stream)
        if found is None:
            return []
        try:
            rows = self._readers.ask(_index.QUESTIONS["claims"], (prefix, _claims.behind(prefix)))
        except StoreDamaged as error:
            self._writer.fail(error)
            raise
        return _index.claims(rows, found.id) if rows else []

    def claim(self, stream: str, sequence: int, keys: Sequence[bytes]) -> None:
        """Adds keys that count once to an event that is there, durably: for stores of an older kind of events.

        Raises:
            UnknownEvent: It is not there.
            StoreDamaged: A key is taken.
        """
        self._check_open()
        checked = _claims.checked(keys)

        def claim(connection: sqlite3.Connection) -> None:
            found = self._present(stream, sequence)
            at = (found.id << SEQUENCE_BITS) + sequence
            _index.insert_once(
                connection, self._folder.path, [value for key in checked for value in (key, at)]
            )

        self._writer.run(claim)

    def release(self, before: bytes) -> int:
        """As in `Journal`."""
        self._check_open()
        return self._in_steps(lambda connection: _index.release(connection, before))

    def due(self, until_ms: int, limit: int) -> list[tuple[int, Event]]:
        """As in `Journal`."""
        found: list[tuple[int, Event]] = []
        gone: list[tuple[int, int]] = []
        after = (-1, 0)
        while len(found) < limit:
            wanted = limit - len(found)
            with self._reading() as connection:
                rows = _index.due(connection, after, until_ms, wanted)
                # Behind the question: the stream of what is written has its number.
                streams = {stream.id: stream for stream in self._writer.streams()}
                for row in rows:
                    after = row.at_ms, row.number
                    stream = streams.get(row.stream_id)
                    if stream is not None and row.sequence < stream.first:
                        gone.append(after)
                    else:
                        found.append(
                            (row.at_ms, row.event(self._folder.path, stream.name if stream else None))
                        )
            if len(rows) < wanted:
                break
        if gone:
            # Of events that were cut off. A journal that has failed can still be read.
            with suppress(StoreUnwritable):
                self._writer.post(lambda connection: _index.settle(connection, gone))
        return found

    def settle(self, rows: Sequence[tuple[int, str, int]]) -> None:
        """As in `Journal`."""
        self._check_open()
        settled = list(rows)

        def settle(connection: sqlite3.Connection) -> None:
            known = [(at_ms, self._writer.stream(stream), sequence) for at_ms, stream, sequence in settled]
            places = [
                (at_ms, (of.id << SEQUENCE_BITS) + sequence)
                for at_ms, of, sequence in known
                if of is not None
            ]
            _index.settle(connection, places)

        self._writer.post(settle)

    def put_blob(self, digest: str, data: bytes, *, wait: bool = True) -> None:
        """As in `Journal`."""
        self._check_open()
        if len(data) > MAX_BLOB_BYTES:
            raise ValueError(f"a blob is at most {MAX_BLOB_BYTES} bytes, not {len(data)}")
        _chain.check_digest(digest, data)

        def put(connection: sqlite3.Connection) -> None:
            _blobs.put(connection, digest, data)

        if wait:
            self._writer.run(put, len(data))
        else:
            self._writer.post(put, len(data))

    def drop_blobs(self, keep: Collection[str]) -> int:
        """As in `Journal`."""
        self._check_open()
        kept = frozenset(keep)
        # In the writing thread: it sees those that were queued before, too.
        steps = self._writer.run(lambda connection: _blobs.to_drop(connection, kept))
        for step in steps:
            self._writer.run(lambda connection, step=step: _blobs.drop(connection, step))  # type: ignore[misc]
        return sum(map(len, steps))

    def blob(self, digest: str) -> bytes:
        """As in `Journal`."""
        with self._reading() as connection:
            data = _database.read_blob(connection, digest)
        # Damage of the blob alone: events do not depend on it, and go on.
        return _database.checked_blob(self._folder.path, digest, data)

    def seal(self) -> Checkpoint:
        """As in `Journal`.

        Raises:
            StoreError: The key is gone.
            HostFault: Other users can read the key.
            StoreUnwritable: The journal failed.
        """
        self._check_open()
        key = _keys.private_key(self._folder.keys)
        return self._writer.run(lambda connection: self._seals.add(connection, key, self._writer.streams()))

    def checkpoints(self, after: int = 0) -> list[Checkpoint]:
        """As in `Journal`.

        Raises:
            StoreDamaged: One of them cannot be read.
        """
        with self._reading() as connection:
            return _database.read_checkpoints(connection, self._folder.path, after)

    def erase(self, stream: str, sequence: int, *, wait: bool = True) -> None:
        """As in `Journal`."""
        self._check_open()
        known = self._writer.stream(stream)
        if known is None or not known.first <= sequence <= known.length:
            raise unknown_event(stream, sequence)

        def erase(connection: sqlite3.Connection) -> None:
            found = self._present(stream, sequence)
            at = (found.id << SEQUENCE_BITS) + sequence
            row = connection.execute(_database.QUESTIONS["event"], (at,)).fetchone()
            if row is None:
                raise damaged(self._folder.path, f"stream {stream!r} has lost event {sequence}")
            salt, payload = row
            if payload is not None:
                digest = _chain.salted_digest(salt, payload)
                connection.execute(_database.QUESTIONS["erase"], (digest, at))
                self._writer.scrub = True

        if wait:
            self._writer.run(erase)
        else:
            self._writer.post(erase)

    def first(self, stream: str) -> int:
        """As in `Journal`."""
        self._check_open()
        found = self._writer.stream(stream)
        return found.first if found else 1

    def cuts(self, stream: str) -> list[int]:
        """As in `Journal`."""
        self._check_open()
        found = self._writer.stream(stream)
        if found is None or not found.id:
            return []
        with self._reading() as connection:
            return list(_index.anchors(connection, found.id))

    def cut(self, stream: str, sequence: int) -> int:
        """As in `Journal`.

        Raises:
            StoreError: The key is gone.
            HostFault: Other users can read the key.
        """
        self._check_open()
        key = _keys.private_key(self._folder.keys)

        def begin(connection: sqlite3.Connection) -> Stream:
            found = self._present(stream, sequence)
            if not _index.cuttable(connection, found.id, sequence):
                raise unknown_event(stream, sequence)
            if sequence > found.first:
                found.first = sequence
                _index.begin(connection, found.id, sequence)
                # In the same transaction: so what was cut and what is signed never disagree.
                self._seals.add(connection, key, self._writer.streams())
            return found

        found = self._writer.run(begin)
        return self._in_steps(lambda connection: self._trim(connection, found))

    def backup(self, folder: str | Path, *, keys: bool = False, progress: Progress | None = None) -> Backup:
        """As `capsa.journal.backup`, of this store while it is open. Everything goes on meanwhile.

        What was appended before is in it.
        """
        self.flush()
        return backup_open(self._reading, self._folder.path, Path(folder), keys=keys, progress=progress)

    def _in_steps(self, step: Callable[[sqlite3.Connection], int]) -> int:
        """Removes rows step by step, each in a transaction of its own; gives how many."""
        removed = 0
        while True:
            found = self._writer.run(step)
            removed += found
            if found < _index.STEP_ROWS:
                return removed

    def _present(self, stream: str, sequence: int) -> Stream:
        """The stream of an event that is there. In the writing thread."""
        found = self._writer.stream(stream)
        if found is None or not found.first <= sequence <= found.written:
            raise unknown_event(stream, sequence)
        return found

    def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """As in `Journal`. It reads everything that is durable when it begins."""
        self._check_open()
        with self._readers.connection() as connection:
            # One transaction: otherwise what is written meanwhile would look added.
            connection.execute("BEGIN")
            return verify_database(connection, lambda: public_key or self.public_key)
