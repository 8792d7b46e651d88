"""Stores in every way, and a site on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox.outside import Site
from tests.tools.making import tells
from tests.tools.ways import WAYS, Way


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    """An open store, in each way."""
    with Way(request.param, tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def site() -> Iterator[Site]:
    """Answers 1."""
    with Site({"/": tells(b"1")}) as made:
        yield made
