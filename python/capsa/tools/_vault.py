"""The values of secrets: kept beside the journal, and never in it.

One file for a tenant, readable by its owner alone; in memory where the store is.
"""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Final

from capsa.errors import HostFault, InvalidField, shown

#: Most secrets of a tenant.
MAX_SECRETS: Final = 256
#: Longest value, in bytes: it has to stand in a header.
MAX_VALUE_BYTES: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Vault:
    """The secrets of a store. Safe to use from many threads.

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

    def set(self, tenant: str, name: object, value: object) -> None:
        """Sets a secret.

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
        with self._lock:
            changed = self._of(tenant) | {name: value}
            if len(changed) > MAX_SECRETS:
                raise InvalidField(
                    f"a tenant has at most {MAX_SECRETS} secrets", pointer="/name", remedy="remove one first"
                )
            self._write(tenant, changed)

    def remove(self, tenant: str, name: str) -> bool:
        """Removes a secret; whether there was one of this name.

        Raises:
            HostFault: The file cannot be written.
        """
        with self._lock:
            kept = dict(self._of(tenant))
            if kept.pop(name, None) is None:
                return False
            self._write(tenant, kept)
            return True

    def forget(self, tenant: str) -> None:
        """Removes all secrets of a tenant."""
        with self._lock:
            if self._of(tenant):
                self._write(tenant, {})

    def _of(self, tenant: str) -> dict[str, str]:
        found = self._read.get(tenant)
        if found is None:
            found = self._read[tenant] = (
                {} if self._folder is None else _load(self._folder / f"{tenant}.json")
            )
        return found

    def _write(self, tenant: str, values: dict[str, str]) -> None:
        if self._folder is not None:
            file = self._folder / f"{tenant}.json"
            try:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                if values:
                    _replace(file, json.dumps(values).encode())
                else:
                    file.unlink(missing_ok=True)
            except OSError as error:
                raise HostFault(
                    f"{file} cannot be written: {error.strerror}", remedy="see what its disk says"
                ) from None
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


def _replace(file: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    writing = file.with_suffix(".writing")
    writing.unlink(missing_ok=True)
    with os.fdopen(os.open(writing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    writing.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
