"""A store of format 1: its feedback gets the once-only keys that format 2 goes by."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from capsa.decisions._ledger import DECIDED, metric_key

if TYPE_CHECKING:
    from capsa.decisions._fold import Fold
    from capsa.journal import Event, SqliteJournal

#: Begins the key that says that a tenant's posts have their keys. Behind every time, so that it is never let go.
_DONE: Final = b"\xff"


def claim_posts(journal: SqliteJournal, make_fold: Callable[[], Fold]) -> None:
    """Claims for every post what it claims since format 2, and for every decision what its old id leads to.

    It is done once for every tenant whose events begin with one of schema 1; should it end in between, the next start
    does it again.
    """
    for tenant in journal.streams():
        first = next(journal.read(tenant, 0, 1), None)
        done = _DONE + blake2b(tenant.encode(), digest_size=16).digest()
        if first is None or first.schema > 1 or journal.claims(tenant, done):
            continue
        _claim_posts(journal, make_fold(), tenant)
        journal.claim(tenant, first.sequence, [done])


def _claim_posts(journal: SqliteJournal, fold: Fold, tenant: str) -> None:
    for event in journal.read(tenant):
        if event.erased:
            continue
        fold.apply(event)
        if event.schema > 1 or event.type not in ("decided", "outcome_received"):
            continue
        job, _, name = event.path.partition("/")
        native = fold.capsules[tenant, job, name].native
        if event.type == "decided":
            _claim(journal, event, [native.read_decision(event).nonce + DECIDED])
            continue
        outcome = native.read_outcome(event)
        if outcome["id"] is not None:
            names = outcome["metrics"]
            keys = [metric_key(outcome["id"], metric) for metric in names] if names else [outcome["id"]]
            _claim(journal, event, keys)


def _claim(journal: SqliteJournal, event: Event, keys: list[bytes]) -> None:
    free = [key for key in keys if key not in dict(journal.claims(event.stream, key))]
    if free:
        journal.claim(event.stream, event.sequence, free)
