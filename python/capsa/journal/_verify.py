"""Verification: what differs from what was written, and where."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from capsa.journal import _chain
from capsa.journal._checkpoint import Checkpoint
from capsa.journal._event import CUT_TYPES


class Fault(msgspec.Struct, frozen=True):
    """Something that is not as it was written.

    Attributes:
        kind: ``changed``: one event, or one blob. ``missing`` and ``added``: events. ``rewritten``: events that
            fit together but not the signed checkpoint after them, or not the head of the stream.
            ``checkpoint``: a checkpoint is broken, missing or not ours. ``unreadable``: SQLite cannot read on.
        stream: Where; empty for blobs and checkpoints.
        first: Sequence of the first event it is about, or number of the checkpoint; 0 for blobs.
        last: The last one.
        detail: One sentence.
    """

    kind: Literal["changed", "missing", "added", "rewritten", "checkpoint", "unreadable"]
    stream: str
    first: int
    last: int
    detail: str


class Stored(NamedTuple):
    """An event as a journal keeps it.

    Attributes:
        sequence: Its place in the stream.
        time_ms: As in `Event`.
        schema: As in `Event`.
        type: As in `Event`.
        principal: As in `Event`.
        path: As in `Event`.
        checksum: Of its header, as `_chain.checksum` makes it.
        salt: What its payload was salted with; ``None`` once it was erased.
        payload: ``None`` once it was erased.
        digest: The salted digest of a payload that was erased.
    """

    sequence: int
    time_ms: int
    schema: int
    type: str
    principal: str
    path: str
    checksum: int
    salt: bytes | None
    payload: bytes | None
    digest: bytes | None


class Anchor(NamedTuple):
    """What is known of a stream from elsewhere: its head after `length` events."""

    length: int
    head: bytes
    source: str


def anchors(checkpoints: Sequence[Checkpoint], stream: str) -> list[Anchor]:
    """What sound checkpoints say about one stream, in its order."""
    found = {}
    for checkpoint in checkpoints:
        if stream in checkpoint.heads:
            length, head = checkpoint.heads[stream]
            found[length] = Anchor(length, head, f"checkpoint {checkpoint.number}")
    return [found[length] for length in sorted(found) if length]


class Beginning(NamedTuple):
    """Where a stream begins: behind what was cut off.

    Attributes:
        first: Sequence of its first event, as the journal has it.
        signed: The same, as the newest sound checkpoint has it. Whoever cuts a stream signs that he did.
        heads: The heads before the events where it may be cut, as the journal keeps them; ``None`` where it
            keeps none: a store of format 1.
    """

    first: int = 1
    signed: int = 1
    heads: Mapping[int, bytes] | None = None


_WHOLE: Final = Beginning()


def signed_cut(checkpoints: Sequence[Checkpoint], stream: str) -> int:
    """The first event that a stream has after what sound checkpoints say."""
    return checkpoints[-1].cuts.get(stream, 1) if checkpoints else 1


def verify_stream(
    stream: str,
    rows: Iterable[Stored],
    end: Anchor | None,
    sealed: Sequence[Anchor],
    beginning: Beginning = _WHOLE,
) -> Iterator[Fault]:
    """Compares the events of one stream with their chain.

    Args:
        stream: Its name.
        rows: Its events in order from the first one on, no sequence twice.
        end: The stream's own length and head, where they are known.
        sealed: What sound checkpoints say, in order. What they say of events that were cut is not compared.
        beginning: Where it begins.
    """
    walk = _Walk(stream, [*sealed, end] if end else list(sealed), beginning)
    length = max((anchor.length for anchor in walk.ahead), default=0)
    yield from walk.begin()
    for row in rows:
        if row.sequence > length:
            yield Fault("added", stream, row.sequence, row.sequence, "this event follows the stream's end")
            continue
        yield from walk.skip_to(row.sequence)
        yield from walk.take(row)
    yield from walk.skip_to(length + 1)


class _Walk:
    """One pass over a stream.

    Behind an event that was changed or is missing the head is not known, until the next anchor
    tells it: so one fault does not hide the others.
    """

    def __init__(self, stream: str, ahead: list[Anchor], beginning: Beginning) -> None:
        self.stream = stream
        self._first, self._signed, self._heads = beginning
        heads = self._heads or {}
        self._at = self._first - 1
        self.ahead = sorted(
            (anchor for anchor in ahead if anchor.length >= self._at), key=lambda anchor: anchor.length
        )
        self._head: bytes | None = _chain.NO_HEAD if self._first == 1 else heads.get(self._first)
        #: Up to here the chain agrees with an anchor.
        self._agreed = self._at

    def begin(self) -> Iterator[Fault]:
        """What is wrong before the first event."""
        if self._first > self._signed:
            yield self._missing(self._signed, self._first - 1)
        if self._first > 1:
            # A checkpoint that was sealed right before the cut.
            yield from self._compare()

    def take(self, row: Stored) -> Iterator[Fault]:
        """The event after the last one."""
        try:
            header = header_of(self.stream, row)
        except (AttributeError, TypeError, ValueError, struct.error):
            # A rotten row holds values of any type.
            header = None
        self._at = row.sequence
        if header is None or _chain.checksum(header) != row.checksum:
            self._head = None
            yield Fault(
                "changed",
                self.stream,
                row.sequence,
                row.sequence,
                "this event is not the one that was written here",
            )
        else:
            yield from self._look_at_cut(row)
            if self._head is not None:
                self._head = _chain.next_head(self._head, header)
        yield from self._compare()

    def _look_at_cut(self, row: Stored) -> Iterator[Fault]:
        """Whether a stream may be cut before this event, and whether the journal knows it."""
        if self._heads is None:
            return
        at = row.sequence
        kept = self._heads.get(at)
        if row.type in CUT_TYPES:
            right = kept == self._head if self._head is not None else kept is not None or at > self._first
            if not right:
                detail = "the head that is kept for this event is not the one before it"
                yield Fault("changed", self.stream, at, at, detail)
            return
        if kept is not None:
            yield Fault("added", self.stream, at, at, "a head is kept here, where the stream cannot be cut")
        if 1 < at == self._first <= self._signed:
            yield self._missing(1, at - 1)

    def skip_to(self, sequence: int) -> Iterator[Fault]:
        """Passes over events that are not there."""
        if sequence <= self._at + 1:
            return
        last = sequence - 1
        yield self._missing(self._at + 1, last)
        self._head = None
        self._at = last
        yield from self._compare()

    def _missing(self, first: int, last: int) -> Fault:
        return Fault("missing", self.stream, first, last, f"{last - first + 1} events are missing")

    def _compare(self) -> Iterator[Fault]:
        due = []
        while self.ahead and self.ahead[0].length <= self._at:
            anchor = self.ahead.pop(0)
            # Where events around it are missing, it cannot be compared with anything.
            if anchor.length == self._at:
                due.append(anchor)
        if not due:
            return
        wrong = next((anchor for anchor in due if self._head not in (None, anchor.head)), None)
        if wrong:
            yield Fault(
                "rewritten",
                self.stream,
                min(self._agreed + 1, self._at),
                self._at,
                f"these events do not give the head that {wrong.source} holds",
            )
        # What is signed stands before the stream's own head.
        self._head = due[0].head
        self._agreed = self._at


def header_of(stream: str, row: Stored) -> bytes | None:
    """The header of an event; ``None`` where it cannot be one."""
    if row.digest is None:
        if not isinstance(row.payload, bytes) or not isinstance(row.salt, bytes):
            return None
        if len(row.salt) != _chain.SALT_BYTES:
            return None
        digest = _chain.salted_digest(row.salt, row.payload)
    elif row.payload is None and row.salt is None and len(row.digest) == _chain.DIGEST_BYTES:
        digest = row.digest
    else:
        return None
    header = _header_parts(row.schema, stream, row.type, row.principal, row.path)
    return header.encode(row.time_ms, row.sequence, digest)


_header_parts = functools.lru_cache(maxsize=1024)(_chain.Header)
