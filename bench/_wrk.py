"""Servers in processes of their own, and `wrk`, the generator of their load."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

START_WAIT_S: Final = 120.0
#: One thread of wrk has one Lua state, which hands out every line once; with more, each would begin anew.
SCRIPT: Final = """\
local requests, once, workers = {}, false, {}
used = 0

function setup(thread)
  workers[#workers + 1] = thread
end

function init(args)
  once = args[2] == "once"
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, nil, body)
  end
end

function request()
  if once and used == #requests then
    io.stderr:write("wrk: every body is used up\\n")
    os.exit(3)
  end
  used = used + 1
  return requests[(used - 1) % #requests + 1]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\nRESULT {"requests": %d, "micros": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, "used": %d, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
    workers[1]:get("used"), e.connect, e.read, e.write, e.status, e.timeout))
end
"""


class Failed(Exception):
    """A run that does not count."""


class Server:
    """A server in a process of its own, and what the bench asks of it besides the load.

    Args:
        name: How it is called in the table.
        command: What starts it; it says its port in its output.
        log: Where its output goes.
        key: The admin key. Both servers are sent it, so that requests are equal.
    """

    def __init__(self, name: str, command: list[str], log: Path, key: str) -> None:
        self.name = name
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CAPSA_ADMIN_KEY": key},
            )
        self.pid = self._process.pid
        try:
            self.port = self._said_port()
        except Failed:
            self._end()
            raise

    def _said_port(self) -> int:
        until = time.monotonic() + START_WAIT_S
        while time.monotonic() < until and self._process.poll() is None:
            if found := re.search(
                r"^(?:serving .* at http://127\.0\.0\.1:)?(\d+)(?: \(.*)?\n",
                self._log.read_text(),
                re.MULTILINE,
            ):
                return int(found[1])
            time.sleep(0.02)
        raise Failed(f"{self.name} did not start:\n{self._log.read_text()[-2000:]}")

    def cpu_s(self) -> float:
        """Processor time of all its threads."""
        # The name of the program, in brackets, may hold blanks.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settled_cpu_s(self) -> float:
        """Processor time once it has nothing left to do, or after ten seconds."""
        spent = self.cpu_s()
        for _ in range(40):
            time.sleep(0.25)
            before, spent = spent, self.cpu_s()
            if spent - before < 0.02:
                break
        return spent

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """A connection to it."""
        opened = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            yield opened
        finally:
            opened.close()

    def ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None
    ) -> bytes:
        """The body of an answer.

        Raises:
            Failed: There is none, or its status is not 2xx.
        """
        try:
            connection.request(method, path, body, self.headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            log = self._log.read_text()[-2000:]
            raise Failed(
                f"{self.name} does not answer {method} {path}: {error!r}; its log:\n{log}"
            ) from error
        if answer.status // 100 != 2:
            raise Failed(f"{self.name} answers {method} {path} with {answer.status}: {content[:500]!r}")
        return content

    def stop(self) -> None:
        """Ends it in order.

        Raises:
            Failed: It had ended before, would not end, ended with a fault, or logged one.
        """
        early = self._process.poll()
        late = self._end()
        log = self._log.read_text()
        if early is not None or late != 0 or " ERROR " in log or "Traceback" in log:
            when = "by itself" if early is not None else "after SIGTERM"
            raise Failed(f"{self.name} ended {when} with {late}; its log:\n{log[-3000:]}")

    def _end(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextlib.contextmanager
def running(name: str, command: list[str], log: Path, key: str) -> Iterator[Server]:
    """A server while it is needed."""
    server = Server(name, command, log, key)
    try:
        yield server
    except BaseException:
        # The first fault is the one to tell.
        with contextlib.suppress(Failed):
            server.stop()
        raise
    server.stop()


def wrk_version() -> str | None:
    """The version of wrk, if it is there. It exits 1 even where all is well."""
    try:
        said = subprocess.run(["wrk", "--version"], check=False, capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        return None
    return " ".join(said.stdout.split()[:2])


def wrk(
    server: Server, path: str, bodies: Path, *, connections: int, seconds: float, once: bool
) -> dict[str, Any]:
    """One run of the load generator, and what it cost the server.

    `wrk` corrects its latencies for what it could not send in time.

    Args:
        server: What is loaded.
        path: Where every request goes.
        bodies: What is posted, a line each, in turns.
        connections: How many are open; each waits for its answer before it sends again.
        seconds: Whole ones.
        once: Whether no line may be sent twice; then the run fails when they are used up.

    Returns:
        ``requests``, ``rate`` (answers a second), ``p50_us``, ``p99_us``, ``max_us``, ``cpu_us`` (processor time of the
        server a request, all threads, until it has nothing left to do), ``answer_bytes`` (heads included), ``used``
        (lines), ``generator_share`` (of one core, reading the bodies included: near 1 it is wrk that is slow),
        ``stolen_share`` (of the machine's time, taken by its host) and ``errors``.

    Raises:
        Failed: A request was not answered, or with a status of 400 or more.
    """
    script = bodies.with_suffix(".lua")
    script.write_text(SCRIPT)
    headers = [word for name, value in server.headers.items() for word in ("-H", f"{name}: {value}")]
    options = ["-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency", "-s", str(script), *headers]
    url = f"http://127.0.0.1:{server.port}{path}"
    cpu_before, generator_before, machine_before = server.settled_cpu_s(), _children_s(), _machine_ticks()
    ran = subprocess.run(
        ["wrk", *options, url, "--", str(bodies), "once" if once else "again"],
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    generator_s, (all_after, stolen_after) = _children_s() - generator_before, _machine_ticks()
    cpu_s = server.settled_cpu_s() - cpu_before
    told = re.search(r"^RESULT (.*)$", ran.stdout, re.MULTILINE)
    if ran.returncode != 0 or told is None:
        raise Failed(
            f"wrk on {server.name} ended with {ran.returncode}:\n{(ran.stdout + ran.stderr)[-2000:]}"
        )
    run: dict[str, Any] = json.loads(told[1])
    if any(run["errors"].values()) or run["requests"] == 0:
        raise Failed(f"{path} of {server.name}: {run['requests']} answers, errors {run['errors']}")
    run["rate"] = run["requests"] / run.pop("micros") * 1e6
    run["cpu_us"] = cpu_s / run["requests"] * 1e6
    run["answer_bytes"] = run.pop("bytes") / run["requests"]
    run["generator_share"] = generator_s / seconds
    run["stolen_share"] = (stolen_after - machine_before[1]) / max(1, all_after - machine_before[0])
    return run


def _children_s() -> float:
    """Processor time of the children that have ended: meanwhile that is wrk alone."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _machine_ticks() -> tuple[int, int]:
    """All ticks of the machine's processors so far, and those that its host gave to others."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks), ticks[7]
