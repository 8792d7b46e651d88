"""Many calls at once: each item whole or not at all, and one wait for the disk."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from capsa.errors import (
    CapsaError,
    CapsuleFailure,
    CapsuleRefused,
    Conflict,
    InvalidField,
    InvalidRequest,
    NotFound,
    Overloaded,
    UnknownField,
    shown,
)

#: Most decisions of one batch.
MAX_DECISIONS: Final = 1000
#: Most feedbacks of one batch.
MAX_FEEDBACKS: Final = 10_000
#: What an item says by itself, as the methods of one call do.
DECISION_KEYS: Final = ("input", "context_key", "options", "current", "subject")
FEEDBACK_KEYS: Final = ("decision_id", "outcome", "reward", "taken", "strategy", "option", "context_key")

#: What is wrong with one item; anything else is wrong with the store, and ends the batch.
_OF_ITEM: Final = (InvalidRequest, NotFound, Conflict, CapsuleRefused, CapsuleFailure, Overloaded)

T = TypeVar("T")


def in_turn(
    name: str,
    items: Iterable[Mapping[str, Any]],
    most: int,
    keys: tuple[str, ...],
    call: Callable[..., T],
) -> list[T | CapsaError]:
    """Calls once for each item, in order; the answer, or what was wrong with it.

    Raises:
        InvalidField: `items` is no list, or too long; nothing was done.
    """
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise InvalidField(
            f"{name} is not a list",
            pointer=f"/{name}",
            value=type(items).__name__,
            remedy="send a list of mappings",
        )
    listed = list(items)
    if len(listed) > most:
        raise InvalidField(
            f"{name} has {len(listed)} items",
            pointer=f"/{name}",
            value=str(len(listed)),
            remedy=f"send at most {most} at once",
        )
    answers: list[T | CapsaError] = []
    for item in listed:
        try:
            answers.append(call(**_checked(item, keys)))
        except _OF_ITEM as error:
            answers.append(error)
    return answers


def _checked(item: object, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise InvalidField(
            "this item is not a mapping",
            pointer="",
            value=type(item).__name__,
            remedy=f"send {', '.join(keys[:3])}, … by name",
        )
    for key in item:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            raise UnknownField(
                f"there is no {shown(key)!r} here",
                pointer=f"/{shown(key)}",
                value=shown(key),
                remedy=f"did you mean {near[0]}?" if near else f"use {', '.join(keys)}",
            )
    return dict(item)
