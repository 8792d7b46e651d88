"""What does a whole in-process `decide` cost, against `vowpalwabbit` predicting over as many options?

Ten options, a hundred context keys. Vowpal Wabbit gets text and gives a distribution, as its
users call it; Capsa gets a mapping, runs the capsule in the sandbox, draws, and records the
decision. Both have learned from the same 2,000 rewards before. `thompson` is Capsa's default.

A second question shows what is inside: a decision right after a feedback in its context, which
computes Thompson's probabilities anew.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import vowpalwabbit

import capsa
from _measure import alternate, machine, report, store

OPTIONS = 10
KEYS = 100
LEARNED = 2000
CALLS = 2000
SPEC = """\
name: bench
options: [{options}]
contexts: [user]
reward_range: [0, 1]
algorithm: {algorithm}
"""


def ours(algorithm: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    names = [f"option-{number}" for number in range(OPTIONS)]
    capsule = capsa.open(seed=1).install(SPEC.format(options=", ".join(names), algorithm=algorithm))
    randoms = random.Random(1)
    for _ in range(LEARNED):
        option = randoms.randrange(OPTIONS)
        key = f"k{randoms.randrange(KEYS)}"
        reward = float(randoms.random() < option / OPTIONS)
        capsule.feedback(option=option, reward=reward, context_key=key)
    users = itertools.cycle([{"user": f"k{number}"} for number in range(KEYS)])

    def decide() -> Any:
        # The application keeps the id.
        return capsule.decide(next(users)).id

    def round_trip() -> Any:
        decision = capsule.decide(next(users))
        return capsule.feedback(decision.id, reward=1.0)

    return decide, round_trip


def theirs() -> tuple[Callable[[], Any], Callable[[], Any]]:
    workspace = vowpalwabbit.Workspace(
        "--cb_explore_adf --epsilon 0.1 --cb_type mtr -q sa --quiet --random_seed 1"
    )
    actions = [f"|a option-{number}" for number in range(OPTIONS)]
    tail = "\n".join(actions)
    randoms = random.Random(1)

    def learn(key: str, option: int, reward: float, propensity: float) -> None:
        lines = actions.copy()
        lines[option] = f"0:{-reward}:{propensity} {lines[option]}"
        workspace.learn(f"shared |s {key}\n" + "\n".join(lines))

    for _ in range(LEARNED):
        option = randoms.randrange(OPTIONS)
        key = f"k{randoms.randrange(KEYS)}"
        learn(key, option, float(randoms.random() < option / OPTIONS), 1 / OPTIONS)
    users = itertools.cycle([f"k{number}" for number in range(KEYS)])

    def predict() -> Any:
        return workspace.predict(f"shared |s {next(users)}\n{tail}")

    def round_trip() -> Any:
        key = next(users)
        shares = workspace.predict(f"shared |s {key}\n{tail}")
        option = randoms.choices(range(OPTIONS), shares)[0]
        learn(key, option, 1.0, shares[option])

    return predict, round_trip


def main() -> dict[str, Any]:
    thompson, thompson_trip = ours("thompson")
    weighted, _ = ours("simple_weighted")
    predict, vw_trip = theirs()
    taken = alternate(
        {"capsa thompson": thompson, "capsa simple_weighted": weighted, "vowpalwabbit": predict}, calls=CALLS
    )
    bars = [("capsa thompson", "vowpalwabbit", 0.5), ("capsa simple_weighted", "vowpalwabbit", 0.5)]
    result = report("A whole decide, 10 options, 100 keys", taken, bars, machine=machine("vowpalwabbit"))
    trips = alternate({"capsa thompson": thompson_trip, "vowpalwabbit": vw_trip}, calls=CALLS // 4)
    result["round_trip"] = report("Decide, draw and feedback: Thompson anew each time", trips, [])
    store("decide", result)
    return result


if __name__ == "__main__":
    main()
