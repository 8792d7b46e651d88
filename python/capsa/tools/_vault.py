"""The values of secrets: kept beside the journal, and never in it.

One file for a tenant, readable by its owner alone; in memory where the store is. A change is written beside the file
first, then recorded by whoever makes it, then put in force: what ends the process in between leaves a record of a change
that did not come about, never a change without a record.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from capsa.errors import HostFault, InvalidField, shown
from capsa.journal import sync_folder

#: Most secrets of a tenant.
MAX_SECRETS: Final = 256
#: Longest value, in bytes: it has to stand in a header.
MAX_VALUE_BYTES: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Vault:
    """The secrets of a store.

    Read from many threads. A tenant's are changed by one at a time: whoever changes them sees to that.

    Args:
        folder: Where the files are; ``None`` = in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: dict[str, dict[str, str]] = {}

    def values(self, tenant: str) -> dict[str, str]:
        """The values of a tenant's secrets by name.

        Raises:
            HostFault: The file cannot be read, or others can.
        """
        with self._lock:
            return dict(self._of(tenant))

    @contextmanager
    def setting(self, tenant: str, name: object, value: object) -> Iterator[bool]:
        """Sets a secret once the block in it has ended well. Gives whether there was one of this name.

        Raises:
            InvalidField: The name or the value cannot be one; the value is not repeated.
            HostFault: The file cannot be written.
        """
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise InvalidField(
                f"{shown(name)!r} cannot be the name of a secret",
                pointer="/name",
                value=shown(name),
                remedy="use 1 to 64 of A-Z, a-z, 0-9, _ and -",
            )
        if not isinstance(value, str) or len(value) > MAX_VALUE_BYTES or _VALUE.fullmatch(value) is None:
            raise InvalidField(
                "the value cannot stand in a header",
                pointer="/value",
                remedy=f"send 1 to {MAX_VALUE_BYTES} visible ASCII characters, blanks only inside",
            )
        before = self.values(tenant)
        changed = before | {name: value}
        if len(changed) > MAX_SECRETS:
            raise InvalidField(
                f"a tenant has at most {MAX_SECRETS} secrets", pointer="/name", remedy="remove one first"
            )
        with self._changing(tenant, changed):
            yield name in before

    @contextmanager
    def removing(self, tenant: str, name: str) -> Iterator[bool]:
        """Removes a secret once the block in it has ended well. Gives whether there is one of this name.

        Raises:
            HostFault: The file cannot be read or written.
        """
        kept = self.values(tenant)
        if kept.pop(name, None) is None:
            yield False
            return
        with self._changing(tenant, kept):
            yield True

    def forget(self, tenant: str) -> None:
        """Removes all secrets of a tenant, whatever stands in its file.

        Raises:
            HostFault: The file cannot be removed.
        """
        with self._lock:
            if self._folder is not None:
                _remove(self._folder / f"{tenant}.json")
            self._read.pop(tenant, None)

    def _of(self, tenant: str) -> dict[str, str]:
        found = self._read.get(tenant)
        if found is None:
            found = self._read[tenant] = (
                {} if self._folder is None else _load(self._folder / f"{tenant}.json")
            )
        return found

    @contextmanager
    def _changing(self, tenant: str, values: dict[str, str]) -> Iterator[None]:
        """Writes the values beside the file, and puts them in its place once the block in it has ended well."""
        file = None if self._folder is None else self._folder / f"{tenant}.json"
        try:
            if file is not None and values:
                _draft(file, json.dumps(values).encode())
            yield
        except BaseException:
            if file is not None:
                with suppress(OSError):
                    _beside(file).unlink(missing_ok=True)
            raise
        if file is not None:
            if values:
                _publish(file)
            else:
                _remove(file)
        # Where the disk failed, what was before is still told: so the change can be made again.
        with self._lock:
            self._read[tenant] = values


def _load(file: Path) -> dict[str, str]:
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                raise HostFault(
                    f"{file} is open to other users", remedy=f"run chmod 600 {file}, if it is yours alone"
                )
            read = json.loads(opened.read())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise HostFault(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        # Whatever stands there is not repeated.
        raise HostFault(f"{file} holds no secrets", remedy="remove it, and set the secrets again") from None
    if not isinstance(read, dict) or not all(isinstance(value, str) for value in read.values()):
        raise HostFault(f"{file} holds no secrets", remedy="remove it, and set the secrets again")
    return read


def _beside(file: Path) -> Path:
    """Where a change is written before it counts."""
    return file.with_suffix(".writing")


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Raises HostFault for what the disk says."""
    try:
        yield
    except OSError as error:
        raise HostFault(
            f"{file} cannot be written: {error.strerror}", remedy="see what its disk says"
        ) from None


def _draft(file: Path, content: bytes) -> None:
    """Writes what is to become a file, beside it."""
    with _told(file):
        if not file.parent.exists():
            file.parent.mkdir(mode=0o700)
            sync_folder(file.parent.parent)
        draft = _beside(file)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())


def _publish(file: Path) -> None:
    """Puts what was written beside a file in its place, for good."""
    with _told(file):
        _beside(file).replace(file)
        sync_folder(file.parent)


def _remove(file: Path) -> None:
    """Removes a file for good, and what a crash has left beside it: neither is read."""
    with _told(file), suppress(FileNotFoundError):
        file.unlink(missing_ok=True)
        _beside(file).unlink(missing_ok=True)
        # Whether it was there or not: who removed it may have ended before this.
        sync_folder(file.parent)
