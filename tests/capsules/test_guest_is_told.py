"""What a decision capsule is told: its input, and of what was chosen the option and its propensity. No draw, no weight.

The guest logs every byte that its host hands it, which lies where its `cabi_realloc` says: nothing can be told beside that.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from typing import Final

import pytest
from tests.sandbox import guests
from tests.sandbox.stored import _defined

import capsa
from capsa import _native

SPEC: Final = (
    "name: told\noptions: [left, rite]\ncontexts: [task]\nreward: {quality: 1}\nreward_range: [0, 1]\n"
)
#: Behind the arguments, 16 bytes, comes what the allocator handed out.
_FROM: Final = 131_056
_TELL: Final = f"""
    (func $digit (param i32) (result i32)
        (i32.add (local.get 0) (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get 0) (i32.const 10)))))
    (func $tell (param i32 i32 i32 i32) (local $at i32) (local $to i32)
        (i32.store (i32.const {_FROM}) (local.get 0))
        (i32.store (i32.const {_FROM + 4}) (local.get 1))
        (i32.store (i32.const {_FROM + 8}) (local.get 2))
        (i32.store (i32.const {_FROM + 12}) (local.get 3))
        (local.set $at (i32.const {_FROM}))
        (local.set $to (i32.const 65536))
        (loop $next
            (i32.store8 (local.get $to) (call $digit (i32.shr_u (i32.load8_u (local.get $at)) (i32.const 4))))
            (i32.store8 offset=1 (local.get $to) (call $digit (i32.and (i32.load8_u (local.get $at)) (i32.const 15))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $to (i32.add (local.get $to) (i32.const 2)))
            (br_if $next (i32.lt_u (local.get $at) (global.get $heap))))
        (call $log (i32.const 1) (i32.const 65536) (i32.sub (local.get $to) (i32.const 65536))))
"""


class Told(logging.Handler):
    """What a guest was handed, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[bytes] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a line of its log."""
        self.handed.append(bytes.fromhex(record.getMessage().rpartition(": ")[2]))

    def take(self) -> bytes:
        """What one call was handed."""
        [handed] = self.handed
        self.handed.clear()
        return handed


@pytest.fixture
def told() -> Iterator[Told]:
    handler, logger = Told(), logging.getLogger("capsa.capsule")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def component() -> bytes:
    """Its one choice is of all options, in key ``k``; its reward is always the same."""
    guest = guests.decision(
        f"(call $tell (local.get 0) (local.get 1) (i32.const 0) (i32.const 0)) {guests.GOOD_FRAME}",
        f"(call $tell (local.get 0) (local.get 1) (local.get 2) (local.get 3)) {guests.GOOD_REWARD}",
        imports=("log",),
        more=_TELL,
    )
    return _defined(guest.bytes, _native.spec_definition(SPEC))


def test_neither_draws_nor_weights_are_told(told: Told) -> None:
    """Whatever was drawn and learned, `frame` is handed the same bytes, and `reward` the same but option and propensity."""
    framed: set[bytes] = set()
    rewarded: set[bytes] = set()
    drawn: set[tuple[str, float]] = set()
    with capsa.open() as store:
        capsule = store.install(component())
        for number in range(60):
            decision = capsule.decide({"task": "legal"})
            framed.add(told.take())
            assert decision.option_name is not None
            assert decision.propensity is not None
            drawn.add((decision.option_name, decision.propensity))
            capsule.feedback(decision.id, outcome={"quality": 0.7})
            handed = told.take()
            chance = struct.pack("<d", decision.propensity)
            assert handed.count(chance) == handed.count(decision.option_name.encode()) == 1
            rewarded.add(handed.replace(chance, b"........").replace(decision.option_name.encode(), b"...."))
            # What was learned is another thing each time.
            capsule.feedback(option=number % 2, reward=number / 60, context_key="k")
    assert {option for option, _ in drawn} == {"left", "rite"}
    assert len({chance for _, chance in drawn}) > 20
    assert len(framed) == len(rewarded) == 1
