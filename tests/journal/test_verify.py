"""Whatever is changed behind the journal's back, `verify` finds; and it finds nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.journal.tampering import Tampered, rewrite

from capsa import _native
from capsa.errors import StoreError
from capsa.journal import Checkpoint, SqliteJournal, StoreDamaged, _checkpoint
from capsa.journal.sqlite import _keys
from capsa.journal.sqlite._tables import SEQUENCE_BITS

#: Checkpoints are sealed after this many events of `acme`; then 10 more follow.
SEALED = (20, 40)
LENGTH = 50
ERASED = 33


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two streams, two checkpoints, an erased event and a blob."""
    folder = tmp_path_factory.mktemp("sound") / "store"
    with SqliteJournal(folder) as journal:
        for number in range(1, LENGTH + 1):
            path = "default/router" if number % 3 else "default/other"
            journal.append("acme", "decided", 1000 + number, "local", path, b"payload %d" % number)
            if number % 2:
                journal.append("beta", "decided", 1000 + number, "local", path, b"beta %d" % number)
            if number in SEALED:
                journal.seal()
        journal.erase("acme", ERASED)
        journal.put_blob(_native.digest(b"component"), b"component")
        assert journal.verify() == []
    with closing(sqlite3.connect(folder / "store.sqlite")) as database:
        salts = database.execute("SELECT salt FROM event WHERE salt IS NOT NULL").fetchall()
    assert len(set(salts)) == len(salts) > LENGTH
    return folder


@pytest.fixture
def tampered(sound: Path, tmp_path: Path) -> Iterator[Tampered]:
    copy = tmp_path / "store"
    shutil.copytree(sound, copy)
    with closing(Tampered(copy)) as opened:
        yield opened


def test_an_untouched_copy_is_intact(tampered: Tampered) -> None:
    assert tampered.faults() == []


@pytest.mark.parametrize("sequence", [1, 20, 21, 40, 45, 50])
@pytest.mark.parametrize(
    "change",
    [
        "payload = CAST(payload || x'00' AS BLOB)",
        "payload = x''",
        "time_ms = time_ms + 1",
        "time_ms = -1",
        "origin = (SELECT max(id) FROM origin) - origin + 1",
        "origin = 999",
        "salt = randomblob(16)",
        "salt = x'00'",
        "checksum = checksum + 1",
        "salt = NULL, payload = NULL",
        "salt = NULL, payload = NULL, digest = zeroblob(32)",
        "salt = NULL, payload = NULL, digest = x'00'",
        "digest = zeroblob(32)",
    ],
)
def test_a_changed_event_is_found(tampered: Tampered, change: str, sequence: int) -> None:
    """Whichever part of it, wherever it stands; and only that event is named."""
    tampered(f"UPDATE event SET {change} WHERE id = ?", tampered.id(sequence))  # noqa: S608 - from the list above
    assert tampered.found() == [("changed", "acme", sequence, sequence)]


def test_what_was_erased_cannot_be_put_back_otherwise(tampered: Tampered) -> None:
    tampered(
        "UPDATE event SET salt = zeroblob(16), payload = x'a0', digest = NULL WHERE id = ?",
        tampered.id(ERASED),
    )
    assert tampered.found() == [("changed", "acme", ERASED, ERASED)]


