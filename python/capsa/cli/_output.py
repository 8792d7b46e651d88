"""What a person reads: tables that fit a terminal, and failures with their place and remedy."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from capsa.errors import CapsaError, InvalidSpec

#: No table is wider, unless a column that is never cut is.
COLUMNS: Final = 100
_GAP: Final = "  "
_NARROWEST: Final = 8


def printable(text: object) -> str:
    """A text that others wrote, so that it cannot forge lines or steer a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in str(text)
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[str] = ()) -> str:
    """Rows under headers, at most `COLUMNS` wide: the widest columns are cut first.

    Args:
        headers: The names of the columns.
        rows: Numbers stand on the right.
        whole: Columns that are never cut.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(_width, [header, *column])) for header, *column in zip(headers, *cells, strict=True)]
    cut = [at for at, header in enumerate(headers) if header not in whole]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > COLUMNS:
        widest = max(cut, key=lambda at: widths[at])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    right = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(headers))]
    return "\n".join(
        _GAP.join(_padded(*each) for each in zip(line, widths, right, strict=True)).rstrip()
        for line in [list(headers), *cells]
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else printable(value)


def _width(text: str) -> int:
    """Columns of a terminal: the characters of some scripts take two."""
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _padded(text: str, width: int, right: bool) -> str:
    if _width(text) > width:
        while _width(text) >= width:
            text = text[:-1]
        text += "…"
    gap = " " * (width - _width(text))
    return gap + text if right else text + gap


def size(count: int) -> str:
    """Bytes, for a person."""
    number, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{count} bytes" if units[0] == "bytes" else f"{number:.1f} {units[0]}"


def short_time(time: str) -> str:
    """An RFC 3339 time in UTC to the second, as a table shows it."""
    return time[:19].replace("T", " ")


def named(options: dict[str, str]) -> str:
    """An option of each strategy: its name alone where there is one strategy."""
    if len(options) == 1:
        return next(iter(options.values()))
    return " ".join(f"{strategy}={name}" for strategy, name in options.items()) or "-"


def say_failure(error: CapsaError | OSError, *, as_json: bool, source: Path | None) -> None:
    """Says what went wrong on standard error; as JSON also on standard output."""
    if as_json:
        print(json.dumps(_problem(error), ensure_ascii=False))
    if isinstance(error, InvalidSpec):
        for line, column, key, message in error.problems:
            where = f"{source or 'spec'}:{line}:{column}"
            print(f"{where}: {key}: {message}" if key else f"{where}: {message}", file=sys.stderr)
    elif isinstance(error, OSError):
        print(f"capsa: {printable(error.filename or '')}: {error.strerror or error}", file=sys.stderr)
    else:
        where = f" ({error.pointer})" if error.pointer else ""
        remedy = f": {error.remedy}" if error.remedy else ""
        print(f"capsa: {printable(error.detail)}{printable(where)}{printable(remedy)}", file=sys.stderr)


def _problem(error: CapsaError | OSError) -> dict[str, Any]:
    if isinstance(error, InvalidSpec):
        errors = [
            {"line": line, "column": column, "key": key, "message": message}
            for line, column, key, message in error.problems
        ]
        return {"ok": False, "type": f"/problems/{error.code}", "detail": error.detail, "errors": errors}
    if isinstance(error, OSError):
        return {
            "ok": False,
            "type": "/problems/internal",
            "detail": f"{error.filename}: {error.strerror or error}",
        }
    errors = [{"pointer": error.pointer, "value": error.value, "remedy": error.remedy}]
    return {"ok": False, "type": f"/problems/{error.code}", "detail": error.detail, "errors": errors}
