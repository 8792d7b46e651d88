"""What operators do, and what the store does by itself; and what becomes of the process and the disk meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.simulation.calls import SUBJECTS, Callers
from tests.simulation.checks import Violated, check_journal, check_trimmed, same
from tests.simulation.happened import Changed, Created, Erased, Place, Purged, Sealed
from tests.simulation.installs import ALGORITHMS, DEFAULTS, GUEST, OFFERS, RETRIES, ROUTER, version
from tests.simulation.stage import Stage
from tests.simulation.worlds import IN_CUT, WRITES, DiskWorld, Kill, Killed

from capsa.journal import StoreUnwritable

PLACES: Final = (ROUTER, RETRIES, OFFERS, GUEST)


class Operators:
    """Operators of the store of a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def install(self, place: Place | None = None) -> None:
        """The same bytes again, or other options, another horizon, other defaults."""
        stage, model = self._stage, self._stage.model
        place = place or stage.chance.choices(PLACES, [3, 1, 2, 2])[0]
        text, expected = version(place, stage.seed, stage.chance)
        tenant = place[0]
        known = model.capsules.get(place)
        if known is None or known.file != expected:
            if tenant not in model.streams:
                stage.add(tenant, Created())
            if not any(of[0] == tenant for of in model.capsules):
                stage.add(tenant, Created())
            stage.add(tenant, expected)
        capsule = stage.store.tenant(tenant).job("default").install(text)
        same("version", capsule.version, stage.model.capsules[place].version)
        stage.synced()

    def change(self) -> None:
        """Settings that decide what becomes of later calls, and some that only move the learner."""
        stage, chance = self._stage, self._stage.chance
        place = chance.choice(list(stage.model.capsules))
        given: dict[str, Any]
        settings: dict[str, Any] = {}
        match chance.randrange(7):
            case 0 | 1:
                freeze = chance.choice([True, False, None])
                given, settings = {"rails": {"freeze": freeze}}, {"freeze": freeze}
            case 2:
                mode = chance.choice(["off", "shadow", "live", None])
                given, settings = {"mode": mode}, {"mode": mode}
            case 3:
                seconds = chance.choice([60, 7200])
                given = {"horizon": {"after_seconds": seconds}}
                # What is declared for it is part of the setting: left out, it stays as it is now.
                defaults = stage.model.capsules[place].defaults
                if place == OFFERS and chance.random() < 0.5:
                    defaults = given["horizon"]["outcome"] = chance.choice(DEFAULTS)
                settings = {"horizon_ms": seconds * 1000, "defaults": defaults}
            case 4 if chance.random() < 0.5:
                given, settings = {"max_contexts": 3}, {"max_contexts": 3}
            case 5:
                given = {"algorithm": chance.choice(ALGORITHMS)}
            case _:
                given = {"rails": {"min_exploration": chance.choice([0.02, 0.2, None])}}
        overrides = {
            f"{key}.{inner}" if key == "rails" else key: item if key == "rails" else value
            for key, value in given.items()
            for inner, item in (value.items() if key == "rails" else [("", None)])
        }
        if "horizon" in given:
            overrides["horizon"] = settings
        known = stage.model.capsules[place].overrides
        # What is in force already is no event, and waits for nothing.
        changed = any(known.get(key) != value for key, value in overrides.items())
        if changed:
            # First: where the disk is full it may be there or not.
            stage.add(place[0], Changed(place, settings, overrides))
        stage.capsule(place).update_learning(**given)
        if changed:
            stage.synced()

    def rotate(self) -> None:
        """Another key for ids from now on."""
        before = self._stage.store.rotate_keys()
        same("the number of the next key", self._stage.store.rotate_keys(), before + 1)

    def upkeep(self) -> None:
        """A round: horizons that have passed, snapshots, retention."""
        stage, model = self._stage, self._stage.model
        for passed in model.passing(stage.now_ms):
            stage.add(passed.place[0], passed)
        sealed = model.sealing(stage.now_ms)
        for tenant in sealed:
            stage.add(tenant, Sealed())
        done = stage.store.upkeep()
        same("snapshots of a round", done.snapshots, len(sealed))
        before = {tenant: stream.first for tenant, stream in model.streams.items()}
        stage.cut()
        cut = sum(stream.first - before[tenant] for tenant, stream in model.streams.items())
        same("events that a round removed", done.cut, cut)
        check_trimmed(model, stage.retention_ms, stage.now_ms)

    def purge(self) -> None:
        """Everything of the guest is gone, but that it was done."""
        stage, model = self._stage, self._stage.model
        tenant = GUEST[0]
        if tenant not in model.streams:
            return
        stream = model.streams[tenant]
        capsules, there = (
            sum(place[0] == tenant for place in model.capsules),
            stream.length - stream.first + 1,
        )
        stage.add(tenant, Purged())
        done = stage.store.purge(tenant)
        same("what was purged", (done.capsules, done.events), (capsules, there))
        stage.repeated.pop(GUEST, None)
        stage.synced()
        # Of what a crash takes nobody can tell whether it was made before or after, within one millisecond.
        stage.clock.forward(0.001)
        stage.cut()
        same("the first event of a purged tenant", stream.first, stream.length)

    def erase(self) -> None:
        """Everything about somebody is gone, but what was learned from it."""
        stage, model = self._stage, self._stage.model
        tenant = stage.chance.choice(list(model.streams))
        self.erase_of(tenant, stage.chance.choice(SUBJECTS))
        check_journal(stage.store, stage.model)

    def erase_of(self, tenant: str, subject: str) -> None:
        """Erases somebody in a tenant."""
        stage, model = self._stage, self._stage.model
        ids = model.about(tenant, subject)
        contents = model.contents(tenant, ids)
        if ids:
            # First it is on record; what is learned then no longer follows from the events alone.
            stage.add(tenant, Erased(ids))
            stage.add(tenant, Sealed())
        done = stage.store.erase_subject(subject, tenant=tenant)
        same("what was erased", (done.decisions, done.events), (len(ids), len(contents)))
        if ids:
            stage.synced()


