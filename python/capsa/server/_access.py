"""Who may call: the admin key, and in dev mode whoever is on this machine."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from capsa.errors import InvalidField
from capsa.server._problems import Refused

ENVIRONMENT: Final = "CAPSA_ADMIN_KEY"
#: Shortest key that is taken: `openssl rand -hex 16` has twice as many.
MIN_KEY: Final = 16
MAX_KEY: Final = 512
_SCHEME: Final = "bearer "


class Access:
    """What a request must show.

    Args:
        key: The admin key; ``None`` in dev mode, where none is asked for.
        local: Whether only this machine can connect over TCP, so that web pages have to be kept out.
    """

    def __init__(self, key: str | None, *, local: bool) -> None:
        self._digest = None if key is None else _digest(key)
        self._local = local
        self._principal = "dev-mode" if key is None else "key admin"

    @property
    def principal(self) -> str:
        """Who the events say they were caused by."""
        return self._principal

    def check(self, headers: Mapping[str, str]) -> None:
        """Lets a request pass.

        Raises:
            Refused: It shows no valid key; or, in dev mode, comes from a web page.
        """
        if self._digest is None:
            if self._local:
                _check_origin(headers)
            return
        if not self.has_key(headers):
            raise Refused(
                "unauthorized",
                "this needs the admin key",
                remedy="send Authorization: Bearer KEY",
                headers={"WWW-Authenticate": 'Bearer realm="capsa"'},
            )

    def lets_pass(self, headers: Mapping[str, str]) -> bool:
        """Whether `check` would let a request pass."""
        try:
            self.check(headers)
        except Refused:
            return False
        return True

    def has_key(self, headers: Mapping[str, str]) -> bool:
        """Whether a request shows the key; true for all in dev mode."""
        if self._digest is None:
            return True
        given = headers.get("Authorization", "")
        if given[: len(_SCHEME)].lower() != _SCHEME:
            return False
        # Digests are of one length, so that the time tells nothing of the key's.
        return hmac.compare_digest(_digest(given[len(_SCHEME) :].strip(" \t")), self._digest)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=32).digest()


def _check_origin(headers: Mapping[str, str]) -> None:
    """Refuses what a page of another site could have sent: it can reach this machine's ports, and name them as its own."""
    host = headers.get("Host", "")
    if not _is_local_name(host):
        raise Refused(
            "foreign-origin",
            "in dev mode this server answers to localhost only",
            pointer="Host",
            value=host[:80],
            remedy="call it as localhost, or start it with CAPSA_ADMIN_KEY",
        )
    origin = headers.get("Origin")
    if origin is not None and not _is_local_name(origin.partition("://")[2]):
        raise Refused(
            "foreign-origin",
            "in dev mode this server answers no web page of another site",
            pointer="Origin",
            value=origin[:80],
            remedy="start it with CAPSA_ADMIN_KEY",
        )


def _is_local_name(authority: str) -> bool:
    name = authority.rpartition(":")[0] if not authority.endswith("]") and ":" in authority else authority
    if name.lower().rstrip(".") == "localhost":
        return True
    return is_loopback(name.strip("[]"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name counts if it is ``localhost``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_key(file: str | Path | None) -> str | None:
    """The admin key from a file, or from the environment; ``None`` where there is none.

    Raises:
        InvalidField: It is too short or too long, is not printable ASCII, or other users can read the file.
        OSError: The file cannot be read.
    """
    if file is None:
        key = os.environ.get(ENVIRONMENT)
        return None if key is None else _checked(key.strip(), ENVIRONMENT)
    path = Path(file)
    with path.open(encoding="utf-8", errors="replace") as opened:
        mode = os.fstat(opened.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            raise InvalidField(
                f"{path} can be read by other users",
                pointer="/admin_key_file",
                remedy=f"chmod 600 {path}",
            )
        key = opened.read(MAX_KEY + 2).strip()
    return _checked(key, str(path))


def _checked(key: str, where: str) -> str:
    if not MIN_KEY <= len(key) <= MAX_KEY or not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidField(
            f"the admin key of {where} is not {MIN_KEY} to {MAX_KEY} printable ASCII characters without spaces",
            pointer="/admin_key",
            remedy="make one with: openssl rand -hex 32",
        )
    return key
