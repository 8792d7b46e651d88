"""Threads for slow calls: tenants take turns, none has more than its share, and whoever waits is told how it ended."""

from __future__ import annotations

import _thread
import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

import capsa
from capsa.decisions import _fair
from capsa.decisions._fair import FURTHER, PER_TENANT, THREADS, WAITING_PER_TENANT, FairThreads

SOON: Final = 20.0


@contextmanager
def limits(threads: int, per_tenant: int, waiting: int = 1000) -> Iterator[None]:
    """Smaller ones, so that little fills them."""
    with patch.multiple(_fair, THREADS=threads, PER_TENANT=per_tenant, WAITING_PER_TENANT=waiting):
        yield


class Held:
    """Work that is held until it is let go, one by one.

    Attributes:
        begun: Names, in the order in which they began.
        most: The most that ran at once, by tenant and in all (the empty name).
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._go: dict[str, threading.Event] = {}

    def work(self, name: str) -> Callable[[], str]:
        """Gives its name once it is let go. What is before the first blank is the tenant."""
        go = self._go[name] = threading.Event()
        tenant = name.split(" ", maxsplit=1)[0]

        def held() -> str:
            with self._lock:
                self.begun.append(name)
                for counted in (tenant, ""):
                    self._running[counted] += 1
                    self.most[counted] = max(self.most[counted], self._running[counted])
            assert go.wait(SOON)
            with self._lock:
                for counted in (tenant, ""):
                    self._running[counted] -= 1
            return name

        return held

    def go(self, *names: str) -> None:
        """Lets some go, or everything."""
        for name in names or list(self._go):
            self._go[name].set()

    async def until(self, count: int) -> list[str]:
        """Waits until so many have begun; gives their names."""
        until = time.monotonic() + SOON
        while len(self.begun) < count:
            assert time.monotonic() < until, self.begun
            await asyncio.sleep(0.001)
        return list(self.begun)


def story(work: Callable[[FairThreads, Held], Coroutine[Any, Any, None]]) -> None:
    """Runs something with threads of its own, and ends them."""

    async def told() -> None:
        threads, held = FairThreads(), Held()
        try:
            await asyncio.wait_for(work(threads, held), SOON)
        finally:
            held.go()
            threads.close()

    asyncio.run(told())


def start(threads: FairThreads, held: Held, *names: str) -> list[asyncio.Task[str]]:
    """Work that is sent in this order."""
    return [asyncio.ensure_future(threads.run(name.split(" ")[0], held.work(name))) for name in names]


def test_tenants_take_turns_however_much_one_of_them_sends() -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        names = ["a 0", "a 1", "a 2", "a 3", "b 0", "c 0", "b 1", "a 4"]
        tasks = start(threads, held, *names)
        for count in range(1, len(names) + 1):
            begun = await held.until(count)
            held.go(begun[-1])
        assert held.begun == ["a 0", "b 0", "c 0", "a 1", "b 1", "a 2", "a 3", "a 4"]
        assert await asyncio.gather(*tasks) == names, "each is told its own result"
        assert held.most[""] == 1

    with limits(threads=1, per_tenant=1):
        story(told)


def test_a_tenant_has_at_most_its_share_and_all_of_them_what_there_is() -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        tasks = start(threads, held, *(f"a {number}" for number in range(40)))
        await held.until(PER_TENANT)
        for tenant in others:
            tasks += start(threads, held, *(f"{tenant} {number}" for number in range(20)))
        await held.until(THREADS)
        await asyncio.sleep(0.02)
        assert len(held.begun) == THREADS
        assert held.most[""] == THREADS
        assert threads._threads == THREADS
        held.go()
        await asyncio.gather(*tasks)
        assert held.most[""] == THREADS
        assert max(held.most[tenant] for tenant in ("a", *others)) == held.most["a"] == PER_TENANT
        begun = Counter(name.split(" ")[0] for name in held.begun)
        assert begun == {"a": 40, **dict.fromkeys(others, 20)}
        # Nothing is left over.
        assert await _settles(threads)
        assert (threads._busy, threads._running, threads._queues) == (0, {}, {})

    others = [f"b{number}" for number in range(THREADS - FURTHER)]
    story(told)


def test_many_calls_of_one_do_not_hold_up_the_first_of_another() -> None:
    """500 at once: some run, some wait, the rest is told to come again; and the other's begins at once."""

    async def told(threads: FairThreads, held: Held) -> None:
        tasks = start(threads, held, *(f"a {number}" for number in range(500)))
        await held.until(PER_TENANT)
        ended = [task for task in tasks if task.done()]
        assert len(ended) == 500 - PER_TENANT - WAITING_PER_TENANT
        for task in ended:
            with pytest.raises(capsa.Overloaded) as refused:
                await task
            assert str(WAITING_PER_TENANT) in refused.value.detail
            assert refused.value.remedy
        [other] = start(threads, held, "b 0")
        assert (await held.until(PER_TENANT + 1))[-1] == "b 0"
        held.go("b 0")
        assert await other == "b 0"
        held.go()
        rest = await asyncio.gather(*(task for task in tasks if task not in ended))
        assert len(rest) == PER_TENANT + WAITING_PER_TENANT

    story(told)


