"""What a capsule of the kind `tool` does: the methods of `Capsule` for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsa.decisions import _tools

if TYPE_CHECKING:
    from capsa.decisions._store import Store
    from capsa.decisions._tools import PolicyInForce
    from capsa.policies import Explanation, Policy
    from capsa.tools import InvocationRecord, Invoked, Replayed


class Invoking:
    """The methods of `Capsule` that tools have."""

    _store: Store
    _place: tuple[str, str, str]

    def invoke(self, input: Any = None, *, record: bool = False) -> Invoked:
        """Calls a tool.

        Args:
            input: What it is sent: anything JSON has, at most 1 MiB, nested at most 30 deep.
            record: Whether what the host answers it is kept, so that the call can be repeated: see `replay`. Its policy's
                engine has to be deterministic.

        Raises:
            InvalidField: The input is no such JSON; nothing was called.
            WrongKind: It is a decision capsule.
            CapabilityDenied: It imports what its policy does not grant.
            CapsuleRefused: The tool failed in its own words: ``failure`` names how, ``retryable`` says whether to try again.
            CapsuleFailure: It broke a limit, trapped, answered nonsense, or more than a recording may hold; the host and other
                capsules go on.
            UnknownCapsule: It was deleted before it could be called.
            Overloaded: Too many calls are running.
            StoreUnwritable: The call was made, and could not be recorded.
        """
        return self._called(input, record=record)

    def compensate(self, input: Any, output: Any) -> Invoked:
        """Asks a tool to take back what a call of it did.

        Args:
            input: What the call was sent.
            output: What it answered.

        Raises:
            WrongKind: What it does cannot be taken back.
            CapsaError: As `invoke`.
        """
        return self._called(input, output=output, function="compensate")

    def _called(self, input: Any, **how: Any) -> Invoked:
        answer = _tools.calls_of(self._store, self._place).call(input, **how)
        assert answer is not None, "it was not inline"
        return answer

    @property
    def policy(self) -> PolicyInForce:
        """What the tool is allowed, and what of it is in effect.

        Raises:
            WrongKind: It is a decision capsule, which can be granted nothing.
        """
        return _tools.policy(self._store, self._place)

    def set_policy(
        self, policy: str | Path | bytes | Mapping[str, Any] | Policy, *, if_digest: str | None = None
    ) -> PolicyInForce:
        """Sets what the tool is allowed, from its next call on.

        Args:
            policy: A policy; see `capsa.policies.load_policy`.
            if_digest: The digest of the policy that is replaced, if that is to be made sure.

        Raises:
            InvalidPolicy: It does not hold; nothing has changed.
            StaleDocument: The policy is not `if_digest` any more; nothing has changed.
            StoreUnwritable: It could not be recorded.
        """
        return _tools.set_policy(self._store, self._place, policy, if_digest)

    def explain(self, target: str, method: str = "GET") -> Explanation:
        """Whether the tool may do something, and by which rule.

        Args:
            target: A URL, a path of a file, ``kv:KEY``, ``secret:NAME`` or ``config:NAME``.
            method: Of a request.
        """
        from capsa.policies import explain

        return explain(_tools.calls_of(self._store, self._place).effective(), target, method)

    def invocations(self, after: int = 0, limit: int = 100) -> list[InvocationRecord]:
        """A page of the calls of the tool.

        Args:
            after: The `sequence` of the last row of the page before.
            limit: Rows in a page, 1 to 1000.
        """
        return _tools.invocations(self._store, self._place, after, limit)

    def invocation(self, invocation_id: str) -> InvocationRecord:
        """One call of the tool.

        Raises:
            UnknownInvocation: There is none of this id.
        """
        return _tools.invocation(self._store, self._place, invocation_id)

    def replay_invocation(self, invocation_id: str) -> Replayed:
        """Makes a recorded call again from its recording; nothing outside is asked, and nothing changes.

        Raises:
            UnknownInvocation: There is none of this id.
            InvalidField: It was not recorded, or its time was over.
            Overloaded: Too many calls are running.
        """
        return _tools.replay(self._store, self._place, invocation_id)
