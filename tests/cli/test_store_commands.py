"""Commands over a store: what they do, what they say, and how they refuse."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import sys
from math import nextafter
from pathlib import Path
from typing import Any

import pytest
from tests.cli.store_line import PAIR, SPEC, Line, decided

import capsa
from capsa.cli import main


def test_a_capsule_is_installed_once(empty: Line, spec: Path) -> None:
    """The store is made; the same file again changes nothing; a further version says what it means."""
    first = empty.json("install", str(spec))
    assert (first["capsule"], first["capsuleVersion"], first["unchanged"]) == ("router", 1, False)
    assert empty.json("install", str(spec))["unchanged"]
    spec.write_text(SPEC.replace("dear", "grand"))
    assert empty.run("install", str(spec)) == 0
    assert "router v2 is installed" in empty.out
    assert "grand" in empty.out


def test_a_spec_that_does_not_hold_makes_no_store(empty: Line, spec: Path) -> None:
    spec.write_text("name: Router\noptions: [a]\n")
    assert empty.run("install", str(spec)) == 1
    assert f"{spec}:1:" in empty.err
    assert not empty.folder.exists()
    assert empty.run("install", str(spec.with_name("none.yaml"))) == 1
    assert "none.yaml" in empty.err
    assert not empty.folder.exists()


def test_what_one_command_learned_the_next_one_knows(line: Line) -> None:
    """Decide, feedback in parts, report and contexts, each a process's worth apart."""
    decision = decided(line)
    assert line.json("feedback", "router", decision, "--outcome", '{"quality": 0.5}')["missing"] == ["cost"]
    applied = line.json("feedback", "router", decision, "--outcome", '{"cost": 0.25}')
    assert (applied["status"], applied["contextKey"]) == ("applied", "a")
    assert line.json("feedback", "router", decision, "--outcome", '{"cost": 0.25}')["status"] == "repeated"
    other = decided(line, "b")
    assert line.json("feedback", "router", other, "--reward", "-0.25", "--taken", "dear")["reward"] == -0.25
    third = decided(line)
    assert line.json("feedback", "router", third, "--reward", "0", "--taken", "null")["status"] == "kept"
    report = line.json("report", "router")
    assert (report["decisions"], report["feedback"]["applied"], report["feedback"]["kept"]) == (3, 2, 1)
    assert report["strategies"][0]["options"][2]["optionName"] == "dear"
    assert [row["contextKey"] for row in line.json("contexts", "router")["contexts"]] == ["a", "b"]
    page = line.json("contexts", "router", "--limit", "1")
    assert page["next"] == "a"
    assert [row["contextKey"] for row in line.json("contexts", "router", "--after", "a")["contexts"]] == ["b"]


def test_input_comes_as_text_from_a_file_or_from_standard_input(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"task": "größer"}', encoding="utf-8")
    assert line.json("decide", "router", "--input", f"@{file}")["contextKey"] == "größer"
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"task": "piped"}'))
    assert line.json("decide", "router", "--input", "-")["contextKey"] == "piped"
    assert line.json("decide", "router", "--context-key", "mine")["contextKeyFrom"] == "request"


def test_options_are_names_or_json(line: Line, tmp_path: Path) -> None:
    """Of one strategy and of several; a number is a number only in JSON."""
    for allowed in ("cheap", '["cheap"]', "[0]"):
        decision = line.json("decide", "router", "--options", allowed)
        assert (decision["optionName"], decision["option"], decision["reason"]) == ("cheap", 0, "onlyOption")
    assert line.json("decide", "router", "--options", "cheap,dear")["decisions"][0]["probabilities"][1] == 0
    pair = tmp_path / "pair.yaml"
    pair.write_text(PAIR)
    line.json("install", str(pair), "--job", "calls")
    asked = ["retries", "--job", "calls", "--options", '{"timeout": ["1s"], "retries": ["1"]}']
    decision = line.json("decide", *asked)
    assert "option" not in decision
    assert [part["optionName"] for part in decision["decisions"]] == ["1s", "1"]
    taken = '{"timeout": "2s", "retries": "0"}'
    feedback = line.json(
        "feedback", "retries", decision["decisionId"], "--job", "calls", "--reward", "1", "--taken", taken
    )
    credited = {part["strategy"]: part["optionName"] for part in feedback["decisions"]}
    assert credited == {"timeout": "2s", "retries": "0"}


