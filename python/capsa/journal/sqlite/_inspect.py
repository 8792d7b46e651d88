"""Looking at a store without opening it: it is not changed, not locked, and may be in use or broken."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from capsa.errors import CapsaError, HostFault, NotAStore, StoreDamaged, StoreReadOnly
from capsa.journal._checkpoint import Checkpoint
from capsa.journal._event import Event
from capsa.journal._verify import Fault
from capsa.journal.sqlite import _database, _folder, _index, _keys
from capsa.journal.sqlite._moment import Moment, check_store, moment
from capsa.journal.sqlite._tables import FORMAT
from capsa.journal.sqlite._verify import verify_database

_PAGE_EVENTS = 1000


def inspect(folder: str | Path) -> Inspection:
    """Looks at a store.

    Raises:
        NotAStore: There is none.
        OSError: The folder cannot be read.
    """
    return Inspection(Path(folder).absolute())


class Inspection:
    """A store at one moment. To be closed; for one thread.

    It can say what is wrong with a store that cannot be opened. SQLite may leave ``store.sqlite-shm`` behind, where
    a process was killed that had the store open.

    Attributes:
        folder: Of the store.
        known_format: The newest format that this version knows.
        format: Of its database; ``None`` where it cannot be told.
        held_by: The process that has it open; ``None`` where nobody has.
        files: All files with their sizes, by their paths in the folder.
        problems: Why it cannot be read or used, with the remedies. Faults of its events are found by `verify`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known_format = FORMAT
        self.format: int | None = None
        self.problems: list[CapsaError] = []
        with self._noted():
            # Where only its log is left it is a store, and damaged.
            check_store(folder)
        self.held_by = _folder.holder(folder)
        self.files = {
            str(file.relative_to(folder)): file.stat().st_size
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        with self._noted():
            _folder.refuse_network(folder, _folder.file_system)
        self._look_at_rights()
        self._opened = ExitStack()
        self._moment: Moment | None = None
        if (folder / _folder.DATABASE).exists():
            with self._noted():
                self._begin()

    def _begin(self) -> None:
        with _database.translated(self.folder), ExitStack() as opened:
            found = opened.enter_context(moment(self.folder))
            found.connection.execute("BEGIN")
            self.format = _database.format_of(found.connection)
            _database.check_format(self.folder, found.connection)
            # Reads a first page: a file that is no database is told now.
            _database.streams(found.connection)
            self._moment, self._opened = found, opened.pop_all()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except CapsaError as error:
            if isinstance(error, NotAStore) and not (self.folder / _folder.DATABASE).exists():
                raise
            self.problems.append(error)

    def _look_at_rights(self) -> None:
        keys = self.folder / "keys"
        secret = (*sorted(keys.glob("*.key")), *sorted(keys.glob("*.secret")))
        for path in (self.folder, keys, *secret):
            if not path.exists():
                self.problems.append(StoreDamaged(f"{path} is missing", remedy="bring it back from a backup"))
            elif path.stat().st_mode & 0o077:
                rights = "700" if path.is_dir() else "600"
                self.problems.append(
                    HostFault(
                        f"{path} is open to other users",
                        remedy=f"run chmod {rights} {path}, if nobody has read it",
                    )
                )
        if not os.access(self.folder, os.W_OK):
            self.problems.append(
                StoreReadOnly(f"{self.folder} may not be written", remedy="make it writable for this user")
            )

    @property
    def readable(self) -> bool:
        """Whether what follows can be asked."""
        return self._moment is not None

    @property
    def disturbed(self) -> bool:
        """Whether somebody has opened the store since: then what was read may be torn, and is to be read anew."""
        return self._moment is not None and self._moment.disturbed

    def streams(self) -> list[str]:
        """As in `Journal`."""
        return sorted(self._rows())

    def length(self, stream: str) -> int:
        """As in `Journal`."""
        row = self._rows().get(stream)
        return row.length if row else 0

    def first(self, stream: str) -> int:
        """As in `Journal`."""
        row = self._rows().get(stream)
        return row.first if row else 1

    def cuts(self, stream: str) -> list[int]:
        """As in `Journal`; none in a store of format 1."""
        row = self._rows().get(stream)
        if row is None or self.format == 1:
            return []
        with self._asked() as connection:
            return list(_index.anchors(connection, row.id))

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """As in `Journal`.

        Raises:
            StoreDamaged: Events are missing.
        """
        row = self._rows().get(stream)
        return islice(self._pages(row, after), limit) if row else iter(())

    def _pages(self, row: _database.StreamRow, after: int) -> Iterator[Event]:
        for at in range(max(after, row.first - 1), row.length, _PAGE_EVENTS):
            count = min(_PAGE_EVENTS, row.length - at)
            with self._asked() as connection:
                events = _database.read_events(connection, self.folder, row.id, row.name, at, count)
            yield from events

    def blob(self, digest: str) -> bytes:
        """As in `Journal`.

        Raises:
            UnknownBlob: There is none.
            StoreDamaged: It has changed.
        """
        with self._asked() as connection:
            data = _database.read_blob(connection, digest)
        return _database.checked_blob(self.folder, digest, data)

    def checkpoints(self, after: int = 0) -> list[Checkpoint]:
        """As in `Journal`.

        Raises:
            StoreDamaged: One of them cannot be read.
        """
        with self._asked() as connection:
            return _database.read_checkpoints(connection, self.folder, after)

    def secrets(self) -> list[str]:
        """As in `Journal`."""
        return _keys.secrets(self.folder / "keys")

    def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """As in `Journal`.

        Raises:
            StoreError: The public key is gone, and none is given.
        """
        with self._asked() as connection:
            return verify_database(connection, lambda: public_key or _keys.public_key(self.folder / "keys"))

    def close(self) -> None:
        """Ends looking. Once more changes nothing."""
        self._moment = None
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Inspection {self.folder}>"

    def _rows(self) -> dict[str, _database.StreamRow]:
        with self._asked() as connection:
            return {row.name: row for row in _database.streams(connection)}

    @contextmanager
    def _asked(self) -> Iterator[sqlite3.Connection]:
        if self._moment is None:
            raise ValueError(f"{self.folder} cannot be read: see `problems`")
        with _database.translated(self.folder):
            yield self._moment.connection
