"""A store over each journal that can be opened again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.decisions.reopened import KINDS, Reopened, reopened


@pytest.fixture(params=KINDS)
def life(request: pytest.FixtureRequest) -> Iterator[Reopened]:
    with reopened(request.param) as opened:
        yield opened
