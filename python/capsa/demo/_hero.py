"""``capsa demo hero``: 60 outcomes teach a server which model to take, and a kill changes nothing of it."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from capsa.demo._classic import LESSONS, RIGHT_WEIGHT, UNSEEN, Classic, examine, teach, weights
from capsa.demo._over_http import OverHttp
from capsa.demo._result import Claim
from capsa.demo._served import Served, ended_by_signals
from capsa.demo._table import spec
from capsa.demo._text import classic_claims, classic_lines

#: Decisions in each context once it was taught. With 98.7 % each, fewer than 90 right ones come once in 10^7 runs.
ASKED: Final = 100
RIGHT_ASKED: Final = 90

#: After these events of a lesson its weights are shown.
_SHOWN: Final = (1, 5, 10, 15, 20, 30)


class HeroResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything that was found.

    Attributes:
        ok: Whether every claim held.
        claims: The claims.
        classic: What was learned, as the second server tells it.
        chosen: How often each option was chosen afterwards, by context.
        seconds: How long it took.
    """

    ok: bool
    claims: list[Claim]
    classic: Classic
    chosen: dict[str, dict[str, int]]
    seconds: float


def hero(echo: Callable[[str], None]) -> HeroResult:
    """Runs it on a server of its own.

    Args:
        echo: Is given what a person reads, line by line, as it happens.

    Raises:
        HostFault: No server can be run, or no store be kept in the folder for temporary files.
    """
    started = time.monotonic()
    with (
        ended_by_signals(),
        tempfile.TemporaryDirectory() as folder,
        Served(Path(folder) / "served") as served,
        OverHttp(served, echo) as over,
    ):
        echo(
            f"capsa serve in a process of its own, at {served.url}; every line is a feedback over HTTP, on disk"
        )
        echo("")
        router, learned = lesson(over, echo)
        with over.explained():
            chosen = {
                key: dict(Counter(router.decide(context_key=key).option_name for _ in range(ASKED)))
                for key in (*LESSONS, UNSEEN)
            }
    for line in classic_lines(learned):
        echo(line)
    echo(f"  of {ASKED} decisions each: {_told(chosen)}")
    claims = [*classic_claims(learned), _choice_claim(chosen)]
    echo("")
    for claim in claims:
        echo(str(claim))
    return HeroResult(
        ok=all(claim.holds for claim in claims),
        claims=claims,
        classic=learned,
        chosen=chosen,
        seconds=time.monotonic() - started,
    )


def lesson(over: OverHttp, echo: Callable[[str], None] | None = None) -> tuple[Any, Classic]:
    """Teaches the classic to a capsule behind the server, which is then killed and started again.

    Returns:
        The capsule, and what it knows afterwards.
    """
    router = over.install("classic", spec("classic"))
    with over.explained():

        def show(event: int, key: str) -> None:
            if echo is not None and event in _SHOWN:
                told = "  ".join(f"{name} {weight:.1%}" for name, weight in weights(router, key).items())
                echo(f"  {key} {event:>2}: {told}")

        teach(router, show)
        before, state = examine(router), router.report().state_hash
        over.restart()
        after, kept_state = examine(router), router.report().state_hash
    if echo is not None:
        echo(f"  kill -9, started again: state hash {state[:15]}… before, {kept_state[:15]}… after")
    return router, msgspec.structs.replace(after, kept=after == before and state == kept_state)


def _told(chosen: dict[str, dict[str, int]]) -> str:
    return "; ".join(
        f"{key} {', '.join(f'{name} {count}' for name, count in sorted(counts.items(), key=lambda each: -each[1]))}"
        for key, counts in chosen.items()
    )


def _choice_claim(chosen: dict[str, dict[str, int]]) -> Claim:
    right = min(chosen[key].get(option, 0) for key, option in LESSONS.items())
    return Claim(
        f"afterwards the right option was chosen {right} times of {ASKED} or more (asked: {RIGHT_ASKED})",
        right >= RIGHT_ASKED,
    )


assert RIGHT_ASKED / ASKED < RIGHT_WEIGHT
