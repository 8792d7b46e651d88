"""A journal in memory: it ends with the process, and says so."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from capsa.errors import StoreClosed, StoreUnwritable
from capsa.journal import _chain, _claims, _secrets
from capsa.journal._checkpoint import Checkpoint, sign, sound
from capsa.journal._errors import unknown_blob, unknown_event
from capsa.journal._event import CUT_TYPES, EVENT_TYPES, Event
from capsa.journal._interface import FOLLOW_EVENTS
from capsa.journal._verify import Anchor, Beginning, Fault, Stored, anchors, signed_cut, verify_stream

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class MemoryJournal:
    """Events in memory, one stream per tenant. Safe to use from many threads.

    What it does is in `Journal`. An event is as durable as it will be when it is appended. The chain is
    computed when somebody asks for it: appending costs nothing but the list.
    """

    persistent: Final = False

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._blobs: dict[str, bytes] = {}
        self._checkpoints: list[Checkpoint] = []
        #: Keys that count once: their order, and stream and sequence of their events.
        self._keys: list[bytes] = []
        self._claims: dict[bytes, tuple[str, int]] = {}
        #: Time, number of the stream, sequence, in this order.
        self._due: list[tuple[int, int, int]] = []
        self._secrets: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._grew = threading.Condition(self._lock)
        self._followers = 0
        self._closed = False

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.generate()

    @property
    def public_key(self) -> bytes:
        """As in `Journal`. It is made anew with every journal."""
        return self._key.public_key().public_bytes_raw()

    def append(
        self,
        stream: str,
        type_: str,
        time_ms: int,
        principal: str,
        path: str,
        payload: bytes,
        *,
        once: Sequence[bytes] = (),
        due_ms: int | None = None,
    ) -> Event:
        """As in `Journal`."""
        if type_ not in EVENT_TYPES:
            raise ValueError(f"{type_!r} is not a type of event")
        if once:
            once = _claims.checked(once)
        if due_ms is not None:
            _claims.checked_due(due_ms)
        with self._lock:
            if self._closed:
                raise _closed()
            if once and not self._claims.keys().isdisjoint(once):
                raise _claims.taken()
            found = self._streams.get(stream)
            if found is None:
                found = self._streams[stream] = _Stream(stream, len(self._streams))
            events = found.events
            event = Event(
                _chain.SCHEMA,
                stream,
                found.first + len(events),
                time_ms,
                type_,
                principal,
                path,
                payload,
            )
            events.append(event)
            if type_ in CUT_TYPES:
                found.cuts.append(event.sequence)
            if once:
                self._claims |= dict.fromkeys(once, (stream, event.sequence))
                for key in once:
                    insort(self._keys, key)
            if due_ms is not None:
                insort(self._due, (due_ms, found.number, event.sequence))
            if self._followers:
                self._grew.notify_all()
        return event

    def wait(self, event: Event) -> None:
        """Returns at once: there is no disk to wait for."""

    def flush(self) -> None:
        """Returns at once: there is no disk to wait for."""

    def when_durable(self, call: Callable[[StoreUnwritable | None], object]) -> None:
        """As in `Journal`: at once."""
        call(None)

    def check(self) -> None:
        """As in `Journal`."""
        self._check_open()

    @property
    def crowded(self) -> bool:
        """Never: nothing waits."""
        return False

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """As in `Journal`."""
        self._check_open()
        found = self._streams.get(stream)
        # One list: cutting makes another one.
        events = found.events if found else []
        if not events:
            return iter(())
        first = events[0].sequence
        places = range(max(after + 1 - first, 0), len(events))
        return (events[at] for at in islice(places, limit))

    def follow(self, stream: str, after: int, timeout_s: float) -> list[Event]:
        """As in `Journal`."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._followers += 1
            try:
                while not self._closed and self._length(stream) <= after:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._grew.wait(left):
                        return []
            finally:
                self._followers -= 1
        return list(self.read(stream, after, FOLLOW_EVENTS))

    def length(self, stream: str) -> int:
        """As in `Journal`."""
        self._check_open()
        return self._length(stream)

    def _length(self, stream: str) -> int:
        found = self._streams.get(stream)
        events = found.events if found else []
        return events[-1].sequence if events else 0

    def durable(self, stream: str) -> int:
        """As in `Journal`."""
        return self.length(stream)

    def claims(self, stream: str, prefix: bytes) -> list[tuple[bytes, int]]:
        """As in `Journal`."""
        _claims.checked_prefix(prefix)
        with self._lock:
            self._check_open()
            found = []
            for at in range(bisect_left(self._keys, prefix), len(self._keys)):
                key = self._keys[at]
                if not key.startswith(prefix):
                    break
                name, sequence = self._claims[key]
                if name == stream:
                    found.append((key, sequence))
        return found

    def release(self, before: bytes) -> int:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            count = bisect_left(self._keys, before)
            for key in self._keys[:count]:
                del self._claims[key]
            del self._keys[:count]
        return count

    def due(self, until_ms: int, limit: int) -> list[tuple[int, Event]]:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            streams = list(self._streams.values())
            came = islice(self._due, bisect_left(self._due, (until_ms + 1,)))
            there = ((at_ms, streams[number].event(sequence)) for at_ms, number, sequence in came)
            return list(islice(((at_ms, event) for at_ms, event in there if event), max(limit, 0)))

    def settle(self, rows: Sequence[tuple[int, str, int]]) -> None:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            for at_ms, stream, sequence in rows:
                found = self._streams.get(stream)
                row = (at_ms, found.number if found else -1, sequence)
                at = bisect_left(self._due, row)
                if self._due[at : at + 1] == [row]:
                    del self._due[at]

    def streams(self) -> list[str]:
        """As in `Journal`."""
        self._check_open()
        return sorted(self._streams)

    def put_blob(self, digest: str, data: bytes, *, wait: bool = True) -> None:  # noqa: ARG002 - nothing to wait for
        """As in `Journal`."""
        _chain.check_digest(digest, data)
        with self._lock:
            self._check_open()
            self._blobs[digest] = data

    def drop_blobs(self, keep: Collection[str]) -> int:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            dropped = self._blobs.keys() - frozenset(keep)
            for digest in dropped:
                del self._blobs[digest]
        return len(dropped)

    def blob(self, digest: str) -> bytes:
        """As in `Journal`."""
        self._check_open()
        try:
            return self._blobs[digest]
        except KeyError:
            raise unknown_blob(digest) from None

    def seal(self) -> Checkpoint:
        """As in `Journal`. The key ends with the process as the events do."""
        with self._lock:
            self._check_open()
            return self._seal()

    def _seal(self) -> Checkpoint:
        heads = {name: stream.chain() for name, stream in self._streams.items()}
        cuts = {name: stream.first for name, stream in self._streams.items() if stream.first > 1}
        previous = self._checkpoints[-1].digest if self._checkpoints else _chain.NO_HEAD
        checkpoint = sign(self._key, len(self._checkpoints) + 1, previous, heads, cuts)
        self._checkpoints.append(checkpoint)
        return checkpoint

    def checkpoints(self, after: int = 0) -> list[Checkpoint]:
        """As in `Journal`."""
        self._check_open()
        return self._checkpoints[after:]

    def erase(self, stream: str, sequence: int, *, wait: bool = True) -> None:  # noqa: ARG002 - nothing to wait for
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            found = self._streams.get(stream)
            if found is None or found.event(sequence) is None:
                raise unknown_event(stream, sequence)
            found.erase(sequence)

    def first(self, stream: str) -> int:
        """As in `Journal`."""
        self._check_open()
        found = self._streams.get(stream)
        return found.first if found else 1

    def cuts(self, stream: str) -> list[int]:
        """As in `Journal`."""
        self._check_open()
        found = self._streams.get(stream)
        return list(found.cuts) if found else []

    def cut(self, stream: str, sequence: int) -> int:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            found = self._streams.get(stream)
            if found is None or sequence not in found.cuts:
                raise unknown_event(stream, sequence)
            removed = found.cut(sequence)
            if removed:
                self._seal()
        return removed

    def secret(self, name: str) -> bytes:
        """As in `Journal`. It ends with the process."""
        _secrets.check_name(name)
        with self._lock:
            self._check_open()
            return self._secrets.setdefault(name, os.urandom(_secrets.SECRET_BYTES))

    def secrets(self) -> list[str]:
        """As in `Journal`."""
        self._check_open()
        return sorted(self._secrets)

    def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            stored = [(sealed.number, sealed.body, sealed.signature) for sealed in self._checkpoints]
            good, broken = sound(stored, public_key or self.public_key)
            faults = [Fault("checkpoint", "", number, number, detail) for number, detail in broken]
            for name, stream in sorted(self._streams.items()):
                end = Anchor(*stream.chain(), "the stream")
                beginning = Beginning(stream.first, signed_cut(good, name), stream.anchors)
                faults += verify_stream(name, stream.stored(), end, anchors(good, name), beginning)
        return faults

    def close(self) -> None:
        """As in `Journal`. The events are gone."""
        with self._lock:
            self._closed = True
            self._grew.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()


