"""Compiled components, and the sandboxes that run them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from pathlib import Path

from capsa import _native
from capsa.capsules import CapsuleSource
from capsa.journal import Journal

#: The sandboxes in use, by the folder of their compiled components: stores share them, for each reserves terabytes of
#: address space (not of memory).
_HOSTS: weakref.WeakValueDictionary[str | None, _native.Host] = weakref.WeakValueDictionary()
_HOSTS_LOCK = threading.Lock()


def host_for(cache_dir: str | Path | None) -> _native.Host:
    """The sandbox that keeps its compiled components in a folder, or nowhere."""
    folder = None if cache_dir is None else str(Path(cache_dir).resolve())
    with _HOSTS_LOCK:
        host = _HOSTS.get(folder)
        if host is None:
            host = _HOSTS[folder] = _native.Host(cache_dir=folder)
        return host


def forget_hosts() -> None:
    """In a child after a fork, where the threads of a sandbox are not there."""
    global _HOSTS_LOCK  # noqa: PLW0603 - somebody may have held the parent's
    _HOSTS_LOCK = threading.Lock()
    _HOSTS.clear()


class Components:
    """Compiled components by their digests.

    They do not know the store: so a dropped store is gone at once, and with it its sandbox's address space.
    """

    def __init__(self, host: _native.Host, journal: Journal) -> None:
        self._host = host
        self._journal = journal
        self.held: dict[str, _native.Component] = {}

    def load(self, digest: str) -> _native.Component:
        """A component that was installed."""
        component = self.held.get(digest)
        if component is None:
            component = self.held[digest] = self._host.load(self._journal.blob(digest))
        return component

    def compiled(self, source: CapsuleSource) -> _native.Component:
        """A component that may become one."""
        return self.held.get(source.digest) or self._host.load(source.component)

    def keep(self, digests: Collection[str]) -> None:
        """Lets go of all others."""
        for digest in self.held.keys() - set(digests):
            self.held.pop(digest, None)
