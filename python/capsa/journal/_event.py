"""An event: a header, and a payload that the journal does not understand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from capsa import _native

#: Every type of event that the format knows. Later kinds add types; nothing is renamed.
EVENT_TYPES: Final = frozenset(
    {
        "created",
        "deleted",
        "installed",
        "learning_changed",
        "decided",
        "outcome_received",
        "horizon_passed",
        "voided",
        "override_set",
        "gate_decided",
        "snapshot_sealed",
        "erased",
        "purged",
        # Of tools; a call that was denied something or broke a limit is `breached`, of decision capsules too.
        "policy_changed",
        "kv_changed",
        "invoked",
        "breached",
        "secret_changed",
        # Of a tenant: what may be installed.
        "settings_changed",
        # A capsule or a policy that did not hold, or was not let in.
        "refused",
    }
)
#: Before an event of these types a stream may be cut: what follows does not need what stood before.
CUT_TYPES: Final = frozenset({"snapshot_sealed", "purged"})


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event.

    Attributes:
        schema: The version of the event format.
        stream: The tenant whose stream this is.
        sequence: Position in the stream, from 1, without gaps.
        time_ms: When it happened, milliseconds since 1970, UTC.
        type: One of `EVENT_TYPES`.
        principal: Who caused it.
        path: What it is about: ``job`` or ``job/capsule``; empty for the tenant itself.
        payload: Deterministic CBOR (RFC 8949 section 4.2); empty once it was erased.
        erased: Whether the payload was erased.
    """

    schema: int
    stream: str
    sequence: int
    time_ms: int
    type: str
    principal: str
    path: str
    payload: bytes
    erased: bool = False

    @property
    def payload_digest(self) -> str:
        """``b2:`` and the BLAKE2b-256 digest of the payload."""
        return _native.digest(self.payload)


def timestamp(time_ms: int) -> str:
    """A time as RFC 3339 in UTC, to the millisecond."""
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
