"""Signatures of capsules: who vouches for a component.

A DSSE envelope with one Ed25519 signature stands in the last section of the component, so one file says it all. What is
signed is the capsule's name and kind, and digest and size of everything before that section.

Invariants:

* Only a section that is, to the byte, the one that signing writes is read: there is one spelling of a signature, so no byte of
  a signed file can change, and nothing can hide in the envelope.
* Only sections of the component itself count: what is nested in it, or looks like a section, is content.
* A signature names its key by a digest, and never brings it along: whom to believe is the reader's choice.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from capsa.errors import HostFault, InvalidCapsule, InvalidField, shown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: The custom section that holds the envelope.
SECTION: Final = b"capsa:signature"
#: What the payload of the envelope is.
PAYLOAD_TYPE: Final = "application/vnd.capsa.capsule+json"
#: Most bytes of an envelope; ours have about 450.
MAX_ENVELOPE_BYTES: Final = 4096
#: Most sections of a component that may be signed: the walk over them is Python.
MAX_SECTIONS: Final = 20_000
#: The files of a pair of keys.
PRIVATE: Final = "signing.key"
PUBLIC: Final = "signing.pub"
#: No file of a key is longer.
_MAX_KEY_BYTES: Final = 4096

#: How a component starts, and the number of a custom section in it.
_HEADER: Final = b"\0asm\x0d\x00\x01\x00"
_CUSTOM: Final = 0
_SIGNATURE_BYTES: Final = 64
_KEY_ID: Final = re.compile(r"b2:[0-9a-f]{64}")
_REMEDY: Final = "take the file as its signer wrote it, or sign the component anew"

#: The field of Curve25519, and the y of its points of small order: under such a key anybody can sign.
_FIELD: Final = 2**255 - 19
_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL: Final = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})


class Signature(msgspec.Struct, frozen=True):
    """What a component's signature says, before any key was asked whether it holds.

    Attributes:
        key_id: The id of the key that is said to have signed.
        digest: ``b2:`` and the BLAKE2b-256 digest of what is signed: the component without its signature.
        signed: The bytes that are signed: DSSE's encoding of type and payload.
        value: The signature over them, 64 bytes.
    """

    key_id: str
    digest: str
    signed: bytes
    value: bytes


class KeyPair(NamedTuple):
    """Where a new pair of keys was written.

    Attributes:
        private: The file of the key that signs.
        public: The file of the key that verifies.
        key: That one, as 64 hexadecimal digits.
    """

    private: Path
    public: Path
    key: str


class _Signed(msgspec.Struct, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A DSSE envelope."""

    payload: str
    payloadType: str  # noqa: N815 - as DSSE spells it
    signatures: list[_Signed]


def sign(component: bytes, name: str, kind: str, key: Ed25519PrivateKey) -> bytes:
    """A component with a signature as its last section.

    Args:
        component: What `read_source` accepts as a capsule.
        name: The capsule's name.
        kind: ``decision`` or ``tool``.
        key: The key that signs.

    Raises:
        InvalidCapsule: It has a signature already, or is no component.
    """
    if any(section.name == SECTION for section in _sections(component)):
        raise InvalidCapsule(
            f"{name} has a signature already", remedy="sign the component that was signed, as it was before"
        )
    payload = _payload(name, kind, _digest(component), len(component))
    value = key.sign(pae(PAYLOAD_TYPE, payload))
    return component + _section(key_id(key.public_key().public_bytes_raw().hex()), value, payload)


def read_signature(component: bytes, name: str, kind: str) -> Signature | None:
    """The signature of a component; ``None`` where it has none. `signer` says whether it holds.

    Args:
        component: What `read_source` accepts as a capsule.
        name: The capsule's name.
        kind: ``decision`` or ``tool``.

    Raises:
        InvalidCapsule: There is a section of a signature, and it is not the one that signing this capsule writes.
    """
    if SECTION not in component:
        # Most have none: no need to walk.
        return None
    sections = list(_sections(component))
    found = [section for section in sections if section.name == SECTION]
    if not found:
        return None
    if len(found) > 1:
        raise _unlike(f"{name} has {len(found)} signatures; it may have one")
    [section] = found
    if section is not sections[-1]:
        raise _unlike(f"something stands behind the signature of {name}, which it does not cover")
    envelope, key, value = _read_envelope(component[section.content :])
    # From here on only what follows from the component counts; the envelope is held against it.
    body = memoryview(component)[: section.start]
    digest = _digest(body)
    payload = _payload(name, kind, digest, len(body))
    if _decoded(envelope.payload) != payload:
        raise _unlike(f"the signature of {name} is of something else than this component")
    if component[section.start :] != _section(key, value, payload):
        raise _unlike(f"the signature of {name} is not spelled as signing does")
    return Signature(key, digest, pae(PAYLOAD_TYPE, payload), value)


