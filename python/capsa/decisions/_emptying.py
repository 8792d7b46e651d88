"""Emptying: the content of decisions and feedback goes, of a deleted capsule or job, or of logs that were purged.

An event says first that it is to go; from then on nobody is shown it. The fold remembers it until another event says
that it did: so whatever ends the process in between, the work is found again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import cbor2
import msgspec

from capsa.decisions import _snapshots, _tools
from capsa.decisions._ledger import event_at
from capsa.errors import HostFault

if TYPE_CHECKING:
    from capsa.decisions._store import Store

#: What loses its content; the others say who changed what.
_CONTENT: Final = frozenset(
    {"decided", "outcome_received", "horizon_passed", "kv_changed", "invoked", "breached"}
)

_log = logging.getLogger("capsa.store")


class Emptied(msgspec.Struct, frozen=True):
    """What lost its content now.

    Attributes:
        decisions: How many decisions.
        events: How many events: the decisions, and what was recorded about them.
    """

    decisions: int
    events: int


#: Events that lose their content in one transaction.
ERASED_AT_ONCE: Final = 256


def empty(store: Store, tenant: str, path: str, principal: str | None = None) -> Emptied:
    """Removes the content that is to go from a path, and records that it did. `_upkeeping` is held.

    Args:
        store: The store.
        tenant: The tenant.
        path: One that the fold says is to be emptied.
        principal: Who does it, if not who has the store open.

    Raises:
        HostFault: The state of the tenant is too large to be sealed, without which it could not be folded again; or files
            of tools cannot be removed.
    """
    before = store._fold.tenants[tenant].erasing[path]
    # What is still there is of a tool whose logs were purged, or of the next one of the name.
    job, _, name = path.partition("/")
    _tools.remove_files(store, (tenant, job, name))
    # The state cannot be folded from what came before any more: an epoch begins.
    _snapshots.begin_epoch(store, tenant)
    store._durable()
    decisions = events = 0
    for event in store._journal.read(tenant, store._marks.last_purge(tenant)):
        if event.sequence >= before:
            break
        if event.type in _CONTENT and not event.erased and _is_within(event.path, path):
            store._journal.erase(tenant, event.sequence, wait=False)
            decisions += event.type == "decided"
            events += 1
            if events % ERASED_AT_ONCE == 0:
                # Others wait for the same transaction.
                store._durable()
    store._durable()
    begun = event_at(store._journal, tenant, before)
    reason = "logs" if begun is not None and begun.type == "erased" else "deleted"
    said = {"reason": reason, "done": True, "decisions": decisions, "events": events}
    with store._lock:
        payload = cbor2.dumps(said, canonical=True)
        event = store._append((tenant, job, name), "erased", store._now_ms(), payload, principal=principal)
        store._fold.apply(event)
    store._durable()
    return Emptied(decisions, events)


def finish(store: Store, tenant: str | None = None) -> bool:
    """Goes on where the process ended, in one tenant or in all; whether there was something. `_upkeeping` is held."""
    with store._lock:
        tenants = [tenant] if tenant is not None else list(store._fold.tenants)
        left = [
            (name, path)
            for name in tenants
            if name in store._fold.tenants
            for path in store._fold.tenants[name].erasing
        ]
    for name, path in left:
        try:
            empty(store, name, path, _snapshots.SYSTEM)
        except HostFault as error:
            _log.warning("the content of %s/%s is still there: %s", name, path, error)
    return bool(left)


def _is_within(path: str, within: str) -> bool:
    return path == within or path.startswith(f"{within}/")
