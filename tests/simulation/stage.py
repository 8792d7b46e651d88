"""What everything in one life shares: its clock, its chances, the store of now, and the model beside it."""

from __future__ import annotations

import collections
import heapq
import itertools
import random
from typing import Any

import msgspec
from tests.reference.clock import Clock
from tests.simulation.checks import (
    Violated,
    capsule_at,
    check_cut,
    check_journal,
    check_rebuild,
    check_reports,
    check_start,
    same,
)
from tests.simulation.happened import Decided, Happened, Place, Post
from tests.simulation.model import Model
from tests.simulation.worlds import World

import capsa

#: Of a store that cuts off what is old: all of them shorter than what it must keep for feedback.
RETENTIONS_MS = (None, 3_600_000, 60_000)


class Stage:
    """A store in its world, through all its restarts.

    Args:
        seed: Everything follows from it.
        world: Where it takes place.
    """

    def __init__(self, seed: int, world: World) -> None:
        self.seed = seed
        self.world = world
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.model = Model()
        self.retention_ms = self.chance.choice(RETENTIONS_MS)
        #: Events that are certainly on disk.
        self.durable: dict[str, int] = {}
        self.lives = self.crashes = self.kills = self.lost = self.full = 0
        self.repeated: collections.Counter[Place] = collections.Counter()
        #: Posts to come: when, a number that breaks ties, and what.
        self.posts: list[tuple[int, int, Place, str, Post]] = []
        self._numbers = itertools.count()
        #: What the last recorded post of each decision was answered.
        self.answers: dict[str, capsa.Feedback] = {}
        #: Ids that were given, and where.
        self.given: list[tuple[Place, str]] = []
        #: Whether the process died while somebody was being erased: part of it may be left.
        self.erasing = False
        self.store = self.opened()

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms

    def capsule(self, place: Place) -> capsa.Capsule:
        return capsule_at(self.store, place)

    def add(self, tenant: str, event: Happened) -> None:
        """Something was recorded."""
        self.model.add(tenant, event, self.now_ms)

    def synced(self) -> None:
        """Somebody has waited for the disk: everything is on it."""
        self.durable = self.model.lengths()

    def post_later(self, decided: Decided, post: Post, due_ms: int) -> None:
        heapq.heappush(self.posts, (due_ms, next(self._numbers), decided.place, decided.id, post))

    def due_post(self) -> tuple[Place, str, Post] | None:
        """A post whose time has come."""
        if not self.posts or self.posts[0][0] > self.now_ms:
            return None
        _, _, place, decision_id, post = heapq.heappop(self.posts)
        return place, decision_id, post

    def opened(self) -> capsa.Store:
        self.lives += 1
        # Not the same random numbers again: those of decisions that a crash has lost would come twice.
        return self.world.open(self.clock, self.seed * 1009 + self.lives, self.retention_ms)

    def reopen(self) -> None:
        """The process is another one: repeats were counted without being recorded."""
        self.repeated.clear()
        self.store = self.opened()
        self.cut()
        self.look()
        check_start(self.store, self.model)

    def look(self) -> None:
        """The reports say what has happened."""
        check_reports(self.store, self.model, self.repeated, self.now_ms)

    def look_closely(self) -> None:
        """And the journal, and what it can be folded to."""
        self.look()
        check_journal(self.store, self.model, partly_erased=self.erasing)
        check_rebuild(self.store)

    def cut(self) -> None:
        """Takes over what retention may have cut off."""
        check_cut(self.store, self.model, self.retention_ms, self.now_ms)

    def ended(self) -> None:
        """The process has died. What is opened next has the first events of each stream, and what was synced."""
        self.world.kill = None
        before = self.model
        self.world.crash(self.store)
        # It takes a moment. So what is recorded next is younger than what is lost.
        self.clock.forward(0.001)
        self.repeated.clear()
        self.store = self.opened()
        found = {tenant: self.store.journal.length(tenant) for tenant in self.store.journal.streams()}
        for tenant, length in before.lengths().items():
            if not self.durable.get(tenant, 0) <= found.get(tenant, 0) <= length:
                raise Violated(f"{found} events, not {self.durable} to {before.lengths()}")
        self.go_on_with(found)

    def go_on_with(self, lengths: dict[str, int]) -> None:
        """What is open now has exactly the first events."""
        before = self.model
        self.model = before.until(lengths)
        self.lost += sum(
            isinstance(event, Decided)
            for tenant, stream in before.streams.items()
            for _, event in stream.events[lengths.get(tenant, 0) :]
        )
        self.synced()
        self.cut()
        self.look_closely()
        check_start(self.store, self.model)

    def seen(self) -> list[object]:
        """Everything that a reader sees, but for repeats."""
        seen: list[object] = []
        for place in self.model.capsules:
            capsule = self.capsule(place)
            report: dict[str, Any] = capsule.report().to_dict()
            del report["feedback"]["repeated"], report["sequence"]
            seen.append((capsule.state_hash, report, capsule.contexts(), capsule.learning, capsule.version))
        return seen

    def check_repeated(self, decision_id: str, answer: capsa.Feedback) -> None:
        """As it was answered first; what it did to each strategy, and to the learner's version, is not kept for ever."""
        if decision_id not in self.answers:
            return
        expected = msgspec.structs.replace(
            self.answers[decision_id],
            status="repeated",
            decisions=answer.decisions,
            learner_version=answer.learner_version,
        )
        same("the repeated answer", answer, expected)
