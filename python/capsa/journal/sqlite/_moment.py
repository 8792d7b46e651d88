"""One moment of a store, read without opening it: whoever holds it goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from capsa.errors import NotAStore
from capsa.journal._errors import damaged
from capsa.journal.sqlite import _database, _folder
from capsa.journal.sqlite._wal import refuse_damaged_log


class Moment:
    """A connection that only reads a store's database.

    Attributes:
        connection: Not in a transaction.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        held = _folder.holder(folder)
        if held is None:
            refuse_damaged_log(folder)
        log = folder / _folder.LOG
        # Without a log SQLite is told that nothing changes: otherwise it would make files beside the database.
        self._quiet = held is None and (not log.exists() or log.stat().st_size == 0)
        self._before = self._state()
        self.connection = sqlite3.connect(
            f"{(folder / _folder.DATABASE).as_uri()}?{'immutable=1' if self._quiet else 'mode=ro'}",
            uri=True,
            timeout=_database.BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
        )

    @property
    def disturbed(self) -> bool:
        """Whether somebody has opened the store since, who was not expected: then what was read may be torn."""
        return self._quiet and (_folder.holder(self._folder) is not None or self._state() != self._before)

    def _state(self) -> tuple[int, ...]:
        # Never opened here: closing a file drops the locks that SQLite has on it in this process.
        status = (self._folder / _folder.DATABASE).stat()
        log = self._folder / _folder.LOG
        return status.st_ino, status.st_size, status.st_mtime_ns, int(log.exists() and log.stat().st_size)


@contextmanager
def moment(folder: Path) -> Iterator[Moment]:
    """Lends a connection to the database of a store, in any state.

    Raises:
        NotAStore: There is no store.
        StoreDamaged: Its log is, or its database is gone.
    """
    check_store(folder)
    with _database.translated(folder):
        opened = Moment(folder)
        with closing(opened.connection):
            yield opened


def check_store(folder: Path) -> None:
    """Raises `NotAStore` where there is none, and `StoreDamaged` where only the log of one is left."""
    if (folder / _folder.DATABASE).is_file():
        return
    if (folder / _folder.LOG).exists():
        raise damaged(folder, f"there is {_folder.LOG} and no {_folder.DATABASE}")
    raise NotAStore(f"{folder} is no store", remedy="name the folder of a store")
