"""A spec as a Python mapping, written as YAML text.

Nothing here knows what a spec means. Collections are written in flow style below the top level, texts
quoted or, where YAML 1.2 allows it, plain: `no`, `off` and `1s` are texts there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

#: What YAML 1.2 reads as something other than a text although it looks like one.
_NOT_TEXT = {"true", "false", "null", "True", "False", "Null", "TRUE", "FALSE", "NULL"}
_PLAIN = re.compile(r"[a-z][a-z0-9_]*|[0-9]+[a-z]+", re.ASCII)


def to_yaml(spec: Mapping[str, object], *, plain: bool = False) -> str:
    """The YAML text of a spec; with `plain` texts are unquoted where that is allowed."""
    return "".join(f"{_text(key, plain)}: {_flow(value, plain)}\n" for key, value in spec.items())


def _flow(value: object, plain: bool) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value, plain)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(f"{_text(name, plain)}: {_flow(item, plain)}" for name, item in value.items())
            + "}"
        )
    if isinstance(value, Sequence):
        return "[" + ", ".join(_flow(item, plain) for item in value) + "]"
    raise TypeError(type(value))


def _text(text: str, plain: bool) -> str:
    if plain and _PLAIN.fullmatch(text) and text not in _NOT_TEXT and not _looks_like_a_number(text):
        return text
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _looks_like_a_number(text: str) -> bool:
    return re.fullmatch(r"[0-9]+e[0-9]+|0x[0-9a-f]+|0o[0-7]+", text) is not None


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
