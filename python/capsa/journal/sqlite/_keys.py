"""The key that signs a store's checkpoints: two PEM files in its folder of keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from capsa.errors import HostFault, StoreError
from capsa.journal.sqlite._folder import sync_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PRIVATE: Final = "checkpoints.key"
_PUBLIC: Final = "checkpoints.pub"


def make_key(folder: Path) -> None:
    """Makes the key of a new store; one that is there already is kept."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    if (folder / _PRIVATE).exists():
        key = private_key(folder)
    else:
        key = Ed25519PrivateKey.generate()
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(folder / _PRIVATE, secret, 0o600)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write(folder / _PUBLIC, public, 0o644)


def private_key(folder: Path) -> Ed25519PrivateKey:
    """The key that signs.

    Raises:
        StoreError: It is gone, or is none.
        HostFault: Other users can read it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    file = folder / _PRIVATE
    secret = _read(file)
    if file.stat().st_mode & 0o077:
        raise HostFault(
            f"{file} is open to other users", remedy=f"run chmod 600 {file}, if nobody has read it"
        )
    try:
        key = load_pem_private_key(secret, None)
    except (TypeError, ValueError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file)
    return key


def public_key(folder: Path) -> bytes:
    """The key that verifies, 32 bytes.

    Raises:
        StoreError: It is gone, or is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    file = folder / _PUBLIC
    try:
        key = load_pem_public_key(_read(file))
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(file)
    return key.public_bytes_raw()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{file} cannot be read: {error.strerror}", remedy="bring it back from a backup"
        ) from error


def _no_key(file: Path) -> StoreError:
    return StoreError(f"{file} holds no Ed25519 key in PEM", remedy="bring it back from a backup")


def _write(file: Path, content: bytes, mode: int) -> None:
    """Writes a file whole, or not at all."""
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    opened = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.write(opened, content)
        os.fsync(opened)
    finally:
        os.close(opened)
    draft.replace(file)
    sync_folder(file.parent)
