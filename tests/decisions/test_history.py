"""Views of the journal: pages, stories, replays, rebuilds and exports."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_replay import JOINT, VERSIONS, lived
from tests.reference.clock import Clock

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
horizon: {after: 1h}
"""
PAIR = "name: retries\nstrategies: {timeout: {options: [1s, 2s]}, retries: {options: ['0', '1']}}\n"


@pytest.fixture
def router(store: capsa.Store) -> capsa.Capsule:
    return store.install(SPEC)


def given_id(decision: capsa.Decision) -> str:
    assert decision.id is not None
    return decision.id


def lived_through(store: capsa.Store, clock: Clock, turns: int) -> list[str]:
    """Decisions with feedback of every kind; gives their ids."""
    router = store.capsule("router")
    ids = []
    for turn in range(turns):
        clock.forward(1)
        decision = given_id(router.decide({"task": f"t{turn % 3}"}))
        ids.append(decision)
        match turn % 4:
            case 0:
                router.feedback(decision, outcome={"quality": 0.5})
            case 1:
                router.feedback(decision, reward=0.25)
            case 2:
                router.feedback(decision, outcome={"quality": 0.5, "cost": 0.25}, taken="dear")
            case _:
                router.feedback(option="cheap", reward=-0.5, context_key="by hand")
    return ids