class _Stream:
    """The events of one stream, and as much of their chain as was asked for."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self.first = 1
        #: Those from `first` on.
        self.events: list[Event] = []
        #: Where it may be cut.
        self.cuts: list[int] = []
        self._salts: list[bytes | None] = []
        self._checksums: list[int] = []
        self._digests: dict[int, bytes] = {}
        #: The heads before the events where it may be cut.
        self.anchors: dict[int, bytes] = {}
        self._head = _chain.NO_HEAD

    def event(self, sequence: int) -> Event | None:
        """An event that is there."""
        at = sequence - self.first
        return self.events[at] if 0 <= at < len(self.events) else None

    def chain(self) -> tuple[int, bytes]:
        """Length and head, with the chain computed up to here."""
        for event in self.events[len(self._salts) :]:
            salt = os.urandom(_chain.SALT_BYTES)
            digest = _chain.salted_digest(salt, event.payload)
            parts = _chain.Header(event.schema, self.name, event.type, event.principal, event.path)
            header = parts.encode(event.time_ms, event.sequence, digest)
            if event.type in CUT_TYPES:
                self.anchors[event.sequence] = self._head
            self._salts.append(salt)
            self._checksums.append(_chain.checksum(header))
            self._head = _chain.next_head(self._head, header)
        return self.first + len(self.events) - 1, self._head

    def erase(self, sequence: int) -> None:
        """Removes payload and salt of one event."""
        self.chain()
        at = sequence - self.first
        event, salt = self.events[at], self._salts[at]
        if salt is not None:
            self._digests[sequence] = _chain.salted_digest(salt, event.payload)
            self._salts[at] = None
            self.events[at] = msgspec.structs.replace(event, payload=b"", erased=True)

    def cut(self, sequence: int) -> int:
        """Removes the events before one."""
        self.chain()
        count = sequence - self.first
        # Somebody may be reading the list as it was.
        self.first, self.events = sequence, self.events[count:]
        del self._salts[:count], self._checksums[:count]
        self._digests = {at: digest for at, digest in self._digests.items() if at >= sequence}
        self.anchors = {at: head for at, head in self.anchors.items() if at >= sequence}
        self.cuts = [at for at in self.cuts if at >= sequence]
        return count

    def stored(self) -> Iterator[Stored]:
        """The events with their part of the chain."""
        for at, event in enumerate(self.events):
            yield Stored(
                event.sequence,
                event.time_ms,
                event.schema,
                event.type,
                event.principal,
                event.path,
                self._checksums[at],
                self._salts[at],
                None if event.erased else event.payload,
                self._digests.get(event.sequence),
            )


def _closed() -> StoreClosed:
    return StoreClosed("this journal was closed", remedy="open it again")
