"""Documented snippets and commands do what the documents say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.server.serving import Served

import capsa
from capsa import _native

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ROUTER = """\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency_ms: {weight: -0.2, budget: 2000}, cost_usd: {weight: -0.2, budget: 0.02}}
"""


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own that holds the router.yaml of the documents."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "router.yaml").write_text(ROUTER)
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/decisions.md", "docs/spec.md"])
def test_every_spec_in_the_documents_compiles(page: str) -> None:
    """What stands in a ```yaml block is accepted as it is."""
    specs = blocks(ROOT / page, "yaml")
    assert specs
    for spec in specs:
        assert _native.compile_spec(spec).startswith(b"\0asm")


@pytest.mark.usefixtures("folder")
def test_the_readme_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The README's Python block runs with the spec that stands above it."""
    assert blocks(README, "yaml")[0] == ROUTER
    [snippet] = blocks(README, "python")
    names = {"ask_model": lambda name, _prompt: name, "prompt": "?"}
    exec(compile(snippet, "README.md", "exec"), names)  # noqa: S102 - our own document
    assert "router v1" in capsys.readouterr().out


def test_the_readme_commands_for_any_other_language_run(folder: Path) -> None:
    """The README's `capsa serve` and the `curl` lines behind it, on a free port, with the id that was answered."""
    [block] = [block for block in blocks(README, "bash") if "capsa serve" in block]
    serve, *lines = block.splitlines()
    words = serve.split("#")[0].split()[1:]
    with Served(folder / "store", *words[1:], key=None) as served:
        place, *calls = (line.replace("localhost:8787", f"localhost:{served.port}") for line in lines)
        said = ""
        for call in calls:
            decided = re.search(r"dec_[A-Za-z0-9_-]+", said)
            line = call.replace("dec_…", decided[0] if decided else "")
            done = subprocess.run(
                ["bash", "-c", f"{place}\n{line}"], check=True, capture_output=True, text=True, timeout=60
            )
            said = done.stdout
        assert json.loads(said)["status"] == "applied"


@pytest.mark.usefixtures("folder")
def test_the_decisions_page_runs_from_top_to_bottom(capsys: pytest.CaptureFixture[str]) -> None:
    """Its Python blocks run in one go, and print what their comments say."""
    page = ROOT / "docs/decisions.md"
    assert blocks(page, "yaml")[0] == ROUTER
    code = compile("\n".join(blocks(page, "python")), "decisions.md", "exec")
    exec(code, {})  # noqa: S102 - our own document
    out = capsys.readouterr().out
    for said in ("legal|enterprise|normal", "applied 0.465", "['quality']", "repeated", "balanced current"):
        assert said in out


def test_the_learners_page_runs_and_shows_the_measured_regret(capsys: pytest.CaptureFixture[str]) -> None:
    """Its Python blocks run in one go, and its table is the stored result of bench/regret."""
    page = ROOT / "docs/learners.md"
    exec(compile("\n".join(blocks(page, "python")), "learners.md", "exec"), {})  # noqa: S102 - our own document
    assert "0.93" in capsys.readouterr().out
    measured = json.loads((ROOT / "bench/results/regret.json").read_text())["regret"]
    for algorithm, row in measured.items():
        ours, textbook = (
            f"{row[by]['mean']:.2f} ± {row[by]['standard_error']:.2f}" for by in ("capsa", "textbook")
        )
        ratio = f"{row['ratio']:.3f} ± {row['ratio_standard_error']:.3f}"
        assert f"| {algorithm} | {ours} | {textbook} | {ratio} |" in page.read_text()


@pytest.mark.usefixtures("folder")
def test_the_documented_author_command_runs(folder: Path) -> None:
    """The README's `capsa author` line writes both files."""
    [line] = [
        line for block in blocks(README, "bash") for line in block.splitlines() if "capsa author" in line
    ]
    command = [sys.executable, "-m", "capsa", *line.split()[1:]]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert (folder / "router.wasm").read_bytes().startswith(b"\0asm")
    assert (folder / "router.wat").read_text().startswith(";; The decision capsule router.")


def test_the_errors_that_the_spec_page_shows(folder: Path) -> None:
    """The `$ capsa author broken.yaml` block is what the command prints."""
    [shown] = [block for block in blocks(ROOT / "docs/spec.md", "text") if block.startswith("$ capsa author")]
    (folder / "broken.yaml").write_text("name: router\noptions: [cheap_fast]\ncontxts: [task_type]\n")
    command = [sys.executable, "-m", "capsa", "author", "broken.yaml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == shown.split("\n", 1)[1]
    assert not (folder / "broken.wasm").exists()


def test_the_make_verbs_of_the_readme_exist() -> None:
    """README and Makefile name the same verbs."""
    verbs = set(re.findall(r"^make (\w+)", README.read_text(), flags=re.MULTILINE))
    rules = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert verbs
    assert verbs <= rules


def test_every_error_class_stands_in_the_picture() -> None:
    """The tree at the top of `capsa.errors` draws every class."""
    picture = capsa.errors.__doc__
    assert picture is not None
    classes = [name for name, entry in vars(capsa.errors).items() if isinstance(entry, type)]
    assert [name for name in classes if name not in picture] == []


def test_every_link_of_the_documents_leads_somewhere() -> None:
    """Relative links name files that exist."""
    for page in [README, ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
