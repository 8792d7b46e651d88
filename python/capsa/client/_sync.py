"""The client for threads: `capsa.client._async` in a thread of its own."""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from capsa.client._async import AsyncClient, AsyncRemoteJob, AsyncRemoteTenant
from capsa.client._capsule import CapsuleSettings, capsule_settings
from capsa.client._line import SLOW_S
from capsa.client._queue import OnRefused, QueueCounts
from capsa.client._standing_in import Default
from capsa.client._sync_capsule import RemoteCapsule
from capsa.client._thread import Worker
from capsa.decisions import AuditRecord, Deleted, InstallResult, JobInfo, Purged, TenantInfo
from capsa.decisions._jobs import checked_name
from capsa.decisions._store import DEFAULT

T = TypeVar("T")


class Client:
    """A Capsa server: what `capsa.open` gives in process, over HTTP.

    Safe to use from many threads, and after a fork: a process that forked begins anew, and what waited before is its
    parent's. Its work is done in a thread of its own, which begins with the first call; nothing is sent before. At the
    end of the process it has 5 seconds to send what waits.

    Args:
        url: ``http://host:port``, ``https://host`` or ``unix:/path/of/socket``.
        key: The server's key; left out, it is taken from ``CAPSA_ADMIN_KEY``.
        timeout: Seconds for a call where it does not say otherwise. Install, delete and purge have a minute.
        queue: Most feedbacks that wait to be sent again.
        on_refused: Called with a feedback that the server refused after it had waited, by name as JSON spells it,
            and with the error. It runs in the client's thread: it must not wait for this client.
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
        make = partial(AsyncClient, url, key, timeout=timeout, queue=queue, on_refused=on_refused, tls=tls)
        # What is wrong shows here.
        self._shown = repr(make()._line)
        self._timeout = float(timeout)
        self._worker = Worker(make)
        weakref.finalize(self, self._worker.retire).atexit = False

    @property
    def queue(self) -> QueueCounts:
        """Feedback that waits in this process, and what became of what waited."""
        client = self._worker.client
        return QueueCounts(waiting=0, sent=0, dropped=0, refused=0) if client is None else client.queue

    def tenant(self, name: str) -> RemoteTenant:
        """A tenant; see `capsa.Store.tenant`."""
        return RemoteTenant(self, checked_name("tenant", name))

    def job(self, name: str) -> RemoteJob:
        """A job of the default tenant."""
        return self.tenant(DEFAULT).job(name)

    def capsule(
        self, name: str, *, timeout: float | None = None, default: Default | None = None
    ) -> RemoteCapsule:
        """A capsule of the default tenant and job; see `RemoteJob.capsule`."""
        return self.job(DEFAULT).capsule(name, timeout=timeout, default=default)

    def tenants(self) -> list[TenantInfo]:
        """See `capsa.Store.tenants`."""
        return self._run(lambda client: client.tenants(), self._timeout)

    def install(self, source: str | Path | bytes, *, timeout: float | None = None) -> RemoteCapsule:
        """Installs a capsule into the default tenant and job; see `capsa.Job.install`."""
        return self.job(DEFAULT).install(source, timeout=timeout)

    def plan(self, source: str | Path | bytes, *, timeout: float | None = None) -> InstallResult:
        """What `install` would do, without doing it."""
        return self.job(DEFAULT).plan(source, timeout=timeout)

    def audit(self, tenant: str = DEFAULT, after: int = 0, limit: int = 100) -> list[AuditRecord]:
        """See `capsa.Store.audit`."""
        return self._run(lambda client: client.audit(tenant, after, limit), self._timeout)

    def purge(self, tenant: str) -> Purged:
        """See `capsa.Store.purge`."""
        return self.tenant(tenant).purge()

    def flush(self, timeout: float | None = None) -> int:
        """Sends what waits; gives how many still wait after so many seconds. ``None`` waits until none does."""
        if self._worker.client is None:
            return 0
        return self._run(lambda client: client.flush(timeout), None if timeout is None else timeout + 1)

    def close(self, timeout: float = 5) -> int:
        """Sends what waits, for so many seconds, and closes the connections; gives how many were not sent.

        Afterwards a decision is the default or `StoreClosed`, and feedback is dropped.
        """
        return self._worker.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._shown}>"

    def _run(self, call: Callable[[AsyncClient], Coroutine[Any, Any, T]], timeout: float | None) -> T:
        return self._worker.run(call, timeout)


class RemoteTenant:
    """A tenant of a server."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def job(self, name: str) -> RemoteJob:
        """A job: an independent learning context."""
        return RemoteJob(self._client, self.name, checked_name("job", name))

    def jobs(self) -> list[JobInfo]:
        """See `capsa.Tenant.jobs`."""
        return self._run(lambda tenant: tenant.jobs(), self._client._timeout)

    def create_job(
        self, name: str, *, description: str = "", metadata: Mapping[str, Any] | None = None
    ) -> JobInfo:
        """See `capsa.Tenant.create_job`."""
        return self._run(
            lambda tenant: tenant.create_job(name, description=description, metadata=metadata),
            self._client._timeout,
        )

    def purge(self) -> Purged:
        """See `capsa.Tenant.purge`."""
        return self._run(lambda tenant: tenant.purge(), max(self._client._timeout, SLOW_S))

    def _run(self, call: Callable[[AsyncRemoteTenant], Coroutine[Any, Any, T]], timeout: float) -> T:
        return self._client._run(lambda client: call(client.tenant(self.name)), timeout)


