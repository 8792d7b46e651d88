"""The ledger: what feedback each decision has had.

It is a view of the journal, which keeps for every decision with feedback which events those are: so a decision costs
memory only while somebody is at it, however many there were. The store's lock guards it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from capsa.decisions._answers import answered

if TYPE_CHECKING:
    from capsa._native import Capsule as NativeCapsule
    from capsa._native import Post
    from capsa.decisions._answers import Feedback
    from capsa.journal import Event, Journal

#: Decisions that are kept at hand; those whose feedback is not yet on disk always are.
ROWS: Final = 8192
#: Decisions of which it is known without a look into the journal that they have had nothing.
FRESH: Final = 65_536
#: So long after its horizon, feedback of a decision is still compared with what was posted before. From then on it is
#: recorded as late whatever it says, and the journal may forget which posts there were.
GRACE_MS: Final = 24 * 3600 * 1000

# What follows a decision's nonce in the journal's once-only keys; nothing: a reward for all metrics.
METRIC: Final = b"m"
#: Longer names of metrics stand in a key by their digest.
MAX_NAME_BYTES: Final = 64
HORIZON: Final = b"h"
ERASED: Final = b"e"
#: The decision itself, which an id of format 1 does not lead to.
DECIDED: Final = b"d"


class Row(msgspec.Struct, gc=False):
    """The feedback that one decision has had.

    Attributes:
        posts: How many posts were recorded; a change means that somebody else was faster.
        last: The sequence of the last event about it; 0 before the first.
        posted: The sequence of the last post.
        metrics: Every metric that was sent, by name; ``None`` before the first.
        plain: The plain reward that was sent instead.
        taken: The options carried out, by strategy; ``None`` before the first post, empty where none was.
        done: Whether nothing more is awaited.
        erased: Whether something of it was erased: it is forgotten.
        answer: What the last recorded post was answered, if that is at hand.
        outcome: The last recorded post.
        unread: The first post and the answer to it, where nobody has looked at the row since.
    """

    posts: int = 0
    last: int = 0
    posted: int = 0
    metrics: dict[str, float] | None = None
    plain: float | None = None
    taken: dict[str, str] | None = None
    done: bool = False
    erased: bool = False
    answer: Feedback | None = None
    outcome: Mapping[str, Any] | None = None
    unread: tuple[Post, bytes] | None = None

    def learned(self, post: Post, sequence: int, answer: bytes) -> None:
        """Takes the first post, whole. What it says is read when somebody asks."""
        self.unread = post, answer
        self.done = True
        self.last = self.posted = sequence
        self.posts += 1

    def read(self) -> None:
        """Reads what was taken unread."""
        if self.unread is None:
            return
        (post, answer), self.unread = self.unread, None
        self.received(post.fields(), self.posted)
        self.answer = answered(answer)
        # It was counted when it was taken.
        self.posts -= 1

    def received(self, outcome: Mapping[str, Any], sequence: int) -> None:
        """Adds what one recorded post brought."""
        metrics = outcome["metrics"]
        self.metrics = dict(metrics) if self.metrics is None else self.metrics | metrics
        if not metrics and self.plain is None:
            self.plain = outcome["reward"]
        self.taken = outcome["made"]
        self.done = self.done or outcome["status"] != "pending"
        self.last = self.posted = sequence
        self.outcome, self.answer = outcome, None
        # Last: whoever saw an earlier state of the row then sees that it has changed.
        self.posts += 1

    def passed(self, sequence: int) -> None:
        """The horizon has passed. What it brought was not posted: nothing can differ from it."""
        self.done = True
        self.last = sequence
        self.posts += 1


class Ledger:
    """The feedback of decisions, by stream and nonce.

    Args:
        journal: Where it stands.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._rows: OrderedDict[tuple[str, bytes], Row] = OrderedDict()
        # Those that were made here and not asked for since, in their order: most feedback comes soon.
        self._fresh: dict[bytes, None] = {}

    def decided(self, nonce: bytes) -> None:
        """Takes note of a decision that was just made."""
        self._fresh[nonce] = None
        if len(self._fresh) > FRESH:
            del self._fresh[next(iter(self._fresh))]

    def row(self, stream: str, nonce: bytes, native: NativeCapsule) -> Row:
        """What a decision has had. The caller adds to it what he records."""
        place = stream, nonce
        row = self._rows.get(place)
        if row is None:
            fresh = self._fresh.pop(nonce, self) is None
            row = self._rows[place] = Row() if fresh else self._read(stream, nonce, native)
            if len(self._rows) > ROWS:
                self._shrink()
        else:
            self._rows.move_to_end(place)
            row.read()
        return row

    def forget(self, stream: str) -> None:
        """Drops the decisions of a stream that was purged."""
        for place in [place for place in self._rows if place[0] == stream]:
            del self._rows[place]

    def erase(self, stream: str, nonces: Iterable[bytes], sequence: int) -> None:
        """Marks decisions as erased by the event at a sequence, which is perhaps not yet on disk."""
        for nonce in nonces:
            self._fresh.pop(nonce, None)
            self._rows[stream, nonce] = Row(last=sequence, erased=True)
            self._rows.move_to_end((stream, nonce))

    def _read(self, stream: str, nonce: bytes, native: NativeCapsule) -> Row:
        row = Row()
        claims = self._journal.claims(stream, nonce)
        for sequence in sorted({sequence for key, sequence in claims if key[16:17] not in (DECIDED, ERASED)}):
            event = event_at(self._journal, stream, sequence)
            if event is None:
                # Cut off: by then nothing is compared with it any more.
                continue
            if event.erased:
                row.erased = True
            elif event.type == "horizon_passed":
                row.passed(sequence)
            else:
                row.received(native.read_outcome(event), sequence)
        row.erased = row.erased or any(key[16:17] == ERASED for key, _ in claims)
        return row

    def _shrink(self) -> None:
        """Drops those that were not asked for the longest time, once they are on disk."""
        while len(self._rows) > ROWS:
            (stream, nonce), row = next(iter(self._rows.items()))
            if row.last > self._journal.durable(stream):
                # The others are younger.
                return
            del self._rows[stream, nonce]


def metric_key(nonce: bytes, name: str) -> bytes:
    """The once-only key of one metric of a decision."""
    encoded = name.encode()
    if len(encoded) > MAX_NAME_BYTES:
        encoded = blake2b(encoded, digest_size=MAX_NAME_BYTES).digest()
    return nonce + METRIC + encoded


def event_at(journal: Journal, stream: str, sequence: int) -> Event | None:
    """The durable event at a place; ``None`` where there is none, or no more."""
    event = next(journal.read(stream, sequence - 1, 1), None)
    return event if event is not None and event.sequence == sequence else None
