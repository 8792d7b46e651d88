"""A store can be looked at without opening it: in use, of another format, broken; and it stays as it is."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from tests.journal.journals import add, fill
from tests.journal.test_backup import content, make
from tests.journal.test_golden import GOLDEN

from capsa import _native
from capsa.errors import (
    HostFault,
    NotAStore,
    StoreDamaged,
    StoreError,
    StoreTooNew,
    UnknownBlob,
)
from capsa.journal import Inspection, SqliteJournal, inspect
from capsa.journal.sqlite import _folder
from capsa.journal.sqlite._tables import FORMAT


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def seen(found: Inspection) -> dict[str, object]:
    streams = {name: list(found.read(name)) for name in found.streams()}
    return {
        "streams": streams,
        "first": {name: found.first(name) for name in streams},
        "cuts": {name: found.cuts(name) for name in streams},
        "checkpoints": found.checkpoints(),
    }


def test_a_sound_store_is_seen_as_it_is(tmp_path: Path) -> None:
    """All of it, whole, and nothing about it changes."""
    with make(tmp_path / "store") as journal:
        said = content(journal)
    before = everything_in(tmp_path / "store")
    with inspect(tmp_path / "store") as found:
        assert (found.folder, found.format, found.known_format) == (tmp_path / "store", FORMAT, FORMAT)
        assert (found.held_by, found.problems, found.readable, found.disturbed) == (None, [], True, False)
        assert found.files == {name: len(data) for name, data in before.items()}
        assert seen(found) == {name: said[name] for name in seen(found)}
        assert (found.length("acme"), found.length("nobody"), found.first("nobody")) == (6, 0, 1)
        assert list(found.read("nobody")) == []
        assert found.cuts("nobody") == []
        assert [event.sequence for event in found.read("acme", 0, 2)] == [4, 5]
        assert [event.sequence for event in found.read("acme", 5)] == [6]
        assert found.blob(_native.digest(b"component")) == b"component"
        with pytest.raises(UnknownBlob):
            found.blob("b2:00")
        assert found.checkpoints(after=1) == found.checkpoints()[1:]
        assert found.secrets() == ["ids-1"]
        assert found.verify() == []
        assert [fault.kind for fault in found.verify(bytes(32))][:1] == ["checkpoint"]
    found.close()
    with pytest.raises(ValueError, match="cannot be read"):
        found.streams()
    assert everything_in(tmp_path / "store") == before


def test_a_store_that_is_open_here_is_seen_at_one_moment(tmp_path: Path) -> None:
    with make(tmp_path / "store") as journal:
        journal.flush()
        with inspect(tmp_path / "store") as found:
            assert (found.held_by, found.problems) == (str(os.getpid()), [])
            before = seen(found)
            journal.wait(add(journal))
            journal.cut("acme", 4)
            assert seen(found) == before
            assert found.verify() == []
            assert not found.disturbed
        # Its locks are still there.
        journal.wait(add(journal))
        assert journal.verify() == []


WRITING = """
import sys
import time
from capsa.journal import SqliteJournal
journal = SqliteJournal(sys.argv[1])
for number in range(20):
    journal.wait(journal.append("acme", "decided", number, "local", "", b"x" * 100))
print("ready", flush=True)
sys.stdin.read()
journal.wait(journal.append("acme", "decided", 21, "local", "", b""))
"""


def test_a_store_in_use_elsewhere_is_seen_and_not_disturbed(tmp_path: Path) -> None:
    """And what is left when that process is killed, log and all."""
    command = [sys.executable, "-c", WRITING, str(tmp_path / "store")]
    for ends in ("by itself", "killed"):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            with inspect(tmp_path / "store") as found:
                assert (found.held_by, found.problems, found.verify()) == (str(child.pid), [], [])
                length = found.length("acme")
            if ends == "killed":
                child.send_signal(signal.SIGKILL)
            child.communicate(timeout=60)
            assert child.returncode == (0 if ends == "by itself" else -signal.SIGKILL)
        log = tmp_path / "store/store.sqlite-wal"
        assert (log.exists() and log.stat().st_size > 0) == (ends == "killed")
        with inspect(tmp_path / "store") as found:
            assert (found.held_by, found.problems, found.verify()) == (None, [], [])
            assert found.length("acme") == length + (ends == "by itself")
    with SqliteJournal(tmp_path / "store") as journal:
        assert journal.length("acme") == 41


def test_who_comes_meanwhile_is_noticed(tmp_path: Path) -> None:
    """Nobody had it open: then SQLite was told that nothing changes."""
    make(tmp_path / "store").close()
    with inspect(tmp_path / "store") as found:
        disturbed = [found.disturbed]
        with SqliteJournal(tmp_path / "store") as journal:
            disturbed.append(found.disturbed)
            journal.wait(add(journal))
        disturbed.append(found.disturbed)
    assert disturbed == [False, True, True]
    with inspect(tmp_path / "store") as found:
        assert (found.disturbed, found.verify()) == (False, [])


def test_who_looks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the lock takes it for a moment: whoever opens the store then tries again."""
    make(tmp_path / "store").close()
    looking = os.open(tmp_path / "store/lock", os.O_RDONLY)
    try:
        fcntl.flock(looking, fcntl.LOCK_SH)
        # What `holder` does next, however long the machine takes for it.
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        with SqliteJournal(tmp_path / "store") as journal:
            assert journal.verify() == []
    finally:
        os.close(looking)


