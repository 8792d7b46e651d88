"""Commands of tools: made, installed, allowed, called, looked back at; and secrets, which nobody sees."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.store_line import Line
from tests.cli.terminal import Terminal
from tests.sandbox import guests
from tests.server import tools
from tests.server.serving import KEY, Served

import capsa
from capsa import _native
from capsa.capsules import read_tool_definition
from capsa.cli import main

ECHO = """\
(module
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap (i32.add (global.get $heap) (local.get 3)))
    (local.get $at))
  (func (export "invoke") (param $in i32) (param $bytes i32) (result i32)
    (i32.store (i32.const 68) (local.get $in))
    (i32.store (i32.const 72) (local.get $bytes))
    (i32.const 64)))
"""
DEFINITION = (
    'schema = 1\nkind = "tool"\nname = "echo"\nsummary = "Answers what it is sent."\neffect = "pure"\n'
)


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A tool, made as its author makes it."""
    (tmp_path / "echo.wat").write_text(ECHO)
    (tmp_path / "capsule.toml").write_text(DEFINITION)
    bare, whole = tmp_path / "bare.wasm", tmp_path / "echo.wasm"
    assert main(["author", "wrap", str(tmp_path / "echo.wat"), "-o", str(bare)]) == 0
    assert main(["author", "embed", str(bare), str(tmp_path / "capsule.toml"), "--out", str(whole)]) == 0
    capsys.readouterr()
    return whole


@pytest.fixture
def line(empty: Line, made: Path) -> Line:
    """A line over a store with the tool."""
    assert empty.run("install", str(made)) == 0
    return empty


def component(line: Line, name: str, content: bytes) -> str:
    path = line.folder.with_name(f"{name}.wasm")
    path.write_bytes(content)
    return str(path)


def policy(line: Line, content: bytes) -> str:
    path = line.folder.with_name("policy.toml")
    path.write_bytes(content)
    return str(path)


# Made


