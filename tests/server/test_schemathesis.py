"""schemathesis against the real server: all default checks and phases, every operation, at least 200 examples each.

It is run as its users run it, by its command, with `fuzz.toml` and the hooks of `fuzzing.py`; its report is then held to
what was promised, so that it cannot pass by doing nothing. ``CAPSA_TEST_PROFILE=thorough`` takes another seed every time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.server.fuzzing import ALLOWED, URL
from tests.server.hostile.attack import ECHO
from tests.server.serving import KEY, Served
from tests.server.tools import DETERMINISTIC, compensable

from capsa.server._routes import ROUTES

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
#: What is fuzzed together: about as long each, so that every processor has some.
GROUPS: Final = (
    ("decisions", "capsules"),
    ("tools",),
    ("reading",),
    ("server", "tenants and jobs", "learning"),
)
#: Runs beside each other, each with a server of its own; together they are all phases on all operations.
RUNS: Final = {
    "but-fuzzing": ("--phases", "examples,coverage,stateful"),
    **{
        f"fuzzing-{tags[0]}": (
            "--phases",
            "fuzzing",
            *(word for tag in tags for word in ("--include-tag", tag)),
        )
        for tags in GROUPS
    },
}


class Run:
    """One run of the command.

    Args:
        folder: For its reports.
        words: Its further arguments.
    """

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._served = Served(folder / "store")
        self._served.install()
        for place in (ECHO, ALLOWED):
            self._served.install(compensable(place.rpartition("/")[2]), place)
        assert self._served.call("PUT", f"{ECHO}/policy", DETERMINISTIC).status == 200
        environment = os.environ | {
            URL: self._served.url,
            "CAPSA_FUZZ_KEY": KEY,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        seed = () if os.environ.get("CAPSA_TEST_PROFILE") == "thorough" else ("--seed", "1")
        # From a file: read from the server, the operation that it was read with would be left out.
        document = folder / "openapi.json"
        document.write_bytes(self._served.get("/openapi.json").body)
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "--no-color"),
            *("--config-file", str(HERE / "fuzz.toml"), "run", str(document), "--url", self._served.url),
            *("--report-ndjson-path", str(folder / "events"), "--report-json-path", str(folder / "summary")),
            *(*seed, *words),
        ]
        with (folder / "said").open("wb") as said:
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=said, stderr=subprocess.STDOUT
            )

    def wait(self) -> None:
        """Waits for its end, and ends its server in order."""
        self.code = self._process.wait()
        self.said = (self._folder / "said").read_text()
        assert self._served.stop() == 0
        self.log = self._served.said
        self.summary: dict[str, Any] = json.loads((self._folder / "summary").read_text())

    def end(self) -> None:
        """Ends what still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._served.process.poll() is None:
            self._served.kill()

    def scenarios(self) -> Iterator[dict[str, Any]]:
        """What it did, from its report."""
        with (self._folder / "events").open() as lines:
            for line in lines:
                if line.startswith('{"ScenarioFinished"'):
                    yield json.loads(line)["ScenarioFinished"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    folder = tmp_path_factory.mktemp("schemathesis")
    begun: dict[str, Run] = {}
    try:
        for name, words in RUNS.items():
            begun[name] = Run(folder / name, *words)
        for run in begun.values():
            run.wait()
        yield begun
    finally:
        for run in begun.values():
            run.end()


# The first of them waits for the runs: two to three minutes where nothing else runs.
pytestmark = pytest.mark.timeout(1800)


@pytest.mark.parametrize("name", RUNS)
def test_nothing_was_found(runs: dict[str, Run], name: str) -> None:
    run = runs[name]
    assert run.code == 0, run.said
    assert (run.summary["failures"], run.summary["errors"], run.summary["complete"]) == ([], [], True)
    assert "Traceback" not in run.log, run.log


def test_every_phase_ran_on_every_operation(runs: dict[str, Run]) -> None:
    tested: Counter[str] = Counter()
    for run in runs.values():
        operations = run.summary["operations"]
        assert operations["tested"] == operations["selected"]
        assert operations["skipped"] == operations["errored"] == 0
        for phase, told in run.summary["phases"].items():
            if told["status"] != "skip":
                assert told["status"] == "success"
                tested[phase] += operations["tested"]
    assert tested == dict.fromkeys(("examples", "coverage", "fuzzing", "stateful"), len(ROUTES))


def test_enough_examples_reached_every_operation(runs: dict[str, Run]) -> None:
    made: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    unchecked: dict[str, set[str]] = {}
    for scenario in (each for run in runs.values() for each in run.scenarios()):
        if scenario["phase"] == "stateful":
            continue
        name, recorder = scenario["recorder"]["label"], scenario["recorder"]
        ran = {check["name"] for checks in recorder.get("checks", {}).values() for check in checks}
        unchecked[name] = unchecked.get(name, CHECKS) - ran
        for interaction in recorder.get("interactions", {}).values():
            answered = interaction.get("response") or {}
            made[name] += scenario["phase"] == "fuzzing"
            accepted[name] += 200 <= answered.get("status_code", 0) < 300
    operations = {f"{route.method} {route.path}" for route in ROUTES}
    for name in (f"{route.method} {route.path}" for route in ROUTES if route.public):
        # There is no key that could be ignored.
        unchecked[name].discard("ignored_auth")
    assert {name: made[name] for name in operations if made[name] < EXAMPLES} == {}
    assert {name: missing for name, missing in unchecked.items() if missing} == {}
    # Requests for what is not there would find nothing either.
    assert {name: accepted[name] for name in operations if accepted[name] < EXAMPLES // 5} == {}
