"""One life of a store: a random schedule under a clock that is set, held against the model at every step.

Everything follows from the seed, but for what a full disk cuts off: that depends on how SQLite lays out its pages.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from tests.reference.clock import Clock
from tests.simulation.checks import Violated, check_answer, check_decision, check_journal, check_reports, same
from tests.simulation.model import (
    WEIGHTS,
    Changed,
    Created,
    Decided,
    Installed,
    Model,
    Post,
    Received,
    Refused,
    Repeated,
)
from tests.simulation.worlds import DiskWorld, MemoryWorld, World

import capsa
from capsa.journal import StoreUnwritable

ROUTER: Final = """\
name: router
options: [{options}]
contexts: [task]
reward: {{quality: 0.6, cost: -0.4}}
horizon: {{after: {horizon_s}s}}
algorithm: {algorithm}
"""
RETRIES: Final = """\
name: retries
strategies: {timeout: {options: [1s, 2s]}, retries: {options: ["0", "1", "3"]}}
horizon: {after: 1h}
"""
RETRIES_OPTIONS: Final = {"timeout": ["1s", "2s"], "retries": ["0", "1", "3"]}
ALGORITHMS: Final = ("thompson", "simple_weighted", "ucb1", "epsilon_greedy")
BASE: Final = ["cheap", "balanced", "dear"]
KINDS: Final = ("memory", "disk", "full disk")


@dataclass(frozen=True)
class Lived:
    """What a life came to."""

    state_hashes: tuple[str, str]
    events: int
    learned: int
    restarts: int
    crashes: int
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
        lived = _Life(seed, world, full_disk=kind == "full disk").run()
        world.end()
    except Exception as error:
        error.add_note(f"again: bench/simulation.py --seed {seed} --kind {kind!r}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return lived


class _Life:
    def __init__(self, seed: int, world: World, *, full_disk: bool) -> None:
        self._seed = seed
        self._world = world
        self._chance = random.Random(seed)
        self._clock = Clock()
        self._model = Model()
        #: Events that are certainly on disk.
        self._durable = 0
        self._lives = 0
        self._repeated = {"router": 0, "retries": 0}
        #: Posts to come: when, a number that breaks ties, and what.
        self._posts: list[tuple[int, int, str, str, Post]] = []
        self._numbers = itertools.count()
        #: What the last recorded post of each decision was answered, and in which life.
        self._answers: dict[str, tuple[int, capsa.Feedback]] = {}
        self._crashes = self._lost = self._full = 0
        self._full_disk = full_disk
        self._store = self._opened()

    def run(self) -> Lived:
        """The whole life."""
        self._install_router()
        self._install_retries()
        actions: dict[Callable[[], object], int] = {
            self._decide: 60,
            self._explicit: 6,
            self._change: 7,
            self._install_router: 3,
            self._install_retries: 1,
            self._nonsense: 5,
            self._look: 4,
            self._restart: 3,
            self._slow_disk: 3,
            self._crash: 3,
        }
        if self._full_disk:
            actions[self._fill_disk] = 12
        for _ in range(self._chance.randrange(20, 90)):
            [action] = self._chance.choices(list(actions), list(actions.values()))
            action()
            self._clock.forward(self._chance.choice([0.0, 0.001, 1.0, 60.0, 600.0, 2000.0]))
            self._post_due()
        while self._posts:
            self._clock.forward(max(0.0, self._posts[0][0] / 1000 - self._clock.now_s) + 0.001)
            self._post_due()
        self._look()
        self._restart()
        check_journal(self._store, self._model)
        lived = Lived(
            (self._capsule("router").state_hash, self._capsule("retries").state_hash),
            len(self._model.events),
            sum(len(capsule.learned) for capsule in self._model.capsules.values()),
            self._lives - 1,
            self._crashes,
            self._lost,
            self._full,
        )
        self._world.close(self._store)
        return lived

    def _look(self) -> None:
        check_reports(self._store, self._model, self._repeated, self._clock.now_ms)

    # What happens.

    def _decide(self, name: str | None = None) -> None:
        name = name or ("router" if self._chance.random() < 0.7 else "retries")
        capsule, model = self._capsule(name), self._model.capsules[name]
        options = {
            strategy: self._chance.sample(names, self._chance.randint(1, len(names)))
            for strategy, names in model.options.items()
        }
        narrowed = self._chance.random() < 0.3
        allowed = options if narrowed else model.options
        current = {strategy: self._chance.choice(names) for strategy, names in allowed.items()}
        say_current = self._chance.random() < 0.3
        one = len(options) == 1
        key = f"k{self._chance.randrange(6)}"
        decision = capsule.decide(
            {"task": key} if one else None,
            options=(next(iter(options.values())) if one else options) if narrowed else None,
            current=(next(iter(current.values())) if one else current) if say_current else None,
        )
        key = key if one else "default"
        check_decision(decision, model, key, allowed, current if say_current else None)
        if model.mode == "off":
            same("the id of a decision that is off", decision.id, None)
            return
        assert decision.id is not None
        if decision.id in model.decisions:
            raise Violated(f"the id {decision.id} was given before")
        decided = Decided(
            name,
            decision.id,
            key,
            dict(decision.choices),
            self._clock.now_ms,
            self._clock.now_ms + model.horizon_ms,
        )
        same("deadline", decision.deadline_ms, decided.deadline_ms)
        self._model.add(decided)
        self._plan_posts(decided)

    def _plan_posts(self, decided: Decided) -> None:
        """What will be sent about a decision, and when."""
        chance = self._chance
        if chance.random() < 0.15:
            return
        taken = self._taken(decided)
        metrics = {name: round(chance.random(), 3) for name in WEIGHTS}
        if decided.capsule == "retries" or chance.random() < 0.2:
            posts = [Post(reward=round(chance.uniform(-0.4, 0.6), 3), **taken)]
        elif chance.random() < 0.5:
            posts = [Post(outcome=metrics, **taken)]
        else:
            posts = [Post(outcome={name: value}, **taken) for name, value in metrics.items()]
            chance.shuffle(posts)
            if chance.random() < 0.3:
                posts.pop()
        for post in posts:
            self._plan(decided, post)
            while chance.random() < 0.4:
                self._plan(decided, post)
            if chance.random() < 0.2:
                self._plan(decided, self._contradiction(post))

    def _taken(self, decided: Decided) -> dict[str, Any]:
        """Mostly nothing is said; or something else was carried out, or nothing of ours."""
        match self._chance.randrange(8):
            case 0:
                return {"taken": None}
            case 1 if decided.capsule == "router":
                return {"taken": self._chance.choice(BASE)}
            case 1:
                return {
                    "taken": {
                        strategy: self._chance.choice(names) for strategy, names in RETRIES_OPTIONS.items()
                    }
                }
            case _:
                return {}

    def _contradiction(self, post: Post) -> Post:
        if post.reward is not None:
            return dataclasses.replace(post, reward=post.reward - 0.001)
        assert post.outcome is not None
        match self._chance.randrange(3):
            case 0:
                return Post(reward=0.25)
            case 1:
                return dataclasses.replace(post, taken=None if post.taken is not None else "cheap")
            case _:
                name = min(post.outcome)
                return dataclasses.replace(post, outcome={**post.outcome, name: 1 - post.outcome[name] / 2})

    def _plan(self, decided: Decided, post: Post) -> None:
        """At once, later, at the very end of the horizon, or late."""
        delay_ms = self._chance.choice([0, 1, 30_000, 600_000, 1_800_000, None])
        if delay_ms is None:
            delay_ms = decided.deadline_ms - decided.decided_ms + self._chance.choice([0, 1, 1_000_000])
        due_ms = decided.decided_ms + delay_ms
        heapq.heappush(self._posts, (due_ms, next(self._numbers), decided.capsule, decided.id, post))

    def _post_due(self) -> None:
        while self._posts and self._posts[0][0] <= self._clock.now_ms:
            _, _, name, decision_id, post = heapq.heappop(self._posts)
            self._post(name, decision_id, post)

    def _post(self, name: str, decision_id: str, post: Post) -> None:
        capsule = self._capsule(name)
        expected = self._model.expect(name, decision_id, post, self._clock.now_ms)
        before = capsule.state_hash
        try:
            answer = capsule.feedback(decision_id, **post.arguments())
        except StoreUnwritable:
            if isinstance(expected, Received):
                # Perhaps it is there all the same.
                self._model.add(expected)
                self._answers.pop(decision_id, None)
            raise
        except capsa.CapsaError as error:
            if not isinstance(expected, Refused):
                raise Violated(f"{post} for {decision_id} was refused, expected {expected}") from error
            same("the refusal", type(error), expected.error)
            same("the state after a refusal", capsule.state_hash, before)
            return
        if isinstance(expected, Refused):
            raise Violated(f"{post} for {decision_id} was {answer.status}, expected {expected}")
        if isinstance(expected, Repeated):
            self._repeated[name] += 1
            same("status", answer.status, "repeated")
            check_answer(answer, expected.answer)
            self._check_repeated(decision_id, answer)
        else:
            self._model.add(expected)
            self._answers[decision_id] = (self._lives, answer)
            same("status", answer.status, expected.status)
            check_answer(answer, expected)
        if answer.status != "applied":
            same(f"the state after {answer.status}", capsule.state_hash, before)
        # It was answered, so it and everything before it is on disk.
        self._durable = len(self._model.events)

    def _explicit(self) -> None:
        name = self._chance.choice(["router", "retries"])
        strategy = self._chance.choice(list(self._model.capsules[name].options))
        option = self._chance.choice(self._model.capsules[name].options[strategy])
        reward, key = round(self._chance.uniform(-0.4, 0.6), 3), f"k{self._chance.randrange(6)}"
        expected = self._model.expect_explicit(name, strategy, option, reward, key)
        self._model.add(expected)
        answer = self._capsule(name).feedback(
            strategy=strategy, option=option, reward=reward, context_key=key
        )
        same("status", answer.status, expected.status)
        check_answer(answer, expected)
        self._durable = len(self._model.events)

    def _change(self) -> None:
        """Settings that decide what becomes of later calls, and some that only move the learner."""
        name = self._chance.choice(["router", "retries"])
        chance = self._chance
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
                given, settings = {"horizon": {"after_seconds": seconds}}, {"horizon_ms": seconds * 1000}
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
        known = self._model.capsules[name].overrides
        # What is in force already is no event, and waits for nothing.
        changed = any(known.get(key) != value for key, value in overrides.items())
        if changed:
            # First: where the disk is full it may be there or not.
            self._model.add(Changed(name, settings, overrides))
        self._capsule(name).update_learning(**given)
        if changed:
            self._durable = len(self._model.events)

    def _install_router(self) -> None:
        """The same bytes again, or other options, another horizon, another algorithm."""
        chance = self._chance
        options = BASE + chance.choice([[], [], ["extra"]])
        horizon_s = chance.choice([3600, 600])
        text = ROUTER.format(
            options=", ".join(options),
            horizon_s=horizon_s,
            algorithm=ALGORITHMS[self._seed % len(ALGORITHMS)],
        )
        self._install(text, Installed("router", {"choice": options}, True, horizon_s * 1000))

    def _install_retries(self) -> None:
        self._install(RETRIES, Installed("retries", RETRIES_OPTIONS, False, 3_600_000))

    def _install(self, text: str, expected: Installed) -> None:
        known = self._model.capsules.get(expected.capsule)
        if not self._model.events:
            self._model.add(Created())
            self._model.add(Created())
        unchanged = known is not None and (known.options, known.file_horizon_ms) == (
            expected.options,
            expected.horizon_ms,
        )
        if not unchanged:
            self._model.add(expected)
        capsule = self._store.install(text)
        same("version", capsule.version, self._model.capsules[expected.capsule].version)
        self._durable = len(self._model.events)

    def _nonsense(self) -> None:
        """What cannot be: refused, and nothing changes."""
        router = self._capsule("router")
        before = (router.state_hash, self._store.journal.length("default"))
        wrong: list[tuple[type[capsa.CapsaError], Callable[[], object]]] = [
            (capsa.errors.UnknownDecision, lambda: router.feedback("dec_" + 32 * "0", reward=0.0)),
            (capsa.errors.UnknownDecision, lambda: router.feedback("nothing of ours", reward=0.0)),
            (capsa.errors.UnknownOption, lambda: router.decide({"task": "k1"}, options=["none"])),
            (capsa.errors.InvalidField, lambda: router.decide({"task": "k1"}, options=[])),
            (capsa.errors.UnknownField, lambda: router.update_learning(sleep=1)),
        ]
        foreign = self._model.capsules["retries"].decisions
        if foreign:
            foreign_id = self._chance.choice(list(foreign))
            wrong.append((capsa.errors.UnknownDecision, lambda: router.feedback(foreign_id, reward=0.0)))
        known = self._model.capsules["router"].decisions
        if known:
            known_id = self._chance.choice(list(known))
            wrong.append((capsa.errors.RewardOutOfRange, lambda: router.feedback(known_id, reward=1e6)))
        error, call = self._chance.choice(wrong)
        try:
            call()
        except capsa.CapsaError as caught:
            same("the refusal", type(caught), error)
        else:
            raise Violated(f"{error.__name__} was expected")
        same("state and journal after a refusal", self._seen_short(router), before)

    def _seen_short(self, router: capsa.Capsule) -> tuple[str, int]:
        return router.state_hash, self._store.journal.length("default")

    # What becomes of the process and the disk.

    def _opened(self) -> capsa.Store:
        self._lives += 1
        # Not the same random numbers again: those of decisions that a crash has lost would come twice.
        return self._world.open(self._clock, self._seed * 1009 + self._lives)

    def _restart(self) -> None:
        before = self._seen()
        self._world.close(self._store)
        self._reopen()
        same("what is seen after a restart", self._seen(), before)
        self._durable = len(self._model.events)

    def _reopen(self) -> None:
        """The process is another one: repeats were counted without being recorded."""
        self._repeated = {"router": 0, "retries": 0}
        self._store = self._opened()
        self._look()

    def _slow_disk(self) -> None:
        """Decisions go on while the disk takes nothing, and none is lost."""
        self._store.journal.flush()
        with self._world.stalled():
            for _ in range(self._chance.randrange(1, 5)):
                self._decide()

    def _crash(self) -> None:
        """The process dies before what it decided last was written. Nothing that was acknowledged is lost."""
        self._store.journal.flush()
        self._durable = length = len(self._model.events)
        with self._world.stalled():
            for _ in range(self._chance.randrange(0, 5)):
                self._decide()
            self._world.crash()
        self._world.close(self._store)
        self._crashes += 1
        self._go_on_with(length)

    def _fill_disk(self) -> None:
        """The disk is full for a while; whoever was answered until then was answered rightly."""
        assert isinstance(self._world, DiskWorld)
        # The limit would hold for the memory that the first call of a component maps, too.
        self._decide("router")
        self._decide("retries")
        self._store.journal.flush()
        self._durable = len(self._model.events)
        actions: list[Callable[[], object]] = [self._decide, self._decide, self._explicit, self._change]
        with self._world.full(self._chance.randrange(0, 40_000)):
            try:
                for _ in range(self._chance.randrange(1, 30)):
                    self._chance.choice(actions)()
                    self._clock.forward(self._chance.choice([0.0, 1.0, 60.0]))
                    self._post_due()
            except StoreUnwritable:
                self._full += 1
            else:
                return
        # First, for what comes next opens the folder again.
        self._world.close(self._store)
        self._store = self._opened()
        length = self._store.journal.length("default")
        if not self._durable <= length <= len(self._model.events):
            raise Violated(f"{length} events, not {self._durable} to {len(self._model.events)}")
        self._world.close(self._store)
        self._go_on_with(length)

    def _go_on_with(self, length: int) -> None:
        """What is open next has exactly the first events."""
        self._lost += sum(isinstance(event, Decided) for event in self._model.events[length:])
        self._model = self._model.until(length)
        self._durable = length
        self._reopen()
        check_journal(self._store, self._model)

    def _capsule(self, name: str) -> capsa.Capsule:
        return self._store.capsule(name)

    def _seen(self) -> list[object]:
        """Everything that a reader sees, but for repeats."""
        seen: list[object] = []
        for name in ("router", "retries"):
            capsule = self._capsule(name)
            report = capsule.report().to_dict()
            del report["feedback"]["repeated"]
            seen.append((capsule.state_hash, report, capsule.contexts(), capsule.learning, capsule.version))
        return seen

    def _check_repeated(self, decision_id: str, answer: capsa.Feedback) -> None:
        """As it was answered first; what it did to each strategy is not kept over a restart."""
        if decision_id not in self._answers:
            return
        life, first = self._answers[decision_id]
        decisions = first.decisions if life == self._lives else answer.decisions
        expected = msgspec.structs.replace(first, status="repeated", decisions=decisions)
        same("the repeated answer", answer, expected)