def test_a_tool_is_made_of_a_module_and_a_definition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text or binary; what is in it can be looked at afterwards."""
    (tmp_path / "echo.wat").write_text(ECHO)
    (tmp_path / "capsule.toml").write_text(DEFINITION)
    bare, whole = str(tmp_path / "bare.wasm"), str(tmp_path / "echo.wasm")
    assert main(["author", "wrap", str(tmp_path / "echo.wat"), "-o", bare]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"tool: {Path(bare).stat().st_size} bytes, imports nothing", f"wrote {bare}"]
    assert main(["author", "embed", bare, str(tmp_path / "capsule.toml"), "-o", whole, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["imports"], told["written"]) == ("echo", [], [whole])
    assert told["definition"]["effect"] == "pure"
    assert told["sizeBytes"] == Path(whole).stat().st_size
    assert main(["author", whole, "--check"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"echo: a tool, pure, {told['sizeBytes']} bytes, b2:")
    assert said[1:] == ["  Answers what it is sent.", "  imports: nothing", "  wants: nothing but log"]


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (DEFINITION.replace('"pure"', '"none"'), "effect: 'none' is no effect class"),
        (DEFINITION + "[wants]\nclocks = true\n", "clocks"),
        ("schema = ", "the definition cannot be read"),
        ("# \x81\n" + DEFINITION, "the definition is not text: byte 2 is not UTF-8: save it as UTF-8"),
        (None, "capsule.toml"),
    ],
    ids=str,
)
def test_a_definition_that_does_not_hold_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], definition: str | None, said: str
) -> None:
    bare = tmp_path / "bare.wasm"
    bare.write_bytes(guests.tool(guests.ECHO).bytes)
    if definition is not None:
        (tmp_path / "capsule.toml").write_text(definition, encoding="latin-1")
    words = ["author", "embed", str(bare), str(tmp_path / "capsule.toml"), "-o", str(tmp_path / "out.wasm")]
    assert main(words) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.wasm").exists()


def test_a_claim_that_the_imports_disprove_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bare.wasm").write_bytes(guests.script(guests.call("kv.set", "k", "v")).bytes)
    (tmp_path / "capsule.toml").write_text(DEFINITION + '[wants]\nkv = { access = "read_write" }\n')
    words = ["author", "embed", str(tmp_path / "bare.wasm"), str(tmp_path / "capsule.toml")]
    assert main([*words, "-o", str(tmp_path / "out.wasm")]) == 1
    assert "pure" in capsys.readouterr().err
    assert not (tmp_path / "out.wasm").exists()


@pytest.mark.parametrize(
    ("content", "world", "said"),
    [
        (b"(module", "tool", "capsa: "),
        (b"(module)", "tool", "capsa: "),
        (ECHO.encode(), "compensable-tool", "compensate"),
        (ECHO.encode(), "decision", "frame"),
    ],
    ids=["half", "empty", "another world", "a decision"],
)
def test_a_module_that_does_not_fit_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, world: str, said: str
) -> None:
    module = tmp_path / "module.wat"
    module.write_bytes(content)
    out = tmp_path / "out.wasm"
    assert main(["author", "wrap", str(module), "--world", world, "-o", str(out)]) == 1
    assert said in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "(module\n  (func i32.bogus " + ")" * 200_000,
            "unknown operator or unexpected token, at line 2, column 9\n",
        ),
        ('(module (import "' + "x" * 90_000 + '" "y" (func)))', "xxx"),
    ],
    ids=["a long line", "a long name"],
)
def test_what_is_wrong_with_a_module_is_said_in_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    """With its place, and without the line, which may be all there is."""
    (tmp_path / "module.wat").write_text(content)
    assert main(["author", "wrap", str(tmp_path / "module.wat"), "-o", str(tmp_path / "out.wasm")]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert len(told) < 500
    assert "\\n" not in told


def test_a_definition_of_something_else_makes_nothing(empty: Line, tmp_path: Path) -> None:
    """A component that decides is no tool, whatever it is given to say: nor does it leave a store behind."""
    decides = guests.decision().bytes
    bare, whole = tmp_path / "bare.wasm", tmp_path / "whole.wasm"
    bare.write_bytes(decides)
    (tmp_path / "capsule.toml").write_text(DEFINITION)
    whole.write_bytes(
        _native.embed_tool_definition(decides, json.dumps(read_tool_definition(DEFINITION).to_json()))
    )
    said = "this is not a tool capsule: it does not export `invoke`"
    assert said in empty.refused("install", str(whole))
    for words in (
        ["author", "embed", str(bare), str(tmp_path / "capsule.toml"), "-o", str(tmp_path / "out.wasm")],
        ["author", str(whole), "--check"],
    ):
        assert main(words) == 1
    assert not (tmp_path / "out.wasm").exists()
    assert not empty.folder.exists()


# Installed and allowed


def test_an_install_says_what_is_in_effect(empty: Line, made: Path) -> None:
    assert empty.run("install", str(made)) == 0
    assert empty.out.splitlines()[1:] == ["  echo is new", "policy: pure", "in effect: nothing but log"]
    remember = component(empty, "remember", tools.remember("remember"))
    assert empty.run("install", remember) == 0
    assert empty.out.splitlines()[-1] == ("! imported, and not granted: kv; so the tool cannot be called")
    told = empty.json("install", remember, "--policy", "tool-default")
    assert told["policy"]["notGranted"] == []
    assert told["unchanged"] is True
    assert empty.json("install", remember)["policy"]["policy"]["name"] == "tool-default", "it stays"


def test_an_install_under_a_policy_that_does_not_hold_makes_nothing(
    empty: Line, made: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('schema = 1\nname = "x"\n[grants]\nclocks = true\n')
    assert "/grants/clocks" in empty.refused("install", str(made), "--policy", str(wrong))
    assert "no ready policy" in empty.refused("install", str(made), "--policy", "tool-defualt")
    spec = tmp_path / "router.yaml"
    spec.write_text("name: router\noptions: [a, b]\n")
    assert "can be granted nothing" in empty.refused("install", str(spec), "--policy", "pure")
    assert not empty.folder.exists()


def test_a_policy_is_set_and_shown(line: Line) -> None:
    """What is new in it is told; and whether the tool can be called now."""
    assert line.run("policy show", "echo") == 0
    assert line.out.splitlines()[0].startswith("pure: engine fast, b2:")
    assert line.out.splitlines()[-1] == "in effect: nothing but log"
    mine = policy(line, tools.DETERMINISTIC)
    assert line.run("policy set", "echo", mine) == 0
    said = line.out.splitlines()
    assert said[0].startswith("echo has the policy replayable (b2:")
    assert {"+ engine: deterministic", "+ clock: the time", "in effect: nothing but log"} <= set(said)
    told = line.json("policy set", "echo", mine)
    assert told["changes"] == {"same": True, "new": [], "gone": []}
    shown = line.json("policy show", "echo")
    assert shown == {name: value for name, value in told.items() if name != "changes"}
    assert line.run("policy show", "echo") == 0
    assert line.out.splitlines()[-2].startswith("set by local, 20")


def test_explain(line: Line) -> None:
    """Denied is an answer, and no failure."""
    told = line.json("policy explain", "echo", "https://a.example.com/", "--method", "POST")
    assert (told["allowed"], told["rule"]) == (False, "not-granted")
    assert line.run("policy explain", "echo", "kv:a") == 0
    assert line.out.splitlines()[0] == "denied: kv is not granted (not-granted)"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["policy set", "echo", "none.toml"], "none.toml"),
        (["policy set", "echo", "tool-defualt"], "write tool-default"),
        (["policy set", "ecko", "pure"], "did you mean echo"),
        (["policy show", "router"], "router is a decision capsule"),
        (["invoke", "router"], "router is a decision capsule"),
        (["decide", "echo"], "echo is a tool"),
        (["report", "echo"], "echo is a tool"),
        (["invoke", "echo", "{"], "input is not JSON"),
        (["invoke", "echo", "@none.json"], "none.json"),
        (["invoke", "echo", "NaN"], "NaN is not a number"),
        (["invoke", "echo", "1", "--record"], "deterministic"),
        (["invoke", "echo", "1", "--compensate", "{"], "output is not JSON"),
        (["invoke", "echo", "1", "--compensate", "1"], "compensate"),
        (["replay", "echo", "inv_" + "0" * 32], "no invocation"),
        (["replay", "router", "inv_" + "0" * 32], "router is a decision capsule"),
        (["replay", "echo", "inv_0"], "no such invocation"),
        (["secret remove", "token"], "default has no secret 'token'"),
        (["secret list", "--tenant", "acme"], "no tenant 'acme'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_refused(line: Line, tmp_path: Path, command: list[str], said: str) -> None:
    spec = tmp_path / "router.yaml"
    spec.write_text("name: router\noptions: [a, b]\n")
    line.json("install", str(spec))
    assert said in line.refused(*command)


# Called


def test_a_call_and_its_log(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an argument, a file and standard input; what it answers stands first."""
    assert line.run("invoke", "echo", '{"a": "é"}') == 0
    first, second = line.out.splitlines()
    assert first == '{"a": "é"}'
    assert second.startswith("inv_")
    assert "ms of processor time" in second
    (tmp_path / "input.json").write_text("[1, 2]")
    assert line.json("invoke", "echo", f"@{tmp_path / 'input.json'}")["output"] == [1, 2]
    monkeypatch.setattr("sys.stdin", io.StringIO('"piped"'))
    assert line.json("invoke", "echo", "-")["output"] == "piped"
    assert line.json("invoke", "echo")["output"] is None
    page = line.json("invocations", "echo", "--limit", "3")
    assert [row["error"] for row in page["invocations"]] == [None] * 3
    rest = line.json("invocations", "echo", "--after", str(page["next"]))
    assert (len(rest["invocations"]), rest["next"]) == (1, None)
    assert line.run("invocations", "echo", "--limit", "2") == 0
    headers, *rows, more = line.out.splitlines()
    assert headers.split() == ["sequence", "time", "(UTC)", "came", "to", "cpu", "ms", "id"]
    assert [row.split()[3] for row in rows] == ["answered", "answered"]
    assert more.startswith("more: --after ")


