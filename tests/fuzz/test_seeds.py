"""Every seed through its target, and mutations of them that are the same in every run. `scripts/fuzz` goes on by chance."""

from __future__ import annotations

import random

import pytest
from tests.fuzz.mutations import mutated
from tests.fuzz.targets import TARGETS

MUTATIONS = {"policy": 3_000, "body": 60_000}


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_and_mutations_of_them(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    for seed in seeds:
        target.check(seed)
    for number in range(MUTATIONS[name]):
        chance = random.Random(number)
        target.check(mutated(chance.choice(seeds), chance.choice(seeds), target.words, chance))
