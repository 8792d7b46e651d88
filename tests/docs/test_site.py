"""The site is built without a warning, fetches nothing, and its reference says all that the code has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import _SubParsersAction
from pathlib import Path
from typing import Final

import pytest

import capsa
import capsa.client
from capsa import errors
from capsa.cli import _author, _main
from capsa.cli._usage import Parser
from capsa.server._problems import KINDS
from capsa.server._routes import ROUTES

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it: a warning is an error."""
    folder = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        # Its theme advertises its successor on standard error.
        env=os.environ | {"PYTHONPATH": str(Path(capsa.__file__).parents[1]), "NO_MKDOCS_2_WARNING": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def text_of(page: Path) -> str:
    """What a person reads on a page."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return re.sub(r"<[^>]+>", "", body)


def test_every_page_stands_in_the_navigation(site: Path) -> None:
    """Once; and each was built, without a marker left."""
    configured = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- [^\n:]+: (\S+\.md)$", configured, flags=re.MULTILINE)
    there = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(there)
    for name in listed:
        assert "generated:" not in (site / name).with_suffix(".html").read_text(), name


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    """No script, style, font, picture or frame of another host."""
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)="?(\w+:)?//', page.read_text()
        )
        assert fetched == [], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(\w+:)?//", style.read_text()), style


def test_the_search_finds_words_of_every_page(site: Path) -> None:
    """Its index has an entry of each page."""
    index = (site / "search/search_index.json").read_text()
    for name in ("operating", "first-policy", "reference/http", "reference/problems", "reference/cli"):
        assert f'"location":"{name}.html#' in index


def test_the_reference_has_every_command(site: Path) -> None:
    """With the help that the parser prints, and no other."""
    text = text_of(site / "reference/cli.html")
    parser = Parser(prog="capsa")
    commands: _SubParsersAction[Parser] = parser.add_subparsers()
    for concept in vars(_main).values():
        if getattr(concept, "__package__", "") == _author.__package__ and hasattr(concept, "add_commands"):
            concept.add_commands(commands)
    assert len(commands.choices) > 20
    for name, command in commands.choices.items():
        assert f"usage: capsa {name} " in text
        for action in command._actions:
            assert all(option in text for option in action.option_strings), name


def test_the_reference_has_every_operation_and_problem(site: Path) -> None:
    """Each with a place of its own that can be linked to."""
    operations = (site / "reference/http.html").read_text()
    for route in ROUTES:
        assert f'id="{route.name}"' in operations
        assert route.summary in text_of(site / "reference/http.html").replace("&#39;", "'")
    problems = (site / "reference/problems.html").read_text()
    for name, kind in KINDS.items():
        assert f'id="{name}"' in problems
        assert f"{kind.status} · {kind.title}." in text_of(site / "reference/problems.html").replace(
            "&#39;", "'"
        )


def test_the_reference_has_every_public_name(site: Path) -> None:
    """What `capsa` exports, each error, and the clients."""
    page = (site / "reference/python.html").read_text()
    plain = {"errors", "__version__"}
    for name in set(capsa.__all__) - plain:
        assert re.search(rf'id="capsa[\w.]*\.{name}"', page), name
    for name in errors.__all__:
        assert re.search(rf'id="capsa\.errors\.{name}"', page), name
    for name in ("Client", "AsyncClient", "Unreachable"):
        assert hasattr(capsa.client, name)
        assert re.search(rf'id="capsa\.client[\w.]*\.{name}"', page), name
