"""Threads for calls that take their time, shared fairly by tenants."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from capsa.errors import Overloaded, StoreClosed

#: Threads. Most of them wait: for something outside, or for a processor, of which the sandbox gives out all but one. Fewer
#: than the sandbox has places for calls of tools (64): calls on an event loop find one, too.
THREADS: Final = 60
#: What one tenant may have of them at once, and what may wait for it besides.
PER_TENANT: Final = 16
WAITING_PER_TENANT: Final = 128
#: Calls that may run beside their tenants' first ones. The other threads are for tenants that have nothing running: one such
#: begins at once where fewer than `THREADS - FURTHER` others have something running, whatever these send.
FURTHER: Final = 40

Result = TypeVar("Result")


class _Waiting(NamedTuple):
    """Work that waits: how it is begun, and how whoever waits is told that it never will be."""

    begin: Callable[[], None]
    drop: Callable[[], None]


class FairThreads:
    """A bounded pool in which tenants take turns: whoever sends much waits behind itself.

    A tenant that has nothing running needs a free thread. Further calls of tenants are at most `FURTHER`, and a tenant begins
    one while it has fewer of them than are left: so few tenants have much, and many have a little each.

    Threads are started when they are first needed. They may be used from many event loops.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: What the next free thread begins.
        self._begun: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        #: By tenant that has any: its calls that run.
        self._running: dict[str, int] = {}
        #: By tenant that waits, in the order of their turns.
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._busy = 0
        self._closed = False

    async def run(self, tenant: str, work: Callable[[], Result]) -> Result:
        """What `work` gives, in a thread.

        Should the caller be cancelled, work that has begun goes on, and what has not is never begun.

        Raises:
            Overloaded: Too much of this tenant waits already, or there can be no thread.
            StoreClosed: It was not begun, and never will be.
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

        self._submit(tenant, _Waiting(begin, lambda: _tell(loop, future, None, _closed())))
        return await future

    def _submit(self, tenant: str, one: _Waiting) -> None:
        with self._lock:
            if self._closed:
                raise _closed()
            if len(self._queues.get(tenant, ())) >= WAITING_PER_TENANT:
                raise Overloaded(
                    f"{WAITING_PER_TENANT} calls of this tenant wait already",
                    remedy="try again, with fewer at once",
                )
            self._queues.setdefault(tenant, deque()).append(one)
            self._start()
            if not self._threads:
                # Nothing runs, so nobody would ever begin it.
                self._queues.clear()
                raise Overloaded("the system gives no thread", remedy="try again; let this process have more")

    def _start(self) -> None:
        """Begins what may begin. The lock is held."""
        while not self._closed and (tenant := self._next()) is not None and self._has_thread():
            waiting = self._queues[tenant]
            begin = waiting.popleft().begin
            if waiting:
                self._queues.move_to_end(tenant)
            else:
                del self._queues[tenant]
            self._busy += 1
            self._running[tenant] = self._running.get(tenant, 0) + 1
            self._begun.put(begin)

    def _next(self) -> str | None:
        """The first tenant in the line that may begin a call. Who may not has something running: so they are few."""
        if self._busy >= THREADS:
            return None
        left = FURTHER - (self._busy - len(self._running))
        for tenant in self._queues:
            running = self._running.get(tenant, 0)
            # One that has nothing running may: none has fewer of the further ones than that.
            if running < PER_TENANT and running - 1 < left:
                return tenant
        return None

    def _has_thread(self) -> bool:
        """Whether a thread is free; starts one where none is. The threads there are go on if that fails."""
        if self._busy < self._threads:
            return True
        try:
            # Not `Thread`: its start waits until the thread runs, and that of a busy process takes long. Nor does this
            # one keep the process from ending while a call waits for something outside.
            _thread.start_new_thread(self._serve, ())
        except (RuntimeError, MemoryError):
            return False
        self._threads += 1
        return True

    def _serve(self) -> None:
        while (begin := self._begun.get()) is not None:
            begin()
            del begin

    def _ended(self, tenant: str) -> None:
        with self._lock:
            self._busy -= 1
            if self._running[tenant] == PER_TENANT and tenant in self._queues:
                # It could not have had its turn: it has none before those who came meanwhile.
                self._queues.move_to_end(tenant)
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
            self._start()

    def close(self) -> None:
        """Begins nothing more, and says so to whoever waits. Calls that have begun go on."""
        with self._lock:
            self._closed = True
            threads, self._threads = self._threads, 0
            left = [one for waiting in self._queues.values() for one in waiting]
            self._queues.clear()
        for _ in range(threads):
            self._begun.put(None)
        for one in left:
            one.drop()


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], result: Any, error: BaseException | None
) -> None:
    def tell() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            # A future refuses this one.
            future.set_exception(RuntimeError("StopIteration") if isinstance(error, StopIteration) else error)

    # A loop that was closed meanwhile has nobody who waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)


def _closed() -> StoreClosed:
    return StoreClosed("this store was closed", remedy="open it again")
