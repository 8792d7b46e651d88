"""Idempotency keys: a retry gets the first answer and counts once; other content under the same key is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decisions.past import PAIR, SPEC, given_id
from tests.decisions.reopened import KINDS, Reopened, reopened

import capsa
from capsa.decisions import _retries

DAY_S = 24 * 3600.0
LONG = SPEC.replace("1h", "60d")
EXPLICIT: dict[str, Any] = {"option": "cheap", "reward": 0.25, "context_key": "a"}


def applied(capsule: capsa.Capsule) -> int:
    return capsule.report().feedback.applied


# What a key is


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\t", "line\n", "ü", "\x7f", 5, b"key", ["key"]])
def test_what_is_no_key_is_refused(life: Reopened, key: Any) -> None:
    router = life.store.install(SPEC)
    decision = router.decide()
    length = life.store.journal.length("default")
    calls: list[Callable[[], object]] = [
        lambda: router.decide(idempotency_key=key),
        lambda: router.feedback(decision.id, reward=0.5, idempotency_key=key),
        lambda: router.feedback(**EXPLICIT, idempotency_key=key),
    ]
    for call in calls:
        with pytest.raises(capsa.InvalidField) as caught:
            call()
        assert caught.value.pointer == "/idempotencyKey"
    assert life.store.journal.length("default") == length


@pytest.mark.parametrize("key", ["k", " ", "~" * 255, "0b9c6d3e-5d41-4b19-9d5f-8a3c6f1f2a11"])
def test_what_is_a_key_is_one(life: Reopened, key: str) -> None:
    router = life.store.install(SPEC)
    assert router.decide(idempotency_key=key).id == router.decide(idempotency_key=key).id
    router.feedback(**EXPLICIT, idempotency_key=key)
    assert router.feedback(**EXPLICIT, idempotency_key=key).status == "repeated"


def test_a_batch_takes_no_keys(life: Reopened) -> None:
    router = life.store.install(SPEC)
    (decided,) = router.decide_batch([{"idempotency_key": "k"}])
    (posted,) = router.feedback_batch([{**EXPLICIT, "idempotency_key": "k"}])
    (claimed,) = router.feedback_batch([{**EXPLICIT, "claims": [b"k"]}])
    assert {type(answer) for answer in (decided, posted, claimed)} == {capsa.UnknownField}


# Decisions


def test_a_retried_decision_is_the_first_one(life: Reopened) -> None:
    """For ten minutes by the store's clock; then it is another one."""
    router = life.store.install(SPEC)
    body: dict[str, Any] = {
        "context_key": "a",
        "options": ["cheap", "dear"],
        "current": "dear",
        "subject": "ann",
    }
    first = router.decide({"task": "x", "more": {"a": [1]}}, **body, idempotency_key="k")
    for seconds in (0, 300, 300):
        life.clock.forward(seconds)
        assert router.decide({"more": {"a": [1]}, "task": "x"}, **body, idempotency_key="k") is first
    assert router.report().decisions == 1
    assert router.feedback(first.id, reward=0.5).status == "applied"
    life.clock.forward(0.001)
    later = router.decide({"task": "x", "more": {"a": [1]}}, **body, idempotency_key="k")
    assert later.id != first.id
    assert router.decide({"task": "x", "more": {"a": [1]}}, **body, idempotency_key="k") is later
    assert router.report().decisions == 2


@pytest.mark.parametrize(
    "other",
    [
        {"input": {"task": "y"}},
        {"input": {"task": "x", "more": None}},
        {"input": None},
        {"context_key": "a"},
        {"options": ["cheap"]},
        {"current": "dear"},
        {"subject": "ann"},
    ],
)
def test_other_arguments_under_a_key_are_a_conflict(life: Reopened, other: dict[str, Any]) -> None:
    router = life.store.install(SPEC)
    first = router.decide(input={"task": "x"}, idempotency_key="k")
    with pytest.raises(capsa.IdempotencyConflict) as caught:
        router.decide(**({"input": {"task": "x"}} | other), idempotency_key="k")
    assert (caught.value.code, caught.value.pointer) == ("idempotency-conflict", "/idempotencyKey")
    assert isinstance(caught.value, capsa.errors.Conflict)
    assert router.report().decisions == 1
    assert router.decide(input={"task": "x"}, idempotency_key="k") is first


def test_true_is_not_one(life: Reopened) -> None:
    """As JSON they differ."""
    router = life.store.install(SPEC)
    router.decide({"task": "x", "a": 1}, idempotency_key="k")
    with pytest.raises(capsa.IdempotencyConflict):
        router.decide({"task": "x", "a": True}, idempotency_key="k")


