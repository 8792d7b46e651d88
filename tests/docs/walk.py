"""Does what a page of the documents says, from top to bottom, and compares what comes out with what it shows.

How a page is read:

* A block with a title is a file of that name. ``bash title="another terminal"`` is not: it runs in the background, and
  ends with a server, which is waited for.
* ``bash`` runs, in one shell for the whole page. ``python`` without a title runs as a program; where its ``print`` lines
  end in a comment, that is what they print.
* ``json`` and ``text`` behind one of these show its output; ``text`` that begins with ``$ `` holds commands and what each
  prints, whether they fail or not.
* ``…`` stands for anything, on a line of its own for any lines, as a key of an object for further ones.

Where a page says port 8787, its server is reached at a free one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import capsa

#: Seconds that a page may take.
TIMEOUT_S: Final = 90
BACKGROUND: Final = "another terminal"
SHOWN: Final = frozenset({"json", "text"})
_FENCE: Final = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_ANYTHING: Final = re.compile(r"…|\d{4}-\d\d-\d\dT[\d:.]+Z")
#: What differs from run to run, since it is drawn, measured or the time: its kind is compared.
_DIFFERING: Final = frozenset(
    {
        "after",
        "asOf",
        "at",
        "before",
        "choices",
        "chosen_option",
        "createdAt",
        "credited",
        "deadline",
        "decisionId",
        "delaySeconds",
        "leader",
        "mean",
        "medianDelaySeconds",
        "option",
        "optionName",
        "probabilities",
        "propensity",
        "reason",
        "requestId",
        "shadowAgreement",
        "time",
        "updatedAt",
        "weight",
        "weights",
    }
)


class Block(NamedTuple):
    """One fenced block of a page.

    Attributes:
        language: As the fence says.
        title: Empty where it has none.
        text: What is in it.
        line: Where its text begins.
    """

    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text()
    found = [
        Block(match[1], match[2] or "", match[3], text.count("\n", 0, match.start()) + 2)
        for match in _FENCE.finditer(text)
    ]
    fences = re.findall(r"^ *(?:```|~~~)", text, flags=re.MULTILINE)
    assert len(fences) == 2 * len(found), f"{page.name}: a fence that is read by nobody"
    return found


def walk(page: Path, folder: Path) -> None:
    """Does what a page says, in a folder of its own.

    Raises:
        AssertionError: A command fails, or something else comes out than the page shows.
    """
    said = folder / "said"
    said.mkdir()
    port = _free_port()
    script, expected = _script(page, folder, said, port)
    _terminal(folder, port)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAPSA_")}
    environment |= {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        # The package that is tested, and not another one that may be installed.
        "PYTHONPATH": str(Path(capsa.__file__).resolve().parents[1]),
        "CURL_HOME": str(folder / "bin"),
        "no_proxy": "localhost,127.0.0.1",
        "COLUMNS": "100",
    }
    (folder / "work").mkdir(exist_ok=True)
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder / "work",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, so that whatever the page has left running ends with it.
        start_new_session=True,
    )
    try:
        reached, _ = shell.communicate(timeout=TIMEOUT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()
    last = re.findall(r"^at (\d+)$", reached, flags=re.MULTILINE)[-1]
    told = "\n".join(file.read_text() for file in sorted(said.glob(f"{last}.*")))
    assert shell.returncode == 0, f"{page.name}:{last}: exit code {shell.returncode}\n{told}"
    for file, shown in expected:
        out = file.read_text().replace(f":{port}", ":8787")
        where = f"{page.name}:{shown.line}"
        if shown.language == "json":
            compare_json(_documents(out), _documents(shown.text), where)
        else:
            compare_text(out, shown.text, where)


def _script(page: Path, folder: Path, said: Path, port: int) -> tuple[str, list[tuple[Path, Block]]]:
    """The page as a script, and the files in which its steps leave what the page shows."""
    work = folder / "work"
    steps = ["set -euo pipefail"]
    expected: list[tuple[Path, Block]] = []
    output: Path | None = None
    for shown in blocks(page):
        block = shown._replace(text=shown.text.replace("localhost:8787", f"localhost:{port}"))
        out, err = said / f"{block.line}.out", said / f"{block.line}.err"
        steps.append(f"echo at {block.line}")
        if block.language == "bash" and block.title == BACKGROUND:
            steps += [
                f"( {block.text.rstrip()}\n) > '{out}' 2> '{err}' &",
                f"until grep -q ^serving '{out}'; do sleep 0.05; kill -0 $!; done; cp '{out}' '{out}.first'; disown",
            ]
            output = said / f"{out.name}.first"
        elif block.title:
            file = work / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            # Written when the walk comes there: a page may show a second version of a file.
            source = said / f"{block.line}.file"
            source.write_text(block.text)
            steps.append(f"cp '{source}' '{file}'")
        elif block.language == "bash":
            steps.append(f"{{ {block.text.rstrip()}\n}} > '{out}' 2> '{err}'\n[ ! -s '{err}' ]")
            output = out
        elif block.language == "python":
            program = said / f"{block.line}.py"
            program.write_text(block.text)
            steps.append(f"python '{program}' > '{out}' 2> '{err}'\n[ ! -s '{err}' ]")
            output = out
            if printed := _printed(shown.text):
                expected.append((out, shown._replace(text=printed, language="text")))
        elif block.text.startswith("$ "):
            commands = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
            for number, command in enumerate(commands):
                words, _, printed = command.partition("\n")
                out = said / f"{block.line}.{number}.out"
                steps.append(f"{{ {words}\n}} > '{out}' 2>&1 || true")
                expected.append((out, shown._replace(text=printed.replace(f":{port}", ":8787"))))
        else:
            assert block.language in SHOWN, f"{page.name}:{block.line}: nobody reads a {block.language} block"
            assert output is not None, f"{page.name}:{block.line}: the output of what?"
            expected.append((output, shown))
            output = None
    return "\n".join(steps), expected


def _printed(program: str) -> str:
    """What the `print` lines of a program say that they print."""
    return "".join(
        f"{said}\n" for said in re.findall(r"^ *print\(.*\) +# (.*)$", program, flags=re.MULTILINE)
    )


def _terminal(folder: Path, port: int) -> None:
    """The commands that a page uses, in a folder for the PATH: those of this checkout."""
    commands = folder / "bin"
    commands.mkdir()
    (commands / ".curlrc").write_text("silent\nshow-error\n")
    served = f'if [ "${{1-}}" = serve ]; then shift; set -- serve --port {port} "$@"; fi\n'
    for name, line in (
        ("capsa", f'{served}exec "{sys.executable}" -m capsa "$@"'),
        ("python", f'exec "{sys.executable}" "$@"'),
    ):
        (commands / name).write_text(f"#!/bin/sh\n{line}\n")
        (commands / name).chmod(0o755)


def _free_port() -> int:
    with socket.socket() as probe:
        # Not for long, and nobody else is told of it: a server that starts again needs the same one.
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _documents(text: str) -> list[Any]:
    """The JSON documents that stand one behind the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while rest := text[at:].lstrip():
        value, end = decoder.raw_decode(rest)
        found.append(value)
        at = len(text) - len(rest) + end
    return found


