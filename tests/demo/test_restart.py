"""The part of the demo that needs a disk, and a process that dies without being asked to."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import capsa
from capsa.demo import _restart, _table


@pytest.fixture
def service(tmp_path: Path) -> Iterator[_restart._Service]:
    """A process over a new store."""
    service = _restart._Service(tmp_path / "store")
    yield service
    service.kill()


def test_a_store_that_cannot_be_opened_is_told_in_one_sentence(tmp_path: Path) -> None:
    """What the process itself said, and what to do; no traceback of it."""
    (tmp_path / "note").write_text("mine")
    with pytest.raises(capsa.HostFault) as failed:
        _restart.restart(_table.prompts(), tmp_path)
    assert f"{tmp_path} holds other things and no store" in failed.value.detail
    assert "exit code 1" in failed.value.detail
    assert "\n" not in failed.value.detail
    assert "set TMPDIR to a folder on a local disk" in (failed.value.remedy or "")


def test_a_process_that_is_killed_by_others_is_told(service: _restart._Service) -> None:
    assert service.ask({"decide": {"customer_tier": "free", "task": "a"}})["id"].startswith("dec_")
    os.kill(service._process.pid, signal.SIGKILL)
    with pytest.raises(capsa.HostFault, match=r"ended by signal 9 .*: it gave no reason"):
        service.ask({"decide": {"customer_tier": "free", "task": "a"}})


def test_the_last_line_of_a_traceback_is_the_reason(service: _restart._Service) -> None:
    with pytest.raises(capsa.HostFault, match=r"exit code 1: AssertionError: \{.unheard.: 1\}"):
        service.ask({"unheard": 1})


def test_a_full_disk_ends_the_demo_at_once_and_in_one_line(tmp_path: Path) -> None:
    """The system lets no process of this command write a file of more than 40 kB: the store is refused by the disk."""
    command = (
        f'ulimit -f 40; exec "{sys.executable}" -m capsa demo --seeds 1 --json --out "{tmp_path / "out"}"'
    )
    done = subprocess.run(
        ["bash", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1
    [said] = [line for line in done.stderr.splitlines() if line.startswith("capsa: ")]
    assert "set TMPDIR" in said
    assert "Traceback" not in done.stderr
    assert "[1/" not in done.stderr
    problem = json.loads(done.stdout)
    assert (problem["ok"], problem["errors"][0]["remedy"] in said) == (False, True)
