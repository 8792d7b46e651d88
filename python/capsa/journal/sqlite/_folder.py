"""The folder of a store: ours alone, on a local disk, held by one process at a time.

```text
store.sqlite    the events (beside it, while it is open, SQLite's own -wal and -shm)
keys/           what must stay secret; part of a backup, if it is asked for
cache/          compiled components; may be deleted
lock            held while the store is open; says by which process
```
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from capsa.errors import HostFault, NetworkFileSystem, NotAStore, StoreLocked
from capsa.journal._errors import damaged, unwritable

DATABASE: Final = "store.sqlite"
LOG: Final = "store.sqlite-wal"
_OURS: Final = frozenset({DATABASE, LOG, "store.sqlite-shm", "keys", "cache", "lock", "vault", "files"})
#: How often, and how long apart, a locked store is tried.
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.005
#: By the `f_type` of statfs(2). Their locks or their syncs do not hold what SQLite needs.
_NETWORK: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB 2",
    0x65735546: "FUSE",
    0x01021997: "9P",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x564C: "NCP",
}


class StoreFolder:
    """The folder of a store, made where there was none, and locked.

    Attributes:
        path: Absolute.
        database: The database file.
        keys: The folder of keys.
        cache: The folder of what can be made again.
        new: Whether there was no database.

    Raises:
        NetworkFileSystem: It is not on a local disk.
        NotAStore: It holds other things.
        HostFault: It is not ours alone.
        StoreLocked: Somebody else has it open.
        StoreDamaged: A part of it is gone.
        StoreUnwritable: The system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / DATABASE
        self.keys = self.path / "keys"
        self.cache = self.path / "cache"
        self._lock = -1
        try:
            refuse_network(self.path, file_system)
            self._make()
            self._lock = self._locked()
            self._make_inside()
        except OSError as error:
            self.release()
            raise unwritable(self.path, error) from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Gives the lock back."""
        if self._lock >= 0:
            # Closing frees the lock. The file stays: whoever deletes it lets two processes in.
            os.close(self._lock)
            self._lock = -1

    def _make(self) -> None:
        for folder in reversed([folder for folder in (self.path, *self.path.parents) if not folder.exists()]):
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
        if not self.path.is_dir():
            raise NotAStore(
                f"{self.path} is not a folder", remedy="name a folder; it is made if there is none"
            )
        held = {entry.name for entry in self.path.iterdir()}
        self.new = DATABASE not in held
        if self.new and not held <= _OURS:
            raise NotAStore(
                f"{self.path} holds other things and no store", remedy="name an empty or a new folder"
            )
        if LOG in held and self.new:
            # SQLite would delete the log, and with it whatever was not yet moved into the database.
            raise damaged(self.path, f"there is {LOG} and no {DATABASE}")
        status = self.path.stat()
        if status.st_uid != os.geteuid():
            raise HostFault(f"{self.path} belongs to another user", remedy="name a folder of your own")
        if status.st_mode & 0o077:
            if held:
                raise HostFault(
                    f"{self.path} is open to other users",
                    remedy=f"run chmod 700 {self.path}, if it is yours alone",
                )
            self.path.chmod(0o700)

    def _make_inside(self) -> None:
        for folder in (self.keys, self.cache):
            folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.path)

    def _locked(self) -> int:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(lock)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
            os.close(lock)
            who = "this process" if holder == str(os.getpid()) else f"process {holder or 'of unknown number'}"
            raise StoreLocked(
                f"the store {self.path} is open in {who}",
                value=holder,
                remedy="close it there, or let one process open it and the others ask that one",
            ) from None
        except BaseException:
            os.close(lock)
            raise
        return lock


def _take(lock: int) -> None:
    """Locks a file for itself alone.

    Raises:
        BlockingIOError: Somebody else has it.
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            # Whoever looks at a store (`holder`) has its lock for microseconds.
            time.sleep(_PAUSE_S)


def holder(folder: Path) -> str | None:
    """The number of the process that has a store open; ``None`` where nobody has."""
    try:
        opened = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, and given back at once: no more is needed to see that somebody has it.
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(opened, 32, 0).decode(errors="replace").strip() or "of unknown number"
    finally:
        os.close(opened)
    return None


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def refuse_network(path: Path, kind_of: Callable[[Path], int]) -> None:
    """Raises `NetworkFileSystem` where the file system of a path, or of what it will be made in, is none of a disk.

    Args:
        path: Absolute.
        kind_of: Gives the `f_type` of the file system that holds a path.
    """
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    name = _NETWORK.get(kind_of(there))
    if name is not None:
        raise NetworkFileSystem(
            f"{path} is on a {name} file system",
            value=name,
            remedy="name a folder on a local disk: over a network, locks and syncs cannot be relied on",
        )


def file_system(path: Path) -> int:
    """The `f_type` of the file system that holds a path: statfs(2), which Python does not offer."""
    # 120 bytes on 64-bit Linux; the type is the first word.
    result = (ctypes.c_long * 32)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), result) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(path))
    return int(result[0]) & 0xFFFF_FFFF
