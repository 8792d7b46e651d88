"""The same store for asyncio.

A decision takes some microseconds and runs at once. What compiles or walks over all contexts goes to a thread. The wait for
the disk costs no thread: the one that writes tells all who wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from capsa._native import at_once
from capsa.decisions import _erasure, _short
from capsa.decisions._answers import ContextMemory, Feedback
from capsa.decisions._async_invoking import AsyncInvoking
from capsa.decisions._fair import FairThreads
from capsa.decisions._feedback import AS_ANSWERED, NOT_GIVEN, OptionLike, _Unset
from capsa.decisions._opening import open_store
from capsa.decisions._store import DEFAULT, Store
from capsa.errors import CapsaError, TooSlow

if TYPE_CHECKING:
    from capsa._native import Decision
    from capsa.decisions._capsule import Capsule
    from capsa.decisions._erasure import Deleted, Erased, Purged
    from capsa.decisions._history import (
        AuditRecord,
        DecisionRecord,
        Export,
        FeedbackRecord,
        Rebuild,
        Replay,
        Story,
    )
    from capsa.decisions._jobs import JobInfo, TenantInfo
    from capsa.decisions._report import Report
    from capsa.decisions._upkeep import Upkeep
    from capsa.errors import StoreUnwritable
    from capsa.journal import Backup, Fault


Given = ParamSpec("Given")
Answered = TypeVar("Answered")


class AsyncStore:
    """A store for asyncio: ``async with capsa.AsyncStore() as store``. Takes what `capsa.open` takes."""

    def __init__(self, path: str | Path | None = None, **settings: Any) -> None:
        self._store = open_store(path, **settings)
        self._disk = _Disk(self._store)
        self._threads = FairThreads()

    @property
    def sync(self) -> Store:
        """The same store for threads."""
        return self._store

    async def install(
        self, source: str | Path | bytes, *, tenant: str = DEFAULT, job: str = DEFAULT
    ) -> AsyncCapsule:
        """See `Job.install`."""
        place = self._store.tenant(tenant).job(job)
        return AsyncCapsule(await asyncio.to_thread(place.install, source), self._disk, self._threads)

    def capsule(self, name: str, *, tenant: str = DEFAULT, job: str = DEFAULT) -> AsyncCapsule:
        """See `Job.capsule`."""
        return AsyncCapsule(self._store.tenant(tenant).job(job).capsule(name), self._disk, self._threads)

    async def tenants(self) -> list[TenantInfo]:
        """See `Store.tenants`."""
        return await asyncio.to_thread(self._store.tenants)

    async def jobs(self, tenant: str) -> list[JobInfo]:
        """See `Tenant.jobs`."""
        return await asyncio.to_thread(self._store.tenant(tenant).jobs)

    async def create_job(
        self, tenant: str, name: str, *, description: str = "", metadata: Mapping[str, Any] | None = None
    ) -> JobInfo:
        """See `Tenant.create_job`."""
        create = self._store.tenant(tenant).create_job
        return await asyncio.to_thread(create, name, description=description, metadata=metadata)

    async def job(self, tenant: str, name: str) -> JobInfo:
        """See `Job.info`."""
        return await asyncio.to_thread(self._store.tenant(tenant).job(name).info)

    async def delete_job(self, tenant: str, name: str) -> Deleted:
        """See `Job.delete`."""
        return await asyncio.to_thread(self._store.tenant(tenant).job(name).delete)

    async def delete_capsule(self, tenant: str, job: str, name: str) -> Deleted:
        """See `Job.delete_capsule`."""
        return await asyncio.to_thread(self._store.tenant(tenant).job(job).delete_capsule, name)

    async def purge_logs(self, tenant: str, job: str, name: str) -> Erased:
        """See `Capsule.purge_logs`."""
        place = self._store.tenant(tenant).job(job)
        return await asyncio.to_thread(_erasure.purge_logs, self._store, (place.tenant, place.name, name))

    async def durable(self) -> None:
        """Returns once everything recorded so far is on disk.

        Raises:
            StoreUnwritable: It may never be.
        """
        await self._disk.durable()

    async def upkeep(self) -> Upkeep:
        """See `Store.upkeep`."""
        return await asyncio.to_thread(self._store.upkeep)

    async def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """See `Store.verify`."""
        return await asyncio.to_thread(self._store.verify, public_key)

    async def rebuild(self) -> Rebuild:
        """See `Store.rebuild`."""
        return await asyncio.to_thread(self._store.rebuild)

    async def audit(self, tenant: str = DEFAULT, *, after: int = 0, limit: int = 100) -> list[AuditRecord]:
        """See `Store.audit`."""
        return await asyncio.to_thread(self._store.audit, tenant, after, limit)

    async def export(self, folder: str | Path) -> Export:
        """See `Store.export`."""
        return await asyncio.to_thread(self._store.export, folder)

    async def backup(self, folder: str | Path, *, keys: bool = False) -> Backup:
        """See `Store.backup`."""
        return await asyncio.to_thread(partial(self._store.backup, folder, keys=keys))

    async def rotate_keys(self) -> int:
        """See `Store.rotate_keys`."""
        return await asyncio.to_thread(self._store.rotate_keys)

    async def purge(self, tenant: str) -> Purged:
        """See `Store.purge`."""
        return await asyncio.to_thread(self._store.purge, tenant)

    async def erase_subject(self, subject: str, *, tenant: str = DEFAULT) -> Erased:
        """See `Store.erase_subject`."""
        return await asyncio.to_thread(partial(self._store.erase_subject, subject, tenant=tenant))

    async def close(self) -> None:
        """See `Store.close`. Calls of tools that run are not waited for, and nothing is recorded of them."""
        self._threads.close()
        await asyncio.to_thread(self._store.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Disk:
    """Waits for the disk on behalf of all callers: one word from the writing thread, whatever their number."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # By loop, those for whom it is going to ask.
        self._waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

    async def durable(self) -> None:
        """Returns once everything recorded before this call is on disk.

        Raises:
            StoreUnwritable: It may never be.
        """
        if not self._store.persistent:
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        waiting = self._waiting.get(loop)
        if waiting is None:
            self._waiting[loop] = [future]
            # Behind whatever else this turn of the loop records: it goes into the same transaction.
            loop.call_soon(self._ask, loop)
        else:
            waiting.append(future)
        await future

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting.pop(loop)

        def tell(failure: StoreUnwritable | None) -> None:
            # A loop that was closed meanwhile has nobody who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, waiting, failure)

        try:
            self._store.journal.when_durable(tell)
        except CapsaError as error:
            _tell(waiting, error)