def signer(signature: Signature, keys: Collection[str]) -> str:
    """The key among some under which a signature holds.

    Args:
        signature: As `read_signature` gave it.
        keys: Public keys, as `public_key` gives them.

    Raises:
        InvalidCapsule: None of them has the id that it names, or it does not hold under the one that has.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = next((key for key in keys if key_id(key) == signature.key_id), None)
    if key is None:
        raise InvalidCapsule(f"it is signed with another key, {shown(signature.key_id)}")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature.value, signature.signed)
    except InvalidSignature:
        raise _unlike(f"its signature was not made with the key that it names, {signature.key_id}") from None
    return key


def pae(payload_type: str, payload: bytes) -> bytes:
    """What DSSE signs: type and payload, each with its length, so that neither can be taken for a part of the other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(key: str) -> str:
    """The id of a public key: ``b2:`` and the BLAKE2b-256 digest of its 32 bytes."""
    return _digest(bytes.fromhex(key))


def public_key(text: object) -> str:
    """An Ed25519 key that verifies, as 64 hexadecimal digits.

    Args:
        text: These, or the key in PEM.

    Raises:
        InvalidField: It is no such key, or one under which anybody could sign.
    """
    raw = _raw_key(text) if isinstance(text, str) else None
    if raw is None:
        raise InvalidField(
            "this is no public Ed25519 key",
            pointer="/key",
            value=None if isinstance(text, str) and "PRIVATE" in text else shown(text),
            remedy=f"give the content of a {PUBLIC} (PEM), or 64 hexadecimal digits; and keep the private one to yourself",
        )
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _FIELD or y in _SMALL:
        raise InvalidField(
            "under this key anybody could sign",
            pointer="/key",
            value=raw.hex(),
            remedy="ask for a key that capsa author keygen made",
        )
    return raw.hex()


def make_keys(folder: Path) -> KeyPair:
    """Makes a pair of keys in a folder, which is made where it is missing; the private one for this user alone.

    Raises:
        InvalidField: One of the files is there: no key is overwritten.
        OSError: The files cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pair = folder / PRIVATE, folder / PUBLIC
    for file in pair:
        if os.path.lexists(file):
            raise _is_there(file)
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for file, content, mode in ((pair[0], private, 0o600), (pair[1], public, 0o644)):
        try:
            opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise _is_there(file) from None
        with os.fdopen(opened, "wb") as writing:
            writing.write(content)
            writing.flush()
            os.fsync(writing.fileno())
    return KeyPair(*pair, key.public_key().public_bytes_raw().hex())


def private_key(file: Path) -> Ed25519PrivateKey:
    """The key that signs.

    Raises:
        InvalidField: The file holds none; what it holds is not repeated.
        HostFault: Other users can read it.
        OSError: It cannot be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with file.open("rb") as opened:
        if os.fstat(opened.fileno()).st_mode & 0o077:
            raise HostFault(
                f"{file} is open to other users", remedy=f"run chmod 600 {file}, if nobody has read it"
            )
        content = opened.read(_MAX_KEY_BYTES)
    try:
        key = load_pem_private_key(content, None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        # A TypeError where it is encrypted.
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidField(
            f"{file} holds no private Ed25519 key",
            pointer="/key",
            value=shown(file),
            remedy=f"name a {PRIVATE} that capsa author keygen made, in PEM and without a password",
        )
    return key


def _is_there(file: Path) -> InvalidField:
    return InvalidField(
        f"{file} is there already",
        pointer="/folder",
        value=shown(file.parent),
        remedy="name another folder: what a lost key has signed cannot be signed with it again",
    )


def _raw_key(text: str) -> bytes | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text = text.strip()
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    if len(text) > _MAX_KEY_BYTES:
        return None
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else None


def _payload(name: str, kind: str, digest: str, size: int) -> bytes:
    return _canonical({"schema": 1, "name": name, "kind": kind, "digest": digest, "size": size})


def _section(key: str, value: bytes, payload: bytes) -> bytes:
    """The section of a signature."""
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key, "sig": base64.b64encode(value).decode()}],
    }
    content = _length(len(SECTION)) + SECTION + _canonical(envelope)
    return bytes([_CUSTOM]) + _length(len(content)) + content


