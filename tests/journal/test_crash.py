"""Nothing acknowledged is lost or doubled, however the process ends."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journal.kills import kill_again_and_again, kill_while_recording

PROGRAM = Path(__file__).with_name("recording.py")
#: Kills in the test; `bench/journal.py --kills` does more.
KILLS = 5


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Under concurrent callers, several times on one store."""
    assert kill_again_and_again(tmp_path / "store", KILLS, seed=5) >= KILLS


def traced(trace: Path, calls: str, *command: str) -> list[str]:
    """What a program of Python asks of the system, line by line."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: what the system is asked, and in which order, is not checked")
    options = ["-f", "-y", "-s", "16", "-e", f"trace={calls}", "-o", str(trace)]
    ran = subprocess.run(
        [strace, *options, sys.executable, *command], check=False, capture_output=True, timeout=110
    )
    if ran.returncode and b"ptrace" in ran.stderr:
        pytest.skip("tracing is not permitted: what the system is asked, and in which order, is not checked")
    assert ran.returncode == 0, ran.stderr.decode()
    return trace.read_text(errors="replace").splitlines()


def recorded(home: Path, *arguments: str) -> list[tuple[str, str, str]]:
    """The writes and syncs of the recording program, in order."""
    command = (str(PROGRAM), str(home / "store"), *arguments)
    return list(system_calls(traced(home / "trace", "write,pwrite64,fsync,fdatasync", *command)))


def count_acknowledgements(calls: list[tuple[str, str, str]]) -> tuple[int, int]:
    """All, and those that came while a file of the store was written and not synced."""
    dirty: set[str] = set()
    written = total = early = 0
    for call, file, text in calls:
        if call == "pwrite64" and file.endswith(("/store.sqlite", "/store.sqlite-wal")):
            dirty.add(file)
            written += 1
        elif call in ("fsync", "fdatasync"):
            dirty.discard(file)
        elif call == "write" and text.startswith("tenant-"):
            total += 1
            early += bool(dirty) or not written
            written = 0
    return total, early


def system_calls(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """Name, file and first text of each: a write when it begins, a sync when it has succeeded."""
    begun: dict[str, tuple[str, str, str]] = {}
    for line in lines:
        thread, _, rest = line.partition(" ")
        if match := re.match(r'\s*(\w+)\(\d+<([^>]*)>(?:, "([^"]*))?', rest):
            call = (match[1], match[2], match[3] or "")
            if call[0].endswith("sync") and "<unfinished" in rest:
                begun[thread] = call
            elif not call[0].endswith("sync") or rest.endswith("= 0"):
                yield call
        elif "resumed" in rest and rest.endswith("= 0") and thread in begun:
            yield begun.pop(thread)


RECORD = ("--count", "300", "--size", "6000")


def test_the_disk_has_an_event_before_it_is_acknowledged(tmp_path: Path) -> None:
    """Between writing the log and saying so there is a sync of it, each time, across moves of the log too."""
    calls = recorded(tmp_path, *RECORD)
    assert count_acknowledgements(calls) == (300, 0)
    acknowledged = [
        at for at, (call, _, text) in enumerate(calls) if call == "write" and text.startswith("tenant-")
    ]
    moves = [call for call in calls[acknowledged[0] : acknowledged[-1]] if call[1].endswith("/store.sqlite")]
    assert moves


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_missing_sync_is_noticed(tmp_path: Path, synchronous: str) -> None:
    """The test above can fail: with less than FULL the disk does not have it."""
    total, early = count_acknowledgements(recorded(tmp_path, *RECORD, "--synchronous", synchronous))
    assert total == 300
    assert early > 250


def test_what_a_killed_process_has_written_is_synced_before_it_is_read(tmp_path: Path) -> None:
    """It may have been killed before it synced, and whoever sees it after opening takes it for recorded."""
    kill_while_recording(tmp_path / "store", 50)
    calls = recorded(tmp_path, "--count", "1")
    opened = next(
        at for at, (call, _, text) in enumerate(calls) if call == "write" and text.startswith("open")
    )
    synced = [file for call, file, _ in calls[:opened] if call in ("fsync", "fdatasync")]
    # The log, which is then moved into the database, and that.
    assert [Path(file).name for file in synced if "store.sqlite" in file][:2] == [
        "store.sqlite-wal",
        "store.sqlite",
    ]


FORKING = """
import os, sys
from capsa.journal import SqliteJournal
journal = SqliteJournal(sys.argv[1])
journal.wait(journal.append("acme", "decided", 1, "local", "", b""))
list(journal.read("acme"))
child = os.fork()
if child == 0:
    print("child ends", flush=True)
else:
    assert os.waitpid(child, 0) == (child, 0)
"""


def test_a_child_that_ends_does_not_touch_the_database(tmp_path: Path) -> None:
    """SQLite must not be closed in a child: the last one to close moves the log, and deletes it."""
    calls = "write,pwrite64,fcntl,ftruncate,unlink,clone,fork,vfork,clone3"
    lines = traced(tmp_path / "trace", calls, "-W", "ignore", "-c", FORKING, str(tmp_path / "store"))
    [end] = [at for at, line in enumerate(lines) if "write(1" in line and "child ends" in line]
    child = lines[end].split()[0]
    assert [line for line in lines[end:] if line.split()[0] == child and "store.sqlite" in line] == []
    parents = [line for line in lines[end:] if line.split()[0] != child and "store.sqlite" in line]
    assert any("unlink" in line for line in parents)
