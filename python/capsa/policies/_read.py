"""From TOML, JSON or a mapping to a checked struct; every fault says where it is and what to write instead.

One walk over what `msgspec.inspect` tells of the structs, so a key exists exactly if a struct has it. (msgspec's own
conversion would stop at the first fault too, but say it without a pointer and a remedy.)
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from capsa.errors import InvalidPolicy, shown
from capsa.policies._document import is_unicode
from capsa.policies._hosts import Unfit
from capsa.policies._model import camel

_Made = TypeVar("_Made", bound=msgspec.Struct)

_KINDS: Final = {
    bool: "true or false",
    int: "a number",
    float: "a number with a point",
    str: "a text",
    list: "a list",
    dict: "a table",
    type(None): "null",
}


class Spelling(NamedTuple):
    """How a source spells keys.

    Attributes:
        snake: ``max_bytes``, as TOML and Python do.
        camel: ``maxBytes``, as JSON does.
    """

    snake: bool
    camel: bool

    def names(self, field: inspect.Field) -> tuple[str, ...]:
        """What a field is called, the preferred way first."""
        spelled = (field.name,) * self.snake + (field.encode_name,) * self.camel
        return tuple(dict.fromkeys(spelled))


TOML: Final = Spelling(snake=True, camel=False)
JSON: Final = Spelling(snake=False, camel=True)
#: A mapping of Python's: somebody wrote it, or it is JSON that was read before.
EITHER: Final = Spelling(snake=True, camel=True)


def read(kind: type[_Made], source: Any, spelling: Spelling, *, what: str, at: str = "") -> _Made:
    """A struct of what a source says.

    Args:
        kind: The struct.
        source: What should be a mapping.
        spelling: Of its keys.
        what: What a fault calls the whole, as "the policy".
        at: JSON pointer to the source in what was sent.

    Raises:
        InvalidPolicy: It does not hold; with a pointer in the spelling of the source.
    """
    info = _type_info(kind)
    return _Reading(spelling, what, info).struct(info, source, at)  # type: ignore[no-any-return] # the class of `info`


@functools.cache
def _type_info(kind: type[msgspec.Struct]) -> inspect.StructType:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info


class _Reading:
    """One document that is being read."""

    def __init__(self, spelling: Spelling, what: str, root: inspect.StructType) -> None:
        self._spelling = spelling
        self._what = what
        self._root = root

    def value(self, kind: inspect.Type, value: Any, at: str) -> Any:
        """A value of any type that the structs have."""
        extra: Mapping[str, Any] = {}
        if isinstance(kind, inspect.Metadata):
            extra, kind = kind.extra or {}, kind.type
        match kind:
            case inspect.UnionType():
                # Absent is the only way to say nothing.
                [kind] = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
                return self.value(kind, value, at)
            case inspect.StructType():
                return self.struct(kind, value, at)
            case inspect.BoolType():
                if not isinstance(value, bool):
                    raise self._wrong(value, at, "write true or false")
                return value
            case inspect.IntType():
                return self._number(kind, value, at)
            case inspect.StrType():
                return self._text(kind, value, at, extra.get("parse"))
            case inspect.LiteralType():
                return self._word(kind, value, at)
            case inspect.VarTupleType():
                return self._list(kind, value, at, extra)
            case inspect.DictType():
                return self._table(kind, value, at)
        raise AssertionError(f"no struct has a {kind}")

    def struct(self, kind: inspect.StructType, value: Any, at: str) -> Any:
        """A table with the keys of a struct."""
        if not isinstance(value, Mapping):
            raise self._wrong(value, at, f"write a table with {_listed(self._names(kind))}")
        fields = {name: field for field in kind.fields for name in self._spelling.names(field)}
        read: dict[str, Any] = {}
        for key in value:
            field = fields.get(key) if isinstance(key, str) else None
            if field is None:
                raise self._unknown(kind, key, at)
            if field.name in read:
                raise self._fault(
                    f"{_name(_joined(at, key))} stands there twice", _joined(at, key), key, "leave one out"
                )
            read[field.name] = self.value(field.type, value[key], _joined(at, key))
        for name, field in fields.items():
            if field.required and field.name not in read:
                raise self._fault(
                    f"{self._whole(at)} has no {name}", _joined(at, name), None, _example(name, field.type)
                )
        return kind.cls(**read)

    def _number(self, kind: inspect.IntType, value: Any, at: str) -> int:
        range_ = f"{kind.ge:,} to {kind.le:,}"
        if isinstance(value, bool) or not isinstance(value, int):
            # `1e6` is a number with a point.
            example = f", as {value:.0f}" if isinstance(value, float) and value.is_integer() else ""
            raise self._wrong(value, at, f"write a whole number from {range_}{example}")
        assert kind.ge is not None
        assert kind.le is not None
        if not kind.ge <= value <= kind.le:
            raise self._fault(
                f"{_name(at)} is out of range", at, value, f"write a whole number from {range_}"
            )
        return value

    def _text(self, kind: inspect.StrType, value: Any, at: str, parse: Callable[[str], str] | None) -> str:
        if not isinstance(value, str):
            raise self._wrong(value, at, "write a text in quotes")
        if kind.max_length is not None and len(value) > kind.max_length:
            # An over-long value is never repeated.
            raise self._fault(
                f"{_name(at)} has {len(value)} characters", at, None, f"write at most {kind.max_length}"
            )
        if not value and kind.min_length:
            raise self._fault(f"{_name(at)} is empty", at, value, "write it, or leave it out")
        if kind.pattern is not None and not re.fullmatch(kind.pattern, value):
            raise self._fault(
                f"{_name(at)} has characters or a length that it may not have",
                at,
                value,
                _characters(kind.pattern),
            )
        if not is_unicode(value):
            raise self._fault(f"{_name(at)} holds half of a surrogate pair", at, None, "write valid Unicode")
        if parse is None:
            return value
        try:
            return parse(value)
        except Unfit as error:
            raise self._fault(f"{_name(at)} {error.detail}", at, value, error.remedy) from None

    def _word(self, kind: inspect.LiteralType, value: Any, at: str) -> Any:
        spelled = {word: word for word in kind.values} | {
            camel(word): word for word in kind.values if isinstance(word, str)
        }
        # `True == 1`, and a list cannot be looked up.
        if type(value) in {type(word) for word in kind.values} and value in spelled:
            return spelled[value]
        words = [camel(word) if self._spelling is JSON else word for word in map(str, kind.values)]
        if type(value) not in {type(word) for word in kind.values}:
            raise self._wrong(value, at, f"write {_listed(words, 'or')}")
        meant = next((word for word in words if _folded(word) == _folded(shown(value).strip())), None)
        remedy = f"write {_nearest(shown(value), words, meant) or _listed(words, 'or')}"
        raise self._fault(f"{_name(at)} cannot be {shown(value)!r}", at, value, remedy)

    def _list(
        self, kind: inspect.VarTupleType, value: Any, at: str, extra: Mapping[str, Any]
    ) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise self._wrong(value, at, _list_remedy(kind))
        if kind.max_length is not None and len(value) > kind.max_length:
            raise self._fault(
                f"{_name(at)} has {len(value)} entries", at, None, f"write at most {kind.max_length}"
            )
        if len(value) < (kind.min_length or 0):
            raise self._fault(f"{_name(at)} is empty", at, "[]", "name at least one, or leave it out")
        read: dict[Any, Any] = {}
        for number, entry in enumerate(value):
            made = self.value(kind.item_type, entry, f"{at}/{number}")
            key = made.name if extra.get("named") else made if extra.get("unique") else number
            if key in read:
                raise self._fault(
                    f"{_name(at)} names {shown(key)} twice", f"{at}/{number}", key, "leave one of them out"
                )
            read[key] = made
        return tuple(read.values())

    def _table(self, kind: inspect.DictType, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self._wrong(value, at, 'write a table of names and texts, as { region = "eu" }')
        if kind.max_length is not None and len(value) > kind.max_length:
            raise self._fault(
                f"{_name(at)} has {len(value)} entries", at, None, f"write at most {kind.max_length}"
            )
        return {
            self.value(kind.key_type, key, _joined(at, key)): self.value(
                kind.value_type, entry, _joined(at, key)
            )
            for key, entry in value.items()
        }

    def _unknown(self, kind: inspect.StructType, key: object, at: str) -> InvalidPolicy:
        names = self._names(kind)
        text = shown(key)
        same = next((name for name in names if _folded(name) == _folded(text)), None)
        meant = _nearest(text, names, same)
        elsewhere = None if same else self._elsewhere(text)
        if elsewhere is not None:
            remedy = f"it stands under {elsewhere}"
        elif meant:
            remedy = f"write {meant}"
        else:
            remedy = f"there are {_listed(names)}"
        return self._fault(f"{self._whole(at)} has no key {text!r}", _joined(at, text), text, remedy)

    def _elsewhere(self, key: str) -> str | None:
        """Where a key of exactly this name stands, if it does in one place."""
        places = [place for place, names in _places(self._root, self._spelling) if key in names and place]
        return places[0] if len(places) == 1 else None

    def _names(self, kind: inspect.StructType) -> list[str]:
        return [self._spelling.names(field)[0] for field in kind.fields]

    def _whole(self, at: str) -> str:
        return _name(at) if at else self._what

    def _wrong(self, value: object, at: str, remedy: str) -> InvalidPolicy:
        kind = next((word for type_, word in _KINDS.items() if isinstance(value, type_)), "something else")
        if type(value).__module__ == "datetime":
            kind = "a date or time"
        place = _name(at) if at else self._what
        return self._fault(f"{place} is {kind}", at, value, remedy)

    def _fault(self, detail: str, at: str, value: object, remedy: str) -> InvalidPolicy:
        return InvalidPolicy(detail, pointer=at, value=None if value is None else shown(value), remedy=remedy)


def _places(root: inspect.StructType, spelling: Spelling) -> list[tuple[str, list[str]]]:
    """Every table that a document may have, by its dotted name, with its keys."""
    found: list[tuple[str, list[str]]] = []

    def visit(kind: inspect.Type, place: str) -> None:
        match kind:
            case inspect.Metadata():
                visit(kind.type, place)
            case inspect.UnionType():
                for each in kind.types:
                    visit(each, place)
            case inspect.VarTupleType():
                visit(kind.item_type, place)
            case inspect.StructType():
                found.append((place, [spelling.names(field)[0] for field in kind.fields]))
                for field in kind.fields:
                    visit(field.type, f"{place}.{spelling.names(field)[0]}".lstrip("."))

    visit(root, "")
    return found


def _joined(at: str, key: object) -> str:
    """A pointer one key further (RFC 6901)."""
    return f"{at}/{shown(key).replace('~', '~0').replace('/', '~1')}"


def _name(at: str) -> str:
    """What a fault calls a place: ``grants.http[0].hosts[1]``."""
    parts = at.split("/")[1:]
    return "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts).removeprefix(".")


def _nearest(word: str, words: Collection[str], sure: str | None = None) -> str | None:
    return sure or next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.6)), None)


def _folded(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _listed(words: Collection[str], last: str = "and") -> str:
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def _characters(pattern: str) -> str:
    """What a pattern of one class of characters takes, in words."""
    found = re.fullmatch(r"\^\[(?:A-Za-z|a-z)0-9(.+)\]\{(\d+),(\d+)\}\$", pattern)
    assert found, pattern
    letters = "A-Z, a-z" if "A-Z" in pattern else "a-z"
    return f"write {found[2]} to {found[3]} of {letters}, 0-9, {_listed(found[1])}"


def _list_remedy(kind: inspect.VarTupleType) -> str:
    item = kind.item_type.type if isinstance(kind.item_type, inspect.Metadata) else kind.item_type
    if isinstance(item, inspect.StructType):
        return "write a list of tables: in TOML, double brackets around its name"
    example = "[443]" if isinstance(item, inspect.IntType) else '["…"]'
    return f"write a list, as {example}"


def _example(name: str, kind: inspect.Type) -> str:
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    if not isinstance(kind, inspect.LiteralType):
        return f"write {name}"
    words = [f'"{word}"' if isinstance(word, str) else str(word) for word in kind.values]
    return f"write {name} = {_listed(words, 'or')}"
