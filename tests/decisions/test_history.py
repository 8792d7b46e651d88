"""Views of the journal: pages, stories and exports."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decisions.past import PAIR, SPEC, given_id, lived_through
from tests.reference.clock import Clock

import capsa


@pytest.fixture
def router(store: capsa.Store) -> capsa.Capsule:
    return store.install(SPEC)


# Pages


@given(size=st.integers(1, 7), turns=st.integers(0, 9))
@settings(max_examples=20)
def test_pages_of_any_size_give_every_row_once(size: int, turns: int) -> None:
    clock = Clock()
    with capsa.open(clock=clock, seed=7) as store:
        router, other = store.install(SPEC), store.install(SPEC.replace("router", "other"))
        ids = []
        for _ in range(turns):
            ids += lived_through(store, clock, 4)
            other.feedback(other.decide().id, reward=0.5)
            router.update_learning(rails={"freeze": len(ids) % 8 == 0})
        for view, expected in (
            (router.decisions, len(ids)),
            (router.feedback_log, len(ids)),
            (lambda after, limit: store.audit("default", after, limit), None),
        ):
            rows: list[Any] = []
            while page := view(rows[-1].sequence if rows else 0, size):
                assert len(page) <= size
                rows += page
            assert rows == view(0, 1000)
            assert [row.sequence for row in rows] == sorted({row.sequence for row in rows})
            assert expected is None or len(rows) == expected
        assert [row.decision_id for row in router.decisions()] == ids


def test_rows_say_what_was_answered(router: capsa.Capsule, clock: Clock) -> None:
    """Field by field as decide and feedback gave it."""
    decision = router.decide({"task": "a"}, options=["cheap", "dear"])
    clock.forward(2)
    feedback = router.feedback(decision.id, outcome={"quality": 0.5, "cost": 0.25}, taken="balanced")
    [row] = router.decisions()
    assert (row.decision_id, row.choices, row.propensity) == (
        decision.id,
        decision.choices,
        decision.propensity,
    )
    assert row.probabilities == {"choice": decision.probabilities}
    assert (row.reason, row.context_key, row.context_key_from) == (decision.reason, "a", "input")
    assert (row.allowed, row.current, row.mode, row.principal) == ({"choice": [0, 2]}, None, "live", "local")
    assert (row.time, row.deadline) == ("2027-01-15T08:00:00.000Z", "2027-01-15T09:00:00.000Z")
    [post] = router.feedback_log()
    assert (post.sequence, post.status, post.reward) == (feedback.sequence, "applied", feedback.reward)
    assert (post.credited, post.taken) == ({"choice": "balanced"}, {"choice": "balanced"})
    assert (post.metrics, post.delay_seconds) == ({"quality": 0.5, "cost": 0.25}, 2.0)


def test_what_is_before_the_cursor_is_not_read(tmp_path: Path, clock: Clock) -> None:
    """With the first events gone, pages behind them are still answered, and the first page is not."""
    with capsa.open(tmp_path / "store", clock=clock) as store:
        router = store.install(SPEC)
        ids = lived_through(store, clock, 8)
        middle = router.decisions()[3].sequence
        outsider = sqlite3.connect(tmp_path / "store" / "store.sqlite")
        outsider.execute("DELETE FROM event WHERE id <= ?", ((1 << 40) + middle,))
        outsider.commit()
        outsider.close()
        assert [row.decision_id for row in router.decisions(after=middle)] == ids[4:]
        assert router.feedback_log(after=middle)
        assert store.audit(after=middle) == []
        with pytest.raises(capsa.StoreError, match="missing"):
            router.decisions()


@pytest.mark.parametrize(
    ("after", "limit", "pointer"),
    [(-1, 1, "/after"), (True, 1, "/after"), ("1", 1, "/after"), (2**80, 1, "/after")]
    + [(0, limit, "/limit") for limit in (0, 1001, -1, True, 1.0, None)],
)
def test_a_page_that_cannot_be_is_refused(
    store: capsa.Store, router: capsa.Capsule, after: Any, limit: Any, pointer: str
) -> None:
    for view in (router.decisions, router.feedback_log, lambda *page: store.audit("default", *page)):
        with pytest.raises(capsa.InvalidField) as caught:
            view(after, limit)
        assert caught.value.pointer == pointer
        assert caught.value.remedy


def test_capsules_and_tenants_see_their_own_rows_only(store: capsa.Store, router: capsa.Capsule) -> None:
    elsewhere = store.tenant("acme").job("default").install(SPEC)
    job = store.job("second").install(SPEC)
    mine = router.decide()
    assert [row.decision_id for row in router.decisions()] == [mine.id]
    assert elsewhere.decisions() == job.decisions() == []
    assert {row.job for row in store.audit()} == {None, "default", "second"}
    assert {row.job for row in store.audit("acme")} == {None, "default"}


def test_the_audit_holds_what_people_changed(tmp_path: Path, clock: Clock) -> None:
    with capsa.open(tmp_path / "store", principal="ann", clock=clock) as store:
        store.install(SPEC)
        lived_through(store, clock, 4)
    with capsa.open(tmp_path / "store", principal="bob", clock=clock) as store:
        router = store.capsule("router")
        router.update_learning(rails={"freeze": True})
        store.install(SPEC.replace("dear", "grand"))
        rows = store.audit()
        assert [(row.principal, row.type) for row in rows] == [
            ("ann", "created"),
            ("ann", "created"),
            ("ann", "installed"),
            ("bob", "learning_changed"),
            ("bob", "installed"),
        ]
        assert rows[3].detail["changed"] == ["rails.freeze"]
        assert rows[3].detail["overrides"] == {"rails": {"freeze": True}}
        assert (rows[4].detail["version"], rows[4].job, rows[4].capsule) == (2, "default", "router")
        assert "definition" not in rows[4].detail
        for unknown in ("nobody", "", "A b", 3):
            with pytest.raises(capsa.UnknownTenant):
                store.audit(unknown)  # type: ignore[arg-type]


# One decision


def test_a_story_goes_on_with_every_post(router: capsa.Capsule, clock: Clock) -> None:
    decision = given_id(router.decide({"task": "a"}))
    router.feedback(router.decide({"task": "a"}).id, reward=0.5)
    begun = router.story(decision)
    assert (begun.status, begun.posts, begun.missing) == ("pending", [], ["cost", "quality"])
    assert begun.decision == router.decisions()[0]
    router.feedback(decision, outcome={"quality": 0.5})
    half = router.story(decision)
    assert (half.status, half.missing, half.reward, half.learned_at) == ("pending", ["cost"], None, None)
    clock.forward(5)
    feedback = router.feedback(decision, outcome={"cost": 0.25})
    router.feedback(decision, outcome={"cost": 0.25})
    told = router.story(decision)
    assert (told.status, told.missing, told.reward) == ("applied", [], feedback.reward)
    assert (told.metrics, told.learned_at) == ({"quality": 0.5, "cost": 0.25}, feedback.sequence)
    assert [post.status for post in told.posts] == ["pending", "applied"]


@pytest.mark.parametrize("parts", [{}, {"quality": 0.5}], ids=["nothing", "a part"])
def test_what_was_awaited_in_vain_is_expired_until_it_comes_late(
    router: capsa.Capsule, clock: Clock, parts: dict[str, float]
) -> None:
    decision = given_id(router.decide())
    if parts:
        router.feedback(decision, outcome=parts)
    clock.forward(3600)
    assert router.story(decision).status == "pending"
    clock.forward(0.001)
    assert router.story(decision).status == "expired"
    router.feedback(decision, outcome={"cost": 0.25})
    told = router.story(decision)
    assert (told.status, told.learned_at) == ("late", None)


def test_a_story_tells_what_was_not_learned(router: capsa.Capsule) -> None:
    """Shadow, frozen, and nothing of ours carried out."""
    kept = given_id(router.decide())
    router.feedback(kept, reward=0.5, taken=None)
    assert (router.story(kept).status, router.story(kept).posts[0].taken) == ("kept", {})
    router.update_learning(rails={"freeze": True})
    frozen = given_id(router.decide())
    router.feedback(frozen, reward=0.5)
    assert (router.story(frozen).status, router.story(frozen).learned_at) == ("frozen", None)
    router.update_learning(rails=None, mode="shadow")
    shadow = router.decide(current="dear")
    told = router.story(given_id(shadow)).decision
    assert told is not None
    assert shadow.suggested is not None
    assert (told.choices, told.current, told.propensity) == ({"choice": "dear"}, {"choice": "dear"}, None)
    assert told.suggested is not None
    assert told.suggested["choices"] == shadow.suggested.choices
    assert told.suggested["propensity"] == shadow.suggested.propensity


def test_ids_that_are_none_of_ours_are_answered_alike(store: capsa.Store, router: capsa.Capsule) -> None:
    """Malformed, of another capsule, of another tenant, never given: one and the same answer."""
    other = store.install(SPEC.replace("router", "other"))
    foreign = store.tenant("acme").job("default").install(SPEC)
    mine = given_id(router.decide())
    ids: list[Any] = ["", "dec_", mine.upper(), mine + "0", "dec_" + "0" * 32, "x" * 10_000, None, 7, b"dec_"]
    said = set()
    for unknown in [*ids, other.decide().id, foreign.decide().id]:
        for look in (router.story, router.replay):
            with pytest.raises(capsa.UnknownDecision) as caught:
                look(unknown)
            said.add((caught.value.detail, caught.value.remedy, caught.value.pointer))
    assert len(said) == 1
    told = router.story(mine).decision
    assert told is not None
    assert told.decision_id == mine


# Export


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_export_is_the_store_in_files(tmp_path: Path, clock: Clock) -> None:
    with capsa.open(tmp_path / "store", clock=clock, seed=1) as store:
        router = store.install(SPEC)
        ids = lived_through(store, clock, 8)
        store.install(SPEC.replace("dear", "grand") + "algorithm: {name: epsilon_greedy, epsilon: 0.2}\n")
        router.update_learning(rails={"min_exploration": 0.1})
        retries = store.tenant("acme").job("calls").install(PAIR)
        retries.decide()
        done = store.export(tmp_path / "out")
        assert (done.capsules, done.sequences) == (2, {"acme": 4, "default": 21})
        events = read_lines(tmp_path / "out" / "events.jsonl")
        recorded = [event for stream in ("acme", "default") for event in store.journal.read(stream)]
        assert [(row["stream"], row["sequence"], row["type"]) for row in events] == [
            (event.stream, event.sequence, event.type) for event in recorded
        ]
        assert json.loads((tmp_path / "out" / "export.json").read_text())["events"] == len(recorded)
        here = tmp_path / "out/tenants/default/jobs/default/capsules/router"
        assert [row["decisionId"] for row in read_lines(here / "decision.jsonl")] == ids
        log = router.feedback_log()
        assert [row["sequence"] for row in read_lines(here / "feedback.jsonl")] == [
            row.sequence for row in log
        ]
        assert [row["type"] for row in read_lines(here / "audit.jsonl")] == [
            "installed",
            "installed",
            "learningChanged",
        ]
        assert [row["detail"]["version"] for row in read_lines(here / "evolution.jsonl")] == [1, 2]
        memory = json.loads((here / "memory.json").read_text())
        assert memory["stateHash"] == router.state_hash
        assert {row["contextKey"]: row["weights"] for row in memory["contexts"]} == {
            row.context_key: row.weights for row in router.contexts()
        }
        learning = json.loads((here / "learning.json").read_text())
        assert learning["rails"]["minExploration"] == 0.1
        assert learning["algorithm"] == {"name": "epsilonGreedy", "epsilon": 0.2}
        assert list(learning["overridden"]) == ["rails.minExploration"]
        assert {file.name for file in (here / "snapshots").iterdir()} == {"1.wasm", "2.wasm"}
        assert (here / "current.wasm").read_bytes() == (here / "snapshots" / "2.wasm").read_bytes()
        job = json.loads((tmp_path / "out/tenants/acme/jobs/calls/job.json").read_text())
        assert (job["job"], job["capsules"]) == ("calls", ["retries"])
        assert (here / "policy.json").read_text() == "{}\n"
        assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    with capsa.open(clock=clock) as fresh:
        assert fresh.install(here / "current.wasm").name == "router"


def test_nothing_is_exported_over_other_things(store: capsa.Store, tmp_path: Path) -> None:
    store.install(SPEC)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for folder in ("full", "file"):
        with pytest.raises(capsa.InvalidField) as caught:
            store.export(tmp_path / folder)
        assert caught.value.pointer == "/folder"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "full", "note"]
    (tmp_path / "empty").mkdir()
    assert store.export(str(tmp_path / "empty")).capsules == 1
    with pytest.raises(capsa.InvalidField):
        store.export(tmp_path / "empty")


def test_an_export_of_many_events_is_complete(
    store: capsa.Store, router: capsa.Capsule, tmp_path: Path
) -> None:
    """More lines than are held back at once."""
    for _ in range(5100):
        router.decide()
    store.export(tmp_path / "out")
    lines = read_lines(tmp_path / "out" / "events.jsonl")
    assert [row["sequence"] for row in lines] == list(range(1, store.journal.length("default") + 1))
    here = tmp_path / "out/tenants/default/jobs/default/capsules/router"
    assert len(read_lines(here / "decision.jsonl")) == 5100


def test_an_export_shows_that_something_was_erased(
    store: capsa.Store, router: capsa.Capsule, tmp_path: Path
) -> None:
    """The header stays; the capsule's own files leave it out. What cannot be folded says so."""
    router.feedback(router.decide().id, reward=0.5)
    store.journal.erase("default", router.decisions()[0].sequence)
    store.export(tmp_path / "out")
    rows = [json.loads(row) for row in (tmp_path / "out" / "events.jsonl").read_text().splitlines()]
    assert [row["type"] for row in rows if row["erased"]] == ["decided"]
    store.journal.erase("default", router.feedback_log()[0].sequence)
    with pytest.raises(capsa.JournalMismatch, match="was erased"):
        store.export(tmp_path / "again")
    assert not (tmp_path / "again" / "export.json").exists()


