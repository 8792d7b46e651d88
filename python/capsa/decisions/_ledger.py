"""The ledger: what feedback each decision has had. A fold of the journal, like everything else."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from capsa._native import Decision
    from capsa.decisions._answers import Feedback


class Row(msgspec.Struct, gc=False):
    """One decision and the feedback it has had.

    Attributes:
        payload: The event of the decision.
        deadline_ms: When its horizon ends.
        decided_ms: When it was made.
        posts: How many posts were recorded; a change means that somebody else was faster.
        metrics: Every metric that was sent, by name; ``None`` before the first.
        plain: The plain reward that was sent instead.
        taken: The options carried out, by strategy; ``None`` before the first post, empty where none was.
        done: Whether nothing more is awaited.
        expired: Whether it awaited feedback in vain; late feedback takes that back.
        answer: What the last recorded post was answered.
        read: The decision, once somebody has asked for it: read before, it would take four times the memory.
    """

    payload: bytes
    deadline_ms: int
    decided_ms: int
    posts: int = 0
    metrics: dict[str, float] | None = None
    plain: float | None = None
    taken: dict[str, str] | None = None
    done: bool = False
    expired: bool = False
    answer: Feedback | None = None
    read: Decision | None = None

    @property
    def decision(self) -> Decision:
        """The decision; `read` is set by whoever takes the row out of the ledger."""
        assert self.read is not None
        return self.read


class Ledger:
    """The decisions of one capsule by nonce. The store's lock guards it."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Row] = {}
        self._deadlines: list[tuple[int, bytes]] = []
        self._open = 0
        self._expired = 0

    def decided(self, decision: Decision, time_ms: int) -> None:
        """Adds a decision."""
        nonce, deadline_ms = decision.nonce, decision.deadline_ms
        self._rows[nonce] = Row(decision.payload, deadline_ms, time_ms)
        heappush(self._deadlines, (deadline_ms, nonce))
        self._open += 1

    def get(self, nonce: bytes) -> Row | None:
        """The row of a decision."""
        return self._rows.get(nonce)

    def received(
        self,
        nonce: bytes,
        *,
        metrics: dict[str, float],
        plain: float | None,
        taken: dict[str, str],
        done: bool,
    ) -> None:
        """Adds what one recorded post brought."""
        row = self._rows[nonce]
        row.metrics = metrics if row.metrics is None else row.metrics | metrics
        row.plain = plain if row.plain is None else row.plain
        row.taken = taken
        if done and not row.done:
            row.done = True
            self._open -= 1
            self._expired -= row.expired
        # Last: whoever saw an earlier state of the row then sees that it has changed.
        row.posts += 1

    def waiting(self, now_ms: int) -> tuple[int, int]:
        """How many decisions still await feedback, and how many awaited it in vain."""
        while self._deadlines and self._deadlines[0][0] < now_ms:
            _, nonce = heappop(self._deadlines)
            row = self._rows[nonce]
            if not row.done:
                row.expired = True
                self._expired += 1
        return self._open - self._expired, self._expired
