"""Feedback that waits: bounded, in order for each capsule, sent again until it arrives.

Whatever waits can be sent twice without counting twice: feedback with a decision's id counts once by itself, and any other
carries an idempotency key. So an answer that was lost is no loss, and no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import unquote

import msgspec

from capsa.client._errors import Unauthorized, Unreachable, code_of, exception, is_problem, may_pass
from capsa.client._quiet import Quiet
from capsa.client._transport import Reply
from capsa.errors import CapsaError

#: Most feedbacks in one request, and their bytes: far below what a server takes.
BATCH: Final = 500
BATCH_BYTES: Final = 1024 * 1024
#: Most requests at once, of those that cannot go in a batch.
AT_ONCE: Final = 32
#: Most bytes that wait.
QUEUE_BYTES: Final = 64 * 1024 * 1024
#: Seconds until the first and at most between any two attempts; while the queue is flushed, less.
FIRST_S: Final = 0.1
LONGEST_S: Final = 10.0
FLUSHING_S: Final = 0.2
#: After so many faults of the server over one feedback it goes behind the others; and away, once these arrive.
FAULTS: Final = 8

#: Called with what was refused, by name as JSON spells it, and why.
OnRefused = Callable[[Mapping[str, Any], CapsaError], object]


class Entry(msgspec.Struct):
    """One feedback that waits.

    Attributes:
        path: The capsule's path.
        body: The body of its request.
        key: Its idempotency key; without one it counts once by itself.
        faults: How often the server failed over it.
        sent_before: How many had arrived when it had failed too often.
    """

    path: str
    body: bytes
    key: str | None
    faults: int = 0
    sent_before: int | None = None


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Feedback that could not be sent at once.

    Attributes:
        waiting: Still to be sent.
        sent: Arrived later.
        dropped: Not taken, for the queue was full or the client closed.
        refused: Sent later, and refused by the server.
    """

    waiting: int
    sent: int
    dropped: int
    refused: int


class _Outcome(msgspec.Struct):
    """What became of one feedback: it arrived where there is no error.

    Attributes:
        error: What went wrong.
        retry_after_s: How long the server asked us to wait.
        keep: Whether it may go well later.
        whole: Whether a batch was refused, and nothing is known of its items.
    """

    error: CapsaError | None
    retry_after_s: float | None = None
    keep: bool = True
    whole: bool = False


class Send(Protocol):
    """Sends a POST; raises `Unreachable` where no answer came."""

    def __call__(self, path: str, body: bytes, key: str | None) -> Awaitable[Reply]:
        """Gives the answer."""


class _Lane(deque[Entry]):
    """What waits for one capsule, in order; the first `alone` of it are sent one by one."""

    alone = 0