@given(sequences=st.sets(st.integers(1, LENGTH), min_size=1, max_size=12))
def test_one_fault_does_not_hide_another(
    sound: Path, sequences: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every changed event is named, however many there are."""
    copy = tmp_path_factory.mktemp("tampered") / "store"
    shutil.copytree(sound, copy)
    tampered = Tampered(copy)
    for sequence in sequences:
        tampered("UPDATE event SET time_ms = time_ms + 1 WHERE id = ?", tampered.id(sequence))
    assert tampered.found() == [("changed", "acme", sequence, sequence) for sequence in sorted(sequences)]
    shutil.rmtree(copy)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (7, 9), (20, 20), (19, 41), (40, 41), (1, 50), (44, 50)])
def test_missing_events_are_found(tampered: Tampered, first: int, last: int) -> None:
    """In front, in the middle, at the end, and around a checkpoint."""
    tampered("DELETE FROM event WHERE id BETWEEN ? AND ?", tampered.id(first), tampered.id(last))
    assert tampered.found() == [("missing", "acme", first, last)]


@pytest.mark.parametrize(("one", "other"), [(3, 4), (20, 21), (10, 30), (1, 50)])
def test_swapped_events_are_found(tampered: Tampered, one: int, other: int) -> None:
    """Both are named: a header holds its sequence."""
    first, second = tampered.id(one), tampered.id(other)
    for old, new in ((first, 0), (second, first), (0, second)):
        tampered("UPDATE event SET id = ? WHERE id = ?", new, old)
    assert tampered.found() == [("changed", "acme", one, one), ("changed", "acme", other, other)]


def test_an_event_from_another_stream_is_found(tampered: Tampered) -> None:
    tampered("DELETE FROM event WHERE id = ?", tampered.id(5))
    tampered("UPDATE event SET id = ? WHERE id = ?", tampered.id(5), tampered.id(5, "beta"))
    assert tampered.found() == [("changed", "acme", 5, 5), ("missing", "beta", 5, 5)]


@pytest.mark.parametrize("added", [LENGTH + 1, LENGTH + 7])
def test_an_added_event_is_found(tampered: Tampered, added: int) -> None:
    """Behind the end of the stream, where a copy of another one was put."""
    tampered.copy_event(7, added)
    assert tampered.found() == [("added", "acme", added, added)]


def test_an_inserted_event_moves_the_others(tampered: Tampered) -> None:
    """Put between two, it is found with every event behind it, up to the stream's end."""
    for sequence in range(LENGTH, 29, -1):
        tampered("UPDATE event SET id = ? WHERE id = ?", tampered.id(sequence + 1), tampered.id(sequence))
    tampered.copy_event(29, 30)
    changed = [("changed", "acme", sequence, sequence) for sequence in range(30, LENGTH + 1)]
    assert tampered.found() == [*changed, ("added", "acme", LENGTH + 1, LENGTH + 1)]


def test_events_of_an_unknown_stream_are_found(tampered: Tampered) -> None:
    tampered("UPDATE event SET id = ? WHERE id = ?", (77 << SEQUENCE_BITS) + 5, tampered.id(1))
    assert tampered.found() == [("missing", "acme", 1, 1), ("added", "", 5, 5)]


def test_a_renamed_stream_is_found(tampered: Tampered) -> None:
    """Its events say where they belong, and what was sealed is missing."""
    tampered("UPDATE stream SET name = 'gamma' WHERE name = 'beta'")
    found = tampered.found()
    assert ("missing", "beta", 1, 20) in found
    assert ("changed", "gamma", 1, 1) in found


def test_a_changed_origin_is_found(tampered: Tampered) -> None:
    """Every event of it is named."""
    tampered("UPDATE origin SET principal = 'mallory' WHERE path = 'default/other'")
    found = tampered.found()
    assert [fault for fault in found if fault[1] == "acme"] == [
        ("changed", "acme", sequence, sequence) for sequence in range(3, LENGTH + 1, 3)
    ]


@pytest.mark.parametrize(("changed", "first", "last"), [(1, 1, 20), (20, 1, 20), (21, 21, 40), (40, 21, 40)])
def test_a_chain_that_was_computed_anew_does_not_fit_its_checkpoint(
    tampered: Tampered, changed: int, first: int, last: int
) -> None:
    """Checksums, heads and the stream's end all agree, but no longer with what was signed."""
    rewrite(tampered, forged=changed)
    found = tampered.found()
    assert found[0] == ("rewritten", "acme", first, last)
    # The forged end does not follow from the sealed head either.
    assert {fault[0] for fault in found} == {"rewritten"}


def test_a_fault_does_not_hide_what_was_rewritten_behind_the_next_checkpoint(tampered: Tampered) -> None:
    """There the chain is taken up again, with the head that was signed."""
    rewrite(tampered, forged=30)
    tampered("UPDATE event SET time_ms = 7 WHERE id = ?", tampered.id(5))
    assert tampered.found()[:2] == [("changed", "acme", 5, 5), ("rewritten", "acme", 21, 40)]


def test_what_no_checkpoint_covers_can_be_forged(tampered: Tampered) -> None:
    """The limit of the method, written down in docs/journal.md: seal often enough."""
    rewrite(tampered, forged=45)
    assert tampered.found() == []


@pytest.mark.parametrize(("last", "gone"), [(39, (40, 40)), (20, (21, 40)), (5, (6, 40))])
def test_a_tail_cut_below_a_checkpoint_is_found(tampered: Tampered, last: int, gone: tuple[int, int]) -> None:
    """Though the stream's own length and head were set to fit."""
    rewrite(tampered, last=last)
    assert tampered.found() == [("missing", "acme", *gone)]


def test_a_changed_end_of_the_stream_is_found(tampered: Tampered) -> None:
    tampered("UPDATE stream SET head = zeroblob(32) WHERE name = 'acme'")
    assert tampered.found() == [("rewritten", "acme", 41, 50)]


def forged(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> Checkpoint:
    heads = {name: (length, bytes(32)) for name, (length, _) in checkpoint.heads.items()}
    return _checkpoint.sign(key, checkpoint.number, checkpoint.previous, heads)


def test_a_forged_checkpoint_is_found(tampered: Tampered) -> None:
    """Signed by somebody else it is no checkpoint; the events are not blamed for it."""
    [[body, signature]] = tampered("SELECT body, signature FROM checkpoint WHERE number = 2")
    fake = forged(_checkpoint.decode(body, signature), Ed25519PrivateKey.generate())
    tampered("UPDATE checkpoint SET body = ?, signature = ? WHERE number = 2", fake.body, fake.signature)
    assert tampered.found() == [("checkpoint", "", 2, 2)]


def test_a_checkpoint_of_another_history_is_found(tampered: Tampered) -> None:
    """Signed with the right key, but following another one: a backup was restored and went on."""
    [[body, _]] = tampered("SELECT body, signature FROM checkpoint WHERE number = 2")
    key = _keys.private_key(tampered.folder / "keys")
    other = _checkpoint.sign(key, 2, b"x" * 32, _checkpoint.decode(body, b"").heads)
    tampered("UPDATE checkpoint SET body = ?, signature = ? WHERE number = 2", other.body, other.signature)
    assert tampered.found() == [("checkpoint", "", 2, 2)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE checkpoint SET signature = zeroblob(64) WHERE number = 1", [1]),
        ("UPDATE checkpoint SET signature = x'' WHERE number = 2", [2]),
        ("UPDATE checkpoint SET body = CAST(body || x'00' AS BLOB) WHERE number = 1", [1]),
        ("UPDATE checkpoint SET body = x'' WHERE number = 1", [1]),
        ("UPDATE checkpoint SET body = x'a0' WHERE number = 1", [1]),
        ("UPDATE checkpoint SET body = x'80' WHERE number = 2", [2]),
        ("UPDATE checkpoint SET number = 3 WHERE number = 2", [2, 3]),
        ("DELETE FROM checkpoint WHERE number = 1", [1]),
    ],
)
def test_a_broken_checkpoint_is_found(tampered: Tampered, change: str, found: list[int]) -> None:
    """Changed, unreadable, renumbered or missing; the events are not blamed for it."""
    tampered(change)
    assert [(fault.kind, fault.first) for fault in tampered.faults()] == [
        ("checkpoint", number) for number in found
    ]


def test_a_replaced_key_is_found_with_the_right_one(tampered: Tampered, tmp_path: Path) -> None:
    """Who can write the whole folder can sign anew: a public key kept elsewhere tells."""
    with SqliteJournal(tmp_path / "other") as other:
        stranger = other.keys
        key = other.public_key
    with SqliteJournal(tampered.folder) as journal:
        right = journal.public_key
        shutil.copytree(stranger, journal.keys, dirs_exist_ok=True)
    tampered("DELETE FROM checkpoint")
    rewrite(tampered, forged=1)
    tampered.close()
    with SqliteJournal(tampered.folder) as journal:
        assert journal.public_key == key
        journal.seal()
        assert journal.verify() == []
        assert [(fault.kind, fault.first) for fault in journal.verify(right)] == [("checkpoint", 1)]


def test_a_lost_key_is_named(tampered: Tampered) -> None:
    """Sealing and verifying say which file is gone; recording goes on."""
    tampered.close()
    (tampered.folder / "keys/checkpoints.key").unlink()
    with SqliteJournal(tampered.folder) as journal:
        assert journal.verify() == []
        with pytest.raises(StoreError, match=r"checkpoints\.key"):
            journal.seal()
        journal.wait(journal.append("acme", "decided", 1, "local", "", b""))
    (tampered.folder / "keys/checkpoints.pub").write_text("nonsense")
    with SqliteJournal(tampered.folder) as journal, pytest.raises(StoreError, match=r"checkpoints\.pub"):
        journal.verify()


def test_a_changed_blob_is_found(tampered: Tampered) -> None:
    """By `verify`, and by whoever asks for it."""
    tampered("UPDATE blob SET data = x'00'")
    [fault] = tampered.faults()
    assert (fault.kind, fault.stream) == ("changed", "")
    assert _native.digest(b"component") in fault.detail
    with SqliteJournal(tampered.folder) as journal, pytest.raises(StoreDamaged):
        journal.blob(_native.digest(b"component"))


@pytest.mark.parametrize(
    "change",
    [
        lambda tampered: tampered("DELETE FROM event WHERE id = ?", tampered.id(7)),
        lambda tampered: tampered("UPDATE event SET origin = 99 WHERE id = ?", tampered.id(7)),
    ],
    ids=["missing", "of no origin"],
)
def test_reading_does_not_pass_over_a_lost_event(
    tampered: Tampered, change: Callable[[Tampered], object]
) -> None:
    """It is an error, and the journal fails: nobody shall build on half of it."""
    change(tampered)
    tampered.close()
    with SqliteJournal(tampered.folder) as journal:
        with pytest.raises(StoreDamaged):
            list(journal.read("acme"))
        with pytest.raises(StoreDamaged):
            journal.append("acme", "decided", 1, "local", "", b"")
