"""``capsa demo …``: the demonstrations."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from capsa.cli._arguments import add_json, path, whole_number
from capsa.cli._output import Answer
from capsa.cli._usage import Commands, add_command
from capsa.errors import CapsaError

if TYPE_CHECKING:
    import msgspec


def add_commands(commands: Commands) -> None:
    """Adds ``demo``, ``demo hero`` and ``demo static-policy``."""
    demo = add_command(
        commands,
        "demo",
        _demo,
        "route real prompts over three models and draw what was learned",
        "Routes 1,785 real prompts over three models and draws what was learned. A server is started for it, killed in "
        "the middle, and ended.",
    )
    _add_seeds(demo)
    _add_out(demo)
    demo.add_argument(
        "--in-process", action="store_true", help="without a server: the same figures in every run"
    )
    add_json(demo)
    hero = add_command(
        commands,
        "demo hero",
        _hero,
        "teach a server which model to take, kill it and start it again",
        "Teaches a server in 60 feedbacks which model to take for whom, kills it, and looks what it knows.",
    )
    add_json(hero)
    static = add_command(
        commands,
        "demo static-policy",
        _static,
        "hold fixed rules of routing against the learner",
        "Holds fixed rules of routing, chosen from the first requests, against the learner on the same streams.",
    )
    _add_seeds(static)
    _add_out(static)
    add_json(static)


def _add_seeds(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seeds",
        type=whole_number(1, 100),
        default=5,
        metavar="N",
        help="how many repetitions, 1 to 100 (default: 5)",
    )


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=path,
        default=Path("capsa-demo"),
        metavar="DIR",
        help="where the picture goes (default: capsa-demo)",
    )


def _demo(chosen: argparse.Namespace) -> Answer:
    from capsa import demo

    return _told(
        chosen,
        lambda echo: demo.run(chosen.out, chosen.seeds, echo, in_process=chosen.in_process),
    )


def _hero(chosen: argparse.Namespace) -> Answer:
    from capsa import demo

    return _told(chosen, demo.hero)


def _static(chosen: argparse.Namespace) -> Answer:
    from capsa.demo.static import run

    return _told(chosen, lambda echo: run(chosen.out, chosen.seeds, echo))


def _told(chosen: argparse.Namespace, run: Callable[[Callable[[str], None]], msgspec.Struct]) -> Answer:
    """The result of a demo, which tells what happens as it happens."""
    import msgspec

    # Progress is for a person; with --json standard output holds the result alone.
    stream = sys.stderr if chosen.json else sys.stdout
    try:
        result = run(lambda line: print(line, file=stream, flush=True))
    except ModuleNotFoundError as error:
        raise CapsaError(f"the demo needs {error.name}", remedy="pip install 'capsa[demo]'") from None
    # All of it was said as it happened.
    return Answer(msgspec.to_builtins(result), ())
