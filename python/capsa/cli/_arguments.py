"""What commands take in the same way: places, pages, and values in JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Never

from capsa.errors import InvalidField, shown

#: Most characters of a JSON value: many times what a decision takes.
MAX_JSON: Final = 1 << 20


def add_json(command: argparse.ArgumentParser) -> None:
    """Adds ``--json``."""
    command.add_argument("--json", action="store_true", help="print the result as one JSON document")


def add_store(command: argparse.ArgumentParser) -> None:
    """Adds the folder of the store, and ``--json``."""
    command.add_argument("store", type=folder, metavar="STORE", help="the folder of the store")
    add_json(command)


def add_store_or_server(command: argparse.ArgumentParser) -> None:
    """Adds the folder of the store, or where a server serves one, and ``--json``."""
    command.add_argument(
        "store",
        type=path_or_url,
        metavar="STORE",
        help="the folder of the store, or the URL of a server (http://…, unix:/PATH), with its key in CAPSA_ADMIN_KEY",
    )
    add_json(command)


def add_place(command: argparse.ArgumentParser) -> None:
    """Adds the tenant and the job."""
    add_tenant(command)
    command.add_argument("--job", default="default", help="the job (default: default)")


def add_tenant(command: argparse.ArgumentParser) -> None:
    """Adds the tenant."""
    command.add_argument("--tenant", default="default", help="the tenant (default: default)")


def add_capsule(command: argparse.ArgumentParser) -> None:
    """Adds store, capsule, tenant and job."""
    add_store_or_server(command)
    command.add_argument("capsule", metavar="CAPSULE", help="the name of the capsule")
    add_place(command)


def add_decision(command: argparse.ArgumentParser) -> None:
    """Adds store, capsule, tenant, job and the id of a decision."""
    add_capsule(command)
    command.add_argument("id", metavar="ID", help="the decision, as decide gave it")


def add_page(command: argparse.ArgumentParser) -> None:
    """Adds where a page begins, and how long it is."""
    command.add_argument(
        "--after",
        type=whole_number(0, 2**53),
        default=0,
        metavar="SEQUENCE",
        help="start after this sequence: the last one of the page before (default: 0)",
    )
    add_limit(command)


def add_limit(command: argparse.ArgumentParser) -> None:
    """Adds how long a page is."""
    command.add_argument(
        "--limit", type=whole_number(1, 1000), default=100, metavar="N", help="rows, 1 to 1000 (default: 100)"
    )


def path(text: str) -> Path:
    """Reads a path."""
    if not text:
        # pathlib would take it for the working folder.
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def named_file(text: str, field: str) -> Path:
    """The file that a value names which may also be something else than a file.

    Raises:
        InvalidField: The name is empty.
    """
    try:
        return path(text)
    except argparse.ArgumentTypeError:
        raise InvalidField(
            "the name of the file is empty", pointer=f"/{field}", remedy="write the name of a file"
        ) from None


def folder(text: str) -> Path:
    """Reads the folder of a store, which a server cannot stand in for."""
    if is_url(text):
        raise argparse.ArgumentTypeError(f"{text} is a server; this command needs the folder of its store")
    return path(text)


def path_or_url(text: str) -> Path | str:
    """Reads the folder of a store, or the URL of a server."""
    return text if is_url(text) else path(text)


def is_url(text: object) -> bool:
    """Whether this names a server, not a folder."""
    return isinstance(text, str) and text.startswith(("http://", "https://", "unix:"))


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number of a range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{shown(text)!r} is not a whole number from {least} to {most}"
            ) from None
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{shown(text)} is not from {least} to {most}")
        return number

    return read


def number(text: str) -> float:
    """Reads a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)!r} is not a number") from None


def json_value(text: str, field: str) -> Any:
    """A JSON value that was given as text, as ``@file``, or with ``-`` on standard input.

    Raises:
        InvalidField: It is none.
        OSError: The file cannot be read.
    """
    return _json(_text(text, field), field)


def json_object(text: str, field: str) -> dict[str, Any]:
    """A JSON object that was given likewise.

    Raises:
        InvalidField: It is none.
        OSError: The file cannot be read.
    """
    text = _text(text, field)
    value = _json(text, field)
    if not isinstance(value, dict):
        raise InvalidField(
            f"{field} is not a JSON object",
            pointer=f"/{field}",
            value=shown(text),
            remedy='write values by name, for example \'{"task_type": "legal"}\'',
        )
    return value


def options(text: str, field: str) -> Any:
    """Options: names with commas between them, or JSON."""
    return _json(text, field) if text.lstrip().startswith(("[", "{", '"')) else text.split(",")


def option(text: str, field: str) -> Any:
    """One option: its name, or JSON; ``null`` is none."""
    return _json(text, field) if text == "null" or text.lstrip().startswith(("{", '"')) else text


def _text(text: str, field: str) -> str:
    """What a text stands for: itself, a file, or standard input."""
    try:
        if text == "-":
            return sys.stdin.read(MAX_JSON + 1)
        if text.startswith("@"):
            with named_file(text[1:], field).open(encoding="utf-8") as file:
                return file.read(MAX_JSON + 1)
    except UnicodeDecodeError:
        raise InvalidField(
            f"{field} is not UTF-8", pointer=f"/{field}", remedy="save the file as UTF-8"
        ) from None
    return text


def _json(text: str, field: str) -> Any:
    def refuse(word: str) -> Never:
        raise ValueError(f"{word} is not a number that JSON has")

    if len(text) > MAX_JSON:
        raise InvalidField(
            f"{field} has more than {MAX_JSON} characters", pointer=f"/{field}", remedy="send less"
        )
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InvalidField(
            f"{field} is not JSON: {why}",
            pointer=f"/{field}",
            value=shown(text),
            remedy="write JSON, with the whole of it in single quotes for the shell",
        ) from None
