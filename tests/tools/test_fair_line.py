"""Who begins next, without threads: limits hold whatever comes, and whoever has nothing running does not wait for the greedy."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

import capsa
from capsa.decisions._fair import FURTHER, PER_TENANT, THREADS, FairThreads, _Waiting


class Line(FairThreads):
    """The line alone: nothing runs, and what has begun ends when a test says so."""

    def _has_thread(self) -> bool:
        return True

    def send(self, tenant: str) -> None:
        """One call; none where too many wait already."""
        with suppress(capsa.Overloaded):
            self._submit(tenant, _Waiting(lambda: None, lambda: None))

    @property
    def running(self) -> dict[str, int]:
        return dict(self._running)

    def end(self, tenant: str) -> None:
        """One of those that run."""
        self._ended(tenant)


def begins_at_once(line: Line, tenant: str) -> bool:
    """Whether the call of a tenant that has nothing does."""
    line.send(tenant)
    return line.running.get(tenant) == 1


@pytest.mark.parametrize("arrive", ["one after another", "in turns"])
@pytest.mark.parametrize("others", range(THREADS))
def test_however_greedy_others_are_a_newcomer_begins_at_once(others: int, arrive: str) -> None:
    """While fewer than `THREADS - FURTHER` of them have something running: that many threads are for first calls."""
    line, greedy = Line(), [f"greedy {number}" for number in range(others)]
    calls = [(tenant, number) for tenant in greedy for number in range(2 * PER_TENANT)]
    for tenant, _ in calls if arrive == "one after another" else sorted(calls, key=lambda call: call[1]):
        line.send(tenant)
    assert set(line.running) == set(greedy[: len(line.running)])
    assert max(line.running.values(), default=0) <= PER_TENANT
    if others < THREADS - FURTHER:
        assert len(line.running) == others
        assert begins_at_once(line, "newcomer")
    if others == 1:
        assert line.running[greedy[0]] == PER_TENANT, "nobody else wants any"
    if others in (2, 3):
        assert sum(line.running.values()) > others * PER_TENANT / 2, "a few have much"


@given(
    st.lists(st.tuples(st.sampled_from([1, 1, 1, 5, 30, 150, -1, -1, -4]), st.integers(0, 40)), max_size=60)
)
def test_the_line_whatever_comes_and_ends(steps: list[tuple[int, int]]) -> None:
    """Limits hold, nothing waits that may begin, newcomers begin at once below the bound, and nobody is forgotten."""
    line = Line()
    for count, which in steps:
        if count > 0:
            for _ in range(count):
                line.send(f"tenant {which}")
        else:
            for _ in range(-count):
                if some := sorted(line.running):
                    line.end(some[which % len(some)])
        running = line.running
        further = sum(running.values()) - len(running)
        assert line._busy == sum(running.values()) <= THREADS
        assert further <= FURTHER
        assert all(0 < number <= PER_TENANT for number in running.values())
        for tenant in line._queues:
            number = running.get(tenant, 0)
            assert sum(running.values()) == THREADS or number == PER_TENANT or 0 <= FURTHER - further < number
        if len(running) < THREADS - FURTHER:
            assert begins_at_once(line, "newcomer")
            line.end("newcomer")
    while line.running:
        for tenant in line.running:
            line.end(tenant)
    assert (line._queues, line._busy) == ({}, 0)
