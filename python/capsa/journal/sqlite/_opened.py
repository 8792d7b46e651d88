"""A store that is open: its folder, its connections, its keys, from opening to closing or a fork."""

from __future__ import annotations

import atexit
import ctypes
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from capsa.errors import CapsaError, StoreClosed, StoreDamaged, StoreForked
from capsa.journal import _secrets
from capsa.journal._errors import unwritable
from capsa.journal.sqlite import _database, _index, _keys
from capsa.journal.sqlite._folder import StoreFolder
from capsa.journal.sqlite._group import Stream
from capsa.journal.sqlite._seal import Seals
from capsa.journal.sqlite._writer import Writer

#: Those that are open. One that nobody refers to any more still has events to write, and holds its lock.
_OPEN: set[OpenStore] = set()


class OpenStore:
    """What a journal on disk has besides its events."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = StoreFolder(Path(folder))
        #: Why it cannot be used at all: it was closed, or opened before a fork.
        self._ended: CapsaError | None = None
        self._closing = threading.Lock()
        #: Held while a secret is made.
        self._making = threading.Lock()
        try:
            if self._folder.new:
                _keys.make_key(self._folder.keys)
            connection, self._migrated_from = _database.open_database(self._folder)
            try:
                with _database.translated(self._folder.path):
                    self._seals = Seals(connection)
                    cut = _cut_before(connection, self._seals.cuts)
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
        try:
            if _keys.of_a_copy(self._folder.keys):
                self._take_over()
        except OSError as error:
            self.close()
            raise unwritable(self._folder.path, error) from error
        except BaseException:
            self.close()
            raise
        for stream in cut:
            self._go_on_cutting(stream)

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

    @property
    def migrated_from(self) -> int | None:
        """The format that the store had before it was opened here, where that was an older one."""
        return self._migrated_from

    @cached_property
    def public_key(self) -> bytes:
        """As in `Journal`."""
        return _keys.public_key(self._folder.keys)

    def secret(self, name: str) -> bytes:
        """As in `Journal`.

        Raises:
            StoreError: It cannot be read.
            HostFault: Other users can read it.
            StoreUnwritable: It cannot be made.
        """
        self._check_open()
        _secrets.check_name(name)
        try:
            with self._making:
                return _keys.secret(self._folder.keys, name)
        except OSError as error:
            raise unwritable(self._folder.path, error) from error

    def secrets(self) -> list[str]:
        """As in `Journal`."""
        self._check_open()
        return _keys.secrets(self._folder.keys)

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

    def _take_over(self) -> None:
        """Gives a copy without keys its own, and signs what it was copied with.

        The public key is written last: a process that ends before does all of it again.
        """
        key = _keys.make_private_key(self._folder.keys)

        def vouch(connection: sqlite3.Connection) -> None:
            self._seals.since = self._seals.number + 1
            self._seals.add(connection, key, self._writer.streams())

        if self._seals.number:
            self._writer.run(vouch)
        _keys.publish(self._folder.keys, key)

    def _go_on_cutting(self, name: str) -> None:
        """Removes, beside everything else, what was left when the process ended in the middle of a cut."""
        stream = self._writer.stream(name)
        assert stream is not None

        def step(connection: sqlite3.Connection) -> None:
            if self._trim(connection, stream) == _index.STEP_ROWS:
                self._writer.post_next(step)

        self._writer.post(step)

    def _trim(self, connection: sqlite3.Connection, stream: Stream) -> int:
        """Removes events that were cut off, one step; gives how many. In the writing thread."""
        removed = _index.cut(connection, stream.id, stream.first)
        if removed < _index.STEP_ROWS:
            self._writer.scrub = True
        return removed

    def _check_open(self) -> None:
        if self._ended is not None:
            raise self._ended.again()

    def _check_not_forked(self) -> None:
        if isinstance(self._ended, StoreForked):
            raise self._ended.again()

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


def _cut_before(connection: sqlite3.Connection, cuts: Mapping[str, int]) -> list[str]:
    """The streams that were cut, and have events left that count no more.

    Only where the newest checkpoint says the same: a number that has rotted must not remove anything.
    """
    return [
        stream.name
        for stream in _database.streams(connection)
        if stream.first > 1
        and cuts.get(stream.name) == stream.first
        and _index.left(connection, stream.id, stream.first)
    ]


def _mark_forked() -> None:
    for journal in list(_OPEN):
        journal._forked()


def _close_open() -> None:
    for journal in list(_OPEN):
        journal.close()


os.register_at_fork(after_in_child=_mark_forked)
# The writing thread is gone when the interpreter ends, whatever is queued.
atexit.register(_close_open)
