"""The walk through a page notices what is wrong with the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.docs.walk import blocks, compare_json, compare_text, walk

TOLD = {
    "status": 400,
    "reason": "learned",
    "propensity": 0.5,
    "errors": [{"value": "a"}],
    "at": "2026-01-01T00:00:00Z",
}


@pytest.mark.parametrize(
    "shown",
    [
        TOLD,
        {**TOLD, "propensity": 0.9, "reason": "explored", "at": "2026-02-02T00:00:00Z"},
        {**TOLD, "errors": [{"value": "…"}]},
        {**TOLD, "errors": ["…"]},
        {"status": 400, "…": "…"},
    ],
)
def test_what_may_differ_does(shown: dict[str, Any]) -> None:
    """Draws, times, and what is left out with an ellipsis."""
    compare_json(TOLD, shown, "page")


@pytest.mark.parametrize(
    "shown",
    [
        {**TOLD, "status": 404},
        {**TOLD, "further": 1},
        {name: value for name, value in TOLD.items() if name != "at"},
        {**TOLD, "propensity": None},
        {**TOLD, "propensity": 1.0},
        {**TOLD, "errors": []},
        {**TOLD, "errors": [{"value": "b"}]},
        {**TOLD, "errors": {"value": "a"}},
        {"statis": 400, "…": "…"},
    ],
)
def test_what_may_not_differ_is_noticed(shown: dict[str, Any]) -> None:
    """Another number, field, kind or length."""
    with pytest.raises(AssertionError):
        compare_json(TOLD, shown, "page")


def test_weights_that_a_page_calls_clear_are_clear() -> None:
    """The same option has nearly all."""
    compare_json({"weights": [0.02, 0.97, 0.01]}, {"weights": [0.01, 0.98, 0.01]}, "page")
    with pytest.raises(AssertionError):
        compare_json({"weights": [0.97, 0.02, 0.01]}, {"weights": [0.01, 0.98, 0.01]}, "page")


def test_lines_are_compared() -> None:
    """But for ellipses."""
    compare_text("5 events, 98.6 kB\na\nb\nequal\n", "5 events, … kB\n…\nequal\n", "page")
    for shown in ("5 events, … MB\n…\nequal\n", "5 events, … kB\n…\n!\n", "5 events, … kB\n"):
        with pytest.raises(AssertionError):
            compare_text("5 events, 98.6 kB\na\nb\nequal\n", shown, "page")


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("```bash\nfalse\n```\n", "exit code 1"),
        ("```bash\necho oh >&2\n```\n", "oh"),
        ("```bash\necho one\n```\n\n```text\ntwo\n```\n", "one"),
        ("```python\nprint(1 + 1)  # 3\n```\n", "2"),
        ("```text\n$ echo one; false\ntwo\n```\n", "one"),
        ('```bash\necho \'{"a": 1}\'\n```\n\n```json\n{"b": 1}\n```\n', "its fields"),
        ("```text\nthe output of nothing\n```\n", "the output of what"),
        ("```ruby\nputs 1\n```\n", "nobody reads"),
        ('```bash title="another terminal"\nexit 3\n```\n', "exit code"),
        ("```bash\necho one\n ```\n", "read by nobody"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(page: str, said: str, tmp_path: Path) -> None:
    """With the place, and what came out."""
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(AssertionError, match=r"page\.md") as caught:
        walk(tmp_path / "page.md", tmp_path)
    assert said in str(caught.value)


def test_a_page_that_is_right_passes(tmp_path: Path) -> None:
    """Variables last from block to block, and files are there when they are shown."""
    (tmp_path / "page.md").write_text(
        'A=3\n\n```bash\nA=1\n```\n\n```yaml title="a/b.yaml"\nname: x\n```\n\n```bash\ncat a/b.yaml; echo $A\n```\n\n'
        "```text\nname: x\n1\n```\n\n```text\n$ cat none\ncat: …\n$ echo $A\n1\n```\n\n```python\nprint(1)  # 1\n```\n"
    )
    assert len(blocks(tmp_path / "page.md")) == 6
    walk(tmp_path / "page.md", tmp_path)
