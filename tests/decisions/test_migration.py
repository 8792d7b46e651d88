"""A store of format 1 goes on: what was learned, what was posted, and the ids that were given."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.decisions.first_format import PAIR, SPEC
from tests.decisions.reopened import UNKNOWN, said_of
from tests.reference.clock import Clock
from tests.reference.close import apart
from tests.simulation.worlds import Killed

import capsa
from capsa.journal import SqliteJournal

GOLDEN = Path(__file__).with_name("golden") / "format-1"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
IDS: dict[str, str] = EXPECTED["ids"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the golden store, as a user would have it."""
    copy = tmp_path / "store"
    shutil.copytree(GOLDEN, copy)
    copy.chmod(0o700)
    (copy / "keys").chmod(0o700)
    return copy


@pytest.fixture
def clock() -> Clock:
    """An hour after the golden store was made."""
    clock = Clock()
    clock.forward(3600)
    return clock


@pytest.fixture(params=["the first start", "a later start"])
def store(request: pytest.FixtureRequest, folder: Path, clock: Clock) -> Iterator[capsa.Store]:
    if request.param == "a later start":
        capsa.open(folder, clock=clock, upkeep=False).close()
    with capsa.open(folder, clock=clock, upkeep=False) as opened:
        yield opened


def retries(store: capsa.Store) -> capsa.Capsule:
    return store.tenant("acme").job("calls").capsule("retries")


