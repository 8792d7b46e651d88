"""The end of a horizon: what was not sent by then counts as declared, once, and nothing else is learned."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.test_capsule_failures import REWARDS
from tests.decisions.past import given_id
from tests.decisions.reopened import KINDS, Reopened, reopened
from tests.simulation.worlds import WRITES

import capsa
from capsa.decisions import FeedbackRecord, _upkeep

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
algorithm: %s
horizon: {after: %s%s}
"""
WITH = ", outcome: {quality: 0.25, cost: 0.5}"
PLAIN = SPEC % ("thompson", "1h", "")
DECLARED = SPEC % ("thompson", "1h", WITH)
#: What the declared outcome is worth.
REWARD = 0.6 * 0.25 - 0.4 * 0.5
HOUR = 3600.0
ALGORITHMS = ["thompson", "simple_weighted", "ucb1", "epsilon_greedy"]


def passed(capsule: capsa.Capsule) -> list[FeedbackRecord]:
    return [row for row in capsule.feedback_log() if row.by_horizon]


def counts(capsule: capsa.Capsule) -> dict[str, Any]:
    """What the report says of feedback, but for what is not recorded."""
    feedback = capsule.report().to_dict()["feedback"]
    return {
        name: feedback[name]
        for name in ("applied", "defaulted", "pending", "expired", "late", "frozen", "kept")
    }


@pytest.mark.parametrize("by", ["file", "operator"])
def test_silence_counts_as_declared(life: Reopened, by: str) -> None:
    """Whether the file declares it or the operator does; the log and the report tell it from what was sent."""
    router = life.store.install(DECLARED if by == "file" else PLAIN)
    if by == "operator":
        router.update_learning(horizon={"after": "1h", "outcome": {"quality": 0.25, "cost": 0.5}})
    decision = router.decide({"task": "a"})
    before = router.state_hash
    life.clock.forward(HOUR)
    assert life.store.upkeep().horizons == 0
    assert (router.state_hash, counts(router)["pending"]) == (before, 1)
    life.clock.forward(0.001)
    assert life.store.upkeep().horizons == 1
    assert router.state_hash != before
    [row] = router.feedback_log()
    assert (row.decision_id, row.status, row.by_horizon, row.principal) == (
        decision.id,
        "applied",
        True,
        "capsa",
    )
    assert row.reward == pytest.approx(REWARD)
    assert row.metrics == {"quality": 0.25, "cost": 0.5}
    assert (row.credited, row.context_key) == (decision.choices, "a")
    assert counts(router) == {**dict.fromkeys(counts(router), 0), "applied": 1, "defaulted": 1}
    story = router.story(given_id(decision))
    assert (story.status, story.learned_at, story.missing) == ("applied", row.sequence, [])
    assert life.store.rebuild().equal


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
@settings(max_examples=15)
def test_what_the_horizon_brings_is_learned_as_if_it_had_been_sent(
    algorithm: str, data: st.DataObject
) -> None:
    """The twin's horizon is longer, and somebody sends there at the same time what is missing here."""
    sent = [
        data.draw(st.dictionaries(st.sampled_from(["quality", "cost"]), st.floats(0, 1))) for _ in range(3)
    ]
    carried: list[dict[str, Any]] = [{}, {"taken": "dear"}, {"taken": None}]
    taken = [data.draw(st.sampled_from(carried)) for _ in range(3)]
    defaults = {"quality": 0.25, "cost": 0.5}
    seen = []
    for after in ("1h", "2h"):
        with reopened("memory") as life:
            router = life.store.install(SPEC % (algorithm, after, WITH))
            decisions = [given_id(router.decide(context_key="ab"[number % 2])) for number in range(3)]
            for decision, outcome, carried_out in zip(decisions, sent, taken, strict=True):
                life.clock.forward(1)
                if outcome:
                    router.feedback(decision, outcome=outcome, **carried_out)
            life.clock.forward(HOUR)
            if after == "1h":
                assert life.store.upkeep().horizons == 3
            else:
                for decision, outcome in zip(decisions, sent, strict=True):
                    missing = {name: value for name, value in defaults.items() if name not in outcome}
                    if missing:
                        router.feedback(decision, outcome=missing)
            stories = [router.story(decision) for decision in decisions]
            seen.append(
                (
                    router.contexts(),
                    [(story.status, story.reward) for story in stories],
                    [(option.mean, option.rewards) for option in router.report().strategies[0].options],
                )
            )
    assert seen[0] == seen[1]


