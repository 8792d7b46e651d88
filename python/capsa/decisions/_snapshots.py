"""Snapshots: the state of a tenant at one moment, so that the journal need not be folded from its beginning.

A snapshot is a blob; an event ``snapshot_sealed`` names it by its digest, with the digests of the states in it. So it
is part of the chain, and is compared when it is loaded. It holds what the events before its own fold to.

An *epoch* begins where the state cannot be folded again from what came before: after an erasure. Within an epoch, folding
the events gives the state. The version of the fold stands in every snapshot, for the day on which there is another one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Literal

import cbor2
import msgspec

from capsa import _native
from capsa.decisions._fold import JobState, TenantState
from capsa.decisions._ledger import event_at
from capsa.errors import HostFault, JournalMismatch, StoreDamaged, UnknownBlob

if TYPE_CHECKING:
    from capsa.decisions._fold import CapsuleState, Fold, Place
    from capsa.decisions._store import Store
    from capsa.journal import Event, Journal
    from capsa.tools import ToolState

#: Who seals snapshots, sweeps horizons and applies retention.
SYSTEM: Final = "capsa"
#: Largest snapshot: one that is larger is not sealed, and the journal is folded from further back.
MAX_BYTES: Final = 200 * 1024 * 1024

Why = Literal["events", "age", "close"]

_log = logging.getLogger("capsa.store")


class Sealed(msgspec.Struct, frozen=True):
    """What an event ``snapshot_sealed`` says.

    Attributes:
        why: What it was sealed for.
        fold: The version of the fold.
        epoch: Counts where the state cannot be folded again from what came before.
        digest: The blob's.
        states: The digests of the learned states, by ``job/capsule``.
    """

    why: str
    fold: int
    epoch: int
    digest: str
    states: dict[str, str]


def read_sealed(event: Event) -> Sealed:
    """What a sealing event says.

    Raises:
        JournalMismatch: It is not one of this version.
    """
    try:
        return msgspec.convert(cbor2.loads(event.payload), Sealed)
    except Exception as error:
        # CBOR can hold anything, and what has rotted need not be CBOR.
        raise JournalMismatch(f"event {event.sequence} of {event.stream} seals nothing: {error}") from error


def begin_epoch(store: Store, tenant: str) -> None:
    """Seals the state of a tenant, so that what came before can be erased. It is not yet on disk.

    Raises:
        HostFault: The state is too large. It says of which capsule.
    """
    if _seal(store, tenant, "erasure", 1) is None:
        raise _too_large(store, tenant)


def seal(store: Store, tenant: str, why: Why) -> Event | None:
    """Seals the state of a tenant as it is now. ``None`` where it is too large.

    Args:
        store: The store.
        tenant: Whose state.
        why: What for.
    """
    event = _seal(store, tenant, why, 0)
    if event is None:
        _log.warning("the state of %s is too large for a snapshot", tenant)
    return event


def _seal(store: Store, tenant: str, why: str, epoch: int) -> Event | None:
    with store._blobs, store._lock:
        fold = store._fold
        states = _states(fold, tenant)
        kept = {f"{job}/{name}": state.snapshot() for (_, job, name), state in states.items()}
        blob = cbor2.dumps({"capsules": kept, "tenant": fold.snapshot(tenant)}, canonical=True)
        if len(blob) > MAX_BYTES:
            return None
        sealed = Sealed(
            why=why,
            fold=_native.FOLD_VERSION,
            epoch=store._marks.epoch(tenant) + epoch,
            digest=_native.digest(blob),
            states={f"{job}/{name}": fold.state_hash((where, job, name)) for where, job, name in states},
        )
        # Written before the event that names it, and in its order: that one is never there without it.
        store._journal.put_blob(sealed.digest, blob, wait=False)
        payload = cbor2.dumps(msgspec.to_builtins(sealed), canonical=True)
        event = store._journal.append(tenant, "snapshot_sealed", store._now_ms(), SYSTEM, "", payload)
        store._unsealed_since[tenant] = event.sequence, event.time_ms
        return event


def _states(fold: Fold, tenant: str) -> dict[Place, CapsuleState | ToolState]:
    states: dict[Place, CapsuleState | ToolState] = {**fold.capsules, **fold.tools}
    return {place: states[place] for place in sorted(states) if place[0] == tenant}


def _too_large(store: Store, tenant: str) -> HostFault:
    """The error for a state that cannot be sealed: it names the largest part, which is the one to make smaller."""
    with store._lock:
        states = _states(store._fold, tenant)
        sizes = {place: len(cbor2.dumps(state.snapshot())) for place, state in states.items()}
        place = max(sizes, key=lambda each: sizes[each], default=(tenant, "", ""))
        what = "let it keep less" if place in store._fold.tools else "lower its max_contexts"
    return HostFault(
        f"the state of {tenant} is too large for a snapshot: {sum(sizes.values()):,} bytes, of which "
        f"{'/'.join(filter(None, place))} has {sizes.get(place, 0):,}",
        remedy=f"{what}, or delete it",
    )


class Mark(msgspec.Struct, frozen=True, gc=False):
    """An event where a stream can be cut.

    Attributes:
        sequence: Its place in the stream.
        time_ms: When it happened.
        purged: Whether it is a purge; else a snapshot.
        epoch: Of a snapshot.
        digest: Of a snapshot's blob; empty where its event says nothing any more.
    """

    sequence: int
    time_ms: int
    purged: bool
    epoch: int = 0
    digest: str = ""


class Marks:
    """The events where the streams of a journal can be cut. Each is read once: there are more with every hour.

    Args:
        journal: Which holds them.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._read: dict[str, dict[int, Mark]] = {}

    def of(self, tenant: str) -> list[Mark]:
        """Those of a tenant that are there, in order."""
        before = self._read.get(tenant, {})
        found = {
            sequence: mark
            for sequence in self.journal.cuts(tenant)
            if (mark := before.get(sequence) or self._mark(tenant, sequence)) is not None
        }
        self._read[tenant] = found
        return list(found.values())

    def last_purge(self, tenant: str) -> int:
        """Where a tenant was purged last: nothing before it counts, whether it is cut off already or not. 0 if never."""
        return max((mark.sequence for mark in self.of(tenant) if mark.purged), default=0)

    def snapshots(self, tenant: str) -> list[Mark]:
        """The snapshots of a tenant since it was purged last, in order."""
        purged = self.last_purge(tenant)
        return [mark for mark in self.of(tenant) if mark.sequence > purged]

    def epoch(self, tenant: str) -> int:
        """The present epoch of a tenant. One snapshot that says nothing any more does not take it back."""
        return max((mark.epoch for mark in self.snapshots(tenant)), default=0)

    def _mark(self, tenant: str, sequence: int) -> Mark | None:
        event = event_at(self.journal, tenant, sequence)
        if event is None:
            return None
        if event.type == "purged":
            return Mark(sequence, event.time_ms, True)
        try:
            sealed = read_sealed(event)
        except JournalMismatch as error:
            _log.warning("%s", error)
            return Mark(sequence, event.time_ms, False)
        return Mark(sequence, event.time_ms, False, sealed.epoch, sealed.digest)