def test_the_golden_store_is_one_of_format_1() -> None:
    """It was made before ids were sealed, and is not made again."""
    with closing(sqlite3.connect(f"{(GOLDEN / 'store.sqlite').as_uri()}?immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert database.execute("SELECT DISTINCT schema FROM origin").fetchall() == [(1,)]
    assert {len(decision) for decision in IDS.values()} == {len("dec_") + 32}


def test_what_was_learned_is_there(store: capsa.Store) -> None:
    """Weights, counts and settings; and it folds to the same again."""
    router = store.capsule("router")
    weights = {row.context_key: row.weights for row in router.contexts()}
    assert apart(weights, EXPECTED["weights"]) < 1e-12
    report, before = router.report(), EXPECTED["report"]
    assert report.decisions == before["decisions"]
    for name in ("applied", "frozen", "kept", "late"):
        assert getattr(report.feedback, name) == before["feedback"][name]
    assert router.learning["rails"]["min_exploration"] == 0.1
    assert {stream: store.journal.length(stream) for stream in store.journal.streams()} == EXPECTED["lengths"]
    assert store.rebuild().equal
    assert store.verify() == []
    assert store.install(SPEC).version == store.tenant("acme").job("calls").install(PAIR).version == 1


def test_what_was_answered_awaits_nothing(store: capsa.Store, clock: Clock) -> None:
    """Before and after the horizon: only those without any feedback and with a part of it wait, or have waited."""
    report = store.capsule("router").report()
    assert (
        (report.feedback.pending, report.feedback.expired)
        == (EXPECTED["report"]["feedback"]["pending"], 0)
        == (2, 0)
    )
    clock.forward(30 * 86_400)
    report = store.capsule("router").report()
    assert (report.feedback.pending, report.feedback.expired) == (0, 2)


#: What was posted before, posts that say it again, and posts that say something else.
POSTED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "a part": ([{"outcome": {"quality": 0.5}}], [{"outcome": {"quality": 0.6}}, {"reward": 0.5}]),
    "all metrics": (
        [{"outcome": {"quality": 0.5, "cost": 0.25}}, {"outcome": {"cost": 0.25}}],
        [{"outcome": {"quality": 0.5, "cost": 0.5}}, {"reward": 0.2}],
    ),
    "two parts": (
        [{"outcome": {"quality": 1}}, {"outcome": {"cost": 0.5}}, {"outcome": {"quality": 1, "cost": 0.5}}],
        [{"outcome": {"cost": 0.25}}, {"reward": 0.4}],
    ),
    "a reward": ([{"reward": 0.25}], [{"reward": 0.5}, {"outcome": {"quality": 0.25}}]),
    "taken": ([{"reward": -0.5}, {"reward": -0.5, "taken": "dear"}], [{"reward": -0.5, "taken": "cheap"}]),
    "something else": ([{"reward": 0.5, "taken": None}], [{"reward": 0.5, "taken": "dear"}]),
    "frozen": ([{"reward": 0.75}], [{"reward": 0.5}]),
    "before 3": ([{"reward": 0.3}], [{"reward": 0.4}]),
}


@pytest.mark.parametrize("what", POSTED)
def test_what_was_posted_counts_once(store: capsa.Store, what: str) -> None:
    router, decision = store.capsule("router"), IDS[what]
    state, length = router.state_hash, store.journal.length("default")
    same, other = POSTED[what]
    for post in same:
        assert router.feedback(decision, **post).status == "repeated"
    for post in other:
        with pytest.raises(capsa.FeedbackConflict):
            router.feedback(decision, **post)
    assert (router.state_hash, store.journal.length("default")) == (state, length)


def test_what_was_not_posted_still_counts(store: capsa.Store, folder: Path, clock: Clock) -> None:
    """A first post, the rest of a part, one of several strategies; and each only once, after a restart too."""
    posts: list[tuple[str, dict[str, Any], float]] = [
        ("nothing", {"reward": 0.5}, 0.5),
        ("a part", {"outcome": {"cost": 0.5}}, 0.6 * 0.5 - 0.4 * 0.5),
    ]
    router = store.capsule("router")
    for what, post, reward in posts:
        answer = router.feedback(IDS[what], **post)
        assert answer.status == "applied"
        assert answer.reward == pytest.approx(reward)
    assert retries(store).feedback(IDS["of several"], reward=0.25).status == "applied"
    applied, state = router.report().feedback.applied, router.state_hash
    assert applied == EXPECTED["report"]["feedback"]["applied"] + 2
    store.close()
    with capsa.open(folder, clock=clock, upkeep=False) as again:
        router = again.capsule("router")
        for what, post, _ in posts:
            assert router.feedback(IDS[what], **post).status == "repeated"
        assert retries(again).feedback(IDS["of several"], reward=0.25).status == "repeated"
        assert (router.report().feedback.applied, router.state_hash) == (applied, state)
        assert again.rebuild().equal


def test_an_old_id_is_late_when_its_horizon_is_over(store: capsa.Store, clock: Clock) -> None:
    """It was declared as seven days."""
    router = store.capsule("router")
    clock.forward(6 * 86_400)
    assert router.feedback(IDS["nothing"], reward=0.5).status == "applied"
    clock.forward(2 * 86_400)
    state = router.state_hash
    assert router.feedback(IDS["a part"], outcome={"cost": 0.5}).status == "late"
    assert router.state_hash == state


def test_an_old_id_leads_to_its_story(store: capsa.Store) -> None:
    router = store.capsule("router")
    story = router.story(IDS["two parts"])
    assert story.decision is not None
    assert [post.status for post in story.posts] == ["pending", "applied"]
    assert [post.reward for post in story.posts] == [None, pytest.approx(0.4)]
    assert (story.status, story.metrics) == ("applied", {"quality": 1.0, "cost": 0.5})
    replay = router.replay(IDS["two parts"])
    assert (replay.equal, replay.differences) == (True, [])
    # Every view has one and the same id for it, whichever that is.
    [row] = [row for row in router.decisions() if row.sequence == story.decision.sequence]
    assert row.decision_id == story.decision.decision_id
    with pytest.raises(capsa.FeedbackConflict):
        router.feedback(row.decision_id, reward=0.5)
    assert router.feedback(row.decision_id, outcome={"quality": 1.0}).status == "repeated"


@pytest.mark.parametrize(
    "change",
    [
        lambda decision: decision[:-1] + ("0" if decision[-1] != "0" else "1"),
        lambda decision: decision.upper().replace("DEC_", "dec_"),
        lambda decision: decision[:-1],
        lambda decision: decision + "0",
        lambda _: "dec_" + "0" * 32,
    ],
)
def test_what_is_not_quite_an_old_id_is_unknown(store: capsa.Store, change: Any) -> None:
    assert said_of(store.capsule("router"), change(IDS["a part"])) == {UNKNOWN}


def test_an_old_id_is_good_for_its_capsule_only(store: capsa.Store) -> None:
    assert said_of(store.capsule("router"), IDS["of several"]) == {UNKNOWN}
    assert said_of(retries(store), IDS["a part"]) == {UNKNOWN}
    other = store.install(SPEC.replace("name: router", "name: router2"))
    assert said_of(other, IDS["a part"]) == {UNKNOWN}


def test_life_goes_on(store: capsa.Store, folder: Path, clock: Clock) -> None:
    """New decisions have sealed ids, and can be erased."""
    router = store.capsule("router")
    decision = router.decide({"task": "a"}, subject="ann")
    assert router.feedback(decision.id, reward=0.5).status == "applied"
    assert store.erase_subject("ann").events == 2
    state = router.state_hash
    store.close()
    with capsa.open(folder, clock=clock, upkeep=False) as again:
        assert again.capsule("router").state_hash == state
        assert again.capsule("router").feedback(IDS["a reward"], reward=0.25).status == "repeated"
        assert again.verify() == []


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_a_migration_that_was_killed_begins_again(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Between any two of the keys that it claims."""
    claim, left = SqliteJournal.claim, [count]

    def claim_until(journal: SqliteJournal, *arguments: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        claim(journal, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteJournal, "claim", claim_until)
        with pytest.raises(Killed):
            capsa.open(folder, clock=clock, upkeep=False)
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        router = store.capsule("router")
        for what, (same, _) in POSTED.items():
            assert router.feedback(IDS[what], **same[0]).status == "repeated"
        assert router.feedback(IDS["nothing"], reward=0.5).status == "applied"
        assert store.rebuild().equal