def test_a_key_belongs_to_its_capsule(life: Reopened) -> None:
    here, there = life.store.install(SPEC), life.store.job("other").install(SPEC)
    guest = life.store.tenant("acme").job("default").install(SPEC)
    assert here.decide(idempotency_key="k").id != there.decide(context_key="b", idempotency_key="k").id
    here.feedback(**EXPLICIT, idempotency_key="k")
    for other in (there, guest):
        assert other.feedback(**EXPLICIT | {"reward": 0.5}, idempotency_key="k").status == "applied"


def test_what_was_refused_does_not_hold_its_key(life: Reopened) -> None:
    router = life.store.install(SPEC)
    for wrong in ({"task": [1]}, {"task": object()}, {1: 2, "a": 3}):
        with pytest.raises((capsa.InvalidRequest, TypeError)):
            router.decide(wrong, idempotency_key="k")  # type: ignore[arg-type]
    assert router.decide({"task": "x"}, idempotency_key="k").context_key == "x"
    with pytest.raises(capsa.InvalidRequest):
        router.feedback(**EXPLICIT | {"reward": 7}, idempotency_key="k")
    assert router.feedback(**EXPLICIT, idempotency_key="k").status == "applied"


def test_the_oldest_decisions_go(life: Reopened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_retries, "DECISIONS", 3)
    router = life.store.install(SPEC)
    made = [router.decide(idempotency_key=str(number)).id for number in range(4)]
    assert [router.decide(idempotency_key=str(number)).id for number in (1, 2, 3)] == made[1:]
    assert router.decide(idempotency_key="0").id != made[0]
    assert len(life.store._retries._decisions) == 3


@pytest.mark.parametrize("how", ["delete", "purge_logs", "purge", "erase"])
def test_what_was_taken_away_is_not_answered_again(life: Reopened, how: str) -> None:
    router = life.store.install(SPEC)
    first = router.decide(subject="ann", idempotency_key="k")
    if how == "erase":
        life.store.erase_subject("ann")
    elif how == "purge_logs":
        router.purge_logs()
    else:
        router.delete() if how == "delete" else life.store.purge("default")
        router = life.store.install(SPEC)
    assert not life.store._retries._decisions
    again = router.decide(subject="ann", idempotency_key="k")
    assert again.id != first.id
    assert router.feedback(again.id, reward=0.5).status == "applied"


def test_a_decision_with_mode_off_is_answered_again(life: Reopened) -> None:
    router = life.store.install(SPEC)
    router.update_learning(mode="off")
    first = router.decide(idempotency_key="k")
    router.update_learning(mode="live")
    assert router.decide(idempotency_key="k") is first


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_many_retries_at_once_are_one_call(tmp_path: Path, on_disk: bool) -> None:
    """Of decisions and of feedback, from threads: none is answered differently, nothing counts twice."""
    with capsa.open(tmp_path / "store" if on_disk else None) as store:
        router = store.install(SPEC)
        decided: dict[str, set[str | None]] = {str(number): set() for number in range(20)}
        statuses: dict[str, list[str]] = {str(number): [] for number in range(20)}
        start = threading.Barrier(6)

        def work() -> None:
            for number, ids in decided.items():
                start.wait()
                ids.add(router.decide(idempotency_key=number).id)
                statuses[number].append(router.feedback(**EXPLICIT, idempotency_key=number).status)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [len(ids) for ids in decided.values()] == [1] * 20
        assert all(sorted(told) == ["applied"] + ["repeated"] * 5 for told in statuses.values())
        assert (router.report().decisions, applied(router)) == (20, 20)
        assert store.rebuild().equal


# Feedback without a decision


def test_explicit_feedback_counts_once_for_a_key(life: Reopened) -> None:
    """Over restarts and crashes; the retry is told reward, context and option of the first."""
    router = life.store.install(LONG)
    first = router.feedback(**EXPLICIT, idempotency_key="k")
    assert first.status == "applied"
    for turn in range(6):
        router = life.router
        again = router.feedback(**EXPLICIT, idempotency_key="k")
        assert again.status == "repeated"
        assert (again.reward, again.context_key, again.option_name) == (0.25, "a", "cheap")
        assert (again.sequence, again.decision_id) == (first.sequence, None)
        assert again.after == first.after
        with pytest.raises(capsa.IdempotencyConflict):
            router.feedback(**EXPLICIT | {"reward": 0.5}, idempotency_key="k")
        assert applied(router) == 1
        life.mark()
        life.crash() if turn % 2 else life.restart()
        life.clock.forward(10 * DAY_S)
        life.store.upkeep()
    assert life.router.feedback(**EXPLICIT, idempotency_key="other").status == "applied"
    assert life.store.rebuild().equal


