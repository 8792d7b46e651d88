"""Checkpoints: the heads of all streams, signed.

A chain shows that its events belong together; anybody can compute another one. A checkpoint
shows which one it was. It holds the digest of the checkpoint before it, so they are a chain too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import cbor2
import msgspec

from capsa.journal._chain import NO_HEAD

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_TYPE: Final = "capsa.checkpoint"
_SCHEMA: Final = 2
#: Of format 1: it has neither `cuts` nor `since`.
_OLD_SCHEMA: Final = 1


_FIELDS: Final = {
    _OLD_SCHEMA: {"heads", "number", "previous"},
    _SCHEMA: {"cuts", "heads", "number", "previous", "since"},
}


class Checkpoint(msgspec.Struct, frozen=True):
    """The heads of all streams at one moment, signed.

    Attributes:
        number: From 1, without gaps.
        previous: The digest of the checkpoint before it; 32 zero bytes in the first.
        heads: By stream: its length, and its head after that many events.
        body: What was signed: deterministic CBOR of the above.
        signature: Ed25519 over `body`, 64 bytes.
        cuts: By stream that was cut: the sequence of its first event.
        since: The first checkpoint of this key. Those before it were signed with another one: that they are the
            right ones follows from their digests.
    """

    number: int
    previous: bytes
    heads: dict[str, tuple[int, bytes]]
    body: bytes
    signature: bytes
    cuts: dict[str, int] = {}
    since: int = 1

    @property
    def digest(self) -> bytes:
        """The digest that the next checkpoint holds."""
        return digest_of(self.body)

    def signed_by(self, public_key: bytes) -> bool:
        """Whether the owner of a key, 32 bytes, has signed it."""
        # Loading cryptography takes 50 ms, which `import capsa` shall not.
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(self.signature, self.body)
        except InvalidSignature:
            return False
        return True


def digest_of(body: bytes) -> bytes:
    """The digest of a checkpoint's body."""
    return blake2b(body, digest_size=32).digest()


def sign(
    key: Ed25519PrivateKey,
    number: int,
    previous: bytes,
    heads: Mapping[str, tuple[int, bytes]],
    cuts: Mapping[str, int] | None = None,
    since: int = 1,
) -> Checkpoint:
    """The checkpoint with a number, after the one with the digest `previous`."""
    cuts = dict(cuts or {})
    body = cbor2.dumps(
        {
            "cuts": cuts,
            "heads": {name: [length, head] for name, (length, head) in heads.items()},
            "number": number,
            "previous": previous,
            "schema": _SCHEMA,
            "since": since,
            "type": _TYPE,
        },
        canonical=True,
    )
    return Checkpoint(number, previous, dict(heads), body, key.sign(body), cuts, since)


def decode(body: bytes, signature: bytes) -> Checkpoint:
    """A checkpoint as it is stored.

    Raises:
        ValueError: The body is not one that `sign` makes.
    """
    try:
        fields = cbor2.loads(body)
        if cbor2.dumps(fields, canonical=True) != body:
            raise ValueError("not deterministic CBOR")
        if (fields.pop("type"), schema := fields.pop("schema")) not in (
            (_TYPE, _OLD_SCHEMA),
            (_TYPE, _SCHEMA),
        ):
            raise ValueError("not a checkpoint of this version")
        if fields.keys() != _FIELDS[schema]:
            raise ValueError(f"a checkpoint of schema {schema} has other fields")
        heads = {name: (length, head) for name, (length, head) in fields.pop("heads").items()}
        return msgspec.convert(
            {**fields, "heads": heads, "body": body, "signature": signature}, Checkpoint, strict=True
        )
    except ValueError:
        raise
    except Exception as error:
        # CBOR can hold anything: a list where a map belongs, a tag, a key that cannot be hashed.
        raise ValueError(f"not a checkpoint: {error}") from error


def sound(
    stored: Iterable[tuple[int, bytes, bytes]], public_key: bytes
) -> tuple[list[Checkpoint], list[tuple[int, str]]]:
    """Which checkpoints hold, and what is wrong with the others.

    Args:
        stored: Number, body and signature of each, in order.
        public_key: Of whom they must be signed by.
    """
    read = [(at, _decoded(body, signature)) for at, body, signature in stored]
    signed, vouched = _signed(read, public_key)
    good: list[Checkpoint] = []
    faults = []
    number, previous = 0, NO_HEAD
    for at, checkpoint in read:
        if at != number + 1:
            faults.append((number + 1, f"checkpoints {number + 1} to {at - 1} are missing"))
        number = at
        if isinstance(checkpoint, ValueError):
            faults.append((at, f"checkpoint {at} cannot be read: {checkpoint}"))
            previous = b""
            continue
        if checkpoint.number != at or at not in signed | vouched:
            faults.append((at, f"checkpoint {at} is not signed with the key of this store"))
        else:
            good.append(checkpoint)
            # After a fault it cannot follow: that one is reported already.
            if checkpoint.previous != previous and not faults:
                faults.append((at, f"checkpoint {at} does not follow the one before it"))
        previous = checkpoint.digest
    return good, faults


def _decoded(body: bytes, signature: bytes) -> Checkpoint | ValueError:
    try:
        return decode(body, signature)
    except ValueError as error:
        return error


def _signed(
    read: Sequence[tuple[int, Checkpoint | ValueError]], public_key: bytes
) -> tuple[set[int], set[int]]:
    """The checkpoints that are signed with a key, and those of earlier keys that these vouch for by their digests."""
    signed: set[int] = set()
    vouched: set[int] = set()
    since: int | None = None
    wanted: bytes | None = None
    for at, checkpoint in reversed(read):
        if isinstance(checkpoint, ValueError):
            wanted = None
        elif since is None or at >= since:
            if checkpoint.signed_by(public_key):
                signed.add(at)
                # What the newest one says holds for all.
                since = since or checkpoint.since
            wanted = checkpoint.previous if at in signed else None
        elif checkpoint.digest == wanted:
            vouched.add(at)
            wanted = checkpoint.previous
        else:
            wanted = None
    return signed, vouched
