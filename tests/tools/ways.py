"""A store in memory or in a folder, used by threads or by asyncio: the same calls of tools."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.tools.making import opened, opened_for_asyncio

import capsa
from capsa.decisions._tools import PolicyInForce
from capsa.policies import Explanation
from capsa.tools import InvocationRecord, Invoked, Replayed

WAYS: Final = ("memory, threads", "memory, asyncio", "folder, threads", "folder, asyncio")


class Way:
    """An open store.

    Args:
        name: One of `WAYS`.
        folder: Where one in a folder is.
        settings: As `capsa.open` takes them.
    """

    def __init__(self, name: str, folder: Path, **settings: Any) -> None:
        where, how = name.split(", ")
        self._path = folder if where == "folder" else None
        self.persistent = self._path is not None
        self._settings = settings
        self._runner = asyncio.Runner() if how == "asyncio" else None
        self._open()

    def _open(self) -> None:
        self._asynchronous: capsa.AsyncStore | None = None
        if self._runner is None:
            self.store = opened(self._path, **self._settings)
        else:
            self._asynchronous = self.run(lambda: opened_for_asyncio(self._path, **self._settings))
            self.store = self._asynchronous.sync

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """What something for asyncio gives."""
        assert self._runner is not None
        return self._runner.run(work())

    def install(self, source: str | bytes, *, tenant: str = "default", job: str = "default") -> Tried:
        """Installs a capsule."""
        if self._asynchronous is None:
            return Tried(self, self.store.tenant(tenant).job(job).install(source), None)
        store = self._asynchronous
        capsule = self.run(lambda: store.install(source, tenant=tenant, job=job))
        return Tried(self, capsule.sync, capsule)

    def again(self, tried: Tried) -> Tried:
        """The same capsule in the store as it is open now."""
        tenant, job, name = tried.sync._place
        capsule = self.store.tenant(tenant).job(job).capsule(name)
        if self._asynchronous is None:
            return Tried(self, capsule, None)
        return Tried(self, capsule, self._asynchronous.capsule(name, tenant=tenant, job=job))

    def restart(self) -> None:
        """Closes the store and opens it again; in memory that would be another one."""
        assert self.persistent
        self._end()
        self._open()

    def _end(self) -> None:
        if self._asynchronous is None:
            self.store.close()
        else:
            self.run(self._asynchronous.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            if self._runner is not None:
                self._runner.close()


class Tried:
    """A capsule, called in one of the ways.

    Attributes:
        sync: For what has no other way.
    """

    def __init__(self, way: Way, sync: capsa.Capsule, asynchronous: capsa.AsyncCapsule | None) -> None:
        self.sync = sync
        self._way = way
        self._asynchronous = asynchronous

    def _call(self, name: str, *args: Any, **named: Any) -> Any:
        if self._asynchronous is None:
            return getattr(self.sync, name)(*args, **named)
        method = getattr(self._asynchronous, name)
        return self._way.run(lambda: method(*args, **named))

    def invoke(self, input: Any = None, **how: Any) -> Invoked:
        """See `capsa.Capsule.invoke`."""
        answer: Invoked = self._call("invoke", input, **how)
        return answer

    def compensate(self, input: Any, output: Any) -> Invoked:
        """See `capsa.Capsule.compensate`."""
        answer: Invoked = self._call("compensate", input, output)
        return answer

    @property
    def policy(self) -> PolicyInForce:
        """See `capsa.Capsule.policy`."""
        policy: PolicyInForce = (
            self.sync.policy if self._asynchronous is None else self._way.run(self._asynchronous.policy)
        )
        return policy

    def set_policy(self, policy: Any, **how: Any) -> PolicyInForce:
        """See `capsa.Capsule.set_policy`."""
        answer: PolicyInForce = self._call("set_policy", policy, **how)
        return answer

    def explain(self, target: str, method: str = "GET") -> Explanation:
        """See `capsa.Capsule.explain`."""
        answer: Explanation = self._call("explain", target, method)
        return answer

    def invocations(self, after: int = 0, limit: int = 100) -> list[InvocationRecord]:
        """See `capsa.Capsule.invocations`."""
        rows: list[InvocationRecord] = self._call("invocations", after=after, limit=limit)
        return rows

    def invocation(self, id_: str) -> InvocationRecord:
        """See `capsa.Capsule.invocation`."""
        row: InvocationRecord = self._call("invocation", id_)
        return row

    def replay(self, id_: str) -> Replayed:
        """See `capsa.Capsule.replay_invocation`."""
        answer: Replayed = self._call("replay_invocation", id_)
        return answer

    def call(self, name: str, *args: Any, **named: Any) -> Any:
        """Any method."""
        return self._call(name, *args, **named)
