"""The disk refuses while requests are served: it is said, nothing acknowledged is lost, and a restart mends it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.hostile.hurried import Hurried
from tests.server.hostile.test_ends import check_all_there
from tests.server.serving import INPUT, OUTCOME, ROUTER, Answer, Served

LARGEST_FILE = 3_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here: it takes root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(served: Served) -> tuple[list[str], Answer]:
    """Feedback until the disk refuses: the ids that were acknowledged, and the refusal."""
    acknowledged: list[str] = []
    for number in range(20_000):
        # Descriptions of jobs take the most room.
        job = {"id": f"job-{number}", "metadata": {"note": "x" * 15_000}}
        made = served.post("/tenants/default/jobs", job)
        if made.status != 201:
            return acknowledged, made
        decided = served.post(f"{ROUTER}/decide", {"input": INPUT})
        if decided.status != 200:
            return acknowledged, decided
        id_ = decided.value["decisionId"]
        taken = served.post(f"{ROUTER}/feedback", {"decisionId": id_, "outcome": OUTCOME})
        if taken.status != 200:
            return acknowledged, taken
        acknowledged.append(id_)
    raise AssertionError("the disk does not fill")


def check_refusing(served: Served, refusal: Answer) -> None:
    """It says what is the matter to everybody, stays alive, and can still be read."""
    bodies = {
        "decide": {"input": INPUT},
        "feedback": {"strategyId": 0, "option": 0, "reward": 0.1, "contextKey": "x"},
    }
    told = [
        refusal,
        served.get("/ready"),
        *(served.post(f"{ROUTER}/{action}", body) for action, body in bodies.items()),
    ]
    told.append(served.call("PUT", f"{ROUTER}/learning", {"rails": {"freeze": True}}))
    told.append(served.post("/tenants/default/jobs", {"id": "more"}))
    for answer in told:
        assert (answer.status, answer.value["type"]) == (503, "/problems/store-unwritable"), answer.body
        assert int(answer.headers["Retry-After"]) >= 1
    assert served.get("/health").status == 200
    assert served.get(f"{ROUTER}/report").status == 200
    assert served.get("/metrics").status == 200


def test_a_file_that_cannot_grow(tmp_path: Path) -> None:
    with Hurried(tmp_path / "store", FILE_BYTES=LARGEST_FILE) as served:
        served.install()
        acknowledged, refusal = fill(served)
        check_refusing(served, refusal)
        assert served.stop() != 0
        assert "Traceback" not in served.said
    with Served(tmp_path / "store") as again:
        check_all_there(again, acknowledged)
        assert again.get("/ready").status == 200
        assert again.post(f"{ROUTER}/decide", {"input": INPUT}).status == 200
        assert again.stop() == 0


def test_where_the_store_lies_is_not_told(tmp_path: Path) -> None:
    """Least of all to who has no key."""
    with Hurried(tmp_path / "store", FILE_BYTES=LARGEST_FILE) as served:
        served.install()
        _, refusal = fill(served)
        for answer in (refusal, served.get("/ready", key=None)):
            assert answer.status == 503
            assert str(served.store) not in answer.body.decode()
            assert "SQLITE" not in answer.body.decode()


def test_a_full_disk(small_disk: Path) -> None:
    """It is mended while the server runs: the server says so until it is started again."""
    with Served(small_disk / "store") as served:
        served.install()
        acknowledged, refusal = fill(served)
        check_refusing(served, refusal)
        subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
        check_refusing(served, refusal)
        served.kill()
        served.start()
        check_all_there(served, acknowledged)
        assert served.post(f"{ROUTER}/decide", {"input": INPUT}).status == 200
        assert served.stop() == 0
