"""Bytes changed by chance, and kept where they lead to lines that none before them has reached.

For code in Python; what is native has libFuzzer (`crates/capsa-fuzz`).
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

#: Longer than this no mutation gets.
MAX_BYTES: Final = 8192
#: Processor time that one input may take; many times what the longest takes.
MAX_SECONDS: Final = 2.0

_EDGE = tuple[str, int, int]


@dataclass(frozen=True)
class Target:
    """Something that reads bytes.

    Attributes:
        name: Also the name of its folder of seeds.
        run: Raises whatever is not an answer to a caller.
        words: Pieces that its inputs are made of.
        covered: The folder whose lines count; ``None`` where the code is native.
    """

    name: str
    run: Callable[[bytes], None]
    words: Sequence[bytes]
    covered: Path | None = None

    @property
    def folder(self) -> Path:
        """Its seeds; what has failed is kept there, too."""
        return Path(__file__).parent / "seeds" / self.name

    def seeds(self) -> list[bytes]:
        """What to begin with, in the order of the files' names."""
        return [path.read_bytes() for path in sorted(self.folder.iterdir())]

    def check(self, data: bytes) -> None:
        """Runs one input, and measures it.

        Raises:
            AssertionError: It failed, or took too long.
        """
        began = time.process_time()
        try:
            self.run(data)
        except BaseException as error:
            raise AssertionError(f"{self.name}: {error!r} of {data!r}") from error
        seconds = time.process_time() - began
        assert seconds < MAX_SECONDS, f"{self.name}: {seconds:.1f} s for {data!r}"


def mutated(seed: bytes, other: bytes, words: Sequence[bytes], chance: random.Random) -> bytes:
    """One seed changed in one to four places, with words and parts of another."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((0, 1, 1, 4, 16)))
        how = chance.randrange(7)
        if how == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            data[at:end] = chance.randbytes(chance.randint(1, 4))
        elif how in (2, 3):
            data[at:end] = chance.choice(words)
        elif how == 4 and other:
            start = chance.randrange(len(other))
            data[at:end] = other[start : start + chance.randint(1, 64)]
        elif how == 5:
            data[at:at] = data[at:end] * chance.randint(1, 3)
        else:
            del data[at : max(end, at + 1)]
    return bytes(data[: max(MAX_BYTES, len(seed))])


@dataclass
class Search:
    """A hunt for inputs that fail, led by coverage.

    Attributes:
        kept: The seeds, and every input that has reached something new.
        edges: Pairs of lines that were run one after the other.
        runs: How many inputs there were.
    """

    target: Target
    chance: random.Random
    kept: list[bytes] = field(default_factory=list)
    edges: set[_EDGE] = field(default_factory=set)
    runs: int = 0

    def run(self, seconds: float) -> Iterator[str]:
        """Goes on for so long; yields a line of report now and then.

        Raises:
            AssertionError: An input has failed; it is kept among the seeds.
        """
        began = told = time.monotonic()
        for seed in self.target.seeds():
            self._try(seed)
        while (now := time.monotonic()) - began < seconds:
            seed, other = self.chance.choice(self.kept), self.chance.choice(self.kept)
            self._try(mutated(seed, other, self.target.words, self.chance))
            if now - told > 30:
                told = now
                yield self.report(now - began)
        yield f"done: {self.report(time.monotonic() - began)}"

    def report(self, seconds: float) -> str:
        """How far it is."""
        return (
            f"{self.target.name}: {self.runs} runs in {seconds:.0f} s, {len(self.edges)} edges, "
            f"{len(self.kept)} inputs kept"
        )

    def _try(self, data: bytes) -> None:
        self.runs += 1
        reached: set[_EDGE] = set()
        if self.target.covered:
            sys.settrace(_tracer(str(self.target.covered), reached))
        try:
            self.target.check(data)
        except AssertionError:
            name = "failed-" + hashlib.blake2b(data, digest_size=8).hexdigest()
            (self.target.folder / name).write_bytes(data)
            raise
        finally:
            sys.settrace(None)
        if not reached <= self.edges or self.runs <= len(self.target.seeds()):
            self.edges |= reached
            self.kept.append(data)


def _tracer(folder: str, reached: set[_EDGE]) -> Callable[[FrameType, str, Any], Any]:
    def called(frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(folder):
            return None
        last = 0

        def stepped(inner: FrameType, event: str, _argument: object) -> Any:
            nonlocal last
            if event == "line":
                reached.add((file, last, inner.f_lineno))
                last = inner.f_lineno
            return stepped

        return stepped

    return called