def test_parts_that_were_sent_stay(life: Reopened) -> None:
    """The declared values stand only for what is missing, and `taken` holds."""
    router = life.store.install(DECLARED)
    decision = given_id(router.decide({"task": "a"}))
    router.feedback(decision, outcome={"quality": 1.0}, taken="dear")
    life.clock.forward(HOUR + 1)
    life.restart().upkeep()
    first, second = life.router.feedback_log()
    assert (first.status, first.by_horizon, first.metrics) == ("pending", False, {"quality": 1.0})
    assert (second.status, second.by_horizon, second.metrics) == ("applied", True, {"cost": 0.5})
    assert second.reward == pytest.approx(0.6 - 0.2)
    assert second.credited == {"choice": "dear"}
    # What was posted is still compared with.
    assert life.router.feedback(decision, outcome={"quality": 1.0}).status == "repeated"
    with pytest.raises(capsa.FeedbackConflict):
        life.router.feedback(decision, outcome={"quality": 0.9})
    assert counts(life.router)["defaulted"] == 1


def test_what_is_declared_incompletely_teaches_nothing(life: Reopened) -> None:
    """A metric is missing still: expired, unless the missing one was sent."""
    router = life.store.install(SPEC % ("thompson", "1h", ", outcome: {quality: 0.25}"))
    silent, half = given_id(router.decide()), given_id(router.decide())
    router.feedback(half, outcome={"cost": 0.5})
    before = router.contexts()
    life.clock.forward(HOUR + 1)
    life.store.upkeep()
    rows = {row.decision_id: row for row in passed(router)}
    assert (rows[silent].status, rows[silent].reward) == ("expired", None)
    assert rows[half].status == "applied"
    assert rows[half].reward == pytest.approx(REWARD)
    assert [row.rewards for row in router.contexts()] == [1]
    assert before == [] or before[0].rewards == 0
    assert (counts(router)["applied"], counts(router)["defaulted"], counts(router)["expired"]) == (1, 1, 1)
    story = router.story(silent)
    assert (story.status, story.metrics, story.missing) == ("expired", {}, ["cost"])


@pytest.mark.parametrize("declared", ["", ", outcome: {quality: 0.25}"])
def test_without_a_complete_outcome_the_state_is_that_of_before(life: Reopened, declared: str) -> None:
    router = life.store.install(SPEC % ("thompson", "1h", declared))
    router.feedback(router.decide().id, reward=0.5)
    router.decide()
    before = router.state_hash
    life.clock.forward(HOUR + 1)
    life.store.upkeep()
    assert router.state_hash == before
    assert (counts(router)["expired"], counts(router)["pending"]) == (1, 0)
    assert len(passed(router)) == bool(declared)


def test_frozen_and_not_ours(life: Reopened) -> None:
    """While frozen, and where nothing of ours was carried out, it is kept and not learned."""
    router = life.store.install(DECLARED)
    taken = given_id(router.decide())
    router.feedback(taken, outcome={"quality": 1.0}, taken=None)
    frozen = given_id(router.decide())
    router.update_learning(rails={"freeze": True})
    before = router.state_hash
    life.clock.forward(HOUR + 1)
    life.store.upkeep()
    assert router.state_hash == before
    assert {row.decision_id: row.status for row in passed(router)} == {taken: "kept", frozen: "frozen"}
    assert {name: count for name, count in counts(router).items() if count} == {"frozen": 1, "kept": 1}
    router.update_learning(rails={"freeze": False})
    life.store.upkeep()
    assert len(passed(router)) == 2


@pytest.mark.parametrize("fault", REWARDS)
def test_a_guest_that_has_no_reward_for_it(store: capsa.Store, clock: Any, fault: str) -> None:
    """There is nobody to tell: the decision expires, nothing is learned, and others go on."""
    component, _ = REWARDS[fault]
    broken, sound = store.install(component), store.install(DECLARED)
    broken.update_learning(horizon={"after": "1h", "outcome": {"quality": 0.5}})
    decision = given_id(broken.decide())
    sound.decide()
    before = broken.state_hash
    clock.forward(HOUR + 1)
    assert store.upkeep().horizons == 2
    assert broken.state_hash == before
    assert [(row.status, row.reward) for row in passed(broken)] == [("expired", None)]
    assert [row.status for row in passed(sound)] == ["applied"]
    assert store.upkeep().horizons == 0
    assert broken.feedback(decision, reward=0.5).status == "late"


