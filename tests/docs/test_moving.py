"""The page for who comes from Syntra says of every route and field what the server does with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.server.serving import INPUT, OUTCOME, ROUTER, Served

from capsa.server._routes import ROUTES

PAGE: Final = (Path(__file__).parents[2] / "docs/moving.md").read_text()
#: What stands in a table where there is nothing.
GONE: Final = "\N{EN DASH}"
CAPSULE: Final = "/tenants/{tenant}/jobs/{job}/capsules/{capsule}"
THERE: Final = {(route.method, route.path) for route in ROUTES}


def rows(head: str, after: str = "") -> list[list[str]]:
    """The cells of a table's rows, by how its head begins and what stands somewhere before it."""
    table = PAGE[PAGE.index(f"\n| {head} |", PAGE.index(after)) :].strip().split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


def operations(cell: str) -> list[tuple[str, str]]:
    """The methods and paths that a cell names."""
    found = re.findall(r"`(GET|PUT|POST|DELETE|PATCH) ([^`]+)`", cell)
    return [(method, re.sub(r"^P\b", CAPSULE, path)) for method, path in found]


@pytest.mark.parametrize("row", rows("Syntra"), ids=lambda row: row[0].replace("`", ""))
def test_a_route_is_what_the_page_says(row: list[str]) -> None:
    """The same, another one, or none."""
    theirs, ours = operations(row[0]), row[1]
    assert theirs
    if ours == "same":
        assert set(theirs) <= THERE
    else:
        assert not THERE & set(theirs)
        assert ours == GONE or set(operations(ours)) <= THERE
        assert ours == GONE or operations(ours)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One answer of each kind."""
    with Served(tmp_path_factory.mktemp("moving") / "store") as served:
        served.install()
        decided = served.post(f"{ROUTER}/decide", {"input": INPUT}).value
        told = {"decisionId": decided["decisionId"], "outcome": OUTCOME}
        yield {
            "answered by Syntra": decided,
            "feedback": served.post(f"{ROUTER}/feedback", told).value,
            "in Syntra's report": served.get(f"{ROUTER}/report").value,
            "in Syntra's contexts": served.get(f"{ROUTER}/contexts").value,
        }


def reaches(value: Any, path: str) -> bool:
    """Whether an answer has a field, by a path such as ``decisions[].weights``."""
    for step in path.split("."):
        name = step.removesuffix("[]")
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
        if step.endswith("[]"):
            value = value[0]
    return True


def fields(head: str, after: str = "") -> list[tuple[str, str]]:
    """Each field that a table names on the left, and what stands beside it."""
    return [(name, row[1]) for row in rows(head, after) for name in re.findall(r"`([\w.\[\]]+)`", row[0])]


@pytest.mark.parametrize(
    ("head", "after", "answer"),
    [
        ("answered by Syntra", "## Decide", "answered by Syntra"),
        ("answered by Syntra", "## Feedback", "feedback"),
        ("in Syntra's report", "", "in Syntra's report"),
        ("in Syntra's contexts", "", "in Syntra's contexts"),
    ],
)
def test_a_field_of_an_answer_is_what_the_page_says(
    head: str, after: str, answer: str, answers: dict[str, Any]
) -> None:
    """The same, under another name, or gone."""
    told = fields(head, after)
    assert len(told) > 3
    for name, ours in told:
        if ours.startswith("same"):
            assert reaches(answers[answer], name), f"{name} is not there"
        else:
            assert not reaches(answers[answer], name), f"{name} is there"
            if (other := re.match(r"`([\w.\[\]]+)`", ours)) is not None:
                assert reaches(answers[answer], other[1]), f"{other[1]} is not there"


def test_a_field_that_is_sent_is_what_the_page_says(tmp_path: Path) -> None:
    """What is the same is taken; what is gone is refused by name."""
    values: dict[str, Any] = {"contextKey": "a", "input": INPUT, "outcome": OUTCOME}
    with Served(tmp_path / "store") as served:
        served.install()
        for name, ours in fields("sent to Syntra", "## Decide"):
            answered = served.post(f"{ROUTER}/decide", {name: values.get(name, 1)})
            assert answered.status == (400 if ours == GONE else 200), name
        for name, ours in fields("sent to Syntra", "## Feedback"):
            answered = served.post(f"{ROUTER}/feedback", {name: values.get(name, 1), "reward": 0.5})
            refused = answered.status == 400 and answered.value["type"] == "/problems/unknown-field"
            assert refused == (ours == GONE), (name, answered.value)


def test_the_settings_are_what_the_page_says(tmp_path: Path) -> None:
    """Old spellings are taken, and what is gone is refused by name."""
    values: dict[str, Any] = {
        "algorithm": "simpleWeighted",
        "safety.freezeLearning": True,
        "safety.maxWeightDeltaPerFeedback": 0.1,
        "safety.minExploration": 0.05,
        "decay.halfLifeFeedbacks": 2000,
        "decay.halfLifeSeconds": 86400,
    }
    gone = 0
    with Served(tmp_path / "store") as served:
        served.install()
        for name, ours in fields("Syntra's document"):
            outer, _, inner = name.partition(".")
            sent = values.get(name, 1)
            if ours == GONE:
                gone += 1
                refused = served.call("PATCH", f"{ROUTER}/learning", {outer: sent})
                assert (refused.status, refused.value["type"]) == (400, "/problems/unknown-field"), name
            elif name in values:
                served.call("PATCH", f"{ROUTER}/learning", {"decay": None})
                taken = served.call("PATCH", f"{ROUTER}/learning", {outer: {inner: sent} if inner else sent})
                assert taken.status == 200, (name, taken.value)
    assert gone > 3
