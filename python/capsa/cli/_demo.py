"""``capsa demo``: the demonstration on real prompts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from capsa.cli._arguments import add_json, path, whole_number
from capsa.cli._output import Answer
from capsa.cli._usage import Commands, add_command
from capsa.errors import CapsaError


def add_commands(commands: Commands) -> None:
    """Adds ``demo``."""
    demo = add_command(
        commands,
        "demo",
        _demo,
        "route real prompts over three models and draw what was learned",
        "Routes 1,785 real prompts over three models and draws what was learned.",
    )
    demo.add_argument(
        "--seeds",
        type=whole_number(1, 100),
        default=5,
        metavar="N",
        help="how many repetitions, 1 to 100 (default: 5)",
    )
    demo.add_argument(
        "--out",
        type=path,
        default=Path("capsa-demo"),
        metavar="DIR",
        help="where the picture goes (default: capsa-demo)",
    )
    add_json(demo)


def _demo(chosen: argparse.Namespace) -> Answer:
    try:
        from capsa import demo
    except ModuleNotFoundError as error:
        raise CapsaError(f"the demo needs {error.name}", remedy="pip install 'capsa[demo]'") from None
    import msgspec

    # Progress is for a person; with --json standard output holds the result alone.
    stream = sys.stderr if chosen.json else sys.stdout
    result = demo.run(chosen.out, seeds=chosen.seeds, echo=lambda line: print(line, file=stream, flush=True))
    # All of it was said as it happened.
    return Answer(msgspec.to_builtins(result), ())
