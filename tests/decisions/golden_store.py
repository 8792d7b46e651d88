"""Makes a golden store of versions and modes: ``python -m tests.decisions.golden_store FOLDER``.

It runs with the version whose stores it stands for, once, when its format is new: a golden store stands for the stores
that users have. Cache, lock and private keys are not kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
horizon: {after: 30d}
"""
PAIR = "name: retries\nstrategies: {timeout: {options: [1s, 2s]}, retries: {options: ['0', '1']}}\n"


class Clock:
    """A clock that is set."""

    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def posts_of(turn: int) -> list[dict[str, Any]]:
    """Feedback of every kind."""
    kinds: list[list[dict[str, Any]]] = [
        [{"outcome": {"quality": 0.5, "cost": 0.25}}],
        [{"outcome": {"quality": 0.25}}],
        [{"reward": 0.125}],
        [{"outcome": {"cost": 1.0}}, {"outcome": {"quality": 1.0}}],
        [{"reward": -0.5, "taken": "cheap"}],
        [],
    ]
    return kinds[turn % len(kinds)]


def make(folder: Path) -> None:
    """Writes the store, and beside it what it must read as."""
    clock = Clock()
    said: dict[str, Any] = {"decisions": []}
    with capsa.open(folder, clock=clock, seed=7, principal="golden") as store:
        router = store.install(SPEC)
        pair = store.tenant("acme").job("calls").install(PAIR)
        for turn in range(24):
            clock.now_s += 1
            if turn == 9:
                router.update_learning(mode="shadow")
            if turn == 12:
                router.update_learning(mode="live", rails={"min_exploration": 0.1})
            if turn == 15:
                router = store.install(SPEC.replace("dear]", "dear, dearest]"))
            decision = router.decide(
                {"task": f"t{turn % 3}"},
                current="balanced" if turn == 10 else None,
                options=["cheap", "dear"] if turn == 14 else None,
            )
            posts = posts_of(turn)
            said["decisions"].append(
                {
                    "id": decision.id,
                    "posts": posts,
                    "statuses": [router.feedback(decision.id, **post).status for post in posts],
                    "propensity": decision.propensity,
                    "option_name": decision.option_name,
                }
            )
        router.feedback(option="cheap", reward=0.5, context_key="by hand")
        for turn in range(6):
            clock.now_s += 1
            pair.feedback(pair.decide().id, reward=turn / 10)
        report = router.report()
        said["router"] = {
            "state_hash": router.state_hash,
            "decisions": report.decisions,
            "applied": report.feedback.applied,
            "learning": router.learning,
        }
        said["retries"] = {"state_hash": pair.state_hash, "decisions": pair.report().decisions}
        said["now_s"] = clock.now_s
        said["by"] = capsa.__version__
    text = json.dumps(said, indent=1, sort_keys=True)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
