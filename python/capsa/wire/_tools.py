"""What calls of tools answer, as JSON spells it. What a tool was sent and what it answered stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from capsa.decisions._history import to_json
from capsa.decisions._learning import to_camel

if TYPE_CHECKING:
    from capsa.decisions._tools import PolicyInForce
    from capsa.tools import InvocationRecord, Invoked, Replayed


def invoked_json(tenant: str, job: str, invoked: Invoked) -> dict[str, Any]:
    """What came of a call."""
    return {
        "invocationId": invoked.id,
        "tenant": tenant,
        "job": job,
        "capsule": invoked.capsule,
        "capsuleVersion": invoked.version,
        "effect": to_camel(invoked.effect),
        "engine": invoked.engine,
        "output": invoked.output,
        "used": to_json(invoked.used),
        "denied": to_json(invoked.denied),
        "log": to_json(invoked.log),
        "policyDigest": invoked.policy_digest,
        "recorded": invoked.recorded,
    }


def replayed_json(replayed: Replayed) -> dict[str, Any]:
    """A call that was made again from its recording."""
    return {
        "invocationId": replayed.id,
        "same": replayed.same,
        "differences": replayed.differences,
        "output": replayed.output,
        "recordedOutput": replayed.recorded_output,
    }


def invocation_json(record: InvocationRecord) -> dict[str, Any]:
    """A call as it was recorded."""
    told: dict[str, Any] = to_json(record)
    return {
        "sequence": told.pop("sequence"),
        "time": told.pop("time"),
        "principal": told.pop("principal"),
        "invocationId": told.pop("id"),
        **told,
    }


def invocation_page(rows: Sequence[InvocationRecord], limit: int) -> dict[str, Any]:
    """A page of calls; ``next`` is the cursor of the page after it, null after the last one."""
    return {
        "invocations": [invocation_json(row) for row in rows],
        "next": rows[-1].sequence if len(rows) == limit else None,
    }


def policy_json(policy: PolicyInForce) -> dict[str, Any]:
    """What a tool is allowed."""
    told: dict[str, Any] = to_json(policy)
    return told
