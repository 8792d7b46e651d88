"""The client for asyncio; `capsa.client._sync` is the same for threads."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from capsa.capsules import CapsuleSource, read_source
from capsa.client import _answers
from capsa.client._capsule import AsyncRemoteCapsule, CapsuleSettings, capsule_settings
from capsa.client._line import SLOW_S, Line, seconds
from capsa.client._queue import OnRefused, QueueCounts
from capsa.client._requests import document_body, page_query, segment
from capsa.client._standing_in import Default
from capsa.decisions import AuditRecord, Deleted, InstallResult, JobInfo, Purged, TenantInfo
from capsa.decisions._jobs import checked_name
from capsa.decisions._store import DEFAULT


class AsyncClient:
    """A Capsa server, for asyncio: ``async with capsa.AsyncClient("http://127.0.0.1:8787") as client``.

    Belongs to the event loop that uses it first. Nothing is sent before the first call.

    Args:
        url: ``http://host:port``, ``https://host`` or ``unix:/path/of/socket``.
        key: The server's key; left out, it is taken from ``CAPSA_ADMIN_KEY``.
        timeout: Seconds for a call where it does not say otherwise. Install, delete and purge have a minute.
        queue: Most feedbacks that wait to be sent again.
        on_refused: Called with a feedback that the server refused after it had waited, by name as JSON spells it,
            and with the error. It runs between requests: it must not wait for anything.
        tls: How certificates are verified; left out, by the system's authorities.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: One of them cannot be.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 5.0,
        queue: int = 10_000,
        on_refused: OnRefused | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._line = Line(url, key, timeout, queue, on_refused, tls)

    @property
    def queue(self) -> QueueCounts:
        """Feedback that waits, and what became of what waited."""
        return self._line.queue.counts

    def tenant(self, name: str) -> AsyncRemoteTenant:
        """A tenant; see `capsa.Store.tenant`."""
        return AsyncRemoteTenant(self._line, checked_name("tenant", name))

    def job(self, name: str) -> AsyncRemoteJob:
        """A job of the default tenant."""
        return self.tenant(DEFAULT).job(name)

    def capsule(
        self, name: str, *, timeout: float | None = None, default: Default | None = None
    ) -> AsyncRemoteCapsule:
        """A capsule of the default tenant and job; see `AsyncRemoteJob.capsule`."""
        return self.job(DEFAULT).capsule(name, timeout=timeout, default=default)

    async def tenants(self) -> list[TenantInfo]:
        """See `capsa.Store.tenants`."""
        return _answers.structs(_answers.part(await self._line.read("/tenants"), "tenants"), TenantInfo)

    async def install(
        self, source: str | Path | bytes, *, timeout: float | None = None
    ) -> AsyncRemoteCapsule:
        """Installs a capsule into the default tenant and job; see `capsa.Job.install`."""
        return await self.job(DEFAULT).install(source, timeout=timeout)

    async def plan(self, source: str | Path | bytes, *, timeout: float | None = None) -> InstallResult:
        """What `install` would do, without doing it."""
        return await self.job(DEFAULT).plan(source, timeout=timeout)

    async def audit(self, tenant: str = DEFAULT, after: int = 0, limit: int = 100) -> list[AuditRecord]:
        """See `capsa.Store.audit`."""
        path = f"/audit?tenant={segment(checked_name('tenant', tenant))}&{page_query(after, limit)}"
        return _answers.structs(_answers.part(await self._line.read(path), "audit"), AuditRecord)

    async def purge(self, tenant: str) -> Purged:
        """See `capsa.Store.purge`."""
        return await self.tenant(tenant).purge()

    async def flush(self, timeout: float | None = None) -> int:
        """Sends what waits; gives how many still wait after so many seconds. ``None`` waits until none does."""
        return await self._line.queue.flush(timeout)

    async def close(self, timeout: float = 5) -> int:
        """Sends what waits, for so many seconds, and closes the connections; gives how many were not sent."""
        left = await self._line.queue.close(timeout)
        await self._line.transport.close()
        return left

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._line!r}>"


