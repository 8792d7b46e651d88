"""Made the store in golden/format-1, with the last version that wrote format 1: ``python -m tests.decisions.first_format``.

Never run again: the store stands for those that users have. The key that signs checkpoints is not kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.reference.clock import Clock

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
horizon: {after: 7d}
"""
PAIR = "name: retries\nstrategies: {timeout: {options: [1s, 2s]}, retries: {options: ['0', '1']}}\n"


def make(folder: Path) -> None:
    """Writes the store, and beside it what must be known of it."""
    clock = Clock()
    with capsa.open(folder, clock=clock, seed=1) as store:
        router, pair = store.install(SPEC), store.tenant("acme").job("calls").install(PAIR)
        ids: dict[str, str | None] = {}

        def decided(name: str, task: str = "a") -> str | None:
            clock.forward(60)
            ids[name] = router.decide({"task": task}).id
            return ids[name]

        for number in range(6):
            router.feedback(decided(f"before {number}", f"t{number % 3}"), reward=number / 10)
        decided("nothing")
        router.feedback(decided("a part"), outcome={"quality": 0.5})
        router.feedback(decided("all metrics"), outcome={"quality": 0.5, "cost": 0.25})
        router.feedback(decided("two parts"), outcome={"quality": 1.0})
        router.feedback(ids["two parts"], outcome={"cost": 0.5})
        router.feedback(decided("a reward"), reward=0.25)
        router.feedback(decided("taken"), reward=-0.5, taken="dear")
        router.feedback(decided("something else"), reward=0.5, taken=None)
        router.update_learning(rails={"freeze": True})
        router.feedback(decided("frozen"), reward=0.75)
        router.update_learning(rails={"freeze": None, "min_exploration": 0.1})
        router.feedback(option="cheap", reward=-0.25, context_key="by hand")
        ids["of several"] = pair.decide().id
        pair.feedback(pair.decide().id, reward=0.5)
        expected = {
            "ids": ids,
            "state_hashes": [router.state_hash, pair.state_hash],
            "weights": {row.context_key: row.weights for row in router.contexts()},
            "report": router.report().to_dict(),
            "lengths": {stream: store.journal.length(stream) for stream in store.journal.streams()},
        }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    (folder / "keys/checkpoints.key").unlink(missing_ok=True)
    (folder / "lock").unlink()
    for compiled in (folder / "cache").iterdir():
        compiled.unlink()
    (folder / "cache").rmdir()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
