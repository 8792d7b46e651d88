"""When the disk is full, busy, read-only or broken: a clear error, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from capsa.journal import (
    SqliteJournal,
    StoreBusy,
    StoreDamaged,
    StoreFull,
    StoreUnwritable,
)
from capsa.journal.sqlite import _database

PROGRAM = Path(__file__).with_name("recording.py")


def record(journal: SqliteJournal, payload: bytes = b"\xa0") -> None:
    journal.wait(journal.append("acme", "decided", 1, "local", "default/router", payload))


def test_a_file_that_cannot_grow_fails_the_journal(tmp_path: Path) -> None:
    """Under a limit of file sizes. What was acknowledged before is there when it is opened again."""
    command = [sys.executable, str(PROGRAM), str(tmp_path / "store"), "--size", "2000", "--callers", "4"]
    command += ["--largest-file", "1000000"]
    ran = subprocess.run(command, check=True, capture_output=True, timeout=110)
    lines = ran.stdout.splitlines()
    assert lines.count(b"failed StoreFull for good") + lines.count(b"failed StoreUnwritable for good") == 4
    said = [line.split() for line in lines if line.startswith(b"tenant-")]
    assert len(said) > 20
    with SqliteJournal(tmp_path / "store") as journal:
        for stream, sequence, payload in said:
            [event] = journal.read(stream.decode(), int(sequence) - 1, 1)
            assert event.payload == payload
        record(journal)
        assert journal.verify() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: it takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_can_be_mended(small_disk: Path) -> None:
    """The journal stays failed when there is room again, until it is opened anew."""
    journal = SqliteJournal(small_disk / "store")
    recorded = 0
    try:
        while True:
            record(journal, b"%d " % recorded + bytes(5000))
            recorded += 1
    except StoreFull as error:
        assert "free space" in str(error)  # noqa: PT017 - it ends the loop
    assert recorded > 10
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    for use in (lambda: record(journal), journal.flush, journal.seal):
        with pytest.raises(StoreFull):
            use()
    # What is on disk can still be read.
    assert len(list(journal.read("acme"))) == recorded
    with pytest.raises(StoreFull):
        journal.close()
    with SqliteJournal(small_disk / "store") as again:
        payloads = [event.payload for event in again.read("acme")]
        assert [int(payload.split()[0]) for payload in payloads[:recorded]] == list(range(recorded))
        assert len(payloads) <= recorded + 1
        record(again)
        assert again.verify() == []


def test_a_locked_database_fails_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that writes to it; also when it is opened. The queued events are refused, not lost silently."""
    monkeypatch.setattr(_database, "BUSY_TIMEOUT_MS", 20)
    journal = SqliteJournal(tmp_path / "store")
    record(journal)
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        event = journal.append("acme", "decided", 1, "local", "", b"")
        with pytest.raises(StoreBusy):
            journal.wait(event)
        with pytest.raises(StoreBusy):
            journal.append("acme", "decided", 1, "local", "", b"")
        with pytest.raises(StoreBusy):
            journal.close()
        with pytest.raises(StoreBusy):
            SqliteJournal(tmp_path / "store")
    with SqliteJournal(tmp_path / "store") as again:
        assert again.length("acme") == 1
        record(again)


READ_ONLY = """
import os, sys
from capsa.journal import SqliteJournal
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    SqliteJournal(sys.argv[1])
except Exception as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("kept", ["folder", "file", "parent"])
def test_what_may_not_be_written_is_said(kept: str) -> None:
    """A folder, a database file, or a folder in which the store would have to be made."""
    # Not pytest's: nobody else can enter that.
    home = Path(tempfile.mkdtemp())
    try:
        home.chmod(0o755)
        store = home / "parent/store"
        SqliteJournal(store).close()
        if kept == "parent":
            shutil.rmtree(store)
        if os.geteuid() == 0:
            for path in (home / "parent", *home.rglob("*")):
                os.chown(path, 65534, 65534)
        closed = {"folder": store, "file": store / "store.sqlite", "parent": home / "parent"}[kept]
        closed.chmod(0o400 if closed.is_file() else 0o500)
        command = [sys.executable, "-c", READ_ONLY, str(store)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        assert ran.stdout == "StoreReadOnly\n", ran.stderr
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(home)], check=True)
        shutil.rmtree(home)


def test_a_fault_in_the_writing_thread_reaches_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: nobody waits for ever, and each hears of it."""
    journal = SqliteJournal(tmp_path / "store")
    record(journal)

    def broken(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(_database, "insert_events", broken)
    event = journal.append("acme", "decided", 1, "local", "", b"")
    with pytest.raises(StoreUnwritable, match="no more"):
        journal.wait(event)
    for use in (lambda: record(journal), journal.flush, journal.seal, lambda: journal.follow("acme", 1, 60)):
        with pytest.raises(StoreUnwritable, match="no more"):
            use()
    with pytest.raises(StoreUnwritable, match="no more"):
        journal.close()
    with SqliteJournal(tmp_path / "store") as again:
        assert again.length("acme") == 1


def test_somebody_elses_row_in_the_way_fails_the_journal(tmp_path: Path) -> None:
    """Where the next event belongs, an event stands that this journal did not write."""
    with SqliteJournal(tmp_path / "store") as journal:
        record(journal)
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as other:
        other.execute(
            "INSERT INTO event SELECT id + 1, time_ms, origin, checksum, salt, payload, digest FROM event"
        )
    journal = SqliteJournal(tmp_path / "store")
    with pytest.raises(StoreDamaged):
        record(journal)
    with pytest.raises(StoreDamaged):
        journal.close()
