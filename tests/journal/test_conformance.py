"""What every journal does: each test runs over all of them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.journal.journals import KINDS, add, open_journal

from capsa import _native
from capsa.errors import StoreClosed
from capsa.journal import (
    EVENT_TYPES,
    FOLLOW_EVENTS,
    Event,
    Journal,
    MemoryJournal,
    UnknownBlob,
    UnknownEvent,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
events = st.tuples(
    st.sampled_from(["acme", "other", "ünïcode", ""]),
    st.sampled_from(sorted(EVENT_TYPES)),
    st.integers(0, 2**63 - 1),
    texts,
    texts,
    st.binary(max_size=5000),
)


@pytest.mark.parametrize("kind", KINDS)
@given(given=st.lists(events, max_size=30))
def test_what_was_appended_is_read(
    kind: str, given: list[tuple[str, str, int, str, str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whole, in order, each stream by itself with sequences from 1; and the chain holds."""
    journal = open_journal(kind, tmp_path_factory.mktemp("journal"))
    appended = [journal.append(*fields) for fields in given]
    journal.flush()
    for stream in {fields[0] for fields in given}:
        expected = [
            Event(_native.EVENT_SCHEMA, fields[0], 0, fields[2], fields[1], *fields[3:])
            for fields in given
            if fields[0] == stream
        ]
        read = list(journal.read(stream))
        assert read == [event for event in appended if event.stream == stream]
        assert [event.sequence for event in read] == list(range(1, len(expected) + 1))
        for event, wanted in zip(read, expected, strict=True):
            for field in ("schema", "stream", "time_ms", "type", "principal", "path", "payload", "erased"):
                assert getattr(event, field) == getattr(wanted, field)
    assert journal.streams() == sorted({fields[0] for fields in given})
    assert journal.verify() == []
    journal.close()


def test_a_length_counts_at_once_and_each_stream_by_itself(journal: Journal) -> None:
    assert journal.length("acme") == 0
    assert journal.streams() == []
    for number in range(1, 4):
        assert add(journal).sequence == journal.length("acme") == number
    assert add(journal, "other").sequence == 1
    assert journal.streams() == ["acme", "other"]
    assert list(journal.read("nobody")) == []


def test_reading_takes_a_part(journal: Journal) -> None:
    """After a sequence, at most a limit; past the end there is nothing."""
    for _ in range(2500):
        last = add(journal)
    journal.wait(last)
    for after, limit, expected in [
        (0, None, range(1, 2501)),
        (2498, None, range(2499, 2501)),
        (2500, None, range(0)),
        (9999, None, range(0)),
        (10, 3, range(11, 14)),
        (10, 0, range(0)),
        (0, 1500, range(1, 1501)),
        (2499, 5, range(2500, 2501)),
    ]:
        assert [event.sequence for event in journal.read("acme", after, limit)] == list(expected)


def test_reading_goes_on_while_events_come(journal: Journal) -> None:
    """A reader sees what was durable when it began, and no event twice."""
    for _ in range(1500):
        last = add(journal)
    journal.wait(last)
    reading = journal.read("acme")
    first = next(reading)
    journal.wait(add(journal))
    assert [first.sequence, *(event.sequence for event in reading)][:1500] == list(range(1, 1501))


def test_many_threads_fill_a_stream_without_gaps(journal: Journal) -> None:
    """Each gets places of its own, in its own order, and what it waited for can be read."""

    def append(caller: int) -> list[tuple[int, bytes]]:
        mine = []
        for number in range(40):
            event = add(journal, payload=b"%d/%d" % (caller, number))
            if number % 8 == 0:
                journal.wait(event)
                [read] = journal.read("acme", event.sequence - 1, 1)
                assert read == event
            mine.append((event.sequence, event.payload))
        return mine

    with ThreadPoolExecutor(16) as pool:
        each = list(pool.map(append, range(16)))
    journal.flush()
    assert all(mine == sorted(mine) for mine in each)
    everything = sorted(entry for mine in each for entry in mine)
    assert [(event.sequence, event.payload) for event in journal.read("acme")] == everything
    assert [sequence for sequence, _ in everything] == list(range(1, 641))
    assert journal.verify() == []


def test_a_follower_hears_of_the_next_event(journal: Journal) -> None:
    """It gets what is there at once, waits for what is not, and gets nothing at the timeout."""
    first = add(journal)
    journal.wait(first)
    assert journal.follow("acme", 0, 0) == [first]
    assert journal.follow("acme", 1, 0) == []
    assert journal.follow("acme", 1, 0.01) == []
    assert journal.follow("nobody", 0, 0) == []
    waiting = threading.Event()

    def follow() -> list[Event]:
        waiting.set()
        return journal.follow("acme", 1, 60)

    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(follow)
        waiting.wait()
        journal.wait(add(journal, "other"))
        second = add(journal)
        assert heard.result(timeout=60)[0] == second


def test_a_follower_that_is_far_behind_gets_a_part(journal: Journal) -> None:
    for _ in range(FOLLOW_EVENTS + 5):
        last = add(journal)
    journal.wait(last)
    part = journal.follow("acme", 3, 0)
    assert [event.sequence for event in part] == list(range(4, FOLLOW_EVENTS + 4))


