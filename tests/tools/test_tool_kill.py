"""Whatever was answered is there after ``kill -9``, and what is there is what the journal says."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import cbor2
from tests.tools.making import KEEPING, cache, counts, journal, opened, policy

PROGRAM = Path(__file__).with_name("counting.py")
THREADS = 8
KILLS = 3


def kill_while_counting(folder: Path, after: int) -> dict[int, str]:
    """Kills the program once it has said so many answers; gives all that it said, number and id of each call."""
    command = [sys.executable, str(PROGRAM), str(folder), str(cache()), str(THREADS)]
    # It is to run what this runs.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline() for _ in range(after + 1)]
        program.send_signal(signal.SIGKILL)
        lines += program.stdout.readlines()
        assert program.wait() == -signal.SIGKILL
    assert lines[0] == b"open\n"
    said: dict[int, str] = {}
    for line in lines[1:]:
        # A line that the kill has cut does not count.
        if line.endswith(b"\n"):
            number, id_ = line.split()
            assert int(number) not in said, "no two calls got the same number"
            said[int(number)] = id_.decode()
    return said


def test_kill_9_loses_no_answer(tmp_path: Path) -> None:
    """Of eight threads, several times on one store, with snapshots in between."""
    folder, randoms = tmp_path / "store", random.Random(7)
    with opened(folder) as store:
        store.install(counts("tool")).set_policy(policy(limits={"concurrency": THREADS}, **KEEPING))
    answered: dict[int, str] = {}
    sealed = 0
    for _ in range(KILLS):
        said = kill_while_counting(folder, randoms.randint(40, 100))
        assert not said.keys() & answered.keys()
        answered |= said
        with opened(folder) as store:
            number = int.from_bytes(
                store._fold.tools["default", "default", "tool"].kv.entries()["n"], "little"
            )
            assert number >= max(answered)
            changes = [cbor2.loads(event.payload)["value"] for event in journal(store, "kv_changed")]
            assert [int.from_bytes(value, "little") for value in changes] == list(range(1, number + 1))
            recorded = {cbor2.loads(event.payload)["id"].hex() for event in journal(store, "invoked")}
            assert {id_.removeprefix("inv_") for id_ in answered.values()} <= recorded
            assert len(recorded) <= number
            tool = store.capsule("tool")
            for id_ in list(answered.values())[:: len(answered) // 5]:
                assert tool.invocation(id_).id == id_
            assert store.rebuild().equal
            assert store.verify() == []
            sealed += len(journal(store, "snapshot_sealed"))
            said_now = tool.invoke()
            assert said_now.output == number + 1
            answered[number + 1] = said_now.id
    assert sealed > 0, "kills met stores with snapshots"
