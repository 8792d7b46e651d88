"""`capsa doctor`: what is in a store, and what is wrong with it, without changing it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.store_line import Line, decided

from capsa.cli import _doctor
from capsa.cli._store import looked_at
from capsa.journal import Inspection


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_doctor_of_a_sound_store_only_reads(line: Line) -> None:
    decided(line)
    before = everything_in(line.folder)
    diagnosis = line.json("doctor")
    assert (diagnosis["ok"], diagnosis["heldBy"]) == (True, None)
    assert diagnosis["format"] == diagnosis["knownFormat"] >= 1
    assert (diagnosis["sequences"], diagnosis["problems"]) == ({"default": 4}, [])
    [found] = diagnosis["capsules"]
    assert (found["capsule"], found["version"], found["decisions"]) == ("router", 1, 1)
    assert diagnosis["sizeBytes"] == sum(map(len, before.values()))
    assert line.run("doctor") == 0
    assert "nothing is wrong" in line.out
    assert everything_in(line.folder) == before


def test_the_doctor_looks_at_a_store_in_use(line: Line) -> None:
    """While another process decides: it says which, sees its events, and disturbs nothing."""
    code = (
        "import sys, capsa; store = capsa.open(sys.argv[1]); router = store.capsule('router')\n"
        "router.feedback(router.decide().id, reward=0.5); print('ready', flush=True); sys.stdin.read()\n"
        "router.feedback(router.decide().id, reward=0.5)"
    )
    command = [sys.executable, "-c", code, str(line.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        diagnosis = line.json("doctor")
        assert (diagnosis["heldBy"], diagnosis["problems"]) == (str(child.pid), [])
        assert diagnosis["sequences"] == {"default": 5}
        child.stdin.close()
        assert child.wait(60) == 0
    assert line.json("doctor")["sequences"] == {"default": 7}
    assert line.json("rebuild")["ok"]


def test_the_doctor_reads_what_a_killed_process_left(line: Line) -> None:
    """In SQLite's log; the next start finds it too."""
    code = (
        "import os, signal, sys, capsa; store = capsa.open(sys.argv[1]); router = store.capsule('router')\n"
        "router.feedback(router.decide().id, reward=0.5); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(line.folder)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (line.folder / "store.sqlite-wal").stat().st_size > 0
    diagnosis = line.json("doctor")
    assert (diagnosis["heldBy"], diagnosis["sequences"]) == (None, {"default": 5})
    assert (line.folder / "store.sqlite-wal").stat().st_size > 0
    assert line.json("report", "router")["feedback"]["applied"] == 1


@pytest.fixture
def broken(line: Line) -> Iterator[Line]:
    """A store that is not sound any more; whatever is done to it, the doctor does nothing."""
    decided(line)
    yield line
    before = everything_in(line.folder)
    assert line.run("doctor") == 1
    count = line.out.count("\n! ")
    assert line.out.splitlines()[-1] == ("1 problem" if count == 1 else f"{count} problems")
    assert "Traceback" not in line.out + line.err
    assert everything_in(line.folder) == before


def problems(line: Line) -> dict[str, str]:
    """The problems that the doctor finds, by type; each has a remedy."""
    assert line.run("doctor", "--json") == 1
    diagnosis = json.loads(line.out)
    assert not diagnosis["ok"]
    assert all(problem["remedy"] for problem in diagnosis["problems"])
    return {problem["type"]: problem["detail"] for problem in diagnosis["problems"]}


def test_the_doctor_finds_a_newer_format(broken: Line) -> None:
    connection = sqlite3.connect(broken.folder / "store.sqlite")
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    for file in broken.folder.glob("store.sqlite-*"):
        file.unlink()
    assert "format 9" in problems(broken)["store-too-new"]


def test_the_doctor_finds_rights_that_are_too_wide(broken: Line) -> None:
    (broken.folder / "keys" / "checkpoints.key").chmod(0o644)
    assert "checkpoints.key is open to other users" in problems(broken)["internal"]


def test_the_doctor_finds_missing_keys(broken: Line) -> None:
    for file in (broken.folder / "keys").iterdir():
        file.unlink()
    (broken.folder / "keys").rmdir()
    assert "keys is missing" in problems(broken)["store-damaged"]


def test_the_doctor_finds_a_database_of_somebody_else(broken: Line) -> None:
    (broken.folder / "store.sqlite").unlink()
    connection = sqlite3.connect(broken.folder / "store.sqlite")
    connection.execute("CREATE TABLE mine (it INTEGER)")
    connection.close()
    assert "is not a database of Capsa" in problems(broken)["not-a-store"]


@pytest.mark.parametrize("what", ["garbage", "cut", "empty"])
def test_the_doctor_finds_a_broken_database(broken: Line, what: str) -> None:
    database = broken.folder / "store.sqlite"
    data = database.read_bytes()
    database.write_bytes(
        {"garbage": os.urandom(len(data)), "cut": data[: len(data) // 2], "empty": b""}[what]
    )
    found = problems(broken)
    assert found.keys() & {"store-damaged", "not-a-store"}


def test_the_doctor_finds_a_missing_event(broken: Line) -> None:
    connection = sqlite3.connect(broken.folder / "store.sqlite")
    connection.execute("DELETE FROM event WHERE id = ?", ((1 << 40) + 3,))
    connection.commit()
    connection.close()
    assert broken.run("doctor") == 1
    assert "default 3..3: 1 events are missing (missing)" in broken.out


def test_the_doctor_finds_a_changed_event(broken: Line) -> None:
    connection = sqlite3.connect(broken.folder / "store.sqlite")
    with connection:
        connection.execute("UPDATE event SET time_ms = time_ms + 1 WHERE id = ?", ((1 << 40) + 4,))
    connection.close()
    assert broken.run("doctor") == 1
    assert "default 4..4: this event is not the one that was written here (changed)" in broken.out


def test_the_doctor_warns_of_a_disk_that_is_nearly_full(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this one there is some left: what counts as little is raised."""
    monkeypatch.setattr(_doctor, "_LITTLE_SPACE_BYTES", 1 << 60)
    assert "the disk has" in problems(line)["store-full"]


def test_what_changes_while_it_is_looked_at_is_looked_at_again(line: Line) -> None:
    """Somebody opens the store and decides: what was read before may not fit what is read after."""
    seen = []

    def look(inspection: Inspection) -> list[int]:
        seen.append(inspection.length("default"))
        if len(seen) == 1:
            decided(line)
        return list(seen)

    assert looked_at(line.folder, look) == [3, 4]
