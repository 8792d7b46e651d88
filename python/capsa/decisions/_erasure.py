"""Taking away: everything about one subject, the logs of a capsule, a capsule, a job, a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import cbor2
import msgspec

from capsa.decisions import _emptying, _snapshots, _tools, _upkeep
from capsa.decisions._ids import subject_hash
from capsa.decisions._ledger import ERASED, event_at
from capsa.journal import Event

if TYPE_CHECKING:
    from capsa.decisions._fold import Fold, Place
    from capsa.decisions._store import Store

#: Decisions that one event names as erased.
_STEP: Final = 256


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased.

    Attributes:
        tenant: Where.
        decisions: How many decisions.
        events: How many events lost their content: the decisions, and the feedback about them.
    """

    tenant: str
    decisions: int
    events: int


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What was purged.

    Attributes:
        tenant: Which tenant.
        events: How many events were removed.
        capsules: How many capsules, with what they had learned.
    """

    tenant: str
    events: int
    capsules: int


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What was deleted.

    Attributes:
        tenant: Where.
        job: Where, or which job.
        capsule: Which capsule; ``None`` for a job.
        capsules: How many capsules, with what they had learned.
        decisions: How many decisions lost their content.
        events: How many events did: the decisions, and the feedback about them.
    """

    tenant: str
    job: str
    capsule: str | None
    capsules: int
    decisions: int
    events: int


def erase_subject(store: Store, tenant: str, subject: str) -> Erased:
    """Removes the content of every event about a subject. What was learned from it stays learned.

    Raises:
        UnknownTenant: There is no such tenant.
        HostFault: The state is too large to be sealed, without which it could not be folded again.
        InvalidField: The subject is not a text of 1 to 128 characters.
    """
    store._check_usable()
    store._check_tenant(tenant)
    with store._upkeeping:
        # What is to go already is not looked through.
        _emptying.finish(store, tenant)
        hashed = subject_hash(store._subject_key, subject)
        search = _Search(store._fold, hashed)
        # What was purged is gone already, though perhaps not yet cut off.
        search.last = store._marks.last_purge(tenant)
        marked: set[bytes] = set()
        # Until nothing was decided meanwhile. What is marked gets no more feedback.
        while True:
            store._durable()
            for event in store._journal.read(tenant, search.last):
                search.see(event)
            new = sorted(search.decisions - marked)
            if not new:
                break
            _mark(store, tenant, new)
            marked.update(new)
        if not marked:
            return Erased(tenant=tenant, decisions=0, events=0)
        # The state cannot be folded from what came before any more: an epoch begins.
        _snapshots.begin_epoch(store, tenant)
        store._durable()
        # Decisions last: should this end in between, another search finds the rest by them.
        for count, sequence in enumerate([*search.outcomes, *search.decided], 1):
            store._journal.erase(tenant, sequence, wait=False)
            if count % _emptying.ERASED_AT_ONCE == 0:
                # Others wait for the same transaction.
                store._durable()
        store._durable()
        store._retries.forget(lambda place, decision: place[0] == tenant and decision.subject == hashed)
    events = len(search.outcomes) + len(search.decided)
    return Erased(tenant=tenant, decisions=len(marked), events=events)


def _mark(store: Store, tenant: str, nonces: Sequence[bytes]) -> None:
    """Records that decisions are erased, and by whom, before anything is: should this end, it is known."""
    journal = store._journal
    for at in range(0, len(nonces), _STEP):
        step = nonces[at : at + _STEP]
        payload = cbor2.dumps({"decisions": len(step), "reason": "subject"}, canonical=True)
        with store._lock:
            once = [nonce + ERASED for nonce in step if not journal.claims(tenant, nonce + ERASED)]
            event = store._append((tenant, "", ""), "erased", store._now_ms(), payload, once=once)
            store._ledger.erase(tenant, step, event.sequence)


