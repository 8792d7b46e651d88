"""A document in TOML or JSON from wherever it stands, as a mapping: a policy, or the definition of a tool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from capsa import _native
from capsa.errors import CapsaError
from capsa.policies._toml import parse_toml

#: Largest document, in bytes.
MAX_BYTES: Final = 256 * 1024
#: Nesting of one in JSON: policies and definitions have five levels.
_DEPTH: Final = 16


def read_document(
    source: str | Path | bytes, what: str, wrong: type[CapsaError], *, named: str = "a file"
) -> tuple[Mapping[str, Any], bool]:
    """The values of a document, and whether it is JSON, which begins with a brace, as TOML cannot.

    Args:
        source: A path (a `Path`, or text of one line), TOML (text of several lines), JSON (text that begins with a
            brace), or the bytes of either, which are never taken for a path.
        what: What faults call it, such as ``policy``.
        wrong: The class of faults.
        named: What a text of one line may name.

    Raises:
        CapsaError: Of the class `wrong`: it is too long, is not text, or cannot be read.
        OSError: The file cannot be read.
    """
    data = _bytes_of(source, what, wrong, named)
    if len(data) > MAX_BYTES:
        raise wrong(f"the {what} has more than {MAX_BYTES} bytes", pointer="", remedy="write less")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise wrong(
            f"the {what} is not text: byte {error.start} is not UTF-8",
            pointer="",
            remedy="save it as UTF-8",
        ) from None
    is_json = text.lstrip().startswith("{")
    try:
        values = _native.read_json(text.encode(), max_depth=_DEPTH) if is_json else parse_toml(text)
    except ValueError as error:
        raise wrong(
            f"the {what} cannot be read: {str(error)[:200]}",
            pointer="",
            remedy="write TOML, or JSON beginning with {; each key once",
        ) from None
    return values, is_json


def is_unicode(text: str) -> bool:
    """Whether a text holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bytes_of(source: str | Path | bytes, what: str, wrong: type[CapsaError], named: str) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str) and ("\n" in source or source.lstrip().startswith("{")):
        if not is_unicode(source):
            raise wrong(f"the {what} holds half of a surrogate pair", pointer="", remedy="send valid Unicode")
        return source.encode()
    if not isinstance(source, str | Path):
        raise TypeError(
            f"a {what} comes from a path, text, bytes or a mapping, not from {type(source).__name__}"
        )
    if not str(source):
        # pathlib would take it for the working folder.
        raise wrong(f"the name of the {what} is empty", pointer="", remedy=f"name {named}")
    try:
        with Path(source).open("rb") as file:
            # One more than there may be, so that it is seen to be too long.
            return file.read(MAX_BYTES + 1)
    except ValueError as error:  # a NUL byte or half a surrogate pair
        raise wrong(f"not a path: {error}", pointer="", remedy=f"name {named}") from None
