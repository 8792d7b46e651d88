"""What callers send, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from capsa.errors import InvalidField, shown

#: Most contexts in one page.
MAX_PAGE: Final = 1000


def as_dict(input: object, pointer: str) -> dict[str, Any]:
    """An input that is a mapping of another type.

    Raises:
        InvalidField: It is none.
    """
    if isinstance(input, Mapping):
        return dict(input)
    raise InvalidField(
        "the input is not a mapping",
        pointer=pointer,
        value=type(input).__name__,
        remedy="send values by name, for example {'task_type': 'legal'}",
    )


def check_text(text: object, pointer: str) -> None:
    """Raises InvalidField where this is not a text that is valid Unicode."""
    if not isinstance(text, str) or any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidField(
            "this is not a text that is valid Unicode",
            pointer=pointer,
            value=shown(ascii(text)),
            remedy="send such a text, or leave it out",
        )


def is_page(limit: object) -> bool:
    """Whether a page may have so many rows."""
    return isinstance(limit, int) and not isinstance(limit, bool) and 1 <= limit <= MAX_PAGE


def plain_collection(options: Any) -> Any:
    """Mappings and sequences of any type as dictionaries and lists; anything else as it is."""
    if isinstance(options, Mapping):
        return {name: plain_collection(listed) for name, listed in options.items()}
    if isinstance(options, Sequence) and not isinstance(options, str | bytes):
        return list(options)
    return options