def load(journal: Journal, fold: Fold, tenant: str, mark: Mark, *, only: str | None = None) -> bool:
    """Takes a snapshot over into a fold; whether it is still there.

    Args:
        journal: Which holds it.
        fold: The tenant in it is replaced.
        tenant: Whose snapshot.
        mark: Where it is sealed.
        only: The path of the one capsule that is asked for: others may have been deleted since, with their
            components.

    Raises:
        JournalMismatch: It is not what was sealed, or of a fold that this version does not know.
        StoreDamaged: Its bytes have changed.
    """
    event = event_at(journal, tenant, mark.sequence)
    if event is None or not mark.digest:
        return False
    sealed = read_sealed(event)
    try:
        blob = journal.blob(sealed.digest)
    except UnknownBlob:
        return False
    fold.forget(tenant)
    read: dict[str, Any] = cbor2.loads(blob)
    kept: dict[str, Any] = read["capsules"]
    for name, of_capsule in kept.items():
        if only not in (None, name):
            continue
        job, _, capsule = name.partition("/")
        place = tenant, job, capsule
        fold.restore(place, of_capsule)
        if fold.state_hash(place) != sealed.states.get(name):
            raise JournalMismatch(
                f"the snapshot at event {mark.sequence} of {tenant} does not give the state of {name} that was sealed",
                remedy="restore a backup",
            )
    if "tenant" in read:
        fold.restore_tenant(tenant, read["tenant"])
    elif only is None:
        _find_jobs(journal, fold, tenant, mark)
    return True


def _find_jobs(journal: Journal, fold: Fold, tenant: str, mark: Mark) -> None:
    """Makes the tenant and the jobs that a snapshot of an older version does not name.

    They follow from the events that made them; where these were cut off, from the capsules.
    """
    created: list[Event] = []
    first = next(journal.read(tenant, 0, 1))
    for event in journal.read(tenant):
        if event.sequence >= mark.sequence:
            break
        if event.type == "purged":
            created.clear()
        elif event.type == "created":
            created.append(event)
    for event in created:
        fold.apply(event)
    for name, job, _ in fold.places():
        if name == tenant:
            state = fold.tenants.setdefault(tenant, TenantState(created_ms=first.time_ms))
            state.jobs.setdefault(job, JobState(created_ms=first.time_ms))


def start(marks: Marks, fold: Fold, tenant: str) -> Mark | None:
    """Folds a tenant up to now: the newest snapshot that holds, which is given, and what came after it.

    Raises:
        JournalMismatch: Neither a snapshot nor the journal from its beginning can be used.
    """
    journal, loaded = marks.journal, None
    for mark in reversed(marks.snapshots(tenant)):
        try:
            loaded = mark if load(journal, fold, tenant, mark) else None
        except (JournalMismatch, StoreDamaged) as error:
            _log.warning("%s: %s; an older snapshot is tried", tenant, error)
        if loaded is not None:
            break
    after = marks.last_purge(tenant)
    if loaded is not None:
        after = loaded.sequence
    else:
        if not after:
            check_whole(journal, tenant)
        # What a snapshot that does not hold has left there.
        fold.forget(tenant)
    for event in journal.read(tenant, max(0, after - 1) if loaded is None else after):
        fold.apply(event)
    return loaded


def check_whole(journal: Journal, tenant: str) -> None:
    """Raises JournalMismatch where the beginning of a stream was cut off."""
    if journal.first(tenant) > 1:
        raise JournalMismatch(
            f"the events of {tenant} before {journal.first(tenant)} were cut, and no snapshot after it can be used",
            remedy="restore a backup",
        )


def epoch_start(marks: Marks, fold: Fold, tenant: str) -> int:
    """Brings a fold to where the present epoch of a tenant begins, or to what retention left of it.

    Gives the sequence from after which events are to be folded.
    """
    journal, purged, snapshots = marks.journal, marks.last_purge(tenant), marks.snapshots(tenant)
    present = marks.epoch(tenant)
    if present == 0 and purged:
        # The purge itself is folded: it says when it was.
        return purged - 1
    if present == 0 and journal.first(tenant) == 1:
        return 0
    for mark in snapshots:
        if mark.epoch == present and load(journal, fold, tenant, mark):
            return mark.sequence
    if purged:
        return purged - 1
    check_whole(journal, tenant)
    return 0
