"""A copy of a whole store, made while it is in use, and a store made from such a copy.

The database is copied by ``VACUUM INTO``: one statement in one read transaction, so it is one moment however
long it takes and whoever writes meanwhile. It moves cells, not whole values, so memory stays small. It leaves
out what was freed. SQLite's backup interface copies page by page instead, and begins anew whenever another
connection commits; within one read transaction it would not, but it would copy the freed pages too.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from capsa.errors import NotAStore, StoreDamaged
from capsa.journal._errors import unwritable
from capsa.journal._verify import Fault
from capsa.journal.sqlite import _database, _keys
from capsa.journal.sqlite._folder import DATABASE, sync_folder
from capsa.journal.sqlite._moment import check_store, moment
from capsa.journal.sqlite._verify import verify_database

#: Is told how many bytes of how many are copied; the second is an upper bound until the end.
Progress = Callable[[int, int], None]

#: Steps of SQLite's machine between two looks at what is done.
_STEPS = 50_000
#: Faults that an error names.
_NAMED_FAULTS: Final = 5


class Backup(msgspec.Struct, frozen=True):
    """A copy that is complete and on disk.

    Attributes:
        folder: Where it is.
        bytes: The size of all files.
        events: How many there are in it.
        keys: Whether the keys are in it.
    """

    folder: Path
    bytes: int
    events: int
    keys: bool


class Restored(msgspec.Struct, frozen=True):
    """A store that was made from a backup.

    Attributes:
        folder: Where it is.
        bytes: The size of all files.
        events: How many there are in it.
        keys: Whether it has the keys of the store that it was. Otherwise it makes new ones when it is opened.
    """

    folder: Path
    bytes: int
    events: int
    keys: bool


def backup(
    store: str | Path, folder: str | Path, *, keys: bool = False, progress: Progress | None = None
) -> Backup:
    """Copies a store as it is at one moment. It may be in use, in this process or another one.

    Args:
        store: The folder of the store.
        folder: Is made, or is empty. It stands there complete or not at all.
        keys: Whether the keys are copied too. Without them the copy can neither sign as the store does nor open
            what was sealed with its secrets; who opens it makes new ones.
        progress: Is told how many bytes of how many are copied.

    Raises:
        NotAStore: There is no store, or the folder holds something.
        StoreTooNew: A newer version wrote it.
        StoreDamaged: The store cannot be read.
        StoreUnwritable: The copy cannot be written.
        StoreError: A key is missing.
        HostFault: Other users can read a key.
    """
    source = Path(store).absolute()
    check_store(source)
    target = Path(folder).absolute()
    with _made(source, target) as partial:
        _copy_moment(source, partial, progress)
        _copy_keys(source / "keys", partial / "keys", keys)
        found = _measured(partial)
    return Backup(target, *found)


def backup_open(
    reading: Callable[[], AbstractContextManager[sqlite3.Connection]],
    store: Path,
    folder: Path,
    *,
    keys: bool,
    progress: Progress | None,
) -> Backup:
    """As `backup`, with a connection that a journal lends while it is open."""
    target = folder.absolute()
    with _made(store, target) as partial:
        with reading() as connection:
            _copy_database(connection, partial, progress)
        # Behind the events: so no secret is missing that one of them needs.
        _copy_keys(store / "keys", partial / "keys", keys)
        found = _measured(partial)
    return Backup(target, *found)


def restore(backup: str | Path, folder: str | Path, *, progress: Progress | None = None) -> Restored:
    """Makes a store from a backup. The copy is verified before it stands there.

    Args:
        backup: The folder of the backup.
        folder: Is made, or is empty.
        progress: Is told how many bytes of how many are copied.

    Raises:
        NotAStore: There is no backup, or the folder holds something.
        StoreTooNew: A newer version wrote it.
        StoreDamaged: The backup is not as it was written; names what is wrong.
        StoreUnwritable: The store cannot be written.
    """
    source = Path(backup).absolute()
    check_store(source)
    target = Path(folder).absolute()
    with _made(source, target) as partial:
        _copy_moment(source, partial, progress)
        _copy_keys(source / "keys", partial / "keys", _keys.have_private_key(source / "keys"))
        faults = _verified(partial)
        if faults:
            raise _damaged(source, faults)
        found = _measured(partial)
    return Restored(target, *found)


@contextmanager
def _made(source: Path, target: Path) -> Iterator[Path]:
    """A folder that becomes the target when everything in it is written and synced."""
    if target.is_relative_to(source):
        raise NotAStore(f"{target} is in the store itself", remedy="name a folder beside it")
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise NotAStore(f"{target} is not empty", remedy="name an empty or a new folder")
        for folder in reversed([folder for folder in target.parents if not folder.exists()]):
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
        partial = target.with_name(f"{target.name}.partial-{os.urandom(4).hex()}")
        partial.mkdir(mode=0o700)
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        yield partial
        # Only now has the database its name: what a crash leaves is no store.
        (partial / f"{DATABASE}.partial").rename(partial / DATABASE)
        sync_folder(partial)
        # Takes the place of an empty folder.
        partial.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        _remove(partial)
        raise _unwritable(target, error) from error
    except BaseException:
        _remove(partial)
        raise


def _remove(partial: Path) -> None:
    import shutil

    shutil.rmtree(partial, ignore_errors=True)


def _copy_moment(source: Path, partial: Path, progress: Progress | None) -> None:
    while True:
        with moment(source) as opened:
            _copy_database(opened.connection, partial, progress, source)
            if not opened.disturbed:
                return
        (partial / f"{DATABASE}.partial").unlink()


def _copy_database(
    connection: sqlite3.Connection, partial: Path, progress: Progress | None, source: Path | None = None
) -> None:
    """Writes one moment of a database to a folder, synced."""
    if source is not None:
        _database.check_format(source, connection)
    file = partial / f"{DATABASE}.partial"
    # SQLite would make it readable for all.
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    total = _size(connection)
    stopped: list[BaseException] = []

    def look() -> int:
        try:
            if progress is not None:
                progress(min(file.stat().st_size, total), total)
        except BaseException as error:  # noqa: BLE001 - Ctrl-C arrives here too; SQLite would swallow it
            stopped.append(error)
        return len(stopped)

    connection.set_progress_handler(look, _STEPS)
    try:
        connection.execute("VACUUM INTO ?", (str(file),))
    except sqlite3.Error as error:
        if stopped:
            raise stopped[0] from None
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        raise _unwritable(file.parent, error) from error
    finally:
        connection.set_progress_handler(None, 0)
    opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
    if progress is not None:
        progress(file.stat().st_size, file.stat().st_size)


def _size(connection: sqlite3.Connection) -> int:
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * page_bytes)


def _copy_keys(source: Path, target: Path, keys: bool) -> None:
    target.mkdir(mode=0o700)
    if keys:
        _keys.copy_keys(source, target)
    else:
        _keys.copy_public_key(source, target)


@contextmanager
def _reading(partial: Path) -> Iterator[sqlite3.Connection]:
    address = f"{(partial / f'{DATABASE}.partial').as_uri()}?immutable=1"
    with _database.translated(partial), closing(sqlite3.connect(address, uri=True)) as connection:
        yield connection


def _measured(partial: Path) -> tuple[int, int, bool]:
    """Bytes and events of a copy, and whether its keys are in it."""
    with _reading(partial) as connection:
        events = sum(stream.length - stream.first + 1 for stream in _database.streams(connection))
    size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    return size, events, _keys.have_private_key(partial / "keys")


def _verified(partial: Path) -> list[Fault]:
    with _reading(partial) as connection:
        return verify_database(connection, lambda: _keys.public_key(partial / "keys"))


def _damaged(backup: Path, faults: list[Fault]) -> StoreDamaged:
    said = "; ".join(
        f"{fault.stream} {fault.first} to {fault.last}: {fault.detail}".strip()
        for fault in faults[:_NAMED_FAULTS]
    )
    more = f"; and {len(faults) - _NAMED_FAULTS} more" if len(faults) > _NAMED_FAULTS else ""
    return StoreDamaged(
        f"the backup {backup} is damaged: {said}{more}",
        remedy="use another backup; what can be saved of this one says docs/journal.md, Recovery",
    )


def _unwritable(target: Path, error: BaseException) -> Exception:
    """The error of ours where a copy cannot be written."""
    found = unwritable(target, error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    full = full or getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    remedy = "free space on that disk" if full else "look at that folder and its disk"
    return type(found)(f"{target} cannot be written: {error}", remedy=f"{remedy}, then do it again")
