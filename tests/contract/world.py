"""What the tables of errors are about: one store with three capsules, and a guard that nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import capsa

ROUTER = """\
name: router
options: [cheap_fast, balanced, expensive_accurate]
baseline: balanced
contexts:
  - task_type
  - {name: customer_tier, values: [free, standard, enterprise]}
  - {name: tokens, buckets: [500, 2000, 8000]}
  - {name: urgent, type: flag}
reward:
  quality: {weight: 0.6}
  latency_ms: {weight: -0.2, budget: 2000}
  cost_usd: {weight: -0.2, range: [0, 0.02]}
"""
PLAIN = "name: plain\noptions: [a, b]\nreward_range: [0, 1]\n"
RETRIES = """\
name: retries
strategies:
  timeout: {options: [1s, 2s, 5s]}
  retries: {options: ["0", "1", "3"]}
valid:
  - {timeout: 1s}
  - {timeout: [2s, 5s], retries: ["0", "1"]}
"""


@dataclass(frozen=True)
class World:
    """Three capsules that have learned something, with a decision of each that awaits feedback."""

    store: capsa.Store
    router: capsa.Capsule
    plain: capsa.Capsule
    retries: capsa.Capsule
    routed: str
    plainly: str
    retried: str

    def snapshot(self, refused: int = 0) -> Any:
        """Everything that a refused call must leave as it is; `refused`: installs of which the journal says so meanwhile."""
        capsules = (self.router, self.plain, self.retries)
        last = list(self.store.journal.read("default"))[-refused:] if refused else []
        assert {event.type for event in last} <= {"refused"}
        return (
            self.store.journal.length("default") - refused,
            self.store.journal.streams(),
            [
                (capsule.state_hash, capsule.learning, capsule.version, capsule.contexts())
                for capsule in capsules
            ],
        )


def build(store: capsa.Store) -> World:
    capsules = [store.install(source) for source in (ROUTER, PLAIN, RETRIES)]
    ids = []
    for capsule in capsules:
        first, decision = capsule.decide(), capsule.decide()
        assert first.id is not None
        assert decision.id is not None
        capsule.feedback(first.id, reward=0.5)
        ids.append(decision.id)
    router, plain, retries = capsules
    routed, plainly, retried = ids
    return World(store, router, plain, retries, routed, plainly, retried)


@dataclass(frozen=True)
class Row:
    """One wrong thing: what is called, and what it must be told.

    `detail` and `remedy` are pieces of the sentences; case does not matter.
    """

    id: str
    call: Callable[[World], object]
    error: type[BaseException]
    pointer: str | None
    detail: str = ""
    remedy: str = ""
