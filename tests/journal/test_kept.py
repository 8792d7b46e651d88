"""What is kept beside the events: blobs and secrets, in every journal."""

from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.journal.journals import add
from tests.journal.test_writer import blocked

from capsa import _native
from capsa.errors import HostFault, StoreError
from capsa.journal import Journal, SqliteJournal, UnknownBlob
from capsa.journal.sqlite import _blobs


def put(journal: Journal, data: bytes, *, wait: bool = True) -> str:
    digest = _native.digest(data)
    journal.put_blob(digest, data, wait=wait)
    return digest


def test_a_blob_need_not_be_waited_for(journal: Journal) -> None:
    """It is there once an event is durable that was appended after it."""
    digest = put(journal, b"component", wait=False)
    journal.wait(add(journal))
    assert journal.blob(digest) == b"component"
    with pytest.raises(ValueError, match="do not have the digest"):
        journal.put_blob(digest, b"other", wait=False)


def test_an_event_is_never_durable_without_the_blob_before_it(tmp_path: Path) -> None:
    """Nobody sees one without the other, and putting does not wait for the disk."""
    with SqliteJournal(tmp_path / "store") as journal:
        with closing(sqlite3.connect(tmp_path / "store/store.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            held_up = add(journal)
            blocked(lambda: journal._writer._writing is not None)
            digest = put(journal, b"component", wait=False)
            event = add(journal)
            with pytest.raises(UnknownBlob):
                journal.blob(digest)
            other.execute("ROLLBACK")
        journal.wait(held_up)
        seen = journal.follow("acme", 0, 60)
        journal.wait(event)
        assert event in seen or journal.durable("acme") == 2
        assert journal.blob(digest) == b"component"


def test_blobs_that_nobody_keeps_are_dropped(journal: Journal) -> None:
    """All others stay; dropped ones can come back."""
    digests = [put(journal, b"component %d" % number) for number in range(5)]
    queued = put(journal, b"queued", wait=False)
    assert journal.drop_blobs([digests[1], digests[3], "b2:unknown"]) == 4
    for digest in (digests[0], digests[2], digests[4], queued):
        with pytest.raises(UnknownBlob):
            journal.blob(digest)
    assert [journal.blob(digests[at]) for at in (1, 3)] == [b"component 1", b"component 3"]
    assert journal.drop_blobs({digests[1], digests[3]}) == 0
    assert journal.blob(put(journal, b"component 0")) == b"component 0"
    assert journal.verify() == []
    assert journal.drop_blobs([]) == 3


def test_the_room_of_dropped_blobs_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many transactions it takes."""
    monkeypatch.setattr(_blobs, "_STEP_BYTES", 250_000)
    with SqliteJournal(tmp_path / "store") as journal:
        for number in range(20):
            put(journal, b"%d" % number + bytes(100_000))
        statements: list[str] = []
        journal._writer._connection.set_trace_callback(statements.append)
        assert journal.drop_blobs([]) == 20
        journal._writer._connection.set_trace_callback(None)
        # Two at a time, and one to see what there is.
        assert statements.count("COMMIT") == 11
        for number in range(20):
            put(journal, b"other %d" % number + bytes(100_000))
    assert (tmp_path / "store/store.sqlite").stat().st_size < 2_400_000


def test_a_secret_is_made_once(journal: Journal) -> None:
    """32 random bytes a name, the same for everybody who asks."""
    assert journal.secrets() == []
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(journal.secret, ["ids-1"] * 16))
    other = journal.secret("a" * 40)
    assert len(answers) == 1
    assert answers != {other}
    assert {len(secret) for secret in (*answers, other)} == {32}
    assert journal.secrets() == sorted(["ids-1", "a" * 40])


@pytest.mark.parametrize("name", ["", "a" * 41, "A", "a/b", "../a", "a.b", "ä", "a\n", "a_b"])
def test_what_is_no_name_of_a_secret_is_refused(journal: Journal, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        journal.secret(name)
    assert journal.secrets() == []


def test_secrets_of_two_journals_differ(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "one") as one, SqliteJournal(tmp_path / "other") as other:
        assert one.secret("ids") != other.secret("ids")


def test_a_secret_stays_with_its_store(tmp_path: Path) -> None:
    """In a file of its own, for the owner only, made whole."""
    with SqliteJournal(tmp_path / "store") as journal:
        secret = journal.secret("ids-1")
        file = journal.keys / "ids-1.secret"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() == secret.hex() + "\n"
        assert sorted(path.name for path in journal.keys.iterdir()) == [
            "checkpoints.key",
            "checkpoints.pub",
            "ids-1.secret",
        ]
    with SqliteJournal(tmp_path / "store") as journal:
        assert journal.secrets() == ["ids-1"]
        assert journal.secret("ids-1") == secret


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "store") as journal:
        secret = journal.secret("ids")
        (journal.keys / "ids.secret").chmod(0o640)
        with pytest.raises(HostFault, match="chmod 600") as caught:
            journal.secret("ids")
        assert secret.hex() not in str(caught.value)


@pytest.mark.parametrize("content", ["", "00", "zz" * 32, "00" * 33, "AA" * 32, "00" * 31 + "0\n"])
def test_a_broken_secret_is_named(tmp_path: Path, content: str) -> None:
    """With the remedy, and without what it holds. It is never made anew: what it has sealed would be lost."""
    with SqliteJournal(tmp_path / "store") as journal:
        journal.secret("ids")
        (journal.keys / "ids.secret").write_text(content)
        with pytest.raises(StoreError, match=r"ids\.secret.*backup") as caught:
            journal.secret("ids")
        assert len(content) < 64 or content.strip() not in str(caught.value)
        assert (journal.keys / "ids.secret").read_text() == content


def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with SqliteJournal(tmp_path / "store") as journal:
        (journal.keys / "ids.secret").mkdir()
        with pytest.raises(StoreError, match=r"ids\.secret cannot be read"):
            journal.secret("ids")
