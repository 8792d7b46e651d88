"""The short way from the body of a request to its answer: nothing of it becomes an object of Python's.

Only bodies as most are go it. ``None`` says that one does not: nothing has changed then, and the long way (`Capsule._decide`,
`Capsule._feedback`) does it, or says what is wrong with it. So nothing is refused here that is not refused there, and
nothing is answered otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from capsa.decisions import _tools

if TYPE_CHECKING:
    from capsa._native import Decision
    from capsa.decisions._capsule import Capsule


def decide(capsule: Capsule, body: bytes) -> Decision | None:
    """As `Capsule._decide`: recorded, but perhaps not yet on disk."""
    store = capsule._store
    while True:
        state = capsule._state()
        epoch, now_ms = state.epoch, store._now_ms()
        with _tools.breaches(store, capsule._place, "frame"):
            decision = state.native.decide_body(store._nonces.take(now_ms), now_ms, body)
        if decision is None or capsule._recorded(state, epoch, decision, now_ms):
            return decision


def feedback(capsule: Capsule, body: bytes) -> bytes | None:
    """As `Capsule._feedback`, answered as JSON: recorded, but perhaps not yet on disk."""
    store, tenant = capsule._store, capsule._place[0]
    state = capsule._state()
    native, epoch, now_ms = state.native, state.epoch, store._now_ms()
    post = native.read_post(body, now_ms)
    if post is None or post.decided_ms <= state.purged_ms:
        return None
    if not max(state.since + 1, store._journal.first(tenant)) <= post.decided_at:
        return None
    payload, nonce = post.payload, post.nonce
    with store._lock:
        row = store._ledger.row(tenant, nonce, native)
        if row.posts or row.erased or state.epoch != epoch:
            return None
        event = store._append(capsule._place, "outcome_received", now_ms, payload, once=(nonce,))
        answer = native.learn(post, payload, event.sequence, now_ms)
        row.learned(post, event.sequence, answer)
    if post.log:
        capsule._write_log(post.log)
    return answer
