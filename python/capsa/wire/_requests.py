"""What requests say, and how a body becomes one of them."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from capsa.errors import InvalidField, UnknownField, shown

OptionRef = str | Annotated[int, Meta(ge=0)]
OptionList = Annotated[list[OptionRef], Meta(min_length=1)]
ContextKey = Annotated[str, Meta(min_length=1, max_length=256)]
# A schema of the OpenAPI document; whether a guest can be given it, the domain checks.
Input = Annotated[
    dict[str, Any],
    Meta(extra_json_schema={"additionalProperties": {"$ref": "#/components/schemas/InputValue"}}),
]


def _each(name: str) -> dict[str, Any]:
    """Of items: anything is taken, since the fault of one is told in its place."""
    ref: dict[str, Any] = {"$ref": f"#/components/schemas/{name}"}
    return {"items": {"anyOf": [ref, {"type": ["array", "boolean", "null", "number", "object", "string"]}]}}


#: Keys of later versions: refused by name.
_LATER: Final = {"session": "sessions are", "candidates": "options of a single call are"}


class Decide(Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """What is to be decided; every key may be left out.

    Attributes:
        input: What the capsule sees: at most 64 KiB, nested at most 16 deep. Its declared contexts are kept.
        context_key: It is the key, and the declared contexts are not looked at; at most 256 bytes.
        options: Only these are allowed this time, by name or number; by strategy where there are several.
        current: What the application would do by itself.
        subject: Whom it is about; kept as a keyed hash.
    """

    input: Input | None = None
    context_key: ContextKey | None = None
    options: OptionList | Annotated[dict[str, OptionList], Meta(min_length=1)] | None = None
    current: OptionRef | dict[str, OptionRef] | None = None
    subject: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class DecideBatch(Struct, forbid_unknown_fields=True):
    """Many requests at once; a fault of one is a problem document in its place."""

    requests: Annotated[list[Any], Meta(max_length=1000, extra_json_schema=_each("Decide"))]


class FeedbackPost(Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """What came of a decision: by its id, or of a choice that was not asked for here.

    Attributes:
        decision_id: The decision; null is answered ``unrecorded``.
        outcome: Metrics by name, numbers or booleans. They may come in several posts.
        reward: One number within ``reward_range`` instead.
        taken: What was carried out, if not the answer; null = nothing of ours.
        strategy_id: Without an id: the strategy's number.
        strategy: Without an id: the strategy's name, instead of its number.
        option: Without an id: the option that was chosen.
        context_key: Without an id: the context it was chosen in.
        node_id: As `strategy_id`, for existing clients.
    """

    decision_id: str | UnsetType | None = UNSET
    outcome: dict[str, float | bool] | None = None
    reward: float | None = None
    taken: OptionRef | dict[str, OptionRef] | UnsetType | None = UNSET
    strategy_id: OptionRef | None = None
    strategy: str | None = None
    option: OptionRef | None = None
    context_key: ContextKey | None = None
    node_id: OptionRef | None = None

    def arguments(self) -> dict[str, Any]:
        """What `Capsule.feedback` is called with.

        Raises:
            InvalidField: The strategy is named twice.
        """
        given: dict[str, Any] = {}
        if self.decision_id is not UNSET:
            given["decision_id"] = self.decision_id
        if self.taken is not UNSET:
            given["taken"] = self.taken
        strategies = [each for each in (self.strategy_id, self.strategy, self.node_id) if each is not None]
        if len(strategies) > 1:
            raise InvalidField(
                "the strategy is named twice", pointer="/strategyId", remedy="send strategyId or strategy"
            )
        named = {
            "outcome": self.outcome,
            "reward": self.reward,
            "strategy": strategies[0] if strategies else None,
            "option": self.option,
            "context_key": self.context_key,
        }
        return given | {name: value for name, value in named.items() if value is not None}


class FeedbackBatch(Struct, forbid_unknown_fields=True):
    """Many feedbacks at once; each whole or not at all."""

    events: Annotated[list[Any], Meta(max_length=10_000, extra_json_schema=_each("FeedbackPost"))]


class NewJob(Struct, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """A job to be made.

    Attributes:
        id: Its name in paths.
        description: For people.
        metadata: Whatever belongs to it, at most 16 KiB of JSON.
    """

    id: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
    description: Annotated[str, Meta(max_length=1024)] = ""
    metadata: dict[str, Any] | None = None


class Invoke(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A call of a tool.

    Attributes:
        input: What it is sent: any JSON of at most 1 MiB, nested at most 30 deep; left out: null.
        record: Whether the call is recorded, so that it can be replayed; its policy's engine has to be deterministic.
    """

    input: Any = None
    record: bool = False


class Compensate(Struct, forbid_unknown_fields=True):
    """A call of a tool that is to be taken back.

    Attributes:
        input: What the call was sent.
        output: What it answered.
    """

    input: Any
    output: Any


T = TypeVar("T", bound=Struct)

_WHERE: Final = re.compile(r" - at `([^`]*)`$")
_STEP: Final = re.compile(r"\.([A-Za-z_]+)|\[(\d+)\]|(\[\.\.\.\])")


def decoded(value: Any, type_: type[T]) -> T:
    """A value as a request.

    Raises:
        UnknownField: A key that does not exist; the remedy names the nearest one.
        InvalidField: A value that does not hold.
    """
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise _explained(str(error), value, type_) from None


def _explained(said: str, value: Any, type_: type[Struct]) -> InvalidField | UnknownField:
    where = _WHERE.search(said)
    what = said[: where.start()] if where else said
    pointer, found = _at(where.group(1) if where else "$", value)
    if (match := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL)) is not None:
        return unknown_field(
            match[1], [field.encode_name for field in msgspec.structs.fields(type_)], pointer
        )
    if (match := re.fullmatch(r"Object missing required field `(.*)`", what)) is not None:
        return InvalidField(
            f"{match[1]} is missing", pointer=f"{pointer}/{match[1]}", remedy=f"send {match[1]}"
        )
    name = pointer.rpartition("/")[2] or "the body"
    expected = what[:1].lower() + what[1:].replace("`", "")
    return InvalidField(
        f"{name}: {expected}", pointer=pointer, value=shown(found), remedy="nothing has changed"
    )


def unknown_field(name: str, known: list[str], pointer: str = "") -> UnknownField:
    """The refusal of a key that does not exist."""
    if name in _LATER:
        return UnknownField(
            f"{_LATER[name]} not supported by this version",
            pointer=f"{pointer}/{name}",
            value=name,
            remedy="leave it out",
        )
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"use {', '.join(known)}" if known else "leave it out"
    return UnknownField(
        f"there is no {shown(name)!r} here",
        pointer=f"{pointer}/{shown(name).replace('~', '~0').replace('/', '~1')}",
        value=shown(name),
        remedy=remedy,
    )


def _at(path: str, value: Any) -> tuple[str, Any]:
    """A path as msgspec writes it, as a JSON pointer, and what stands there; up to where it names the way."""
    pointer = ""
    for step in _STEP.finditer(path):
        if step[3]:
            break
        try:
            value = value[step[1]] if step[1] else value[int(step[2])]
        except (KeyError, IndexError, TypeError):
            break
        pointer += f"/{step[1] or step[2]}"
    return pointer, value
