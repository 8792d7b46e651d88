"""The newcomer: from a wheel to the first report in eight commands, in an empty folder."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("newcomer.sh")
#: Another wheel than the one in dist/.
WHEEL = os.environ.get("CAPSA_WHEEL")
#: Where the times are written.
TIMES = ROOT / "out" / "newcomer.json"
COMMANDS_ALLOWED = 8
#: What pip says where nothing can be downloaded.
OFFLINE = re.compile(
    r"No matching distribution|Failed to establish|Temporary failure|Max retries|timed out", re.IGNORECASE
)


def commands() -> list[str]:
    """What a person types: every line of the script but comments and what stands for the keyboard."""
    lines = (line.strip() for line in SCRIPT.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith(("#", "set -", "trap "))]


@pytest.fixture(scope="module")
def wheel() -> Path:
    """The wheel that is served."""
    found = [Path(WHEEL)] if WHEEL else sorted((ROOT / "dist").glob("capsa-*.whl"))
    if not found:
        pytest.skip("there is no wheel in dist/: `make dist` builds it")
    with zipfile.ZipFile(found[-1]) as archive:
        if "capsa/server/__init__.py" not in archive.namelist():
            pytest.skip(f"{found[-1].name} was built before there was a server: `make dist` builds it anew")
    return found[-1].resolve()


def test_eight_commands_are_enough() -> None:
    typed = commands()
    assert 0 < len(typed) <= COMMANDS_ALLOWED
    for command in typed:
        # One command a line: only a value may be made by another one.
        assert not re.search(r"&&|\|\||;|\\$", command), command


def test_the_newcomer_gets_a_report(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script as it stands; where pip can download nothing, with the libraries of these tests."""
    done, seconds = _played(tmp_path / "first", wheel, {})
    libraries = "those that pip downloads"
    if done.returncode and OFFLINE.search(done.stderr):
        done, seconds = _played(tmp_path / "second", wheel, {"PYTHONPATH": str(_libraries(tmp_path))})
        libraries = "those of these tests"
    assert done.returncode == 0, done.stdout + done.stderr
    serving, answers = done.stdout.split("\n", 1)
    assert serving.startswith("serving store at http://127.0.0.1:")
    # The server's last word: it was stopped in order.
    assert answers.endswith("}stopped\n")
    installed, decided, learned, report = _documents(answers.removesuffix("stopped\n"))
    assert (installed["capsule"], installed["capsuleVersion"]) == ("router", 1)
    assert decided["optionName"] in ("cheap_fast", "balanced", "expensive_accurate")
    assert learned["status"] == "applied"
    assert learned["reward"] == pytest.approx(0.6 * 0.9 - 0.2 * 0.3 - 0.2 * 0.1)
    assert learned["decisionId"] == decided["decisionId"]
    assert (report["decisions"], report["feedback"]["applied"]) == (1, 1)
    TIMES.parent.mkdir(exist_ok=True)
    told = {"commands": len(commands()), "seconds": round(seconds, 1), "libraries": libraries}
    TIMES.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    with capsys.disabled():
        print(f"\nnewcomer: {len(commands())} commands in {seconds:.1f} s, with libraries: {libraries}")


def _played(
    folder: Path, wheel: Path, more: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], float]:
    """The script's end, and its seconds."""
    folder.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "CAPSA_", "VIRTUAL_ENV"))
    }
    python = Path(sys.executable).resolve().parent
    environment = {
        **kept,
        # The newcomer's `python3` is the one that these tests run with; `no_proxy` as on a machine of one's own.
        "PATH": f"{folder}/bin:{kept['PATH']}",
        "WHEEL": str(wheel),
        "no_proxy": "localhost",
        **more,
    }
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(python / f"python3.{sys.version_info.minor}")
    started = time.monotonic()
    # pip takes its time: a port that is only looked up would be somebody else's by then.
    with _kept_port() as port:
        done = subprocess.run(
            ["bash", str(SCRIPT)],
            check=False,
            cwd=folder,
            env={**environment, "PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=110,
        )
    return done, time.monotonic() - started


@contextmanager
def _kept_port() -> Iterator[int]:
    """A port that the system gives to nobody else meanwhile: it is bound, but with leave to share, and not listened to."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


def _libraries(folder: Path) -> Path:
    """What is installed here, all but Capsa."""
    there = folder / "libraries"
    there.mkdir()
    import msgspec

    for each in Path(msgspec.__file__).parents[1].iterdir():
        if not each.name.startswith(("capsa", "pip", "__pycache__")):
            (there / each.name).symlink_to(each)
    return there


def _documents(text: str) -> list[Any]:
    """JSON documents that follow each other without a separator, as curl prints them."""
    reader = json.JSONDecoder()
    found: list[Any] = []
    at = 0
    while at < len(text):
        document, at = reader.raw_decode(text, at)
        found.append(document)
    return found