# Every view


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_closed_store_shows_nothing(tmp_path: Path, on_disk: bool) -> None:
    with capsa.open(tmp_path / "store" if on_disk else None) as store:
        router = store.install(SPEC)
        decision = given_id(router.decide())
    for look in (
        router.decisions,
        router.feedback_log,
        lambda: router.story(decision),
        lambda: router.replay(decision),
        store.audit,
        store.verify,
        store.rebuild,
        lambda: store.export(tmp_path / "out"),
    ):
        with pytest.raises(capsa.StoreClosed):
            look()
    assert not (tmp_path / "out").exists()


def test_views_change_nothing(tmp_path: Path, clock: Clock) -> None:
    """Neither the journal nor what was learned nor what is counted."""
    with capsa.open(tmp_path / "store", clock=clock, seed=1) as store:
        router = store.install(SPEC)
        [decision, *_] = lived_through(store, clock, 8)
        clock.forward(4000)

        def seen() -> object:
            report = msgspec.structs.replace(router.report(), as_of="")
            return store.journal.length("default"), router.state_hash, report, router.contexts()

        before = seen()
        router.decisions()
        router.feedback_log()
        router.story(decision)
        router.replay(decision)
        store.audit()
        store.verify()
        store.rebuild()
        store.export(tmp_path / "out")
        assert seen() == before
