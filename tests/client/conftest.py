"""The real server, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.serving import KEY, Served

from capsa.client import Client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the usual capsule, used by all tests of a module."""
    with Served(tmp_path_factory.mktemp("shared") / "store") as served:
        served.install()
        yield served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server with the usual capsule, for one test."""
    with Served(tmp_path / "store") as own:
        own.install()
        yield own


@pytest.fixture
def client(shared: Served) -> Iterator[Client]:
    """A client of the shared server."""
    with Client(shared.url, KEY) as made:
        yield made
