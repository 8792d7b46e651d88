"""Where a store lives: what a restart, a crash, a slow and a full disk come to, for each journal."""

from __future__ import annotations

import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import cbor2

import capsa
from capsa.journal import Journal, MemoryJournal, StoreUnwritable


class World(Protocol):
    """A journal that outlives its stores."""

    def open(self, clock: Callable[[], float], seed: int) -> capsa.Store:
        """A store over what is recorded."""

    def close(self, store: capsa.Store) -> None:
        """Ends a store. What it recorded stays."""

    def stalled(self) -> AbstractContextManager[None]:
        """The disk takes nothing meanwhile. Whoever waits for it would wait for ever."""

    def crash(self) -> None:
        """While the disk is stalled: what is opened next has what was written before. Then close the store."""

    def end(self) -> None:
        """The world is over."""


class MemoryWorld:
    """A journal in memory, and stores that fold it."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._journal: Journal = MemoryJournal()
        self._lengths: dict[str, int] = {}

    def open(self, clock: Callable[[], float], seed: int) -> capsa.Store:
        return capsa.Store(self._journal, principal="local", cache_dir=self._cache, clock=clock, seed=seed)

    def close(self, store: capsa.Store) -> None:
        """Not `store.close`: it would end the journal too."""

    @contextmanager
    def stalled(self) -> Iterator[None]:
        self._lengths = {stream: self._journal.length(stream) for stream in self._journal.streams()}
        yield

    def crash(self) -> None:
        before, self._journal = self._journal, MemoryJournal()
        for stream, length in self._lengths.items():
            for event in before.read(stream, limit=length):
                if event.type == "installed":
                    digest = cbor2.loads(event.payload)["digest"]
                    self._journal.put_blob(digest, before.blob(digest))
                self._journal.append(
                    event.stream, event.type, event.time_ms, event.principal, event.path, event.payload
                )

    def end(self) -> None:
        self._journal.close()


class DiskWorld:
    """A journal in a folder. A crash goes on in a copy, taken while nothing was being written."""

    def __init__(self, home: Path, cache: Path) -> None:
        self._home = home
        self._cache = cache
        self._lives = 0
        self._folder = home / "store-0"

    def open(self, clock: Callable[[], float], seed: int) -> capsa.Store:
        return capsa.open(self._folder, cache_dir=self._cache, clock=clock, seed=seed)

    def close(self, store: capsa.Store) -> None:
        # After the disk was full the store says once more that it could not write.
        with suppress(StoreUnwritable):
            store.close()
        # Of a store that crashed, the folder that it had.
        for folder in self._home.glob("store-*"):
            if folder != self._folder:
                shutil.rmtree(folder)

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """The writing thread waits for a lock on the database, as it would for a slow disk."""
        database = self._folder / "store.sqlite"
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def crash(self) -> None:
        self._lives += 1
        copy = self._home / f"store-{self._lives}"
        # The lock ends with its process.
        shutil.copytree(self._folder, copy, ignore=shutil.ignore_patterns("lock"))
        self._folder = copy

    @contextmanager
    def full(self, room_bytes: int) -> Iterator[None]:
        """No file grows beyond what the log has now, and a little more. It holds for the whole process."""
        log = self._folder / "store.sqlite-wal"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + room_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def end(self) -> None:
        shutil.rmtree(self._home)