def test_where_every_thread_is_taken_the_next_free_one_is_the_others() -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        tasks = start(threads, held, *(f"a {number}" for number in range(100)))
        await held.until(4)
        tasks += start(threads, held, "b 0", "c 0")
        for count in (5, 6, 7):
            held.go(held.begun[count - 5])
            await held.until(count)
        # One of the line may have been before them.
        assert {"b 0", "c 0"} <= set(held.begun[4:7])
        held.go()
        await asyncio.gather(*tasks)

    with limits(threads=4, per_tenant=4):
        story(told)


def test_what_waits_is_counted_by_tenant() -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        tasks = start(threads, held, "a 0", "a 1", "a 2")
        await held.until(1)
        with pytest.raises(capsa.Overloaded):
            await start(threads, held, "a 3")[0]
        tasks += start(threads, held, "b 0", "b 1")
        await asyncio.sleep(0)
        held.go("a 0", "b 0")
        assert (await held.until(3))[-1] == "a 1"
        # There is room again.
        tasks += start(threads, held, "a 4")
        held.go()
        assert await asyncio.gather(*tasks) == ["a 0", "a 1", "a 2", "b 0", "b 1", "a 4"]

    with limits(threads=1, per_tenant=1, waiting=2):
        story(told)


def test_work_whose_caller_has_gone() -> None:
    """What has begun goes on; what has not is never begun, and holds up nobody."""

    async def told(threads: FairThreads, held: Held) -> None:
        running, waiting, last = start(threads, held, "a 0", "a 1", "a 2")
        await held.until(1)
        for task in (running, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert held.most["a"] == 1
        held.go("a 0", "a 2")
        assert await last == "a 2"
        assert held.begun == ["a 0", "a 2"]
        assert await _settles(threads)

    with limits(threads=1, per_tenant=1):
        story(told)


async def _settles(threads: FairThreads) -> bool:
    until = time.monotonic() + SOON
    while threads._busy and time.monotonic() < until:
        await asyncio.sleep(0.001)
    return not threads._busy


class Interrupted(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize(
    "error", [ValueError("told"), capsa.CapsuleTrapped("told"), Interrupted("told"), MemoryError("told")], ids=lambda error: type(error).__name__
)  # fmt: skip
def test_errors_are_told_and_the_thread_goes_on(error: BaseException) -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        def fails() -> None:
            raise error

        for _ in range(5):
            with pytest.raises(type(error), match="told"):
                await threads.run("a", fails)
        [task] = start(threads, held, "a 0")
        held.go()
        assert await task == "a 0"
        assert threads._threads == 1

    with limits(threads=1, per_tenant=1):
        story(told)


def test_an_end_of_iteration_is_told_too() -> None:
    async def told(threads: FairThreads, _: Held) -> None:
        # What the loop says of it is not what this is about.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(threads.run("a", lambda: next(iter([]))), 0.5)

    story(told)


def test_after_closing_what_runs_ends_and_nothing_begins() -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        running, waiting = start(threads, held, "a 0", "a 1")
        await held.until(1)
        threads.close()
        held.go()
        assert await running == "a 0"
        await asyncio.sleep(0.02)
        assert held.begun == ["a 0"]
        waiting.cancel()

    with limits(threads=1, per_tenant=1):
        story(told)


@pytest.mark.parametrize("when", ["before", "after"])
def test_after_closing_nobody_waits_for_ever(when: str) -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        [running] = start(threads, held, "a 0")
        await held.until(1)
        if when == "before":
            [late] = start(threads, held, "a 1")
            await asyncio.sleep(0)
        threads.close()
        if when == "after":
            [late] = start(threads, held, "a 1")
        held.go()
        await running
        with pytest.raises(capsa.CapsaError):
            await asyncio.wait_for(late, 0.5)

    with limits(threads=1, per_tenant=1):
        story(told)


def test_threads_end_when_they_are_closed() -> None:
    # They are none of `threading`'s: those have to run before their start returns.
    before = _thread._count()

    async def told(threads: FairThreads, held: Held) -> None:
        tasks = start(threads, held, *(f"a {number}" for number in range(10)))
        await held.until(10)
        assert _thread._count() >= before + 10
        held.go()
        await asyncio.gather(*tasks)
        threads.close()
        end = time.monotonic() + SOON
        while _thread._count() > before:
            assert time.monotonic() < end
            await asyncio.sleep(0.01)

    story(told)


def test_many_loops_share_them_and_one_that_is_closed_is_no_harm() -> None:
    """Work goes on whose loop has been closed meanwhile."""
    threads, held = FairThreads(), Held()

    async def gone() -> None:
        start(threads, held, "a 0", "a 1")
        await held.until(1)

    async def stays() -> list[str]:
        tasks = start(threads, held, "b 0", "b 1", "b 2")
        held.go()
        return await asyncio.wait_for(asyncio.gather(*tasks), SOON)

    with limits(threads=1, per_tenant=1):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(gone())
        for task in asyncio.all_tasks(loop):
            # Its coroutine is not awaited to its end: nobody is left who could.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        assert asyncio.run(stays()) == ["b 0", "b 1", "b 2"]
        assert held.begun[0] == "a 0"
    threads.close()


def test_loops_in_many_threads_use_them_at_once() -> None:
    threads = FairThreads()
    got: list[list[int]] = []

    async def many(tenant: str) -> list[int]:
        return list(
            await asyncio.gather(*(threads.run(tenant, partial(int, number)) for number in range(100)))
        )

    def one(number: int) -> None:
        got.append(asyncio.run(many(f"tenant-{number}")))

    running = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(SOON)
    assert got == [list(range(100))] * 6
    assert threads._queues == {}
    threads.close()


def test_where_there_can_be_no_thread_nothing_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told, and the work is never done unheard; once there are threads again, they serve."""

    async def told(threads: FairThreads, held: Held) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(_thread, "start_new_thread", _no_thread)
            for _ in range(3):
                with pytest.raises(capsa.Overloaded, match="thread") as refused:
                    await start(threads, held, "a 0")[0]
                assert refused.value.remedy
            assert (threads._busy, threads._running, threads._queues, threads._threads) == (0, {}, {}, 0)
        [task] = start(threads, held, "a 1")
        held.go()
        assert await task == "a 1"
        assert held.begun == ["a 1"]

    story(told)


def test_where_there_can_be_no_more_threads_those_there_are_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(threads: FairThreads, held: Held) -> None:
        tasks = start(threads, held, "a 0")
        await held.until(1)
        with monkeypatch.context() as patched:
            patched.setattr(_thread, "start_new_thread", _no_thread)
            tasks += start(
                threads, held, *(f"{tenant} {number}" for number in range(1, 6) for tenant in "abc")
            )
            await asyncio.sleep(0.01)
            assert held.begun == ["a 0"]
            held.go()
            assert len(await asyncio.gather(*tasks)) == 16
        assert (held.most[""], threads._threads) == (1, 1)
        # Nor were they given up.
        tasks = start(threads, held, "a 6", "a 7")
        await held.until(18)
        held.go()
        await asyncio.gather(*tasks)

    story(told)


def _no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


@given(st.lists(st.sampled_from(["a", "a", "a", "b", "c", "end", "end last"]), min_size=4, max_size=24))
def test_against_a_model(steps: list[str]) -> None:
    """Whoever can begin has begun, in the order of turns, whatever comes and ends when."""

    async def told(threads: FairThreads, held: Held) -> None:
        model, tasks = Model(3, 2), []
        for number, step in enumerate(steps):
            if step.startswith("end"):
                running = model.running()
                if running:
                    ended = running[-1 if step == "end last" else 0]
                    held.go(ended)
                    model.ended(ended)
            else:
                tasks += start(threads, held, f"{step} {number}")
                # The task has to send it.
                await asyncio.sleep(0)
                model.sent(step, f"{step} {number}")
            assert sorted(await held.until(len(model.begun))) == sorted(model.begun)
            assert held.begun[: len(model.begun)] == held.begun, "nothing else has begun"
        held.go()
        await asyncio.gather(*tasks)
        assert held.most[""] <= 3
        assert all(held.most[tenant] <= 2 for tenant in "abc")

    with limits(threads=3, per_tenant=2):
        story(told)


class Model:
    """Turns as they are said to be: a line of tenants, and a line in each."""

    def __init__(self, threads: int, per_tenant: int) -> None:
        self._threads = threads
        self._per_tenant = per_tenant
        self._lines: dict[str, list[str]] = {}
        self._turns: list[str] = []
        self._ended: set[str] = set()
        self.begun: list[str] = []

    def running(self) -> list[str]:
        return [name for name in self.begun if name not in self._ended]

    def _runs(self, tenant: str) -> int:
        return sum(name.split(" ")[0] == tenant for name in self.running())

    def sent(self, tenant: str, name: str) -> None:
        self._lines.setdefault(tenant, []).append(name)
        if tenant not in self._turns and self._runs(tenant) < self._per_tenant:
            self._turns.append(tenant)
        self._begin()

    def ended(self, name: str) -> None:
        tenant = name.split(" ", maxsplit=1)[0]
        self._ended.add(name)
        if self._lines.get(tenant) and tenant not in self._turns:
            self._turns.append(tenant)
        self._begin()

    def _begin(self) -> None:
        while self._turns and len(self.running()) < self._threads:
            tenant = self._turns.pop(0)
            self.begun.append(self._lines[tenant].pop(0))
            if self._lines[tenant] and self._runs(tenant) < self._per_tenant:
                self._turns.append(tenant)
