"""The demo: a capsule learns to route real prompts over three models, and is held against every simpler rule.

Everything goes through the public API and a capsule compiled from ``data/llm-router.yaml``: over HTTP with a server that
is killed in the middle, or in process. What the demo says is checked: `DemoResult.ok` tells whether all of it held.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from capsa.demo import _text
from capsa.demo._classic import Classic, classic
from capsa.demo._experiments import BY_TIER, CUTS, SETUPS, Experiment, summary
from capsa.demo._hero import HeroResult, hero, lesson
from capsa.demo._over_http import HttpShop, Interruption, OverHttp
from capsa.demo._restart import Restart, audited, restart, route
from capsa.demo._result import Claim, DemoResult
from capsa.demo._served import Served, ended_by_signals
from capsa.demo._simulation import Run
from capsa.demo._simulation import run as simulate
from capsa.demo._table import Prompt, prompts

__all__ = ["Claim", "Classic", "DemoResult", "Experiment", "HeroResult", "hero", "run"]

#: The picture's file name.
PICTURE = "llm-routing.png"

#: What is run, in this order.
_STEPS = [(setup, cut) for setup in SETUPS for cut in CUTS]


class _Found(NamedTuple):
    """What came out; `drawn` are the runs of the picture, by the model that became cheaper."""

    experiments: list[Experiment]
    drawn: dict[str | None, list[Run]]
    classic: Classic
    restart: Restart
    interruption: Interruption | None


def run(out_dir: Path, seeds: int, echo: Callable[[str], None], *, in_process: bool = True) -> DemoResult:
    """Runs the demo and writes its picture.

    Args:
        out_dir: Where the picture goes; made if it is not there.
        seeds: How many repetitions, from 1. Their seeds count from 0.
        echo: Is given what a person reads, line by line, as it happens.
        in_process: Without a server: the same figures every time. Otherwise `capsa serve` is started, killed, started
            again and ended, and draws the decisions itself.

    Raises:
        HostFault: No store can be kept in the folder for temporary files, or no server be run.
        ModuleNotFoundError: There is nothing to draw with.
        OSError: The picture cannot be written.
    """
    # Heavy, and at the beginning: where it is missing, nobody waits to hear so.
    from capsa.demo._picture import draw

    started = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    table = prompts()
    _say(echo, _text.opening(table, seeds))
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "demo"
        found = (_in_process if in_process else _behind_a_server)(where, table, seeds, echo)
    picture = out_dir / PICTURE
    draw(picture, found.drawn)
    for setup in SETUPS:
        _say(echo, _text.table([each for each in found.experiments if each.setup == setup]))
        if setup == BY_TIER:
            for cut, runs in found.drawn.items():
                if cut is not None:
                    echo(_text.noticed(runs, cut))
    _say(echo, _text.classic_lines(found.classic))
    _say(echo, _text.restart_lines(found.restart))
    claims = list(_text.claims(found.experiments, found.classic, found.restart, found.interruption))
    echo("")
    for claim in claims:
        echo(str(claim))
    result = DemoResult(
        ok=all(claim.holds for claim in claims),
        claims=claims,
        experiments=found.experiments,
        classic=found.classic,
        restart=found.restart,
        picture=str(picture),
        seconds=time.monotonic() - started,
        interruption=found.interruption,
    )
    echo(f"wrote {picture} ({result.seconds:.0f} s in all)")
    return result


def _in_process(where: Path, table: list[Prompt], seeds: int, echo: Callable[[str], None]) -> _Found:
    echo("")
    # First, though it is told last: it needs a disk, and where there is none, nobody waits a minute to hear so.
    restarted = restart(table, where)

    texts = ((setup.spec(), setup, cut) for setup, cut in _STEPS)
    runs = (
        [simulate(text, table, seed, tiers=setup.tiers, cut=cut) for seed in range(seeds)]
        for text, setup, cut in texts
    )
    experiments, drawn = _conducted(runs, echo)
    return _Found(experiments, drawn, classic(), restarted, None)


def _behind_a_server(where: Path, table: list[Prompt], seeds: int, echo: Callable[[str], None]) -> _Found:
    with ended_by_signals(), Served(where) as served:
        _say(echo, _text.over_http(served.url))
        with OverHttp(served, echo) as over:
            routed = route(table, HttpShop(over, echo))
            echo("")
            experiments, drawn = _conducted(over.route(_STEPS, table, seeds), echo)
            _, learned = lesson(over)
        served.stop()
        echo(
            f"the server has stopped; its journal, {_mib(served.store):.0f} MiB, is checked from first to last"
        )
        return _Found(experiments, drawn, learned, audited(served.store, routed), over.interruption)


def _conducted(
    done: Iterable[list[Run]], echo: Callable[[str], None]
) -> tuple[list[Experiment], dict[str | None, list[Run]]]:
    """Every step, told as it ends; and the runs of the picture."""
    started = time.monotonic()
    experiments: list[Experiment] = []
    drawn: dict[str | None, list[Run]] = {}
    for number, ((setup, cut), runs) in enumerate(zip(_STEPS, done, strict=True), start=1):
        experiments.append(summary(setup, cut, runs))
        if setup == BY_TIER and cut in CUTS[:2]:
            drawn[cut] = runs
        elapsed = time.monotonic() - started
        echo(
            f"[{number}/{len(_STEPS)}] {_text.setup_name(setup)}; prices {_text.prices(cut)} ({elapsed:.0f} s)"
        )
    return experiments, drawn


def _mib(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / (1 << 20)


def _say(echo: Callable[[str], None], lines: Iterable[str]) -> None:
    for line in lines:
        echo(line)
