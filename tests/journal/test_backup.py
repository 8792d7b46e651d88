"""A backup is one moment of a store, made while it is in use; what is restored from it is that store."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.journal.journals import add, fill
from tests.journal.test_golden import GOLDEN
from tests.journal.test_writer import blocked, held

from capsa import _native
from capsa.errors import CapsaError, HostFault, StoreError
from capsa.journal import (
    Event,
    Journal,
    NotAStore,
    SqliteJournal,
    StoreDamaged,
    StoreFull,
    StoreTooNew,
    backup,
    restore,
)
from capsa.journal.sqlite import _backup


def content(journal: Journal) -> dict[str, object]:
    """Everything that a journal says about what it holds."""
    streams = {name: list(journal.read(name)) for name in journal.streams()}
    return {
        "streams": streams,
        "first": {name: journal.first(name) for name in streams},
        "cuts": {name: journal.cuts(name) for name in streams},
        "claims": {name: journal.claims(name, b"k") for name in streams},
        "due": journal.due(1 << 62, 1000),
        "checkpoints": journal.checkpoints(),
        "secrets": {name: journal.secret(name) for name in journal.secrets()},
    }


def make(folder: Path) -> SqliteJournal:
    """A store with something of everything."""
    journal = SqliteJournal(folder)
    fill(journal, "dddsdd")
    for number in range(40):
        keys = [b"k%03d" % number]
        journal.append("other", "decided", number, "key-1", "a/b", b"<%d>" % number, once=keys, due_ms=number)
    journal.put_blob(_native.digest(b"component"), b"component")
    journal.cut("acme", 4)
    journal.erase("other", 3)
    journal.secret("ids-1")
    journal.seal()
    return journal


def files(folder: Path) -> dict[str, int]:
    """The names and rights of all files and folders."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("way", ["open", "module", "closed"])
def test_a_backup_with_keys_is_the_same_store(tmp_path: Path, way: str) -> None:
    """Of an open journal, beside one, or of a store that nobody has open; and it goes on as that store."""
    journal = make(tmp_path / "store")
    before = content(journal)
    public_key = journal.public_key
    if way == "closed":
        journal.close()
    if way == "open":
        made = journal.backup(tmp_path / "backup", keys=True)
    else:
        made = backup(tmp_path / "store", tmp_path / "backup", keys=True)
    journal.close()
    assert (made.folder, made.events, made.keys) == (tmp_path / "backup", 43, True)
    assert files(made.folder) == {
        "keys": 0o700,
        "keys/checkpoints.key": 0o600,
        "keys/checkpoints.pub": 0o644,
        "keys/ids-1.secret": 0o600,
        "store.sqlite": 0o600,
    }
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    assert made.bytes == sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "store"]
    with SqliteJournal(made.folder) as copy:
        assert content(copy) == before
        assert copy.public_key == public_key
        assert copy.blob(_native.digest(b"component")) == b"component"
        assert copy.verify() == copy.verify(public_key) == []
        copy.wait(add(copy))
        assert copy.seal().signed_by(public_key)
        assert copy.verify(public_key) == []


def test_a_backup_of_a_closed_store_leaves_it_as_it_is(tmp_path: Path) -> None:
    make(tmp_path / "store").close()
    before, bytes_before = files(tmp_path / "store"), held(tmp_path / "store")
    backup(tmp_path / "store", tmp_path / "backup")
    assert (files(tmp_path / "store"), held(tmp_path / "store")) == (before, bytes_before)


def test_a_backup_without_keys_holds_no_secret(tmp_path: Path) -> None:
    """Only the public key of the store that it is a copy of. Opened, it has keys of its own, and vouches for the rest."""
    with make(tmp_path / "store") as journal:
        before, old_key = content(journal), journal.public_key
        made = journal.backup(tmp_path / "backup")
        secret = journal.secret("ids-1")
    assert not made.keys
    assert set(files(made.folder)) == {"keys", "keys/previous.pub", "store.sqlite"}
    assert secret.hex().encode() not in held(made.folder)
    with SqliteJournal(made.folder) as copy:
        assert copy.public_key != old_key
        assert (copy.secrets(), copy.secret("ids-1") == secret) == ([], False)
        sealed = copy.checkpoints()
        assert sealed[:-1] == before["checkpoints"]
        assert sealed[-1].signed_by(copy.public_key)
        assert (sealed[-1].since, sealed[-1].cuts) == (len(sealed), {"acme": 4})
        assert {name: list(copy.read(name)) for name in copy.streams()} == before["streams"]
        assert copy.verify() == copy.verify(copy.public_key) == []
        # The key of the original proves what it signed, and not what came after.
        assert [(fault.kind, fault.first) for fault in copy.verify(old_key)] == [("checkpoint", len(sealed))]
        copy.wait(add(copy))
        copy.seal()
    with SqliteJournal(made.folder) as copy:
        assert copy.verify() == []
        assert copy.seal().since == len(sealed)
        # A copy of the copy.
        second = copy.backup(tmp_path / "second")
        new_key = copy.public_key
    with SqliteJournal(second.folder) as copy:
        assert copy.public_key not in (old_key, new_key)
        assert copy.verify() == []