def test_the_first_format_is_read_as_it_is(tmp_path: Path) -> None:
    """And not migrated."""
    store = tmp_path / "store"
    shutil.copytree(GOLDEN / "format-1", store)
    store.chmod(0o700)
    (store / "keys").chmod(0o700)
    before = everything_in(store)
    with inspect(store) as found:
        assert (found.format, found.problems, found.verify()) == (1, [], [])
        assert {name: (found.first(name), found.length(name)) for name in found.streams()} == {
            "acme": (1, 41),
            "münchen": (1, 20),
        }
        assert len(list(found.read("acme"))) == 41
        assert found.cuts("acme") == []
    assert everything_in(store) == before


def test_a_copy_without_keys_is_verified_with_the_key_of_its_original(tmp_path: Path) -> None:
    with make(tmp_path / "store") as journal:
        journal.backup(tmp_path / "backup")
    before = everything_in(tmp_path / "backup")
    with inspect(tmp_path / "backup") as found:
        assert (found.problems, found.verify(), found.secrets()) == ([], [], [])
    assert everything_in(tmp_path / "backup") == before


def problems(folder: Path) -> dict[type, str]:
    """What is wrong, by class; nothing is changed, and each has a remedy."""
    before = everything_in(folder)
    with inspect(folder) as found:
        assert all(problem.remedy for problem in found.problems)
        assert found.readable == (
            not {type(problem) for problem in found.problems} & {StoreDamaged, StoreTooNew, NotAStore}
            or not (folder / "keys").exists()
        )
        said = {type(problem): str(problem) for problem in found.problems}
    assert everything_in(folder) == before
    return said


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make(tmp_path / "store").close()
    return tmp_path / "store"


def test_a_newer_format_is_told(store: Path) -> None:
    with closing(sqlite3.connect(store / "store.sqlite")) as database:
        database.execute("PRAGMA user_version = 3")
    assert "format 3" in problems(store)[StoreTooNew]
    with inspect(store) as found:
        assert (found.format, found.readable) == (3, False)


def test_somebody_elses_database_is_told(store: Path) -> None:
    (store / "store.sqlite").unlink()
    with closing(sqlite3.connect(store / "store.sqlite")) as database:
        database.execute("CREATE TABLE mine (it INTEGER)")
    assert "not a database of Capsa" in problems(store)[NotAStore]


@pytest.mark.parametrize("what", ["garbage", "cut", "empty"])
def test_a_broken_database_is_told(store: Path, what: str) -> None:
    """When it is opened, or when it is read."""
    data = (store / "store.sqlite").read_bytes()
    broken = {"garbage": os.urandom(len(data)), "cut": data[:20_000], "empty": b""}[what]
    (store / "store.sqlite").write_bytes(broken)
    with inspect(store) as found:
        told = {type(problem) for problem in found.problems}
        assert told & {StoreDamaged, NotAStore} or found.verify()


def test_what_is_missing_or_too_open_is_told(store: Path) -> None:
    """Folders, keys, secrets."""
    for path, rights in (("keys/checkpoints.key", 0o640), ("keys/ids-1.secret", 0o604), ("keys", 0o755)):
        kept = (store / path).stat().st_mode
        (store / path).chmod(rights)
        assert f"{path} is open to other users" in problems(store)[HostFault]
        (store / path).chmod(kept)
    assert problems(store) == {}
    shutil.rmtree(store / "keys")
    assert "keys is missing" in problems(store)[StoreDamaged]
    with inspect(store) as found, pytest.raises(StoreError, match=r"checkpoints\.pub"):
        found.verify()


def test_a_log_alone_is_damage(store: Path) -> None:
    (store / "store.sqlite").rename(store / "store.sqlite-wal")
    assert "store.sqlite-wal" in problems(store)[StoreDamaged]


def test_a_rotten_log_is_told(tmp_path: Path) -> None:
    """Where SQLite by itself would drop what stands behind it."""
    with SqliteJournal(tmp_path / "store") as journal:
        for _ in range(8):
            fill(journal, "ddd")
        shutil.copytree(tmp_path / "store", tmp_path / "copy")
    log = bytearray((tmp_path / "copy/store.sqlite-wal").read_bytes())
    log[len(log) // 2] ^= 1
    (tmp_path / "copy/store.sqlite-wal").write_bytes(log)
    assert "commits stand behind byte" in problems(tmp_path / "copy")[StoreDamaged]


def test_a_network_file_system_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folder, "file_system", lambda _: 0x6969)
    with inspect(store) as found:
        assert ["NFS" in str(problem) for problem in found.problems] == [True]
        assert found.verify() == []


def test_what_is_no_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder", "nothing"):
        with pytest.raises(NotAStore, match="is no store"):
            inspect(tmp_path / name)


def test_faults_of_events_are_found(store: Path) -> None:
    with closing(sqlite3.connect(store / "store.sqlite", isolation_level=None)) as database:
        database.execute("DELETE FROM event WHERE id = (SELECT max(id) - 3 FROM event)")
    with inspect(store) as found:
        assert [(fault.kind, fault.stream) for fault in found.verify()] == [("missing", "other")]
        with pytest.raises(StoreDamaged):
            list(found.read("other"))
