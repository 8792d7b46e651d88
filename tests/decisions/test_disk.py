"""A store in a folder: what was answered is there after any end of the process."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.reference.clock import Clock

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
algorithm: %s
"""
JOINT = """\
name: retries
strategies: {timeout: {options: [1s, 2s]}, retries: {options: ["0", "1"]}}
"""


def busy(store: capsa.Store, clock: Clock, algorithm: str = "thompson") -> list[str]:
    """A life with everything in it; gives the ids of decisions without feedback."""
    router, retries = store.install(SPEC % algorithm), store.tenant("acme").job("calls").install(JOINT)
    chance = random.Random(7)
    open_ids = []
    for turn in range(60):
        clock.forward(chance.randrange(60_000) / 1000)
        decision = router.decide({"task": f"t{chance.randrange(5)}"})
        assert decision.id is not None
        match turn % 5:
            case 0:
                router.feedback(decision.id, outcome={"quality": chance.random()})
                open_ids.append(decision.id)
            case 1:
                open_ids.append(decision.id)
            case 2:
                router.feedback(decision.id, outcome={"quality": chance.random(), "cost": 0.5}, taken="dear")
            case 3:
                router.feedback(decision.id, reward=chance.uniform(-1, 1))
            case _:
                router.feedback(option="cheap", reward=0.25, context_key="by hand")
        joint = retries.decide()
        retries.feedback(joint.id, reward=chance.random())
    router.update_learning(rails={"min_exploration": 0.1}, decay={"half_life": "1h"})
    return open_ids


def looked_at(store: capsa.Store) -> object:
    """Everything that a reader can see, but for what is counted without being recorded."""
    seen = []
    for capsule in (store.capsule("router"), store.tenant("acme").job("calls").capsule("retries")):
        report = capsule.report().to_dict()
        # Closing seals a snapshot, which is an event.
        del report["sequence"]
        seen.append((report, capsule.contexts(), capsule.learning, capsule.state_hash, capsule.version))
    return seen


@pytest.mark.parametrize(
    "algorithm", ["thompson", "simple_weighted", "ucb1", "{name: epsilon_greedy, epsilon: 0.2}"]
)
def test_a_store_that_is_opened_again_is_the_same(tmp_path: Path, clock: Clock, algorithm: str) -> None:
    with capsa.open(tmp_path / "store", clock=clock, seed=1) as store:
        open_ids = busy(store, clock, algorithm)
        before = looked_at(store)
    with capsa.open(tmp_path / "store", clock=clock, seed=1) as store:
        assert looked_at(store) == before
        router = store.capsule("router")
        # The parts sent before, and the decisions without any, are known.
        first = router.feedback(open_ids[0], outcome={"cost": 0.25})
        assert (first.status, first.missing) == ("applied", [])
        assert router.feedback(open_ids[1], reward=0.5).status == "applied"
        length = store.journal.length("default")
        assert router.feedback(open_ids[1], reward=0.5).status == "repeated"
        with pytest.raises(capsa.FeedbackConflict):
            router.feedback(open_ids[1], reward=0.25)
        assert store.journal.length("default") == length
        assert store.install(SPEC % algorithm).version == 1
        assert store.journal.length("default") == length
        known = {decision.id for decision in (router.decide({"task": "t1"}) for _ in range(50))}
        assert len(known) == 50
        assert known.isdisjoint(open_ids)


def test_a_repeated_post_is_answered_alike_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    with capsa.open(tmp_path / "store", clock=clock) as store:
        router = store.install(SPEC % "thompson")
        decision = router.decide({"task": "a"})
        first = router.feedback(decision.id, outcome={"quality": 0.5, "cost": 0.25})
    with capsa.open(tmp_path / "store", clock=clock) as store:
        again = store.capsule("router").feedback(decision.id, outcome={"quality": 0.5, "cost": 0.25})
    assert (again.status, again.reward, again.parts) == ("repeated", first.reward, first.parts)
    assert (again.sequence, again.context_key) == (first.sequence, first.context_key)


