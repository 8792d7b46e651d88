"""A command at a terminal of its own, as a person has one."""

from __future__ import annotations

import codecs
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import capsa

#: In which a command finds the package that is tested.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(capsa.__file__).parents[1])}


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, words: list[str], columns: int, typed: str = "", **environment: str) -> None:
        ours, theirs = pty.openpty()
        with (
            os.fdopen(ours, "r+b", buffering=0) as terminal,
            subprocess.Popen(
                [sys.executable, "-m", "capsa", *words],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env={**ENVIRONMENT, "COLUMNS": str(columns), "TERM": "xterm-256color", **environment},
            ) as child,
        ):
            os.close(theirs)
            said = ""
            for part in codecs.iterdecode(_all_of(terminal.fileno()), "utf-8"):
                said += part
                # A person answers what is asked.
                if typed and said.endswith(": "):
                    terminal.write(typed.encode())
                    typed = ""
            self.said = said.replace("\r\n", "\n")
            self.code = child.wait(60)


def _all_of(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            # The last one on the other side has left.
            return
        if not part:
            return
        yield part
