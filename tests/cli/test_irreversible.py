"""Commands that cannot be taken back: who is asked, what is said, and what is gone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.cli.store_line import Line, decided
from tests.cli.terminal import Terminal

from capsa.cli import main

COMMANDS = [["purge", "default"], ["erase", "anna"], ["keys rotate"]]


def bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.glob("store.sqlite*")))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_terminal_and_without_yes_nothing_is_done(
    line: Line, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is wrong use: what would be done is named, and the way to do it."""
    before = line.json("rebuild"), line.json("audit")
    name, *rest = command
    assert main([*name.split(), str(line.folder), *rest]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "cannot be taken back" in said
    assert "add --yes" in said
    assert (line.json("rebuild"), line.json("audit")) == before


@pytest.mark.parametrize("typed", ["no\n", "y\n", "\n", "\x04"])
def test_only_the_whole_word_counts(line: Line, typed: str) -> None:
    """At a terminal; the end of the input is a no."""
    before = line.json("rebuild"), line.json("audit")
    asked = Terminal(["purge", str(line.folder), "default"], 100, typed)
    assert asked.code == 1
    assert asked.said.count("Write yes to go on: ") == 1
    assert asked.said.splitlines()[-1].startswith("capsa: nothing was changed")
    assert (line.json("rebuild"), line.json("audit")) == before


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_person_is_asked_once(line: Line, command: list[str]) -> None:
    """And not at all with ``--yes``."""
    name, *rest = command
    words = [*name.split(), str(line.folder), *rest]
    asked = Terminal(words, 100, "yes\n")
    assert (asked.code, asked.said.count("Write yes to go on: ")) == (0, 1)
    if name != "purge":
        assert "Write yes" not in Terminal([*words, "--yes"], 100).said


def test_a_purged_tenant_is_gone_and_the_others_stay(line: Line, spec: Path) -> None:
    line.json("install", str(spec), "--tenant", "acme")
    decided(line)
    assert line.json("decide", "router", "--tenant", "acme", "--context-key", "MARKED")
    assert b"MARKED" in bytes_of(line.folder)
    assert line.json("purge", "acme", "--yes") == {"tenant": "acme", "events": 4, "capsules": 1}
    assert "no tenant 'acme'" in line.refused("report", "router", "--tenant", "acme")
    assert line.json("report", "router")["decisions"] == 1
    assert [row["type"] for row in line.json("audit", "--tenant", "acme")["audit"]] == ["purged"]
    assert line.json("audit verify")["ok"]
    assert b"MARKED" not in bytes_of(line.folder)
    assert "no tenant 'nobody'" in line.refused("purge", "nobody", "--yes")
    assert line.run("purge", "default", "--yes") == 0
    assert re.match(r"purged default: \d+ events and 1 capsule are removed\. Backups", line.out)


def test_an_erased_subject_is_gone_and_what_was_learned_stays(line: Line) -> None:
    """The subject is never said again, and other subjects keep what is theirs."""
    for subject in ("anna", "bert"):
        asked = ["router", "--subject", subject, "--context-key", f"OF-{subject}"]
        decision = line.json("decide", *asked)["decisionId"]
        line.json("feedback", "router", decision, "--reward", "0.5")
    before = line.json("report", "router")["feedback"]
    assert line.json("erase", "anna", "--yes") == {"tenant": "default", "decisions": 1, "events": 2}
    assert [row["contextKey"] for row in line.json("decisions", "router")["decisions"]] == ["OF-bert"]
    assert line.json("report", "router")["feedback"] == before
    assert line.json("audit verify")["ok"]
    assert line.run("erase", "anna", "--yes") == 0
    assert line.out == "default has nothing on record of this subject\n"
    assert line.run("erase", "bert", "--yes") == 0
    assert line.out.startswith("erased in default: the content of 2 events about 1 decision. Backups")
    assert "no tenant 'nobody'" in line.refused("erase", "anna", "--tenant", "nobody", "--yes")
    assert "(/subject)" in line.refused("erase", "", "--yes")


def test_ids_under_an_older_key_still_open(line: Line) -> None:
    first = decided(line)
    assert line.json("keys rotate", "--yes") == {"key": 1}
    second = decided(line)
    for decision in (first, second):
        assert line.json("feedback", "router", decision, "--reward", "0.5")["status"] == "applied"
    assert line.run("keys rotate", "--yes") == 0
    assert line.out.startswith("new decisions get ids under key 2; older ids still open.")