def doctor_payload(folder: Path, sequence: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes what the first stream of a closed store says in one event."""
    connection = sqlite3.connect(folder / "store.sqlite")
    at = (1 << 40) + sequence
    [payload] = connection.execute("SELECT payload FROM event WHERE id = ?", (at,)).fetchone()
    values = cbor2.loads(payload)
    change(values)
    changed = cbor2.dumps(values, canonical=True)
    assert changed != payload
    connection.execute("UPDATE event SET payload = ? WHERE id = ?", (changed, at))
    connection.commit()
    connection.close()


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
    assert router.story(mine).decision.decision_id == mine


# Replay


@pytest.mark.parametrize("versions", [VERSIONS, JOINT], ids=["one strategy", "several"])
@given(data=st.data())
@settings(max_examples=25)
def test_every_decision_replays(versions: list[dict[str, Any]], data: st.DataObject) -> None:
    """Whatever happened before and after: installs, settings, modes, time."""
    clock = Clock()
    with capsa.open(clock=clock, seed=7) as store:
        story = lived(store, clock, versions, data, 20)
        for decision, _ in story.decisions:
            replay = story.capsule.replay(given_id(decision))
            assert (replay.equal, replay.differences, replay.notes) == (True, [], [])
            assert ("draw" in replay.compared) == (versions is VERSIONS)
            assert {"choices", "propensity", "probabilities", "record"} <= set(replay.compared)
            assert replay.learner_version == decision.learner_version


def test_a_record_may_follow_what_was_learned_meanwhile(store: capsa.Store, router: capsa.Capsule) -> None:
    """A decision that feedback overtook between its draw and its record replays from the state it was drawn in."""
    place = ("default", "default", "router")
    state, now_ms = store._fold.capsules[place], store._now_ms()
    first = router.decide({"task": "a"})
    slow = state.native.decide(b"0123456789abcdef", now_ms, {"task": "a"})
    router.feedback(first.id, reward=0.5)
    with store._lock:
        state.decided(store._append(place, "decided", now_ms, slow.payload), slow)
    replay = router.replay(given_id(slow))
    assert replay.learner_version == slow.learner_version < state.native.learner_version
    assert (replay.equal, replay.differences) == (True, [])


def _other_propensity(recorded: dict[str, Any]) -> None:
    recorded["propensity"] += 1e-15


def _other_option(recorded: dict[str, Any]) -> None:
    recorded["options"]["choice"] = "dear" if recorded["options"]["choice"] == "cheap" else "cheap"


def _other_probabilities(recorded: dict[str, Any]) -> None:
    recorded["probabilities"]["choice"][0] += 1e-15


def _other_version(recorded: dict[str, Any]) -> None:
    recorded["learner_version"] += 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_other_propensity, {"propensity"}),
        (_other_option, {"draw", "options"}),
        (_other_probabilities, {"probabilities"}),
        (_other_version, {"learner_version"}),
    ],
)
def test_a_replay_says_what_differs(
    tmp_path: Path, clock: Clock, change: Callable[[dict[str, Any]], None], named: set[str]
) -> None:
    """A record that was changed afterwards, by as little as one bit."""
    folder = tmp_path / "store"
    with capsa.open(folder, clock=clock, seed=1) as store:
        router = store.install(SPEC)
        lived_through(store, clock, 6)
        last = router.decide({"task": "t1"})
        sequence = router.decisions()[-1].sequence
    doctor_payload(folder, sequence, change)
    with capsa.open(folder, clock=clock) as store:
        replay = store.capsule("router").replay(given_id(last))
        assert replay.equal is False
        assert named <= {difference.what for difference in replay.differences}
        assert all(difference.recorded != difference.again for difference in replay.differences)
        # Others are not affected.
        assert store.capsule("router").replay(store.capsule("router").decisions()[0].decision_id).equal


def test_past_an_erased_event_only_the_draw_is_compared(store: capsa.Store, router: capsa.Capsule) -> None:
    """And it says so. Of several strategies the record alone shows nothing."""
    pair = store.install(PAIR)
    before, joint_before = given_id(router.decide()), given_id(pair.decide())
    erased = [router.feedback(before, reward=0.5).sequence, pair.feedback(joint_before, reward=0.5).sequence]
    after, joint_after = given_id(router.decide()), given_id(pair.decide())
    for sequence in erased:
        store.journal.erase("default", sequence)
    assert "record" in router.replay(before).compared
    replay = router.replay(after)
    assert (replay.equal, replay.compared) == (True, ["draw"])
    assert str(erased[0]) in replay.notes[0]
    joint = pair.replay(joint_after)
    assert (joint.equal, joint.compared, len(joint.notes)) == (None, [], 1)
    assert router.feedback_log() == []


def test_an_erased_decision_is_unknown(store: capsa.Store, router: capsa.Capsule) -> None:
    decision, other = given_id(router.decide()), given_id(router.decide())
    store.journal.erase("default", router.decisions()[0].sequence)
    for look in (router.story, router.replay):
        with pytest.raises(capsa.UnknownDecision):
            look(decision)
    assert [row.decision_id for row in router.decisions()] == [other]
    assert router.replay(other).equal


# Rebuild and verify


@pytest.mark.parametrize("versions", [VERSIONS, JOINT], ids=["one strategy", "several"])
@given(data=st.data())
@settings(max_examples=25)
def test_a_rebuild_is_the_live_state(versions: list[dict[str, Any]], data: st.DataObject) -> None:
    clock = Clock()
    with capsa.open(clock=clock, seed=7) as store:
        story = lived(store, clock, versions, data, 30)
        rebuild = store.rebuild()
        assert rebuild.equal
        assert rebuild.sequences == {story.tenant: store.journal.length(story.tenant)}
        [capsule] = rebuild.capsules
        assert (capsule.state_hash, capsule.differences) == (story.capsule.state_hash, [])


def test_a_rebuild_notices_a_state_that_left_the_journal(store: capsa.Store, router: capsa.Capsule) -> None:
    """One outcome is folded twice into the live state of one capsule."""
    store.install(PAIR)
    router.feedback(router.decide().id, reward=0.5)
    [outcome] = [event for event in store.journal.read("default") if event.type == "outcome_received"]
    state = store._fold.capsules["default", "default", "router"]
    state.native.apply(outcome.type, outcome.time_ms, outcome.payload)
    rebuild = store.rebuild()
    assert not rebuild.equal
    assert {row.capsule: row.equal for row in rebuild.capsules} == {"router": False, "retries": True}
    [wrong] = [row for row in rebuild.capsules if not row.equal]
    assert {"state_hash", "learner_version", "counts"} <= {
        difference.what for difference in wrong.differences
    }
    del store._fold.capsules["default", "default", "router"]
    [gone] = [row for row in store.rebuild().capsules if not row.equal]
    assert [difference.what for difference in gone.differences] == ["capsule"]


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that take turns a thousand times as often."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("restless")
def test_a_rebuild_sees_one_moment_while_others_decide(tmp_path: Path) -> None:
    with capsa.open(tmp_path / "store") as store:
        # It takes a while to look at many tenants, and the last one is busy.
        for number in range(60):
            store.tenant(f"tenant{number}").job("default").install(SPEC)
        router = store.tenant("zz").job("default").install(SPEC)
        stop = threading.Event()

        def caller() -> None:
            while not stop.is_set():
                # Feedback waits for the disk; decisions alone keep the lock busy.
                for _ in range(20):
                    decision = router.decide({"task": "a"})
                router.feedback(decision.id, reward=0.5)

        threads = [threading.Thread(target=caller) for _ in range(3)]
        for thread in threads:
            thread.start()
        rebuilds = [store.rebuild() for _ in range(10)]
        stop.set()
        for thread in threads:
            thread.join()
        assert [rebuild.equal for rebuild in rebuilds] == [True] * 10
        assert rebuilds[0].events < store.rebuild().events
        assert store.rebuild().sequences["zz"] == store.journal.length("zz")


def test_verify_tells_what_was_changed(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "store"
    with capsa.open(folder, clock=clock, seed=1) as store:
        store.install(SPEC)
        lived_through(store, clock, 4)
        assert store.verify() == []
    doctor_payload(folder, 4, _other_propensity)
    with capsa.open(folder, clock=clock) as store:
        [fault] = store.verify()
        assert (fault.kind, fault.stream, fault.first) == ("changed", "default", 4)


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