def _tell(waiting: list[asyncio.Future[None]], failure: CapsaError | None) -> None:
    for future in waiting:
        if future.done():
            # Whoever waited has gone.
            continue
        if failure is None:
            future.set_result(None)
        else:
            # Each its own: an exception that many raise would gather their traces.
            future.set_exception(failure.again())


class AsyncCapsule(AsyncInvoking):
    """A capsule for asyncio: the methods of `Capsule`, awaited."""

    def __init__(self, capsule: Capsule, disk: _Disk, threads: FairThreads) -> None:
        self._capsule = capsule
        self._disk = disk
        self._threads = threads

    @property
    def sync(self) -> Capsule:
        """The same capsule for threads."""
        return self._capsule

    async def _soon(
        self, work: Callable[Given, Answered], *args: Given.args, **named: Given.kwargs
    ) -> Answered:
        """Does something in which the guest is called: here, if it is over at once, else in a thread."""
        try:
            return at_once(work, *args, **named)
        except TooSlow:
            return await self._threads.run(self._capsule._place[0], partial(work, *args, **named))

    async def decide(
        self,
        input: Mapping[str, Any] | None = None,
        *,
        context_key: str | None = None,
        options: Sequence[str | int] | Mapping[str, Sequence[str | int]] | None = None,
        current: OptionLike | None = None,
        subject: str | None = None,
        idempotency_key: str | None = None,
    ) -> Decision:
        """See `Capsule.decide`."""
        body = input, context_key, options, current, subject
        if idempotency_key is None:
            decision = await self._soon(self._capsule._decide, *body)
        else:
            decision = await self._soon(self._capsule._decide_once, idempotency_key, *body)
        if not decision.is_in_id:
            await self._disk.durable()
        return decision

    async def decide_body(self, body: bytes) -> Decision | None:
        """As `decide`, of a JSON body with ``input``, ``contextKey``, ``options`` and ``current``.

        Faster than with its values: nothing of it becomes an object of Python's. ``None`` where it has to be read the
        long way: malformed, with other keys or types, or large. Nothing was decided then.
        """
        decision = await self._soon(_short.decide, self._capsule, body)
        if decision is not None and not decision.is_in_id:
            await self._disk.durable()
        return decision

    async def feedback(
        self,
        decision_id: str | _Unset | None = NOT_GIVEN,
        *,
        outcome: Mapping[str, float | bool] | None = None,
        reward: float | None = None,
        taken: OptionLike | _Unset | None = AS_ANSWERED,
        strategy: str | int | None = None,
        option: str | int | None = None,
        context_key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Feedback:
        """See `Capsule.feedback`."""
        capsule = self._capsule
        post = (
            capsule._feedback if idempotency_key is None else partial(capsule._feedback_once, idempotency_key)
        )
        answer = await self._soon(
            post,
            decision_id,
            outcome=outcome,
            reward=reward,
            taken=taken,
            strategy=strategy,
            option=option,
            context_key=context_key,
        )
        await self._disk.durable()
        return answer

    async def feedback_body(self, body: bytes) -> bytes | None:
        """As `feedback`, of a JSON body with ``decisionId`` and everything at once, answered as JSON.

        ``None`` where it has to be read the long way; nothing has changed then.
        """
        answer = await self._soon(_short.feedback, self._capsule, body)
        if answer is not None:
            await self._disk.durable()
        return answer

    async def decide_batch(self, requests: Iterable[Mapping[str, Any]]) -> list[Decision | CapsaError]:
        """See `Capsule.decide_batch`."""
        return await asyncio.to_thread(self._capsule.decide_batch, requests)

    async def feedback_batch(self, events: Iterable[Mapping[str, Any]]) -> list[Feedback | CapsaError]:
        """See `Capsule.feedback_batch`."""
        return await asyncio.to_thread(self._capsule.feedback_batch, events)

    async def report(self) -> Report:
        """See `Capsule.report`."""
        return await asyncio.to_thread(self._capsule.report)

    async def contexts(self, *, after: str | None = None, limit: int = 100) -> list[ContextMemory]:
        """See `Capsule.contexts`."""
        return await asyncio.to_thread(self._capsule.contexts, after=after, limit=limit)

    async def learning(self) -> dict[str, Any]:
        """See `Capsule.learning`."""
        return self._capsule.learning

    async def update_learning(self, *, if_version: int | None = None, **changes: Any) -> dict[str, Any]:
        """See `Capsule.update_learning`."""
        return await self.change_learning(changes, if_version=if_version)

    async def change_learning(
        self, changes: Mapping[str, Any], *, if_version: int | None = None
    ) -> dict[str, Any]:
        """As `update_learning`, of a mapping: its names may be any, such as those of somebody's request."""
        return await asyncio.to_thread(self._capsule._change_learning, changes, if_version)

    async def delete(self) -> Deleted:
        """See `Capsule.delete`."""
        return await asyncio.to_thread(self._capsule.delete)

    async def purge_logs(self) -> Erased:
        """See `Capsule.purge_logs`."""
        return await asyncio.to_thread(self._capsule.purge_logs)

    async def decisions(self, *, after: int = 0, limit: int = 100) -> list[DecisionRecord]:
        """See `Capsule.decisions`."""
        return await asyncio.to_thread(self._capsule.decisions, after, limit)

    async def feedback_log(self, *, after: int = 0, limit: int = 100) -> list[FeedbackRecord]:
        """See `Capsule.feedback_log`."""
        return await asyncio.to_thread(self._capsule.feedback_log, after, limit)

    async def story(self, decision_id: str) -> Story:
        """See `Capsule.story`."""
        return await asyncio.to_thread(self._capsule.story, decision_id)

    async def replay(self, decision_id: str) -> Replay:
        """See `Capsule.replay`."""
        return await asyncio.to_thread(self._capsule.replay, decision_id)
