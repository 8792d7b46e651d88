"""The server with other limits, so that what takes half a minute takes a second: its own process, its own command.

`python -m tests.server.hostile.hurried HEAD_S=0.5 CONNECTIONS=8 -- serve STORE --port 0`
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

from tests.server.serving import KEY, Served

from capsa.cli import main
from capsa.server import _limits, _protocol

ROOT = Path(__file__).parents[3]


class Hurried(Served):
    """A server in a process of its own, with limits that are not the usual ones.

    Args:
        store: The folder of its store.
        arguments: Further words of the command.
        limits: Constants of `capsa.server._limits` by name; ``LOOK_S``: how often it looks at its connections;
            ``FILE_BYTES``: the largest file that it may write.
    """

    def __init__(self, store: Path, *arguments: str, **limits: float) -> None:
        self.limits = limits
        super().__init__(store, *arguments)

    def start(self) -> None:
        """Starts it, and waits until it serves."""
        given = [f"{name}={value}" for name, value in self.limits.items()]
        words = [
            sys.executable,
            "-m",
            __name__,
            *given,
            "--",
            "serve",
            str(self.store),
            "--port",
            str(self.port),
        ]
        self.log = (self.store.parent / f"{self.store.name}.log").open("ab")
        self.process = subprocess.Popen(
            [*words, *self._arguments],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | {"CAPSA_ADMIN_KEY": KEY},
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"http://[^ ]*:(\d+)", said)
        if found is None:
            self.stop()
            raise AssertionError(f"it does not serve: {said!r}\n{self.said}")
        self.port = int(found[1])


def run(words: list[str]) -> int:
    """Sets the limits and runs the command."""
    at = words.index("--")
    for word in words[:at]:
        name, _, text = word.partition("=")
        value = float(text)
        if name == "FILE_BYTES":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(value), resource.RLIM_INFINITY))
        elif name == "LOOK_S":
            _protocol._LOOK_S = value  # type: ignore[misc]
        else:
            usual = getattr(_limits, name)
            setattr(_limits, name, type(usual)(value))
    return main(words[at + 1 :])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
