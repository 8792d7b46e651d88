"""Slow capsules on asyncio: the event loop goes on, every call is answered, and each counts once."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import pytest
from tests.sandbox import guests
from tests.sandbox.answers import ANSWERS
from tests.sandbox.guests import script, send, tool
from tests.sandbox.outside import Site
from tests.tools.making import component, decides, echo, opened_for_asyncio, outside, policy, spins

import capsa
from capsa.decisions._fair import FURTHER, THREADS
from capsa.tools import Invoked

Result = TypeVar("Result")

#: How long each call spins, and how many are sent at once: inline they would hold the loop together, for 200 ms.
SPIN_MS: Final = 5.0
CALLS: Final = 40
#: What the loop's own thread may compute between two beats. The first call may take a millisecond more than any.
MOST_CPU_S: Final = 0.045
#: What may pass between two beats on a busy machine: mostly, and at most.
USUAL_S: Final = 0.02
MOST_S: Final = 0.15
#: What a machine does once is not what a capsule does: the best of so many tries counts.
TRIES: Final = 4


@dataclass
class Beats:
    """A task that should come to its turn all the time, and notes how long it did not.

    Attributes:
        gaps_s: How long it waited, each time.
        cpu_s: The most that the loop's thread computed meanwhile.
    """

    gaps_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    _task: asyncio.Task[None] | None = field(default=None, repr=False)

    async def _beat(self) -> None:
        while True:
            wall, cpu = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.001)
            self.gaps_s.append(time.perf_counter() - wall)
            self.cpu_s = max(self.cpu_s, time.thread_time() - cpu)

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._beat())
        await asyncio.sleep(0.005)
        self.gaps_s.clear()
        self.cpu_s = 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        # What held the loop until now is seen.
        await asyncio.sleep(0.005)
        assert self._task is not None
        self._task.cancel()

    def held(self) -> str:
        """In which way the loop was held; empty where it was not."""
        usual, most = statistics.median(self.gaps_s), max(self.gaps_s)
        if usual < USUAL_S and most < MOST_S and self.cpu_s < MOST_CPU_S:
            return ""
        return f"{len(self.gaps_s)} beats, mostly {usual * 1e3:.1f} ms, at most {most * 1e3:.1f} ms, {self.cpu_s * 1e3:.1f} ms of its own"


async def beating(calls: Callable[[], list[Coroutine[Any, Any, Result]]]) -> list[Result]:
    """The answers of calls that are made at once, during which the loop went on."""
    answers: list[Result] = []
    held = []
    for _ in range(TRIES):
        async with Beats() as beats:
            answers += await asyncio.gather(*calls())
        held.append(beats.held())
        if not held[-1]:
            return answers
    raise AssertionError(held)


def run(story: Callable[[capsa.AsyncStore], Awaitable[None]], path: Path | None = None) -> None:
    """Runs something with a store for asyncio."""

    async def told() -> None:
        async with await opened_for_asyncio(path, seed=7) as store:
            await asyncio.wait_for(story(store), 60)

    asyncio.run(told())


WHERE: Final = pytest.mark.parametrize("where", ["memory", "folder"])


def path_of(where: str, tmp_path: Path) -> Path | None:
    return tmp_path / "store" if where == "folder" else None


@WHERE
def test_decisions_of_a_slow_frame(where: str, tmp_path: Path) -> None:
    """From its second call on it leaves the loop; all are answered right, and each is one decision."""

    async def story(store: capsa.AsyncStore) -> None:
        slow = await store.install(decides("slow", frame_ms=SPIN_MS))
        first = await slow.decide({})
        answers = [first, *await beating(lambda: [slow.decide({}) for _ in range(CALLS)])]
        assert len({decision.id for decision in answers}) == len(answers)
        assert {decision.option_name for decision in answers} == {"a", "b"}
        assert {decision.context_key for decision in answers} == {"k"}
        assert (await slow.report()).decisions == len(answers)
        # What they were answered is what feedback takes.
        fed = await asyncio.gather(
            *(slow.feedback(decision.id, outcome={"quality": 1}) for decision in answers[:20])
        )
        assert {(answer.status, answer.reward) for answer in fed} == {("applied", 0.5)}
        report = await slow.report()
        assert (report.decisions, report.feedback.applied, report.feedback.pending) == (len(answers), 20, len(answers) - 20)  # fmt: skip
        assert (await store.rebuild()).equal
        assert [row.type for row in await store.audit()].count("breached") == 0

    run(story, path_of(where, tmp_path))


@WHERE
def test_feedback_of_a_slow_reward(where: str, tmp_path: Path) -> None:
    async def story(store: capsa.AsyncStore) -> None:
        slow = await store.install(decides("slow", reward_ms=SPIN_MS))
        first = await slow.decide({})
        assert (await slow.feedback(first.id, outcome={"quality": 1})).status == "applied"
        made: list[str] = []

        async def one() -> str:
            # The frame is in the same component: it is slow from now on, too.
            decision = await slow.decide({})
            assert decision.id is not None
            made.append(decision.id)
            return (await slow.feedback(decision.id, outcome={"quality": 1})).status

        statuses = await beating(lambda: [one() for _ in range(CALLS)])
        assert set(statuses) == {"applied"}
        report = await slow.report()
        assert (report.decisions, report.feedback.applied) == (len(made) + 1, len(made) + 1)
        assert (await slow.feedback(made[0], outcome={"quality": 1})).status == "repeated"
        assert (await store.rebuild()).equal

    run(story, path_of(where, tmp_path))


@WHERE
def test_calls_of_a_slow_tool(where: str, tmp_path: Path) -> None:
    """The first is begun on the loop, and given up there: it is made and recorded once all the same."""

    async def story(store: capsa.AsyncStore) -> None:
        slow = await store.install(spins("slow", SPIN_MS))
        await slow.set_policy(policy(limits={"concurrency": CALLS}))
        assert (await slow.invoke("first")).output == "first"
        assert len(await slow.invocations()) == 1
        asked = list(range(CALLS))
        answers = await beating(lambda: [slow.invoke(number) for number in asked])
        assert [made.output for made in answers] == asked * (len(answers) // CALLS)
        assert min(made.used.cpu_ms for made in answers) > SPIN_MS / 3
        rows = await slow.invocations(limit=1000)
        assert {row.id for row in rows} >= {made.id for made in answers}
        assert len(rows) == len(answers) + 1
        assert store.sync.call_counts(("default", "default", "slow")) == {"invoked": len(rows), "breached": 0}

    run(story, path_of(where, tmp_path))


def test_a_slow_call_on_the_loop_would_be_seen() -> None:
    """The measure can fail: the same calls, made on the loop's own thread."""

    async def story(store: capsa.AsyncStore) -> None:
        slow = await store.install(spins("slow", SPIN_MS))

        async def held(number: int) -> Invoked:
            return slow.sync.invoke(number)

        with pytest.raises(AssertionError):
            await beating(lambda: [held(number) for number in range(CALLS)])

    run(story)


