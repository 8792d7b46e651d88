"""The store as a process of its own, killed in the middle without warning, and started again.

The application goes on: it sends again what was not answered, and in the end everything that was acknowledged
has to be there, once.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, Never

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


class _Service:
    """The process, and what is asked of it."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "capsa.demo._service", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Read when the process has ended: it says one thing at most, which any pipe holds.
            stderr=subprocess.PIPE,
            text=True,
        )

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
    chance = random.Random("restart")
    requests = stream(table, 0, tuple(TIER_FACTOR))[:REQUESTS]
    kills = {REQUESTS * (number + 1) // (KILLS + 1) for number in range(KILLS)}
    waiting: list[tuple[str, dict[str, float]]] = []
    acknowledged: list[str] = []
    sent_again = unknown = 0
    service = _Service(folder)
    try:
        for at, request in enumerate(requests):
            fields = {"customer_tier": request.tier, "task": request.prompt.task}
            decided = service.ask({"decide": fields})
            waiting.append((decided["id"], outcome(request.prompt, decided["option"], request.tier)))
            chance.shuffle(waiting)
            if at in kills:
                # One post is under way when the process dies: nobody knows whether it arrived.
                service.send({"feedback": waiting[-1][0], "outcome": waiting[-1][1]})
                service.kill()
                service = _Service(folder)
                sent_again += 1
            while waiting and (len(waiting) > 20 or at == len(requests) - 1):
                decision_id, metrics = waiting.pop()
                status = service.ask({"feedback": decision_id, "outcome": metrics})["status"]
                if status == "unknown":
                    unknown += 1
                else:
                    acknowledged.append(decision_id)
    finally:
        service.kill()
    with capsa.open(folder) as store:
        router = store.capsule("llm-router")
        stories = [router.story(decision_id) for decision_id in acknowledged]
        learned = [sum(post.status == "applied" for post in story.posts) for story in stories]
        # Nothing was learned beside them either.
        assert sum(learned) == router.report().feedback.applied
        return Restart(
            requests=len(requests),
            kills=KILLS,
            acknowledged=len(acknowledged),
            sent_again=sent_again,
            unknown=unknown,
            unrecorded=sum(story.decision is None for story in stories),
            lost=learned.count(0),
            doubled=sum(count - 1 for count in learned if count),
            faults=len(store.verify()),
        )
