"""A journal in a folder on disk."""

from __future__ import annotations

import atexit
import ctypes
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from capsa.errors import CapsaError, StoreClosed, StoreDamaged, StoreForked
from capsa.journal import _chain
from capsa.journal._checkpoint import Checkpoint, decode, digest_of, sign
from capsa.journal._errors import damaged, unknown_blob, unknown_event, unwritable
from capsa.journal._event import Event
from capsa.journal._interface import FOLLOW_EVENTS, MAX_BLOB_BYTES
from capsa.journal._verify import Fault
from capsa.journal.sqlite import _database, _keys
from capsa.journal.sqlite._folder import StoreFolder
from capsa.journal.sqlite._verify import verify_database
from capsa.journal.sqlite._writer import Stream, Writer, again

#: Events that are read at once. Between pages no transaction is open, so that the log can be used again.
_PAGE_EVENTS: Final = 1000

#: Those that are open. One that nobody refers to any more still has events to write, and holds its lock.
_OPEN: set[SqliteJournal] = set()


class SqliteJournal:
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

    def __init__(self, folder: str | Path) -> None:
        self._folder = StoreFolder(Path(folder))
        #: Why it cannot be used at all: it was closed, or opened before a fork.
        self._ended: CapsaError | None = None
        self._closing = threading.Lock()
        try:
            if self._folder.new:
                _keys.make_key(self._folder.keys)
            connection = _database.open_database(self._folder)
            try:
                with _database.translated(self._folder.path):
                    last = _database.last_checkpoint(connection)
                    #: Number and digest of the last checkpoint. The writing thread's own.
                    self._sealed = (last[0], digest_of(last[1])) if last else (0, _chain.NO_HEAD)
                    self._writer = Writer(connection, self._folder.path)
            except BaseException:
                connection.close()
                raise
        except OSError as error:
            self._folder.release()
            raise unwritable(self._folder.path, error) from error
        except BaseException:
            self._folder.release()
            raise
        self._readers = _database.Readers(self._folder)
        _OPEN.add(self)

    @property
    def folder(self) -> Path:
        """The store's folder."""
        return self._folder.path

    @property
    def keys(self) -> Path:
        """The folder for what must stay secret."""
        return self._folder.keys

    @property
    def cache(self) -> Path:
        """The folder for what can be made again."""
        return self._folder.cache

    @cached_property
    def public_key(self) -> bytes:
        """As in `Journal`."""
        return _keys.public_key(self._folder.keys)

    def append(
        self, stream: str, type_: str, time_ms: int, principal: str, path: str, payload: bytes
    ) -> Event:
        """As in `Journal`."""
        if self._ended is not None:
            raise again(self._ended)
        return self._writer.append(stream, type_, time_ms, principal, path, payload)

    def wait(self, event: Event) -> None:
        """As in `Journal`."""
        self._check_not_forked()
        self._writer.wait(event)

    def flush(self) -> None:
        """As in `Journal`."""
        self._check_open()
        self._writer.flush()

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """As in `Journal`."""
        self._check_open()
        found = self._writer.stream(stream)
        if found is None:
            return iter(())
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

    def put_blob(self, digest: str, data: bytes) -> None:
        """As in `Journal`."""
        self._check_open()
        if len(data) > MAX_BLOB_BYTES:
            raise ValueError(f"a blob is at most {MAX_BLOB_BYTES} bytes, not {len(data)}")
        _chain.check_digest(digest, data)

        def put(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR IGNORE INTO blob (digest, data) VALUES (?, ?)", (digest, data))

        self._writer.run(put, len(data))

    def blob(self, digest: str) -> bytes:
        """As in `Journal`."""
        with self._reading() as connection:
            data = _database.read_blob(connection, digest)
            if data is None:
                raise unknown_blob(digest)
            try:
                _chain.check_digest(digest, data)
            except ValueError as error:
                raise damaged(self._folder.path, str(error)) from None
        return data

    def seal(self) -> Checkpoint:
        """As in `Journal`.

        Raises:
            StoreError: The key is gone.
            HostFault: Other users can read the key.
            StoreUnwritable: The journal failed.
        """
        self._check_open()
        key = _keys.private_key(self._folder.keys)

        def seal(connection: sqlite3.Connection) -> Checkpoint:
            heads = {stream.name: (stream.written, stream.head) for stream in self._writer.streams()}
            number, previous = self._sealed
            checkpoint = sign(
                key, number + 1, previous, {name: head for name, head in heads.items() if head[0]}
            )
            connection.execute(
                "INSERT INTO checkpoint (number, body, signature) VALUES (?, ?, ?)",
                (checkpoint.number, checkpoint.body, checkpoint.signature),
            )
            self._sealed = (checkpoint.number, checkpoint.digest)
            return checkpoint

        return self._writer.run(seal)

    def checkpoints(self, after: int = 0) -> list[Checkpoint]:
        """As in `Journal`.

        Raises:
            StoreDamaged: One of them cannot be read.
        """
        with self._reading() as connection:
            rows = connection.execute(_database.QUESTIONS["checkpoints"], (after,)).fetchall()
            try:
                return [decode(body, signature) for _, body, signature in rows]
            except ValueError as error:
                raise damaged(self._folder.path, str(error)) from error

    def erase(self, stream: str, sequence: int) -> None:
        """As in `Journal`."""
        self._check_open()

        def erase(connection: sqlite3.Connection) -> None:
            found = self._writer.stream(stream)
            if found is None or not 1 <= sequence <= found.written:
                raise unknown_event(stream, sequence)
            at = (found.id << _database.SEQUENCE_BITS) + sequence
            row = connection.execute(_database.QUESTIONS["event"], (at,)).fetchone()
            if row is None:
                raise damaged(self._folder.path, f"stream {stream!r} has lost event {sequence}")
            salt, payload = row
            if payload is not None:
                digest = _chain.salted_digest(salt, payload)
                connection.execute(_database.QUESTIONS["erase"], (digest, at))
                self._writer.scrub = True

        self._writer.run(erase)

    def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """As in `Journal`. It reads everything that is durable when it begins."""
        self._check_open()
        with self._readers.connection() as connection:
            # One transaction: otherwise what is written meanwhile would look added.
            connection.execute("BEGIN")
            return verify_database(connection, lambda: public_key or self.public_key)

    def close(self) -> None:
        """As in `Journal`."""
        if isinstance(self._ended, StoreForked):
            # It is the parent's. SQLite's connections must not even be closed here.
            return
        with self._closing:
            if self._ended is not None:
                return
            try:
                # First: the last connection to close moves the log into the database, if it may write.
                self._readers.close()
                self._writer.close()
            finally:
                self._ended = StoreClosed("this journal was closed", remedy="open it again")
                self._folder.release()
                _OPEN.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SqliteJournal {self._folder.path}>"

    def _check_open(self) -> None:
        if self._ended is not None:
            raise again(self._ended)

    def _check_not_forked(self) -> None:
        if isinstance(self._ended, StoreForked):
            raise again(self._ended)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lends a connection. Damage that is found with it ends the writing too."""
        self._check_open()
        try:
            with self._readers.connection() as connection:
                yield connection
        except StoreDamaged as error:
            self._writer.fail(error)
            raise

    def _forked(self) -> None:
        """Makes the child's copy unusable. No lock is taken: its owner may not exist here."""
        self._ended = StoreForked(
            "this journal was opened before a fork",
            remedy="open it in the process that uses it, or share one with capsa serve",
        )
        # Or the store would stay locked until the child ends too.
        self._folder.release()
        # SQLite's connections must not be closed in a child, so nothing that holds one may be freed.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


def _mark_forked() -> None:
    for journal in list(_OPEN):
        journal._forked()


def _close_open() -> None:
    for journal in list(_OPEN):
        journal.close()


os.register_at_fork(after_in_child=_mark_forked)
# The writing thread is gone when the interpreter ends, whatever is queued.
atexit.register(_close_open)