class RemoteJob:
    """A job of a tenant: capsules that learn by themselves."""

    def __init__(self, client: Client, tenant: str, name: str) -> None:
        self._client = client
        self.tenant = tenant
        self.name = name

    def capsule(
        self, name: str, *, timeout: float | None = None, default: Default | None = None
    ) -> RemoteCapsule:
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
        return self._capsule(name, capsule_settings(timeout, default))

    def capsules(self) -> list[str]:
        """See `capsa.Job.capsules`."""
        return self._run(lambda job: job.capsules(), self._client._timeout)

    def info(self) -> JobInfo:
        """See `capsa.Job.info`."""
        return self._run(lambda job: job.info(), self._client._timeout)

    def install(self, source: str | Path | bytes, *, timeout: float | None = None) -> RemoteCapsule:
        """See `capsa.Job.install`. The source is read here; `timeout`: seconds for the rest, a minute if left out."""
        return self._capsule(self.installed(source, timeout=timeout).capsule, CapsuleSettings())

    def installed(
        self, source: str | Path | bytes, *, name: str | None = None, timeout: float | None = None
    ) -> InstallResult:
        """As `install`; gives what it did. `name`: what the capsule has to be called."""
        # Reading it takes what it takes.
        return self._run(lambda job: job.installed(source, name=name, timeout=timeout), None)

    def plan(
        self, source: str | Path | bytes, *, name: str | None = None, timeout: float | None = None
    ) -> InstallResult:
        """What `installed` would do, without doing it."""
        return self._run(lambda job: job.plan(source, name=name, timeout=timeout), None)

    def delete_capsule(self, name: str) -> Deleted:
        """See `capsa.Job.delete_capsule`."""
        return self.capsule(name).delete()

    def delete(self) -> Deleted:
        """See `capsa.Job.delete`."""
        return self._run(lambda job: job.delete(), max(self._client._timeout, SLOW_S))

    def _capsule(self, name: str, settings: CapsuleSettings) -> RemoteCapsule:
        return RemoteCapsule(self._client, (self.tenant, self.name, name), settings)

    def _run(self, call: Callable[[AsyncRemoteJob], Coroutine[Any, Any, T]], timeout: float | None) -> T:
        return self._client._run(lambda client: call(client.tenant(self.tenant).job(self.name)), timeout)
