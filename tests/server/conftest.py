"""A server that is shared by the tests of a module, and one for a single test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.serving import Served


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
