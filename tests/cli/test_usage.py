"""What a person types at a shell: one line that names what is wrong and what to do, and never a traceback."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cli.store_line import Line
from tests.cli.terminal import ENVIRONMENT, Terminal

import capsa
from capsa.cli import _usage, main
from capsa.cli._output import Answer


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script of a shell in a folder, where `$capsa` is the command."""
    return subprocess.run(
        ["bash", "-c", script],
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        cwd=folder,
        env={**ENVIRONMENT, "capsa": f"{sys.executable} -m capsa", **environment},
    )


# Words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no command was given: capsa --help names them"),
        (["decid", "store", "router"], "there is no command 'decid': did you mean decide"),
        (["instal", "store", "x"], "did you mean install"),
        (["feedbacklog", "store"], "did you mean feedback-log"),
        (["frobnicate"], "there is no command 'frobnicate': capsa --help names them"),
        (["x" * 5000], "xxx': capsa --help names them"),
        (["keys"], "there is no command 'keys': did you mean keys rotate"),
        (["keys", "rotat", "store"], "did you mean keys rotate"),
        (["key", "rotate", "store"], "did you mean keys rotate"),
        (["audit", "verfy", "store"], "did you mean audit verify"),
        (["audti", "verify", "store"], "did you mean audit verify"),
        (["audit", "store", "verify"], "unrecognized arguments: verify: see capsa audit --help"),
        (["--limit", "doctor", "store"], "--limit stands where a command belongs: write capsa COMMAND first"),
        (["doctor"], "STORE: write capsa doctor STORE, or see capsa doctor --help"),
        (["install", "store"], "SPEC: write capsa install STORE SPEC"),
        (["audit", "verify"], "STORE: write capsa audit verify STORE"),
        (["doctor", "store", "extra"], "unrecognized arguments: extra: see capsa doctor --help"),
        (["doctor", "store", "x" * 5000], "unrecognized arguments: xxx"),
        (["doctor", ""], "argument STORE: the path is empty"),
        (["decide", "store"], "CAPSULE: write capsa decide STORE CAPSULE"),
        (
            ["decide", "store", "router", "--inputt", "{}"],
            "no argument --inputt: did you mean --input, or see",
        ),
        (["decide", "store", "router", "--inpu={}"], "no argument --inpu: did you mean --input, or see"),
        (
            ["decide", "store", "router", "--zzz"],
            "capsa decide has no argument --zzz: see capsa decide --help",
        ),
        (["decide", "store", "router", "--context-key", "-x"], "write --context-key=VALUE, with the ="),
        # Its value would be taken for the id, and the error would be about something else.
        (["feedback", "store", "router", "--reword", "1"], "no argument --reword: did you mean --reward"),
        (["feedback", "store", "router", "dec_0"], "one of the arguments --outcome --reward is required"),
        (["feedback", "store", "router", "dec_0", "--reward", "much"], "--reward: 'much' is not a number"),
        (["feedback", "store", "router", "dec_0", "--reward", "-1e-3"], "write --reward=VALUE, with the ="),
        (["feedback", "store", "router", "dec_0", "--reward", "1", "--outcome", "{}"], "not allowed with"),
        (["decisions", "store", "router", "--limit", "0"], "--limit: 0 is not from 1 to 1000"),
        (["decisions", "store", "router", "--limit", "1001"], "--limit: 1001 is not from 1 to 1000"),
        (["decisions", "store", "router", "--after", "-1"], "--after: -1 is not from 0 to"),
        (["decisions", "store", "router", "--after", "x" * 500], "is not a whole number from 0 to"),
        (["decisions", "store", "router", "--after", "9" * 5000], "is not a whole number from 0 to"),
        (["invoke", "store"], "CAPSULE: write capsa invoke STORE CAPSULE [INPUT], or see"),
        (["invoke", "store", "echo", "--record", "--compensate", "1"], "not allowed with argument --record"),
        (["invok", "store", "echo"], "there is no command 'invok': did you mean invoke"),
        (["policy"], "there is no command 'policy': did you mean policy"),
        (["policy", "sett", "store"], "did you mean policy set"),
        (["policy", "explain", "store", "echo", "x", "--method", "BREW"], "invalid choice: 'BREW'"),
        (["policy", "set", "store", "echo"], "POLICY: write capsa policy set STORE CAPSULE POLICY"),
        (
            ["secret", "set", "http://localhost", "x"],
            "is a server; this command needs the folder of its store",
        ),
        (["secret", "lst", "store"], "did you mean secret list"),
        (["author", "wrap", "m.wat"], "the following arguments are required: --out/-o"),
        (["author", "wrap", "m.wat", "-o", "x", "--world", "wasi"], "invalid choice: 'wasi'"),
        (["author", "embed", "c.wasm"], "DEFINITION"),
        (["author"], "SPEC: write capsa author SPEC"),
        (["author", "router.yaml", "--out", ""], "--out/-o: the path is empty"),
        (["demo", "--seeds", "0"], "--seeds: 0 is not from 1 to 100"),
        (["demo", "--seeds", "many"], "--seeds: 'many' is not a whole number from 1 to 100"),
        (["restore", "backup"], "STORE: write capsa restore BACKUP STORE"),
        (["doctor", "store", "\x1b[2J\n"], "unrecognized arguments: \\x1b[2J\\n"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_use_is_exit_code_2_and_one_line(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names what is wrong and what to do; with --json the same is one document, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    plain = capsys.readouterr()
    assert plain.out == ""
    [line] = plain.err.splitlines()
    assert line.startswith("capsa: ")
    assert said in line
    assert len(line) < 500
    if words:
        assert main([*words, "--json"]) == 2
        problem = json.loads(capsys.readouterr().out)
        assert (problem["ok"], problem["type"]) == (False, "/problems/wrong-use")
        assert problem["errors"][0]["remedy"]
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=8), max_size=4))
def test_no_words_end_in_a_traceback(words: list[str]) -> None:
    """Whatever is typed behind a command, it is understood or it is wrong use."""
    parser = _usage.Parser(prog="capsa")
    commands = parser.add_subparsers()
    plain = _usage.add_command(commands, "keep", _unused, "keep something")
    plain.add_argument("store", metavar="STORE")
    plain.add_argument("--reward", type=float)
    _usage.add_command(commands, "keep all", _unused, "keep all of it").add_argument(
        "--yes", action="store_true"
    )
    for begin in ([], ["keep"], ["keep", "all"]):
        if set(words) & {"-h"}:
            continue
        try:
            chosen = _usage.read_words(commands.choices, [*begin, *words])
        except _usage.WrongUse:
            continue
        assert chosen.run is _unused


