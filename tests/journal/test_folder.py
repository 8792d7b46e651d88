"""One store folder: ours alone, on a local disk, held by one process, of a format we know."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from capsa.errors import HostFault, StoreForked
from capsa.journal import (
    NetworkFileSystem,
    NotAStore,
    SqliteJournal,
    StoreDamaged,
    StoreLocked,
    StoreTooNew,
)
from capsa.journal.sqlite import _folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def record(journal: SqliteJournal, count: int = 1) -> None:
    for number in range(count):
        journal.wait(journal.append("acme", "decided", number, "local", "default/router", b"%d" % number))


def test_a_store_is_one_folder_for_its_owner_only(tmp_path: Path) -> None:
    """It is made with all folders above it; closed, it holds these four."""
    store = tmp_path / "a/b/store"
    with SqliteJournal(store) as journal:
        record(journal)
        assert len(list(journal.read("acme"))) == 1
        assert (journal.folder, journal.keys, journal.cache) == (store, store / "keys", store / "cache")
        assert {mode(path) for path in store.glob("store.sqlite*")} == {0o600}
        assert mode(store / "keys/checkpoints.key") == 0o600
    assert sorted(path.name for path in store.iterdir()) == ["cache", "keys", "lock", "store.sqlite"]
    assert {mode(store), mode(store / "keys"), mode(store / "cache")} == {0o700}


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the working directory changes."""
    monkeypatch.chdir(tmp_path)
    with SqliteJournal("store") as journal:
        record(journal)
        monkeypatch.chdir("/")
        assert [event.sequence for event in journal.read("acme")] == [1]
        journal.seal()


