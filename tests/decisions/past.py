"""A capsule that has lived through feedback of every kind."""

from __future__ import annotations

from tests.reference.clock import Clock

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
horizon: {after: 1h}
"""
PAIR = "name: retries\nstrategies: {timeout: {options: [1s, 2s]}, retries: {options: ['0', '1']}}\n"


def given_id(decision: capsa.Decision) -> str:
    assert decision.id is not None
    return decision.id


def lived_through(store: capsa.Store, clock: Clock, turns: int) -> list[str]:
    """Decisions with feedback of every kind; gives their ids."""
    router = store.capsule("router")
    ids = []
    for turn in range(turns):
        clock.forward(1)
        decision = given_id(router.decide({"task": f"t{turn % 3}"}))
        ids.append(decision)
        match turn % 4:
            case 0:
                router.feedback(decision, outcome={"quality": 0.5})
            case 1:
                router.feedback(decision, reward=0.25)
            case 2:
                router.feedback(decision, outcome={"quality": 0.5, "cost": 0.25}, taken="dear")
            case _:
                router.feedback(option="cheap", reward=-0.5, context_key="by hand")
    return ids
