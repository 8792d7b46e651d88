"""``capsa backup`` and ``capsa restore``: copies of a whole store."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from typing import IO, Final

from capsa.cli._arguments import add_json, add_store, path
from capsa.cli._output import Answer, counted, size
from capsa.cli._store import check_store
from capsa.cli._usage import Commands, add_command
from capsa.decisions._history import to_json
from capsa.journal import Backup, Restored, backup, restore

#: Most characters of the bar, and least, in a narrow terminal.
_BAR: Final = (40, 5)
_WITH_KEYS: Final = "keys included: who has this copy can sign as the store does and open its decision ids, so guard it as the store"
_WITHOUT_KEYS: Final = (
    "keys not included: a store restored from it makes new ones, and refuses feedback for decisions made before; "
    "to go on after a loss, copy keys/ to a safe place too, or use --keys"
)


def add_commands(commands: Commands) -> None:
    """Adds ``backup`` and ``restore``."""
    backup = add_command(
        commands,
        "backup",
        _backup,
        "copy a store, while it may be in use",
        "Copies a store as it is at one moment into a new or an empty folder. The store may be in use meanwhile.",
    )
    add_store(backup)
    backup.add_argument("folder", type=path, metavar="FOLDER", help="a new or an empty folder")
    backup.add_argument(
        "--keys",
        action="store_true",
        help="copy the keys too: without them ids of decisions cannot be opened",
    )
    restore = add_command(
        commands,
        "restore",
        _restore,
        "make a store from a backup, which is verified first",
        "Makes a store from a backup. The whole backup is verified first; a damaged one is refused.",
    )
    restore.add_argument("backup", type=path, metavar="BACKUP", help="the folder that backup wrote")
    restore.add_argument("store", type=path, metavar="STORE", help="the store: a new or an empty folder")
    add_json(restore)


def _backup(chosen: argparse.Namespace) -> Answer:
    check_store(chosen.store)
    with _progress("copying", chosen) as progress:
        done = backup(chosen.store, chosen.folder, keys=chosen.keys, progress=progress)
    return _answer(done, progress.seconds, [_WITH_KEYS if chosen.keys else _WITHOUT_KEYS])


def _restore(chosen: argparse.Namespace) -> Answer:
    check_store(chosen.backup, remedy="name the folder that capsa backup wrote")
    with _progress("restoring", chosen) as progress:
        done = restore(chosen.backup, chosen.store, progress=progress)
    notes = [] if done.keys else ["the backup holds no keys: the store makes new ones when it is opened"]
    return _answer(done, progress.seconds, notes)


def _answer(done: Backup | Restored, seconds: float, notes: list[str]) -> Answer:
    line = f"wrote {counted(done.events, 'event')}, {size(done.bytes)}, to {done.folder} in {seconds:.1f} s"
    values = {**to_json(done), "folder": str(done.folder), "seconds": round(seconds, 3)}
    return Answer(values, [line, *notes])


class _Progress:
    """How far a copy has come: a bar on a terminal, a line at each quarter where there is none.

    With ``--json`` and no terminal nothing is said: standard output holds the result alone.
    """

    def __init__(self, doing: str, as_json: bool) -> None:
        self._doing = doing
        self._bar = sys.stderr.isatty()
        self._quiet = as_json and not self._bar
        self._said = 0
        self._drawn = 0
        self._started = time.monotonic()
        self.seconds = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Is called with what is done, of what is to be done."""
        part = min(done / total, 1.0) if total else 1.0
        if self._bar:
            most, least = _BAR
            width = max(least, min(most, shutil.get_terminal_size().columns - len(self._doing) - 10))
            full = int(part * width)
            self._draw(f"{self._doing} [{'#' * full}{'.' * (width - full)}] {part:4.0%}")
        elif not self._quiet and int(part * 4) > self._said:
            self._said = int(part * 4)
            self._print(f"{self._doing}: {self._said * 25} %\n", sys.stdout)

    def end(self) -> None:
        """Leaves the line empty for what is said next."""
        self.seconds = time.monotonic() - self._started
        if self._bar:
            self._draw("")
            self._print("\r", sys.stderr)

    def _draw(self, text: str) -> None:
        # Spaces instead of a control sequence: any terminal knows these.
        self._print(f"\r{text:<{self._drawn}}", sys.stderr)
        self._drawn = len(text)

    def _print(self, text: str, stream: IO[str]) -> None:
        # A copy does not fail because nobody looks on any more.
        with contextlib.suppress(OSError):
            print(text, end="", file=stream, flush=True)


@contextlib.contextmanager
def _progress(doing: str, chosen: argparse.Namespace) -> Iterator[_Progress]:
    progress = _Progress(doing, chosen.json)
    try:
        yield progress
    finally:
        progress.end()
