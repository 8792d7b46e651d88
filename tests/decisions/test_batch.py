"""Batches: each item whole or not at all, as the calls one by one would be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.decisions.past import SPEC
from tests.reference.clock import Clock

import capsa

posts = st.one_of(
    st.fixed_dictionaries({"outcome": st.just({"quality": 0.5, "cost": 0.25})}),
    st.fixed_dictionaries({"outcome": st.just({"quality": 0.25})}),
    st.fixed_dictionaries({"reward": st.sampled_from([0.5, -0.5, 7.0])}),
    st.fixed_dictionaries({"reward": st.just(0.5), "taken": st.sampled_from(["cheap", "nothing", None])}),
)


def one_by_one(call: Callable[..., Any], items: list[dict[str, Any]]) -> list[Any]:
    """What the calls give, or what they raise."""
    answers = []
    for item in items:
        try:
            answers.append(call(**item))
        except capsa.CapsaError as error:
            answers.append((type(error), error.detail, error.pointer))
    return answers


def plain(answers: list[Any]) -> list[Any]:
    """Answers of a batch in the same form."""
    return [
        (type(answer), answer.detail, answer.pointer) if isinstance(answer, capsa.CapsaError) else answer
        for answer in answers
    ]


@given(given=st.lists(st.tuples(st.integers(0, 5), posts), max_size=20))
def test_a_batch_of_feedback_is_the_feedbacks_one_by_one(given: list[tuple[int, dict[str, Any]]]) -> None:
    results = []
    for batched in (False, True):
        with capsa.open(clock=Clock(), seed=3) as store:
            router = store.install(SPEC)
            ids = [router.decide({"task": f"t{number % 2}"}).id for number in range(5)]
            items = [{"decision_id": [*ids, "dec_unknown"][which], **post} for which, post in given]
            answers = plain(router.feedback_batch(items)) if batched else one_by_one(router.feedback, items)
            results.append((answers, router.state_hash))
    assert results[0] == results[1]


def test_a_batch_of_decisions_has_errors_in_their_places() -> None:
    with capsa.open(clock=Clock(), seed=3) as store:
        router = store.install(SPEC)
        good, wrong, unknown, not_one = router.decide_batch(
            [{"input": {"task": "a"}}, {"options": ["chep"]}, {"optoins": []}, 7]  # type: ignore[list-item]
        )
        assert isinstance(good, capsa.Decision)
        assert router.story(str(good.id)).status == "pending"
        assert isinstance(wrong, capsa.UnknownOption)
        assert isinstance(unknown, capsa.UnknownField)
        assert unknown.remedy == "did you mean options?"
        assert isinstance(not_one, capsa.InvalidField)
        assert router.report().decisions == 1


@pytest.mark.parametrize(
    "items", ["text", {"input": {}}, None, 7, [{}] * 10_001], ids=lambda items: str(items)[:12]
)
def test_what_is_no_batch_is_refused_whole(items: Any) -> None:
    with capsa.open(seed=3) as store:
        router = store.install(SPEC)
        for call in (router.decide_batch, router.feedback_batch):
            with pytest.raises(capsa.InvalidField):
                call(items)
        assert store.journal.length("default") == 3


def test_a_batch_is_on_disk_when_it_is_answered(tmp_path: Path) -> None:
    async def story() -> None:
        async with capsa.AsyncStore(tmp_path / "store", upkeep=False) as store:
            router = await store.install(SPEC)
            decisions = await router.decide_batch([{"input": {"task": "a"}}] * 50)
            ids = [decision.id for decision in decisions if isinstance(decision, capsa.Decision)]
            answers = await router.feedback_batch([{"decision_id": id_, "reward": 0.5} for id_ in ids])
            assert [answer.status for answer in answers if isinstance(answer, capsa.Feedback)] == [
                "applied"
            ] * 50
            assert store.sync.journal.durable("default") == store.sync.journal.length("default")

    asyncio.run(story())