def test_bodies_and_keys_of_a_slow_capsule() -> None:
    """The short way over HTTP, and calls that are told again, go the same way out."""

    async def story(store: capsa.AsyncStore) -> None:
        slow = await store.install(decides("slow", frame_ms=SPIN_MS, reward_ms=SPIN_MS))
        keyed = await asyncio.gather(*(slow.decide({}, idempotency_key="one") for _ in range(8)))
        assert len({decision.id for decision in keyed}) == 1, "the first attempt on the loop has left nothing"
        bodies = await beating(lambda: [slow.decide_body(b'{"input": {}}') for _ in range(CALLS)])
        assert all(decision is not None for decision in bodies)
        ids = [decision.id for decision in bodies if decision is not None]
        assert len(set(ids)) == len(ids)
        posts = [f'{{"decisionId": "{id_}", "outcome": {{"quality": 1}}}}'.encode() for id_ in ids[:10]]
        # What is slow goes the long way, as a server then does.
        assert await asyncio.gather(*(slow.feedback_body(post) for post in posts)) == [None] * 10
        said = await beating(lambda: [slow.feedback(id_, outcome={"quality": 1}) for id_ in ids[:10]])
        assert [answer.status for answer in said[:10]] == ["applied"] * 10
        for _ in range(2):
            again = await slow.feedback(keyed[0].id, outcome={"quality": 1}, idempotency_key="two")
        assert again.status == "repeated"
        report = await slow.report()
        assert (report.decisions, report.feedback.applied) == (len(ids) + 1, 11)

    run(story)