def test_places_are_tenant_and_job(empty: Line, spec: Path) -> None:
    place = ["--tenant", "acme", "--job", "routing"]
    empty.json("install", str(spec), *place)
    decision = empty.json("decide", "router", *place)
    assert (decision["tenant"], decision["job"]) == ("acme", "routing")
    assert "no job 'default' in acme" in empty.refused("report", "router", "--tenant", "acme")
    assert "no tenant 'default'" in empty.refused("report", "router")
    assert [row["job"] for row in empty.json("audit", "--tenant", "acme")["audit"]] == [
        None,
        "routing",
        "routing",
    ]


def test_shadow_and_off_are_shown(line: Line) -> None:
    with capsa.open(line.folder) as store:
        store.capsule("router").update_learning(mode="shadow")
    decision = line.json("decide", "router", "--current", "dear")
    assert (decision["optionName"], decision["propensity"]) == ("dear", None)
    assert decision["suggested"]["optionName"] in ("cheap", "balanced", "dear")
    assert line.run("decide", "router", "--current", "dear") == 0
    assert line.out.startswith("dear  current\nsuggested: ")
    with capsa.open(line.folder) as store:
        store.capsule("router").update_learning(mode="off")
    assert line.json("decide", "router")["decisionId"] is None
    assert line.run("decide", "router") == 0
    assert "id: none" in line.out


# Looking back


def test_what_happened_can_be_looked_up(line: Line) -> None:
    ids = [decided(line, task) for task in ("a", "b", "a")]
    line.json("feedback", "router", ids[0], "--outcome", '{"quality": 0.5, "cost": 0.25}')
    line.json("feedback", "router", ids[1], "--reward", "0.5")
    first = line.json("decisions", "router", "--limit", "2")
    rest = line.json("decisions", "router", "--after", str(first["next"]))
    assert [row["decisionId"] for row in first["decisions"] + rest["decisions"]] == ids
    assert rest["next"] is None
    assert [row["decisionId"] for row in line.json("feedback-log", "router")["feedback"]] == ids[:2]
    story = line.json("story", "router", ids[0])
    assert (story["status"], story["decision"]["decisionId"]) == ("applied", ids[0])
    replay = line.json("replay", "router", ids[2])
    assert (replay["ok"], replay["equal"], replay["differences"]) == (True, True, [])
    rebuild = line.json("rebuild")
    assert (rebuild["ok"], rebuild["sequences"], len(rebuild["capsules"])) == (True, {"default": 8}, 1)
    assert [row["type"] for row in line.json("audit")["audit"]] == ["created", "created", "installed"]
    verified = line.json("audit verify")
    assert (verified["ok"], verified["events"], verified["faults"]) == (True, 8, [])
    out = line.folder.with_name("out")
    assert line.json("export", str(out))["events"] == 8
    assert (out / "events.jsonl").exists()


def test_a_person_gets_tables_of_100_columns(line: Line) -> None:
    """Whatever stands in them; and nothing in them can steer the terminal."""
    hostile = "\x1b[2J\r\n" + "語" * 60
    decision = line.json("decide", "router", "--context-key", hostile)["decisionId"]
    line.json("feedback", "router", decision, "--reward", "0.5", "--taken", "dear")
    for command in (
        ["contexts", "router"],
        ["decisions", "router"],
        ["feedback-log", "router"],
        ["story", "router", decision],
        ["replay", "router", decision],
        ["rebuild"],
        ["audit"],
        ["audit verify"],
        ["report", "router"],
    ):
        assert line.run(*command) == 0
        assert "\x1b" not in line.out
        assert "\r" not in line.out
        if command[0] != "story":
            # An id alone may be longer than a line.
            rows = line.out.replace(decision, "").splitlines()
            assert max(len(row) + row.count("語") for row in rows) <= 100, line.out
    assert line.run("decisions", "router") == 0
    assert decision in line.out
    assert "…" in line.out
    assert line.run("decisions", "router", "--limit", "1") == 0
    assert "more: --after 4" in line.out