def test_what_a_copy_vouches_for_cannot_be_changed(tmp_path: Path) -> None:
    """Its old checkpoints follow from the signed one by their digests, their signatures aside."""
    with make(tmp_path / "store") as journal:
        for _ in range(3):
            add(journal)
            journal.seal()
        made = journal.backup(tmp_path / "backup")
    SqliteJournal(made.folder).close()
    for number in range(1, 6):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(made.folder, copy)
        with closing(sqlite3.connect(copy / "store.sqlite", isolation_level=None)) as database:
            [[body]] = database.execute("SELECT body FROM checkpoint WHERE number = ?", (number,))
            changed = bytearray(body)
            changed[body.index(b"heads") + 20] ^= 1
            database.execute("UPDATE checkpoint SET body = ? WHERE number = ?", (changed, number))
        with SqliteJournal(copy) as opened:
            found = [(fault.kind, fault.first) for fault in opened.verify() if fault.kind == "checkpoint"]
        assert ("checkpoint", number) in found


def test_an_interrupted_change_of_keys_is_done_again(tmp_path: Path) -> None:
    """Wherever the process ended that opened the copy first."""
    with make(tmp_path / "store") as journal:
        made = journal.backup(tmp_path / "backup")
    SqliteJournal(made.folder).close()
    (made.folder / "keys/checkpoints.pub").unlink()
    for _ in range(2):
        with SqliteJournal(made.folder) as copy:
            assert copy.verify() == []
            assert copy.seal().signed_by(copy.public_key)


def test_a_copy_of_an_unsealed_store_has_no_checkpoint(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "store") as journal:
        fill(journal, "ddd")
        made = journal.backup(tmp_path / "backup")
    with SqliteJournal(made.folder) as copy:
        assert copy.checkpoints() == []
        assert copy.verify() == []
        assert copy.seal().since == 1


def test_a_backup_beside_many_writers_is_one_moment(tmp_path: Path) -> None:
    """Every stream is there without gaps up to somewhere, with all that was acknowledged before it began."""
    with SqliteJournal(tmp_path / "store") as journal:
        stop = threading.Event()
        acknowledged: dict[str, int] = {}

        def write(caller: int) -> None:
            stream, number = f"tenant-{caller % 4}", 0
            while not stop.is_set():
                number += 1
                key = b"k%d/%d" % (caller, number)
                payload = os.urandom(400)
                event = journal.append(stream, "decided", number, "local", "a/b", payload, once=[key])
                if number % 10 == 0:
                    journal.wait(event)
                    acknowledged[stream] = max(acknowledged.get(stream, 0), event.sequence)

        with ThreadPoolExecutor(8) as pool:
            writers = [pool.submit(write, caller) for caller in range(8)]
            blocked(lambda: len(acknowledged) == 4 and min(acknowledged.values()) > 500)
            taken = []
            for number in range(4):
                before = dict(acknowledged)
                way = journal.backup if number % 2 else lambda folder: backup(journal.folder, folder)
                taken.append((before, way(tmp_path / f"backup-{number}")))
            after = {name: journal.durable(name) for name in journal.streams()}
            stop.set()
            for writer in writers:
                writer.result(timeout=60)
        journal.flush()
        original = {name: list(journal.read(name)) for name in journal.streams()}
        claims = {name: journal.claims(name, b"k") for name in journal.streams()}
    for before, made in taken:
        with SqliteJournal(made.folder) as copy:
            lengths = {name: copy.length(name) for name in copy.streams()}
            assert made.events == sum(lengths.values())
            assert all(before[name] <= lengths[name] <= after[name] for name in before)
            for name, length in lengths.items():
                assert list(copy.read(name)) == original[name][:length]
                assert copy.claims(name, b"k") == [row for row in claims[name] if row[1] <= length]
            assert copy.verify() == []


