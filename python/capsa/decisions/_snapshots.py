"""Snapshots: the state of a tenant at one moment, so that the journal need not be folded from its beginning.

A snapshot is a blob; an event ``snapshot_sealed`` names it by its digest, with the digests of the states in it. So it
is part of the chain, and is compared when it is loaded. It holds what the events before its own fold to.

An *epoch* begins where the state cannot be folded again from what came before: after an erasure, and with a new version
of the fold. Within an epoch, folding the events gives the state.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Literal

import cbor2
import msgspec

from capsa import _native
from capsa.decisions._ledger import event_at
from capsa.errors import JournalMismatch, StoreDamaged, UnknownBlob

if TYPE_CHECKING:
    from capsa.decisions._fold import Fold
    from capsa.decisions._store import Store
    from capsa.journal import Event, Journal

#: Who seals snapshots, sweeps horizons and applies retention.
SYSTEM: Final = "capsa"
#: Largest snapshot: one that is larger is not sealed, and the journal is folded from further back.
MAX_BYTES: Final = 200 * 1024 * 1024

Why = Literal["events", "age", "close", "upgrade", "erasure"]

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
    except (ValueError, msgspec.ValidationError) as error:
        raise JournalMismatch(f"event {event.sequence} of {event.stream} seals nothing: {error}") from error


def seal(store: Store, tenant: str, why: Why, *, epoch: int = 0) -> Event | None:
    """Seals the state of a tenant as it is now. ``None`` where it is too large.

    Args:
        store: The store.
        tenant: Whose state.
        why: What for.
        epoch: By how much it begins a new epoch.
    """
    with store._blobs, store._lock:
        capsules = {
            f"{place[1]}/{place[2]}": state
            for place, state in store._fold.capsules.items()
            if place[0] == tenant
        }
        kept = {name: state.snapshot() for name, state in sorted(capsules.items())}
        blob = cbor2.dumps({"capsules": kept}, canonical=True)
        if len(blob) > MAX_BYTES:
            _log.warning("%s: the state has %d bytes, too many for a snapshot", tenant, len(blob))
            return None
        last = newest(store._journal, tenant)
        sealed = Sealed(
            why=why,
            fold=_native.FOLD_VERSION,
            epoch=(last[1].epoch if last else 0) + epoch,
            digest=_native.digest(blob),
            states={name: state.native.state_hash for name, state in sorted(capsules.items())},
        )
        # Written before the event that names it, and in its order: that one is never there without it.
        store._journal.put_blob(sealed.digest, blob, wait=False)
        payload = cbor2.dumps(msgspec.to_builtins(sealed), canonical=True)
        return store._journal.append(tenant, "snapshot_sealed", store._now_ms(), SYSTEM, "", payload)


def all_sealed(journal: Journal, tenant: str) -> list[tuple[Event, Sealed]]:
    """The sealing events of a tenant that are there, in order."""
    found = []
    for sequence in journal.cuts(tenant):
        event = event_at(journal, tenant, sequence)
        if event is not None and event.type == "snapshot_sealed" and not event.erased:
            found.append((event, read_sealed(event)))
    return found


def newest(journal: Journal, tenant: str) -> tuple[Event, Sealed] | None:
    """The last sealing event of a tenant."""
    for sequence in reversed(journal.cuts(tenant)):
        event = event_at(journal, tenant, sequence)
        if event is not None and event.type == "purged":
            return None
        if event is not None and not event.erased:
            return event, read_sealed(event)
    return None


def load(journal: Journal, fold: Fold, event: Event, sealed: Sealed) -> bool:
    """Takes a snapshot over into a fold; whether it is still there.

    Raises:
        JournalMismatch: It is not what was sealed, or of a fold that this version does not know.
        StoreDamaged: Its bytes have changed.
    """
    try:
        blob = journal.blob(sealed.digest)
    except UnknownBlob:
        return False
    fold.forget(event.stream)
    kept: dict[str, Any] = cbor2.loads(blob)["capsules"]
    for name, of_capsule in kept.items():
        job, _, capsule = name.partition("/")
        place = event.stream, job, capsule
        fold.restore(place, of_capsule)
        if fold.capsules[place].native.state_hash != sealed.states.get(name):
            raise JournalMismatch(
                f"the snapshot at event {event.sequence} of {event.stream} does not give the state of {name} that was sealed",
                remedy="restore a backup",
            )
    return True


def start(journal: Journal, fold: Fold, tenant: str) -> int:
    """Folds a tenant up to now: the newest snapshot that holds, and what came after it. Gives how many events.

    Raises:
        JournalMismatch: Neither a snapshot nor the journal from its beginning can be used.
    """
    after = 0
    for sequence in reversed(journal.cuts(tenant)):
        event = event_at(journal, tenant, sequence)
        if event is None or event.type == "purged":
            after = sequence
            break
        try:
            loaded = load(journal, fold, event, read_sealed(event))
        except (JournalMismatch, StoreDamaged) as error:
            _log.warning("%s: %s; an older snapshot is tried", tenant, error)
            loaded = False
        if loaded:
            after = sequence
            break
    else:
        check_whole(journal, tenant)
        # What a snapshot that does not hold has left there.
        fold.forget(tenant)
    folded = 0
    for event in journal.read(tenant, after):
        fold.apply(event)
        folded += 1
    return folded


def check_whole(journal: Journal, tenant: str) -> None:
    """Raises JournalMismatch where the beginning of a stream was cut off."""
    if journal.first(tenant) > 1:
        raise JournalMismatch(
            f"the events of {tenant} before {journal.first(tenant)} were cut, and no snapshot after it can be used",
            remedy="restore a backup",
        )


def epoch_start(journal: Journal, fold: Fold, tenant: str) -> int:
    """Brings a fold to where the present epoch of a tenant begins, or to what retention left of it.

    Gives the sequence from after which events are to be folded.
    """
    purged = last_purge(journal, tenant)
    sealed = [(event, said) for event, said in all_sealed(journal, tenant) if event.sequence > purged]
    present = sealed[-1][1].epoch if sealed else 0
    if purged == 0 and present == 0 and journal.first(tenant) == 1:
        return 0
    if purged and present == 0:
        return purged
    for event, said in sealed:
        if said.epoch == present and load(journal, fold, event, said):
            return event.sequence
    if purged:
        return purged
    check_whole(journal, tenant)
    return 0


def last_purge(journal: Journal, tenant: str) -> int:
    """Where a tenant was purged last: nothing before it counts, whether it is cut off already or not. 0 if never."""
    for sequence in reversed(journal.cuts(tenant)):
        event = event_at(journal, tenant, sequence)
        if event is not None and event.type == "purged":
            return sequence
    return 0
