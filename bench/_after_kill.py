"""What must hold of a store after a kill: what was acknowledged is there, once, and the state is what the events make.

The journal is read without the code that folds it.
"""

from __future__ import annotations

import collections
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import capsa

ROUTER: Final = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
"""
RETRIES: Final = """\
name: retries
strategies: {timeout: {options: [1s, 2s]}, retries: {options: ["0", "1"]}}
contexts: [task]
"""
#: What is not sent until the horizon counts as declared.
OFFERS: Final = """\
name: offers
options: [yes, no]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
horizon: {after: 2s, outcome: {quality: 0, cost: 0.5}}
"""
SPECS: Final = {"router": ROUTER, "retries": RETRIES, "offers": OFFERS}


class Acknowledged(NamedTuple):
    """A feedback that was answered: what was posted, and the answer."""

    capsule: str
    decision_id: str
    post: dict[str, Any]
    status: str
    sequence: int

    def line(self) -> bytes:
        return json.dumps(self).encode() + b"\n"


class Left(NamedTuple):
    """A decision that was answered, and that nobody has posted anything about."""

    capsule: str
    decision_id: str

    def line(self) -> bytes:
        return json.dumps(self).encode() + b"\n"


class Recorded:
    """What the journal says, read without the code that folds it. Decisions stand by capsule and nonce."""

    def __init__(self, opened: capsa.Store) -> None:
        self._native = {name: opened._fold.capsules["default", "default", name].native for name in SPECS}
        self.by_sequence: dict[int, tuple[str, Mapping[str, Any]]] = {}
        self.decided: dict[bytes, int] = {}
        self.passed: collections.Counter[bytes] = collections.Counter()
        self.metrics: dict[bytes, dict[str, float]] = {}
        self.rewards: dict[bytes, float | None] = {}
        self.statuses: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in SPECS}
        self.snapshots = 0
        self.doubled: list[str] = []
        learned: set[bytes] = set()
        for event in opened.journal.read("default"):
            name = event.path.rpartition("/")[2]
            self.snapshots += event.type == "snapshot_sealed"
            if event.type == "decided":
                self.decided[self._native[name].read_decision(event).nonce] = event.sequence
            if event.type not in ("outcome_received", "horizon_passed"):
                continue
            outcome = self._native[name].read_outcome(event)
            nonce = outcome["id"]
            assert nonce is not None
            self.by_sequence[event.sequence] = name, outcome
            self.statuses[name][outcome["status"]] += 1
            if event.type == "horizon_passed":
                self.passed[nonce] += 1
                if self.passed[nonce] > 1:
                    self.doubled.append(f"event {event.sequence} passes the horizon of {nonce.hex()} again")
            known = self.metrics.setdefault(nonce, {})
            if known.keys() & outcome["metrics"].keys():
                self.doubled.append(f"event {event.sequence} records a metric of {nonce.hex()} again")
            known.update(outcome["metrics"])
            if outcome["status"] == "pending":
                continue
            if nonce in learned:
                self.doubled.append(f"event {event.sequence} completes {nonce.hex()} again")
            learned.add(nonce)
            self.rewards[nonce] = outcome["reward"]

    def lost(self, acknowledged: Acknowledged) -> str:
        """What is missing of one acknowledged feedback; empty if nothing is."""
        capsule, decision_id, post, status, sequence = acknowledged
        nonce = self.nonce(capsule, decision_id)
        name, event = self.by_sequence.get(sequence, ("", None))
        if event is None or nonce is None or event["id"] != nonce or name != capsule:
            return f"no event {sequence} for {decision_id}"
        if status not in (event["status"], "repeated"):
            return f"event {sequence} is {event['status']}, not {status}"
        if "reward" in post:
            held = self.rewards.get(nonce) == post["reward"]
        else:
            held = post["outcome"].items() <= self.metrics[nonce].items()
        if held and "taken" in post:
            held = event["made"] == ({} if post["taken"] is None else {"choice": post["taken"]})
        return "" if held else f"event {sequence} does not say {post}"

    def nonce(self, capsule: str, decision_id: str) -> bytes | None:
        """What the journal names a decision by."""
        opened = self._native[capsule].open_id(decision_id)
        return None if opened is None else opened.nonce

    def is_there(self, left: Left) -> bool:
        """Whether the record of a decision is there."""
        return self.nonce(*left) in self.decided


class Taken(NamedTuple):
    """What kills came to beside faults: decisions whose record is gone, and snapshots that were sealed."""

    records: int = 0
    snapshots: int = 0


def faults_of(
    folder: Path, acknowledged: Sequence[Acknowledged], left: Sequence[Left], chance: random.Random
) -> tuple[list[str], Taken]:
    """Every fault that a store has after a kill; one that it says itself is one too."""
    try:
        return check(folder, acknowledged, left, chance)
    except capsa.CapsaError as error:
        return [f"refused: {type(error).__name__}: {error}"], Taken()


def check(
    folder: Path, acknowledged: Sequence[Acknowledged], left: Sequence[Left], chance: random.Random
) -> tuple[list[str], Taken]:
    """Every fault that a store has after a kill.

    Args:
        folder: The store's.
        acknowledged: Everything that was ever acknowledged.
        left: Decisions since the last check that nothing was posted about.
        chance: What is tried.
    """
    with capsa.open(folder, upkeep=False) as opened:
        faults = [f"verify: {fault}" for fault in opened.journal.verify()]
        if not acknowledged:
            return faults, Taken()
        recorded = Recorded(opened)
        faults += [f"doubled: {doubled}" for doubled in recorded.doubled]
        faults += [f"lost: {lost}" for each in acknowledged if (lost := recorded.lost(each))]
        capsules = {name: opened.capsule(name) for name in SPECS}
        for name, capsule in capsules.items():
            faults += miscounted(name, capsule, recorded)
        before = [capsule.report().feedback.applied for capsule in capsules.values()]
        for each in chance.sample(acknowledged, min(50, len(acknowledged))):
            try:
                status = capsules[each.capsule].feedback(each.decision_id, **each.post).status
            except capsa.CapsaError as error:
                status = f"refused: {error}"
            if status != "repeated":
                faults.append(f"doubled: {each.decision_id} posted again was {status}")
        if [capsule.report().feedback.applied for capsule in capsules.values()] != before:
            faults.append("doubled: a repeated post was learned")
        gone = [each for each in left if not recorded.is_there(each)]
        faults += [f"lost: no event for {each.decision_id}" for each in gone if each.capsule == "offers"]
        faults += [
            fault for each in left if each.capsule != "offers" for fault in posted_late(capsules, each, gone)
        ]
        # Live on top of what was folded, against all of it folded.
        for name in ("router", "retries"):
            for _ in range(5):
                capsules[name].feedback(
                    capsules[name].decide({"task": "after"}).id, reward=chance.random() / 2
                )
        opened.upkeep()
        faults += [
            f"rebuild: {capsule.capsule} differs: {capsule.differences}"
            for capsule in opened.rebuild().capsules
            if not capsule.equal
        ]
        fresh = capsa.Store(
            opened.journal, principal="local", cache_dir=folder / "cache", clock=time.time, seed=None
        )
        faults += [
            f"rebuild: another start of {name} differs"
            for name, capsule in capsules.items()
            if looked_at(capsule) != looked_at(fresh.capsule(name))
        ]
        return faults, Taken(len(gone), recorded.snapshots)


def posted_late(capsules: dict[str, capsa.Capsule], left: Left, gone: Sequence[Left]) -> list[str]:
    """Feedback for a decision counts, whether a kill took its record or not; its story says which."""
    capsule = capsules[left.capsule]
    try:
        status = capsule.feedback(left.decision_id, reward=0.25).status
        story = capsule.story(left.decision_id)
    except capsa.CapsaError as error:
        return [f"lost: feedback for {left.decision_id} is refused: {error}"]
    faults = []
    if status != "applied" or story.learned_at is None:
        faults.append(f"lost: feedback for {left.decision_id} is {status}")
    notes = any("decision not recorded" in note for note in story.notes)
    if (story.decision is None, notes) != (left in gone, left in gone):
        faults.append(f"lost: the story of {left.decision_id} says {story.notes}")
    return faults


def missed_horizons(folder: Path, left: Sequence[Left]) -> list[str]:
    """Decisions whose horizon brought nothing though an outcome is declared, once it has passed."""
    if not left:
        return []
    # A clock that is ahead: nobody waits.
    with capsa.open(folder, upkeep=False, clock=lambda: time.time() + 60) as opened:
        opened.upkeep()
        recorded = Recorded(opened)
        passed = [recorded.passed[recorded.nonce(*each) or b""] for each in left]
    return [
        f"lost: the horizon of {each.decision_id} was dealt with {times} times"
        for each, times in zip(left, passed, strict=True)
        if times != 1
    ]


def miscounted(name: str, capsule: capsa.Capsule, recorded: Recorded) -> list[str]:
    """Where the folded state counts other than the events do."""
    report, statuses = capsule.report(), recorded.statuses[name]
    faults = [
        f"doubled: {name} counts {counted} {status}, the journal {statuses[status]}"
        for status, counted in (("applied", report.feedback.applied), ("kept", report.feedback.kept))
        if counted != statuses[status]
    ]
    for strategy in report.strategies:
        rewards = sum(option.rewards for option in strategy.options)
        if rewards != statuses["applied"]:
            faults.append(
                f"doubled: {name}/{strategy.strategy} has {rewards} rewards of {statuses['applied']}"
            )
    return faults


def looked_at(capsule: capsa.Capsule) -> object:
    """What a reader sees that does not depend on the time of looking."""
    report = capsule.report()
    counted = [
        (one.strategy, option.decisions, option.rewards)
        for one in report.strategies
        for option in one.options
    ]
    return capsule.state_hash, report.decisions, report.feedback.applied, counted, capsule.learning