@pytest.mark.parametrize("hostile", ["decision", "tool", "trap"])
def test_a_tenants_broken_capsules_and_anothers_decisions(hostile: str) -> None:
    """Loops and traps of the one end in their errors, each audited; the other's decisions are made meanwhile."""

    async def story(store: capsa.AsyncStore) -> None:
        broken: capsa.AsyncCapsule
        if hostile == "tool":
            broken = await store.install(component("broken", tool(guests.SPIN)), tenant="evil")
            await broken.set_policy(policy(limits={"cpu_ms": 30, "concurrency": 50}))
        else:
            body = "unreachable" if hostile == "trap" else guests.SPIN
            broken = await store.install(decides("broken", frame=body), tenant="evil")
        good = await store.install("name: good\noptions: [a, b]\nreward_range: [0, 1]\n", tenant="good")
        good_tool = await store.install(echo(), tenant="good")
        ends = capsa.CapsuleTrapped if hostile == "trap" else capsa.CapsuleDeadline

        async def fails() -> type[BaseException]:
            try:
                await (broken.invoke(1) if hostile == "tool" else broken.decide({}))
            except capsa.CapsaError as error:
                return type(error)
            raise AssertionError("it was answered")

        ended: list[type[BaseException]] = []
        over = False

        async def again_and_again() -> None:
            while not over:
                ended.append(await fails())
                # A trap is over at once, on the loop.
                await asyncio.sleep(0)

        running = [asyncio.ensure_future(again_and_again()) for _ in range(8)]
        while not ended:
            await asyncio.sleep(0.001)
        done: list[int] = []

        async def goes_on() -> None:
            for number in range(30):
                decision = await good.decide({})
                assert (await good.feedback(decision.id, reward=1.0)).status == "applied"
                assert (await good_tool.invoke(number)).output == number
                done.append(number)
                await asyncio.sleep(0.001)

        try:
            await beating(lambda: [goes_on()])
        finally:
            over = True
        await asyncio.gather(*running)
        assert set(ended) == {ends}
        report = await good.report()
        assert (report.decisions, report.feedback.applied) == (len(done), len(done))
        await store.durable()
        assert [event.type for event in store.sync.journal.read("evil")].count("breached") == len(ended)
        rows = [row for row in await store.audit("evil") if row.type == "breached"]
        assert {row.detail["error"]["code"] for row in rows} == {ends.code}
        assert [row.type for row in await store.audit("good") if row.type == "breached"] == []

    run(story)


def test_a_breach_on_the_loop_is_on_disk_with_the_next_wait(tmp_path: Path) -> None:
    """A pure tool runs there: nobody waits for the disk on its behalf, and nothing is lost by that."""

    async def story(store: capsa.AsyncStore) -> None:
        broken = await store.install(component("broken", tool("unreachable")))
        for _ in range(5):
            with pytest.raises(capsa.CapsuleTrapped):
                await broken.invoke()
        await store.durable()
        assert [event.type for event in store.sync.journal.read("default")].count("breached") == 5

    run(story, tmp_path / "store")


def test_calls_that_wait_outside_leave_the_loop_alone() -> None:
    """As many as there are threads, of many tenants, and more; a fast tool of another goes on, on the loop."""

    async def story(store: capsa.AsyncStore) -> None:
        source = component("waits", script(send(f"http://127.0.0.1:{site.port}/silent", timeout_ms=1_500)), "read", **outside(site))  # fmt: skip
        waiting = []
        for number in range(THREADS - FURTHER):
            waits = await store.install(source, tenant=f"t{number}")
            await waits.set_policy(policy(limits={"concurrency": 100, "wall_ms": 3_000}, **outside(site)))
            waiting += [asyncio.ensure_future(waits.invoke()) for _ in range(4)]
        fast = await store.install(echo(), tenant="e")
        until = time.monotonic() + 10
        while (
            len(site.asked) < THREADS
            and time.monotonic() < until
            and not any(task.done() for task in waiting)
        ):
            await asyncio.sleep(0.005)
        async with Beats() as beats:
            ended = await asyncio.gather(
                *(fast.invoke(number) for number in range(3)), return_exceptions=True
            )
        assert {type(each) for each in await asyncio.gather(*waiting)} == {Invoked}
        assert len(site.asked) == len(waiting) > THREADS
        assert max(beats.gaps_s) < 0.5, "the loop waited for a place"
        assert [each.output if isinstance(each, Invoked) else each for each in ended] == [0, 1, 2]

    with Site(ANSWERS) as site:
        run(story)


def test_a_large_answer_is_not_read_on_the_loop() -> None:
    """Nor is a tool called there whose policy lets it answer more than a megabyte, or a caller who says so."""

    async def story(store: capsa.AsyncStore) -> None:
        fast = await store.install(echo())
        names: list[str] = []
        inside = store.sync.capsule("echo").invoke

        async def threads(**how: Any) -> bool:
            """Whether it took a thread."""
            before = store._threads._threads + len(names)
            assert (await fast.invoke(1, **how)).output == 1
            return store._threads._threads + len(names) > before

        assert not await threads()
        assert await threads(inline=False)
        store._threads.close()
        store._threads._closed = False
        await fast.set_policy(policy(limits={"output_bytes": 2 << 20}))
        assert await threads()
        assert inside(1).output == 1

    run(story)
