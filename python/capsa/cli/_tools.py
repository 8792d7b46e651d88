"""Commands of tools: ``invoke``, ``invocations``, ``secret set | list | remove``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from getpass import getpass
from typing import TYPE_CHECKING, Any, Final

from capsa.cli._arguments import add_capsule, add_page, add_store, add_tenant, json_value, named_file
from capsa.cli._history import counted_page
from capsa.cli._output import Answer, counted, short_time, table
from capsa.cli._store import check_store, folder_alone, open_existing, opened_capsule
from capsa.cli._usage import Commands, add_command
from capsa.errors import InvalidField
from capsa.wire import invocation_page, invoked_json

if TYPE_CHECKING:
    from capsa.tools import Invoked

#: Longest secret in characters, and the end of the line behind it.
_MAX_SECRET: Final = 4096 + 2


def add_commands(commands: Commands) -> None:
    """Adds what tools are used with."""
    invoke = add_command(
        commands,
        "invoke",
        _invoke,
        "call a tool",
        "Calls a tool with any JSON, and prints what it answers. With --compensate it asks the tool to take back a call.",
    )
    add_capsule(invoke)
    invoke.add_argument(
        "input",
        metavar="INPUT",
        nargs="?",
        default="null",
        help="what the tool is sent: JSON, @FILE, or - for standard input (default: null)",
    )
    how = invoke.add_mutually_exclusive_group()
    how.add_argument(
        "--record",
        action="store_true",
        help="record the call, so that it can be replayed; its policy's engine has to be deterministic",
    )
    how.add_argument(
        "--compensate",
        metavar="OUTPUT",
        help="take back the call that was sent INPUT and answered this: JSON, or @FILE",
    )
    invocations = add_command(commands, "invocations", _invocations, "show the calls of a tool, oldest first")
    add_capsule(invocations)
    add_page(invocations)
    _add_secrets(commands)


def _add_secrets(commands: Commands) -> None:
    set_ = add_command(
        commands,
        "secret set",
        _set_secret,
        "set a secret that tools use and never see",
        "Sets a secret of a tenant. Tools that are granted it use it, and never see it. It is read from standard input or "
        "a file: what stands on a command line, others can read.",
    )
    add_store(set_)
    _add_name(set_)
    set_.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        default="-",
        help="@FILE, or - for standard input (default: -); an end of line behind it is no part of it",
    )
    add_tenant(set_)
    list_ = add_command(commands, "secret list", _list_secrets, "show the names of a tenant's secrets")
    add_store(list_)
    add_tenant(list_)
    remove = add_command(commands, "secret remove", _remove_secret, "remove a secret of a tenant")
    add_store(remove)
    _add_name(remove)
    add_tenant(remove)


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the name of the secret")


def _invoke(chosen: argparse.Namespace) -> Answer:
    sent = json_value(chosen.input, "input")
    if chosen.compensate is None:
        with opened_capsule(chosen) as capsule:
            invoked = capsule.invoke(sent, record=chosen.record)
    else:
        answered = json_value(chosen.compensate, "output")
        with opened_capsule(chosen) as capsule:
            invoked = capsule.compensate(sent, answered)
    return Answer(invoked_json(chosen.tenant, chosen.job, invoked), _invoked_lines(invoked))


def _invoked_lines(invoked: Invoked) -> Iterator[str]:
    yield json.dumps(invoked.output, ensure_ascii=False)
    for line in invoked.log:
        yield f"{line.level}: {line.message}"
    for denial in invoked.denied:
        yield f"! denied {denial.interface}: {denial.detail} ({denial.rule})"
    used = invoked.used
    told = [f"{used.cpu_ms:.3g} ms of processor time", f"{used.wall_ms:.3g} ms in all"]
    if used.fuel is not None:
        told.append(f"fuel {used.fuel:,}")
    if used.host_calls:
        told.append(counted(used.host_calls, "host call"))
    if used.egress_requests:
        told.append(counted(used.egress_requests, "request"))
    yield f"{invoked.id}  {', '.join(told)}{', recorded' if invoked.recorded else ''}"


def _invocations(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        rows = capsule.invocations(chosen.after, chosen.limit)
    page = invocation_page(rows, chosen.limit)
    headers = ("sequence", "time (UTC)", "came to", "cpu ms", "id")
    cells = [
        (
            row["sequence"],
            short_time(row["time"]),
            _came_to(row),
            row["used"]["cpuMs"],
            row["invocationId"],
        )
        for row in page["invocations"]
    ]
    return counted_page(page, table(headers, cells, whole=("sequence", "time (UTC)", "cpu ms", "id")))


def _came_to(row: Mapping[str, Any]) -> str:
    told = [row["error"] or ("compensated" if row["function"] == "compensate" else "answered")]
    if row["denied"]:
        told.append(f"{len(row['denied']) + row['deniedUnlisted']} denied")
    if row["recorded"]:
        told.append("recorded")
    return ", ".join(told)


def _set_secret(chosen: argparse.Namespace) -> Answer:
    # Before anybody is asked to type it.
    check_store(chosen.store)
    value = _secret(chosen.source, chosen.name)
    with folder_alone(), open_existing(chosen.store) as store:
        was = store.tenant(chosen.tenant).set_secret(chosen.name, value)
    what = "is replaced" if was else "is set"
    return Answer(
        {"tenant": chosen.tenant, "name": chosen.name, "replaced": was},
        [f"the secret {chosen.name} of {chosen.tenant} {what}"],
    )


def _secret(source: str, name: str) -> str:
    """A secret, from where others cannot read it."""
    if source == "-":
        # A terminal would show what is typed.
        text = getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.read(_MAX_SECRET + 1)
    elif source.startswith("@"):
        with named_file(source[1:], "source").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_SECRET + 1)
    else:
        raise InvalidField(
            "a secret is not given on the command line, where others can read it",
            pointer="/source",
            remedy="write it to standard input, or to a file and name that with @FILE; and choose another secret, "
            "since this one was shown",
        )
    return text.removesuffix("\n").removesuffix("\r")


def _list_secrets(chosen: argparse.Namespace) -> Answer:
    with folder_alone(), open_existing(chosen.store) as store:
        names = store.tenant(chosen.tenant).secrets()
    return Answer({"tenant": chosen.tenant, "secrets": names}, names or ["no secrets"])


def _remove_secret(chosen: argparse.Namespace) -> Answer:
    with folder_alone(), open_existing(chosen.store) as store:
        was = store.tenant(chosen.tenant).remove_secret(chosen.name)
    if not was:
        raise InvalidField(
            f"{chosen.tenant} has no secret {chosen.name!r}",
            pointer="/name",
            value=chosen.name,
            remedy=f"capsa secret list {chosen.store} names them",
        )
    return Answer(
        {"tenant": chosen.tenant, "name": chosen.name},
        [f"the secret {chosen.name} of {chosen.tenant} is removed"],
    )
