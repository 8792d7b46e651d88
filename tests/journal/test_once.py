"""Keys that count once, and events that ask to be looked at again: in every journal."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.journal.journals import KINDS, add, fill, open_journal

from capsa.errors import StoreDamaged, StoreUnwritable, UnknownEvent
from capsa.journal import Event, Journal, SqliteJournal


def claim(journal: Journal, *keys: bytes, stream: str = "acme", due_ms: int | None = None) -> Event:
    return journal.append(
        stream, "outcome_received", 1, "local", "default/router", b"\xa0", once=keys, due_ms=due_ms
    )


def test_keys_are_found_by_their_beginning(journal: Journal) -> None:
    """In order, of that stream only, each with its event; the journal still verifies."""
    first = claim(journal, b"k1/b", b"k1/a")
    claim(journal, b"k1/c", stream="other")
    second = claim(journal, b"k2", b"k1/d\xff")
    claim(journal)
    journal.flush()
    one, two = first.sequence, second.sequence
    assert journal.claims("acme", b"k1") == [(b"k1/a", one), (b"k1/b", one), (b"k1/d\xff", two)]
    assert journal.claims("acme", b"k1/d") == journal.claims("acme", b"k1/d\xff") == [(b"k1/d\xff", two)]
    assert journal.claims("acme", b"k") == [*journal.claims("acme", b"k1"), (b"k2", two)]
    assert journal.claims("other", b"k1") == [(b"k1/c", 1)]
    assert journal.claims("acme", b"k1/a/longer") == journal.claims("acme", b"\0") == []
    assert journal.claims("nobody", b"k") == []
    assert journal.verify() == []


@pytest.mark.parametrize("kind", KINDS)
@given(keys=st.sets(st.binary(min_size=1, max_size=96), min_size=1, max_size=60), data=st.data())
def test_a_prefix_finds_what_begins_with_it(
    kind: str, keys: set[bytes], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As Python's `startswith` says: bytes of any value and number."""
    journal = open_journal(kind, tmp_path_factory.mktemp("journal"))
    listed = sorted(keys)
    event = claim(journal, *listed)
    journal.wait(event)
    for _ in range(5):
        prefix = data.draw(st.sampled_from(listed))
        prefix = prefix[: data.draw(st.integers(1, len(prefix)))]
        expected = [(key, event.sequence) for key in listed if key.startswith(prefix)]
        assert journal.claims("acme", prefix) == expected
    journal.close()


@pytest.mark.parametrize(
    "keys",
    [
        (b"",),
        (bytes(97),),
        ("text",),
        (bytearray(b"k"),),
        (b"k", b"other", b"k"),
        tuple(b"%d" % n for n in range(257)),
    ],
    ids=["empty", "long", "text", "bytearray", "twice", "many"],
)
def test_what_is_no_key_is_refused(journal: Journal, keys: tuple[bytes, ...]) -> None:
    """And takes no place; as does a time that is none, and an empty prefix."""
    with pytest.raises(ValueError, match=r"key|keys"):
        claim(journal, *keys)
    for due_ms in (-1, 1 << 63, 1.5, True):
        with pytest.raises(ValueError, match="time"):
            claim(journal, b"k", due_ms=due_ms)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prefix"):
        journal.claims("acme", b"")
    assert journal.length("acme") == 0
    event = claim(journal, *(b"%096d" % n for n in range(256)))
    journal.wait(event)
    assert len(journal.claims("acme", b"0")) == 256


def test_durable_is_what_is_on_disk(journal: Journal) -> None:
    """Never more than the length; all of it after waiting."""
    assert (journal.durable("acme"), journal.first("acme")) == (0, 1)
    for number in range(1, 50):
        event = add(journal)
        assert journal.durable("acme") <= journal.length("acme") == number
    journal.wait(event)
    assert journal.durable("acme") == 49
    assert journal.durable("nobody") == 0


def test_released_keys_are_free_again(journal: Journal) -> None:
    """Those before another key, however many, whichever stream they belong to."""
    for number in range(5000):
        claim(journal, b"%06d/a" % number, stream="acme" if number % 2 else "other")
    journal.flush()
    assert journal.release(b"004321") == 4321
    assert journal.release(b"004321") == journal.release(b"") == journal.release(b"004321/a") == 0
    assert [key for key, _ in journal.claims("acme", b"00432")][:1] == [b"004321/a"]
    assert len(journal.claims("acme", b"0") + journal.claims("other", b"0")) == 5000 - 4321
    claim(journal, b"000007/a")
    journal.flush()
    assert journal.claims("acme", b"000007") == [(b"000007/a", journal.length("acme"))]
    assert journal.verify() == []


