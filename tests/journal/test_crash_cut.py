"""A process that is killed in the middle of a cut or a backup leaves a sound store, and no half of a copy."""

from __future__ import annotations

import random
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.journal.cutting import EVENTS
from tests.journal.test_crash import traced
from tests.journal.test_cut import sequences
from tests.journal.test_writer import blocked

from capsa.journal import NotAStore, SqliteJournal, backup, inspect, restore

PROGRAM = Path(__file__).with_name("cutting.py")
KILLS = 8


def killed(arguments: list[Path], word: bytes, count: int) -> list[list[bytes]]:
    """The lines of the program up to a kill, which comes when it has said a word so often."""
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        lines: list[bytes] = []
        while count:
            lines.append(program.stdout.readline())
            assert lines[-1], "the program ended by itself"
            count -= lines[-1].startswith(word)
        program.send_signal(signal.SIGKILL)
        lines += program.stdout.readlines()
        assert program.wait() == -signal.SIGKILL
    return [line.split() for line in lines if line.endswith(b"\n")]


def test_a_store_is_sound_at_every_moment_of_a_cut(tmp_path: Path) -> None:
    """Again and again on the same store: either some old events are still there, or not; and no fault."""
    store, randoms = tmp_path / "store", random.Random(3)
    first, left = 1, 0
    for _ in range(KILLS):
        # A cut has ten steps; some kills fall between two of them, some on the first or behind the last.
        lines = killed([store], b"step", randoms.randint(1, 25))
        said = [(word.decode(), int(*rest) if rest else 0) for word, *rest in lines]
        snapshots = [sequence for word, sequence in said if word == "snapshot"]
        cuts = [sequence for word, sequence in said if word == "cut"]
        with inspect(store) as found:
            assert found.problems == []
            assert found.verify() == []
            assert found.first("acme") in {*cuts[-1:], *snapshots[-1:], first}
            assert found.first("acme") >= max(cuts, default=first)
            assert found.length("acme") >= max(snapshots, default=0)
            first = found.first("acme")
            with found._asked() as connection:
                left += oldest(connection) < first
        with SqliteJournal(store) as journal:
            assert journal.verify() == []
            assert sequences(journal) == list(range(first, journal.length("acme") + 1))
            assert first == 1 or next(journal.read("acme")).type == "snapshot_sealed"
            blocked(lambda: nothing_left(journal, first))  # noqa: B023
            assert journal.verify() == []
    assert left > KILLS // 4
    assert first > EVENTS


def oldest(connection: sqlite3.Connection) -> int:
    """The first event in the database, though it counts no more."""
    [number] = connection.execute("SELECT min(id) FROM event").fetchone()
    return int(number & (1 << 40) - 1)


def nothing_left(journal: SqliteJournal, first: int) -> bool:
    with journal._reading() as connection:
        return oldest(connection) == first


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_a_backup_that_was_killed_is_none(tmp_path: Path, count: int) -> None:
    """Nothing stands where it should be; what is left beside it cannot be taken for a store; the next one is whole."""
    store, target = tmp_path / "store", tmp_path / "backup"
    lines = killed([store, target], b"copied", count)
    assert [b"backup"] not in lines
    assert not target.exists()
    [partial] = [path for path in tmp_path.iterdir() if path != store]
    assert partial.name.startswith("backup.partial-")
    for use in (SqliteJournal, inspect, lambda folder: restore(folder, tmp_path / "new")):
        with pytest.raises(NotAStore):
            use(partial)
    made = backup(store, target, keys=True)
    assert made.events == 4000
    with SqliteJournal(target) as copy, SqliteJournal(store) as journal:
        assert list(copy.read("acme")) == list(journal.read("acme"))
        assert copy.verify() == journal.verify() == []


def test_a_backup_is_synced_before_it_has_its_name(tmp_path: Path) -> None:
    """The database, every key, the folders; and behind the last rename the folder that it stands in."""
    calls = "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2"
    target = tmp_path / "backup"
    lines = traced(tmp_path / "trace", calls, str(PROGRAM), str(tmp_path / "store"), str(target))
    [named] = [at for at, line in enumerate(lines) if re.search(rf'rename.*"{target}"', line)]
    synced = [re.sub(r".*/backup\.partial-\w+", "", match[1]) for match in synced_files(lines[:named])]
    assert {"/store.sqlite.partial", "/keys/checkpoints.draft", "/keys", ""} <= set(synced)
    written = [
        at for at, line in enumerate(lines) if ".partial-" in line and re.search(r"\bp?write(64)?\(", line)
    ]
    assert max(written) < named
    assert any(match[1] == str(tmp_path) for match in synced_files(lines[named:]))


def synced_files(lines: list[str]) -> list[re.Match[str]]:
    found = (re.search(r"f(?:data)?sync\(\d+<([^>]*)>", line) for line in lines)
    return [match for match in found if match]