def test_a_store_opens_without_an_erased_decision(tmp_path: Path) -> None:
    """What was learned from it stays; feedback about it is refused as about any decision that is not there."""
    with capsa.open(tmp_path / "store") as store:
        router = store.install(SPEC % "thompson")
        decision = router.decide({"task": "a"}, subject="ann")
        router.feedback(decision.id, reward=0.5)
        before = router.state_hash
        store.erase_subject("ann")
    with capsa.open(tmp_path / "store") as store:
        assert store.journal.verify() == []
        router = store.capsule("router")
        assert router.state_hash == before
        with pytest.raises(capsa.UnknownDecision):
            router.feedback(decision.id, reward=0.5)


def test_a_closed_store_holds_nothing_back(tmp_path: Path) -> None:
    """Each sandbox reserves terabytes of address space: a hundred stores one after the other need one at a time."""
    gc.disable()
    try:
        for number in range(100):
            with capsa.open(tmp_path / str(number)) as store:
                store.install(SPEC % "thompson").decide()
    finally:
        gc.enable()


def test_a_second_opener_is_told_who_has_it(tmp_path: Path) -> None:
    with capsa.open(tmp_path / "store"):
        with pytest.raises(capsa.StoreError, match="in this process"):
            capsa.open(tmp_path / "store")
        code = "import sys, capsa; capsa.open(sys.argv[1])"
        other = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "store")], check=False, capture_output=True, text=True
        )
    assert other.returncode == 1
    assert "StoreLocked" in other.stderr
    assert str(os.getpid()) in other.stderr
    with capsa.open(tmp_path / "store") as store:
        assert store.persistent


def test_a_store_that_cannot_be_opened_is_left_to_others(tmp_path: Path) -> None:
    """A setting that does not hold is refused; the folder can be opened right after."""
    with pytest.raises(capsa.InvalidField):
        capsa.open(tmp_path / "store", seed=2**200)
    with capsa.open(tmp_path / "store") as store:
        assert store.job("default").capsules() == []


CHILD = """\
import sys, threading, time
import capsa

store = capsa.open(sys.argv[1])
router = store.install(sys.stdin.read())
lock = threading.Lock()

def caller(number):
    while True:
        decision = router.decide({"task": f"t{number % 5}"})
        feedback = router.feedback(decision.id, reward=0.5)
        with lock:
            sys.stdout.write(f"{decision.id} {feedback.sequence}\\n")
            sys.stdout.flush()

for number in range(32):
    threading.Thread(target=caller, args=(number,), daemon=True).start()
time.sleep(60)
"""


@pytest.mark.parametrize("seed", range(3))
def test_nothing_acknowledged_is_lost_or_doubled_by_a_kill(tmp_path: Path, seed: int) -> None:
    """32 callers in a child that is killed at any moment: every feedback it had answered is there, once."""
    answered: dict[str, int] = {}
    for kill in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "store")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(SPEC % "thompson")
            child.stdin.close()
            for _ in range(random.Random(10 * seed + kill).randrange(1, 400)):
                decision_id, sequence = child.stdout.readline().split()
                answered[decision_id] = int(sequence)
            os.kill(child.pid, signal.SIGKILL)
            # What it had written before it died was answered as well.
            for line in child.stdout.read().split("\n")[:-1]:
                decision_id, sequence = line.split()
                answered[decision_id] = int(sequence)
        with capsa.open(tmp_path / "store") as store:
            assert store.journal.verify() == []
            router = store.capsule("router")
            applied = router.report().feedback.applied
            outcomes = [event for event in store.journal.read("default") if event.type == "outcome_received"]
            assert len(outcomes) == applied >= len(answered)
            sequences = {event.sequence for event in outcomes}
            assert sequences.issuperset(answered.values())
            for decision_id in answered:
                assert router.feedback(decision_id, reward=0.5).status == "repeated"
            assert router.report().feedback.applied == applied


def test_many_callers_share_commits(tmp_path: Path) -> None:
    """Feedback of 32 threads at once: all of it is there after a restart, and the state is that of the journal."""
    with capsa.open(tmp_path / "store") as store:
        router = store.install(SPEC % "simple_weighted")

        def caller() -> None:
            for _ in range(20):
                router.feedback(router.decide({"task": "a"}).id, reward=0.5)

        threads = [threading.Thread(target=caller) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        before = (router.state_hash, router.report().feedback.applied)
    with capsa.open(tmp_path / "store") as store:
        router = store.capsule("router")
        assert (router.state_hash, router.report().feedback.applied) == before == (before[0], 640)
