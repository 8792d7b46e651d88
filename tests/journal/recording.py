"""A program that records, and says what was acknowledged: to be killed, traced or starved.

Every acknowledged event is a line on standard output: its stream, sequence and payload. It records until it
has `count` events or is stopped; when the journal fails it says ``failed`` and how, and checks that it stays so.
"""

from __future__ import annotations

import argparse
import os
import resource
import threading

from capsa.journal import SqliteJournal, StoreUnwritable
from capsa.journal.sqlite import _database


def record(journal: SqliteJournal, caller: int, count: int, size: int) -> None:
    """Appends and waits, one event after the other."""
    stream = f"tenant-{caller % 3}"
    number = 0
    while count == 0 or number < count:
        number += 1
        payload = b"%d-%d-%s" % (caller, number, os.urandom(8).hex().encode())
        payload += b"." * (size - len(payload))
        try:
            event = journal.append(stream, "decided", number, "local", "default/router", payload)
            journal.wait(event)
        except StoreUnwritable as error:
            stays_failed(journal, error)
            return
        # One write: other threads' lines do not mix with it, and the pipe has it when we are killed.
        os.write(1, b"%s %d %s\n" % (stream.encode(), event.sequence, payload))


def stays_failed(journal: SqliteJournal, error: StoreUnwritable) -> None:
    """Whatever is recorded later fails like the first."""
    again = ""
    try:
        journal.wait(journal.append("tenant-0", "decided", 1, "local", "", b""))
        again = "but goes on"
    except StoreUnwritable:
        again = "for good"
    os.write(1, f"failed {type(error).__name__} {again}\n".encode())


def main() -> None:
    """Records as it is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--count", type=int, default=0, help="events of each caller; 0 = until it is stopped")
    parser.add_argument("--size", type=int, default=0, help="bytes of a payload, at least")
    parser.add_argument("--synchronous", default=_database.SYNCHRONOUS)
    parser.add_argument("--largest-file", type=int, default=0, help="bytes; beyond that writing fails")
    arguments = parser.parse_args()
    _database.SYNCHRONOUS = arguments.synchronous
    journal = SqliteJournal(arguments.folder)
    if arguments.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.largest_file, resource.RLIM_INFINITY))
    os.write(1, b"open\n")
    callers = [
        threading.Thread(target=record, args=(journal, caller, arguments.count, arguments.size))
        for caller in range(arguments.callers)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


if __name__ == "__main__":
    main()
