"""A journal of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journal.journals import KINDS, open_journal

from capsa.journal import Journal


@pytest.fixture(params=KINDS)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(request.param, tmp_path)
    yield opened
    opened.close()