def test_a_backup_while_another_process_writes(tmp_path: Path) -> None:
    """Which is not disturbed."""
    program = Path(__file__).with_name("recording.py")
    command = [sys.executable, str(program), str(tmp_path / "store"), "--callers", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(400)]
        made = [backup(tmp_path / "store", tmp_path / f"backup-{number}", keys=True) for number in range(3)]
        lines += [child.stdout.readline() for _ in range(400)]
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
    said = {tuple(line.split()[:2]): line.split()[2] for line in lines[1:400]}
    for copy in made:
        with SqliteJournal(copy.folder) as journal:
            there = {
                (name.encode(), b"%d" % event.sequence): event.payload
                for name in journal.streams()
                for event in journal.read(name)
            }
            assert said.items() <= there.items()
            assert len(there) == copy.events
            assert journal.verify() == []
    # What a killed process has left is copied too, its log included.
    last = backup(tmp_path / "store", tmp_path / "last")
    with SqliteJournal(tmp_path / "store") as journal:
        assert last.events == sum(map(journal.length, journal.streams()))


def test_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ascending, up to all of it; what it raises ends the backup, and nothing is left."""
    monkeypatch.setattr(_backup, "_STEPS", 1000)
    with SqliteJournal(tmp_path / "store") as journal:
        for number in range(3000):
            add(journal, payload=b"%d" % number * 100)
        journal.flush()
        told: list[tuple[int, int]] = []
        journal.backup(tmp_path / "backup", progress=lambda done, total: told.append((done, total)))
        assert len(told) > 3
        assert told == sorted(told, key=lambda pair: pair[0])
        assert all(0 <= done <= total for done, total in told)
        assert told[-1][0] == told[-1][1] > 500_000

        def stop(*_: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            journal.backup(tmp_path / "other", progress=stop)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "store"]
        journal.wait(add(journal))
        assert len(list(journal.read("acme"))) == 3001


def test_nothing_that_was_erased_or_cut_is_in_a_backup(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "store") as journal:
        for number in range(500):
            add(
                journal,
                payload=b"<payload %d>" % number,
                type_="snapshot_sealed" if number == 99 else "decided",
            )
        journal.erase("acme", 301)
        journal.cut("acme", 100)
        made = journal.backup(tmp_path / "backup", keys=True)
    content = held(made.folder)
    assert [n for n in (*range(99), 300) if b"<payload %d>" % n in content] == []
    assert b"<payload 299>" in content


@pytest.mark.parametrize("make_copy", [backup, restore])
def test_a_folder_that_holds_something_is_refused(
    tmp_path: Path, make_copy: Callable[[Path, Path], object]
) -> None:
    """As is a source that is no store, and a target within it. An empty folder is taken."""
    make(tmp_path / "store").close()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "full", tmp_path / "file", tmp_path / "store"):
        with pytest.raises(NotAStore):
            make_copy(tmp_path / "store", target)
    with pytest.raises(NotAStore, match="in the store itself"):
        make_copy(tmp_path / "store", tmp_path / "store/backup")
    for source in (tmp_path / "nothing", tmp_path / "full", tmp_path / "file"):
        with pytest.raises(NotAStore, match="is no store"):
            make_copy(source, tmp_path / "new")
    (tmp_path / "empty").mkdir()
    make_copy(tmp_path / "store", tmp_path / "empty")
    assert stat.S_IMODE((tmp_path / "empty").stat().st_mode) == 0o700
    make_copy(tmp_path / "store", tmp_path / "a/b/new")
    SqliteJournal(tmp_path / "a/b/new").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty", "file", "full", "store"]


def test_a_store_of_a_newer_format_is_not_copied(tmp_path: Path) -> None:
    make(tmp_path / "store").close()
    with closing(sqlite3.connect(tmp_path / "store/store.sqlite")) as database:
        database.execute("PRAGMA user_version = 3")
    for make_copy in (backup, restore):
        with pytest.raises(StoreTooNew):
            make_copy(tmp_path / "store", tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_keys_that_cannot_be_copied_are_named(tmp_path: Path) -> None:
    """A backup that should have them and has not is none."""
    with make(tmp_path / "store") as journal:
        (journal.keys / "ids-1.secret").chmod(0o640)
        with pytest.raises(HostFault, match="chmod 600"):
            journal.backup(tmp_path / "backup", keys=True)
        (journal.keys / "ids-1.secret").chmod(0o600)
        (journal.keys / "checkpoints.key").unlink()
        with pytest.raises(StoreError, match=r"checkpoints\.key"):
            journal.backup(tmp_path / "backup", keys=True)
        assert [path.name for path in tmp_path.iterdir()] == ["store"]
        journal.backup(tmp_path / "backup")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """By the name of the target; the journal goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k,mode=700", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: it takes root")
    try:
        with SqliteJournal(tmp_path / "store") as journal:
            for _ in range(100):
                add(journal, payload=bytes(10_000))
            journal.flush()
            with pytest.raises(StoreFull, match="disk/backup"):
                journal.backup(disk / "backup")
            assert list(disk.iterdir()) == []
            journal.wait(add(journal))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def kept(folder: Path) -> list[Event]:
    with SqliteJournal(folder) as journal:
        assert journal.verify() == []
        return [event for name in journal.streams() for event in journal.read(name)]


