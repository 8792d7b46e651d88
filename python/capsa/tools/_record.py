"""A call of a tool as the journal holds it."""

from __future__ import annotations

import re
from typing import Any, Final

import cbor2
import msgspec

from capsa.errors import CapsaError, UnknownInvocation, shown
from capsa.journal import Event, timestamp
from capsa.tools._answers import Denial, Used

_ID: Final = re.compile("inv_([0-9a-f]{32})")


class InvocationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it was recorded.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When it ended, RFC 3339.
        principal: Who made it.
        id: Names it.
        function: ``invoke`` or ``compensate``; ``frame`` or ``reward`` of a decision capsule that broke a limit.
        capsule_version: The version that was called.
        policy_digest: The digest of what it was effectively allowed; empty of a decision capsule.
        input_digest: The digest of its input.
        output_digest: The digest of what it answered; ``None`` where it did not.
        error: The type of problem that it ended with; ``None`` where it answered.
        detail: The problem in a sentence.
        used: What it used.
        denied: What it was denied.
        denied_unlisted: How many further denials there were.
        recorded: Whether it can be repeated.
    """

    sequence: int
    time: str
    principal: str
    id: str
    function: str
    capsule_version: int
    policy_digest: str
    input_digest: str
    output_digest: str | None
    error: str | None
    detail: str | None
    used: Used
    denied: list[Denial]
    denied_unlisted: int
    recorded: bool


def invocation_id(nonce: bytes) -> str:
    """The id of a call, of its 16 bytes."""
    return f"inv_{nonce.hex()}"


def nonce_of(id_: object) -> bytes:
    """The 16 bytes of a call's id.

    Raises:
        UnknownInvocation: It is none.
    """
    match = _ID.fullmatch(id_) if isinstance(id_, str) else None
    if match is None:
        raise UnknownInvocation(
            "no such invocation", value=shown(id_), remedy="send an invocationId as it was answered"
        )
    return bytes.fromhex(match[1])


def encode(
    nonce: bytes,
    function: str,
    version: int,
    policy_digest: str,
    input_digest: str,
    output_digest: str | None,
    error: CapsaError | None,
    used: dict[str, Any],
    denied: list[tuple[str, str, str]],
    denied_unlisted: int,
    recording: dict[str, Any] | None,
) -> bytes:
    """The payload of an event ``invoked`` or ``breached``."""
    payload: dict[str, Any] = {
        "id": nonce,
        "used": used,
        "input": input_digest,
        "output": output_digest,
        "policy": policy_digest,
        "version": version,
        "function": function,
    }
    if error is not None:
        payload["error"] = {"code": error.code, "detail": error.detail}
    if denied:
        payload["denied"] = [list(denial) for denial in denied]
    if denied_unlisted:
        payload["denied_unlisted"] = denied_unlisted
    if recording is not None:
        payload["recording"] = recording
    return cbor2.dumps(payload, canonical=True)


def encode_breach(nonce: bytes, function: str, version: int, error: CapsaError) -> bytes:
    """The payload of an event ``breached`` of a decision capsule."""
    used = msgspec.to_builtins(Used())
    return encode(nonce, function, version, "", "", None, error, used, [], 0, None)


def invocation_record(event: Event) -> InvocationRecord:
    """A call as its event says it."""
    said = cbor2.loads(event.payload)
    error = said.get("error")
    return InvocationRecord(
        sequence=event.sequence,
        time=timestamp(event.time_ms),
        principal=event.principal,
        id=invocation_id(said["id"]),
        function=said["function"],
        capsule_version=said["version"],
        policy_digest=said["policy"],
        input_digest=said["input"],
        output_digest=said["output"],
        error=None if error is None else error["code"],
        detail=None if error is None else error["detail"],
        used=Used(**said["used"]),
        denied=[
            Denial(interface=interface, rule=rule, detail=detail)
            for interface, rule, detail in said.get("denied", [])
        ],
        denied_unlisted=said.get("denied_unlisted", 0),
        recorded="recording" in said,
    )
