"""Retries: a call with an idempotency key that was answered before gets the first answer, and counts once.

Decisions are kept in memory for some minutes. Which feedback a key has brought is a key in the journal that counts once,
written with the event:

    2 bytes: its time >> 32 · 4 bytes 0xff · "k" · 16 bytes: capsule and key · 16 bytes: the content

The journal lets keys go by the time that they begin with, which is up to 50 days after the event: so it is there for the
horizon and two days at least, and all that may be there begin with a few times.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from capsa.decisions import _feedback
from capsa.decisions._answers import Feedback, credited
from capsa.decisions._ledger import GRACE_MS, event_at
from capsa.errors import IdempotencyConflict, InvalidField, shown

if TYPE_CHECKING:
    from capsa._native import Decision
    from capsa.decisions._capsule import Capsule
    from capsa.decisions._fold import CapsuleState, Place
    from capsa.journal import Journal

#: So long a decision is answered again.
DECISION_MS: Final = 10 * 60 * 1000
#: Decisions that are kept for that; the oldest go.
DECISIONS: Final = 8192
#: Feedbacks that are kept at hand; those that are not yet on disk always are.
FEEDBACKS: Final = 8192

_KEY: Final = re.compile("[\x20-\x7e]{1,255}")
#: Calls with keys that are at work at the same time, at most, which the keys' hashes divide among them.
_TURNS: Final = 64
_MARK: Final = b"\xff\xff\xff\xffk"
_BUCKET_BITS: Final = 32
_HASH_BYTES: Final = 16


class _Decided(msgspec.Struct, frozen=True):
    """A decision, when it was made, of which arguments, and since when its capsule knew decisions then."""

    decision: Decision
    at_ms: int
    content: bytes
    since: int


class _Posted(msgspec.Struct, frozen=True):
    """What a key has brought: its content, and the event; its answer, where that is at hand."""

    content: bytes
    stream: str
    sequence: int
    answer: Feedback | None


class Retries:
    """What was answered to calls with idempotency keys.

    They do not know the store, for the same reason as `Components`.

    Args:
        journal: Where feedback stands.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._decisions: OrderedDict[tuple[Place, str], _Decided] = OrderedDict()
        self._posts: OrderedDict[bytes, _Posted] = OrderedDict()
        # Held while one is looked up or added; never while something is worked out.
        self._lock = threading.Lock()
        self._turns = [threading.RLock() for _ in range(_TURNS)]

    @cached_property
    def _secret(self) -> bytes:
        """The key of the hashes: whoever has the journal alone cannot guess from them what was erased."""
        return self._journal.secret("subjects")

    def turn(self, place: Place, key: str) -> threading.RLock:
        """Held during a call with a key: another with the same key waits for its answer. Taken before the store's lock."""
        return self._turns[hash((place, key)) % _TURNS]

    def forget(self, which: Callable[[Place, Decision], bool]) -> None:
        """Drops decisions that were taken away."""
        with self._lock:
            for kept in [kept for kept, entry in self._decisions.items() if which(kept[0], entry.decision)]:
                del self._decisions[kept]

    def content(self, body: object) -> bytes:
        """The digest of a call's arguments: equal where they are the same JSON."""
        try:
            text = json.dumps(body, sort_keys=True, default=_jsonable)
        except (TypeError, ValueError, RecursionError):
            # Such a call is refused for what it says.
            text = ""
        return self._hash(b"capsa content", text)

    def decided(self, place: Place, key: str, since: int, now_ms: int) -> _Decided | None:
        """What the key was answered, if it still counts."""
        with self._lock:
            entry = self._decisions.get((place, key))
        if entry is None or entry.since != since or now_ms - entry.at_ms > DECISION_MS:
            return None
        return entry

    def add_decided(self, place: Place, key: str, entry: _Decided) -> None:
        """Keeps an answer."""
        with self._lock:
            self._decisions[place, key] = entry
            self._decisions.move_to_end((place, key))
            if len(self._decisions) > DECISIONS:
                self._decisions.popitem(last=False)

    def name(self, place: Place, state: CapsuleState, key: str) -> bytes:
        """What a key is called in the journal: by capsule, and by its life, should it be deleted and installed again."""
        return self._hash(b"capsa key", "\0".join((*place, str(state.began), key)))

    def claim(self, name: bytes, content: bytes, now_ms: int) -> bytes:
        """What the journal accepts once for a feedback with a key."""
        return (now_ms >> _BUCKET_BITS).to_bytes(2, "big") + _MARK + name + content

    def posted(self, stream: str, name: bytes, state: CapsuleState, now_ms: int) -> _Posted | None:
        """What a key has brought, if it did within the horizon."""
        with self._lock:
            entry = self._posts.get(name)
        if entry is not None:
            return entry
        oldest = max(0, now_ms - state.longest_ms - 2 * GRACE_MS) >> _BUCKET_BITS
        # One more, for a clock that was set back. The newest first: a retry comes soon.
        for bucket in range(min((now_ms >> _BUCKET_BITS) + 1, 2**16 - 1), oldest - 1, -1):
            prefix = bucket.to_bytes(2, "big") + _MARK + name
            for claim, sequence in self._journal.claims(stream, prefix):
                return _Posted(claim[len(prefix) :], stream, sequence, None)
        return None

    def add_posted(self, name: bytes, entry: _Posted) -> None:
        """Keeps what a key has brought, until it is on disk at least."""
        with self._lock:
            self._posts[name] = entry
            while len(self._posts) > FEEDBACKS:
                oldest = next(iter(self._posts.values()))
                if oldest.sequence > self._journal.durable(oldest.stream):
                    # The others are younger.
                    return
                self._posts.popitem(last=False)

    def _hash(self, person: bytes, text: str) -> bytes:
        hashed = blake2b(text.encode(), digest_size=_HASH_BYTES, key=self._secret, person=person)
        return hashed.digest()