@pytest.mark.parametrize(
    "other",
    [{"option": "dear"}, {"reward": 0.5}, {"context_key": "b"}, {"strategy": "choice"}, {"reward": True}],
)
def test_other_feedback_under_a_key_is_a_conflict(life: Reopened, other: dict[str, Any]) -> None:
    life.store.install(SPEC)
    life.router.feedback(**EXPLICIT, idempotency_key="k")
    for _ in range(2):
        with pytest.raises(capsa.IdempotencyConflict):
            life.router.feedback(**EXPLICIT | other, idempotency_key="k")
        assert applied(life.router) == 1
        life.restart()


@pytest.mark.parametrize("kind", KINDS)
@given(
    horizon_days=st.sampled_from([1, 30, 200, 700]),
    began_days=st.integers(0, 60),
    waits=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
@settings(max_examples=25)
def test_a_key_is_known_for_the_horizon(
    kind: str, horizon_days: int, began_days: int, waits: list[float]
) -> None:
    """Wherever in the journal's order of times it begins, whatever upkeep and restarts do meanwhile."""
    with reopened(kind) as life:
        life.clock.forward(began_days * DAY_S)
        life.store.install(SPEC.replace("1h", f"{horizon_days}d"))
        life.router.feedback(**EXPLICIT, idempotency_key="k")
        left = horizon_days * DAY_S
        for wait in waits:
            life.clock.forward(wait * left)
            left -= wait * left
            life.store.upkeep()
            life.restart()
            assert life.router.feedback(**EXPLICIT, idempotency_key="k").status == "repeated"
        assert applied(life.router) == 1


def test_keys_are_let_go_in_time(life: Reopened) -> None:
    """Two months behind the horizon nothing of a key is left; then it counts again."""
    life.store.install(SPEC)
    life.router.feedback(**EXPLICIT, idempotency_key="k")
    journal = life.store.journal
    assert journal.release(b"\0" * 6) == 0
    life.clock.forward(60 * DAY_S)
    life.store.upkeep()
    life.restart()
    assert all(not life.store.journal.claims("default", bytes([first])) for first in range(255))
    assert life.router.feedback(**EXPLICIT, idempotency_key="k").status == "applied"


def test_a_clock_that_goes_back_forgets_no_key(life: Reopened) -> None:
    """Even where it goes back over an edge of the times that the journal orders them by."""
    life.store.install(SPEC)
    edge_s = ((int(life.clock() * 1000) >> 32) + 1 << 32) / 1000
    life.clock.forward(edge_s - life.clock() + 1)
    life.router.feedback(**EXPLICIT, idempotency_key="k")
    life.clock.forward(-2)
    life.restart()
    assert life.router.feedback(**EXPLICIT, idempotency_key="k").status == "repeated"


def test_a_feedback_that_a_crash_took_counts_anew(life: Reopened, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was never acknowledged: the retry brings it."""
    router = life.store.install(SPEC)
    life.mark()
    monkeypatch.setattr(life.store, "_durable", lambda: None)
    assert router.feedback(**EXPLICIT, idempotency_key="k").status == "applied"
    # Not yet on disk, it is known all the same.
    assert router.feedback(**EXPLICIT, idempotency_key="k").status == "repeated"
    life.crash()
    for status in ("applied", "repeated"):
        assert life.router.feedback(**EXPLICIT, idempotency_key="k").status == status
    assert applied(life.router) == 1


def test_what_is_not_on_disk_is_never_dropped(life: Reopened, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are; the others are found in the journal."""
    monkeypatch.setattr(_retries, "FEEDBACKS", 2)
    router = life.store.install(SPEC)
    with monkeypatch.context() as undurable:
        undurable.setattr(life.store, "_durable", lambda: None)
        for number in range(6):
            router.feedback(**EXPLICIT, idempotency_key=str(number))
        for number in range(6):
            assert router.feedback(**EXPLICIT, idempotency_key=str(number)).status == "repeated"
    life.mark()
    router.feedback(**EXPLICIT, idempotency_key="6")
    assert len(life.store._retries._posts) <= 3
    for number in range(7):
        assert router.feedback(**EXPLICIT, idempotency_key=str(number)).status == "repeated"
    assert applied(router) == 7


def test_a_purge_of_logs_does_not_make_it_count_again(life: Reopened) -> None:
    """Its event says nothing any more: the retry says what it said."""
    router = life.store.install(SPEC)
    router.feedback(**EXPLICIT, idempotency_key="k")
    router.purge_logs()
    for _ in range(3):
        again = life.router.feedback(**EXPLICIT, idempotency_key="k")
        assert (again.status, again.reward, again.context_key, again.option_name) == (
            "repeated",
            0.25,
            "a",
            "cheap",
        )
        with pytest.raises(capsa.IdempotencyConflict):
            life.router.feedback(**EXPLICIT | {"reward": 0.5}, idempotency_key="k")
        life.restart()
    assert applied(life.router) == 1


def test_a_key_of_a_deleted_capsule_is_free(life: Reopened) -> None:
    life.store.install(SPEC).feedback(**EXPLICIT, idempotency_key="k")
    life.router.delete()
    life.store.install(SPEC)
    for status in ("applied", "repeated"):
        assert life.router.feedback(**EXPLICIT, idempotency_key="k").status == status
        life.restart()
    assert applied(life.router) == 1


def test_several_strategies_and_a_frozen_capsule(life: Reopened) -> None:
    retries = life.store.install(PAIR)
    body: dict[str, Any] = {"strategy": "timeout", "option": 1, "reward": 0.5, "context_key": "default"}
    retries.update_learning(rails={"freeze": True})
    assert retries.feedback(**body, idempotency_key="k").status == "frozen"
    life.restart()
    again = life.store.capsule("retries").feedback(**body, idempotency_key="k")
    assert (again.status, again.strategy, again.option_name) == ("repeated", "timeout", "2s")


# Feedback on a decision


@pytest.mark.parametrize(
    "post", [{"reward": 0.5}, {"outcome": {"quality": 0.5}}, {"outcome": {"quality": 0.5, "cost": 0}}]
)
def test_feedback_by_id_with_a_key(life: Reopened, post: dict[str, Any]) -> None:
    """The same is repeated, anything else under the key is a conflict: other content, and another decision."""
    router = life.store.install(SPEC)
    ids = [given_id(router.decide()) for _ in range(2)]
    first = router.feedback(ids[0], **post, idempotency_key="k")
    for _ in range(3):
        again = life.router.feedback(ids[0], **post, idempotency_key="k")
        assert again.status == "repeated"
        assert (again.reward, again.missing, again.sequence) == (first.reward, first.missing, first.sequence)
        others: list[Any] = [
            (ids[0], {"reward": 0.25}),
            (ids[0], {**post, "taken": "dear"}),
            (ids[0], {**post, "taken": None}),
            (ids[1], post),
        ]
        for decision, other in others:
            with pytest.raises(capsa.IdempotencyConflict):
                life.router.feedback(decision, **other, idempotency_key="k")
        with pytest.raises(capsa.IdempotencyConflict):
            life.router.feedback(**EXPLICIT, idempotency_key="k")
        life.restart()
    assert len(life.router.feedback_log()) == 1
    # Without the key it is a post like any other.
    assert life.router.feedback(ids[1], **post).status == first.status


def test_other_content_of_a_decision_under_another_key_is_a_feedback_conflict(life: Reopened) -> None:
    router = life.store.install(SPEC)
    decision = given_id(router.decide())
    router.feedback(decision, reward=0.5, idempotency_key="one")
    with pytest.raises(capsa.FeedbackConflict):
        router.feedback(decision, reward=0.25, idempotency_key="two")
    assert router.feedback(decision, reward=0.5, idempotency_key="three").status == "repeated"


def test_a_decision_that_was_not_recorded(life: Reopened) -> None:
    router = life.store.install(SPEC)
    assert router.feedback(None, reward=0.5, idempotency_key="k").status == "unrecorded"
    assert router.feedback(**EXPLICIT, idempotency_key="k").status == "applied"


def test_a_key_takes_the_place_of_one_metric(life: Reopened) -> None:
    """An event has so many keys that count once, and no more."""
    router = life.store.install(SPEC)
    decision, outcome = given_id(router.decide()), {f"m{at}": 0.5 for at in range(256)}
    with pytest.raises(capsa.InvalidField) as caught:
        router.feedback(decision, outcome=outcome, idempotency_key="k")
    assert caught.value.pointer == "/outcome"
    del outcome["m0"]
    with pytest.raises(capsa.UnknownMetric):
        router.feedback(decision, outcome=outcome, idempotency_key="k")


# Awaited


def test_the_async_capsule_takes_keys(tmp_path: Path) -> None:
    async def story() -> None:
        async with capsa.AsyncStore(tmp_path / "store") as store:
            router = await store.install(SPEC)
            made = await asyncio.gather(
                *(router.decide({"task": "x"}, idempotency_key="k") for _ in range(8))
            )
            assert len({decision.id for decision in made}) == 1
            with pytest.raises(capsa.IdempotencyConflict):
                await router.decide({"task": "y"}, idempotency_key="k")
            posts = (router.feedback(**EXPLICIT, idempotency_key="k") for _ in range(8))
            statuses = [answer.status for answer in await asyncio.gather(*posts)]
            assert sorted(statuses) == ["applied"] + ["repeated"] * 7
            with pytest.raises(capsa.IdempotencyConflict):
                await router.feedback(made[0].id, reward=0.5, idempotency_key="k")

    asyncio.run(story())
