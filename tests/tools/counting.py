"""A program that calls a counting tool from many threads, and says every answer: to be killed.

Its store keeps up all the time, so that kills meet snapshots. Each answer is a line on standard output: the number, and
the call's id.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import capsa
from capsa.decisions import _upkeep

#: Seconds between rounds of upkeep, and events between snapshots.
ROUND_S = 0.02
SNAPSHOT_EVENTS = 60


def main() -> None:
    """Counts until it is stopped."""
    folder, cache, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    _upkeep.ROUND_SECONDS = ROUND_S  # type: ignore[misc]
    _upkeep.SNAPSHOT_EVENTS = SNAPSHOT_EVENTS
    store = capsa.open(folder, cache_dir=cache)
    tool = store.capsule("tool")
    os.write(1, b"open\n")

    def counts() -> None:
        while True:
            made = tool.invoke()
            # One write: other threads' lines do not mix with it, and the pipe has it when we are killed.
            os.write(1, f"{made.output} {made.id}\n".encode())

    running = [threading.Thread(target=counts) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


if __name__ == "__main__":
    main()
