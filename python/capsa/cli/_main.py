"""From what was typed to an exit code.

Exit codes: 0 done · 1 refused, failed, or not equal · 2 wrong use · 130 interrupted. What is wrong stands on standard
error. With ``--json`` the result, or the error, is one JSON document on standard output.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

from capsa import __version__
from capsa.cli import (
    _audit,
    _author,
    _copies,
    _demo,
    _doctor,
    _history,
    _install,
    _irreversible,
    _policy,
    _serve,
    _signing,
    _store,
    _tools,
    _upkeep,
)
from capsa.cli._output import complain, open_streams, say, say_failure
from capsa.cli._usage import Parser, WrongUse, read_words
from capsa.errors import CapsaError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    open_streams()
    try:
        code = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED
    except OSError as error:
        # Whoever closed a pipe has seen enough.
        if not isinstance(error, BrokenPipeError):
            complain(f"capsa: standard output cannot be written: {error.strerror}")
        return EXIT_FAILED
    return code


def _run(words: Sequence[str]) -> int:
    """Runs one command.

    Raises:
        OSError: Its answer cannot be printed.
    """
    as_json = "--json" in words
    source = None
    try:
        chosen = _read(words)
        source = getattr(chosen, "spec", None)
        answer = chosen.run(chosen)
    except BrokenPipeError:
        raise
    except (CapsaError, OSError) as error:
        say_failure(error, as_json=as_json, source=source)
        return EXIT_USAGE if isinstance(error, WrongUse) else EXIT_FAILED
    say(answer, as_json=as_json)
    return 0 if answer.values.get("ok", True) else EXIT_FAILED


def _read(words: Sequence[str]) -> Namespace:
    parser = Parser(prog="capsa", description="Decisions that learn from feedback, in sandboxed capsules.")
    parser.add_argument("--version", action="version", version=f"capsa {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for concept in (
        _author,
        _demo,
        _install,
        _store,
        _tools,
        _policy,
        _serve,
        _signing,
        _history,
        _audit,
        _copies,
        _upkeep,
        _irreversible,
        _doctor,
    ):
        concept.add_commands(commands)
    if words and words[0] in ("-h", "--help", "--version"):
        # It prints, and ends the process.
        parser.parse_args(words[:1])
    return read_words(commands.choices, words)
