"""Where a store lives: what a restart, a crash, a kill, a slow and a full disk come to, for each journal."""

from __future__ import annotations

import copy
import resource
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import capsa
from capsa.journal import Journal, MemoryJournal, SqliteJournal, StoreUnwritable

#: What changes a journal: before each of them the process may be killed.
WRITES: Final = ("append", "seal", "put_blob", "drop_blobs", "cut", "settle", "release", "erase")
#: As well as in the middle of a cut.
IN_CUT: Final = "in cut"


class Killed(BaseException):
    """The process has ended here."""


class Kill:
    """Where the process is to end: at one of many moments, counted from 1.

    Args:
        where: One of `WRITES`, or `IN_CUT`; or ``any`` of them.
        count: The how manieth of these.
    """

    def __init__(self, where: str, count: int) -> None:
        self._where = where
        self._left = count

    def comes(self, where: str) -> bool:
        """Whether this is the moment."""
        if self._where not in (where, "any"):
            return False
        self._left -= 1
        return self._left == 0


class World(Protocol):
    """A journal that outlives its stores.

    Attributes:
        kill: Where the process is to end.
    """

    kill: Kill | None

    def open(self, clock: Callable[[], float], seed: int, retention_ms: int | None) -> capsa.Store:
        """A store over what is recorded."""

    def close(self, store: capsa.Store) -> None:
        """Ends a store as a program does. What it recorded stays."""

    def mark(self, store: capsa.Store) -> None:
        """Brings everything to disk. Of what comes now, only what somebody waits for will be."""

    def crash(self, store: capsa.Store) -> None:
        """Ends a store as a power failure does: what is opened next has what was on disk, see `mark`."""

    def end(self) -> None:
        """The world is over."""


def watched(journal: Journal, point: Callable[[str], None]) -> None:
    """Lets a world kill the process before everything that changes its journal."""

    def before(name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            point(name)
            return write(*args, **kwargs)

        return call

    for name in WRITES:
        setattr(journal, name, before(name, getattr(journal, name)))


class LastingJournal(MemoryJournal):
    """A journal in memory that outlives its stores."""

    persistent = True  # type: ignore[misc]

    def close(self) -> None:
        """It stays."""

    def copy(self) -> LastingJournal:
        """As it is now."""
        other = LastingJournal()
        for name, value in vars(MemoryJournal()).items():
            if isinstance(value, dict | list):
                setattr(other, name, copy.copy(getattr(self, name)))
        other._streams = {name: _copied(stream) for name, stream in self._streams.items()}
        # The key that checkpoints are signed with.
        vars(other)["_key"] = self._key
        return other


def _copied(stream: Any) -> Any:
    other = copy.copy(stream)
    for name, value in vars(other).items():
        if isinstance(value, dict | list):
            setattr(other, name, copy.copy(value))
    return other


class MemoryWorld:
    """A journal in memory, and stores that fold it."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._journal = LastingJournal()
        self._marked = self._journal
        self.kill: Kill | None = None

    def open(self, clock: Callable[[], float], seed: int, retention_ms: int | None) -> capsa.Store:
        # The writes of another life are watched no more.
        self._journal = self._journal.copy()
        watched(self._journal, self._point)
        journal, cut = self._journal, self._journal.cut

        def cut_in_steps(stream: str, sequence: int) -> int:
            removed = cut(stream, sequence)
            self._point(IN_CUT)
            return removed

        journal.cut = cut_in_steps  # type: ignore[method-assign]
        return capsa.Store(
            journal,
            principal="local",
            cache_dir=self._cache,
            clock=clock,
            seed=seed,
            retention_ms=retention_ms,
        )

    def _point(self, where: str) -> None:
        if self.kill is not None and self.kill.comes(where):
            self._marked = self._journal.copy()
            raise Killed

    def close(self, store: capsa.Store) -> None:
        store.close()

    def mark(self, store: capsa.Store) -> None:  # noqa: ARG002 - everything is there at once
        self._marked = self._journal.copy()

    def crash(self, store: capsa.Store) -> None:  # noqa: ARG002 - its journal is left as it is
        self._journal = self._marked

    def end(self) -> None:
        """Nothing is left."""


class DiskWorld:
    """A journal in a folder, on the slowest disk: it writes while somebody waits for it, and not otherwise.

    A crash goes on in a copy, taken while nothing is being written.
    """

    def __init__(self, home: Path, cache: Path) -> None:
        self._home = home
        self._cache = cache
        self._lives = 0
        self._folder = home / "store-0"
        self._cutting = False
        #: Whether the disk writes.
        self._writes = threading.Event()
        self.kill: Kill | None = None

    def open(self, clock: Callable[[], float], seed: int, retention_ms: int | None) -> capsa.Store:
        self._writes = threading.Event()
        journal = SqliteJournal(self._folder)
        try:
            self._slow_down(journal)
            self._watch(journal)
            return capsa.Store(
                journal,
                principal="local",
                cache_dir=self._cache,
                clock=clock,
                seed=seed,
                retention_ms=retention_ms,
            )
        except BaseException:
            journal.close()
            raise

    def _slow_down(self, journal: SqliteJournal) -> None:
        """The writing thread goes on while somebody waits for it."""
        writer: Any = journal._writer
        writes, commit = self._writes, writer._commit

        def commit_when_waited_for(group: object) -> None:
            writes.wait()
            commit(group)

        def waiting(wait: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                writes.set()
                try:
                    return wait(*args)
                finally:
                    writes.clear()

            return call

        writer._commit = commit_when_waited_for
        for name in ("run", "flush", "wait", "close"):
            setattr(writer, name, waiting(getattr(writer, name)))
        when_durable = writer.when_durable

        def telling(tell: Callable[[Any], object]) -> None:
            def told(failure: Any) -> None:
                writes.clear()
                tell(failure)

            writes.set()
            when_durable(told)

        writer.when_durable = telling

    def _watch(self, journal: SqliteJournal) -> None:
        def point(where: str) -> None:
            self._cutting = where == "cut"
            self._point(journal, where)

        watched(journal, point)
        in_steps = journal._in_steps

        def stopping(step: Callable[[sqlite3.Connection], int]) -> int:
            if not self._cutting:
                return in_steps(step)
            self._cutting = False
            removed = journal._writer.run(step)
            self._point(journal, IN_CUT)
            return removed + in_steps(step)

        journal._in_steps = stopping  # type: ignore[method-assign]

    def _point(self, journal: SqliteJournal, where: str) -> None:
        if self.kill is not None and self.kill.comes(where):
            # What came before is on disk, what comes now is not.
            journal.flush()
            raise Killed

    def close(self, store: capsa.Store) -> None:
        # After the disk was full the store says once more that it could not write.
        with suppress(StoreUnwritable):
            store.close()

    def mark(self, store: capsa.Store) -> None:
        store.journal.flush()

    def crash(self, store: capsa.Store) -> None:
        self._lives += 1
        before, self._folder = self._folder, self._home / f"store-{self._lives}"
        with closing(sqlite3.connect(before / "store.sqlite", isolation_level=None)) as other:
            # Should the writing thread still be at work.
            other.execute("BEGIN IMMEDIATE")
            # The lock ends with its process.
            shutil.copytree(before, self._folder, ignore=shutil.ignore_patterns("lock"))
            other.execute("ROLLBACK")
        self.kill = None
        store.journal.close()
        shutil.rmtree(before)

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