class AsyncRemoteTenant:
    """A tenant of a server."""

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self.name = name
        self._path = f"/tenants/{segment(name)}"

    def job(self, name: str) -> AsyncRemoteJob:
        """A job: an independent learning context."""
        return AsyncRemoteJob(self._line, self.name, checked_name("job", name))

    async def jobs(self) -> list[JobInfo]:
        """See `capsa.Tenant.jobs`."""
        return _answers.structs(_answers.part(await self._line.read(f"{self._path}/jobs"), "jobs"), JobInfo)

    async def create_job(
        self, name: str, *, description: str = "", metadata: Mapping[str, Any] | None = None
    ) -> JobInfo:
        """See `capsa.Tenant.create_job`."""
        said: dict[str, Any] = {"id": checked_name("job", name), "description": description}
        if metadata is not None:
            said["metadata"] = metadata
        reply = await self._line.ask("POST", f"{self._path}/jobs", document_body(said), repeatable=False)
        return _answers.struct(reply.value(), JobInfo)

    async def purge(self) -> Purged:
        """See `capsa.Tenant.purge`."""
        reply = await self._line.ask(
            "DELETE", self._path, timeout=max(self._line.timeout, SLOW_S), repeatable=False
        )
        return _answers.struct(reply.value(), Purged)


class AsyncRemoteJob:
    """A job of a tenant: capsules that learn by themselves."""

    def __init__(self, line: Line, tenant: str, name: str) -> None:
        self._line = line
        self.tenant = tenant
        self.name = name
        self._path = f"/tenants/{segment(tenant)}/jobs/{segment(name)}"

    def capsule(
        self, name: str, *, timeout: float | None = None, default: Default | None = None
    ) -> AsyncRemoteCapsule:
        """A capsule by its name. Nothing is asked: whether it is there shows with the first call.

        Args:
            name: Its name.
            timeout: Seconds for `decide` and `feedback`, if not the client's.
            default: The option that stands in where no decision comes, by strategy where there are several.

        Raises:
            UnknownCapsule: No capsule can have this name.
            TypeError: An argument has a wrong type.
            ValueError: One of them cannot be.
        """
        settings = capsule_settings(timeout, default)
        return AsyncRemoteCapsule(self._line, (self.tenant, self.name, name), settings)

    async def capsules(self) -> list[str]:
        """See `capsa.Job.capsules`."""
        names: list[str] = _answers.part(await self._line.read(f"{self._path}/capsules"), "capsules")
        return names

    async def info(self) -> JobInfo:
        """See `capsa.Job.info`."""
        return _answers.struct(await self._line.read(self._path), JobInfo)

    async def install(
        self, source: str | Path | bytes, *, timeout: float | None = None
    ) -> AsyncRemoteCapsule:
        """See `capsa.Job.install`. The source is read here; `timeout`: seconds for the rest, a minute if left out."""
        result = await self.installed(source, timeout=timeout)
        return AsyncRemoteCapsule(self._line, (self.tenant, self.name, result.capsule), CapsuleSettings())

    async def installed(
        self, source: str | Path | bytes, *, name: str | None = None, timeout: float | None = None
    ) -> InstallResult:
        """As `install`; gives what it did. `name`: what the capsule has to be called."""
        return await self._install(source, name, timeout, dry_run=False)

    async def plan(
        self, source: str | Path | bytes, *, name: str | None = None, timeout: float | None = None
    ) -> InstallResult:
        """What `installed` would do, without doing it."""
        return await self._install(source, name, timeout, dry_run=True)

    async def delete_capsule(self, name: str) -> Deleted:
        """See `capsa.Job.delete_capsule`."""
        return await self.capsule(name).delete()

    async def delete(self) -> Deleted:
        """See `capsa.Job.delete`."""
        reply = await self._line.ask(
            "DELETE", self._path, timeout=max(self._line.timeout, SLOW_S), repeatable=False
        )
        return _answers.struct(reply.value(), Deleted)

    async def _install(
        self, source: str | Path | bytes, name: str | None, timeout: float | None, *, dry_run: bool
    ) -> InstallResult:
        within = max(self._line.timeout, SLOW_S) if timeout is None else seconds(timeout)
        # It may compile.
        read: CapsuleSource = await asyncio.to_thread(read_source, source)
        read.check_name(name)
        path = f"{self._path}/capsules/{segment(read.name)}/install" + ("?dryRun=true" if dry_run else "")
        # YAML as it is: that may be all that the tenant lets in.
        data = read.component if read.spec is None else read.spec
        reply = await self._line.ask("POST", path, data, timeout=within)
        return _answers.installed_of(reply.value())