def test_a_recorded_call_is_replayed(line: Line) -> None:
    line.json("policy set", "echo", policy(line, tools.DETERMINISTIC))
    assert line.run("invoke", "echo", "1", "--record") == 0
    assert line.out.splitlines()[1].endswith(", recorded")
    told = line.json("invoke", "echo", "1", "--record")
    replay = line.json("replay", "echo", told["invocationId"])
    assert (replay["ok"], replay["same"], replay["recordedOutput"]) == (True, True, 1)
    assert line.run("replay", "echo", told["invocationId"]) == 0
    assert line.out == "equal\n"
    assert line.run("invocations", "echo") == 0
    assert "answered, recorded" in line.out


def test_a_replay_that_differs_is_exit_code_1(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """No store makes one: so what was recorded is moved by hand."""
    line.json("policy set", "echo", policy(line, tools.DETERMINISTIC))
    told = line.json("invoke", "echo", "1", "--record")
    really = capsa.Capsule.replay_invocation

    def moved(capsule: capsa.Capsule, id_: str) -> Any:
        again = really(capsule, id_)
        return type(again)(id=id_, same=False, differences=["output"], output=1, recorded_output=2)

    monkeypatch.setattr(capsa.Capsule, "replay_invocation", moved)
    assert line.run("replay", "echo", told["invocationId"]) == 1
    assert line.out.splitlines() == [
        "NOT EQUAL",
        "differ: output",
        "  output: 2 was recorded, 1 came out",
    ]


def test_a_call_is_taken_back(empty: Line) -> None:
    empty.json("install", component(empty, "taken", tools.compensable("taken")))
    done = empty.json("invoke", "taken", "5")
    undone = empty.json("invoke", "taken", "5", "--compensate", json.dumps(done["output"]))
    assert undone["output"] is None
    assert empty.run("invocations", "taken") == 0
    assert "compensated" in empty.out


def test_what_a_tool_does_is_told(empty: Line) -> None:
    """Its failures, what it was denied, and nothing that steers the terminal."""
    hostile = "\x1b[2J\r\nforged"
    fails = tools.component("fails", guests.fails("hostile", hostile))
    empty.json("install", component(empty, "fails", fails))
    refused = empty.refused("invoke", "fails")
    assert "\x1b" not in refused
    wants = {"http": [{"hosts": ["*"], "schemes": ["https", "http"]}]}
    asks = tools.component("asks", guests.script(guests.send("http://127.0.0.1:9/")), "read", **wants)
    mine = policy(empty, b'schema = 1\nname = "x"\n[[grants.http]]\nhosts = ["*"]\nschemes = ["http"]\n')
    empty.json("install", component(empty, "asks", asks), "--policy", mine)
    assert empty.run("invoke", "asks") == 0
    assert "! denied http: " in empty.out
    assert empty.run("invocations", "asks") == 0
    assert "answered, 1 denied" in empty.out


# Secrets


def test_a_secret_is_set_listed_and_removed(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From standard input or a file; its value is nowhere to be seen."""
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-swordfish\n"))
    assert line.run("secret set", "stripe") == 0
    assert line.out == "the secret stripe of default is set\n"
    (tmp_path / "token").write_text("sk-swordfish-2\r\n")
    told = line.json("secret set", "stripe", f"@{tmp_path / 'token'}")
    assert told == {"tenant": "default", "name": "stripe", "replaced": True}
    with capsa.open(line.folder) as store:
        assert store._vault.values("default") == {"stripe": "sk-swordfish-2"}
    assert line.json("secret list") == {"tenant": "default", "secrets": ["stripe"]}
    audit = json.dumps(line.json("audit"))
    assert "stripe" in audit
    for file in line.folder.rglob("store.sqlite*"):
        assert b"swordfish" not in file.read_bytes()
    assert "swordfish" not in audit
    assert line.run("secret remove", "stripe") == 0
    assert line.json("secret list")["secrets"] == []
    assert line.run("secret list") == 0
    assert line.out == "no secrets\n"


@pytest.mark.parametrize(
    ("value", "said"),
    [("", "/value"), ("two\nlines", "/value"), ("x" * 5000, "/value"), ("schlüssel", "/value")],
    ids=["nothing", "two lines", "too long", "not ASCII"],
)
def test_what_cannot_be_a_secret(line: Line, tmp_path: Path, value: str, said: str) -> None:
    (tmp_path / "token").write_text(value)
    refused = line.refused("secret set", "stripe", f"@{tmp_path / 'token'}")
    assert said in refused
    assert "xxx" not in refused
    assert "schl" not in refused
    assert line.json("secret list")["secrets"] == []


def test_a_secret_on_the_command_line_is_refused(line: Line) -> None:
    """And not repeated: what was typed is in the shell's history already."""
    refused = line.refused("secret set", "stripe", "sk-swordfish")
    assert "where others can read it" in refused
    assert "swordfish" not in refused


def test_a_secret_that_is_typed_is_not_shown(line: Line) -> None:
    seen = Terminal(["secret", "set", str(line.folder), "stripe"], 80, typed="sk-swordfish\n")
    assert seen.code == 0
    assert "swordfish" not in seen.said
    assert "the secret stripe of default is set" in seen.said
    with capsa.open(line.folder) as store:
        assert store._vault.values("default") == {"stripe": "sk-swordfish"}


@pytest.mark.parametrize(
    "words",
    [
        ("secret set", "stripe", "@token"),
        ("secret list",),
        ("secret remove", "stripe"),
        ("settings set", "install.allow=any"),
        ("settings show",),
        ("trust add", "0" * 62 + "aa"),
        ("trust list",),
    ],
    ids=" ".join,
)
def test_what_no_server_does_for_others(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Where the store is in use there is nobody to ask: it is said what to do instead."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("sk-swordfish")
    with capsa.open(line.folder):
        assert "stop that process first" in line.refused(*words)


# At a server


def test_the_same_at_a_server(
    tmp_path: Path, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPSA_ADMIN_KEY", KEY)
    with Served(tmp_path / "served") as served:

        def told(command: str, *rest: str) -> Any:
            assert main([*command.split(), served.url, *rest, "--json"]) == 0
            return json.loads(capsys.readouterr().out)

        mine = tmp_path / "policy.toml"
        mine.write_bytes(tools.DETERMINISTIC)
        assert told("install", str(made), "--policy", str(mine))["policy"]["by"] == "key admin"
        done = told("invoke", "echo", "5", "--record")
        assert (done["output"], done["recorded"]) == (5, True)
        assert told("replay", "echo", done["invocationId"])["ok"] is True
        assert told("invocations", "echo")["invocations"][0]["invocationId"] == done["invocationId"]
        assert told("policy show", "echo")["policy"]["name"] == "replayable"
        assert told("policy set", "echo", "pure")["changes"]["new"]
        assert told("policy explain", "echo", "x")["allowed"] is False
        assert main(["invoke", served.url, "echo", "1", "--record"]) == 1
        assert "deterministic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dns", "localhost:53"], "give a list of name servers"),
        (["--dns", "10.0.0.2"], "give a list of name servers"),
        (["--roots", "none.pem"], "none.pem"),
    ],
    ids=str,
)
def test_what_tools_reach_the_network_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(["serve", str(tmp_path / "store"), "--port", "0", "--dev-mode", *more]) == 1
    assert said in capsys.readouterr().err


def test_a_server_with_its_own_name_server(tmp_path: Path) -> None:
    with Served(tmp_path / "store", "--dns", "127.0.0.1:5353", "--dns", "[::1]:53") as served:
        assert served.get("/ready").status == 200
        assert served.stop() == 0