@given(
    horizon_ms=st.integers(1000, 10_000),
    part_ms=st.integers(0, 999),
    beyond_ms=st.integers(1, 3000),
    declared=st.booleans(),
)
def test_late_begins_a_millisecond_after_the_horizon(
    horizon_ms: int, part_ms: int, beyond_ms: int, declared: bool
) -> None:
    """At its last millisecond feedback is learned. The deadline is the one of the decision, wherever a second begins."""
    with reopened("memory") as life:
        router = life.store.install(SPEC % ("thompson", f"{horizon_ms}ms", WITH if declared else ""))
        life.clock.now_s = (1_800_000_000_000 + part_ms) / 1000
        made_ms = life.clock.now_ms
        in_time, late = given_id(router.decide()), given_id(router.decide())
        life.clock.now_s = (made_ms + horizon_ms) / 1000
        assert life.clock.now_ms == made_ms + horizon_ms
        assert router.feedback(in_time, reward=0.5).status == "applied"
        life.clock.now_s = (made_ms + horizon_ms + beyond_ms) / 1000
        assert router.feedback(late, reward=0.5).status == "late"


def test_what_comes_too_late_changes_nothing_that_was_learned(life: Reopened) -> None:
    """Before the sweeper came or after it: the declared outcome counts, the post is late."""
    router = life.store.install(DECLARED)
    before_it, after_it = given_id(router.decide()), given_id(router.decide())
    life.clock.forward(HOUR + 0.001)
    assert router.feedback(before_it, outcome={"quality": 1.0, "cost": 0.0}).status == "late"
    learned = router.contexts()[0].rewards
    life.store.upkeep()
    assert router.feedback(after_it, outcome={"quality": 1.0, "cost": 0.0}).status == "late"
    assert (learned, router.contexts()[0].rewards) == (1, 2)
    assert [row.reward for row in passed(router)] == [pytest.approx(REWARD)] * 2
    for decision in (before_it, after_it):
        story = router.story(decision)
        assert [post.status for post in story.posts] == ["applied", "late"]
    for seconds in (0, HOUR, 86_400 * 5):
        life.clock.forward(seconds)
        state = life.router.state_hash
        life.store.upkeep()
        life.restart().upkeep()
        life.router.feedback(before_it, outcome={"quality": 1.0, "cost": 0.0})
        assert (len(passed(life.router)), life.router.state_hash) == (2, state)
    assert life.store.rebuild().equal


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_nothing_is_learned_twice_or_not_at_all(kind: str, data: st.DataObject) -> None:
    """However often it is swept, restarted, and killed between any two writes."""
    with reopened(kind) as life:
        life.store.install(DECLARED)
        decisions, answered = [], {}
        for number in range(data.draw(st.integers(1, 6))):
            decisions.append(given_id(life.router.decide({"task": "a"})))
            if data.draw(st.booleans()):
                outcome = data.draw(st.sampled_from([{"quality": 1.0}, {"quality": 1.0, "cost": 0.0}]))
                answered[decisions[-1]] = life.router.feedback(decisions[-1], outcome=outcome).status
            life.clock.forward(data.draw(st.sampled_from([0.0, 600.0])) if number else 0)
        life.clock.forward(HOUR)
        for _ in range(data.draw(st.integers(1, 4))):
            match data.draw(st.sampled_from(["sweep", "restart", "kill", "late", "time"])):
                case "sweep":
                    life.store.upkeep()
                case "restart":
                    life.restart()
                case "kill":
                    where = data.draw(st.sampled_from(["any", "settle", "append"]))
                    with life.killed(where, data.draw(st.integers(1, 5))):
                        life.store.upkeep()
                case "late":
                    life.router.feedback(decisions[0], outcome={"quality": 1.0})
                case _:
                    life.clock.forward(data.draw(st.sampled_from([1.0, 86_400.0, 86_400.0 * 3])))
        life.clock.forward(HOUR)
        life.store.upkeep()
        life.restart()
        assert life.store.upkeep().horizons == 0
        times = Counter(row.decision_id for row in life.router.feedback_log() if row.status == "applied")
        assert times == dict.fromkeys(decisions, 1)
        assert sum(row.rewards for row in life.router.contexts()) == len(decisions)
        wanted = {decision for decision in decisions if answered.get(decision) != "applied"}
        assert {row.decision_id for row in passed(life.router)} == wanted
        assert life.store.rebuild().equal
        assert life.store.verify() == []


@pytest.mark.parametrize("where", WRITES)
def test_a_process_that_dies_in_a_sweep_begins_it_again(life: Reopened, where: str) -> None:
    """Between the event and the note that it was dealt with, above all."""
    life.store.install(DECLARED)
    life.router.decide()
    life.clock.forward(HOUR + 1)
    with life.killed(where):
        life.store.upkeep()
    if where == "settle":
        assert len(passed(life.router)) == 1
    life.store.upkeep()
    assert [row.status for row in life.router.feedback_log()] == ["applied"]
    assert (counts(life.router)["applied"], counts(life.router)["defaulted"]) == (1, 1)
    assert life.store.upkeep().horizons == 0


