"""A journal in memory: it ends with the process, and says so."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from capsa.errors import StoreClosed
from capsa.journal import _chain
from capsa.journal._checkpoint import Checkpoint, sign, sound
from capsa.journal._errors import unknown_blob, unknown_event
from capsa.journal._event import EVENT_TYPES, Event
from capsa.journal._interface import FOLLOW_EVENTS
from capsa.journal._verify import Anchor, Fault, Stored, anchors, verify_stream

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
        self, stream: str, type_: str, time_ms: int, principal: str, path: str, payload: bytes
    ) -> Event:
        """As in `Journal`."""
        if type_ not in EVENT_TYPES:
            raise ValueError(f"{type_!r} is not a type of event")
        with self._lock:
            if self._closed:
                raise _closed()
            found = self._streams.get(stream)
            if found is None:
                found = self._streams[stream] = _Stream(stream)
            events = found.events
            event = Event(
                _chain.SCHEMA,
                stream,
                len(events) + 1,
                time_ms,
                type_,
                principal,
                path,
                payload,
            )
            events.append(event)
            if self._followers:
                self._grew.notify_all()
        return event

    def wait(self, event: Event) -> None:
        """Returns at once: there is no disk to wait for."""

    def flush(self) -> None:
        """Returns at once: there is no disk to wait for."""

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """As in `Journal`."""
        self._check_open()
        found = self._streams.get(stream)
        events = found.events if found else []
        length = len(events)
        return (events[at] for at in islice(range(after, length), limit))

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
        return len(found.events) if found else 0

    def streams(self) -> list[str]:
        """As in `Journal`."""
        self._check_open()
        return sorted(self._streams)

    def put_blob(self, digest: str, data: bytes) -> None:
        """As in `Journal`."""
        _chain.check_digest(digest, data)
        with self._lock:
            self._check_open()
            self._blobs[digest] = data

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
            heads = {name: stream.chain() for name, stream in self._streams.items()}
            previous = self._checkpoints[-1].digest if self._checkpoints else _chain.NO_HEAD
            checkpoint = sign(self._key, len(self._checkpoints) + 1, previous, heads)
            self._checkpoints.append(checkpoint)
        return checkpoint

    def checkpoints(self, after: int = 0) -> list[Checkpoint]:
        """As in `Journal`."""
        self._check_open()
        return self._checkpoints[after:]

    def erase(self, stream: str, sequence: int) -> None:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            if not 1 <= sequence <= self._length(stream):
                raise unknown_event(stream, sequence)
            self._streams[stream].erase(sequence)

    def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """As in `Journal`."""
        with self._lock:
            self._check_open()
            stored = [(sealed.number, sealed.body, sealed.signature) for sealed in self._checkpoints]
            good, broken = sound(stored, public_key or self.public_key)
            faults = [Fault("checkpoint", "", number, number, detail) for number, detail in broken]
            for name, stream in sorted(self._streams.items()):
                end = Anchor(*stream.chain(), "the stream")
                faults += verify_stream(name, stream.stored(), end, anchors(good, name))
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

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        self._salts: list[bytes | None] = []
        self._checksums: list[int] = []
        self._digests: dict[int, bytes] = {}
        self._head = _chain.NO_HEAD

    def chain(self) -> tuple[int, bytes]:
        """Length and head, with the chain computed up to here."""
        for event in self.events[len(self._salts) :]:
            salt = os.urandom(_chain.SALT_BYTES)
            digest = _chain.salted_digest(salt, event.payload)
            parts = _chain.Header(event.schema, self.name, event.type, event.principal, event.path)
            header = parts.encode(event.time_ms, event.sequence, digest)
            self._salts.append(salt)
            self._checksums.append(_chain.checksum(header))
            self._head = _chain.next_head(self._head, header)
        return len(self.events), self._head

    def erase(self, sequence: int) -> None:
        """Removes payload and salt of one event."""
        self.chain()
        at = sequence - 1
        event, salt = self.events[at], self._salts[at]
        if salt is not None:
            self._digests[at] = _chain.salted_digest(salt, event.payload)
            self._salts[at] = None
            self.events[at] = msgspec.structs.replace(event, payload=b"", erased=True)

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
                self._digests.get(at),
            )


def _closed() -> StoreClosed:
    return StoreClosed("this journal was closed", remedy="open it again")