def decide(capsule: Capsule, key: object, body: tuple[Any, ...]) -> Decision:
    """Decides, or gives the first answer to a call with this key. It is perhaps not yet on disk.

    Raises:
        InvalidField: It is not a key.
        IdempotencyConflict: The first call said something else.
    """
    store, place, checked = capsule._store, capsule._place, _checked(key)
    with store._retries.turn(place, checked):
        content = store._retries.content(body)
        since, now_ms = capsule._state().since, store._now_ms()
        first = store._retries.decided(place, checked, since, now_ms)
        if first is not None:
            _check_same(first.content, content)
            return first.decision
        decision = capsule._decide(*body)
        store._retries.add_decided(place, checked, _Decided(decision, now_ms, content, since))
        return decision


def feedback(capsule: Capsule, key: object, body: Mapping[str, Any]) -> Feedback:
    """Records a feedback, unless a call with this key did. It is perhaps not yet on disk.

    Raises:
        InvalidField: It is not a key.
        IdempotencyConflict: The first call said something else.
    """
    store, place, checked = capsule._store, capsule._place, _checked(key)
    retries, tenant, outcome = store._retries, place[0], body.get("outcome")
    if isinstance(outcome, Mapping) and len(outcome) >= _feedback.MAX_METRICS:
        # The key takes the place of one metric among what counts once.
        raise InvalidField(
            f"outcome has more than {_feedback.MAX_METRICS - 1} metrics beside an idempotency key",
            pointer="/outcome",
            value=str(len(outcome)),
            remedy="send them in several posts",
        )
    with retries.turn(place, checked):
        body = {name: value for name, value in body.items() if not isinstance(value, _feedback._Unset)}
        state, now_ms, content = capsule._state(), store._now_ms(), retries.content(body)
        name = retries.name(place, state, checked)
        first = retries.posted(tenant, name, state, now_ms)
        if first is None:
            answer = capsule._feedback(**body, claims=[retries.claim(name, content, now_ms)])
            if answer.status != "unrecorded":
                retries.add_posted(name, _Posted(content, tenant, answer.sequence, answer))
            return answer
        _check_same(first.content, content)
        if body.get("decision_id") is not None:
            # It counts once by itself.
            return capsule._feedback(**body)
        return _told_again(capsule, state, first, body, now_ms)


def _told_again(
    capsule: Capsule, state: CapsuleState, first: _Posted, body: Mapping[str, Any], now_ms: int
) -> Feedback:
    """The answer to a repeated feedback without a decision id."""
    store, native = capsule._store, state.native
    event = None if first.answer else event_at(store._journal, first.stream, first.sequence)
    with store._lock:
        state.repeated += 1
        if first.answer is not None:
            return msgspec.structs.replace(first.answer, status="repeated")
        if event is None or event.erased:
            # It said what this one says.
            fields = _feedback.explicit(
                state, body.get("strategy"), body["option"], body.get("reward"), body.get("context_key")
            ).event
        else:
            fields = native.read_outcome(event)
        weights = native.weights(fields["key"], now_ms)
        return Feedback(
            decision_id=None,
            status="repeated",
            reward=fields["reward"],
            parts={},
            missing=[],
            context_key=fields["key"],
            decisions=credited(state, fields["made"], weights, weights),
            learner_version=native.learner_version,
            sequence=first.sequence,
        )


def _check_same(first: bytes, content: bytes) -> None:
    if first != content:
        raise IdempotencyConflict(
            "another call had this idempotency key, and said something else",
            pointer="/idempotencyKey",
            remedy="nothing has changed; send another key for another call, the same content for a retry",
        )


def _checked(key: object) -> str:
    if isinstance(key, str) and _KEY.fullmatch(key):
        return key
    raise InvalidField(
        "the idempotency key is not a text of 1 to 255 printable ASCII characters",
        pointer="/idempotencyKey",
        value=shown(ascii(key)),
        remedy="send such a text, or leave it out",
    )


def _jsonable(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else repr(value)
