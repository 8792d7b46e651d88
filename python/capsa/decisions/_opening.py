"""Opening a store: what it is given, checked."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from capsa.decisions._components import Egress
from capsa.decisions._learning import duration_seconds
from capsa.decisions._store import Store
from capsa.errors import InvalidField, shown
from capsa.journal import Journal, MemoryJournal, SqliteJournal

#: How long events are kept where nothing else is said.
RETENTION: Final = "90d"


def open_store(
    path: str | Path | None = None,
    *,
    principal: str = "local",
    cache_dir: str | Path | None = None,
    clock: Callable[[], float] = time.time,
    seed: int | None = None,
    retention: str | None = RETENTION,
    upkeep: bool = True,
    dns: Sequence[str] = (),
    roots: str | Path | None = None,
) -> Store:
    """Opens a store: in a folder on disk, or in memory.

    In a folder, a feedback is on disk before it is answered, and what was learned is rebuilt from the journal at
    the next start. In memory everything ends with the process.

    Args:
        path: The store's folder; made where it is missing. Left out: a store in memory.
        principal: Who the events say they were caused by.
        cache_dir: A folder of our own for compiled components. Left out: ``cache`` in the store's folder; in
            memory, every start compiles anew.
        clock: Gives the time in seconds since 1970. Decisions and decay go by it.
        seed: Makes the draws repeatable: the same calls at the same times give the same decisions.
            For demos and tests; whoever knows it can predict every draw.
        retention: How long events are kept, for example ``90d``; older ones are cut off at a snapshot, so that
            up to an eighth of it is kept longer. At least the longest horizon is kept. ``None`` keeps everything.
            What was learned stays.
        upkeep: Whether a thread deals with horizons that pass, seals snapshots and applies the retention, every
            few seconds. Without it, call `Store.upkeep`.
        dns: Name servers that requests of tools go by, each ``address:port``. Left out: the system's.
        roots: A file of certificates in PEM: authorities that are trusted for requests of tools, beside the public ones.

    Raises:
        InvalidField: `retention` is not a duration, `seed` not a number of 128 bits, or `dns` holds no addresses.
        StoreLocked: Another process, or another object of this one, has the folder open.
        StoreUnsupported: The folder is on a network file system, or a newer version wrote it.
        StoreError: The folder cannot be used; the message says why.
        JournalMismatch: What is recorded does not fit this version.
        HostFault: The sandbox cannot be started here, or `cache_dir` is not only ours.
    """
    retention_ms = None if retention is None else _retention_ms(retention)
    egress = Egress(_name_servers(dns), None if roots is None else Path(roots).read_text())
    journal: Journal
    if path is None:
        journal = MemoryJournal()
    else:
        journal = SqliteJournal(path)
        cache_dir = journal.cache if cache_dir is None else cache_dir
    try:
        return Store(
            journal,
            principal=principal,
            cache_dir=cache_dir,
            clock=clock,
            seed=seed,
            retention_ms=retention_ms,
            upkeep=upkeep,
            egress=egress,
        )
    except BaseException:
        # Nobody else could open the folder otherwise.
        journal.close()
        raise


def _name_servers(dns: object) -> tuple[str, ...]:
    servers = tuple(dns) if isinstance(dns, Sequence) and not isinstance(dns, str) else (None,)
    if all(isinstance(server, str) and _is_socket_address(server) for server in servers):
        return servers
    raise InvalidField(
        f"dns is {shown(dns)!r}",
        pointer="/dns",
        value=shown(dns),
        remedy='give a list of name servers, each an address with its port, such as ["10.0.0.2:53"]',
    )


def _is_socket_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    bracketed = host.startswith("[")
    return bracketed == (address.version == 6) and port.isdecimal() and 0 < int(port) < 65_536


def _retention_ms(retention: object) -> int:
    kept_ms = int(duration_seconds(retention, "/retention") * 1000)
    if kept_ms <= 0:
        raise InvalidField(
            "retention is nothing",
            pointer="/retention",
            value=shown(retention),
            remedy="say how long, for example 90d; None keeps everything",
        )
    return kept_ms
