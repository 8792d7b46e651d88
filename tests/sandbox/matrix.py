"""The hostile matrix: every case, by category."""

from __future__ import annotations

from typing import Final

from tests.sandbox.case import Case
from tests.sandbox.computing import COMPUTING
from tests.sandbox.handing_over import HANDING_OVER
from tests.sandbox.keeping import KEEPING
from tests.sandbox.loading import LOADING
from tests.sandbox.reaching_out import REACHING_OUT

MATRIX: Final[list[Case]] = [*COMPUTING, *HANDING_OVER, *REACHING_OUT, *KEEPING, *LOADING]
