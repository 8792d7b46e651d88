"""I3: every recorded decision is made again from its record, to the byte."""

from __future__ import annotations

import random

import pytest
from tests.reference.clock import Clock

import capsa
from capsa import _native
from capsa.decisions._fold import Fold

ONE = """\
name: again
options: [a, {name: b, prior: {reward: 0.2, count: 3}}, c]
contexts: [{name: tier, values: [free, paid]}]
algorithm: %s
"""
JOINT = """\
name: again
strategies:
  timeout: {options: [1s, 2s, 5s], algorithm: simple_weighted}
  retries: {options: ["0", "1"], algorithm: ucb1}
valid:
  - {timeout: 1s}
  - {timeout: [2s, 5s], retries: "0"}
"""
SPECS = {
    algorithm: ONE % algorithm
    for algorithm in ("thompson", "simple_weighted", "ucb1", "{name: epsilon_greedy, epsilon: 0.3}")
} | {"joint": JOINT}


@pytest.mark.parametrize("name", SPECS)
def test_every_decision_of_a_life_is_made_again(clock: Clock, name: str) -> None:
    """In every mode, frozen or not, with and without masks, keys and current options, over versions and settings."""
    chance = random.Random(3)
    store = capsa.open(clock=clock, seed=2)
    capsule = store.install(SPECS[name])
    first = {"timeout": "1s", "retries": "0"} if name == "joint" else "a"
    masks = {"timeout": ["1s", "5s"]} if name == "joint" else ["a", "c"]
    for turn in range(120):
        clock.forward(chance.random() * 100)
        match turn:
            case 30:
                capsule.update_learning(mode="shadow")
            case 50:
                capsule.update_learning(
                    mode="live", decay={"half_life": "10m"}, rails={"min_exploration": 0.3}
                )
            case 70:
                capsule.update_learning(rails={"freeze": True})
            case 80:
                capsule.update_learning(rails={"freeze": False}, decay={"half_life_feedbacks": 5})
            case 100:
                store.install(SPECS[name] + "max_contexts: 2\n")
        decision = capsule.decide(
            {"tier": chance.choice(["free", "paid", "gold"])} if turn % 3 else None,
            context_key=f"k{turn % 4}" if turn % 7 == 0 else None,
            options=masks if turn % 5 == 0 else None,
            current=first if turn % 4 == 0 else None,
        )
        capsule.feedback(decision.id, reward=chance.uniform(-1, 1))
    fold = Fold(store._components, store._ids.ring)
    made = 0
    for event in store.journal.read("default"):
        if event.type == "decided":
            state = fold.capsules["default", "default", "again"]
            recorded = state.native.read_decision(event)
            again = _native.decide_again(state.native, recorded, event.time_ms)
            assert again.payload == event.payload
            assert again.id == recorded.id
            made += 1
        fold.apply(event)
    assert made == 120


def test_another_state_gives_another_record(clock: Clock) -> None:
    """So that equal payloads mean something."""
    store = capsa.open(clock=clock, seed=2)
    capsule = store.install(SPECS["thompson"])
    decision = capsule.decide({"tier": "free"})
    native = store._fold.capsules["default", "default", "again"].native
    assert _native.decide_again(native, decision, clock.now_ms).payload == decision.payload
    capsule.feedback(decision.id, reward=1.0)
    assert _native.decide_again(native, decision, clock.now_ms).payload != decision.payload
