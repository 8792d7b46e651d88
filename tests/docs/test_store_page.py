"""The page about stores: its commands and snippets do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.test_documents import ROOT, ROUTER, blocks

import capsa

PAGE = ROOT / "docs/store.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's router.yaml and a `capsa` of this checkout."""
    [spec] = blocks(PAGE, "yaml")
    assert spec == ROUTER
    (tmp_path / "router.yaml").write_text(spec)
    command = tmp_path / "bin" / "capsa"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m capsa "$@"\n')
    command.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    # The package that is tested, and not another one that may be installed.
    monkeypatch.setenv("PYTHONPATH", str(Path(capsa.__file__).resolve().parents[1]))
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def masked(text: str) -> list[str]:
    """The lines of a command's output without what differs from run to run."""
    text = re.sub(r"b2:[0-9a-f]+", "b2:…", text)
    text = re.sub(r"\d+\.\d [kMGT]B", "…", text)
    return re.sub(r"^/\S+/store", "/…/store", text, flags=re.MULTILINE).splitlines()


def test_the_page_runs_from_top_to_bottom(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commands in order, then what the shown outputs say, then the snippet in Python."""
    shown = blocks(PAGE, "text")
    script = "\n".join(blocks(PAGE, "bash"))
    for number, block in enumerate(shown):
        command = block.split("\n", 1)[0].removeprefix("$ ")
        script += f"\n{command} > said{number}\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "applied" in done.stdout
    assert "router v1" in done.stdout
    for number, block in enumerate(shown):
        assert masked((folder / f"said{number}").read_text()) == block.splitlines()[1:]

    [snippet] = blocks(PAGE, "python")
    exec(compile(snippet, "store.md", "exec"), {})  # noqa: S102 - our own document
    said = re.findall(r"^    print\(.*?# (.*)$", snippet, flags=re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said


def test_the_page_names_every_file_of_an_export(folder: Path) -> None:
    """No file of an export is missing in its table."""
    subprocess.run(["capsa", "install", "store", "router.yaml"], check=True, capture_output=True)
    decide = ["capsa", "decide", "store", "router"]
    decided = subprocess.run(decide, check=True, capture_output=True, text=True)
    [decision] = re.findall(r"dec_[\w-]+", decided.stdout)
    subprocess.run(
        ["capsa", "feedback", "store", "router", decision, "--reward", "0"], check=True, capture_output=True
    )
    subprocess.run(["capsa", "export", "store", "out"], check=True, capture_output=True)
    page = PAGE.read_text()
    names = {file.name for file in (folder / "out").rglob("*") if file.is_file()}
    assert len(names) > 10
    assert [name for name in names if name.replace("1.wasm", "N.wasm") not in page] == []
