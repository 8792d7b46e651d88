"""The capsules of a life, and their versions."""

from __future__ import annotations

import random
from typing import Final

from tests.simulation.happened import Installed, Place

ALGORITHMS: Final = ("thompson", "simple_weighted", "ucb1", "epsilon_greedy")
BASE: Final = ["cheap", "balanced", "dear"]
RETRIES_OPTIONS: Final = {"timeout": ["1s", "2s"], "retries": ["0", "1", "3"]}
#: What may be declared for the horizon. The last one leaves a metric out: without it nothing is learned.
DEFAULTS: Final = ({"quality": 0.0, "cost": 1.0}, {"quality": 0.25, "cost": 0.5}, {"quality": 0.0})

ROUTER: Final[Place] = ("default", "router")
RETRIES: Final[Place] = ("default", "retries")
#: What is not sent until the horizon counts as declared.
OFFERS: Final[Place] = ("default", "offers")
#: Of a tenant that is purged now and then.
GUEST: Final[Place] = ("guest", "router")

_METRICS: Final = """\
name: {name}
options: [{options}]
contexts: [task]
reward: {{quality: 0.6, cost: -0.4}}
horizon: {{after: {horizon_s}s{outcome}}}
algorithm: {algorithm}
"""
_RETRIES: Final = """\
name: retries
strategies: {timeout: {options: [1s, 2s]}, retries: {options: ["0", "1", "3"]}}
horizon: {after: 1h}
"""


def version(place: Place, seed: int, chance: random.Random) -> tuple[str, Installed]:
    """A spec for a place, perhaps that of before: other options, another horizon, other defaults."""
    if place == RETRIES:
        return _RETRIES, Installed(RETRIES, RETRIES_OPTIONS, 3_600_000)
    options = BASE + chance.choice([[], [], ["extra"]])
    horizon_s = chance.choice([3600, 600])
    defaults: dict[str, float] | None = None
    if place == OFFERS:
        defaults = chance.choice(DEFAULTS)
    declared = "" if defaults is None else ", ".join(f"{name}: {value}" for name, value in defaults.items())
    text = _METRICS.format(
        name=place[1],
        options=", ".join(options),
        horizon_s=horizon_s,
        outcome=declared and f", outcome: {{{declared}}}",
        algorithm=ALGORITHMS[seed % len(ALGORITHMS)],
    )
    return text, Installed(place, {"choice": options}, horizon_s * 1000, defaults)
