"""What was typed: the command it names, and one sentence where it names none."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Never, TypeAlias

from capsa.errors import CapsaError, shown

if TYPE_CHECKING:
    from capsa.cli._output import Answer

#: Where commands are added. A text: argparse takes the parameter in its stub only.
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class WrongUse(CapsaError):
    """Words that are no command of ours; nothing was done."""

    code = "wrong-use"


class Parser(argparse.ArgumentParser):
    """The arguments of one command. What does not fit is a `WrongUse`; names are written out in full."""

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """What was typed behind the command.

        Raises:
            WrongUse: It does not fit.
        """
        options = self._option_string_actions
        # Before anything else: argparse would take a part of a name for it, and the value of one that does not exist
        # for something else.
        for word in takewhile("--".__ne__, words):
            name = word.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in options:
                self._refuse(f"{self.prog} has no argument {shown(name)}", _meant(nearest(name, options)))
        return self.parse_args(words)

    def error(self, message: str) -> Never:
        """Refuses what argparse refuses."""
        remedy = None
        if message.endswith("expected one argument"):
            name = message.removeprefix("argument ").partition(":")[0].rpartition("/")[2]
            remedy = f"write {name}=VALUE, with the = where the value begins with -"
        elif message.startswith("the following arguments are required"):
            wanted = [
                f"[{action.metavar}]" if action.nargs == "?" else str(action.metavar)
                for action in self._actions
                if not action.option_strings
            ]
            remedy = f"write {' '.join([self.prog, *wanted])}"
        self._refuse(message[:300], remedy)

    def _refuse(self, detail: str, remedy: str | None) -> Never:
        help_ = f"see {self.prog} --help"
        raise WrongUse(detail, remedy=f"{remedy}, or {help_}" if remedy else help_)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], Answer],
    help_: str,
    description: str = "",
) -> Parser:
    """Adds a command.

    Args:
        commands: Where it is added.
        name: One word or two.
        run: Does it.
        help_: What it does, beginning with a verb, as it stands in the list of commands.
        description: More about it, in sentences. Left out: `help_` as a sentence.
    """
    verb, _, rest = help_.partition(" ")
    command = commands.add_parser(
        name, help=help_, description=description or f"{verb.capitalize()}s {rest}."
    )
    command.set_defaults(run=run)
    return command


def read_words(commands: Mapping[str, Parser], words: Sequence[str]) -> argparse.Namespace:
    """The command that was typed, and its arguments.

    Raises:
        WrongUse: It is none, or they do not fit.
    """
    if not words:
        raise WrongUse("no command was given", remedy="capsa --help names them")
    first, two = words[0], " ".join(words[:2])
    if first.startswith("-"):
        raise WrongUse(
            f"{shown(first)} stands where a command belongs",
            remedy="write capsa COMMAND first, and the rest behind it",
        )
    if len(words) > 1 and two in commands:
        return commands[two].read(words[2:])
    longer = [name for name in commands if " " in name]
    if first in commands:
        try:
            return commands[first].read(words[1:])
        except WrongUse as error:
            # `audit verfy STORE` is not about a store of that name.
            below = [name for name in longer if name.startswith(f"{first} ")]
            meant = nearest(two, below) if len(words) > 1 else None
            raise WrongUse(error.detail, remedy=_meant(meant) or error.remedy) from None
    meant = nearest(two, longer) or nearest(first, commands)
    meant = meant or next((name for name in longer if name.startswith(f"{first} ")), None)
    raise WrongUse(f"there is no command {shown(first)!r}", remedy=_meant(meant) or "capsa --help names them")


def nearest(word: str, names: Collection[str]) -> str | None:
    """The name that somebody may have meant; ``None`` where none is like it."""
    return next(iter(difflib.get_close_matches(word, names, n=1, cutoff=0.7)), None)


def _meant(name: str | None) -> str | None:
    return name and f"did you mean {name}"