def test_what_does_not_hold_is_exit_code_1(line: Line) -> None:
    """A record that was changed afterwards: verify and replay see it, each in its way."""
    decision = decided(line)
    connection = sqlite3.connect(line.folder / "store.sqlite")
    at = (1 << 40) + 4
    [payload] = connection.execute("SELECT payload FROM event WHERE id = ?", (at,)).fetchone()
    # The first probability, by its last bit.
    changed = payload.replace(
        struct.pack(">Bd", 0xFB, 1 / 3), struct.pack(">Bd", 0xFB, nextafter(1 / 3, 0)), 1
    )
    assert changed != payload
    connection.execute("UPDATE event SET payload = ? WHERE id = ?", (changed, at))
    connection.commit()
    connection.close()
    assert line.run("replay", "router", decision) == 1
    assert "NOT EQUAL" in line.out
    assert "was recorded" in line.out
    assert line.run("audit verify") == 1
    assert "changed  default 4..4" in line.out
    assert line.run("rebuild") == 0


def test_a_rebuild_that_differs_is_exit_code_1(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file makes one: what a command opens was folded from the same events. So a live state is moved by hand."""
    decision = decided(line)
    line.json("feedback", "router", decision, "--reward", "0.5")
    rebuild = capsa.Store.rebuild

    def moved(store: capsa.Store) -> Any:
        [outcome] = [event for event in store.journal.read("default") if event.type == "outcome_received"]
        state = store._fold.capsules["default", "default", "router"]
        state.native.apply(outcome)
        return rebuild(store)

    monkeypatch.setattr(capsa.Store, "rebuild", moved)
    assert line.run("rebuild") == 1
    assert "default/default/router  NO" in line.out
    assert "learner_version: 3 was recorded, 2 came out" in line.out
    assert line.run("rebuild", "--json") == 1
    assert json.loads(line.out)["ok"] is False


def test_no_command_does_the_upkeep(line: Line, spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long events are kept is declared where the service opens the store: a look must not cut any off."""
    opened: list[capsa.Store] = []
    really = capsa.open

    def watched(*arguments: Any, **named: Any) -> capsa.Store:
        opened.append(really(*arguments, **named))
        return opened[-1]

    monkeypatch.setattr(capsa, "open", watched)
    decided(line)
    line.json("install", str(spec))
    line.json("audit")
    assert len(opened) == 3
    assert not any(store._upkeep for store in opened)


# What is refused


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["decide", "nothing"], "no capsule 'nothing'"),
        (["report", "router", "--tenant", "A b"], "(/tenant)"),
        (["report", "router", "--job", "../x"], "(/job)"),
        (["decide", "router", "--input", "{"], "input is not JSON"),
        (["decide", "router", "--input", ""], "input is not JSON"),
        (["decide", "router", "--input", "[1]"], "input is not a JSON object"),
        (["decide", "router", "--input", '{"a": NaN}'], "NaN is not a number"),
        (["decide", "router", "--input", '{"a": -Infinity}'], "-Infinity is not a number"),
        (["decide", "router", "--input", '{"a": 1e999}'], "/input"),
        (["decide", "router", "--input", "[" * 100_000], "nested too deep"),
        (["decide", "router", "--input", '{"a": ' + "9" * 5000 + "}"], "input is not JSON"),
        (["decide", "router", "--input", '{"task": "\\ud800"}'], "/input"),
        (["decide", "router", "--input", "@none.json"], "none.json"),
        (["decide", "router", "--input", "@."], "directory"),
        (["decide", "router", "--context-key", ""], "/contextKey"),
        (["decide", "router", "--options", "chep"], "(/options/0)"),
        (["decide", "router", "--options", "[]"], "(/options"),
        (["decide", "router", "--options", '{"timeout": ["1s"]}'], "(/options"),
        (["decide", "router", "--options", "[0"], "options is not JSON"),
        (["decide", "router", "--current", "grand"], "(/current)"),
        (["feedback", "router", "dec_0", "--reward", "1"], "no decision of this capsule"),
        (["story", "router", ""], "no decision of this capsule"),
        (["replay", "router", "dec_" + "0" * 32], "no decision of this capsule"),
        (["audit", "--tenant", "nobody"], "no tenant 'nobody'"),
        (["contexts", "router", "--after", "\udcff"], "(/after: "),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_does_not_fit_is_refused_in_one_line(line: Line, command: list[str], said: str) -> None:
    """Its own message, exit code 1, and nothing recorded."""
    before = line.json("rebuild")
    assert said in line.refused(*command)
    assert line.json("rebuild") == before


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (["--reward", "nan"], "(/reward: NaN)"),
        (["--reward", "inf"], "(/reward: inf)"),
        (["--reward", "7"], "(/reward)"),
        (["--outcome", "{}"], "(/outcome)"),
        (["--outcome", "null"], "outcome is not a JSON object"),
        (["--outcome", '{"speed": 1}'], "(/outcome/speed)"),
        (["--outcome", '{"quality": "good"}'], "(/outcome/quality: str)"),
        (["--reward", "0.5", "--taken", "grand"], "(/taken)"),
        (["--reward", "0.5", "--taken", '"dear'], "taken is not JSON"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_feedback_that_does_not_fit_is_refused(line: Line, sent: list[str], said: str) -> None:
    decision = decided(line)
    assert said in line.refused("feedback", "router", decision, *sent)
    assert line.json("story", "router", decision)["posts"] == []


def test_other_feedback_for_the_same_decision_is_refused(line: Line) -> None:
    decision = decided(line)
    line.json("feedback", "router", decision, "--reward", "0.5")
    assert "this decision has the reward 0.5" in line.refused(
        "feedback", "router", decision, "--reward", "0.25"
    )


NEEDS_A_STORE = [
    ["decide", "router"],
    ["feedback", "router", "dec_0", "--reward", "1"],
    ["report", "router"],
    ["invoke", "echo"],
    ["invocations", "echo"],
    ["policy show", "echo"],
    ["policy set", "echo", "pure"],
    ["policy explain", "echo", "https://a.example.com/"],
    ["secret set", "token", "@router.yaml"],
    ["secret list"],
    ["secret remove", "token"],
    ["contexts", "router"],
    ["decisions", "router"],
    ["feedback-log", "router"],
    ["story", "router", "dec_0"],
    ["replay", "router", "dec_0"],
    ["rebuild"],
    ["export", "out"],
    ["audit"],
    ["purge", "default", "--yes"],
    ["erase", "anna", "--yes"],
    ["upkeep"],
    ["keys rotate", "--yes"],
    # These look without opening it.
    ["audit verify"],
    ["backup", "out"],
    ["doctor"],
]


@pytest.mark.parametrize("command", NEEDS_A_STORE, ids=" ".join)
def test_only_install_makes_a_store(
    tmp_path: Path, spec: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """A missing folder, an empty one, a file, a folder of other things: each is said, nothing is made."""
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name, said in (
        ("missing", "there is no folder"),
        ("empty", "there is no store in"),
        (spec.name, "is not a folder"),
        (".", "there is no store in"),
    ):
        line = Line(tmp_path / name, capsys)
        refused = line.refused(*command)
        assert said in refused
        assert "capsa install" in refused
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", NEEDS_A_STORE[:-3], ids=" ".join)
def test_a_store_that_is_in_use_is_refused(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with capsa.open(line.folder):
        refused = line.refused(*command)
        assert "is open in this process" in refused
    assert not Path("out").exists()


@pytest.mark.parametrize("command", NEEDS_A_STORE[-3:], ids=" ".join)
def test_a_store_that_is_in_use_can_be_looked_at(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Nobody is disturbed, and what was recorded a moment ago is seen."""
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    with capsa.open(line.folder) as store:
        router = store.capsule("router")
        for count in (5, 7):
            router.feedback(router.decide().id, reward=0.5)
            assert line.json(name, *(f"{part}{count}" for part in rest))["events"] == count


def test_a_folder_of_other_things_is_not_installed_into(empty: Line, spec: Path) -> None:
    empty.folder.mkdir()
    (empty.folder / "note").write_text("mine")
    assert "holds other things" in empty.refused("install", str(spec))
    assert [file.name for file in empty.folder.iterdir()] == ["note"]


def test_nothing_is_exported_over_other_things(line: Line, tmp_path: Path) -> None:
    assert "is not an empty folder" in line.refused("export", str(tmp_path))
    assert "router.yaml" in line.refused("export", str(tmp_path / "router.yaml" / "below"))


@pytest.mark.parametrize("command", sorted({command[0] for command in NEEDS_A_STORE} | {"install"}))
def test_every_command_helps_in_sentences(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    description = said.split("\n\n")[1]
    assert description[0].isupper()
    assert description.rstrip().endswith(".")
    assert "--json" in said
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"    {command}" in capsys.readouterr().out