class FeedbackQueue:
    """The queue of one client, and the task that empties it. Used on one event loop.

    Args:
        send: How an attempt is made.
        limit: Most feedbacks that wait.
        quiet: Where trouble is told.
        on_refused: Told what a server refused later.
    """

    def __init__(self, send: Send, limit: int, quiet: Quiet, on_refused: OnRefused | None) -> None:
        self._send = send
        self._limit = limit
        self._quiet = quiet
        self._on_refused = on_refused
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._waiting = self._bytes = self._sent = self._dropped = self._refused = 0
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failures = 0
        self._unreachable = False
        self._flushing = 0
        self._closed = False

    @property
    def counts(self) -> QueueCounts:
        """How many wait, arrived, were dropped and refused."""
        return QueueCounts(
            waiting=self._waiting, sent=self._sent, dropped=self._dropped, refused=self._refused
        )

    def goes_first(self, path: str) -> bool:
        """Whether something waits that must arrive before, or the server is known to take nothing now."""
        return path in self._lanes or (self._failures > 0 and self._waiting > 0)

    def put(self, entry: Entry, retry_after_s: float | None = None) -> bool:
        """Takes a feedback that could not be sent.

        Args:
            entry: The feedback.
            retry_after_s: How long the server asked us to wait.

        Returns:
            Whether there is room; it is dropped where there is none.
        """
        size = len(entry.body)
        if self._closed or self._waiting >= self._limit or self._bytes + size > QUEUE_BYTES:
            self._dropped += 1
            self._quiet.warn(
                "dropped",
                "feedback was dropped: %s",
                "the client is closed"
                if self._closed
                else f"{self._waiting} wait already, which is the limit",
            )
            return False
        self._lanes.setdefault(entry.path, _Lane()).append(entry)
        self._waiting += 1
        self._bytes += size
        self._idle.clear()
        if self._task is None or self._task.done():
            # It was tried a moment ago.
            self._failures = 1
            self._task = asyncio.get_running_loop().create_task(self._empty(self._pause_s(retry_after_s)))
        return True

    def reached(self) -> None:
        """Says that the server answered something: what waits for that is sent now."""
        if self._unreachable:
            self._unreachable = False
            self._wake.set()

    async def flush(self, timeout: float | None) -> int:
        """Sends what waits, without long pauses; gives how many still wait after so many seconds."""
        self._flushing += 1
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            pass
        finally:
            self._flushing -= 1
        return self._waiting

    async def close(self, timeout: float) -> int:
        """As `flush`; then nothing is taken or sent any more."""
        left = await self.flush(timeout)
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if left:
            self._quiet.warn("left", "%d feedbacks were not sent before the client was closed", left)
        return left

    async def _empty(self, pause_s: float | None) -> None:
        while self._lanes:
            if pause_s is not None:
                await self._pause(pause_s)
            path, lane = next(iter(self._lanes.items()))
            # The others get their turn, should this one fail for ever.
            self._lanes.move_to_end(path)
            try:
                pause_s = await self._attempt(path, lane)
            except Exception as error:  # noqa: BLE001 - what waits must not depend on a fault of ours
                self._quiet.warn("fault", "sending feedback failed: %s: %s", type(error).__name__, error)
                self._failures += 1
                pause_s = self._pause_s(None)
            if not lane:
                del self._lanes[path]
        self._failures = 0
        self._idle.set()

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        if self._flushing:
            seconds = min(seconds, FLUSHING_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _pause_s(self, retry_after_s: float | None) -> float:
        # Many clients that lost the same server must not come back in step.
        own = min(LONGEST_S, FIRST_S * 2.0 ** min(self._failures - 1, 16)) * random.uniform(0.5, 1.0)
        return max(own, retry_after_s or 0.0)

    async def _attempt(self, path: str, lane: _Lane) -> float | None:
        """Sends the first of a lane; gives the pause after which to go on, ``None`` for at once."""
        entries = _first(lane)
        free = [entry for entry in entries if entry.key is None]
        requests = [[entry] for entry in entries if entry.key is not None] + ([free] if free else [])
        told = await asyncio.gather(*(self._request(path, request) for request in requests))
        outcomes = {id(entry): outcome for pairs in told for entry, outcome in pairs}
        kept: list[Entry] = []
        last: list[Entry] = []
        trouble: _Outcome | None = None
        for entry in entries:
            outcome = outcomes[id(entry)]
            lane.popleft()
            self._waiting -= 1
            self._bytes -= len(entry.body)
            if outcome.error is None:
                self._sent += 1
            elif outcome.keep and (entry.faults < FAULTS or not self._takes_others(entry)):
                # What the server fails over lets the others go first.
                (kept if entry.faults < FAULTS else last).append(entry)
                trouble = outcome
            else:
                self._refuse(entry, outcome.error)
        lane.extendleft(reversed(kept))
        lane.extend(last)
        self._waiting += len(kept) + len(last)
        self._bytes += sum(len(entry.body) for entry in kept + last)
        # One of a batch may be at fault: each by itself tells which.
        together = any(outcome.whole for outcome in outcomes.values())
        lane.alone = len(kept) if together else max(0, lane.alone - len(entries) + len(kept))
        self._unreachable = trouble is not None and isinstance(trouble.error, Unreachable)
        if trouble is not None and trouble.error is not None:
            return self._failed(trouble.error, trouble.retry_after_s)
        self._failures = 0
        return None

    async def _request(self, path: str, entries: list[Entry]) -> list[tuple[Entry, _Outcome]]:
        """Sends one or several in one request; what became of each."""
        alone = len(entries) == 1
        try:
            if alone:
                reply = await self._send(f"{path}/feedback", entries[0].body, entries[0].key)
            else:
                body = b'{"events":[' + b",".join(entry.body for entry in entries) + b"]}"
                reply = await self._send(f"{path}/feedback/batch", body, None)
            document = reply.document()
            if not alone and reply.status == 200:
                answers = _results(document, len(entries))
                return [
                    (
                        entry,
                        _judged(entry, int(answer["status"]) if is_problem(answer) else 200, answer, reply),
                    )
                    for entry, answer in zip(entries, answers, strict=True)
                ]
        except Unreachable as error:
            return [(entry, _Outcome(error)) for entry in entries]
        if alone:
            return [(entries[0], _judged(entries[0], reply.status, document, reply))]
        refused = _Outcome(reply.refusal(document), reply.retry_after_s)
        if reply.status == 500 or not _passes(reply.status, document):
            refused.whole = True
        return [(entry, refused) for entry in entries]

    def _takes_others(self, entry: Entry) -> bool:
        """Whether the server took other feedback since it failed over this one: otherwise it fails over all."""
        if entry.sent_before is None:
            entry.sent_before = self._sent
        return self._sent > entry.sent_before

    def _failed(self, error: CapsaError, retry_after_s: float | None) -> float:
        self._failures += 1
        pause_s = self._pause_s(retry_after_s)
        self._quiet.warn("waiting", "%d feedbacks wait for the server: %s", self._waiting, error)
        return pause_s

    def _refuse(self, entry: Entry, error: CapsaError) -> None:
        self._refused += 1
        self._quiet.warn("refused", "feedback was refused: %s: %s", type(error).__name__, error)
        if self._on_refused is None:
            return
        _, _, tenant, _, job, _, capsule = entry.path.split("/")[-7:]
        named = {"tenant": unquote(tenant), "job": unquote(job), "capsule": unquote(capsule)}
        try:
            self._on_refused({**named, **json.loads(entry.body)}, error)
        except Exception as failure:  # noqa: BLE001 - the caller's own code
            self._quiet.warn("callback", "on_refused failed: %s: %s", type(failure).__name__, failure)


def _first(lane: _Lane) -> list[Entry]:
    """What is sent at once from the front of a lane: one, or a batch and beside it those that need requests of their own."""
    if lane.alone > 0:
        return [lane[0]]
    entries: list[Entry] = []
    size = keyed = 0
    for entry in lane:
        size += len(entry.body) + 1
        keyed += entry.key is not None
        if len(entries) == BATCH or keyed > AT_ONCE or (entries and size > BATCH_BYTES):
            break
        entries.append(entry)
    return entries


def _results(document: Any, count: int) -> list[Any]:
    """The answers of a batch.

    Raises:
        Unreachable: This is no answer of a Capsa server.
    """
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list) or len(results) != count:
        raise Unreachable("the answer to a batch is none of a Capsa server")
    return results


def _judged(entry: Entry, status: int, answer: Any, reply: Reply) -> _Outcome:
    """What an answer means for one feedback."""
    if status == 200 and not is_problem(answer):
        return _Outcome(None)
    entry.faults += status == 500
    return _Outcome(reply.refusal(answer), reply.retry_after_s, keep=_passes(status, answer))


def _passes(status: int, document: Any) -> bool:
    """Whether a refusal lets the same feedback wait for a better time."""
    if not is_problem(document):
        # Of something in between.
        return True
    # A key that is wrong says nothing of the feedback, and may be mended.
    return may_pass(status, code_of(document)) or isinstance(exception(document), Unauthorized)
