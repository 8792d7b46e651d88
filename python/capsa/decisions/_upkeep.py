"""What a store does by itself: horizons that pass, snapshots, retention. All of it leaves events.

One thread does it every few seconds; `Store.upkeep` does it now.
"""

from __future__ import annotations

import copy
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Final

import msgspec

from capsa.decisions import _emptying, _feedback, _snapshots, _tools
from capsa.decisions._ledger import GRACE_MS
from capsa.errors import CapsaError, HostFault, NotFound, StoreClosed, StoreForked, StoreUnwritable

if TYPE_CHECKING:
    from capsa.decisions._fold import Place
    from capsa.decisions._store import Store
    from capsa.journal import Event

#: Between two rounds of the thread.
ROUND_SECONDS: Final = 5.0
#: So many rounds come before one that also looks at what is old.
_SHORT_ROUNDS: Final = 11
#: Events after which a tenant's state is sealed: a start folds at most about so many.
SNAPSHOT_EVENTS = 50_000
#: Events after which a checkpoint is signed, or after an hour, or when the store is closed after `CLOSING_EVENTS`.
SIGNED_EVENTS = 10_000
#: A state with this many new events is sealed after an hour all the same,
AGED_EVENTS = 1000
AGED_MS: Final = 3600 * 1000
#: and when the store is closed after so many, for the next start.
CLOSING_EVENTS = 100
#: Horizons that are looked at in one step.
_STEP: Final = 256
#: Into how many parts a retention is divided: events are cut by such parts.
_PARTS: Final = 8

_log = logging.getLogger("capsa.store")


