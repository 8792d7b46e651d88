"""What a tool declares: the document in its component, and the `capsule.toml` that it is written as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from capsa.errors import InvalidCapsule, shown
from capsa.policies import Effect, Wants, is_unicode, load_wants, read_document

_MAX_SUMMARY: Final = 1024
_KEYS: Final = ("schema", "kind", "name", "summary", "effect", "wants", "limits")
_EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool declares.

    Attributes:
        name: The capsule's name.
        summary: What it does, for people.
        effect: What it does to the world, as its author says; an install verifies it.
        wants: What it needs at most.
    """

    name: str
    summary: str
    effect: Effect
    wants: Wants

    def to_json(self) -> dict[str, Any]:
        """As it stands in the component; `read_tool_definition` reads it."""
        wants = self.wants.to_json()
        limits = wants.pop("limits")
        document = {
            "schema": 1,
            "kind": "tool",
            "name": self.name,
            "effect": _camel(self.effect),
            "wants": {name: wanted for name, wanted in wants.items() if wanted not in (False, [], None)},
        }
        if self.summary:
            document["summary"] = self.summary
        if limits:
            document["limits"] = limits
        return document


def read_tool_definition(source: str | Path | bytes | Mapping[str, Any]) -> ToolDefinition:
    """Reads a tool's definition.

    Args:
        source: The path of a `capsule.toml` (a `Path`, or text of one line); TOML (text of several lines); JSON (text that
            begins with a brace); the bytes of either; or a mapping with keys in either spelling.

    Raises:
        InvalidCapsule: It does not hold.
        InvalidPolicy: What it wants does not hold.
        OSError: The file cannot be read.
    """
    document = (
        source if isinstance(source, Mapping) else read_document(source, "definition", InvalidCapsule)[0]
    )
    unknown = [key for key in document if key not in _KEYS]
    if unknown:
        raise _wrong(
            f"/{shown(unknown[0])}",
            unknown[0],
            "is no key of a tool's definition",
            f"there are {', '.join(_KEYS)}",
        )
    if document.get("schema") != 1 or isinstance(document.get("schema"), bool):
        raise _wrong(
            "/schema", document.get("schema"), "is not the version of this format", "write schema = 1"
        )
    if document.get("kind") != "tool":
        raise _wrong("/kind", document.get("kind"), "is not the kind of a tool", 'write kind = "tool"')
    name = document.get("name")
    if not isinstance(name, str) or re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) is None:
        remedy = "use 1 to 64 of a-z, 0-9, - and _, starting with a letter or digit"
        raise _wrong("/name", name, "cannot be the name of a capsule", remedy)
    summary = document.get("summary", "")
    if not isinstance(summary, str) or len(summary) > _MAX_SUMMARY or not is_unicode(summary):
        raise _wrong(
            "/summary",
            summary,
            "is not a summary",
            f"write a text of at most {_MAX_SUMMARY} characters, in valid Unicode",
        )
    said = document.get("effect")
    effect = next((known for known in _EFFECTS if said in (known, _camel(known))), None)
    if effect is None:
        raise _wrong("/effect", said, "is no effect class", f"write one of {', '.join(_EFFECTS)}")
    return ToolDefinition(name=name, summary=summary, effect=effect, wants=load_wants(document))


def _wrong(pointer: str, value: object, what: str, remedy: str) -> InvalidCapsule:
    return InvalidCapsule(
        f"{pointer.removeprefix('/')}: {shown(value)!r} {what}",
        pointer=pointer,
        value=shown(value),
        remedy=remedy,
    )


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
