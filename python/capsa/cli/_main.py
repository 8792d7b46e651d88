"""Arguments and exit codes.

Exit codes: 0 done · 1 refused or failed, said on standard error · 2 wrong use · 130 interrupted.
With ``--json`` the result, or the error, is one JSON document on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from capsa import __version__
from capsa.cli import _author, _demo, _doctor, _history, _store
from capsa.cli._output import say_failure
from capsa.errors import CapsaError

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        result: dict[str, Any] = chosen.run(chosen)
        if chosen.json:
            print(json.dumps(result, ensure_ascii=False))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read it has seen enough. Python would say so once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (CapsaError, OSError) as error:
        say_failure(error, as_json=chosen.json, source=getattr(chosen, "spec", None))
        return EXIT_FAILED
    return 0 if result.get("ok", True) else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capsa", description="Decisions that learn from feedback, in sandboxed capsules."
    )
    parser.add_argument("--version", action="version", version=f"capsa {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for concept in (_author, _demo, _store, _history, _doctor):
        concept.add_commands(commands)
    return parser
