"""The same store for asyncio.

In memory every call takes some microseconds and runs at once; what compiles or walks over all
contexts goes to a thread, and holds no lock meanwhile that a decision waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from capsa.decisions._answers import ContextMemory, Feedback
from capsa.decisions._feedback import AS_ANSWERED, NOT_GIVEN, OptionLike, _Unset
from capsa.decisions._store import DEFAULT, Store, open_store

if TYPE_CHECKING:
    from capsa._native import Decision
    from capsa.decisions._capsule import Capsule
    from capsa.decisions._report import Report


class AsyncStore:
    """A store for asyncio: ``async with capsa.AsyncStore() as store``. Takes what `capsa.open` takes."""

    def __init__(self, path: str | Path | None = None, **settings: Any) -> None:
        self._store = open_store(path, **settings)

    @property
    def sync(self) -> Store:
        """The same store for threads."""
        return self._store

    async def install(
        self, source: str | Path | bytes, *, tenant: str = DEFAULT, job: str = DEFAULT
    ) -> AsyncCapsule:
        """See `Job.install`."""
        place = self._store.tenant(tenant).job(job)
        return AsyncCapsule(await asyncio.to_thread(place.install, source))

    def capsule(self, name: str, *, tenant: str = DEFAULT, job: str = DEFAULT) -> AsyncCapsule:
        """See `Job.capsule`."""
        return AsyncCapsule(self._store.tenant(tenant).job(job).capsule(name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()


class AsyncCapsule:
    """A capsule for asyncio: the methods of `Capsule`, awaited."""

    def __init__(self, capsule: Capsule) -> None:
        self._capsule = capsule

    @property
    def sync(self) -> Capsule:
        """The same capsule for threads."""
        return self._capsule

    async def decide(
        self,
        input: Mapping[str, Any] | None = None,
        *,
        context_key: str | None = None,
        options: Sequence[str | int] | Mapping[str, Sequence[str | int]] | None = None,
        current: OptionLike | None = None,
    ) -> Decision:
        """See `Capsule.decide`."""
        return self._capsule.decide(input, context_key=context_key, options=options, current=current)

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
    ) -> Feedback:
        """See `Capsule.feedback`."""
        return self._capsule.feedback(
            decision_id,
            outcome=outcome,
            reward=reward,
            taken=taken,
            strategy=strategy,
            option=option,
            context_key=context_key,
        )

    async def report(self) -> Report:
        """See `Capsule.report`."""
        return await asyncio.to_thread(self._capsule.report)

    async def contexts(self, *, after: str | None = None, limit: int = 100) -> list[ContextMemory]:
        """See `Capsule.contexts`."""
        return await asyncio.to_thread(self._capsule.contexts, after=after, limit=limit)

    async def learning(self) -> dict[str, Any]:
        """See `Capsule.learning`."""
        return self._capsule.learning

    async def update_learning(self, **changes: Any) -> dict[str, Any]:
        """See `Capsule.update_learning`."""
        return self._capsule.update_learning(**changes)
