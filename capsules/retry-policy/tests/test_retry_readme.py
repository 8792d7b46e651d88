"""What the README of retry-policy shows is what happens."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from capsa import _native

CAPSULE = Path(__file__).parents[1]
ROOT = CAPSULE.parents[1]
README = CAPSULE / "README.md"


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, README.read_text(), flags=re.MULTILINE | re.DOTALL)


class _Flaky(BaseHTTPRequestHandler):
    """Answers every second request only."""

    asked = 0

    def do_GET(self) -> None:
        """An error status, then an answer."""
        type(self).asked += 1
        self.send_response(200 if self.asked % 2 == 0 else 503)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"found")

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def dependency() -> Iterator[str]:
    """The address of a service that fails every second time."""
    _Flaky.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Flaky)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_snippets_run(
    dependency: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From top to bottom, with a real service behind `fetch`; every call is learned from, answered or not."""
    monkeypatch.chdir(ROOT)
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    first, second = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(first.replace("http://localhost:8080", dependency), "README.md", "exec"), names)  # noqa: S102 - our own document
    fetch, retry = names["fetch"], names["retry"]
    answers = [fetch("search", f"{dependency}/search", load=0.9) for _ in range(40)]
    answers += [fetch("search", "http://127.0.0.1:1/nobody-listens", load=0.9) for _ in range(5)]
    assert set(answers[:40]) == {None, b"found"}
    assert set(answers[40:]) == {None}
    report = retry.report()
    assert (report.decisions, report.feedback.applied, report.feedback.pending) == (46, 46, 0)
    assert set(waits) <= {0.1, 0.2, 0.4}
    capsys.readouterr()

    exec(compile(second, "README.md", "exec"), names)  # noqa: S102 - our own document
    printed = capsys.readouterr().out
    assert printed.startswith("{'timeout': '2s', 'retries': '1'} rather {'timeout': ")
    assert "retry-policy v1  mode live" in printed
    assert "timeout: " in printed
    report = retry.report()
    assert (report.decisions, report.feedback.applied, report.feedback.kept) == (50, 48, 1)


def test_every_spec_compiles() -> None:
    """What stands in a ```yaml block is accepted as it is, and its budget is above the longest request."""
    [spec] = blocks("yaml")
    definition = json.loads(_native.spec_definition(spec))
    timeouts, retries = (each["options"] for each in definition["strategies"])
    most = max(map(int, retries))
    longest_ms = (1 + most) * max(1000 * float(each.removesuffix("s")) for each in timeouts)
    waits_ms = sum(100 * 2**at for at in range(most))
    assert definition["reward"]["latency_ms"]["budget"] >= longest_ms + waits_ms
    assert definition["reward"]["attempts"]["range"] == [1, 1 + most]


def test_the_commands_run_and_print_what_is_shown() -> None:
    """From the repository's root; the demo's output is the ```text block, to the letter."""
    [commands] = blocks("bash")
    [shown] = blocks("text")
    ran = []
    for line in commands.splitlines():
        program, *arguments = shlex.split(line)
        start = {"python": [sys.executable], "capsa": [sys.executable, "-m", "capsa"]}[program]
        done = subprocess.run(  # noqa: S603 - our own commands
            [*start, *arguments], check=True, capture_output=True, text=True, timeout=110, cwd=ROOT
        )
        ran.append((arguments, done.stdout))
    [author, demo, as_json] = ran
    assert author[1].startswith("retry-policy: ")
    assert demo == (["capsules/retry-policy/demo.py"], shown)
    assert json.loads(as_json[1])["seed"] == 7


def test_what_is_said_of_the_incident_holds() -> None:
    """In the outage of the second world it earned about midway between the worst combination and the best."""
    [shown] = blocks("text")
    [row] = re.findall(r"^  search\|<0\.8 +partial outage .*$", shown, re.MULTILINE)
    best, worst, ours = map(float, re.findall(r"-?0\.\d{4}", row))
    assert 0.3 < (ours - worst) / (best - worst) < 0.7


def test_every_link_leads_somewhere() -> None:
    """Relative links name files that exist."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert links
    assert [link for link in links if not (CAPSULE / link).exists()] == []
