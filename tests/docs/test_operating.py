"""What the operating page holds besides commands: the unit, the container and the alerts are about the server there is."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from tests.docs.walk import blocks
from tests.server.serving import Served

from capsa.cli._main import _read
from capsa.decisions import _report

PAGE = Path(__file__).parents[2] / "docs/operating.md"
INSTRUCTIONS = {"FROM", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT"}
FILES = {block.title: block.text for block in blocks(PAGE) if block.title}


def served_by(words: list[str]) -> Any:
    """What the real parser makes of a command line."""
    assert Path(words[0]).name == "capsa"
    return _read(words[1:])


def test_the_unit_starts_the_server_that_there_is() -> None:
    """Its command line is one, and it leaves the server more time than a drain takes."""
    from capsa.server import _limits

    unit = configparser.ConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign] # systemd's keys have capitals
    unit.read_string(FILES["capsa.service"])
    chosen = served_by(unit["Service"]["ExecStart"].split())
    assert chosen.admin_key_file == Path("/etc/capsa/admin-key")
    assert str(chosen.store).startswith(f"/var/lib/{unit['Service']['StateDirectory']}/")
    assert int(unit["Service"]["TimeoutStopSec"]) > 2 * _limits.DRAIN_S
    assert int(unit["Service"]["LimitNOFILE"]) > 2 * _limits.CONNECTIONS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing wrong with it but that no `capsa` is installed in /opt."""
    (tmp_path / "capsa.service").write_text(
        FILES["capsa.service"].replace("/opt/capsa/bin/capsa", "/bin/true").replace("User=capsa", "User=root")
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "capsa.service")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if "capsa.service" in line]
    assert (done.returncode, said) == (0, [])


def test_the_container_starts_the_server_that_there_is() -> None:
    """The entry point is a command line of ours, and compose mounts what the image names."""
    words = {}
    for line in FILES["Dockerfile"].splitlines():
        instruction, _, rest = line.partition(" ")
        assert instruction in INSTRUCTIONS
        words[instruction] = rest
    chosen = served_by(json.loads(words["ENTRYPOINT"]))
    assert (chosen.host, chosen.dev_mode) == ("0.0.0.0", False)  # noqa: S104 - of a container
    assert str(chosen.store).startswith(f"{words['VOLUME']}/")
    check = json.loads(words["HEALTHCHECK"].removeprefix("CMD "))
    compile(check[2], "HEALTHCHECK", "exec")
    [service] = yaml.safe_load(FILES["compose.yaml"])["services"].values()
    assert service["volumes"] == [f"capsa:{words['VOLUME']}"]
    assert service["ports"][0].endswith(words["EXPOSE"])
    assert int(service["stop_grace_period"].removesuffix("s")) > 40


def test_the_alerts_are_about_metrics_that_there_are(tmp_path: Path) -> None:
    """Every name, label, operation and status in their expressions is one that the server gives."""
    with Served(tmp_path / "store") as served:
        served.install()
        decided = served.post("/tenants/default/jobs/default/capsules/router/decide", {})
        assert decided.status == 200
        text = served.get("/metrics").body.decode()
    labels: dict[str, set[str]] = {}
    values: set[str] = set()
    for name, told in re.findall(r"^(\w+?)(?:\{(.*)\})? [\d.e+-]+$", text, flags=re.MULTILINE):
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', told))
        labels.setdefault(name, set()).update(pairs)
        values |= {f"{label}={value}" for label, value in pairs.items()}
    rules = yaml.safe_load(FILES["capsa-alerts.yaml"])["groups"][0]["rules"]
    assert len(rules) >= 6
    for rule in rules:
        used = re.findall(r"\b((?:capsa|process)_\w+)(?:\{([^}]*)\})?", rule["expr"])
        assert used or rule["expr"].startswith("up{"), rule
        for name, told in used:
            assert name in labels, f"{rule['alert']}: there is no {name}"
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', told):
                assert label in labels[name], f"{rule['alert']}: {name} has no label {label}"
                for each in value.split("|") if label != "status" or name == "capsa_feedback_total" else ():
                    assert f"{label}={each}" in values | {"operation=feedback"}, (
                        f"{rule['alert']}: {label}={each}"
                    )


def test_the_metrics_table_is_complete(tmp_path: Path) -> None:
    """Every metric of ours stands in it, with its labels."""
    with Served(tmp_path / "store") as served:
        names = re.findall(r"^# TYPE (capsa_\w+) ", served.get("/metrics").body.decode(), flags=re.MULTILINE)
    assert len(names) > 5
    assert [name for name in names if f"`{name}`" not in PAGE.read_text()] == []


def test_every_notice_is_explained() -> None:
    """The table of notices has those that reports give, and no other."""
    source = Path(_report.__file__).read_text()
    given = set(re.findall(r'kind="([a-z-]+)"', source))
    explained = set(re.findall(r"^\| `([a-z]+(?:-[a-z]+)+)` \|", PAGE.read_text(), flags=re.MULTILINE))
    assert given
    assert explained == given