def compare_json(told: Any, shown: Any, where: str, *, exact: bool = True) -> None:
    """Compares a value with what a page shows of it: every field and its kind, and all that does not differ by itself.

    Raises:
        AssertionError: They are not alike; with the place.
    """
    if shown == "…":
        return
    if isinstance(shown, dict):
        assert isinstance(told, dict), f"{where}: {told!r} is no object"
        further = set(told) if "…" in shown else set()
        assert set(shown) - {"…"} == set(told) - (further - set(shown)), (
            f"{where}: {sorted(told)} are its fields"
        )
        # Where nothing was drawn, the answer is the same every time.
        certain = {"option", "optionName", "propensity", "reason"} if _is_certain(shown) else set()
        for name, value in shown.items():
            if name != "…":
                same = (exact and name not in _DIFFERING) or name in certain
                compare_json(told[name], value, f"{where}/{name}", exact=same)
        _compare_best(told.get("weights"), shown.get("weights"), where)
    elif isinstance(shown, list):
        assert isinstance(told, list), f"{where}: {told!r} is no list"
        if shown[-1:] == ["…"]:
            shown, told = shown[:-1], told[: len(shown) - 1]
        assert len(told) == len(shown), f"{where}: it has {len(told)} entries"
        for number, (one, other) in enumerate(zip(told, shown, strict=True)):
            compare_json(one, other, f"{where}/{number}", exact=exact)
    elif isinstance(shown, str):
        assert isinstance(told, str), f"{where}: {told!r} is no text"
        assert not exact or _like(shown).fullmatch(told), f"{where}: it is {told!r}, the page says {shown!r}"
    elif isinstance(shown, int | float) and not isinstance(shown, bool):
        assert isinstance(told, int | float), f"{where}: {told!r} is no number"
        assert not exact or math.isclose(told, shown, abs_tol=5e-4), (
            f"{where}: it is {told!r}, the page says {shown!r}"
        )
    else:
        assert told is shown, f"{where}: it is {told!r}, the page says {shown!r}"


def _is_certain(shown: dict[str, Any]) -> bool:
    return "propensity" in shown and shown["propensity"] in (None, 1.0)


def _compare_best(told: Any, shown: Any, where: str) -> None:
    """Weights differ from run to run; but where a page says that one option has nearly all, it has."""
    if isinstance(shown, list) and max(shown) > 0.9:
        assert told.index(max(told)) == shown.index(max(shown)), f"{where}/weights: they are {told}"
        assert max(told) > 0.8, f"{where}/weights: they are {told}"


def compare_text(told: str, shown: str, where: str) -> None:
    """Compares a text, line by line, with what a page shows of it.

    Raises:
        AssertionError: They are not alike.
    """
    pattern = "".join(_pattern(line) for line in shown.splitlines())
    assert re.fullmatch(pattern, told if told.endswith("\n") else f"{told}\n"), f"{where}: it is\n{told}"


def _pattern(line: str) -> str:
    return r"(?:.*\n)*" if line.strip() == "…" else f"{_like(line.rstrip()).pattern} *\n"


def _like(shown: str) -> re.Pattern[str]:
    """A pattern for what is shown: ``…`` and times stand for anything."""
    return re.compile(".*".join(re.escape(part) for part in _ANYTHING.split(shown)))
