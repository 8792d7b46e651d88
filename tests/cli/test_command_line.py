"""The command line: what it writes, what it says, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import capsa
from capsa.cli import main

SPEC = "name: router\noptions: [cheap_fast, balanced]\ncontexts: [task_type]\nreward: {quality: 1}\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(SPEC)
    return path


def test_author_writes_a_component_that_installs(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --out the component stands beside the spec; the same spec gives the same bytes."""
    assert main(["author", str(spec)]) == 0
    component = spec.with_suffix(".wasm")
    assert "router" in capsys.readouterr().out
    assert capsa.open().install(component).name == "router"
    first = component.read_bytes()
    assert main(["author", str(spec)]) == 0
    assert component.read_bytes() == first


def test_author_json_is_one_document(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json standard output holds the result alone."""
    wat = spec.with_suffix(".wat")
    assert main(["author", str(spec), "--json", "--wat-out", str(wat)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["name"] == "router"
    assert result["sizeBytes"] == spec.with_suffix(".wasm").stat().st_size
    assert result["written"] == [str(spec.with_suffix(".wasm")), str(wat)]
    assert result["definition"]["rails"]["minExploration"] == 0.02


def test_check_writes_nothing(spec: Path) -> None:
    """--check reads only."""
    assert main(["author", str(spec), "--check"]) == 0
    assert sorted(spec.parent.iterdir()) == [spec]


def test_a_wrong_spec_names_every_line_and_writes_nothing(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, a line for each problem on standard error, nothing written."""
    spec.write_text("name: Router\noptions: [a]\ncontxts: [x]\n")
    assert main(["author", str(spec)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    for line in (1, 2, 3):
        assert f"{spec}:{line}:" in said.err
    assert 'did you mean "contexts"' in said.err
    assert sorted(spec.parent.iterdir()) == [spec]

    assert main(["author", str(spec), "--json"]) == 1
    problem = json.loads(capsys.readouterr().out)
    assert (problem["ok"], problem["type"]) == (False, "/problems/invalid-spec")
    assert [error["line"] for error in problem["errors"]] == [1, 2, 3]


def test_a_missing_file_is_said_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the file's name."""
    assert main(["author", str(tmp_path / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err


def test_the_spec_is_never_overwritten(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out that names the spec itself is refused."""
    assert main(["author", str(spec), "--out", str(spec)]) == 1
    assert "--out" in capsys.readouterr().err
    assert spec.read_text() == SPEC
