"""Two hundred lives of a store: restarts, crashes, slow and full disks, and feedback of every kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.life import live

import capsa
from capsa.decisions import _erasure, _feedback, _upkeep
from capsa.decisions._capsule import Capsule
from capsa.decisions._feedback import Subject
from capsa.decisions._fold import CapsuleState, Fold
from capsa.decisions._ledger import Ledger, Row
from capsa.journal import Event, Journal

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


def posts_forgotten(row: Row, _: Mapping[str, Any], sequence: int) -> None:
    """The second of two posts is taken for the first."""
    row.last = sequence
    row.posts += 1


def horizon_forgotten(row: Row, sequence: int) -> None:
    """It passes again."""
    row.last = sequence
    row.posts += 1


def erasure_forgotten(ledger: Ledger, stream: str, nonce: bytes, native: Any) -> Row:
    row = ROW_READ(ledger, stream, nonce, native)
    row.erased = False
    return row


def outcomes_not_folded(fold: Fold, event: Event) -> None:
    """Live they are learned; after a restart they are not."""
    if event.type != "outcome_received":
        FOLDED(fold, event)


def tenant_not_forgotten(fold: Fold, tenant: str) -> None:
    """What a purged tenant had learned goes on."""


def record_needed(
    journal: Journal, state: CapsuleState, stream: str, decision_id: object, *now: Any
) -> Subject:
    """Feedback of a decision whose record a crash took is refused."""
    about = FOUND(journal, state, stream, decision_id, *now)
    if (
        about.decision.sequence is None
        or _feedback._recorded(journal, state, stream, about.decision.sequence) is None
    ):
        raise capsa.errors.UnknownDecision("no record")
    return about


def anything_allowed(capsule: Capsule, input: Any = None, **given: Any) -> capsa.Decision:
    return DECIDED(capsule, input, **{**given, "options": None, "current": None})


def counted_twice(state: CapsuleState, decision: capsa.Decision, sequence: int) -> None:
    DECIDED_FOLD(state, decision, sequence)
    state.native.apply_decided(decision, sequence)


def no_snapshot_kept(*_: object) -> list[tuple[int, str]]:
    """A start folds from the beginning, as long as that is there."""
    return []


def no_feedback_searched(search: _erasure._Search, event: Event) -> None:
    """What somebody's feedback says is left."""
    if event.type == "decided":
        SEEN(search, event)


FOLDED, DECIDED, DECIDED_FOLD = Fold.apply, Capsule.decide, CapsuleState.decided
ROW_READ, FOUND, SEEN = Ledger._read, _feedback.find, _erasure._Search.see


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [
        (_feedback, "_status", learned_though_late),
        (_feedback, "find", record_needed),
        (Row, "received", posts_forgotten),
        (Row, "passed", horizon_forgotten),
        (Ledger, "_read", erasure_forgotten),
        (Fold, "apply", outcomes_not_folded),
        (Fold, "forget", tenant_not_forgotten),
        (Capsule, "decide", anything_allowed),
        (CapsuleState, "decided", counted_twice),
        (_upkeep, "_kept", no_snapshot_kept),
        (_upkeep, "GRACE_MS", 0),
        (_erasure._Search, "see", no_feedback_searched),
    ],
)
def test_a_fault_is_noticed(
    where: object, name: str, fault: object, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few lives, with the seed to live the same life again."""
    monkeypatch.setattr(where, name, fault)
    lives = (live(seed, "memory", cache) for seed in range(30))
    with pytest.raises((AssertionError, capsa.CapsaError)) as caught:
        list(lives)
    [note] = caught.value.__notes__
    assert re.fullmatch(r"again: bench/simulation.py --seed \d+ --kind 'memory'", note)
