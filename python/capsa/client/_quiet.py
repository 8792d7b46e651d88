"""What the client says in the log: at most one line of a kind in some seconds, with how many were left out."""

from __future__ import annotations

import logging
import time
from typing import Final

_log = logging.getLogger("capsa.client")

#: Seconds between two lines of one kind.
EVERY_S: Final = 10.0


class Quiet:
    """A log that a failing server cannot fill."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warn(self, kind: str, message: str, *values: object) -> None:
        """Writes a warning, unless one of this kind was written just now."""
        now = time.monotonic()
        if now - self._said.get(kind, -EVERY_S) < EVERY_S:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._said[kind] = now
        left_out = self._left_out.pop(kind, 0)
        # What a server said: escaped, so that it cannot forge other lines.
        text = (message % values).encode("unicode_escape").decode()
        _log.warning("%s%s", text, f" ({left_out} more like it)" if left_out else "")
