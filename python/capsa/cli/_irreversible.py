"""What cannot be taken back: ``purge``, ``erase`` and ``keys rotate``."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from capsa.cli._arguments import add_store, add_tenant
from capsa.cli._output import Answer, counted, printable
from capsa.cli._store import check_store, open_existing
from capsa.cli._usage import Commands, Parser, WrongUse, add_command
from capsa.decisions._history import to_json
from capsa.errors import CapsaError

_COPIES: Final = ". Backups and exports that were made before still hold them"


def add_commands(commands: Commands) -> None:
    """Adds what cannot be taken back."""
    purge = add_command(
        commands,
        "purge",
        _purge,
        "remove everything of one tenant for good",
        "Removes all events of a tenant, and all that its capsules have learned, for good. That it was done, by whom and when, stays on record.",
    )
    _add_final(purge)
    purge.add_argument("tenant", metavar="TENANT", help="the tenant")
    erase = add_command(
        commands,
        "erase",
        _erase,
        "remove what is recorded of one subject for good",
        "Removes the content of all decisions about one subject, and of the feedback on them, for good. What was "
        "learned from them stays learned.",
    )
    _add_final(erase)
    erase.add_argument("subject", metavar="SUBJECT", help="the subject, as it was given with the decisions")
    add_tenant(erase)
    rotate = add_command(
        commands,
        "keys rotate",
        _rotate,
        "make a new key for decision ids",
        "Makes a new key that seals the ids of new decisions. Ids under older keys still open.",
    )
    _add_final(rotate)


def _add_final(command: Parser) -> None:
    add_store(command)
    command.add_argument("--yes", action="store_true", help="do it without asking")


def _purge(chosen: argparse.Namespace) -> Answer:
    _confirm(chosen, f"everything of tenant {chosen.tenant} will be removed from {chosen.store}")
    with open_existing(chosen.store) as store:
        done = store.purge(chosen.tenant)
    what = f"{counted(done.events, 'event')} and {counted(done.capsules, 'capsule')}"
    line = f"purged {done.tenant}: {what} are removed{_COPIES}"
    return Answer(to_json(done), [line])


def _erase(chosen: argparse.Namespace) -> Answer:
    # The subject is not repeated: what is said here may be kept in a log.
    _confirm(chosen, f"what tenant {chosen.tenant} has on record of this subject will be removed")
    with open_existing(chosen.store) as store:
        done = store.erase_subject(chosen.subject, tenant=chosen.tenant)
    what = f"the content of {counted(done.events, 'event')} about {counted(done.decisions, 'decision')}"
    line = f"erased in {done.tenant}: {what}{_COPIES}"
    if not done.decisions:
        line = f"{done.tenant} has nothing on record of this subject"
    return Answer(to_json(done), [line])


def _rotate(chosen: argparse.Namespace) -> Answer:
    _confirm(chosen, "new decisions will get ids under a new key, which no backup has yet")
    with open_existing(chosen.store) as store:
        number = store.rotate_keys()
    return Answer(
        {"key": number},
        [f"new decisions get ids under key {number}; older ids still open. Make a backup with --keys now"],
    )


def _confirm(chosen: argparse.Namespace, what: str) -> None:
    """Asks a person, unless ``--yes`` was given.

    Raises:
        NotAStore: There is no store.
        WrongUse: Nobody can be asked.
        CapsaError: The answer is not yes.
    """
    check_store(chosen.store)
    if chosen.yes:
        return
    warning = f"{what}; this cannot be taken back"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongUse(f"{warning}, and there is no terminal to ask at", remedy="add --yes to do it")
    print(f"{printable(warning)}. Write yes to go on: ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        # The input ended, and so did no line.
        print(file=sys.stderr)
    if answer.strip().lower() != "yes":
        raise CapsaError("nothing was changed", remedy="write yes when asked, or give --yes")
