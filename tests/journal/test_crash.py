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


def traced(folder: Path, *arguments: str) -> list[tuple[str, str, str]]:
    """What the program asks of the system while it records, in order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: whether a sync comes before the acknowledgement is not checked")
    trace = folder.with_suffix(".trace")
    command = [strace, "-f", "-y", "-s", "16", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", str(trace)]
    command += [sys.executable, str(PROGRAM), str(folder), *arguments]
    ran = subprocess.run(command, check=False, capture_output=True, timeout=110)
    if ran.returncode and b"ptrace" in ran.stderr:
        pytest.skip(
            "tracing is not permitted here: whether a sync comes before the acknowledgement is not checked"
        )
    assert ran.returncode == 0, ran.stderr.decode()
    return list(system_calls(trace.read_text(errors="replace").splitlines()))


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
    calls = traced(tmp_path / "store", *RECORD)
    assert count_acknowledgements(calls) == (300, 0)
    acknowledged = [
        at for at, (call, _, text) in enumerate(calls) if call == "write" and text.startswith("tenant-")
    ]
    moves = [call for call in calls[acknowledged[0] : acknowledged[-1]] if call[1].endswith("/store.sqlite")]
    assert moves


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_missing_sync_is_noticed(tmp_path: Path, synchronous: str) -> None:
    """The test above can fail: with less than FULL the disk does not have it."""
    total, early = count_acknowledgements(traced(tmp_path / "store", *RECORD, "--synchronous", synchronous))
    assert total == 300
    assert early > 250


def test_what_a_killed_process_has_written_is_synced_before_it_is_read(tmp_path: Path) -> None:
    """It may have been killed before it synced, and whoever sees it after opening takes it for recorded."""
    kill_while_recording(tmp_path / "store", 50)
    calls = traced(tmp_path / "store", "--count", "1")
    opened = next(
        at for at, (call, _, text) in enumerate(calls) if call == "write" and text.startswith("open")
    )
    synced = [file for call, file, _ in calls[:opened] if call in ("fsync", "fdatasync")]
    # The log, which is then moved into the database, and that.
    assert [Path(file).name for file in synced if "store.sqlite" in file][:2] == [
        "store.sqlite-wal",
        "store.sqlite",
    ]
