"""TOML from whoever: the standard library reads it, once it is known to end soon."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

#: Parts of a dotted key: many more than any document of ours has.
MAX_KEY_PARTS: Final = 64
# `tomllib` takes time in the square of a key's parts, or worse: a key of 120 kB keeps it for a minute and a half. What
# looks like a key of that many parts is none of ours wherever it stands, be it in a text or a comment. Each part is
# matched possessively and begins where none went before, so that the search itself stays linear.
_LONG_KEY: Final = re.compile(
    r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+)"""
    rf"{{{MAX_KEY_PARTS}}}"
)


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        ValueError: It is none, or is nested too deep; the message says what and where.
    """
    long = _LONG_KEY.search(text)
    if long:
        line = text.count("\n", 0, long.start()) + 1
        raise ValueError(f"a key has more than {MAX_KEY_PARTS} parts (at line {line})")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
