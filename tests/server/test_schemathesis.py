"""schemathesis against the real server: all default checks and phases, every operation, at least 200 examples each.

It runs as its users run it, by its command, with `fuzz.toml` and the hooks of `fuzzing.py`; its report is then held to
what was promised, so that it cannot pass by doing nothing. ``CAPSA_TEST_PROFILE=thorough`` takes another seed every time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Final

import pytest

from capsa.server._routes import ROUTES
from tests.server.fuzzing import URL
from tests.server.serving import KEY, Served

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
EXAMPLES: Final = 200
#: What schemathesis 4.32 checks where nothing is said.
CHECKS: Final = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
    "object_level_authorization",
}
#: Types of problems as an input: each is one example, and there are no more.
FEW: Final = {"GET /problems/{type}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run of schemathesis, made once, has left its reports."""
    folder = tmp_path_factory.mktemp("schemathesis")
    with Served(folder / "store") as served:
        served.install()
        environment = os.environ | {
            URL: served.url,
            "CAPSA_FUZZ_KEY": KEY,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        words = ["--no-color", "--config-file", str(HERE / "fuzz.toml"), "run", f"{served.url}/openapi.json"]
        words += [
            "--report-ndjson-path",
            str(folder / "events"),
            "--report-json-path",
            str(folder / "summary"),
        ]
        if os.environ.get("CAPSA_TEST_PROFILE") != "thorough":
            words += ["--seed", "1"]
        with (folder / "said").open("wb") as said:
            ended = subprocess.run(
                [Path(sys.executable).with_name("schemathesis"), *words],
                env=environment,
                cwd=folder,
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
            )
        (folder / "code").write_text(str(ended.returncode))
        assert served.stop() == 0
        (folder / "log").write_text(served.said)
    return folder


# The first of them waits for the run: two to four minutes.
pytestmark = pytest.mark.timeout(900)


def test_nothing_was_found(folder: Path) -> None:
    assert (folder / "code").read_text() == "0", (folder / "said").read_text()
    summary = json.loads((folder / "summary").read_text())
    assert (summary["failures"], summary["errors"], summary["complete"]) == ([], [], True)


def test_every_phase_ran_on_every_operation(folder: Path) -> None:
    summary = json.loads((folder / "summary").read_text())
    assert {name: phase["status"] for name, phase in summary["phases"].items()} == dict.fromkeys(
        ("examples", "coverage", "fuzzing", "stateful"), "success"
    )
    operations = summary["operations"]
    assert operations["selected"] == operations["tested"] == operations["total"] == len(ROUTES)
    assert operations["skipped"] == operations["errored"] == 0


def test_enough_examples_reached_every_operation(folder: Path) -> None:
    made: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    checked: dict[str, set[str]] = defaultdict(set)
    for scenario in _scenarios(folder):
        name, recorder = scenario["recorder"]["label"], scenario["recorder"]
        if scenario["phase"] == "stateful":
            continue
        for case, interaction in recorder.get("interactions", {}).items():
            if scenario["phase"] == "fuzzing":
                made[name] += 1
            answered = interaction.get("response") or {}
            accepted[name] += 200 <= answered.get("status_code", 0) < 300
            checked[name].update(each["name"] for each in recorder.get("checks", {}).get(case, ()))
    operations = {f"{route.method} {route.path}" for route in ROUTES}
    assert set(made) == operations
    assert {name: count for name, count in made.items() if count < EXAMPLES and name not in FEW} == {}
    assert all(made[name] + 0 > 0 for name in FEW)
    assert {name: CHECKS - checks for name, checks in checked.items() if not checks >= CHECKS} == {}
    # A run against what is not there would find nothing either.
    assert {name: accepted[name] for name in operations if accepted[name] < EXAMPLES // 5} == {}


def test_nothing_failed_inside(folder: Path) -> None:
    log = (folder / "log").read_text()
    assert "Traceback" not in log, log


def _scenarios(folder: Path) -> list[dict[str, Any]]:
    with (folder / "events").open() as lines:
        events = [json.loads(line) for line in lines]
    return [event["ScenarioFinished"] for event in events if "ScenarioFinished" in event]
