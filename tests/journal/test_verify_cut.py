"""What `verify` finds in a stream that was cut: the same as elsewhere, and a cut that nobody signed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.journal.journals import fill
from tests.journal.tampering import Tampered, rewrite

from capsa.journal import SqliteJournal, _chain, _checkpoint
from capsa.journal.sqlite import _keys
from capsa.journal.sqlite._verify import verify_database

SNAPSHOTS = (10, 20, 30, 40, 50)
#: Where it is cut. Checkpoints 1 and 2 were sealed at 15 and 25, before the cut; the third is the cut's own.
CUT = 20
SEALED = (15, 25, 45)
LENGTH = 55
ERASED = 33


def letters(first: int, last: int) -> str:
    return "".join("s" if number in SNAPSHOTS else "d" for number in range(first, last + 1))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "store"
    with SqliteJournal(folder) as journal:
        fill(journal, letters(1, 15))
        fill(journal, "dds", "other")
        journal.seal()
        fill(journal, letters(16, 25))
        journal.seal()
        fill(journal, letters(26, 45))
        journal.cut("acme", CUT)
        fill(journal, letters(46, LENGTH))
        journal.erase("acme", ERASED)
        assert [checkpoint.heads["acme"][0] for checkpoint in journal.checkpoints()] == list(SEALED)
        assert journal.verify() == []
    return folder


@pytest.fixture
def tampered(sound: Path, tmp_path: Path) -> Iterator[Tampered]:
    copy = tmp_path / "store"
    shutil.copytree(sound, copy)
    with closing(Tampered(copy)) as opened:
        yield opened


def test_an_untouched_copy_is_intact(tampered: Tampered) -> None:
    """With the public key kept elsewhere too."""
    key = _keys.public_key(tampered.folder / "keys")
    assert tampered.faults(key) == []


@pytest.mark.parametrize("sequence", [CUT, CUT + 1, 25, 30, 45, LENGTH])
@pytest.mark.parametrize(
    "change",
    [
        "payload = x''",
        "time_ms = time_ms + 1",
        "origin = (SELECT max(id) FROM origin) - origin + 1",
        "checksum = checksum + 1",
        "salt = NULL, payload = NULL, digest = zeroblob(32)",
    ],
)
def test_a_changed_event_is_found(tampered: Tampered, change: str, sequence: int) -> None:
    tampered(f"UPDATE event SET {change} WHERE id = ?", tampered.id(sequence))  # noqa: S608 - from the list above
    assert tampered.found() == [("changed", "acme", sequence, sequence)]


@given(sequences=st.sets(st.integers(CUT, LENGTH), min_size=1, max_size=12))
def test_one_fault_does_not_hide_another(
    sound: Path, sequences: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("tampered") / "store"
    shutil.copytree(sound, copy)
    tampered = Tampered(copy)
    for sequence in sequences:
        tampered("UPDATE event SET time_ms = time_ms + 1 WHERE id = ?", tampered.id(sequence))
    assert tampered.found() == [("changed", "acme", sequence, sequence) for sequence in sorted(sequences)]
    shutil.rmtree(copy)


@pytest.mark.parametrize(
    ("first", "last"), [(CUT, CUT), (CUT, CUT + 3), (27, 29), (25, 25), (44, 46), (CUT, LENGTH), (50, LENGTH)]
)
def test_missing_events_are_found(tampered: Tampered, first: int, last: int) -> None:
    tampered("DELETE FROM event WHERE id BETWEEN ? AND ?", tampered.id(first), tampered.id(last))
    assert tampered.found() == [("missing", "acme", first, last)]


@pytest.mark.parametrize(("one", "other"), [(21, 22), (CUT, 21), (24, 46), (30, 40)])
def test_swapped_events_are_found(tampered: Tampered, one: int, other: int) -> None:
    first, second = tampered.id(one), tampered.id(other)
    for old, new in ((first, 0), (second, first), (0, second)):
        tampered("UPDATE event SET id = ? WHERE id = ?", new, old)
    assert tampered.found() == [("changed", "acme", one, one), ("changed", "acme", other, other)]


@pytest.mark.parametrize(
    ("forged", "first", "last"), [(CUT, 20, 25), (25, 20, 25), (26, 26, 45), (45, 26, 45)]
)
def test_a_chain_that_was_computed_anew_does_not_fit_the_checkpoints_behind_the_cut(
    tampered: Tampered, forged: int, first: int, last: int
) -> None:
    """Those that are older than the cut cannot be compared any more; those behind it still prove it."""
    rewrite(tampered, forged=forged)
    found = tampered.found()
    assert ("rewritten", "acme", first, last) in found
    assert {kind for kind, *_ in found} <= {"rewritten", "changed"}


def test_a_tail_cut_below_a_checkpoint_is_found(tampered: Tampered) -> None:
    rewrite(tampered, last=35)
    assert tampered.found() == [("missing", "acme", 36, 45)]


def move_cut(tampered: Tampered, first: int) -> None:
    """Deletes what is before an event, and makes that the first one."""
    tampered("DELETE FROM event WHERE id BETWEEN ? AND ?", tampered.id(0), tampered.id(first - 1))
    tampered("DELETE FROM anchor WHERE event BETWEEN ? AND ?", tampered.id(0), tampered.id(first - 1))
    tampered("UPDATE stream SET first = ? WHERE name = 'acme'", first)


@pytest.mark.parametrize("first", [21, 26, 33, 46, 47, LENGTH])
def test_a_cut_that_was_moved_to_another_event_is_found(tampered: Tampered, first: int) -> None:
    """A stream that was cut begins with a snapshot; and nobody signed this."""
    move_cut(tampered, first)
    assert tampered.found() == [("missing", "acme", CUT, first - 1)]


def test_a_head_that_was_put_before_such_an_event_is_found_too(tampered: Tampered) -> None:
    tampered(
        "INSERT INTO anchor SELECT ?, head FROM anchor WHERE event = ?", tampered.id(33), tampered.id(30)
    )
    move_cut(tampered, 33)
    found = tampered.found()
    assert found[:2] == [("missing", "acme", CUT, 32), ("added", "acme", 33, 33)]


@pytest.mark.parametrize("first", [30, 40, 50])
def test_a_cut_that_was_moved_to_a_later_snapshot_is_found(tampered: Tampered, first: int) -> None:
    """Everything else about it is right: but the newest checkpoint says where the stream begins."""
    move_cut(tampered, first)
    assert tampered.found() == [("missing", "acme", CUT, first - 1)]


@pytest.mark.parametrize(("stream", "first"), [("other", 3), ("acme", 1)])
def test_a_stream_that_never_was_cut_cannot_be(tampered: Tampered, stream: str, first: int) -> None:
    """Where a checkpoint covers it. And one that was cannot be made whole."""
    if stream == "other":
        tampered(
            "DELETE FROM event WHERE id BETWEEN ? AND ?", tampered.id(0, "other"), tampered.id(2, "other")
        )
    tampered("UPDATE stream SET first = ? WHERE name = ?", first, stream)
    last = {"other": 2, "acme": CUT - 1}[stream]
    assert tampered.found() == [("missing", stream, 1, last)]


@pytest.mark.parametrize("which", ["number = 3", "1"])
def test_a_cut_whose_checkpoint_is_gone_cannot_be_told_from_a_theft(tampered: Tampered, which: str) -> None:
    """So it counts as one."""
    tampered(f"DELETE FROM checkpoint WHERE {which}")  # noqa: S608 - from the list above
    assert tampered.found() == [("missing", "acme", 1, CUT - 1)]


def test_a_checkpoint_of_somebody_else_does_not_move_a_cut(tampered: Tampered, tmp_path: Path) -> None:
    """It is named, and says nothing."""
    [[body]] = tampered("SELECT body FROM checkpoint WHERE number = 3")
    third = _checkpoint.decode(body, b"")
    with SqliteJournal(tmp_path / "other") as other:
        key = _keys.private_key(other.keys)
    fake = _checkpoint.sign(key, 4, third.digest, third.heads, {"acme": 30})
    tampered("INSERT INTO checkpoint VALUES (4, ?, ?)", fake.body, fake.signature)
    move_cut(tampered, 30)
    assert tampered.found() == [("checkpoint", "", 4, 4), ("missing", "acme", CUT, 29)]


def test_not_even_a_signature_makes_a_stream_begin_with_a_decision(tampered: Tampered) -> None:
    """The journal never cuts there: then somebody used its key."""
    [[body]] = tampered("SELECT body FROM checkpoint WHERE number = 3")
    third = _checkpoint.decode(body, b"")
    key = _keys.private_key(tampered.folder / "keys")
    fourth = _checkpoint.sign(key, 4, third.digest, third.heads, {"acme": 33})
    tampered("INSERT INTO checkpoint VALUES (4, ?, ?)", fourth.body, fourth.signature)
    move_cut(tampered, 33)
    assert tampered.found() == [("missing", "acme", 1, 32)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE anchor SET head = zeroblob(32) WHERE event = ?", ("changed", "acme", 30, 30)),
        ("DELETE FROM anchor WHERE event = ?", ("changed", "acme", 30, 30)),
        ("UPDATE anchor SET event = event + 1 WHERE event = ?", ("added", "acme", 31, 31)),
    ],
)
def test_what_is_kept_for_a_cut_is_verified(
    tampered: Tampered, change: str, found: tuple[str, str, int, int]
) -> None:
    """A head that is not the one before its event, is gone, or stands where the stream cannot be cut."""
    tampered(change, tampered.id(30))
    assert found in tampered.found()


def test_a_lost_beginning_is_found(tampered: Tampered) -> None:
    """Behind the next checkpoint the chain is taken up again."""
    tampered("DELETE FROM anchor WHERE event = ?", tampered.id(CUT))
    rewrite(tampered, forged=50)
    assert tampered.found()[0] == ("changed", "acme", CUT, CUT)


def test_what_is_left_over_of_a_cut_is_no_fault(tampered: Tampered) -> None:
    """Below the first event nothing is looked at: it is not read either, and removed when the store is opened."""
    tampered.copy_event(21, 7)
    tampered._database.execute("BEGIN")
    assert verify_database(tampered._database, lambda: _keys.public_key(tampered.folder / "keys")) == []
    tampered._database.execute("ROLLBACK")
    assert tampered.found() == []


def test_a_stream_that_is_gone_is_missing_from_its_cut_on(tampered: Tampered) -> None:
    tampered("DELETE FROM event WHERE id BETWEEN ? AND ?", tampered.id(0), tampered.id(LENGTH))
    tampered("DELETE FROM anchor")
    tampered("DELETE FROM stream WHERE name = 'acme'")
    assert ("missing", "acme", CUT, 45) in tampered.found()


def test_a_checkpoint_right_before_the_cut_is_compared(tmp_path: Path) -> None:
    """It holds the very head that the first event follows."""
    with SqliteJournal(tmp_path / "store") as journal:
        fill(journal, "dddd")
        journal.seal()
        fill(journal, "sdd")
        journal.cut("acme", 5)
        assert journal.verify() == []
    with closing(Tampered(tmp_path / "store")) as tampered:
        tampered("UPDATE anchor SET head = ?", _chain.NO_HEAD)
        rewrite(tampered)
        found = tampered.found()
    assert ("rewritten", "acme", 4, 4) in found