class Upkeep(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of upkeep did.

    Attributes:
        horizons: Decisions whose horizon had passed and that were dealt with.
        checkpoints: Signed checkpoints over all streams, at most one.
        snapshots: Tenants whose state was sealed.
        cut: Events that retention removed.
    """

    horizons: int
    checkpoints: int
    snapshots: int
    cut: int


class UpkeepThread(threading.Thread):
    """Rounds of upkeep until the store is closed or gone."""

    def __init__(self, store: Store) -> None:
        super().__init__(name="capsa-upkeep", daemon=True)
        # A store that nobody refers to ends.
        self._store = weakref.ref(store)
        self._over = threading.Event()

    def run(self) -> None:
        """Rounds, until `end`."""
        short = 0
        while not self._over.wait(ROUND_SECONDS):
            store = self._store()
            if store is None:
                return
            short = (short + 1) % (_SHORT_ROUNDS + 1)
            try:
                upkeep(store, old=not short)
            except Exception as error:  # noqa: BLE001 - as the comment says
                # Whatever it was: horizons that pass tomorrow must not depend on it.
                if self._over.is_set() or store._closed:
                    return
                _log.error(
                    "upkeep failed and is tried again: %s", error, exc_info=not isinstance(error, CapsaError)
                )
            del store

    def end(self) -> None:
        """Ends the rounds, and waits for the last one."""
        self._over.set()
        if self.is_alive() and threading.current_thread() is not self:
            self.join()


def upkeep(store: Store, *, old: bool = True, all_due: bool = False) -> Upkeep:
    """One round.

    Args:
        store: The store.
        old: Whether what is old is cut off and forgotten, too: that takes a look at each tenant.
        all_due: Whether a checkpoint is due with every new event.

    Raises:
        StoreUnwritable: The journal failed.
    """
    with store._upkeeping:
        store._check_usable()
        horizons, snapshots, cut = sweep(store), _seal_due(store), 0
        if old:
            cut = _finish_purges(store)
            if _emptying.finish(store):
                drop_blobs(store)
            cut += _retain(store)
            _forget(store)
        # Last: it signs what the others have written.
        checkpoints = _sign_due(store, 1 if all_due else SIGNED_EVENTS)
        return Upkeep(horizons=horizons, checkpoints=checkpoints, snapshots=snapshots, cut=cut)


def sweep(store: Store) -> int:
    """Deals with every decision whose horizon has passed and that has declared what it then counts as."""
    swept = 0
    while rows := store._journal.due(store._now_ms() - 1, _STEP):
        dealt_with = [
            (due_ms, event.stream, event.sequence) for due_ms, event in rows if _pass_due(store, event)
        ]
        # On disk before it counts as dealt with; a crash in between makes it begin again.
        store._durable()
        store._journal.settle(dealt_with)
        # And that, before the next question.
        store._durable()
        swept += len(dealt_with)
        if not dealt_with:
            # What is left cannot be dealt with now; the next round tries again.
            break
    return swept


def _pass_due(store: Store, event: Event) -> bool:
    """Whether a decision is dealt with. One that cannot be does not hold up the others."""
    job, _, name = event.path.partition("/")
    place = (event.stream, job, name)
    state = store._fold.capsules.get(place)
    if state is None or event.erased or event.sequence <= state.since:
        return True
    try:
        decision = state.native.read_decision(event)
        about = _feedback.Subject(decision, decision.nonce, event.time_ms, decision.deadline_ms)
        pass_horizon(store, place, about)
    except (StoreUnwritable, StoreClosed, StoreForked):
        raise
    except NotFound:
        # Deleted a moment ago.
        return True
    except CapsaError as error:
        _log.error("the horizon of event %d of %s: %s", event.sequence, event.stream, error)
        return False
    return True


def pass_horizon(store: Store, place: Place, about: _feedback.Subject) -> None:
    """Records what the horizon of a decision brings, if it still awaits something."""
    tenant, decided_at = place[0], about.decision.sequence
    assert decided_at is not None
    while True:
        with store._lock:
            state = store._state(place)
            native = state.native
            row = store._ledger.row(tenant, about.nonce, native)
            seen, posts, epoch = copy.copy(row), row.posts, state.epoch
        if seen.done or seen.erased or decided_at <= state.since:
            return
        passed = _feedback.at_horizon(state, about, seen)
        for level, message in passed.log:
            _log.log(getattr(logging, level.upper(), logging.WARNING), "%s: %r", "/".join(place), message)
        with store._lock:
            row = store._ledger.row(tenant, about.nonce, native)
            if row.erased:
                return
            if (row.posts, state.epoch) != (posts, epoch):
                continue
            written = store._append(
                place,
                "horizon_passed",
                store._now_ms(),
                native.encode_outcome(passed.event),
                principal=_snapshots.SYSTEM,
                once=passed.once,
            )
            native.apply(written)
            row.passed(written.sequence)
            return


def _seal_due(store: Store) -> int:
    sealed, now_ms = 0, store._now_ms()
    for tenant in store._journal.streams():
        new, since_ms = unsealed(store, tenant)
        if new >= SNAPSHOT_EVENTS:
            sealed += _snapshots.seal(store, tenant, "events") is not None
        elif new >= AGED_EVENTS and now_ms - since_ms >= AGED_MS:
            sealed += _snapshots.seal(store, tenant, "age") is not None
    if sealed:
        drop_blobs(store)
    return sealed


def seal_before_closing(store: Store) -> None:
    """Seals what a start would otherwise have to fold, and signs what was written."""
    for tenant in store._journal.streams():
        if unsealed(store, tenant)[0] >= CLOSING_EVENTS:
            _snapshots.seal(store, tenant, "close")
    _sign_due(store, CLOSING_EVENTS)


def _sign_due(store: Store, events: int) -> int:
    """Signs a checkpoint where there are so many new events since the last one, or any for an hour."""
    lengths, now_ms = sum(map(store._journal.length, store._journal.streams())), store._now_ms()
    signed, signed_ms = store._signed
    if events == 1:
        # Asked for by somebody: what others have signed counts too.
        last = store._journal.checkpoints()[-1:]
        signed = sum(length for checkpoint in last for length, _ in checkpoint.heads.values())
    if lengths <= signed or (lengths < signed + events and now_ms < signed_ms + AGED_MS):
        return 0
    store._journal.seal()
    store._signed = lengths, now_ms
    return 1


def unsealed(store: Store, tenant: str) -> tuple[int, int]:
    """How many events of a tenant no snapshot holds, and since when, milliseconds since 1970."""
    journal = store._journal
    since = store._unsealed_since.get(tenant)
    if since is None:
        first = next(journal.read(tenant, 0, 1), None)
        since = store._unsealed_since[tenant] = 0, first.time_ms if first else store._now_ms()
    return journal.length(tenant) - since[0], since[1]


def _kept(store: Store, tenant: str) -> list[_snapshots.Mark]:
    """The snapshots of a tenant that stay.

    Those are the two newest, where an epoch begins, and the first in each part of the retention: there the journal
    can be cut later, and its rest still be folded.
    """
    snapshots = store._marks.snapshots(tenant)
    part_ms = None if store._retention_ms is None else max(1, store._retention_ms // _PARTS)
    kept, epoch, part = [], -1, -1
    for at, mark in enumerate(snapshots):
        of_part = -1 if part_ms is None else mark.time_ms // part_ms
        if at >= len(snapshots) - 2 or mark.epoch != epoch or of_part != part:
            kept.append(mark)
        epoch, part = mark.epoch, of_part
    return kept


def drop_blobs(store: Store) -> None:
    """Drops the snapshots that nothing needs any more."""
    # A snapshot that was sealed a moment ago is known once it is durable.
    store._durable()
    with store._blobs:
        keep = {mark.digest for tenant in store._journal.streams() for mark in _kept(store, tenant)}
        present = set()
        for state in list(store._fold.capsules.values()):
            keep.update(state.native.version_digests)
            present.add(state.native.component_digest)
        for tool in list(store._fold.tools.values()):
            keep.update(tool.versions)
            present.add(tool.in_force.component.digest)
        store._journal.drop_blobs(keep)
        store._components.keep(present)


def _retain(store: Store) -> int:
    """Cuts what is older than the retention, at a snapshot that was kept for that."""
    if store._retention_ms is None:
        return 0
    journal, removed = store._journal, 0
    for tenant in journal.streams():
        # What feedback is compared with is kept whatever is declared.
        longest_ms = longest(store, tenant)
        before_ms = store._now_ms() - max(store._retention_ms, (longest_ms or 0) + 2 * GRACE_MS)
        first = journal.first(tenant)
        old = [
            mark.sequence
            for mark in _kept(store, tenant)
            if first < mark.sequence and mark.digest and mark.time_ms <= before_ms
        ]
        if old:
            removed += journal.cut(tenant, max(old))
    if removed:
        drop_blobs(store)
    return removed


def longest(store: Store, tenant: str | None = None) -> int | None:
    """The longest horizon there was in any capsule, or in those of a tenant, milliseconds."""
    states = list(store._fold.capsules.items())
    return max((state.longest_ms for place, state in states if tenant in (None, place[0])), default=None)


def _finish_purges(store: Store) -> int:
    """Cuts off what a purge has left that a crash ended. A tenant whose files cannot be removed does not hold up others."""
    removed, journal = 0, store._journal
    for tenant in journal.streams():
        purged = store._marks.last_purge(tenant)
        if journal.first(tenant) >= purged:
            continue
        try:
            # Whoever uses the name again has done it, and may have set secrets since.
            if tenant not in store._fold.tenants:
                store._vault.forget(tenant)
                _tools.remove_files(store, (tenant, "", ""))
        except HostFault as error:
            _log.warning("the purge of %s is not over: %s", tenant, error)
            continue
        removed += journal.cut(tenant, purged)
    return removed


def _forget(store: Store) -> None:
    """Lets the journal forget the keys of decisions that no feedback can change any more, and of old calls of tools."""
    kept_ms = longest(store)
    if kept_ms is None:
        # There are tools at most: their calls are found for as long as events are to be kept.
        kept_ms = store._retention_ms
    if kept_ms is not None:
        before_ms = store._now_ms() - kept_ms - 2 * GRACE_MS
        if before_ms > 0:
            store._journal.release(before_ms.to_bytes(6, "big"))
