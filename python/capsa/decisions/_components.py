"""Compiled components, and the sandboxes that run them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec

from capsa import _native
from capsa.capsules import CapsuleSource
from capsa.journal import Journal


class Egress(msgspec.Struct, frozen=True):
    """How requests of tools leave.

    Attributes:
        dns: Name servers, each ``address:port``; empty = the system's.
        roots: Certificates in PEM of authorities that are trusted beside the public ones.
    """

    dns: tuple[str, ...] = ()
    roots: str | None = None


NO_EGRESS: Final = Egress()


#: The sandboxes in use, by the folder of their compiled components and by how requests leave: stores share them, for each
#: reserves terabytes of address space (not of memory).
_HOSTS: weakref.WeakValueDictionary[tuple[str | None, Egress], _native.Host] = weakref.WeakValueDictionary()
_HOSTS_LOCK = threading.Lock()


def host_for(cache_dir: str | Path | None, egress: Egress = NO_EGRESS) -> _native.Host:
    """The sandbox that keeps its compiled components in a folder, or nowhere."""
    folder = None if cache_dir is None else str(Path(cache_dir).resolve())
    with _HOSTS_LOCK:
        host = _HOSTS.get((folder, egress))
        if host is None:
            dns = list(egress.dns) if egress.dns else None
            host = _HOSTS[folder, egress] = _native.Host(cache_dir=folder, dns=dns, roots=egress.roots)
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
        self.tools: dict[str, _native.tools.ToolComponent] = {}

    def load(self, digest: str) -> _native.Component:
        """A component that was installed."""
        component = self.held.get(digest)
        if component is None:
            component = self.held[digest] = self._host.load(self._journal.blob(digest))
        return component

    def load_tool(self, digest: str) -> _native.tools.ToolComponent:
        """A tool's component that was installed."""
        component = self.tools.get(digest)
        if component is None:
            component = self.tools[digest] = self._host.load_tool(self._journal.blob(digest))
        return component

    def compiled(self, source: CapsuleSource) -> _native.Component | _native.tools.ToolComponent:
        """A component that may become one."""
        if source.tool is not None:
            return self.tools.get(source.digest) or self._host.load_tool(source.component)
        return self.held.get(source.digest) or self._host.load(source.component)

    def hold(self, digest: str, component: _native.Component | _native.tools.ToolComponent) -> None:
        """Keeps one that was compiled."""
        if isinstance(component, _native.tools.ToolComponent):
            self.tools[digest] = component
        else:
            self.held[digest] = component

    def keep(self, digests: Collection[str]) -> None:
        """Lets go of all others."""
        for digest in self.held.keys() - set(digests):
            self.held.pop(digest, None)
        for digest in self.tools.keys() - set(digests):
            self.tools.pop(digest, None)
