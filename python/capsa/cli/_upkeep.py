"""``capsa upkeep``: what a service does every few seconds, done once."""

from __future__ import annotations

import argparse

from capsa.cli._arguments import add_store
from capsa.cli._output import Answer, counted
from capsa.cli._store import check_store, open_existing
from capsa.cli._usage import Commands, add_command
from capsa.decisions._history import to_json


def add_commands(commands: Commands) -> None:
    """Adds ``upkeep``."""
    upkeep = add_command(
        commands,
        "upkeep",
        _upkeep,
        "deal with horizons that have passed, sign a checkpoint, and cut off what is old",
        "Does once what a service that has the store open does every few seconds: deals with decisions whose horizon has "
        "passed, seals the state where that is due, and signs a checkpoint. With --retention it also cuts off older events.",
    )
    add_store(upkeep)
    upkeep.add_argument(
        "--retention",
        metavar="DURATION",
        help="cut off events that are older, for example 90d; left out: none",
    )


def _upkeep(chosen: argparse.Namespace) -> Answer:
    check_store(chosen.store)
    with open_existing(chosen.store, retention=chosen.retention) as store:
        done = store.upkeep()
    return Answer(
        to_json(done),
        [
            f"{counted(done.horizons, 'horizon')} dealt with, {counted(done.snapshots, 'snapshot')} sealed, "
            f"{counted(done.checkpoints, 'checkpoint')} signed, {counted(done.cut, 'event')} cut off"
        ],
    )
