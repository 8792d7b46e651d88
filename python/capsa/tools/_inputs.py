"""What a tool is sent and what it answers: JSON, within limits."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from capsa import _native
from capsa.errors import CapsuleBadOutput, InvalidField

#: Largest input of a tool, in bytes of JSON.
MAX_INPUT_BYTES: Final = 1024 * 1024
#: Deepest nesting of input and output: bodies and answers, in which they stand, nest a little deeper.
MAX_DEPTH: Final = 30


def json_text(value: object, what: str = "input") -> str:
    """A value as JSON: what a capsule is sent.

    Args:
        value: Anything JSON has; numbers are finite.
        what: Where it stands.

    Raises:
        InvalidField: It cannot be written as JSON of at most `MAX_INPUT_BYTES`.
    """
    fault = _fault(value, 1)
    if fault is None:
        try:
            text = msgspec.json.encode(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            fault = f"cannot be written as JSON: {error}"[:200]
        else:
            if len(text) <= MAX_INPUT_BYTES:
                return text.decode()
            fault = f"has {len(text)} bytes"
    raise InvalidField(
        f"{what} {fault}",
        pointer=f"/{what}",
        remedy=f"send JSON of at most {MAX_INPUT_BYTES} bytes, nested at most {MAX_DEPTH} deep",
    )


def _fault(value: object, depth: int) -> str | None:
    """What JSON does not have: msgspec would write NaN as null, and a tuple or a date as something else."""
    match value:
        case None | bool() | int():
            return None
        case float():
            return None if value - value == 0 else "holds a number that is not finite"
        case str():
            surrogate = any("\ud800" <= char <= "\udfff" for char in value)
            return "holds half of a surrogate pair" if surrogate else None
        case dict() | list() | tuple():
            if depth > MAX_DEPTH:
                return f"is nested more than {MAX_DEPTH} deep"
            inner = value.values() if isinstance(value, dict) else value
            if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
                return "holds a name that is not a text"
            return next((fault for item in inner if (fault := _fault(item, depth + 1)) is not None), None)
        case _:
            return f"holds a {type(value).__name__}"


def read_output(text: str) -> Any:
    """What a tool answered.

    Raises:
        CapsuleBadOutput: It is not JSON.
    """
    try:
        return _native.read_json(text.encode(), max_depth=MAX_DEPTH)
    except ValueError as error:
        raise CapsuleBadOutput(f"the capsule's output is invalid: as JSON, {error}") from None
