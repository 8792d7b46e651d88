"""``capsa demo static-policy``: rules that somebody fixes once, against the learner on the same streams.

A fixed rule is chosen from the first requests with every outcome of every model known, which is more than any test could
find out, and it costs nothing. The learner knows what its own choices came to. Both are scored on all requests after these.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from capsa.demo._experiments import BY_TIER, CUTS, ONE_PRICE
from capsa.demo._result import Claim
from capsa.demo._simulation import Run
from capsa.demo._simulation import run as simulate
from capsa.demo._table import prompts
from capsa.demo.static import _text
from capsa.demo.static._rules import Comparison, compared

__all__ = ["Comparison", "StaticResult", "run"]

#: The picture's file name.
PICTURE: Final = "static-policy.png"

_STEPS: Final = [(setup, cut) for setup in (BY_TIER, ONE_PRICE) for cut in CUTS]


class StaticResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything that was found.

    Attributes:
        ok: Whether every claim held.
        claims: The claims.
        comparisons: Two setups under three courses of prices.
        picture: The path of the PNG.
        seconds: How long it took.
    """

    ok: bool
    claims: list[Claim]
    comparisons: list[Comparison]
    picture: str
    seconds: float


def run(out_dir: Path, seeds: int, echo: Callable[[str], None]) -> StaticResult:
    """Runs it in process, and writes its picture.

    Args:
        out_dir: Where the picture goes; made if it is not there.
        seeds: How many repetitions, from 1. Their seeds count from 0.
        echo: Is given what a person reads, line by line, as it happens.

    Raises:
        ModuleNotFoundError: There is nothing to draw with.
        OSError: The picture cannot be written.
    """
    # Heavy, and at the beginning: where it is missing, nobody waits to hear so.
    from capsa.demo.static._picture import draw

    started = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    table = prompts()
    for line in _text.opening(len(table), seeds):
        echo(line)
    echo("")
    comparisons: list[Comparison] = []
    drawn: list[tuple[Comparison, list[Run]]] = []
    for number, (setup, cut) in enumerate(_STEPS, start=1):
        runs = [simulate(setup.spec(), table, seed, tiers=setup.tiers, cut=cut) for seed in range(seeds)]
        comparisons.append(compared(setup, cut, runs))
        drawn.append((comparisons[-1], runs))
        echo(f"[{number}/{len(_STEPS)}] {_text.title(comparisons[-1])} ({time.monotonic() - started:.0f} s)")
    picture = out_dir / PICTURE
    draw(picture, drawn)
    for setup in (BY_TIER, ONE_PRICE):
        for line in _text.table([each for each in comparisons if each.setup == setup]):
            echo(line)
    claims = list(_text.claims(comparisons))
    echo("")
    for claim in claims:
        echo(str(claim))
    result = StaticResult(
        ok=all(claim.holds for claim in claims),
        claims=claims,
        comparisons=comparisons,
        picture=str(picture),
        seconds=time.monotonic() - started,
    )
    echo(f"wrote {picture} ({result.seconds:.0f} s in all)")
    return result
