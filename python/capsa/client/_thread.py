"""An event loop in a thread of its own, which ends with its process and never outlives a fork."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import ctypes
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from capsa.client._async import AsyncClient
from capsa.client._errors import Unreachable
from capsa.errors import StoreClosed

T = TypeVar("T")

#: Seconds beyond a call's own deadline, should the thread not even come to look at the clock.
_GRACE_S: Final = 0.1
#: Seconds between two looks whether the thread is still there.
_LOOK_S: Final = 1.0
#: Seconds that the end of the process waits for what is still to be sent.
_AT_EXIT_S: Final = 5.0


class Worker:
    """The thread in which one client does its work, begun when it is first needed.

    Args:
        make: Makes the client; called in each process that uses it.
    """

    def __init__(self, make: Callable[[], AsyncClient]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._closed = False
        _WORKERS.add(self)

    @property
    def client(self) -> AsyncClient | None:
        """The client, if it did anything yet in this process."""
        return None if self._running is None else self._running.client

    def run(
        self,
        call: Callable[[AsyncClient], Coroutine[Any, Any, T]],
        timeout: float | None,
        *,
        abandon: bool = False,
    ) -> T:
        """What a call answers.

        Args:
            call: Made on the thread's loop.
            timeout: Seconds that it takes at most, which it sees to itself; ``None``: as long as it takes.
            abandon: Whether it goes on where nobody waits for it any more.

        Raises:
            Unreachable: The thread did not get to it in time.
            StoreClosed: The client was closed.
        """
        running = self._begun()
        if threading.current_thread() is running.thread:
            raise RuntimeError("on_refused must not wait for its client")
        future = running.submit(call(running.client))
        try:
            return running.result(future, timeout)
        except BaseException:
            if not abandon:
                future.cancel()
            raise

    def close(self, timeout: float) -> int:
        """Sends what waits, for so many seconds, and ends the thread; gives how many were not sent."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        return 0 if running is None else running.close(timeout)

    def retire(self) -> None:
        """As `close`, for a client that nobody holds any more: without waiting."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None:
            threading.Thread(target=running.close, args=(_AT_EXIT_S,), name="capsa-client-end").start()

    def forget(self) -> None:
        """In a process that forked: leaves what the parent does to the parent."""
        self._lock = threading.Lock()
        running, self._running = self._running, None
        if running is not None:
            # Never freed: to close its connections would take them from the parent's event loop, which this process
            # shares with it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(running))

    def _begun(self) -> _Running:
        running = self._running
        if running is not None:
            return running
        with self._lock:
            if self._closed:
                raise _closed()
            if self._running is None:
                try:
                    self._running = _Running(self._make())
                except RuntimeError as error:
                    raise Unreachable(f"the client's thread cannot begin: {error}") from None
            return self._running


class _Running:
    """A client at work."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._work, name="capsa-client", daemon=True)
        try:
            self.thread.start()
        except RuntimeError:
            self.loop.close()
            raise

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            while rest := asyncio.all_tasks(self.loop):
                for task in rest:
                    task.cancel()
                self.loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        finally:
            self.loop.close()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begins a call.

        Raises:
            StoreClosed: The thread has ended.
        """
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError:
            # Closed by another thread, or at the end of the process.
            coroutine.close()
            raise _closed() from None

    def result(self, future: concurrent.futures.Future[T], timeout: float | None) -> T:
        """What a call answers.

        Raises:
            Unreachable: The thread did not get to it in time.
            StoreClosed: The thread has ended.
        """
        ends = math.inf if timeout is None else time.monotonic() + timeout + _GRACE_S
        while True:
            try:
                return future.result(max(0.0, min(ends - time.monotonic(), _LOOK_S)))
            except concurrent.futures.CancelledError:
                raise _closed() from None
            except concurrent.futures.TimeoutError:
                if not self.thread.is_alive():
                    raise _closed() from None
                if time.monotonic() >= ends:
                    raise Unreachable(f"the client's thread did not answer within {timeout:g} s") from None

    def begin_to_close(self, timeout: float) -> concurrent.futures.Future[int]:
        """Begins to send what waits."""
        return self.submit(self.client.close(timeout))

    def end(self, closing: concurrent.futures.Future[int], timeout: float) -> int:
        """Ends the thread once that is done."""
        try:
            left = closing.result(timeout + 1)
        except concurrent.futures.TimeoutError:
            left = self.client.queue.waiting
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(1)
        return left

    def close(self, timeout: float) -> int:
        """Both."""
        return self.end(self.begin_to_close(timeout), timeout)


def _closed() -> StoreClosed:
    return StoreClosed("this client was closed", remedy="make a new one")


_WORKERS: Final[weakref.WeakSet[Worker]] = weakref.WeakSet()


def _at_exit() -> None:
    """Sends what still waits, all clients at the same time."""
    begun = time.monotonic()
    closing = []
    for worker in list(_WORKERS):
        worker._closed = True
        running, worker._running = worker._running, None
        if running is not None:
            closing.append((running, running.begin_to_close(_AT_EXIT_S)))
    for running, future in closing:
        running.end(future, max(_AT_EXIT_S - (time.monotonic() - begun), 0.0))


def _after_fork() -> None:
    for worker in list(_WORKERS):
        worker.forget()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
