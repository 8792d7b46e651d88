"""The same store for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import capsa
from capsa.errors import StoreUnwritable

SPEC = "name: router\noptions: [a, b]\ncontexts: [tier]\nreward: {quality: 1}\n"


def test_the_async_store_does_what_the_store_does() -> None:
    async def story() -> None:
        async with capsa.AsyncStore(clock=lambda: 1.8e9, seed=1) as store:
            router = await store.install(SPEC)
            decision = await router.decide({"tier": "free"}, options=["a", "b"], current="a")
            feedback = await router.feedback(decision.id, outcome={"quality": 1.0})
            assert (feedback.status, feedback.reward) == ("applied", 1.0)
            assert (await router.report()).feedback.applied == 1
            (row,) = await router.contexts()
            assert row.context_key == "free"
            assert (await router.update_learning(mode="off"))["mode"] == "off"
            assert (await router.learning())["mode"] == "off"
            assert (await store.capsule("router").decide()).id is None
            with pytest.raises(capsa.UnknownCapsule):
                store.capsule("other")
            with pytest.raises(capsa.InvalidField):
                await router.decide({"tier": [1]})
            assert store.sync.capsule("router").state_hash == router.sync.state_hash
            placed = await store.install(SPEC, tenant="acme", job="two")
            assert (await placed.decide()).tenant == "acme"
        with pytest.raises(capsa.StoreClosed):
            await router.decide()

    asyncio.run(story())


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_many_tasks_lose_nothing(tmp_path: Path, on_disk: bool) -> None:
    path = tmp_path / "store" if on_disk else None

    async def story() -> None:
        async with capsa.AsyncStore(path) as store:
            router = await store.install(SPEC)

            async def one(at: int) -> None:
                decision = await router.decide({"tier": str(at % 3)})
                await asyncio.sleep(0)
                await router.feedback(decision.id, outcome={"quality": at % 2})

            await asyncio.gather(*(one(at) for at in range(200)), router.report(), router.contexts())
            report = await router.report()
            assert (report.decisions, report.feedback.applied, report.contexts.count) == (200, 200, 3)

    asyncio.run(story())
    if path is not None:
        with capsa.open(path) as again:
            assert again.capsule("router").report().feedback.applied == 200


def test_on_disk_all_tasks_share_one_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred feedbacks at once wait for the disk a few times, not a hundred times; none is answered before."""
    waits = []

    async def story() -> None:
        async with capsa.AsyncStore(tmp_path / "store") as store:
            router = await store.install(SPEC)
            decided = [await router.decide({"tier": "a"}) for _ in range(100)]
            when_durable = store.sync.journal.when_durable

            def counted(call: Callable[[StoreUnwritable | None], object]) -> None:
                waits.append(1)
                when_durable(call)

            monkeypatch.setattr(store.sync.journal, "when_durable", counted)
            answers = await asyncio.gather(
                *(router.feedback(decision.id, outcome={"quality": 1}) for decision in decided)
            )
            on_disk = {event.sequence for event in store.sync.journal.read("default")}
            assert {answer.sequence for answer in answers} <= on_disk

    asyncio.run(story())
    assert 1 <= len(waits) <= 3


@pytest.mark.parametrize("name", ["decide", "feedback", "contexts", "report", "update_learning"])
def test_both_take_the_same_arguments(name: str) -> None:
    sync = inspect.signature(getattr(capsa.Capsule, name))
    asynchronous = inspect.signature(getattr(capsa.AsyncCapsule, name))
    assert list(sync.parameters.values()) == list(asynchronous.parameters.values())
