"""Commands at a server, by its URL, do what they do on the store that it serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.serving import INPUT, KEY, OUTCOME, SPEC, Served


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    """A server with an empty store."""
    with Served(tmp_path / "store") as served:
        yield served


def run(
    url: str, command: str, *words: str, code: int = 0, key: str = KEY
) -> subprocess.CompletedProcess[str]:
    """One command at a server."""
    done = subprocess.run(
        [sys.executable, "-m", "capsa", command, url, *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"CAPSA_ADMIN_KEY": key},
    )
    assert done.returncode == code, done
    return done


def told(url: str, command: str, *words: str) -> Any:
    """What a command prints with --json."""
    return json.loads(run(url, command, *words, "--json").stdout)


def test_the_whole_way(server: Served, tmp_path: Path) -> None:
    """From install to story, while the server serves."""
    spec = tmp_path / "router.yaml"
    spec.write_bytes(SPEC)
    assert told(server.url, "install", str(spec))["capsuleVersion"] == 1
    decided = told(server.url, "decide", "router", "--input", json.dumps(INPUT))
    again = told(server.url, "feedback", "router", decided["decisionId"], "--outcome", json.dumps(OUTCOME))
    assert again["status"] == "applied"
    at_server = told(server.url, "report", "router")
    rows = {name: told(server.url, name, "router") for name in ("contexts", "decisions", "feedback-log")}
    story = told(server.url, "story", "router", decided["decisionId"])
    audit = told(server.url, "audit")
    assert story["status"] == "applied"
    assert "router v1" in run(server.url, "report", "router").stdout
    assert server.stop() == 0
    folder = str(server.store)
    at_folder = told(folder, "report", "router")
    assert at_folder.pop("asOf") > at_server.pop("asOf")
    # A snapshot was sealed at the end: one event more.
    assert at_folder.pop("sequence") >= at_server.pop("sequence")
    assert at_folder == at_server
    assert rows == {name: told(folder, name, "router") for name in rows}
    assert told(folder, "story", "router", decided["decisionId"]) == story
    assert told(folder, "audit") == audit


def test_what_fails_says_so(server: Served) -> None:
    """A wrong key, an unknown capsule, a server that is gone, and what a server does not do."""
    assert "key" in run(server.url, "report", "router", code=1, key="wrong-0123456789abcdef").stderr
    assert "unknown" in run(server.url, "report", "nothing", "--json", code=1).stdout
    assert "backup" in run(server.url, "replay", "router", "dec_x", code=1).stderr
    assert "needs the folder of its store" in run(server.url, "rebuild", code=2).stderr
    server.stop()
    assert "feedback" not in run(server.url, "feedback", "router", "dec_x", "--reward", "1", code=1).stdout
