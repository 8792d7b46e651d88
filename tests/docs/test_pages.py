"""Every command and snippet of the pages about the server does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.walk import walk

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    "page",
    ["index", "first-policy", "rule-to-live", "when-capsa-is-down", "operating", "http", "moving", "tools"],
)
def test_the_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    """From top to bottom, in one folder, with the server that it starts."""
    walk(DOCS / f"{page}.md", tmp_path)
