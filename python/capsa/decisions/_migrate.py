"""A store of format 1: its feedback gets the once-only keys that format 2 goes by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from capsa.decisions._ledger import DECIDED, metric_key

if TYPE_CHECKING:
    from capsa.decisions._fold import Fold
    from capsa.journal import Event, SqliteJournal


def claim_posts(journal: SqliteJournal, fold: Fold) -> None:
    """Claims for every post what it claims since format 2, and for every decision what its old id leads to.

    Once more does no harm: a crash in between makes the next start do it again.
    """
    for tenant in journal.streams():
        for event in journal.read(tenant):
            if event.erased:
                continue
            fold.apply(event)
            if event.type not in ("decided", "outcome_received"):
                continue
            job, _, name = event.path.partition("/")
            native = fold.capsules[tenant, job, name].native
            if event.type == "decided":
                decision = native.read_decision(event)
                _claim(journal, event, [decision.nonce + DECIDED])
                continue
            outcome = native.read_outcome(event)
            if outcome["id"] is None:
                continue
            names = outcome["metrics"]
            keys = [metric_key(outcome["id"], metric) for metric in names] if names else [outcome["id"]]
            _claim(journal, event, keys)


def _claim(journal: SqliteJournal, event: Event, keys: list[bytes]) -> None:
    free = [key for key in keys if not journal.claims(event.stream, key)]
    if free:
        journal.claim(event.stream, event.sequence, free)
