"""A spec, a store that is not there yet, and one with a capsule."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.store_line import SPEC, Line


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    """A line whose store is not there yet."""
    return Line(tmp_path / "store", capsys)


@pytest.fixture
def line(empty: Line, spec: Path) -> Line:
    """A line over a store with the router."""
    assert empty.run("install", str(spec)) == 0
    return empty