def _canonical(value: object) -> bytes:
    """RFC 8785, for names in ASCII, texts and small whole numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes | memoryview) -> str:
    """As `capsa._native.digest`, of a part of a component without copying it."""
    return f"b2:{hashlib.blake2b(content, digest_size=32).hexdigest()}"


def _read_envelope(content: bytes) -> tuple[_Envelope, str, bytes]:
    """An envelope, the id of the key in it, and the signature's bytes."""
    if len(content) > MAX_ENVELOPE_BYTES:
        raise _unlike(f"its signature has more than {MAX_ENVELOPE_BYTES} bytes")
    try:
        envelope = msgspec.json.decode(content, type=_Envelope)
    except (ValueError, RecursionError):
        # What stands there is not repeated: it may be made to look like something else at a terminal.
        raise _unlike("its signature is no DSSE envelope") from None
    if envelope.payloadType != PAYLOAD_TYPE or len(envelope.signatures) != 1:
        raise _unlike(f"its envelope is not of type {PAYLOAD_TYPE} with one signature")
    [signed] = envelope.signatures
    value = _decoded(signed.sig)
    if len(value) != _SIGNATURE_BYTES or not _KEY_ID.fullmatch(signed.keyid):
        raise _unlike("its signature is not one of an Ed25519 key with an id")
    return envelope, signed.keyid, value


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _unlike("its signature is no base64") from None


def _unlike(detail: str) -> InvalidCapsule:
    return InvalidCapsule(detail, pointer="/signature", remedy=_REMEDY)


class _Place(NamedTuple):
    """A section of a component.

    Attributes:
        start: Where its number stands.
        name: Of a custom section; else ``None``.
        content: Where a custom section's content begins, behind its name; else where its payload does.
    """

    start: int
    name: bytes | None
    content: int


def _sections(component: bytes) -> Iterator[_Place]:
    """The sections of a component, nested ones apart; the walk of `crates/capsa-author/src/sections.rs`.

    Raises:
        InvalidCapsule: It is no component, ends within a section, or has too many.
    """
    if not component.startswith(_HEADER):
        raise InvalidCapsule("this is no component", remedy="wrap it as a component")
    at = len(_HEADER)
    for _ in range(MAX_SECTIONS):
        if at == len(component):
            return
        start, number = at, component[at]
        length, at = _read_length(component, at + 1, len(component))
        end, name, content = at + length, None, at
        if number == _CUSTOM:
            length, content = _read_length(component, at, end)
            name, content = component[content : content + length], content + length
        if end > len(component) or content > end:
            raise _cut_off()
        yield _Place(start, name, content)
        at = end
    if at != len(component):
        raise InvalidCapsule(
            f"the component has more than {MAX_SECTIONS} sections, too many to look for a signature among them",
            remedy="build it with fewer",
        )


def _length(length: int) -> bytes:
    """A length as LEB128, in as few bytes as it takes."""
    out = bytearray()
    while length >= 0x80:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([*out, length])


def _read_length(component: bytes, at: int, end: int) -> tuple[int, int]:
    """A length as LEB128, in at most 5 bytes, and where it ends. What is past 32 bits is past any component, too."""
    length = 0
    for shift in range(0, 35, 7):
        if at >= min(end, len(component)):
            raise _cut_off()
        byte = component[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    else:
        raise _cut_off()
    return length, at


def _cut_off() -> InvalidCapsule:
    return InvalidCapsule("the component ends within a section", remedy="build it anew")
