"""What is sent: arguments as in process, as bodies of requests.

JSON has no NaN, and an encoder would make a text of a date: so what the call in process refuses is refused here, in the
same words. Everything else is for the server to judge.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from capsa.decisions._feedback import AS_ANSWERED, NOT_GIVEN
from capsa.decisions._history._views import check_page
from capsa.decisions._ids import unknown_decision
from capsa.errors import InvalidField, shown
from capsa.tools._inputs import json_text

_encode: Final = msgspec.json.Encoder().encode

#: Deeper values are refused here already, so that a value that contains itself ends.
MAX_DEPTH: Final = 64
#: Integers that a 64-bit float holds, and JSON numbers may be.
_EXACT: Final = 2**63
_PLAIN: Final = "send texts, numbers, flags, lists or mappings"
_KEY: Final = re.compile("[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")


def decide_body(
    input: object = None,
    context_key: object = None,
    options: object = None,
    current: object = None,
    subject: object = None,
) -> bytes:
    """The body of a decide.

    Raises:
        InvalidField: A value that JSON does not have.
    """
    said: dict[str, Any] = {}
    if input is not None:
        if not isinstance(input, Mapping):
            raise InvalidField(
                "the input is not a mapping",
                pointer="/input",
                value=type(input).__name__,
                remedy="send values by name, for example {'task_type': 'legal'}",
            )
        said["input"] = _mapping(input, "/input", 1)
    if context_key is not None:
        said["contextKey"] = _json(context_key, "/contextKey", 1)
    if options is not None:
        said["options"] = _json(_lists(options), "/options", 1)
    if current is not None:
        said["current"] = _json(current, "/current", 1)
    if subject is not None:
        said["subject"] = _json(subject, "/subject", 1)
    return _encode(said)


def feedback_body(
    decision_id: object = NOT_GIVEN,
    outcome: object = None,
    reward: object = None,
    taken: object = AS_ANSWERED,
    strategy: object = None,
    option: object = None,
    context_key: object = None,
) -> bytes:
    """The body of a feedback.

    Raises:
        InvalidField: A value that JSON does not have, or no number where one belongs.
        UnknownDecision: What stands for the id cannot be one.
    """
    said: dict[str, Any] = {}
    if decision_id is not NOT_GIVEN and decision_id is not None:
        if not isinstance(decision_id, str) or not _is_unicode(decision_id):
            raise unknown_decision(ascii(decision_id))
        said["decisionId"] = decision_id
    if outcome is not None:
        said["outcome"] = _outcome(outcome)
    if reward is not None:
        said["reward"] = _number(reward, "/reward")
    if taken is not AS_ANSWERED:
        said["taken"] = _json(taken, "/taken", 1)
    if strategy is not None:
        said["strategyId"] = _json(strategy, "/strategyId", 1)
    if option is not None:
        said["option"] = _json(option, "/option", 1)
    if context_key is not None:
        said["contextKey"] = _json(context_key, "/contextKey", 1)
    return _encode(said)


def document_body(values: Mapping[str, Any]) -> bytes:
    """Settings, or whatever else is sent by name.

    Raises:
        InvalidField: A value that JSON does not have.
    """
    return _encode(_mapping(values, "", 1))


def call_body(**said: Any) -> bytes:
    """The body of a call of a tool: anything JSON has, as the call in process takes it.

    Raises:
        InvalidField: A value that JSON does not have.
    """
    for name in said.keys() & {"input", "output"}:
        # In the words of the call in process; every number goes as it is.
        json_text(said[name], name)
    return _encode(said)


def checked_digest(digest: object) -> str:
    """A digest that a header can carry; the server says what is wrong with any other."""
    text = shown(digest)
    if text.isascii() and text.isprintable() and '"' not in text:
        return text
    raise InvalidField(
        "this is no digest of a policy",
        pointer="/ifDigest",
        value=shown(ascii(digest)),
        remedy="send the digest of the policy that was read",
    )


def checked_text(value: object, pointer: str) -> str:
    """A text that a path can carry.

    Raises:
        InvalidField: It is none.
    """
    if isinstance(value, str) and _is_unicode(value):
        return value
    raise InvalidField(
        "this is not a text that is valid Unicode",
        pointer=pointer,
        value=shown(ascii(value)),
        remedy="send such a text, or leave it out",
    )


def checked_key(key: object) -> str:
    """An idempotency key that a header can carry.

    Raises:
        InvalidField: It is none.
    """
    if isinstance(key, str) and _KEY.fullmatch(key):
        return key
    raise InvalidField(
        "the idempotency key is not a text of 1 to 255 printable ASCII characters without blanks at its ends",
        pointer="/idempotencyKey",
        value=shown(ascii(key)),
        remedy="send such a text, or leave it out",
    )


def page_query(after: object, limit: object) -> str:
    """Where a page begins, and its length.

    Raises:
        InvalidField: One of them is none: in a query a text would pass for a number.
    """
    check_page(after, limit)
    return f"after={after}&limit={limit}"


def segment(name: str) -> str:
    """A name as one segment of a path: never the folder above, whoever reads the path on its way."""
    return quote(name, safe="").replace(".", "%2E") if name.strip(".") == "" else quote(name, safe="")


def _outcome(outcome: object) -> dict[str, float]:
    if not isinstance(outcome, Mapping):
        raise InvalidField(
            "outcome is not a mapping",
            pointer="/outcome",
            value=type(outcome).__name__,
            remedy="send metrics by name, for example {'quality': 0.9}",
        )
    said: dict[str, float] = {}
    for name, value in outcome.items():
        if not isinstance(name, str) or not _is_unicode(name):
            raise InvalidField(
                "a metric's name is not a text", pointer="/outcome", remedy="use the declared names"
            )
        said[name] = _number(value, f"/outcome/{_escaped(name)}")
    return said


def _number(value: Any, pointer: str) -> float:
    """A finite number; a flag is 1 or 0."""
    name = pointer.rpartition("/")[2]
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        what = "the reward" if pointer == "/reward" else name
        raise InvalidField(
            f"{what} is not a finite number",
            pointer=pointer,
            value="NaN" if math.isnan(value) else str(value),
            remedy="send a finite number" + ("" if pointer == "/reward" else ", or leave the metric out"),
        )
    if isinstance(value, int) or hasattr(value, "__index__"):
        return float(_integer(value, pointer))
    raise InvalidField(
        f"{name} is not a number", pointer=pointer, value=type(value).__name__, remedy="send a finite number"
    )


def _json(value: Any, pointer: str, depth: int) -> Any:
    """A value that stands at a pointer, as plain types; in the order of how common they are."""
    if isinstance(value, str):
        if not _is_unicode(value):
            raise _wrong(
                pointer, "holds half of a surrogate pair", "a text", "send text that is valid Unicode"
            )
        return value if type(value) is str else str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        said = "NaN" if math.isnan(value) else str(value)
        raise _wrong(pointer, "is not a finite number", said, "send finite numbers")
    if isinstance(value, int) or hasattr(value, "__index__"):
        return _integer(value, pointer)
    if isinstance(value, Mapping):
        return _mapping(value, pointer, depth + 1)
    if isinstance(value, list | tuple):
        if depth >= MAX_DEPTH:
            raise _wrong(pointer, "is nested too deep", "a deeply nested value", "send flat fields")
        # Of a list in the input the whole is named, elsewhere the item.
        inside = pointer.startswith("/input")
        return [
            _json(item, pointer if inside else f"{pointer}/{at}", depth + 1) for at, item in enumerate(value)
        ]
    raise _wrong(pointer, "is a value that JSON does not have", type(value).__name__, _PLAIN)


def _mapping(values: Mapping[Any, Any], pointer: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _wrong(pointer, "is nested too deep", "a deeply nested value", "send flat fields")
    said: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise _wrong(pointer, "is not a text, but names a field", shown(repr(name)), "use texts as names")
        if not _is_unicode(name):
            raise _wrong(
                pointer, "holds half of a surrogate pair", "a text", "send text that is valid Unicode"
            )
        said[str.__str__(name)] = _json(value, f"{pointer}/{_escaped(name)}", depth)
    return said


def _lists(options: Any) -> Any:
    """Whatever sequences stand for lists of options, as lists."""
    if isinstance(options, Mapping):
        return {name: _lists(listed) for name, listed in options.items()}
    if isinstance(options, Sequence) and not isinstance(options, str | bytes | bytearray):
        return list(options)
    return options


def _integer(value: Any, pointer: str) -> int:
    """An integer that the server takes for the number it is: nothing is rounded in silence."""
    try:
        exact = int(value)
        if -_EXACT <= exact < _EXACT and int(float(exact)) == exact:
            return exact
    except (TypeError, ValueError, OverflowError):
        pass
    raise _wrong(
        pointer, "is an integer that a 64-bit float cannot hold exactly", shown(value), "send it as a text"
    )


def _wrong(pointer: str, what: str, value: str, remedy: str) -> InvalidField:
    name = pointer.rpartition("/")[2] or "the body"
    return InvalidField(f"{name} {what}", pointer=pointer, value=value, remedy=remedy)


def _escaped(name: str) -> str:
    return shown(name).replace("~", "~0").replace("/", "~1")


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
