"""The demo as an application that speaks HTTP: its server is killed while it routes, and nothing it was told is lost."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

import msgspec

from capsa.client import Client
from capsa.demo._experiments import Setup
from capsa.demo._served import REMEDY, Served
from capsa.demo._simulation import Course, Pass, Run, half_time
from capsa.demo._table import MODELS, Prompt, spec
from capsa.errors import CapsaError, HostFault, UnknownDecision

#: So many requests come at once. Their decisions are one call, and so is the feedback that has arrived meanwhile.
GROUP: Final = 10
#: Streams that are routed at the same time; their feedback shares the waits for the disk.
_AT_ONCE: Final = 6
#: Seconds for a call; a feedback that has no answer by then waits in the client, which is not what is shown here.
_TIMEOUT_S: Final = 60.0
#: So many requests are shown as they happen.
_SHOWN: Final = 3


class Interruption(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The server's end in the middle of the streams, and what was there when it served again.

    Attributes:
        capsules: How many there were.
        changed: How many of them have another `state_hash` than before.
        acknowledged: Feedbacks that had been answered.
        learned: Rewards that they say they have learned from, before and after.
        seconds: From the kill until it served again.
    """

    capsules: int
    changed: int
    acknowledged: int
    learned: tuple[int, int]
    seconds: float


class OverHttp:
    """What the demo does through a server. Used with ``with``.

    Args:
        served: The server, which runs.
        echo: Is given what a person reads.
    """

    def __init__(self, served: Served, echo: Callable[[str], None]) -> None:
        self._served = served
        self._echo = echo
        self._client = Client(served.url, served.key, timeout=_TIMEOUT_S)
        #: Set by `route`.
        self.interruption: Interruption | None = None

    def install(self, job: str, text: str) -> Any:
        """A capsule in a job of its own."""
        with self.explained():
            return self._client.job(job).install(text)

    def route(
        self, steps: Sequence[tuple[Setup, str | None]], table: Sequence[Prompt], seeds: int
    ) -> Iterator[list[Run]]:
        """Routes every prompt once for each step and seed, in groups of `GROUP`. At half time the server is killed.

        Args:
            steps: Which capsule and whose requests, and the model that becomes cheaper at half time.
            table: The prompts.
            seeds: How many repetitions; their seeds count from 0.

        Yields:
            The runs of each step, by seed, as soon as they have ended.

        Raises:
            HostFault: The server failed.
        """
        capsules, passes = [], []
        for setup, cut in steps:
            of_step = []
            for seed in range(seeds):
                job = re.sub("[^a-z0-9]+", "-", f"{setup.name} {cut or 'steady'} {seed}")
                capsules.append(self.install(job, setup.spec()))
                course = Course(table, seed, setup.tiers, cut)
                of_step.append(Pass(capsules[-1], course, group=GROUP))
            passes.append(of_step)
        half = half_time(len(table))
        with self.explained(), self._pool() as pool:
            advancing = [[pool.submit(each.advance, half) for each in of_step] for of_step in passes]
            for number, waiting in enumerate(advancing, start=1):
                for each in waiting:
                    each.result()
                self._echo(f"[{number}/{len(steps)}] at half time")
            self._interrupt(capsules, sum(each.posts for of_step in passes for each in of_step))
            ending = [[pool.submit(each.finish) for each in of_step] for of_step in passes]
            # What a pass holds is let go with it.
            passes.clear()
            while ending:
                yield [waiting.result() for waiting in ending.pop(0)]

    @contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that end at once where anything fails."""
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            yield pool
        except BaseException:
            # Without their server they have nothing to wait for.
            self._served.kill()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _interrupt(self, capsules: Sequence[Any], posts: int) -> None:
        before = [capsule.report() for capsule in capsules]
        started = time.monotonic()
        self.restart()
        seconds = time.monotonic() - started
        after = [capsule.report() for capsule in capsules]
        pairs = list(zip(before, after, strict=True))
        found = Interruption(
            capsules=len(pairs),
            changed=sum(then.state_hash != now.state_hash for then, now in pairs),
            acknowledged=posts,
            learned=(
                sum(each.feedback.applied for each in before),
                sum(each.feedback.applied for each in after),
            ),
            seconds=seconds,
        )
        self.interruption = found
        self._echo(f"half way, after {posts:,} acknowledged feedbacks: kill -9 of the server")
        self._echo(
            f"  it serves again after {seconds:.1f} s; {found.capsules - found.changed} of {found.capsules} capsules have "
            f"the state hash they had; the first: {before[0].state_hash[:15]}… before, {after[0].state_hash[:15]}… after"
        )

    def flush(self) -> None:
        """Waits until the client has sent again what got no answer.

        Raises:
            HostFault: The server does not take it.
        """
        if waiting := self._client.flush(_TIMEOUT_S):
            raise HostFault(f"the server does not take {waiting} feedbacks", remedy=REMEDY)

    def restart(self) -> None:
        """Kills the server, and starts it again on the same store."""
        self._served.kill()
        self._served.start()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Says of a server that fails what it said last, and what to do."""
        try:
            yield
        except HostFault:
            raise
        except CapsaError as error:
            raise HostFault(f"the demo's server failed: {error.detail}", remedy=REMEDY) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What waits, waits for a server that has failed.
        self._client.close(timeout=0)


class HttpShop:
    """The application of `capsa.demo._restart`, with a server."""

    def __init__(self, over: OverHttp, echo: Callable[[str], None]) -> None:
        self._over = over
        self._echo = echo
        self._router = over.install("default", spec("llm-router"))
        self._decided = self._told = 0

    def decide(self, fields: dict[str, str]) -> tuple[str, int]:
        """The decision's id, and the number of the model."""
        with self._over.explained():
            decision = self._router.decide(fields)
        assert decision.id is not None
        assert decision.option is not None
        self._decided += 1
        if self._decided <= _SHOWN:
            chance = decision.probabilities[decision.option]
            self._echo(f"  decide   {fields} -> {MODELS[decision.option]}, propensity {chance:.2f}")
        return decision.id, decision.option

    def feedback(self, decision_id: str, metrics: dict[str, float]) -> bool:
        """Tells what came of it; whether the decision was known."""
        try:
            with self._over.explained():
                answer = self._router.feedback(decision_id, outcome=metrics)
        except HostFault as error:
            if isinstance(error.__cause__, UnknownDecision):
                return False
            raise
        if answer.status not in ("applied", "repeated"):
            raise HostFault(f"the server took a feedback as {answer.status!r}", remedy=REMEDY)
        self._told += 1
        if self._told <= _SHOWN:
            said = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            self._echo(
                f"  feedback {said} -> {answer.status}, reward {answer.reward:.3f}, on disk as event {answer.sequence}"
            )
        return True

    def killed_during(self, decision_id: str, metrics: dict[str, float]) -> None:
        """Kills the server while this feedback is under way, and starts it again."""

        def post() -> None:
            with suppress(CapsaError):
                self._router.feedback(decision_id, outcome=metrics)

        under_way = threading.Thread(target=post)
        under_way.start()
        self._over.restart()
        under_way.join()
        # The client sends it again by itself, if it got no answer; and the application does, since it knows no better.
        self._over.flush()
