"""Time as a test sets it."""

from __future__ import annotations

#: 2027-01-15, in seconds since 1970.
START_S = 1_800_000_000.0


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s

    @property
    def now_ms(self) -> int:
        """As the store reads it."""
        return int(self.now_s * 1000)

    def forward(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_s += seconds
