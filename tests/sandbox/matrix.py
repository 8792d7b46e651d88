"""The hostile matrix: every case, by category."""

from __future__ import annotations

from typing import Final

from tests.sandbox.case import Case
from tests.sandbox.computing import COMPUTING

MATRIX: Final[list[Case]] = [*COMPUTING]