class _Search:
    """The events about one subject, in one pass."""

    def __init__(self, fold: Fold, wanted: bytes) -> None:
        self._fold = fold
        self._wanted = wanted
        self.decisions: set[bytes] = set()
        self.decided: list[int] = []
        self.outcomes: list[int] = []
        self.last = 0

    def see(self, event: Event) -> None:
        """Takes the next event."""
        self.last = event.sequence
        if event.erased or event.type not in ("decided", "outcome_received", "horizon_passed"):
            return
        # Before it is decoded: most events are of somebody else.
        if event.type == "decided":
            if self._wanted not in event.payload:
                return
        elif not self.decisions:
            return
        job, _, name = event.path.partition("/")
        state = self._fold.capsules.get((event.stream, job, name))
        if state is None or event.sequence < state.began:
            return
        if event.type == "decided":
            read = state.native.read_decision(event)
            if read.subject == self._wanted:
                self.decisions.add(read.nonce)
                self.decided.append(event.sequence)
            return
        outcome = state.native.read_outcome(event)
        if outcome["id"] in self.decisions:
            self.outcomes.append(event.sequence)


def purge(store: Store, tenant: str) -> Purged:
    """Removes a tenant's events and what its capsules have learned. That it was done, by whom and when, stays.

    Raises:
        UnknownTenant: There is no such tenant.
    """
    store._check_usable()
    store._check_tenant(tenant)
    with store._upkeeping:
        with store._lock:
            places = [place for place in store._fold.places() if place[0] == tenant]
            payload = cbor2.dumps({"capsules": len(places)}, canonical=True)
            event = store._record((tenant, "", ""), "purged", store._now_ms(), payload)
            store._ledger.forget(tenant)
            store._unsealed_since.pop(tenant, None)
        store._durable()
        # Before the cut: while that is not done, the next upkeep goes on with all of it. Should the name be used again
        # meanwhile, nobody can set a secret yet, and directories with a tool stay.
        store._vault.forget(tenant)
        _tools.remove_files(store, (tenant, "", ""))
        removed = store._journal.cut(tenant, event.sequence)
        _upkeep.drop_blobs(store)
        store._retries.forget(lambda place, _: place[0] == tenant)
    return Purged(tenant=tenant, events=removed, capsules=len(places))


def delete(store: Store, place: Place) -> Deleted:
    """Removes a capsule, or a job with all of its capsules where the name is empty.

    Raises:
        NotFound: Tenant, job or capsule is not there.
        HostFault: What is left is too large to be sealed, so that no content could be removed yet.
    """
    tenant, job, name = place
    path = f"{job}/{name}" if name else job
    store._check_usable()
    with store._upkeeping:
        with store._lock:
            there = store._fold.tenants.get(tenant)
            capsules = [
                found for found in store._fold.places() if found == place or (*found[:2], "") == place
            ]
            if there is not None and (capsules or (job in there.jobs and not name)):
                said = {"kind": "capsule" if name else "job", "name": name or job, "capsules": len(capsules)}
                store._record(place, "deleted", store._now_ms(), cbor2.dumps(said, canonical=True))
            elif there is None or path not in there.erasing:
                raise store._missing(place)
            begun = store._fold.tenants[tenant].erasing[path]
        store._durable()
        event = event_at(store._journal, tenant, begun)
        emptied = _emptying.empty(store, tenant, path)
        _upkeep.drop_blobs(store)
        store._retries.forget(lambda other, _: other == place or (*other[:2], "") == place)
    return Deleted(
        tenant=tenant,
        job=job,
        capsule=name or None,
        # The event is gone where retention has cut it off since.
        capsules=0 if event is None else cbor2.loads(event.payload)["capsules"],
        decisions=emptied.decisions,
        events=emptied.events,
    )


def purge_logs(store: Store, place: Place) -> Erased:
    """Removes the content of all decisions and feedback of a capsule up to now. What was learned stays.

    Raises:
        NotFound: The capsule is not there.
        HostFault: The state is too large to be sealed, so that no content could be removed yet.
    """
    tenant, job, name = place
    store._check_usable()
    with store._upkeeping:
        with store._lock:
            store._check_there(place)
            payload = cbor2.dumps({"reason": "logs", "done": False}, canonical=True)
            store._record(place, "erased", store._now_ms(), payload)
        emptied = _emptying.empty(store, tenant, f"{job}/{name}")
        store._retries.forget(lambda other, _: other == place)
    return Erased(tenant=tenant, decisions=emptied.decisions, events=emptied.events)