def test_closing_ends_a_follower(journal: Journal) -> None:
    waiting = threading.Event()

    def follow() -> None:
        waiting.set()
        journal.follow("acme", 0, 60)

    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(follow)
        waiting.wait()
        journal.close()
        with pytest.raises(StoreClosed):
            heard.result(timeout=60)


def test_blobs_are_kept_by_their_digest(journal: Journal) -> None:
    """Once or twice is the same; bytes that have another digest are refused."""
    data = b"\0asm" + bytes(range(256)) * 40
    digest = _native.digest(data)
    with pytest.raises(UnknownBlob):
        journal.blob(digest)
    journal.put_blob(digest, data)
    journal.put_blob(digest, data)
    assert journal.blob(digest) == data
    with pytest.raises(ValueError, match="do not have the digest"):
        journal.put_blob(digest, data + b"!")
    with pytest.raises(UnknownBlob):
        journal.blob("b2:00")
    assert journal.verify() == []


def test_a_checkpoint_holds_all_heads_and_its_predecessor(journal: Journal) -> None:
    """It can be checked with the public key alone; a changed one does not hold."""
    empty = journal.seal()
    assert (empty.number, empty.previous, empty.heads) == (1, bytes(32), {})
    for _ in range(3):
        add(journal)
    add(journal, "other")
    second = journal.seal()
    assert (second.number, second.previous) == (2, empty.digest)
    assert {name: length for name, (length, _) in second.heads.items()} == {"acme": 3, "other": 1}
    add(journal)
    third = journal.seal()
    assert third.heads["other"] == second.heads["other"]
    assert third.heads["acme"] != second.heads["acme"]
    assert journal.checkpoints() == [empty, second, third]
    assert journal.checkpoints(after=1) == [second, third]
    assert third.signed_by(journal.public_key)
    assert not third.signed_by(bytes(32))
    assert journal.verify() == journal.verify(journal.public_key) == []


def test_another_public_key_does_not_verify(journal: Journal) -> None:
    add(journal)
    journal.seal()
    stranger = MemoryJournal()
    [fault] = journal.verify(stranger.public_key)
    assert (fault.kind, fault.first) == ("checkpoint", 1)


def test_erasing_takes_the_payload_and_leaves_the_chain(journal: Journal) -> None:
    """Of that event only, for good, whether it was sealed or not; once more changes nothing."""
    kept = [add(journal, payload=b"payload %d" % number) for number in range(6)]
    journal.seal()
    before = journal.seal().heads
    for sequence in (2, 2, 5):
        journal.erase("acme", sequence)
    assert journal.seal().heads == before
    read = list(journal.read("acme"))
    assert [event.sequence for event in read if event.erased] == [2, 5]
    for event, original in zip(read, kept, strict=True):
        assert event.payload == (b"" if event.erased else original.payload)
        assert (event.time_ms, event.type, event.path) == (original.time_ms, original.type, original.path)
    kept.append(add(journal))
    journal.flush()
    assert list(journal.read("acme"))[-1] == kept[-1]
    assert journal.verify() == []


@pytest.mark.parametrize(("stream", "sequence"), [("acme", 0), ("acme", -1), ("acme", 2), ("nobody", 1)])
def test_an_event_that_is_not_there_cannot_be_erased(journal: Journal, stream: str, sequence: int) -> None:
    add(journal)
    with pytest.raises(UnknownEvent):
        journal.erase(stream, sequence)
    journal.flush()
    assert not next(journal.read("acme")).erased


def test_an_unknown_type_is_refused_and_takes_no_place(journal: Journal) -> None:
    with pytest.raises(ValueError, match="not a type of event"):
        journal.append("acme", "invented", 1, "local", "", b"\xa0")
    assert journal.length("acme") == 0
    assert journal.streams() == []


def test_a_closed_journal_says_so(journal: Journal) -> None:
    """Whatever is asked of it; closing again changes nothing."""
    event = add(journal)
    journal.close()
    journal.close()
    for use in (
        lambda: add(journal),
        lambda: list(journal.read("acme")),
        lambda: journal.follow("acme", 0, 0),
        lambda: journal.length("acme"),
        journal.streams,
        lambda: journal.put_blob(_native.digest(b""), b""),
        lambda: journal.blob("b2:"),
        journal.seal,
        journal.checkpoints,
        lambda: journal.erase("acme", 1),
        lambda: journal.durable("acme"),
        lambda: journal.first("acme"),
        lambda: journal.cuts("acme"),
        lambda: journal.cut("acme", 1),
        lambda: journal.claims("acme", b"k"),
        lambda: journal.release(b"k"),
        lambda: journal.due(1, 1),
        lambda: journal.settle([(1, "acme", 1)]),
        lambda: journal.drop_blobs([]),
        lambda: journal.secret("name"),
        journal.secrets,
        journal.verify,
    ):
        with pytest.raises(StoreClosed):
            use()
    # Closing has written it.
    journal.wait(event)
