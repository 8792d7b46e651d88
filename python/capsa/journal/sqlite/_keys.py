"""What a store keeps secret, in its folder of keys: the key that signs its checkpoints, and named secrets.

```text
checkpoints.key   Ed25519, PEM, mode 0600
checkpoints.pub   Ed25519, PEM
NAME.secret       32 bytes in hexadecimal, mode 0600
previous.pub      in a copy without keys: the public key of the store that it is a copy of
```
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from capsa.errors import HostFault, StoreError
from capsa.journal._secrets import SECRET_BYTES
from capsa.journal.sqlite._folder import sync_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PRIVATE: Final = "checkpoints.key"
_PUBLIC: Final = "checkpoints.pub"
_PREVIOUS: Final = "previous.pub"
_NAMED: Final = ".secret"
_HEXADECIMAL: Final = re.compile(rb"[0-9a-f]{%d}\n?" % (2 * SECRET_BYTES))


def make_key(folder: Path) -> None:
    """Makes the key of a new store; one that is there already is kept."""
    publish(folder, make_private_key(folder))


def make_private_key(folder: Path) -> Ed25519PrivateKey:
    """Makes the key that signs; one that is there already is kept."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    if (folder / _PRIVATE).exists():
        return private_key(folder)
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(folder / _PRIVATE, secret, 0o600)
    return key


def publish(folder: Path, key: Ed25519PrivateKey) -> None:
    """Writes the key that verifies what another one signs."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    write_file(folder / _PUBLIC, public, 0o644)


def of_a_copy(folder: Path) -> bool:
    """Whether these are the keys of a copy without keys, which has none of its own yet."""
    return (folder / _PREVIOUS).exists() and not (folder / _PUBLIC).exists()


def copy_keys(source: Path, target: Path) -> None:
    """Copies all keys and secrets.

    Raises:
        StoreError: One cannot be read, or there is none.
        HostFault: Other users can read one.
    """
    public = [source / _PUBLIC, *(file for file in (source / _PREVIOUS,) if file.exists())]
    secret = [source / _PRIVATE, *(source / f"{name}{_NAMED}" for name in secrets(source))]
    for file in public:
        write_file(target / file.name, _read(file), 0o644)
    for file in secret:
        write_file(target / file.name, _read_secret(file), 0o600)


def copy_public_key(source: Path, target: Path) -> None:
    """Copies the one key that is no secret, under the name that says whose it is."""
    file = source / (_PREVIOUS if of_a_copy(source) else _PUBLIC)
    write_file(target / _PREVIOUS, _read(file), 0o644)


def have_private_key(folder: Path) -> bool:
    """Whether there is a key that signs."""
    return (folder / _PRIVATE).exists()


def private_key(folder: Path) -> Ed25519PrivateKey:
    """The key that signs.

    Raises:
        StoreError: It is gone, or is none.
        HostFault: Other users can read it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    file = folder / _PRIVATE
    secret = _read_secret(file)
    try:
        key = load_pem_private_key(secret, None)
    except (TypeError, ValueError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file)
    return key


def public_key(folder: Path) -> bytes:
    """The key that verifies, 32 bytes; in a copy without keys that of the store that it is a copy of.

    Raises:
        StoreError: It is gone, or is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    file = folder / (_PREVIOUS if of_a_copy(folder) else _PUBLIC)
    try:
        key = load_pem_public_key(_read(file))
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(file)
    return key.public_bytes_raw()


def secret(folder: Path, name: str) -> bytes:
    """The secret of a name; made where there is none. For one thread at a time.

    Raises:
        StoreError: It cannot be read, or is none.
        HostFault: Other users can read it.
        OSError: It cannot be made.
    """
    file = folder / f"{name}{_NAMED}"
    if not file.exists():
        made = os.urandom(SECRET_BYTES)
        write_file(file, made.hex().encode() + b"\n", 0o600)
        return made
    text = _read_secret(file)
    if not _HEXADECIMAL.fullmatch(text):
        raise StoreError(
            f"{file} does not hold {SECRET_BYTES} bytes in hexadecimal", remedy="bring it back from a backup"
        )
    return bytes.fromhex(text.decode())


def secrets(folder: Path) -> list[str]:
    """The names of all secrets, sorted."""
    return sorted(file.name.removesuffix(_NAMED) for file in folder.glob(f"*{_NAMED}"))


def _read_secret(file: Path) -> bytes:
    content = _read(file)
    if file.stat().st_mode & 0o077:
        raise HostFault(
            f"{file} is open to other users", remedy=f"run chmod 600 {file}, if nobody has read it"
        )
    return content


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{file} cannot be read: {error.strerror}", remedy="bring it back from a backup"
        ) from error


def _no_key(file: Path) -> StoreError:
    return StoreError(f"{file} holds no Ed25519 key in PEM", remedy="bring it back from a backup")


def write_file(file: Path, content: bytes, mode: int) -> None:
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
