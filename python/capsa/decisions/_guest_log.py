"""What capsules log, in the log of this process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from capsa.decisions._fold import Place

_log = logging.getLogger("capsa.capsule")
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def write_log(place: Place, lines: list[tuple[str, str]]) -> None:
    """Writes level and message of each line of a capsule."""
    for level, message in lines:
        # A guest wrote it: escaped, so that it cannot forge other lines.
        _log.log(_LEVELS[level], "%s: %s", "/".join(place), message.encode("unicode_escape").decode())
