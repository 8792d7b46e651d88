"""Keys that count once, due times, cuts, releases and blobs against plain Python: any order of uses and openings."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from capsa import _native
from capsa.errors import StoreDamaged
from capsa.journal import Event, Journal, MemoryJournal, SqliteJournal, UnknownEvent
from capsa.journal.sqlite import _index

STREAMS = ("acme", "beta")
KEYS = st.binary(min_size=1, max_size=3)
TYPES = ("decided", "decided", "outcome_received", "snapshot_sealed", "purged")


class Model(RuleBasedStateMachine):
    """What a journal should say; `on_disk` says which one is asked."""

    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="capsa-beside-"))
        self.journal: Journal = MemoryJournal()
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.cuttable: dict[str, list[int]] = defaultdict(list)
        self.first = dict.fromkeys(STREAMS, 1)
        self.keys: dict[bytes, tuple[str, int]] = {}
        self.due: dict[tuple[int, int, int], Event] = {}
        self.blobs: dict[str, bytes] = {}
        #: In the order of their first events: so they are numbered.
        self.order: list[str] = []
        self.now = 0

    @initialize()
    def begin(self) -> None:
        if self.on_disk:
            self.journal = SqliteJournal(self.home / "store")

    @rule(
        stream=st.sampled_from(STREAMS),
        type_=st.sampled_from(TYPES),
        keys=st.sets(KEYS, max_size=4),
        due_ms=st.none() | st.integers(0, 50),
        count=st.integers(1, 40),
    )
    def append(self, stream: str, type_: str, keys: set[bytes], due_ms: int | None, count: int) -> None:
        """A few of the same; the keys go with the first one."""
        for _ in range(count):
            self.now += 1
            once = sorted(keys - self.keys.keys())
            event = self.journal.append(
                stream, type_, self.now, "local", "a/b", b"%d" % self.now, once=once, due_ms=due_ms
            )
            if stream not in self.order:
                self.order.append(stream)
            self.events[stream].append(event)
            assert event.sequence == self.first[stream] + len(self.events[stream]) - 1
            if type_ in ("snapshot_sealed", "purged"):
                self.cuttable[stream].append(event.sequence)
            for key in once:
                self.keys[key] = (stream, event.sequence)
            if due_ms is not None:
                self.due[due_ms, self.order.index(stream), event.sequence] = event

    @precondition(lambda self: self.keys and not self.on_disk)
    @rule(data=st.data())
    def append_taken(self, data: st.DataObject) -> None:
        """In memory it is refused; on disk it would end the journal."""
        key = data.draw(st.sampled_from(sorted(self.keys)))
        with pytest.raises(StoreDamaged):
            self.journal.append("acme", "decided", 1, "local", "", b"", once=[b"free", key])

    @rule(prefix=KEYS, stream=st.sampled_from(STREAMS))
    def claims(self, prefix: bytes, stream: str) -> None:
        self.journal.flush()
        expected = [
            (key, sequence)
            for key, (name, sequence) in sorted(self.keys.items())
            if name == stream and key.startswith(prefix)
        ]
        assert self.journal.claims(stream, prefix) == expected

    @rule(before=KEYS)
    def release(self, before: bytes) -> None:
        gone = [key for key in self.keys if key < before]
        assert self.journal.release(before) == len(gone)
        for key in gone:
            del self.keys[key]

    @rule(until_ms=st.integers(0, 60), limit=st.integers(0, 60), settled=st.integers(0, 5))
    def look_at_due(self, until_ms: int, limit: int, settled: int) -> None:
        self.journal.flush()
        expected = [(row[0], event) for row, event in sorted(self.due.items()) if row[0] <= until_ms]
        found = self.journal.due(until_ms, limit)
        assert found == expected[:limit]
        rows = [(at_ms, event.stream, event.sequence) for at_ms, event in found[:settled]]
        self.journal.settle(rows)
        for at_ms, stream, sequence in rows:
            del self.due[at_ms, self.order.index(stream), sequence]

    @precondition(lambda self: any(self.cuttable.values()))
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from([stream for stream in STREAMS if self.cuttable[stream]]))
        at = data.draw(st.sampled_from(self.cuttable[stream]))
        assert self.journal.cut(stream, at) == at - self.first[stream]
        del self.events[stream][: at - self.first[stream]]
        self.first[stream] = at
        self.cuttable[stream] = [sequence for sequence in self.cuttable[stream] if sequence >= at]
        number = self.order.index(stream)
        self.due = {row: event for row, event in self.due.items() if row[1] != number or row[2] >= at}

    @precondition(lambda self: any(self.events.values()))
    @rule(stream=st.sampled_from(STREAMS), sequence=st.integers(-1, 60))
    def cut_elsewhere(self, stream: str, sequence: int) -> None:
        if sequence not in self.cuttable[stream]:
            with pytest.raises(UnknownEvent):
                self.journal.cut(stream, sequence)

    @precondition(lambda self: any(self.events.values()))
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        events = data.draw(st.sampled_from([events for events in self.events.values() if events]))
        at = data.draw(st.integers(0, len(events) - 1))
        event = events[at]
        self.journal.erase(event.stream, event.sequence)
        [events[at]] = self.journal.read(event.stream, event.sequence - 1, 1)
        assert events[at].erased
        for row, due in self.due.items():
            if (due.stream, due.sequence) == (event.stream, event.sequence):
                self.due[row] = events[at]

    @rule(data=st.binary(max_size=3), wait=st.booleans())
    def put_blob(self, data: bytes, wait: bool) -> None:
        digest = _native.digest(data)
        self.journal.put_blob(digest, data, wait=wait)
        self.blobs[digest] = data

    @rule(data=st.data())
    def drop_blobs(self, data: st.DataObject) -> None:
        keep = data.draw(st.sets(st.sampled_from(sorted(self.blobs)))) if self.blobs else set()
        assert self.journal.drop_blobs(keep) == len(self.blobs) - len(keep)
        self.blobs = {digest: self.blobs[digest] for digest in keep}

    @rule()
    def seal(self) -> None:
        checkpoint = self.journal.seal()
        assert checkpoint.cuts == {stream: first for stream, first in self.first.items() if first > 1}

    @rule()
    def reopen(self) -> None:
        """Or at least wait."""
        if self.on_disk:
            self.journal.close()
            self.journal = SqliteJournal(self.home / "store")
        self.journal.flush()
        self.agrees()

    @invariant()
    def lengths_count_at_once(self) -> None:
        for stream, events in self.events.items():
            if events:
                assert self.journal.length(stream) == events[-1].sequence
            assert self.journal.first(stream) == self.first[stream]
            assert self.journal.durable(stream) <= self.journal.length(stream)

    def agrees(self) -> None:
        for stream, events in self.events.items():
            assert list(self.journal.read(stream)) == events
            assert self.journal.cuts(stream) == self.cuttable[stream]
            assert self.journal.durable(stream) == self.journal.length(stream)
        for digest, data in self.blobs.items():
            assert self.journal.blob(digest) == data
        assert self.journal.verify() == []

    def teardown(self) -> None:
        self.journal.flush()
        self.agrees()
        self.journal.close()
        shutil.rmtree(self.home)


class ModelOnDisk(Model):
    """The same, with steps of a few rows, so that most things take several."""

    on_disk = True

    def __init__(self) -> None:
        super().__init__()
        self._step_rows, _index.STEP_ROWS = _index.STEP_ROWS, 7

    def teardown(self) -> None:
        _index.STEP_ROWS = self._step_rows
        super().teardown()


TestInMemory = Model.TestCase
TestInMemory.settings = settings(max_examples=30, stateful_step_count=30)
TestOnDisk = ModelOnDisk.TestCase
TestOnDisk.settings = settings(max_examples=30, stateful_step_count=30)
