"""`capsa backup` and `capsa restore`: a store that is lost comes back, and what is no backup is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.store_line import Line, decided
from tests.cli.terminal import ENVIRONMENT, Terminal

from capsa.cli import main


@pytest.fixture
def used(line: Line) -> tuple[Line, str]:
    """A store with feedback, and a decision that waits for its own."""
    line.json("feedback", "router", decided(line), "--reward", "0.5")
    return line, decided(line)


def restored(line: Line, backup: Path) -> Line:
    """A store that was made from a backup."""
    folder = backup.with_name("restored")
    assert main(["restore", str(backup), str(folder)]) == 0
    line._capsys.readouterr()
    return Line(folder, line._capsys)


def test_with_keys_everything_goes_on(used: tuple[Line, str], tmp_path: Path) -> None:
    """What was learned is the same, an id that was given before is taken, the journal is whole."""
    line, waiting = used
    done = line.json("backup", str(tmp_path / "backup"), "--keys")
    assert (done["events"], done["keys"], done["folder"]) == (6, True, str(tmp_path / "backup"))
    assert done["bytes"] > 0
    assert done["seconds"] >= 0
    other = restored(line, tmp_path / "backup")
    assert other.json("rebuild") == line.json("rebuild")
    assert other.json("feedback", "router", waiting, "--reward", "0.25")["status"] == "applied"
    assert other.json("audit verify")["ok"]
    assert other.json("doctor")["problems"] == []
    assert line.json("report", "router")["feedback"]["applied"] == 1


def test_without_keys_what_was_learned_comes_back_alone(used: tuple[Line, str], tmp_path: Path) -> None:
    """Ids from before are refused, and both commands say so beforehand; the journal still verifies."""
    line, waiting = used
    assert line.run("backup", str(tmp_path / "backup")) == 0
    assert "keys not included" in line.out
    assert "--keys" in line.out
    assert line.json("backup", str(tmp_path / "again"))["keys"] is False
    assert main(["restore", str(tmp_path / "backup"), str(tmp_path / "restored")]) == 0
    said = line._capsys.readouterr().out
    assert "holds no keys" in said
    other = Line(tmp_path / "restored", line._capsys)
    assert other.json("report", "router")["feedback"]["applied"] == 1
    assert "no decision of this capsule" in other.refused("feedback", "router", waiting, "--reward", "0.25")
    later = decided(other)
    assert other.json("feedback", "router", later, "--reward", "0.5")["status"] == "applied"


def test_a_store_in_use_is_copied(line: Line, tmp_path: Path) -> None:
    """The process that holds it goes on, and what it was told before the backup is in there."""
    code = (
        "import sys, capsa; store = capsa.open(sys.argv[1]); router = store.capsule('router')\n"
        "for asked in sys.stdin: print(router.feedback(router.decide().id, reward=0.5).status, flush=True)"
    )
    command = [sys.executable, "-c", code, str(line.folder)]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=ENVIRONMENT
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _ in range(3):
            child.stdin.write("\n")
            assert child.stdout.readline() == "applied\n"
        assert line.json("backup", str(tmp_path / "backup"), "--keys")["events"] == 3 + 6
        child.stdin.write("\n")
        assert child.stdout.readline() == "applied\n"
        child.stdin.close()
        assert child.wait(60) == 0
    other = restored(line, tmp_path / "backup")
    assert other.json("report", "router")["feedback"]["applied"] == 3
    assert other.json("audit verify")["faults"] == []
    assert line.json("report", "router")["feedback"]["applied"] == 4


def test_how_far_it_came_is_shown_as_it_suits(used: tuple[Line, str], tmp_path: Path) -> None:
    """A bar on a terminal that leaves no trace in the answer, lines without one, nothing beside JSON."""
    line, _ = used
    shown = Terminal(["backup", str(line.folder), str(tmp_path / "one"), "--keys"], 100)
    assert shown.code == 0
    assert "copying [" + "#" * 40 + "] 100%" in shown.said
    assert "\n" not in shown.said.partition("wrote")[0]
    narrow = Terminal(["restore", str(tmp_path / "one"), str(tmp_path / "narrow")], 30)
    drawn = narrow.said.partition("wrote")[0].split("\r")
    assert "restoring [" + "#" * 11 + "] 100%" in drawn
    assert max(map(len, drawn)) < 30
    assert line.run("backup", str(tmp_path / "two"), "--keys") == 0
    first, *_, wrote, keys = line.out.splitlines()
    assert first.startswith("copying: ")
    assert line.out.count("copying: 100 %") == 1
    assert wrote.startswith("wrote 6 events, ")
    assert keys.startswith("keys included: ")
    assert line.err == ""
    assert main(["restore", str(tmp_path / "two"), str(tmp_path / "three")]) == 0
    assert "restoring: 100 %" in line._capsys.readouterr().out


def test_nothing_is_written_over_other_things(used: tuple[Line, str], tmp_path: Path) -> None:
    line, _ = used
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    assert str(tmp_path / "full") in line.refused("backup", str(tmp_path / "full"))
    assert str(line.folder) in line.refused("backup", str(line.folder))
    assert "router.yaml" in line.refused("backup", str(tmp_path / "router.yaml"))
    line.json("backup", str(tmp_path / "backup"))
    for target in ("full", "store", "router.yaml"):
        assert main(["restore", str(tmp_path / "backup"), str(tmp_path / target)]) == 1
        said = line._capsys.readouterr()
        assert (said.out, len(said.err.splitlines())) == ("", 1)
        assert target in said.err
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["note"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "full", "router.yaml", "store"]


def test_what_is_no_backup_is_not_restored(line: Line, tmp_path: Path) -> None:
    for name, said in (
        ("none", "there is no folder"),
        (".", "there is no store in"),
        ("router.yaml", "not a folder"),
    ):
        assert main(["restore", str(tmp_path / name), str(tmp_path / "restored")]) == 1
        refused = line._capsys.readouterr().err
        assert said in refused
        assert "name the folder that capsa backup wrote" in refused
    assert not (tmp_path / "restored").exists()


def test_a_damaged_backup_is_refused_with_its_fault(used: tuple[Line, str], tmp_path: Path) -> None:
    """Nothing is made; the fault is named."""
    line, _ = used
    line.json("backup", str(tmp_path / "backup"))
    connection = sqlite3.connect(tmp_path / "backup" / "store.sqlite")
    with connection:
        connection.execute("DELETE FROM event WHERE id = ?", ((1 << 40) + 3,))
    connection.close()
    for file in (tmp_path / "backup").glob("store.sqlite-*"):
        file.unlink()
    assert main(["restore", str(tmp_path / "backup"), str(tmp_path / "restored")]) == 1
    said = line._capsys.readouterr().err
    assert "missing" in said
    assert "Traceback" not in said
    assert not (tmp_path / "restored").exists()
