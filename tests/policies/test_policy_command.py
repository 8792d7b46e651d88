"""``capsa policy …``: what a person reads, and what a program does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.policies.faulty import FAULTY, HEAD

from capsa.cli import _policy
from capsa.cli._output import Answer
from capsa.cli._usage import Parser, WrongUse, read_words
from capsa.errors import InvalidPolicy
from capsa.policies import READY

SAID = """description = "Reads one API."
[grants]
clock = true
random = true
config = { region = "eu" }
kv = { access = "read_write", max_bytes = 5000, max_keys = 10 }
files = { access = "read" }
[[grants.http]]
hosts = ["*", "api.example.com"]
ports = [443, 8443]
schemes = ["https", "http"]
private = ["10.0.0.5:8080"]
[[grants.secrets]]
name = "stripe"
hosts = ["api.stripe.com", "*.stripe.com"]
"""


def run(*words: str) -> Answer:
    """What a command answers, found by its words as a person types them."""
    commands = Parser(prog="capsa").add_subparsers()
    _policy.add_commands(commands)
    chosen = read_words(commands.choices, ["policy", *words])
    answer: Answer = chosen.run(chosen)
    return answer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + SAID)
    return path


def test_check_shows_all_that_is_granted(file: Path) -> None:
    """Line by line, with the defaults."""
    lines = list(run("check", str(file)).lines)
    digest = run("check", str(file)).values["digest"][:19]
    assert lines == [
        f"x: engine fast, {digest}…",
        "  Reads one API.",
        "  clock",
        "  random",
        "  config region: eu",
        "  kv: reading and writing, 5.0 kB in 10 keys",
        "  files: reading, 16.8 MB in 1,000 files",
        "  http: GET, HEAD by https and http, ports 443, 8443 to any public host, api.example.com",
        "  http: GET, HEAD by https and http to private 10.0.0.5:8080",
        "  secret stripe: to api.stripe.com, *.stripe.com",
        "  limits:",
        "    cpu_ms 50, wall_ms 10,000, memory_bytes 67,108,864",
        "    table_elements 100,000, output_bytes 1,048,576, log_lines 64",
        "    log_bytes 16,384, host_calls 1,000, egress_requests 16",
        "    egress_bytes 10,485,760, concurrency 8",
    ]


def test_check_answers_json(file: Path) -> None:
    """The policy as HTTP spells it."""
    values = run("check", str(file), "--json").values
    assert values["policy"]["grants"]["kv"] == {"access": "readWrite", "maxBytes": 5000, "maxKeys": 10}
    assert values["digest"].startswith("b2:")
    json.dumps(values)


def test_pure_says_that_it_grants_nothing() -> None:
    assert "  grants nothing but log" in list(run("check", "pure").lines)


@pytest.mark.parametrize("name", READY)
def test_ready_ones_are_named(name: str) -> None:
    """Also where a file of that name lies about; with a folder in front it is the file."""
    assert run("check", name).values["policy"]["name"] == name


def test_a_fault_is_told(tmp_path: Path) -> None:
    """By the error that `main` prints, with exit code 1."""
    file = tmp_path / "wrong.toml"
    for row in FAULTY:
        file.write_text(row.toml)
        with pytest.raises(InvalidPolicy) as caught:
            run("check", str(file))
        assert caught.value.pointer == row.pointer
    with pytest.raises(InvalidPolicy, match="the name of the policy is empty"):
        run("check", "")
    with pytest.raises(InvalidPolicy, match="there is no ready policy"):
        run("check", "tool-defualt")
    with pytest.raises(FileNotFoundError):
        run("check", str(tmp_path / "none.toml"))
    with pytest.raises(WrongUse):
        run("check")


def test_text_is_never_taken_for_a_policy(tmp_path: Path) -> None:
    """What is typed is a name, whatever it looks like."""
    with pytest.raises(OSError, match="mine"):
        run("check", f"{tmp_path}/{{mine")
    for typed in ("schema = 1\nname = 'x'", '{"schema": 1, "name": "x"}'):
        with pytest.raises(FileNotFoundError):
            run("check", typed)


def test_diff_shows_what_is_new(file: Path) -> None:
    """And what is gone."""
    answer = run("diff", "pure", str(file))
    assert "+ config.region: 'eu'" in list(answer.lines)
    assert answer.values["same"] is False
    assert answer.values["gone"] == []
    assert answer.values.get("ok", True)
    assert list(run("diff", "trusted", "trusted").lines) == ["the same authority"]