def test_events_are_due_in_the_order_of_their_times(journal: Journal) -> None:
    """Up to a time, at most so many, again and again until they are settled."""
    late = claim(journal, b"a", due_ms=300)
    early = claim(journal, due_ms=100)
    other = claim(journal, due_ms=200, stream="other")
    again = claim(journal, due_ms=200)
    add(journal)
    journal.flush()
    everything = [(100, early), (200, again), (200, other), (300, late)]
    assert journal.due(99, 10) == journal.due(1000, 0) == []
    assert journal.due(100, 10) == everything[:1]
    assert journal.due(299, 10) == everything[:3]
    assert journal.due(1 << 62, 10) == journal.due(300, 10) == everything
    assert journal.due(300, 2) == everything[:2]
    # What is not on the list, or only nearly, is passed over.
    journal.settle([(100, "acme", early.sequence), (201, "acme", 3), (200, "nobody", 1), (200, "acme", 99)])
    journal.flush()
    assert journal.due(300, 10) == everything[1:]
    journal.settle([(at_ms, event.stream, event.sequence) for at_ms, event in everything])
    journal.settle([])
    journal.flush()
    assert journal.due(300, 10) == []
    assert journal.verify() == []


def test_what_is_due_and_was_erased_comes_without_its_payload(journal: Journal) -> None:
    event = claim(journal, due_ms=5)
    journal.flush()
    journal.erase("acme", event.sequence)
    [(at_ms, read)] = journal.due(5, 1)
    assert (at_ms, read.sequence, read.payload, read.erased) == (5, event.sequence, b"", True)


def test_what_is_due_and_was_cut_off_does_not_come(journal: Journal) -> None:
    """And does not stand in the way of the others."""
    for number in range(20):
        claim(journal, b"%d" % number, due_ms=number)
    fill(journal, "s")
    kept = claim(journal, due_ms=1000)
    journal.cut("acme", 21)
    assert journal.due(2000, 1) == journal.due(2000, 5) == [(1000, kept)]
    journal.flush()
    assert journal.due(2000, 1) == [(1000, kept)]
    # The keys of what was cut off are still taken.
    assert journal.claims("acme", b"7") == [(b"7", 8)]


def test_a_taken_key_is_refused_in_memory() -> None:
    """Nothing is appended, and the journal goes on."""
    journal = open_journal("memory", Path())
    claim(journal, b"k", b"l")
    for stream in ("acme", "other"):
        with pytest.raises(StoreDamaged, match="counts once"):
            claim(journal, b"free", b"k", stream=stream, due_ms=1)
    assert (journal.length("acme"), journal.streams(), journal.due(9, 9)) == (1, ["acme"], [])
    assert journal.claims("acme", b"free") == []
    claim(journal, b"free")
    assert journal.verify() == []


@pytest.mark.parametrize("apart", [True, False], ids=["durable", "in one group"])
def test_a_taken_key_stops_the_journal_on_disk(tmp_path: Path, apart: bool) -> None:
    """Nothing of its transaction is acknowledged or there; what was before it is."""
    journal = SqliteJournal(tmp_path / "store")
    journal.wait(claim(journal, b"before"))
    first = claim(journal, b"k")
    if apart:
        journal.wait(first)
    second = claim(journal, b"other", b"k", stream="other")
    with pytest.raises(StoreDamaged, match="counts once"):
        journal.wait(second)
    for use in (lambda: add(journal), journal.flush, journal.seal, lambda: journal.release(b"z")):
        with pytest.raises(StoreDamaged, match="counts once"):
            use()
    with pytest.raises(StoreUnwritable):
        journal.close()
    with SqliteJournal(tmp_path / "store") as again:
        assert again.streams() == ["acme"]
        keys = [key for key, _ in again.claims("acme", b"k") + again.claims("acme", b"before")]
        assert again.length("acme") == len(keys)
        assert not apart or keys == [b"k", b"before"]
        assert again.claims("other", b"other") == []
        assert again.verify() == []


def test_keys_are_added_to_an_event_that_is_there(tmp_path: Path) -> None:
    """Durably. For stores whose events were written before there were keys."""
    with SqliteJournal(tmp_path / "store") as journal:
        fill(journal, "ddsd")
        journal.claim("acme", 2, [b"k", b"l"])
        assert journal.claims("acme", b"k") == [(b"k", 2)]
        for stream, sequence in (("acme", 0), ("acme", 5), ("nobody", 1)):
            with pytest.raises(UnknownEvent):
                journal.claim(stream, sequence, [b"m"])
        with pytest.raises(ValueError, match="key"):
            journal.claim("acme", 2, [b""])
        journal.cut("acme", 3)
        with pytest.raises(UnknownEvent):
            journal.claim("acme", 2, [b"m"])
        with pytest.raises(StoreDamaged, match="counts once"):
            journal.claim("acme", 4, [b"k"])
    with SqliteJournal(tmp_path / "store") as journal:
        assert journal.claims("acme", b"l") == [(b"l", 2)]


def test_no_claim_is_seen_before_it_is_durable_nor_missed_after(journal: Journal) -> None:
    """Asked by many while many are added: all up to `durable` are there, each once."""
    stop = threading.Event()

    def ask() -> int:
        asked = 0
        while not stop.is_set():
            durable = journal.durable("acme")
            found = [sequence for _, sequence in journal.claims("acme", b"k")]
            assert len(found) == len(set(found))
            assert set(range(1, durable + 1)) <= set(found)
            asked += 1
        return asked

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for number in range(600):
            event = claim(journal, b"k%06d" % number)
            if number % 20 == 0:
                journal.wait(event)
        stop.set()
        assert all(future.result(timeout=60) for future in asking)
