"""The journal folded again: replays of one decision, rebuilds, and what verify finds."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_replay import JOINT, VERSIONS, lived
from tests.decisions.past import PAIR, SPEC, given_id, lived_through
from tests.reference.clock import Clock

import capsa


@pytest.fixture
def router(store: capsa.Store) -> capsa.Capsule:
    return store.install(SPEC)


def doctor_payload(folder: Path, sequence: int, change: Callable[[dict[int, Any]], None]) -> None:
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
    slow = state.native.decide(store._nonces.take(now_ms), now_ms, {"task": "a"})
    router.feedback(first.id, reward=0.5)
    with store._lock:
        state.decided(slow, store._append(place, "decided", now_ms, slow.payload).sequence)
    replay = router.replay(given_id(slow))
    assert replay.learner_version == slow.learner_version < state.native.learner_version
    assert (replay.equal, replay.differences) == (True, [])


# By the numbers of docs/journal.md.
def _other_propensity(recorded: dict[int, Any]) -> None:
    recorded[7] = recorded[6][recorded[3][0]] + 1e-15


def _other_option(recorded: dict[int, Any]) -> None:
    recorded[3] = [1 - recorded[3][0]]


def _other_probabilities(recorded: dict[int, Any]) -> None:
    recorded[6][0] += 1e-15


def _other_version(recorded: dict[int, Any]) -> None:
    recorded[4] += 1


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
    tmp_path: Path, clock: Clock, change: Callable[[dict[int, Any]], None], named: set[str]
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
    state.native.apply(outcome)
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
