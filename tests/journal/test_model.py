"""The journal on disk against a list: any order of uses, closings and openings."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from capsa.journal import Event, SqliteJournal

STREAMS = st.sampled_from(["acme", "beta", "gamma"])


class JournalMachine(RuleBasedStateMachine):
    """Every stream is a list of events. What was waited for stays; an erased event stays erased."""

    def __init__(self) -> None:
        super().__init__()
        self._home = Path(tempfile.mkdtemp(prefix="capsa-journal-"))
        self._journal = SqliteJournal(self._home / "store")
        self._events: dict[str, list[Event]] = defaultdict(list)
        self._sealed = 0

    @rule(
        stream=STREAMS,
        payload=st.binary(max_size=2000),
        principal=st.sampled_from(["local", "key-1"]),
        count=st.integers(1, 300),
    )
    def append(self, stream: str, payload: bytes, principal: str, count: int) -> None:
        for number in range(count):
            event = self._journal.append(stream, "decided", number, principal, "default/router", payload)
            self._events[stream].append(event)

    @precondition(lambda self: any(self._events.values()))
    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        events = data.draw(st.sampled_from([events for events in self._events.values() if events]))
        event = data.draw(st.sampled_from(events))
        self._journal.wait(event)
        [read] = self._journal.read(event.stream, event.sequence - 1, 1)
        assert read == self._events[event.stream][event.sequence - 1]

    @precondition(lambda self: any(self._events.values()))
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        events = data.draw(st.sampled_from([events for events in self._events.values() if events]))
        at = data.draw(st.integers(0, len(events) - 1))
        event = events[at]
        self._journal.erase(event.stream, event.sequence)
        [events[at]] = self._journal.read(event.stream, at, 1)
        assert (events[at].payload, events[at].erased) == (b"", True)
        assert events[at].time_ms == event.time_ms

    @rule()
    def seal(self) -> None:
        checkpoint = self._journal.seal()
        self._sealed += 1
        assert checkpoint.number == self._sealed
        assert {name: length for name, (length, _) in checkpoint.heads.items()} == {
            name: len(events) for name, events in self._events.items() if events
        }

    @rule()
    def reopen(self) -> None:
        self._journal.close()
        self._journal = SqliteJournal(self._home / "store")
        self._agrees()

    @rule()
    def flush(self) -> None:
        self._journal.flush()
        self._agrees()

    @invariant()
    def lengths_count_at_once(self) -> None:
        for stream, events in self._events.items():
            assert self._journal.length(stream) == len(events)

    def _agrees(self) -> None:
        assert self._journal.streams() == sorted(name for name, events in self._events.items() if events)
        for stream, events in self._events.items():
            assert list(self._journal.read(stream)) == events
        assert self._journal.verify() == []

    def teardown(self) -> None:
        self._journal.close()
        shutil.rmtree(self._home)


TestJournalOnDisk = JournalMachine.TestCase
TestJournalOnDisk.settings = settings(max_examples=20, stateful_step_count=25)
