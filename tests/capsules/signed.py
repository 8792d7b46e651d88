"""Keys that are always the same, capsules of every kind, signatures written by hand, and a tenant that asks for them."""

from __future__ import annotations

import base64
import functools
import json
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.sandbox.guests import tool

import capsa
from capsa import _native
from capsa.capsules import CapsuleSource, key_id, sign
from capsa.decisions import Settings

#: Two signers.
OURS: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
THEIRS: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
SPEC: Final = "name: router\noptions: [cheap, dear]\n"
OTHER_SPEC: Final = "name: router\noptions: [cheap, dear, dearest]\n"
#: The components of the worlds.
KINDS: Final = ("decision", "tool")


def public(key: Ed25519PrivateKey) -> str:
    """The key that verifies, in hexadecimal."""
    return key.public_key().public_bytes_raw().hex()


@functools.cache
def component(kind: str = "decision", version: int = 1) -> bytes:
    """A capsule named router, of either kind, without a signature."""
    if kind == "decision":
        return _native.compile_spec(SPEC if version == 1 else OTHER_SPEC)
    definition = {
        "schema": 1,
        "kind": "tool",
        "name": "router",
        "effect": "pure",
        "summary": str(version),
        "wants": {},
    }
    return _native.embed_tool_definition(tool().bytes, json.dumps(definition))


@functools.cache
def signed(kind: str = "decision", key: Ed25519PrivateKey = OURS, version: int = 1) -> bytes:
    """The same with a signature."""
    return sign(component(kind, version), "router", kind, key)


def source(content: bytes, name: str = "router") -> CapsuleSource:
    """A decision capsule as `read_source` gives it, whatever stands in it: what signing says is asked alone."""
    return CapsuleSource(name, content, _native.digest(content), "{}")


def payload(content: bytes, **other: Any) -> bytes:
    """What is signed of a component without a signature; `other` replaces or adds members."""
    facts = {
        "schema": 1,
        "name": "router",
        "kind": "decision",
        "digest": _native.digest(content),
        "size": len(content),
    }
    return canonical(facts | other)


def canonical(value: Any) -> bytes:
    """JSON as RFC 8785 writes it, of names in ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def pae(kind: str, content: bytes) -> bytes:
    """DSSE's encoding, written from its text once more."""
    return b" ".join(
        [b"DSSEv1", str(len(kind.encode())).encode(), kind.encode(), str(len(content)).encode(), content]
    )


def envelope(
    content: bytes,
    *,
    key: Ed25519PrivateKey = OURS,
    kind: str = "application/vnd.capsa.capsule+json",
) -> dict[str, Any]:
    """A DSSE envelope around a payload."""
    return {
        "payload": base64.b64encode(content).decode(),
        "payloadType": kind,
        "signatures": [
            {
                "keyid": key_id(public(key)),
                "sig": base64.b64encode(key.sign(pae(kind, content))).decode(),
            }
        ],
    }


def leb(number: int, pad: int = 0) -> bytes:
    """A number as LEB128, with so many bytes more than it takes."""
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        more = bool(number) or pad > 0
        out.append(low | (0x80 if more else 0))
        if not more:
            return bytes(out)
        if not number and pad:
            out += b"\x80" * (pad - 1) + b"\x00"
            return bytes(out)


def section(content: bytes, name: bytes = b"capsa:signature", *, pad: int = 0, pad_name: int = 0) -> bytes:
    """A custom section."""
    inner = leb(len(name), pad_name) + name + content
    return b"\0" + leb(len(inner), pad) + inner


def nested(content: bytes) -> bytes:
    """A component with another one inside."""
    return b"\0asm\x0d\x00\x01\x00" + b"\x04" + leb(len(content)) + content


def some_key(number: int) -> str:
    """A key of nobody."""
    return (number + 2).to_bytes(32, "little").hex()


def guarded(store: capsa.Store, allow: str, *keys: Any, tenant: str = "default") -> Settings:
    """Sets what a tenant lets in, and whom it trusts: us, if nobody is named."""
    return store.tenant(tenant).change_settings(
        install_allow=allow, trust=[public(key) for key in keys or (OURS,)]
    )
