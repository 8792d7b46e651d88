"""A store that is closed, killed or robbed of its power, and opened again, over either journal."""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.reference.clock import Clock
from tests.simulation.worlds import DiskWorld, Kill, Killed, MemoryWorld, World

import capsa

KINDS: Final = ("memory", "disk")


@functools.cache
def _cache() -> Path:
    """For compiled components. One for all stores: each has a sandbox of its own otherwise."""
    folder = Path(tempfile.mkdtemp(prefix="compiled-"))
    atexit.register(shutil.rmtree, folder)
    return folder


class Reopened:
    """One journal, and the store over it that is open now.

    Its disk writes only while somebody waits for it: so what is on it does not depend on chance.

    Args:
        kind: One of `KINDS`.
        home: For its files.
        retention_ms: How long events are kept; ``None`` keeps all.
    """

    def __init__(self, kind: str, home: Path, retention_ms: int | None = None) -> None:
        self.clock = Clock()
        self._retention_ms = retention_ms
        self._world: World = MemoryWorld(_cache()) if kind == "memory" else DiskWorld(home, _cache())
        # Other random numbers after a crash than those that were lost.
        self._seeds = itertools.count(7)
        self.store = self._opened()

    def _opened(self) -> capsa.Store:
        return self._world.open(self.clock, next(self._seeds), self._retention_ms)

    def restart(self) -> capsa.Store:
        """Ends the process as a program does, and starts it again."""
        self._world.close(self.store)
        self.store = self._opened()
        return self.store

    def mark(self) -> None:
        """Everything is on disk. Of what comes now, only what somebody waits for will be."""
        self._world.mark(self.store)

    def crash(self) -> capsa.Store:
        """Takes the power away, and opens what is on disk; in memory, what was there at the mark."""
        self._world.crash(self.store)
        self._world.kill = None
        # As long as a start takes, at least: what was lost is older than what comes now.
        self.clock.forward(0.001)
        self.store = self._opened()
        return self.store

    @contextmanager
    def killed(self, where: str, count: int = 1) -> Iterator[None]:
        """The process ends before the so manieth write of a kind, see `tests.simulation.worlds.WRITES`.

        What was written before is on disk. If it does not come to that, it goes on.
        """
        self._world.kill = Kill(where, count)
        try:
            yield
            self._world.kill = None
        except Killed:
            self.crash()

    @property
    def router(self) -> capsa.Capsule:
        return self.store.capsule("router")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._world.kill = None
        self._world.close(self.store)


@contextmanager
def reopened(kind: str, retention_ms: int | None = None) -> Iterator[Reopened]:
    """A new one in a folder of its own: for a single example of a property."""
    home = Path(tempfile.mkdtemp(prefix="reopened-"))
    try:
        with Reopened(kind, home, retention_ms) as opened:
            yield opened
    finally:
        shutil.rmtree(home)


#: What a caller is told about an id that is not known, whatever it is.
UNKNOWN: Final = (
    "unknown-decision",
    "no decision of this capsule has this id",
    "/decisionId",
    "send the id as decide gave it, to the same capsule",
)


def said_of(capsule: capsa.Capsule, decision_id: Any) -> set[object]:
    """What a caller is told about an id by every call that takes one; nothing may have changed."""
    before = capsule.state_hash, capsule._store.journal.length(capsule._place[0])
    told: set[object] = set()
    calls = (
        lambda: capsule.feedback(decision_id, reward=0.5),
        lambda: capsule.feedback(decision_id, outcome={"quality": 0.5}, taken=None),
        lambda: capsule.story(decision_id),
        lambda: capsule.replay(decision_id),
    )
    for call in calls:
        try:
            call()
            told.add("known")
        except capsa.CapsaError as error:
            told.add((error.code, error.detail, error.pointer, error.remedy))
    assert (capsule.state_hash, capsule._store.journal.length(capsule._place[0])) == before
    return told
