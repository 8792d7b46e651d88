"""What a demo run answers."""

from __future__ import annotations

import msgspec

from capsa.demo._classic import Classic
from capsa.demo._experiments import Experiment
from capsa.demo._over_http import Interruption
from capsa.demo._restart import Restart


class Claim(msgspec.Struct, frozen=True):
    """Something that the demo says, and whether it held.

    Attributes:
        text: The claim, with the figures that were found.
        holds: Whether it held.
    """

    text: str
    holds: bool

    def __str__(self) -> str:
        return f"{'ok    ' if self.holds else 'FAILED'} {self.text}"


class DemoResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything that was found.

    Attributes:
        ok: Whether every claim held.
        claims: The claims.
        experiments: Three context keys under three courses of prices.
        classic: The 60 events.
        restart: The store whose process was killed.
        interruption: The server that was killed while the streams ran; ``None`` in process.
        picture: The path of the PNG.
        seconds: How long it took.
    """

    ok: bool
    claims: list[Claim]
    experiments: list[Experiment]
    classic: Classic
    restart: Restart
    picture: str
    seconds: float
    interruption: Interruption | None = None