def _unused(chosen: argparse.Namespace) -> Answer:
    raise AssertionError(chosen)


def test_names_are_written_out_in_full(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    """`--y` is not `--yes`."""
    for short in ("--lim", "--ten"):
        assert main(["audit", str(line.folder), short, "1"]) == 2
        assert f"has no argument {short}" in capsys.readouterr().err


def test_a_reward_below_zero_is_written_as_it_is(line: Line) -> None:
    for reward in ("-0.5", "-.5", "-1"):
        assert "no decision of this capsule" in line.refused(
            "feedback", "router", "dec_0", "--reward", reward
        )
    assert "no decision of this capsule" in line.refused("feedback", "router", "dec_0", "--reward=-1e-3")


def test_an_unknown_capsule_is_refused_with_the_names_there_are(line: Line) -> None:
    assert "did you mean router" in line.refused("report", "ruoter")
    assert "there are: router" in line.refused("report", "zzz")
    missing = line.refused("report", "router", "--job", "other")
    assert f"install it first: capsa install {line.folder} SPEC --job other\n" in missing


def test_what_the_system_refuses_has_a_remedy(line: Line, tmp_path: Path) -> None:
    assert "router.yam: No such file or directory: check the name" in line.refused("install", "router.yam")
    assert "Is a directory: name a file" in line.refused("install", str(tmp_path))
    assert "Is a directory: name a file" in line.refused("decide", "router", "--input", f"@{tmp_path}")


def test_an_empty_name_is_no_file(line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be the working folder."""
    empty = "the name of the file is empty"
    for words in (
        ("decide", "router", "--input", "@"),
        ("secret set", "key", "@"),
        ("trust add", ""),
        ("trust remove", ""),
        ("audit verify", "--public-key", ""),
    ):
        assert empty in line.refused(*words)
    assert main(["author", "verify", str(tmp_path / "router.yaml"), "--key", ""]) == 1
    assert empty in capsys.readouterr().err


def test_endless_input_is_refused(line: Line) -> None:
    assert "input has more than" in line.refused("decide", "router", "--input", "@/dev/zero")


# Streams and terminals

#: By exit code.
CLOSED = ["report store router", "report nothing router --json", "decid"]


@pytest.mark.parametrize("command", CLOSED)
@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_a_stream_that_is_closed_or_full_costs_the_text_alone(line: Line, command: str, streams: str) -> None:
    """No traceback, the exit code of the command (1 where its answer is lost on a full disk), the store unharmed."""
    done = shell(f"$capsa {command} {streams}", line.folder.parent)
    expected = CLOSED.index(command)
    if streams == ">/dev/full" and command == CLOSED[0]:
        expected = 1
        assert done.stderr == "capsa: standard output cannot be written: No space left on device\n"
    assert (done.returncode, "Traceback" in done.stderr) == (expected, False), done.stderr
    if "2>" in streams:
        # What belongs to one stream is not written to the other.
        assert "capsa:" not in done.stdout
    assert line.json("audit verify")["ok"]


def test_input_from_a_closed_stream_is_no_json(line: Line) -> None:
    done = shell("$capsa decide store router --input - <&-", line.folder.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("capsa: input is not JSON")


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(line: Line) -> None:
    """Nothing on standard error, whether text or JSON is cut."""
    with capsa.open(line.folder) as store:
        router = store.capsule("router")
        for _ in range(1000):
            router.decide()
    for form in ("", "--json"):
        command = f"$capsa decisions store router --limit 1000 {form} | head -c 10; exit ${{PIPESTATUS[0]}}"
        done = shell(command, line.folder.parent)
        assert (done.returncode, done.stderr, len(done.stdout)) == (1, "", 10)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_any_encoding_of_a_terminal_will_do(line: Line, encoding: str) -> None:
    """What it does not have is spelled out, and JSON stays JSON."""

    def said(*words: str) -> str:
        command = [sys.executable, "-m", "capsa", "decide", str(line.folder), "router", *words]
        environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding}
        done = subprocess.run(command, check=False, capture_output=True, timeout=60, env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode(encoding)

    assert json.loads(said("--context-key", "größer 語", "--json"))["contextKey"] == "größer 語"
    assert "er \\u8a9e\n" in said("--context-key", "größer 語")


def test_half_a_surrogate_pair_in_an_argument_is_spelled_out(line: Line) -> None:
    """Bytes that are not UTF-8, as a shell may send them: what is said of them is valid Unicode."""
    done = shell("$capsa report $'\\xff' router --json", line.folder.parent)
    assert done.returncode == 1
    assert "\\udcff" in json.loads(done.stdout)["detail"]


def test_interrupted_is_exit_code_130(line: Line) -> None:
    """Ctrl-C while it reads its input."""
    pipe = line.folder.parent / "pipe"
    os.mkfifo(pipe)
    # Where the tests run in the background, Ctrl-C is ignored from the start.
    start = ["env", "--default-signal=INT", sys.executable, "-m", "capsa"]
    command = [*start, "decide", str(line.folder), "router", "--input", f"@{pipe}"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    # Opening waits for the other side: then it is about to read.
    with child, pipe.open("w"):
        said = None
        while said is None:
            # One that comes just before it reads is not noticed by Python until something else happens.
            child.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = child.communicate(timeout=5)
    assert (child.returncode, said) == (130, "interrupted\n")


@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}], ids=str)
def test_no_terminal_gets_control_sequences(line: Line, environment: Mapping[str, str]) -> None:
    """Nothing is coloured, whatever is asked for."""
    said = Terminal(["doctor", str(line.folder)], 100, **environment).said
    assert "nothing is wrong" in said
    assert "\x1b" not in said


def test_a_table_is_as_wide_as_the_terminal(line: Line) -> None:
    """As far as its columns can be cut; in a wide one it stays at 100."""
    with capsa.open(line.folder) as store:
        router = store.capsule("router")
        router.feedback(router.decide(context_key="k" * 200).id, reward=0.5)
    for columns, least, most in ((20, 70, 80), (90, 90, 90), (300, 100, 100)):
        shown = Terminal(["contexts", str(line.folder), "router"], columns)
        assert shown.code == 0
        assert least <= max(map(len, shown.said.splitlines())) <= most, shown.said


def test_an_id_is_whole_and_leaves_room_for_the_rest(line: Line) -> None:
    """However narrow the terminal: it is there to be copied, and hangs over."""
    with capsa.open(line.folder) as store:
        decision = store.capsule("router").decide(context_key="k" * 100).id
    assert decision is not None
    for columns in (20, 100):
        head, row = Terminal(["decisions", str(line.folder), "router"], columns).said.splitlines()
        assert head.endswith("id")
        assert row.endswith(decision)
        assert len(row) - len(decision) <= max(columns, 70)
    assert "k" * 20 in row
