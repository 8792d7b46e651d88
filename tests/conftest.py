"""Profiles, and a store whose clock the test sets."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from tests.reference.clock import Clock

import capsa
from capsa import _native

# A whole run takes minutes: `CAPSA_TEST_PROFILE=thorough` looks 20 times as long.
settings.register_profile(
    "ci",
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.target, Phase.shrink],
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=1200, derandomize=False)
settings.load_profile(os.environ.get("CAPSA_TEST_PROFILE", "ci"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[capsa.Store]:
    with capsa.open(clock=clock, seed=7) as opened:
        yield opened


@pytest.fixture(scope="session")
def host() -> _native.Host:
    """An engine beside those of stores, for rebuilding what a journal holds."""
    return _native.Host()
