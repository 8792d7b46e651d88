"""Threads for calls that take their time, shared fairly by tenants."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar

from capsa.errors import Overloaded

#: Threads. Most of them wait: for something outside, or for a processor, of which the sandbox gives out all but one.
THREADS: Final = 64
#: What one tenant may have of them at once, and what may wait for it besides.
PER_TENANT: Final = 16
WAITING_PER_TENANT: Final = 128

Result = TypeVar("Result")


class FairThreads:
    """A bounded pool in which tenants take turns: whoever sends much waits behind itself.

    Threads are started when they are first needed. They may be used from many event loops.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: What the next free thread begins.
        self._begun: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._running: dict[str, int] = {}
        self._queues: dict[str, deque[Callable[[], None]]] = {}
        #: Tenants that wait and have not all that they may have, in the order of their turns.
        self._turns: deque[str] = deque()
        self._busy = 0
        self._closed = False

    async def run(self, tenant: str, work: Callable[[], Result]) -> Result:
        """What `work` gives, in a thread.

        Should the caller be cancelled, work that has begun goes on, and what has not is never begun.

        Raises:
            Overloaded: Too much of this tenant waits already.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def begin() -> None:
            try:
                if not future.cancelled():
                    result = work()
                    _tell(loop, future, result, None)
            except BaseException as error:  # noqa: BLE001 - whoever waits is told
                _tell(loop, future, None, error)
            finally:
                self._ended(tenant)

        self._submit(tenant, begin)
        return await future

    def _submit(self, tenant: str, begin: Callable[[], None]) -> None:
        with self._lock:
            waiting = self._queues.setdefault(tenant, deque())
            if len(waiting) >= WAITING_PER_TENANT:
                raise Overloaded(
                    f"{WAITING_PER_TENANT} calls of this tenant wait already",
                    remedy="try again, with fewer at once",
                )
            waiting.append(begin)
            if len(waiting) == 1 and self._running.get(tenant, 0) < PER_TENANT:
                self._turns.append(tenant)
            self._start()

    def _start(self) -> None:
        """Begins what may begin. The lock is held."""
        while self._turns and self._busy < THREADS and not self._closed:
            tenant = self._turns.popleft()
            waiting = self._queues[tenant]
            begin = waiting.popleft()
            self._busy += 1
            self._running[tenant] = self._running.get(tenant, 0) + 1
            if not waiting:
                del self._queues[tenant]
            elif self._running[tenant] < PER_TENANT:
                self._turns.append(tenant)
            self._begun.put(begin)
            if self._threads < self._busy:
                self._threads += 1
                # A call that waits for something outside must not keep the process from ending.
                threading.Thread(target=self._serve, name="capsa-call", daemon=True).start()

    def _serve(self) -> None:
        while (begin := self._begun.get()) is not None:
            begin()
            del begin

    def _ended(self, tenant: str) -> None:
        with self._lock:
            self._busy -= 1
            had_all = self._running[tenant] == PER_TENANT
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
            if had_all and tenant in self._queues:
                self._turns.append(tenant)
            self._start()

    def close(self) -> None:
        """Begins nothing more. Calls that have begun go on; nobody waits for them."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._begun.put(None)


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    def tell() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    # A loop that was closed meanwhile has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)
