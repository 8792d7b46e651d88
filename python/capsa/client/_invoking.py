"""The methods of a server's capsule that tools have, for asyncio; `capsa.client._sync_invoking` is the same for threads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from capsa.client import _answers
from capsa.client._line import SLOW_S, Line, seconds
from capsa.client._requests import (
    call_body,
    checked_digest,
    checked_text,
    document_body,
    page_query,
)
from capsa.decisions._tools import PolicyInForce
from capsa.policies import Explanation, Policy, load_policy
from capsa.tools import InvocationRecord, Invoked, Replayed, nonce_of


class AsyncRemoteInvoking:
    """The methods of `AsyncRemoteCapsule` that tools have.

    A call is sent once and never again by itself: where no answer comes, nobody but the tool knows whether it was made.
    """

    _line: Line
    _path: str

    async def invoke(
        self, input: Any = None, *, record: bool = False, timeout: float | None = None
    ) -> Invoked:
        """See `capsa.Capsule.invoke`.

        Args:
            input: What the tool is sent.
            record: Whether the call is recorded.
            timeout: Seconds for all of it; left out, at least a minute, since the tool's policy has a limit of its own.

        Raises:
            CapsaError: As in process.
            Unreachable: No answer came in time. Whether the call was made is not known; it is in the log of
                invocations then.
        """
        return await self._call("invoke", timeout, input=input, record=record)

    async def compensate(self, input: Any, output: Any, *, timeout: float | None = None) -> Invoked:
        """See `capsa.Capsule.compensate`; `timeout` as of `invoke`."""
        return await self._call("compensate", timeout, input=input, output=output)

    async def policy(self) -> PolicyInForce:
        """See `capsa.Capsule.policy`."""
        return _answers.struct(await self._line.read(f"{self._path}/policy"), PolicyInForce)

    async def set_policy(
        self, policy: str | Path | bytes | Mapping[str, Any] | Policy, *, if_digest: str | None = None
    ) -> PolicyInForce:
        """See `capsa.Capsule.set_policy`. A name, a path and a text are read here."""
        said = policy if isinstance(policy, Policy) else load_policy(policy)
        headers = None if if_digest is None else {"If-Match": f'"{checked_digest(if_digest)}"'}
        reply = await self._line.ask(
            "PUT", f"{self._path}/policy", document_body(said.to_json()), headers=headers, repeatable=False
        )
        return _answers.struct(reply.value(), PolicyInForce)

    async def explain(self, target: str, method: str = "GET") -> Explanation:
        """See `capsa.Capsule.explain`."""
        asked = f"target={_quoted(target, '/target')}&method={_quoted(method, '/method')}"
        return _answers.struct(await self._line.read(f"{self._path}/policy/explain?{asked}"), Explanation)

    async def invocations(self, *, after: int = 0, limit: int = 100) -> list[InvocationRecord]:
        """See `capsa.Capsule.invocations`."""
        told = await self._line.read(f"{self._path}/invocations?{page_query(after, limit)}")
        return _answers.invocations_of(told)

    async def invocation(self, invocation_id: str) -> InvocationRecord:
        """See `capsa.Capsule.invocation`."""
        return _answers.invocation_of(await self._line.read(self._of(invocation_id)))

    async def replay_invocation(self, invocation_id: str) -> Replayed:
        """See `capsa.Capsule.replay_invocation`."""
        timeout = max(self._line.timeout, SLOW_S)
        reply = await self._line.ask("POST", f"{self._of(invocation_id)}/replay", timeout=timeout)
        return _answers.replayed_of(reply.value())

    async def _call(self, action: str, timeout: float | None, **said: Any) -> Invoked:
        within = max(self._line.timeout, SLOW_S) if timeout is None else seconds(timeout)
        reply = await self._line.ask(
            "POST", f"{self._path}/{action}", call_body(**said), timeout=within, repeatable=False
        )
        return _answers.invoked_of(reply.value())

    def _of(self, invocation_id: object) -> str:
        # Refused as in process what is no id: an empty one would make another path.
        nonce_of(invocation_id)
        return f"{self._path}/invocations/{invocation_id}"


def _quoted(value: object, pointer: str) -> str:
    return quote(checked_text(value, pointer), safe="")