class Failures:
    """What becomes of the process and the disk under a store."""

    def __init__(self, stage: Stage, callers: Callers, operators: Operators) -> None:
        self._stage = stage
        self._callers = callers
        self._operators = operators

    def restart(self) -> None:
        """The store is closed and opened again."""
        stage = self._stage
        before = stage.seen()
        for tenant in stage.model.closing():
            stage.add(tenant, Sealed())
        stage.world.close(stage.store)
        stage.reopen()
        same("what is seen after a restart", stage.seen(), before)
        stage.synced()

    def slow_disk(self) -> None:
        """Decisions go on while the disk takes nothing, and none is lost."""
        self._stage.world.mark(self._stage.store)
        for _ in range(self._stage.chance.randrange(1, 5)):
            self._callers.decide(waits=False)

    def crash(self) -> None:
        """The process dies before what it decided last was written. Nothing that was acknowledged is lost."""
        stage = self._stage
        stage.world.mark(stage.store)
        stage.synced()
        for _ in range(stage.chance.randrange(0, 7)):
            self._callers.decide(waits=False)
        stage.crashes += 1
        stage.ended()

    def kill(self) -> None:
        """The process is killed in the middle of a round, a purge, an erasure, an install, or closing."""
        stage, chance = self._stage, self._stage.chance
        where = chance.choice(["any", "any", "any", IN_CUT, *WRITES])
        operators = self._operators
        work = chance.choices(
            [operators.upkeep, operators.purge, self._erase, operators.install, self._close],
            [6, 2, 3, 1, 2],
        )[0]
        stage.world.mark(stage.store)
        stage.synced()
        stage.world.kill = Kill(where, chance.randrange(1, 6) if where in ("any", "append", "erase") else 1)
        try:
            work()
        except Killed:
            stage.kills += 1
            stage.erasing = work == self._erase
            stage.ended()
            if stage.erasing:
                self._erase_again()
            return
        finally:
            stage.world.kill = None
        if work == self._close:
            stage.reopen()

    def _close(self) -> None:
        stage = self._stage
        for tenant in stage.model.closing():
            stage.add(tenant, Sealed())
        stage.world.close(stage.store)
        stage.synced()

    def _erase(self) -> None:
        stage = self._stage
        self._erasing = stage.chance.choice(list(stage.model.streams)), stage.chance.choice(SUBJECTS)
        self._operators.erase_of(*self._erasing)

    def _erase_again(self) -> None:
        """Whoever erases again after the process died comes to the end: nothing of it is left."""
        stage, (tenant, subject) = self._stage, self._erasing
        before = stage.store.journal.length(tenant)
        stage.store.erase_subject(subject, tenant=tenant)
        stage.store.journal.flush()
        ids = stage.model.about(tenant, subject)
        for event in list(stage.store.journal.read(tenant, before)):
            stage.add(tenant, Erased(ids) if event.type == "erased" else Sealed())
        same("what is left about a subject", stage.model.about(tenant, subject), frozenset())
        stage.synced()
        stage.erasing = False
        check_journal(stage.store, stage.model)

    def fill_disk(self) -> None:
        """The disk is full for a while; whoever was answered until then was answered rightly."""
        stage, world = self._stage, self._stage.world
        assert isinstance(world, DiskWorld)
        # The limit would hold for the memory that the first call of a component maps, too.
        for place in (ROUTER, RETRIES):
            self._callers.decide(place, waits=False)
        stage.store.journal.flush()
        stage.synced()
        actions: list[Callable[[], object]] = [
            lambda: self._callers.decide(waits=False),
            lambda: self._callers.decide(waits=False),
            self._callers.explicit,
            self._operators.change,
        ]
        with world.full(stage.chance.randrange(0, 40_000)):
            try:
                for _ in range(stage.chance.randrange(1, 30)):
                    stage.chance.choice(actions)()
                    stage.clock.forward(stage.chance.choice([0.0, 1.0, 60.0]))
                    self._callers.post_due()
            except StoreUnwritable:
                stage.full += 1
            else:
                return
        world.close(stage.store)
        stage.clock.forward(0.001)
        stage.store = stage.opened()
        stage.repeated.clear()
        lengths = {tenant: stage.store.journal.length(tenant) for tenant in stage.store.journal.streams()}
        for tenant, length in stage.model.lengths().items():
            if not stage.durable.get(tenant, 0) <= lengths[tenant] <= length:
                raise Violated(f"{lengths} events, not {stage.durable} to {stage.model.lengths()}")
        stage.go_on_with(lengths)