@given(data=st.data())
def test_a_changed_horizon_is_for_later_decisions(data: st.DataObject) -> None:
    """An earlier decision keeps the deadline and the outcome that were declared when it was made."""
    hours = st.sampled_from([1, 2, 3])
    with reopened("memory") as life:
        router = life.store.install(PLAIN)
        expected = {}
        for number in range(4):
            after, quality = data.draw(hours), data.draw(st.sampled_from([None, 0.0, 1.0]))
            outcome = None if quality is None else {"quality": quality, "cost": 0.0}
            if data.draw(st.booleans()):
                declared = "" if quality is None else f", outcome: {{quality: {quality}, cost: 0}}"
                router.update_learning(horizon=None)
                life.store.install(SPEC % ("thompson", f"{after}h", declared))
            else:
                router.update_learning(horizon={"after": f"{after}h", "outcome": outcome})
            decision = given_id(router.decide({"task": str(number)}))
            expected[decision] = (life.clock.now_s + after * HOUR, quality)
        for _ in range(5):
            life.clock.forward(HOUR + 1)
            life.restart().upkeep()
            assert {row.decision_id: row.reward for row in passed(life.router)} == {
                decision: pytest.approx(0.6 * quality)
                for decision, (deadline_s, quality) in expected.items()
                if quality is not None and deadline_s < life.clock.now_s
            }


def test_the_sweeper_does_it_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the clock on the wall: on disk, in memory, and in a store that was closed before the horizon ended."""
    monkeypatch.setattr(_upkeep, "ROUND_SECONDS", 0.05)
    spec = SPEC % ("thompson", "1s", WITH)
    for path in (None, tmp_path / "store"):
        with capsa.open(path) as store:
            router = store.install(spec)
            decision = router.decide()
            await_passed(store, router, decision)
    with capsa.open(tmp_path / "store") as store:
        decision = store.capsule("router").decide()
    with capsa.open(tmp_path / "store") as store:
        await_passed(store, store.capsule("router"), decision)
        assert counts(store.capsule("router"))["defaulted"] == 2
    assert "capsa-upkeep" not in {thread.name for thread in threading.enumerate()}


def await_passed(store: capsa.Store, router: capsa.Capsule, decision: capsa.Decision) -> None:
    """Waits for the horizon; a minute is more than any machine needs."""
    give_up = time.monotonic() + 60
    after = 0
    while time.monotonic() < give_up:
        for event in store.journal.follow("default", after, 60):
            after = event.sequence
            if event.type == "horizon_passed" and decision.nonce in event.payload:
                assert event.time_ms > decision.deadline_ms
                assert router.story(given_id(decision)).status == "applied"
                return
    raise AssertionError("the sweeper never came")


def test_a_decision_that_cannot_be_read_does_not_hold_up_the_others(
    tmp_path: Path, clock: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its record has rotted behind a snapshot: the error is told, and it stays for another round."""
    monkeypatch.setattr(_upkeep, "CLOSING_EVENTS", 1)
    spec = "name: router\noptions: [a, b]\nreward: {ok: 1}\nhorizon: {after: 1h, outcome: {ok: 0}}\n"
    with capsa.open(tmp_path / "store", clock=clock, upkeep=False) as store:
        router = store.install(spec)
        rotten, sound = router.decide(), router.decide()
    with closing(sqlite3.connect(tmp_path / "store" / "store.sqlite")) as database, database:
        database.execute(
            "UPDATE event SET payload = x'a0' WHERE id = ?", ((1 << 40) + (rotten.sequence or 0),)
        )
    clock.forward(3601)
    with capsa.open(tmp_path / "store", clock=clock, upkeep=False) as store:
        router = store.capsule("router")
        for _ in range(2):
            store.upkeep()
            assert router.story(given_id(sound)).status == "applied"
            assert router.report().feedback.defaulted == 1
        assert f"the horizon of event {rotten.sequence} of default" in caplog.text


def test_with_mode_off_there_is_nothing_to_wait_for(life: Reopened) -> None:
    """No id, no record, and so no sync, whatever the horizon declares."""
    router = life.store.install(
        "name: off\noptions: [a, b]\nreward: {ok: 1}\nmode: off\nhorizon: {after: 1h, outcome: {ok: 0}}\n"
    )
    decision = router.decide()
    assert (decision.id, decision.is_in_id) == (None, True)
