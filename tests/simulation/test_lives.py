"""Two hundred lives of a store: restarts, crashes, slow and full disks, and feedback of every kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.checks import Violated
from tests.simulation.life import live

import capsa
from capsa.decisions import _feedback
from capsa.decisions._capsule import Capsule
from capsa.decisions._fold import CapsuleState, Fold
from capsa.decisions._ledger import Ledger
from capsa.journal import Event, MemoryJournal

#: Each of them once in memory and once on disk.
SEEDS = range(90)
FULL_DISKS = 20
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled components, for all lives."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In memory where that can be: a copy of a folder is a crash, so nothing here depends on a sync."""
    memory = Path("/dev/shm")  # noqa: S108 - folders of our own are made in it
    return memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("lives")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_life_is_as_the_model_says_over_both_journals(seed: int, cache: Path, home: Path) -> None:
    """And comes to the same learned state in both."""
    assert live(seed, "memory", cache, home) == live(seed, "disk", cache, home)


def test_what_was_answered_before_the_disk_was_full_is_there(cache: Path, home: Path) -> None:
    """In a process of its own, whose files may not grow."""
    program = """
import sys
from pathlib import Path
from tests.simulation.life import live
cache, home, lives = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
print(sum(live(seed, "full disk", cache, home).disk_full for seed in range(lives)))
"""
    command = [sys.executable, "-c", program, str(cache), str(home), str(FULL_DISKS)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=110)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > FULL_DISKS


def learned_though_late(*_: object) -> str:
    return "applied"


def forgotten(ledger: Ledger, nonce: bytes, **_: Any) -> None:
    """The second of two posts is taken for the first."""
    row = ledger.get(nonce)
    assert row is not None
    row.posts += 1


def forgotten_in_the_fold(fold: Fold, event: Event, outcome: dict[str, Any] | None = None) -> None:
    """Live it is known; after a restart it is not."""
    if event.type == "outcome_received" and outcome is None:
        return
    FOLDED(fold, event, outcome)


def anything_allowed(capsule: Capsule, input: Any = None, **given: Any) -> capsa.Decision:
    return DECIDED(capsule, input, **{**given, "options": None, "current": None})


def one_event_short(journal: MemoryJournal, stream: str, after: int = 0, limit: int | None = None) -> Any:
    events: Iterator[Event] = READ(journal, stream, after, limit)
    return iter(list(events)[:-1])


def counted_twice(state: CapsuleState, event: Event, decision: capsa.Decision) -> None:
    DECIDED_FOLD(state, event, decision)
    state.native.apply_decided(decision)


FOLDED, DECIDED, READ, DECIDED_FOLD = Fold.apply, Capsule.decide, MemoryJournal.read, CapsuleState.decided


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [
        (_feedback, "_status", learned_though_late),
        (Ledger, "received", forgotten),
        (Fold, "apply", forgotten_in_the_fold),
        (Capsule, "decide", anything_allowed),
        (MemoryJournal, "read", one_event_short),
        (CapsuleState, "decided", counted_twice),
    ],
)
def test_a_fault_is_noticed(
    where: object, name: str, fault: Callable[..., object], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few lives, with the seed to live the same life again."""
    monkeypatch.setattr(where, name, fault)
    lives = (live(seed, "memory", cache) for seed in range(10))
    with pytest.raises((Violated, capsa.CapsaError)) as caught:
        list(lives)
    [note] = caught.value.__notes__
    assert re.fullmatch(r"again: bench/simulation.py --seed \d --kind 'memory'", note)
