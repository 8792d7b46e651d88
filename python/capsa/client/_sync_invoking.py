"""The methods of a server's capsule that tools have, for threads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from capsa.client._line import SLOW_S, seconds
from capsa.decisions._tools import PolicyInForce
from capsa.policies import Explanation, Policy
from capsa.tools import InvocationRecord, Invoked, Replayed

if TYPE_CHECKING:
    from capsa.client._capsule import AsyncRemoteCapsule
    from capsa.client._sync import Client

T = TypeVar("T")


class RemoteInvoking:
    """The methods of `RemoteCapsule` that tools have."""

    _client: Client

    @abstractmethod
    def _run(
        self,
        call: Callable[[AsyncRemoteCapsule], Coroutine[Any, Any, T]],
        timeout: float | None = None,
    ) -> T:
        """Makes a call in the client's thread, within seconds."""

    def invoke(self, input: Any = None, *, record: bool = False, timeout: float | None = None) -> Invoked:
        """See `capsa.Capsule.invoke`. It is sent once and never again by itself.

        Args:
            input: What the tool is sent.
            record: Whether the call is recorded.
            timeout: Seconds for all of it; left out, at least a minute, since the tool's policy has a limit of its own.

        Raises:
            CapsaError: As in process.
            Unreachable: No answer came in time. Whether the call was made is not known; it is in the log of
                invocations then.
        """
        within = self._within(timeout)
        return self._run(lambda capsule: capsule.invoke(input, record=record, timeout=within), within)

    def compensate(self, input: Any, output: Any, *, timeout: float | None = None) -> Invoked:
        """See `capsa.Capsule.compensate`; `timeout` as of `invoke`."""
        within = self._within(timeout)
        return self._run(lambda capsule: capsule.compensate(input, output, timeout=within), within)

    @property
    def policy(self) -> PolicyInForce:
        """See `capsa.Capsule.policy`."""
        return self._run(lambda capsule: capsule.policy())

    def set_policy(
        self, policy: str | Path | bytes | Mapping[str, Any] | Policy, *, if_digest: str | None = None
    ) -> PolicyInForce:
        """See `capsa.Capsule.set_policy`. A name, a path and a text are read here."""
        return self._run(lambda capsule: capsule.set_policy(policy, if_digest=if_digest))

    def explain(self, target: str, method: str = "GET") -> Explanation:
        """See `capsa.Capsule.explain`."""
        return self._run(lambda capsule: capsule.explain(target, method))

    def invocations(self, after: int = 0, limit: int = 100) -> list[InvocationRecord]:
        """See `capsa.Capsule.invocations`."""
        return self._run(lambda capsule: capsule.invocations(after=after, limit=limit))

    def invocation(self, invocation_id: str) -> InvocationRecord:
        """See `capsa.Capsule.invocation`."""
        return self._run(lambda capsule: capsule.invocation(invocation_id))

    def replay_invocation(self, invocation_id: str) -> Replayed:
        """See `capsa.Capsule.replay_invocation`."""
        return self._run(lambda capsule: capsule.replay_invocation(invocation_id), self._within(None))

    def _within(self, timeout: float | None) -> float:
        return max(self._client._timeout, SLOW_S) if timeout is None else seconds(timeout)
