"""A program that records, cuts and backs up, and says how far it has come: to be killed.

Its lines: ``snapshot N`` when a snapshot is durable as event N, ``step`` when a step of a cut is about to be
committed, ``cut N`` when the stream is cut there, ``copied BYTES`` while it backs up, ``backup`` when that is done.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from capsa.journal import SqliteJournal
from capsa.journal.sqlite import _backup, _index

EVENTS = 900
STEP_ROWS = 100


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def cut_again_and_again(journal: SqliteJournal) -> None:
    """Each time at a new snapshot; what comes behind it is recorded meanwhile."""
    trim = journal._trim

    def step(connection: sqlite3.Connection, stream: object) -> int:
        say("step")
        return trim(connection, stream)  # type: ignore[arg-type]

    journal._trim = step  # type: ignore[method-assign]
    while True:
        for number in range(EVENTS):
            journal.append("acme", "decided", number, "local", "a/b", b"%d" % number * 20)
        event = journal.append("acme", "snapshot_sealed", 1, "local", "", b"snapshot")
        journal.wait(event)
        say("snapshot", event.sequence)
        for number in range(20):
            journal.append("acme", "decided", number, "local", "a/b", b"behind %d" % number)
        journal.cut("acme", event.sequence)
        say("cut", event.sequence)


def back_up(journal: SqliteJournal, folder: Path) -> None:
    """Once, with many looks at what is done."""
    _backup._STEPS = 200
    for number in range(4000):
        journal.append("acme", "decided", number, "local", "a/b", b"%d" % number * 100)
    journal.backup(folder, keys=True, progress=lambda done, _: say("copied", done))
    say("backup")


def main() -> None:
    """Does as it is told: ``STORE`` or ``STORE BACKUP``."""
    _index.STEP_ROWS = STEP_ROWS
    journal = SqliteJournal(sys.argv[1])
    if len(sys.argv) > 2:
        back_up(journal, Path(sys.argv[2]))
    else:
        cut_again_and_again(journal)


if __name__ == "__main__":
    main()
