"""Problem documents as the exceptions that the same call raises in process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from capsa import errors
from capsa.errors import CapsaError, CapsuleRefused, HostFault, InvalidRequest, InvalidSpec


class Unreachable(CapsaError):
    """No answer of a Capsa server came in time. Whether the call was carried out is not known."""

    code = "unreachable"


class Unauthorized(CapsaError):
    """The server does not know the key, or the key may not do this."""

    code = "unauthorized"


#: The class of every type of problem document.
CLASSES: Final[dict[str, type[CapsaError]]] = {
    "malformed-body": errors.InvalidField,
    "malformed-request": errors.InvalidField,
    "unknown-field": errors.UnknownField,
    "invalid-field": errors.InvalidField,
    "unknown-option": errors.UnknownOption,
    "unknown-strategy": errors.UnknownStrategy,
    "no-allowed-option": errors.NoAllowedOption,
    "metric-out-of-range": errors.MetricOutOfRange,
    "reward-out-of-range": errors.RewardOutOfRange,
    "unknown-metric": errors.UnknownMetric,
    "reward-missing": errors.RewardMissing,
    "invalid-spec": errors.InvalidSpec,
    "invalid-capsule": errors.InvalidCapsule,
    "invalid-policy": errors.InvalidPolicy,
    "capsule-refused": errors.CapsuleRefused,
    "unauthorized": Unauthorized,
    "insufficient-scope": Unauthorized,
    "capability-denied": errors.CapabilityDenied,
    "install-refused": errors.InstallRefused,
    "foreign-origin": Unauthorized,
    "unknown-tenant": errors.UnknownTenant,
    "unknown-job": errors.UnknownJob,
    "unknown-capsule": errors.UnknownCapsule,
    "unknown-decision": errors.UnknownDecision,
    "unknown-invocation": errors.UnknownInvocation,
    # A name that is empty, or a server without this route.
    "unknown-path": errors.NotFound,
    "wrong-method": errors.NotFound,
    "request-timeout": Unreachable,
    "feedback-conflict": errors.FeedbackConflict,
    "install-conflict": errors.InstallConflict,
    "wrong-kind": errors.WrongKind,
    "idempotency-conflict": errors.IdempotencyConflict,
    "already-exists": errors.AlreadyExists,
    "stale-document": errors.StaleDocument,
    # In process there is no limit of a body, but of what stands in it.
    "too-large": errors.InvalidField,
    "unsupported-type": errors.InvalidField,
    "header-too-large": errors.InvalidField,
    "too-many-requests": errors.Overloaded,
    "overloaded": errors.Overloaded,
    "store-unwritable": errors.StoreUnwritable,
    "starting": Unreachable,
    "stopping": Unreachable,
    "capsule-trapped": errors.CapsuleTrapped,
    "capsule-deadline": errors.CapsuleDeadline,
    "capsule-out-of-memory": errors.CapsuleOutOfMemory,
    "capsule-stack": errors.CapsuleStack,
    "capsule-fuel": errors.CapsuleFuel,
    "capsule-limit": errors.CapsuleLimit,
    "capsule-bad-output": errors.CapsuleBadOutput,
    "internal": errors.HostFault,
}

#: Headers, where the same call in process has arguments.
_ARGUMENTS: Final = {"Idempotency-Key": "/idempotencyKey", "If-Match": "/ifVersion"}

#: Statuses after which the same request may go well.
_PASSING: Final = frozenset({408, 425, 429, 502, 503, 504})


def is_problem(document: object) -> bool:
    """Whether a value is a problem document."""
    return isinstance(document, dict) and isinstance(document.get("type"), str) and "status" in document


def code_of(document: Mapping[str, Any]) -> str:
    """The type of a problem document, without its path."""
    return str(document["type"]).rpartition("/")[2]


def may_pass(status: int, code: str) -> bool:
    """Whether a refusal says nothing of the request itself, so that the same one may go well later."""
    return status in _PASSING or (status >= 500 and not code.startswith("capsule-"))


def exception(document: Mapping[str, Any]) -> CapsaError:
    """A problem document as the exception that it stands for.

    A type of a later version becomes the class that its status suggests.
    """
    code, status = code_of(document), document["status"]
    class_ = CLASSES.get(code)
    if class_ is None:
        class_ = HostFault if isinstance(status, int) and status >= 500 else InvalidRequest
    detail = _text(document.get("detail")) or _text(document.get("title")) or code
    listed = document.get("errors")
    parts = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    error: CapsaError
    if issubclass(class_, InvalidSpec):
        error = class_(detail, problems=[_problem(part) for part in parts])
    else:
        first = parts[0] if parts else {}
        pointer = _text(first.get("pointer"))
        error = class_(
            detail,
            pointer=pointer if pointer is None else _ARGUMENTS.get(pointer, pointer),
            value=_text(first.get("value")),
            remedy=_text(first.get("remedy")),
        )
    if isinstance(error, CapsuleRefused):
        error.failure, error.retryable = _text(document.get("failure")), document.get("retryable") is True
    request_id = _text(document.get("requestId"))
    if request_id:
        # What the server's log calls it.
        error.add_note(f"request {request_id}")
    return error


def _problem(part: Mapping[str, Any]) -> tuple[int, int, str, str]:
    line, column = part.get("line"), part.get("column")
    return (
        line if isinstance(line, int) else 0,
        column if isinstance(column, int) else 0,
        _text(part.get("key")) or "",
        _text(part.get("message")) or "",
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
