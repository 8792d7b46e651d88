"""The format promise: a store of an older format, with versions, modes and masks, shows its past as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.decisions.golden_store import Clock

import capsa

GOLDEN = Path(__file__).parent / "golden"
#: What becomes of their feedback is in test_migration.
FORMATS = sorted(folder.name for folder in GOLDEN.glob("*-versions"))


class Golden:
    """A copy of a golden store, with what it must read as."""

    def __init__(self, format_: str, into: Path) -> None:
        self.folder = into / format_
        shutil.copytree(GOLDEN / format_, self.folder)
        self.expected: dict[str, Any] = json.loads((self.folder / "expected.json").read_text())
        (self.folder / "expected.json").unlink()
        for path in (self.folder, *self.folder.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
        self.clock = Clock()
        self.clock.now_s = self.expected["now_s"]

    def open(self) -> capsa.Store:
        return capsa.open(self.folder, clock=self.clock, upkeep=False)


@pytest.fixture(params=FORMATS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    return Golden(request.param, tmp_path)


def test_a_golden_store_has_learned_what_it_had_learned(golden: Golden) -> None:
    """State, report and settings, and all of it folds again to the same."""
    for _ in range(2):
        with golden.open() as store:
            router = store.capsule("router")
            pair = store.tenant("acme").job("calls").capsule("retries")
            report = router.report()
            wanted = golden.expected["router"]
            assert router.state_hash == wanted["state_hash"]
            assert (report.decisions, report.feedback.applied) == (wanted["decisions"], wanted["applied"])
            assert router.learning == wanted["learning"]
            assert pair.state_hash == golden.expected["retries"]["state_hash"]
            assert store.rebuild().equal
            assert store.verify() == []


def test_the_views_show_the_past(golden: Golden) -> None:
    """Every decision has its row, its story, and is made again from the state of its time."""
    with golden.open() as store:
        router = store.capsule("router")
        rows = router.decisions(limit=1000)
        assert [row.propensity for row in rows] == [row["propensity"] for row in golden.expected["decisions"]]
        for row, wanted in zip(rows, golden.expected["decisions"], strict=True):
            assert row.choices == {"choice": wanted["option_name"]}
            story = router.story(row.decision_id)
            assert len(story.posts) == len(wanted["posts"])
            assert router.replay(row.decision_id).equal
            assert router.story(wanted["id"]).decision == row
        assert store.export(golden.folder.with_name("readable")).events > 0
