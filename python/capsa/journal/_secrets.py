"""Secrets that are kept with a journal: their names and their length."""

from __future__ import annotations

import re
from typing import Final

#: Length of a secret.
SECRET_BYTES: Final = 32
_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")


def check_name(name: str) -> None:
    """Raises ValueError where a secret cannot have this name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name of a secret: 1 to 40 of a-z, 0-9 and -")
