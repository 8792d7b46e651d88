"""The methods of `AsyncCapsule` that tools have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsa.decisions import _tools

if TYPE_CHECKING:
    from capsa.decisions._capsule import Capsule
    from capsa.decisions._fair import FairThreads
    from capsa.decisions._tools import PolicyInForce
    from capsa.policies import Explanation, Policy
    from capsa.tools import InvocationRecord, Invoked, Replayed


class AsyncInvoking:
    """The methods of `AsyncCapsule` that tools have.

    A tool without effects whose version was never slow runs at once; others take a thread, in turns of their tenants.
    """

    _capsule: Capsule
    _threads: FairThreads

    async def invoke(self, input: Any = None, *, record: bool = False, inline: bool = True) -> Invoked:
        """See `Capsule.invoke`.

        Args:
            input: See there.
            record: See there.
            inline: Whether a fast tool may run here: not where `input` is so large that reading it takes a while.
        """
        calls = _tools.calls_of(self._capsule._store, self._capsule._place)
        if inline and calls.inline and not record:
            answer = calls.call(input, inline=True)
            if answer is not None:
                return answer
        return await self._threads.run(
            self._capsule._place[0], partial(self._capsule.invoke, input, record=record)
        )

    async def compensate(self, input: Any, output: Any) -> Invoked:
        """See `Capsule.compensate`."""
        return await self._threads.run(
            self._capsule._place[0], partial(self._capsule.compensate, input, output)
        )

    async def policy(self) -> PolicyInForce:
        """See `Capsule.policy`."""
        return self._capsule.policy

    async def set_policy(
        self, policy: str | Path | bytes | Mapping[str, Any] | Policy, *, if_digest: str | None = None
    ) -> PolicyInForce:
        """See `Capsule.set_policy`."""
        return await asyncio.to_thread(self._capsule.set_policy, policy, if_digest=if_digest)

    async def explain(self, target: str, method: str = "GET") -> Explanation:
        """See `Capsule.explain`."""
        return self._capsule.explain(target, method)

    async def invocations(self, *, after: int = 0, limit: int = 100) -> list[InvocationRecord]:
        """See `Capsule.invocations`."""
        return await asyncio.to_thread(self._capsule.invocations, after, limit)

    async def invocation(self, invocation_id: str) -> InvocationRecord:
        """See `Capsule.invocation`."""
        return await asyncio.to_thread(self._capsule.invocation, invocation_id)

    async def replay_invocation(self, invocation_id: str) -> Replayed:
        """See `Capsule.replay_invocation`."""
        return await self._threads.run(
            self._capsule._place[0], partial(self._capsule.replay_invocation, invocation_id)
        )
