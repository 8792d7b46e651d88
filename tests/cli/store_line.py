"""A store and the command line over it, as the tests of this folder use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from capsa.cli import main

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
"""
PAIR = "name: retries\nstrategies: {timeout: {options: [1s, 2s]}, retries: {options: ['0', '1']}}\n"


class Line:
    """The command line over one store: what a command wrote, and its exit code."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.out = self.err = ""

    def run(self, command: str, *rest: str) -> int:
        """One command, of one word or two; the store comes first behind it."""
        code = main([*command.split(), str(self.folder), *rest])
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, command: str, *rest: str) -> Any:
        """The document that a command prints, which must succeed and say nothing else."""
        assert self.run(command, *rest, "--json") == 0, self.err
        assert self.err == ""
        assert len(self.out.splitlines()) == 1
        return json.loads(self.out)

    def refused(self, command: str, *rest: str) -> str:
        """What a command says that is refused: one line, alone, no traceback; and the same as JSON."""
        assert self.run(command, *rest) == 1
        assert self.out == ""
        assert self.err.startswith("capsa: ")
        assert len(self.err.splitlines()) == 1
        said = self.err
        assert self.run(command, *rest, "--json") == 1
        problem = json.loads(self.out)
        assert problem["ok"] is False
        assert problem["type"].startswith("/problems/")
        assert self.err == said
        return said


def decided(line: Line, task: str = "a") -> str:
    decision: str = line.json("decide", "router", "--input", json.dumps({"task": task}))["decisionId"]
    return decision
