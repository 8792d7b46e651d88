"""One life of a store: a random schedule under a clock that is set, held against the model at every step.

Everything follows from the seed, but for what a full disk cuts off: that depends on how SQLite lays out its pages.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

from tests.simulation import model
from tests.simulation.calls import Callers
from tests.simulation.installs import OFFERS, RETRIES, ROUTER
from tests.simulation.operations import Failures, Operators
from tests.simulation.stage import Stage
from tests.simulation.worlds import DiskWorld, MemoryWorld, World

from capsa.decisions import _ledger, _upkeep
from capsa.journal.sqlite import _index, _journal

KINDS: Final = ("memory", "disk", "full disk")


@dataclass(frozen=True)
class Lived:
    """What a life came to."""

    state_hashes: tuple[str, ...]
    events: int
    learned: int
    defaulted: int
    cut: int
    erased: int
    restarts: int
    crashes: int
    kills: int
    lost_decisions: int
    disk_full: int


def live(seed: int, kind: str, cache: Path, home: Path | None = None) -> Lived:
    """Runs one life.

    Args:
        seed: Everything follows from it.
        kind: One of `KINDS`. A full disk limits the files of the whole process: run it in one of its own.
        cache: For compiled components, shared by all lives.
        home: Where folders are made.

    Raises:
        Violated: Something does not hold.
    """
    folder = Path(tempfile.mkdtemp(prefix="life-", dir=home))
    world: World = MemoryWorld(cache) if kind == "memory" else DiskWorld(folder, cache)
    try:
        with small():
            lived = _Life(seed, world, full_disk=kind == "full disk").run()
        world.end()
    except Exception as error:
        error.add_note(f"again: bench/simulation.py --seed {seed} --kind {kind!r}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return lived


@contextmanager
def small() -> Iterator[None]:
    """What comes after many events, or goes in large steps, comes all the time and step by step."""
    with (
        patch.object(_upkeep, "SNAPSHOT_EVENTS", model.SNAPSHOT_EVENTS),
        patch.object(_upkeep, "AGED_EVENTS", model.AGED_EVENTS),
        patch.object(_upkeep, "CLOSING_EVENTS", model.CLOSING_EVENTS),
        patch.object(_upkeep, "SIGNED_EVENTS", model.SIGNED_EVENTS),
        patch.object(_upkeep, "_STEP", 3),
        patch.object(_ledger, "ROWS", 4),
        patch.object(_ledger, "FRESH", 6),
        patch.object(_index, "STEP_ROWS", 5),
        patch.object(_journal, "_PAGE_EVENTS", 16),
    ):
        yield


class _Life:
    def __init__(self, seed: int, world: World, *, full_disk: bool) -> None:
        self._stage = Stage(seed, world)
        self._callers = Callers(self._stage)
        self._operators = Operators(self._stage)
        self._failures = Failures(self._stage, self._callers, self._operators)
        self._full_disk = full_disk

    def run(self) -> Lived:
        """The whole life."""
        stage, chance = self._stage, self._stage.chance
        for place in (ROUTER, RETRIES, OFFERS):
            self._operators.install(place)
        actions: dict[Callable[[], object], int] = {
            self._callers.decide: 60,
            self._callers.explicit: 6,
            self._callers.nonsense: 4,
            self._callers.forge: 4,
            self._callers.tell: 4,
            self._operators.change: 7,
            self._operators.install: 6,
            self._operators.upkeep: 8,
            self._operators.rotate: 1,
            self._operators.purge: 1,
            self._operators.erase: 1,
            stage.look: 3,
            stage.look_closely: 1,
            self._failures.restart: 2,
            self._failures.slow_disk: 3,
            self._failures.crash: 3,
            self._failures.kill: 5,
        }
        if self._full_disk:
            actions[self._failures.fill_disk] = 12
        for _ in range(chance.randrange(20, 90)):
            chance.choices(list(actions), list(actions.values()))[0]()
            stage.clock.forward(chance.choice([0.0, 0.001, 1.0, 60.0, 600.0, 2000.0]))
            if chance.random() < 0.03:
                # Past what feedback is compared with, and what is kept for that.
                stage.clock.forward(chance.choice([30, 60, 90]) * 3600.0)
            self._callers.post_due()
        while stage.posts:
            stage.clock.forward(max(0.0, stage.posts[0][0] / 1000 - stage.clock.now_s) + 0.001)
            self._callers.post_due()
        self._operators.upkeep()
        stage.look_closely()
        self._failures.restart()
        stage.look_closely()
        capsules = stage.model.capsules
        lived = Lived(
            tuple(stage.capsule(place).state_hash for place in capsules),
            sum(stage.model.lengths().values()),
            sum(len(capsule.learned) for capsule in capsules.values()),
            sum(capsule.defaulted for capsule in capsules.values()),
            sum(stream.first - 1 for stream in stage.model.streams.values()),
            sum(row.erased for capsule in capsules.values() for row in capsule.decisions.values()),
            stage.lives - 1,
            stage.crashes,
            stage.kills,
            stage.lost,
            stage.full,
        )
        stage.world.close(stage.store)
        return lived