@pytest.mark.parametrize("keys", [True, False])
def test_what_is_restored_is_what_was_backed_up(tmp_path: Path, keys: bool) -> None:
    """Verified before it stands there; the backup is left as it is."""
    with make(tmp_path / "store") as journal:
        made = journal.backup(tmp_path / "backup", keys=keys)
    before = files(made.folder), held(made.folder)
    told: list[tuple[int, int]] = []
    restored = restore(made.folder, tmp_path / "new", progress=lambda *pair: told.append(pair))
    assert (restored.folder, restored.events, restored.keys) == (tmp_path / "new", 43, keys)
    assert (files(made.folder), held(made.folder)) == before
    assert set(files(restored.folder)) == set(files(made.folder))
    assert told[-1][0] == told[-1][1] > 0
    assert kept(restored.folder) == kept(tmp_path / "store")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE event SET time_ms = time_ms + 1 WHERE id = (SELECT max(id) FROM event)",
        "DELETE FROM event WHERE id = (SELECT max(id) - 3 FROM event)",
        "UPDATE blob SET data = x'00'",
        "DELETE FROM checkpoint WHERE number = 1",
        "UPDATE stream SET first = 6 WHERE name = 'acme'",
    ],
)
def test_a_damaged_backup_is_refused_with_its_faults(tmp_path: Path, change: str) -> None:
    with make(tmp_path / "store") as journal:
        made = journal.backup(tmp_path / "backup")
    with closing(sqlite3.connect(made.folder / "store.sqlite", isolation_level=None)) as database:
        database.execute(change)
    with pytest.raises(StoreDamaged, match=r"the backup .* is damaged: .*") as caught:
        restore(made.folder, tmp_path / "new")
    assert caught.value.remedy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "store"]


def test_a_backup_with_garbage_is_refused_or_restored_whole(tmp_path: Path) -> None:
    """Whichever page it stands in: the one or the other, and nearly always the first."""
    with SqliteJournal(tmp_path / "store") as journal:
        for number in range(300):
            keys = [b"k%d" % number]
            journal.append("acme", "decided", 1, "local", "", b"%d" % number * 100, once=keys, due_ms=number)
        made = journal.backup(tmp_path / "backup", keys=True)
        before = content(journal)
    whole = (made.folder / "store.sqlite").read_bytes()
    refused = 0
    for at in range(0, len(whole), 8192):
        broken = bytearray(whole)
        broken[at : at + 8192] = bytes(range(1, 256)) * 32 + bytes(32)
        (made.folder / "store.sqlite").write_bytes(broken)
        try:
            restore(made.folder, tmp_path / "new")
        except CapsaError:
            refused += 1
            assert not (tmp_path / "new").exists()
        else:
            with SqliteJournal(tmp_path / "new") as journal:
                assert content(journal) == before
                assert journal.verify() == []
            shutil.rmtree(tmp_path / "new")
    assert refused > len(whole) // 8192 - 3


def test_a_golden_store_can_be_backed_up_and_restored(tmp_path: Path) -> None:
    """Of the first format, which nobody has opened since; it is migrated when the copy is opened."""
    store = tmp_path / "store"
    shutil.copytree(GOLDEN / "format-1", store)
    store.chmod(0o700)
    made = backup(store, tmp_path / "backup")
    restored = restore(made.folder, tmp_path / "new")
    assert made.events == restored.events == 61
    with SqliteJournal(restored.folder) as journal:
        assert journal.migrated_from == 1
        assert journal.verify() == []
