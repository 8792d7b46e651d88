"""`capsa serve` as a process of the demo's own: started on a temporary store, killed, started again, and always ended."""

from __future__ import annotations

import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, Never, Self

from capsa.errors import HostFault

#: Seconds that a start may take, and an orderly end. Both take about one.
_START_S: Final = 60.0
_STOP_S: Final = 60.0

#: What to do where the folder for temporary files holds no store.
REMEDY: Final = "if its folder or its disk cannot be used, set TMPDIR to a folder on a local disk"


class Served:
    """A server with a random key on a free port of this machine. Used with ``with``, which ends the process.

    Args:
        folder: A folder that is not there yet, for store and log.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.store = folder / "store"
        self.key = secrets.token_hex(32)
        self._log = folder / "log"
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it serves; the same after every start."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Starts it and waits until it serves.

        Returns:
            The seconds that this took.

        Raises:
            HostFault: It does not serve; says why.
        """
        started = time.monotonic()
        words = ["serve", str(self.store), "--port", str(self._port), "--retention", "all"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "capsa.demo._child", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # The key is not in the arguments, which every user of the machine can read.
                env={**os.environ, "CAPSA_ADMIN_KEY": self.key},
            )
        said = self._process.stdout
        assert said is not None
        ready, _, _ = select.select([said], [], [], _START_S)
        address = re.search(r"at http://127\.0\.0\.1:(\d+)", said.readline()) if ready else None
        if address is None:
            self.failed(f"it did not serve within {_START_S:.0f} s")
        self._port = int(address[1])
        return time.monotonic() - started

    def failed(self, why: str) -> Never:
        """Ends it, and raises what it said last.

        Raises:
            HostFault: Always.
        """
        process = self._process
        assert process is not None
        # What ended by itself tells so in a moment.
        try:
            code = process.wait(2.0)
        except subprocess.TimeoutExpired:
            code = None
        self.kill()
        if code is not None:
            why = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise HostFault(
            f"the demo's server ended or failed: {why}: {last or 'it gave no reason'}", remedy=REMEDY
        )

    def kill(self) -> None:
        """Ends it at once, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._ended(self._process, None)

    def stop(self) -> None:
        """Ends it in order.

        Raises:
            HostFault: It did not end in order.
        """
        assert self._process is not None
        process = self._process
        process.terminate()
        try:
            code = process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.failed(f"it did not stop within {_STOP_S:.0f} s")
        if code:
            self.failed("it did not stop in order")
        self._ended(process, _STOP_S)

    def _ended(self, process: subprocess.Popen[str], timeout: float | None) -> None:
        process.wait(timeout)
        if process.stdout is not None:
            process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end what is inside as Ctrl-C does, so that no server is left behind."""
    if threading.current_thread() is not threading.main_thread():
        # Python gives signals to the main thread alone.
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> Never:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