def test_an_empty_folder_is_taken_and_closed_to_others(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir(mode=0o755)
    with SqliteJournal(store):
        assert mode(store) == 0o700


def test_a_store_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """As is a key that they can read."""
    SqliteJournal(tmp_path / "store").close()
    (tmp_path / "store").chmod(0o750)
    with pytest.raises(HostFault, match="chmod 700"):
        SqliteJournal(tmp_path / "store")
    (tmp_path / "store").chmod(0o700)
    with SqliteJournal(tmp_path / "store") as journal:
        (journal.keys / "checkpoints.key").chmod(0o640)
        with pytest.raises(HostFault, match="chmod 600"):
            journal.seal()


@pytest.mark.parametrize("there", ["file", "other things", "other database"])
def test_what_is_no_store_is_left_alone(tmp_path: Path, there: str) -> None:
    """A file, a folder with other things, a database of somebody else."""
    path = tmp_path / "store"
    if there == "file":
        path.write_text("mine")
    else:
        path.mkdir(mode=0o700)
        if there == "other things":
            (path / "thesis.tex").write_text("mine")
        else:
            with closing(sqlite3.connect(path / "store.sqlite")) as database:
                database.execute("CREATE TABLE mine (x)")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(NotAStore):
        SqliteJournal(path)
    for file, content in before.items():
        assert file.read_bytes() == content


def test_a_store_is_open_once(tmp_path: Path) -> None:
    """The second is told by whom, and what to do; closed, the store can be opened again."""
    with SqliteJournal(tmp_path / "store") as journal:
        record(journal)
        with pytest.raises(StoreLocked, match="this process") as caught:
            SqliteJournal(tmp_path / "store")
        assert caught.value.remedy
        open_it = "import sys; from capsa.journal import SqliteJournal; SqliteJournal(sys.argv[1])"
        command = [sys.executable, "-c", open_it, str(tmp_path / "store")]
        other = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert "StoreLocked" in other.stderr
        assert f"process {os.getpid()}" in other.stderr
        record(journal)
    with SqliteJournal(tmp_path / "store") as journal:
        assert journal.length("acme") == 2


def test_a_refused_opener_leaves_the_store_free(tmp_path: Path) -> None:
    """What fails after the lock was taken gives it back."""
    SqliteJournal(tmp_path / "store").close()
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite")) as database:
        database.execute("PRAGMA user_version = 3")
    for _ in range(2):
        with pytest.raises(StoreTooNew):
            SqliteJournal(tmp_path / "store")


def test_a_newer_format_is_refused_with_words(tmp_path: Path) -> None:
    """And not touched."""
    with SqliteJournal(tmp_path / "store") as journal:
        record(journal)
    database = tmp_path / "store/store.sqlite"
    with closing(sqlite3.connect(database)) as newer:
        newer.execute("PRAGMA user_version = 3")
    before = database.read_bytes()
    with pytest.raises(StoreTooNew) as caught:
        SqliteJournal(tmp_path / "store")
    assert "format 3" in caught.value.detail
    assert "formats up to 2" in caught.value.detail
    assert caught.value.remedy
    assert database.read_bytes() == before


@pytest.mark.parametrize(("magic", "name"), [(0x6969, "NFS"), (0xFF534D42, "CIFS"), (0x65735546, "FUSE")])
def test_a_network_file_system_is_refused_by_name(
    tmp_path: Path, magic: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is made on it."""
    asked = []

    def kind_of(path: Path) -> int:
        asked.append(path)
        return magic

    monkeypatch.setattr(_folder, "file_system", kind_of)
    with pytest.raises(NetworkFileSystem, match=name):
        SqliteJournal(tmp_path / "a/store")
    assert asked == [tmp_path]
    assert list(tmp_path.iterdir()) == []


def test_the_kind_of_a_file_system_is_what_the_kernel_says(tmp_path: Path) -> None:
    """`stat -f` of coreutils prints the same number."""
    for path in (tmp_path, Path("/proc")):
        printed = subprocess.run(["stat", "-f", "-c", "%t", path], check=True, capture_output=True, text=True)
        assert _folder.file_system(path) == int(printed.stdout, 16)
    with pytest.raises(FileNotFoundError):
        _folder.file_system(tmp_path / "nothing")


def test_what_is_left_of_a_broken_creation_becomes_a_store(tmp_path: Path) -> None:
    """Wherever the process ended: each file that was made may be the last one."""
    SqliteJournal(tmp_path / "whole").close()
    steps = ("lock", "keys", "keys/checkpoints.key", "keys/checkpoints.pub", "store.sqlite")
    for made in range(1, len(steps) + 1):
        store = tmp_path / str(made)
        store.mkdir(mode=0o700)
        for name in steps[:made]:
            if name == "keys":
                (store / name).mkdir(mode=0o700)
            elif name == "store.sqlite":
                (store / name).touch()
            else:
                shutil.copy(tmp_path / "whole" / name, store / name)
        with SqliteJournal(store) as journal:
            record(journal)
            journal.seal()
            assert journal.verify() == []


def test_a_log_without_its_database_is_damage(tmp_path: Path) -> None:
    """SQLite would delete it."""
    SqliteJournal(tmp_path / "store").close()
    (tmp_path / "store/store.sqlite").rename(tmp_path / "store/store.sqlite-wal")
    with pytest.raises(StoreDamaged, match=r"store\.sqlite-wal"):
        SqliteJournal(tmp_path / "store")
    assert (tmp_path / "store/store.sqlite-wal").exists()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_cannot_use_the_journal_of_its_parent(tmp_path: Path) -> None:
    """Every use is an error; the parent goes on, and the child does not keep the store locked."""
    with SqliteJournal(tmp_path / "store") as journal:
        record(journal, 3)
        event = journal.append("acme", "decided", 1, "local", "", b"")
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(told)
            said = []
            for use in (
                lambda: record(journal),
                lambda: journal.wait(event),
                journal.flush,
                lambda: list(journal.read("acme")),
                lambda: journal.follow("acme", 0, 1),
                lambda: journal.length("acme"),
                journal.streams,
                lambda: journal.blob("b2:"),
                journal.seal,
                lambda: journal.erase("acme", 1),
                journal.verify,
                lambda: journal.claims("acme", b"k"),
                lambda: journal.due(1, 1),
                lambda: journal.cut("acme", 1),
                lambda: journal.secret("name"),
            ):
                try:
                    use()
                    said.append("nothing")
                except StoreForked:
                    said.append("forked")
                except BaseException as error:  # noqa: BLE001 - the parent looks at it
                    said.append(type(error).__name__)
            journal.close()
            os.write(tell, " ".join(said).encode())
            signal.pause()
        os.close(tell)
        try:
            with open(told, "rb") as answers:  # noqa: PTH123 - a file descriptor
                assert set(answers.read(1).decode()) == {"f"}
                assert (b"f" + answers.read(15 * 7 - 2)).decode().split() == ["forked"] * 15
            record(journal)
            journal.close()
            # The child still runs.
            with SqliteJournal(tmp_path / "store") as again:
                assert again.length("acme") == 5
                assert again.verify() == []
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def test_what_was_not_closed_is_written_at_exit(tmp_path: Path) -> None:
    """A program that simply ends loses nothing, though it no longer refers to the journal."""
    program = """
import sys
from capsa.journal import SqliteJournal
def record():
    journal = SqliteJournal(sys.argv[1])
    for number in range(500):
        journal.append("acme", "decided", number, "local", "", b"x")
record()
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=True, timeout=60)
    assert not (tmp_path / "store/store.sqlite-wal").exists()
    with SqliteJournal(tmp_path / "store") as journal:
        assert journal.length("acme") == 500
        assert journal.verify() == []
