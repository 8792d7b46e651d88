"""Killing a program that records, and checking what it leaves."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from capsa.journal import SqliteJournal

PROGRAM = Path(__file__).with_name("recording.py")
CALLERS = 32

#: Payloads by stream and sequence.
Acknowledged = dict[tuple[str, int], bytes]


def acknowledged(lines: list[bytes]) -> Acknowledged:
    """What the program has said is recorded; a line that the kill has cut does not count."""
    found = {}
    for line in lines:
        if line.endswith(b"\n") and line.startswith(b"tenant-"):
            stream, sequence, payload = line.split()
            found[stream.decode(), int(sequence)] = payload
    return found


def kill_while_recording(folder: Path, after: int) -> Acknowledged:
    """Starts the program, kills it once it has acknowledged `after` events, and gives all that it did."""
    command = [sys.executable, str(PROGRAM), str(folder), "--callers", str(CALLERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(after + 1)]
        program.send_signal(signal.SIGKILL)
        lines += program.stdout.readlines()
        assert program.wait() == -signal.SIGKILL
    assert lines[0] == b"open\n"
    return acknowledged(lines)


def check_after_kill(folder: Path, expected: Acknowledged) -> None:
    """Everything acknowledged is there, in its place and once, and the chain holds."""
    with SqliteJournal(folder) as journal:
        stored = {
            (stream, event.sequence): event.payload
            for stream in journal.streams()
            for event in journal.read(stream)
        }
        assert {place: stored.get(place) for place in expected} == expected
        assert len(set(stored.values())) == len(stored)
        assert journal.verify() == []
        journal.seal()


def kill_again_and_again(folder: Path, kills: int, seed: int) -> int:
    """Kills and checks, each time on what the times before have left; gives the number of events."""
    randoms = random.Random(seed)
    expected: Acknowledged = {}
    for _ in range(kills):
        expected |= kill_while_recording(folder, randoms.randint(1, 600))
        check_after_kill(folder, expected)
    return len(expected)
