"""A store: tenants, jobs and capsules over one journal."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from capsa import _native
from capsa.capsules import CapsuleSource, read_source
from capsa.decisions import (
    _erasure,
    _history,
    _jobs,
    _letting_in,
    _migrate,
    _snapshots,
    _tools,
    _upkeep,
)
from capsa.decisions._answers import InstallResult
from capsa.decisions._capsule import Capsule
from capsa.decisions._components import NO_EGRESS, Components, Egress, forget_hosts, host_for
from capsa.decisions._fold import CapsuleState, Fold, Place
from capsa.decisions._ids import IdKeys, Nonces
from capsa.decisions._jobs import Job, Tenant
from capsa.decisions._ledger import Ledger
from capsa.decisions._refusals import refusals
from capsa.decisions._retries import Retries
from capsa.errors import (
    CapsaError,
    HostFault,
    InstallConflict,
    InvalidField,
    NotFound,
    StoreClosed,
    StoreForked,
    UnknownTenant,
    WrongKind,
    shown,
)
from capsa.journal import Event, Fault, Journal, SqliteJournal
from capsa.tools import Calls, ToolState, Vault, check_definition

if TYPE_CHECKING:
    from capsa.journal import Backup

DEFAULT: Final = "default"

_log = logging.getLogger("capsa.store")

_OPEN_STORES: weakref.WeakSet[Store] = weakref.WeakSet()


def _mark_forked() -> None:
    forget_hosts()
    for store in _OPEN_STORES:
        store._forked = True


os.register_at_fork(after_in_child=_mark_forked)


class Store:
    """Capsules and what they have learned. Safe to use from many threads; not after a fork.

    Made by `capsa.open`.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        principal: str,
        cache_dir: str | Path | None,
        clock: Callable[[], float],
        seed: int | None,
        retention_ms: int | None = None,
        upkeep: bool = False,
        egress: Egress = NO_EGRESS,
    ) -> None:
        self.principal = principal
        self._clock = clock
        self._journal = journal
        self._components = Components(host_for(cache_dir, egress), journal)
        self._nonces = Nonces(seed, after=sum(map(journal.length, journal.streams())))
        self._ids = IdKeys(journal, seed)
        self._fold = Fold(self._components, self._ids.ring)
        self._ledger = Ledger(journal)
        self._retries = Retries(journal)
        folder = journal.folder if isinstance(journal, SqliteJournal) else None
        self._vault = Vault(None if folder is None else folder / "vault")
        #: Where the directories of tools are.
        self._files = None if folder is None else folder / "files"
        self._tool_calls: dict[Place, tuple[ToolState, Calls]] = {}
        self._marks = _snapshots.Marks(journal)
        #: By tenant: where its newest snapshot stands, and its time.
        self._unsealed_since: dict[str, tuple[int, int]] = {}
        self._retention_ms = retention_ms
        # Held while an event is appended and folded, so that the fold sees the journal's order.
        self._lock = threading.RLock()
        # Held while a blob is on its way into the journal and no event names it yet. Taken before the lock.
        self._blobs = threading.RLock()
        # Held during a round of upkeep, and whatever else must not meet one. Taken before the others.
        self._upkeeping = threading.RLock()
        self._forked = False
        self._closed = False
        #: How many events there were when this process signed its last checkpoint or began, and when that was.
        self._signed = (sum(map(journal.length, journal.streams())), self._now_ms())
        if isinstance(journal, SqliteJournal):
            _migrate.claim_posts(journal, lambda: Fold(self._components, self._ids.ring))
        for stream in journal.streams():
            mark = _snapshots.start(self._marks, self._fold, stream)
            if mark is not None:
                self._unsealed_since[stream] = mark.sequence, mark.time_ms
        _OPEN_STORES.add(self)
        self._upkeep = upkeep
        self._thread: _upkeep.UpkeepThread | None = None
        if self.persistent:
            self._keep_up()

    @property
    def journal(self) -> Journal:
        """Every event, for reading."""
        return self._journal

    @cached_property
    def _subject_key(self) -> bytes:
        """The key of the hashes that stand for subjects: read once, for it is in a file."""
        return self._journal.secret("subjects")

    @property
    def persistent(self) -> bool:
        """Whether what was learned outlives the process."""
        return self._journal.persistent

    def tenant(self, name: str) -> Tenant:
        """A tenant: an organisation or environment. It exists from its first job or install on."""
        return Tenant(self, _jobs.checked_name("tenant", name))

    def tenants(self) -> list[_jobs.TenantInfo]:
        """The tenants, sorted by name. One that was purged is not there until it is used again."""
        return _jobs.tenants(self)

    def job(self, name: str) -> Job:
        """A job of the default tenant."""
        return self.tenant(DEFAULT).job(name)

    def capsule(self, name: str) -> Capsule:
        """A capsule of the default tenant and job.

        Raises:
            UnknownTenant: Nothing was installed in the default tenant.
            UnknownJob: Nothing was installed in its default job.
            UnknownCapsule: It was never installed, or deleted.
        """
        return self.job(DEFAULT).capsule(name)

    def install(self, source: str | Path | bytes) -> Capsule:
        """Installs a capsule into the default tenant and job; see `Job.install`."""
        return self.job(DEFAULT).install(source)

    def plan(self, source: str | Path | bytes) -> InstallResult:
        """What `install` would do, without doing it."""
        return self.job(DEFAULT).plan(source)

    def close(self) -> None:
        """Writes what is still queued, and ends the use of the store. In memory, what it learned is gone.

        Raises:
            StoreUnwritable: Decisions that were answered could not be recorded.
        """
        if self._closed or self._forked:
            return
        if self._thread is not None:
            self._thread.end()
        with self._upkeeping, self._lock:
            already, self._closed = self._closed, True
            # Native code holds what they are bound to.
            self._tool_calls.clear()
            if self.persistent and not already:
                try:
                    _upkeep.seal_before_closing(self)
                except CapsaError as error:
                    # A store that failed has nothing to seal, and without it only the next start takes longer.
                    _log.debug("no snapshot before closing: %s", error)
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        kept = "on disk" if self.persistent else "in memory"
        return f"<Store {kept}, {len(self._fold.places())} capsules>"

    def _check_usable(self) -> None:
        if self._forked:
            raise StoreForked(
                "this store was opened before a fork",
                remedy="open it in the process that uses it, or share one with capsa serve",
            )
        if self._closed:
            raise StoreClosed("this store was closed", remedy="open it again")

    def _now_ms(self) -> int:
        seconds = self._clock()
        # 6 bytes of milliseconds: until the year 10889.
        if not 0 <= seconds < 2**48 / 1000:
            raise HostFault(f"the clock gives {seconds} seconds since 1970", remedy="correct the clock")
        return int(seconds * 1000)

    def _append(
        self,
        place: Place,
        type_: str,
        now_ms: int,
        payload: bytes,
        *,
        principal: str | None = None,
        once: Sequence[bytes] = (),
        due_ms: int | None = None,
    ) -> Event:
        """Appends an event, which the caller folds. The lock is held."""
        tenant, job, name = place
        path = f"{job}/{name}" if name else job
        return self._journal.append(
            tenant, type_, now_ms, principal or self.principal, path, payload, once=once, due_ms=due_ms
        )

    def _record(self, place: Place, type_: str, now_ms: int, payload: bytes) -> Event:
        """Appends an event and folds it. The lock is held."""
        event = self._append(place, type_, now_ms, payload)
        self._fold.apply(event)
        return event

    def _keep_up(self) -> None:
        """Starts the thread that does the upkeep, once there is something for it to do."""
        with self._lock:
            if self._upkeep and self._thread is None and not self._closed:
                self._thread = _upkeep.UpkeepThread(self)
                self._thread.start()

    def _check_tenant(self, tenant: str) -> None:
        """Raises UnknownTenant where there is none of this name."""
        if tenant not in self._journal.streams():
            raise UnknownTenant(
                f"no tenant {shown(tenant)!r}",
                value=shown(tenant),
                remedy="a tenant exists from its first job or install on",
            )

    def _durable(self) -> None:
        """Returns once everything recorded so far is on disk. Never under the lock: others join the same commit."""
        self._journal.flush()

    def _state(self, place: tuple[str, str, str]) -> CapsuleState:
        self._check_usable()
        try:
            return self._fold.capsules[place]
        except KeyError:
            raise self._wrong_kind(place, "decision") from None

    def _check_there(self, place: Place) -> None:
        """Raises NotFound where no capsule of any kind is there."""
        self._check_usable()
        if place not in self._fold.capsules and place not in self._fold.tools:
            raise self._missing(place)

    def _wrong_kind(self, place: Place, asked: str) -> CapsaError:
        """The error for a capsule that is not of the kind that was asked for: it is of the other, or not there."""
        if place in self._fold.tools and asked == "decision":
            return WrongKind(f"{place[2]} is a tool: it decides and learns nothing", remedy="invoke it")
        if place in self._fold.capsules and asked == "tool":
            return WrongKind(
                f"{place[2]} is a decision capsule: it cannot be invoked, and has no policy",
                remedy="ask it to decide",
            )
        return self._missing(place)

    def _missing(self, place: Place) -> NotFound:
        """The error for what is not there."""
        return _jobs.missing(self._fold, place)

    def _compiled(self, place: Place, read: CapsuleSource) -> _native.Component | _native.tools.ToolComponent:
        """Compiles a capsule that is let in. That may take seconds: never under the lock that decisions need."""
        if read.tool is not None:
            # What is recorded has to be read again at every start.
            check_definition(read.definition, read.tool)
        _letting_in.check(self._fold, place, read)
        return self._components.compiled(read)

    def _plan(self, place: tuple[str, str, str], source: CapsuleSource) -> InstallResult:
        if source.tool is not None:
            return _tools.plan(self, place, source)
        if place in self._fold.tools:
            raise InstallConflict(
                f"{place[2]} is a tool",
                pointer="/kind",
                value="decision",
                remedy="delete it first, or use another name",
            )
        state = self._fold.capsules.get(place)
        if state is None:
            return InstallResult(
                capsule=source.name,
                version=1,
                digest=source.digest,
                unchanged=False,
                changes=[f"{source.name} is new"],
            )
        plan = state.native.plan(source.digest, source.definition)
        return InstallResult(capsule=source.name, digest=source.digest, **plan)

    def _install(
        self, tenant: str, job: str, source: str | Path | bytes, name: str | None = None
    ) -> InstallResult:
        self._check_usable()
        with refusals(self, (tenant, job, ""), "install") as refused:
            read = read_source(source)
            place = (tenant, job, read.name)
            refused.place, refused.digest = place, read.digest
            read.check_name(name)
            result = self._let_in(place, read)
        self._durable()
        return result

    def _let_in(self, place: Place, read: CapsuleSource) -> InstallResult:
        component = self._compiled(place, read)
        if not self._plan(place, read).unchanged:
            # Before the event that names it; should the install be refused below, it is there for nothing. Again
            # below, should it have been dropped meanwhile.
            self._journal.put_blob(read.digest, read.component)
        with self._blobs, self._lock:
            # Again: what is let in may have been changed meanwhile.
            _letting_in.check(self._fold, place, read)
            plan = self._plan(place, read)
            if not plan.unchanged:
                self._journal.put_blob(read.digest, read.component, wait=False)
                self._components.hold(read.digest, component)
                now_ms = self._now_ms()
                _jobs.create(self, place[0], place[1], now_ms, {})
                if read.tool is not None and place not in self._fold.tools:
                    # Of an earlier one of the name, whose removal was ended in between.
                    _tools.remove_files(self, place)
                payload = _native.encode_installed(
                    read.name, plan.version, read.digest, len(read.component), read.definition
                )
                self._record(place, "installed", now_ms, payload)
        return plan

    def audit(self, tenant: str = DEFAULT, after: int = 0, limit: int = 100) -> list[_history.AuditRecord]:
        """What people and gates changed in a tenant, in the order of the journal.

        Args:
            tenant: Its name.
            after: The `sequence` of the last row of the page before.
            limit: Rows in a page, 1 to 1000.

        Raises:
            UnknownTenant: There is none of this name.
        """
        return _history.audit(self, tenant, after, limit)

    def check(self) -> None:
        """Returns if the store can be used.

        Raises:
            StoreClosed: It was closed.
            StoreUnwritable: The journal failed.
        """
        self._check_usable()
        self._journal.check()

    def places(self) -> list[tuple[str, str, str]]:
        """Every installed decision capsule as tenant, job and name, sorted."""
        return sorted(self._fold.capsules)

    def tool_places(self) -> list[tuple[str, str, str]]:
        """Every installed tool likewise."""
        return sorted(self._fold.tools)

    def counts(self, place: tuple[str, str, str]) -> dict[str, Any]:
        """What is counted of a capsule: ``decisions``, ``feedback`` by status, ``waiting``, ``contexts`` and more."""
        return self._state(place).native.counts(self._now_ms())

    def call_counts(self, place: tuple[str, str, str]) -> dict[str, int]:
        """How many calls of a tool there were: ``invoked``, and ``breached``, which were denied something or broke a limit."""
        state = _tools.state_of(self, place)
        return {"invoked": state.invoked, "breached": state.breached}

    def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """Everything in the journal that is not as it was written; see `Journal.verify`."""
        self._check_usable()
        return self._journal.verify(public_key)

    def rebuild(self) -> _history.Rebuild:
        """Folds the whole journal again, and compares it with the live state. Decisions go on meanwhile."""
        return _history.rebuild(self)

    def upkeep(self) -> _upkeep.Upkeep:
        """Deals with horizons that have passed, seals snapshots, applies the retention and signs a checkpoint, now.

        Raises:
            StoreUnwritable: The journal failed.
        """
        return _upkeep.upkeep(self, all_due=True)

    def rotate_keys(self) -> int:
        """Makes a new key that seals decision ids from the next millisecond on; gives its number.

        Ids of older keys still open.
        """
        self._check_usable()
        with self._lock:
            return self._ids.rotate(self._now_ms())

    def purge(self, tenant: str) -> _erasure.Purged:
        """Removes a tenant: its events, and what its capsules have learned. It cannot be taken back.

        That it was done, by whom and when, stays in the journal. The tenant's name can be used anew.

        Raises:
            UnknownTenant: There is none of this name.
        """
        return _erasure.purge(self, tenant)

    def erase_subject(self, subject: str, *, tenant: str = DEFAULT) -> _erasure.Erased:
        """Removes the content of every decision about a subject, and of the feedback on it. It cannot be taken back.

        What was learned from it stays learned. It reads the tenant's journal: its time grows with the events.

        Args:
            subject: As `Capsule.decide` was given it.
            tenant: Whose decisions.

        Raises:
            UnknownTenant: There is none of this name.
            InvalidField: The subject is not a text of 1 to 128 characters.
        """
        return _erasure.erase_subject(self, tenant, subject)

    def backup(self, folder: str | Path, *, keys: bool = False) -> Backup:
        """Copies the store into a new folder, which can be opened. Decisions go on meanwhile.

        Args:
            folder: Made; it must not exist, or be empty.
            keys: Whether the keys come with it. Without them the copy opens no decision id that was given here.

        Raises:
            InvalidField: The store is in memory.
            StoreError: The folder cannot be used.
        """
        self._check_usable()
        if not isinstance(self._journal, SqliteJournal):
            raise InvalidField(
                "this store is in memory",
                pointer="/folder",
                value=shown(folder),
                remedy="open a store in a folder; what is in memory can be exported",
            )
        return self._journal.backup(Path(folder), keys=keys)

    def export(self, folder: str | Path) -> _history.Export:
        """Writes everything into a new folder, as files that a person can read; docs/store.md shows them.

        Raises:
            InvalidField: The folder is not empty.
            OSError: A file cannot be written.
        """
        return _history.export(self, folder)
