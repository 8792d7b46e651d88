"""The demo: a capsule learns to route real prompts over three models, and is held against every simpler rule.

Everything goes through the public API and a capsule compiled from ``data/llm-router.yaml``. What the demo says is
checked: `DemoResult.ok` tells whether all of it held.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from capsa.demo import _text
from capsa.demo._classic import Classic, classic
from capsa.demo._experiments import BY_TIER, CUTS, SETUPS, Experiment, conduct
from capsa.demo._picture import draw
from capsa.demo._restart import restart
from capsa.demo._result import Claim, DemoResult
from capsa.demo._simulation import Run
from capsa.demo._table import prompts

__all__ = ["Claim", "Classic", "DemoResult", "Experiment", "run"]

#: The picture's file name.
PICTURE = "llm-routing.png"


def run(out_dir: Path, seeds: int, echo: Callable[[str], None]) -> DemoResult:
    """Runs the demo and writes its picture.

    Args:
        out_dir: Where the picture goes; made if it is not there.
        seeds: How many repetitions, from 1. Their seeds count from 0.
        echo: Is given what a person reads, line by line, as it happens.

    Raises:
        HostFault: No store can be kept in the folder for temporary files.
        OSError: The picture cannot be written.
    """
    started = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    table = prompts()
    _say(echo, _text.opening(table, seeds))
    echo("")
    # First, though it is told last: it needs a disk, and where there is none, nobody waits a minute to hear so.
    with tempfile.TemporaryDirectory() as folder:
        restarted = restart(table, Path(folder) / "store")
    experiments: list[Experiment] = []
    drawn: dict[str | None, list[Run]] = {}
    steps = [(setup, cut) for setup in SETUPS for cut in CUTS]
    for number, (setup, cut) in enumerate(steps, start=1):
        experiment, runs = conduct(setup, cut, table, seeds)
        experiments.append(experiment)
        if setup == BY_TIER and cut in CUTS[:2]:
            drawn[cut] = runs
        elapsed = time.monotonic() - started
        echo(
            f"[{number}/{len(steps)}] {_text.setup_name(setup)}; prices {_text.prices(cut)} ({elapsed:.0f} s)"
        )
    learned = classic()
    picture = out_dir / PICTURE
    draw(picture, drawn)
    for setup in SETUPS:
        _say(echo, _text.table([each for each in experiments if each.setup == setup]))
        if setup == BY_TIER:
            for cut, runs in drawn.items():
                if cut is not None:
                    echo(_text.noticed(runs, cut))
    _say(echo, _text.classic_lines(learned))
    _say(echo, _text.restart_lines(restarted))
    claims = list(_text.claims(experiments, learned, restarted))
    echo("")
    for claim in claims:
        echo(f"{'ok    ' if claim.holds else 'FAILED'} {claim.text}")
    result = DemoResult(
        ok=all(claim.holds for claim in claims),
        claims=claims,
        experiments=experiments,
        classic=learned,
        restart=restarted,
        picture=str(picture),
        seconds=time.monotonic() - started,
    )
    echo(f"wrote {picture} ({result.seconds:.0f} s in all)")
    return result


def _say(echo: Callable[[str], None], lines: Iterable[str]) -> None:
    for line in lines:
        echo(line)
