"""A store whose process is killed in the middle without warning, and started again.

The application goes on: it sends again what was not answered, and in the end everything that was acknowledged
has to be there, once. The process is `capsa serve`, or with `capsa demo --in-process` one that speaks over pipes.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Never, Protocol

import msgspec

import capsa
from capsa.demo._simulation import TIER_FACTOR, outcome, stream
from capsa.demo._table import Prompt
from capsa.errors import HostFault

#: Requests of the run. Every feedback waits for the disk, so they are fewer than in the tables.
REQUESTS: Final = 300
KILLS: Final = 2


class Restart(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of it.

    Attributes:
        requests: Decisions that were asked for.
        kills: How often the process was killed.
        acknowledged: Feedbacks that were answered.
        sent_again: Posts that a kill left without an answer, sent again afterwards.
        unknown: Feedbacks that were refused since their decision was not known any more.
        unrecorded: Decisions whose record a kill has taken before it was on disk; their feedback was learned.
        lost: Acknowledged feedbacks that are not in the store.
        doubled: How often a feedback was learned once more.
        faults: What `verify` says of the journal.
    """

    requests: int
    kills: int
    acknowledged: int
    sent_again: int
    unknown: int
    lost: int
    doubled: int
    faults: int
    unrecorded: int = 0


class Shop(Protocol):
    """The process, and what the application asks of it."""

    def decide(self, fields: dict[str, str]) -> tuple[str, int]:
        """The decision's id, and the number of the model."""

    def feedback(self, decision_id: str, metrics: dict[str, float]) -> bool:
        """Tells what came of it; whether the decision was known."""

    def killed_during(self, decision_id: str, metrics: dict[str, float]) -> None:
        """Kills the process while this feedback is under way, and starts another one."""


class Routed(NamedTuple):
    """What the application knows in the end.

    Attributes:
        requests: Decisions that were asked for.
        acknowledged: The decisions whose feedback was answered.
        sent_again: Posts that a kill left without an answer.
        unknown: Feedbacks that were refused since their decision was not known.
    """

    requests: int
    acknowledged: list[str]
    sent_again: int
    unknown: int


class _Service:
    """A store behind pipes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "capsa.demo._service", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Read when the process has ended: it says one thing at most, which any pipe holds.
            stderr=subprocess.PIPE,
            text=True,
        )

    def decide(self, fields: dict[str, str]) -> tuple[str, int]:
        """The decision's id, and the number of the model."""
        decided = self.ask({"decide": fields})
        return decided["id"], decided["option"]

    def feedback(self, decision_id: str, metrics: dict[str, float]) -> bool:
        """Tells what came of it; whether the decision was known."""
        return bool(self.ask({"feedback": decision_id, "outcome": metrics})["status"] != "unknown")

    def killed_during(self, decision_id: str, metrics: dict[str, float]) -> None:
        """Kills the process while this feedback is under way, and starts another one."""
        self.send({"feedback": decision_id, "outcome": metrics})
        self.kill()
        self._start()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Sends one question and reads its answer.

        Raises:
            HostFault: The process has ended by itself.
        """
        self.send(question)
        line = self._pipe(self._process.stdout).readline()
        if not line.endswith("\n"):
            self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def send(self, question: dict[str, Any]) -> None:
        """Sends one question.

        Raises:
            HostFault: The process has ended by itself.
        """
        pipe = self._pipe(self._process.stdin)
        try:
            pipe.write(json.dumps(question) + "\n")
            pipe.flush()
        except BrokenPipeError:
            self._ended()

    def kill(self) -> None:
        """Ends the process at once, whatever it is doing."""
        self._process.kill()
        self._process.communicate()

    def _ended(self) -> Never:
        _, said = self._process.communicate()
        code = self._process.returncode
        how = f"with exit code {code}" if code >= 0 else f"by signal {-code} ({signal.strsignal(-code)})"
        # Of a traceback, too, it is the last line that says why.
        last = said.strip().rpartition("\n")[2] or "it gave no reason"
        raise HostFault(
            f"the process of the demo's store ended {how}: {last}",
            remedy="if its folder or its disk cannot be used, set TMPDIR to a folder on a local disk",
        )

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def restart(table: Sequence[Prompt], folder: Path) -> Restart:
    """Routes some prompts through a store in `folder`, whose process is killed `KILLS` times.

    Args:
        table: The prompts.
        folder: A folder that is not there yet.

    Raises:
        HostFault: A process ended that nobody killed.
    """
    service = _Service(folder)
    try:
        routed = route(table, service)
    finally:
        service.kill()
    return audited(folder, routed)


def route(table: Sequence[Prompt], shop: Shop) -> Routed:
    """Routes some prompts, one by one; their feedback comes late and shuffled."""
    chance = random.Random("restart")
    requests = stream(table, 0, tuple(TIER_FACTOR))[:REQUESTS]
    kills = {REQUESTS * (number + 1) // (KILLS + 1) for number in range(KILLS)}
    waiting: list[tuple[str, dict[str, float]]] = []
    acknowledged: list[str] = []
    sent_again = unknown = 0
    for at, request in enumerate(requests):
        decision_id, option = shop.decide({"customer_tier": request.tier, "task": request.prompt.task})
        waiting.append((decision_id, outcome(request.prompt, option, request.tier)))
        chance.shuffle(waiting)
        if at in kills:
            # One post is under way when the process dies: nobody knows whether it arrived.
            shop.killed_during(*waiting[-1])
            sent_again += 1
        while waiting and (len(waiting) > 20 or at == len(requests) - 1):
            decision_id, metrics = waiting.pop()
            if shop.feedback(decision_id, metrics):
                acknowledged.append(decision_id)
            else:
                unknown += 1
    return Routed(len(requests), acknowledged, sent_again, unknown)


def audited(folder: Path, routed: Routed) -> Restart:
    """Holds what the application knows against what the store in `folder` says, which no process has open."""
    with capsa.open(folder, retention=None) as store:
        router = store.capsule("llm-router")
        stories = [router.story(decision_id) for decision_id in routed.acknowledged]
        learned = [sum(post.status == "applied" for post in story.posts) for story in stories]
        # Nothing was learned beside them either.
        assert sum(learned) == router.report().feedback.applied
        return Restart(
            requests=routed.requests,
            kills=KILLS,
            acknowledged=len(routed.acknowledged),
            sent_again=routed.sent_again,
            unknown=routed.unknown,
            unrecorded=sum(story.decision is None for story in stories),
            lost=learned.count(0),
            doubled=sum(count - 1 for count in learned if count),
            faults=len(store.verify()),
        )
