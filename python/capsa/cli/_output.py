"""What commands answer: lines for a person, a document for a program, and failures with their place and remedy."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from capsa.errors import CapsaError, InvalidSpec

#: No table is wider, unless a column that is never cut is; in a narrower terminal, as wide as that.
COLUMNS: Final = 100
_GAP: Final = "  "
_NARROWEST: Final = 8
#: What to do about an error of the system, where its own words do not say so.
_REMEDIES: Final = {
    errno.ENOENT: "check the name",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "check the path: a part of it is a file",
    errno.EEXIST: "name another one",
    errno.ENAMETOOLONG: "use a shorter one",
    errno.EACCES: "use one that this user may read and write",
    errno.EPERM: "use one that this user may read and write",
    errno.EROFS: "use a disk that may be written",
    errno.ENOSPC: "free space on this disk",
    errno.EDQUOT: "free space on this disk",
}


class Answer(NamedTuple):
    """What a command found.

    Attributes:
        values: The document that ``--json`` prints. ``"ok": False`` in it makes the exit code 1.
        lines: What a person reads instead; made only if somebody does, and printed without what could forge
            lines or steer a terminal.
    """

    values: Mapping[str, Any]
    lines: Iterable[str]


def say(answer: Answer, *, as_json: bool) -> None:
    """Prints an answer."""
    if as_json:
        _print_json(answer.values)
    else:
        for line in answer.lines:
            print(printable(line))


def say_failure(error: CapsaError | OSError, *, as_json: bool, source: Path | None = None) -> None:
    """Says what went wrong on standard error; as JSON also on standard output."""
    if isinstance(error, InvalidSpec):
        for line, column, key, message in error.problems:
            where = f"{source or 'spec'}:{line}:{column}"
            complain(f"{where}: {key}: {message}" if key else f"{where}: {message}")
    else:
        complain(f"capsa: {_sentence(error)}")
    if as_json:
        _print_json(_problem(error))


def complain(line: str) -> None:
    """Says one line on standard error, if somebody can be told."""
    with contextlib.suppress(OSError):
        print(printable(line), file=sys.stderr)


def open_streams() -> None:
    """Makes the three streams usable, whatever the caller left of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Otherwise the next file that is opened, the store's for example, gets this number and all that is printed.
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the process's own
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # In a terminal of few characters the others are spelled out.
        sys.stdout.reconfigure(errors="backslashreplace")


def printable(text: object) -> str:
    """A text that others wrote, so that it cannot forge lines or steer a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in str(text)
    )


def table(
    headers: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Sequence[str] = ()
) -> Iterator[str]:
    """Rows under headers, a line each, as wide as the terminal and at most `COLUMNS`: the widest columns are cut first.

    Args:
        headers: The names of the columns.
        rows: Numbers stand on the right.
        whole: Columns that are never cut. A last one that is wider than half a line, as ids are, hangs over: if the
            others were cut for it, nothing of them would be left.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(_width, [header, *column])) for header, *column in zip(headers, *cells, strict=True)]
    cut = [at for at, header in enumerate(headers) if header not in whole]
    most = columns()
    hanging = widths[-1] - _width(headers[-1]) if headers[-1] in whole and widths[-1] > most // 2 else 0
    while cut and sum(widths) - hanging + len(_GAP) * (len(widths) - 1) > most:
        widest = max(cut, key=lambda at: widths[at])
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    right = [all(isinstance(row[at], int | float | None) for row in rows) for at in range(len(headers))]
    for line in [list(headers), *cells]:
        yield _GAP.join(_padded(*each) for each in zip(line, widths, right, strict=True)).rstrip()


def columns() -> int:
    """How wide a line may be."""
    if not sys.stdout.isatty():
        return COLUMNS
    return min(COLUMNS, shutil.get_terminal_size().columns)


def size(count: int) -> str:
    """Bytes, for a person."""
    number, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number, units = number / 1000, units[1:]
    return f"{count} bytes" if units[0] == "bytes" else f"{number:.1f} {units[0]}"


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def short_time(time: str) -> str:
    """An RFC 3339 time in UTC to the second, as a table shows it."""
    return time[:19].replace("T", " ")


def short_hash(text: str | None) -> str:
    """As much of a digest as tells it from others."""
    return (text or "-")[:19]


def named(options: Mapping[str, str]) -> str:
    """An option of each strategy: its name alone where there is one strategy."""
    if len(options) == 1:
        return next(iter(options.values()))
    return " ".join(f"{strategy}={name}" for strategy, name in options.items()) or "-"


def _print_json(values: Mapping[str, Any]) -> None:
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        # Standard output of another encoding, or half of a surrogate pair: JSON has its own way to write both.
        text = json.dumps(values)
    print(text)


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


def _sentence(error: CapsaError | OSError) -> str:
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno or 0)
        return ": ".join(filter(None, [_os_detail(error), remedy]))
    # Where and what, if the sentence does not name it itself.
    about = [error.pointer, error.value if error.value and error.value not in error.detail else None]
    where = ": ".join(filter(None, about)) if error.pointer else ""
    return ": ".join(filter(None, [error.detail + (f" ({where})" if where else ""), error.remedy]))


def _os_detail(error: OSError) -> str:
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said


def _problem(error: CapsaError | OSError) -> dict[str, Any]:
    if isinstance(error, OSError):
        kind, detail = CapsaError.code, _os_detail(error)
        errors: list[dict[str, Any]] = [
            {"pointer": None, "value": None, "remedy": _REMEDIES.get(error.errno or 0)}
        ]
    elif isinstance(error, InvalidSpec):
        kind, detail = error.code, error.detail
        errors = [
            {"line": line, "column": column, "key": key, "message": message}
            for line, column, key, message in error.problems
        ]
    else:
        kind, detail = error.code, error.detail
        errors = [{"pointer": error.pointer, "value": error.value, "remedy": error.remedy}]
    return {"ok": False, "type": f"/problems/{kind}", "detail": detail, "errors": errors}
