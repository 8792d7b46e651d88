"""A signature holds for one file to the byte, one name, one kind and one key, and has one spelling."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.capsules import signed as by_hand
from tests.capsules.signed import (
    KINDS,
    OURS,
    SPEC,
    THEIRS,
    canonical,
    component,
    envelope,
    leb,
    nested,
    payload,
    public,
    section,
    signed,
    source,
)

from capsa import _native
from capsa.capsules import key_id, public_key, read_source, sign, signer
from capsa.capsules._signing import _SMALL, MAX_ENVELOPE_BYTES, MAX_SECTIONS, PAYLOAD_TYPE, pae
from capsa.errors import CapsaError, InvalidCapsule, InvalidField

HEADER: Final = b"\0asm\x0d\x00\x01\x00"
#: What a walk over sections meets: numbers, and payloads of any content. Custom ones have a name.
SECTIONS: Final = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 12), st.binary(max_size=300)),
        st.tuples(st.just(0), st.binary(max_size=20).map(lambda name: leb(len(name)) + name + b"content")),
    ),
    max_size=6,
)


def believed(content: bytes, keys: list[str] | None = None, name: str = "router") -> str:
    """The key that has signed a decision capsule; the way of an install, without the sandbox."""
    found = source(content, name).signature
    if found is None:
        raise InvalidCapsule("not signed")
    return signer(found, [public(OURS)] if keys is None else keys)


def faulty(content: bytes) -> str:
    """What is said of a component whose signature no key is asked about."""
    with pytest.raises(InvalidCapsule) as caught:
        assert source(content).signature is not None
    assert caught.value.pointer == "/signature"
    assert caught.value.remedy
    return caught.value.detail


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_signed_is_verified(kind: str) -> None:
    """And is the same capsule: its definition and its code are where they were."""
    plain, whole = read_source(component(kind)), read_source(signed(kind))
    assert plain.signature is None
    assert whole.signature is not None
    assert signer(whole.signature, [public(THEIRS), public(OURS)]) == public(OURS)
    assert whole.component[: len(plain.component)] == plain.component
    assert (whole.signature.digest, whole.signature.key_id) == (plain.digest, key_id(public(OURS)))
    assert (whole.name, whole.kind, whole.definition) == (plain.name, kind, plain.definition)
    assert read_and_believed(signed(kind)) == public(OURS)
    # What a store calls it by is all of it.
    assert whole.digest == _native.digest(signed(kind)) != plain.digest


@given(
    sections=SECTIONS, seed=st.binary(min_size=32, max_size=32), name=st.from_regex(r"\A[a-z0-9_-]{1,64}\Z")
)
def test_any_component_any_key_and_any_name_can_be_signed(
    sections: list[tuple[int, bytes]], seed: bytes, name: str
) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    content = HEADER + b"".join(bytes([number]) + leb(len(body)) + body for number, body in sections)
    whole = sign(content, name, "decision", key)
    assert believed(whole, [public(key)], name) == public(key)
    assert source(content).signature is None
    for other in (public(OURS), public(THEIRS)):
        with pytest.raises(InvalidCapsule, match="another key"):
            believed(whole, [other], name)
    with pytest.raises(InvalidCapsule, match="something else"):
        believed(whole, [public(key)], name + "0")


def test_no_byte_can_be_changed() -> None:
    """Any bit of any byte: of the component, of the section's head, of the envelope, of the signature."""
    whole = signed()
    assert believed(whole)
    for at in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[at] ^= 1 << bit
            with pytest.raises(CapsaError):
                believed(bytes(changed))


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_of_what_is_installed_can_be_changed(kind: str) -> None:
    """The way that an install goes, names and kinds read from the file."""
    whole = signed(kind)
    for at in [*range(0, len(component(kind)), 7), *range(len(component(kind)), len(whole), 3)]:
        changed = whole[:at] + bytes([whole[at] ^ (1 + at % 255)]) + whole[at + 1 :]
        with pytest.raises(CapsaError):
            read_and_believed(changed)


def read_and_believed(content: bytes) -> str:
    found = read_source(content).signature
    if found is None:
        raise InvalidCapsule("not signed")
    return signer(found, [public(OURS)])


@given(at=st.integers(0, len(signed())), cut=st.integers(0, 40), put=st.binary(max_size=40))
@example(at=len(signed()), cut=0, put=b"\0")
@example(at=len(signed()), cut=0, put=section(b"", b"x"))
@example(at=len(component()), cut=len(signed()), put=b"")
@settings(max_examples=500)
def test_nothing_can_be_cut_or_put_in(at: int, cut: int, put: bytes) -> None:
    """Anywhere."""
    whole = signed()
    changed = whole[:at] + put + whole[at + cut :]
    if changed == whole:
        assert believed(changed)
    else:
        with pytest.raises(CapsaError):
            believed(changed)


def test_the_signature_of_another_capsule_does_not_hold() -> None:
    """Behind other code, or by another name or kind of the same code."""
    mine, other = component(), component(version=2)
    moved = other + signed()[len(mine) :]
    assert "something else" in faulty(moved)
    assert "something else" in faulty(component("tool") + signed()[len(mine) :])
    for claimed in (
        {"name": "other"},
        {"kind": "tool"},
        {"size": len(mine) + 1},
        {"digest": _native.digest(b"")},
    ):
        assert "something else" in faulty(mine + section(canonical(envelope(payload(mine, **claimed)))))
    # It is these that make the difference.
    assert believed(mine + section(canonical(envelope(payload(mine))))) == public(OURS)


def test_another_key_does_not_hold() -> None:
    """Nor one that says it is ours."""
    with pytest.raises(InvalidCapsule, match="another key"):
        believed(signed(key=THEIRS))
    with pytest.raises(InvalidCapsule, match="another key"):
        believed(signed(), [])
    forged = envelope(payload(component()), key=THEIRS)
    forged["signatures"][0]["keyid"] = key_id(public(OURS))
    with pytest.raises(InvalidCapsule, match="not made with the key"):
        believed(component() + section(canonical(forged)))


#: What the spellings below are of: always the same bytes, so that their signature has each kind of character.
FIXED: Final = HEADER + section(b"golden", b"x")


def spelled(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The signed capsule with its envelope spelled otherwise: bytes, or a document that is written canonically."""
    said = change(envelope(payload(FIXED)))
    return FIXED + section(said if isinstance(said, bytes) else canonical(said))


def with_signature(said: dict[str, Any], **other: Any) -> dict[str, Any]:
    return said | {"signatures": [said["signatures"][0] | other]}


def flipped_last_bits(text: str) -> str:
    """The same bytes in base64, with bits set that no byte has."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bare = text.rstrip("=")
    assert bare != text, "no bits to spare"
    last = alphabet[alphabet.index(bare[-1]) + 1]
    again = bare[:-1] + last + "=" * (len(text) - len(bare))
    assert base64.b64decode(again) == base64.b64decode(text)
    return again


#: The same signature, which holds for any reader that is less exact, spelled otherwise.
SPELLINGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a blank": lambda said: canonical(said).replace(b":", b": ", 1),
    "an end of line": lambda said: canonical(said) + b"\n",
    "another order": lambda said: json.dumps(
        dict(sorted(said.items(), reverse=True)), separators=(",", ":")
    ).encode(),
    "an escape": lambda said: canonical(said).replace(b'"payload"', b'"p\\u0061yload"'),
    "a slash with an escape": lambda said: canonical(said).replace(b"application/", b"application\\/"),
    "an unknown member": lambda said: said | {"more": 1},
    "an unknown member of the signature": lambda said: with_signature(said, cert="x"),
    "a member twice": lambda said: b'{"payload":"AA==",' + canonical(said)[1:],
    "the payload twice, alike": lambda said: (
        b'{"payload":' + canonical(said["payload"]) + b"," + canonical(said)[1:]
    ),
    "no key id": lambda said: said | {"signatures": [{"sig": said["signatures"][0]["sig"]}]},
    "an empty key id": lambda said: with_signature(said, keyid=""),
    "a key id that is none": lambda said: with_signature(said, keyid="\x1b[31mus"),
    "a key id in capitals": lambda said: with_signature(said, keyid=said["signatures"][0]["keyid"].upper()),
    "no signature": lambda said: said | {"signatures": []},
    "two signatures": lambda said: said | {"signatures": said["signatures"] * 2},
    "a second signer": lambda said: (
        said | {"signatures": said["signatures"] + envelope(payload(FIXED), key=THEIRS)["signatures"]}
    ),
    "signatures of another type": lambda said: said | {"signatures": said["signatures"][0]},
    "another type": lambda said: said | {"payloadType": "application/vnd.in-toto+json"},
    "no type": lambda said: {name: value for name, value in said.items() if name != "payloadType"},
    "base64 for addresses": lambda said: with_signature(
        said, sig=said["signatures"][0]["sig"].replace("/", "_").replace("+", "-")
    ),
    "base64 without its end": lambda said: with_signature(said, sig=said["signatures"][0]["sig"].rstrip("=")),
    "base64 with bits to spare": lambda said: with_signature(
        said, sig=flipped_last_bits(said["signatures"][0]["sig"])
    ),
    "base64 with a blank": lambda said: with_signature(said, sig=said["signatures"][0]["sig"] + " "),
    "a payload with a blank": lambda said: said | {"payload": said["payload"] + " "},
    "a longer signature": lambda said: with_signature(
        said, sig=base64.b64encode(base64.b64decode(said["signatures"][0]["sig"]) + b"\0").decode()
    ),
    "a shorter signature": lambda said: with_signature(
        said, sig=base64.b64encode(base64.b64decode(said["signatures"][0]["sig"])[:-1]).decode()
    ),
    "a byte order mark": lambda said: b"\xef\xbb\xbf" + canonical(said),
    "not UTF-8": lambda said: canonical(said).replace(b"capsule+", b"caps\xfcle+"),
    "not JSON": lambda _: b"signed",
    "nothing": lambda _: b"",
    "a list": lambda said: [said],
    "null": lambda _: b"null",
    "much": lambda said: said | {"payload": "A" * MAX_ENVELOPE_BYTES},
    "deep": lambda _: b"[" * 4000,
}
#: A payload that says something else, or the same otherwise; its signature is right.
PAYLOADS: dict[str, Callable[[bytes], bytes]] = {
    "an unknown member": lambda mine: payload(mine, more=1),
    "another schema": lambda mine: payload(mine, schema=2),
    "a schema as a text": lambda mine: payload(mine, schema="1"),
    "a size as a fraction": lambda mine: payload(mine, size=float(len(mine))),
    "a digest of another kind": lambda mine: payload(mine, digest=_native.digest(mine).upper()),
    "a blank": lambda mine: payload(mine) + b" ",
    "a member twice": lambda mine: b'{"digest":"b2:00",' + payload(mine)[1:],
    "not JSON": lambda _: b"router",
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_signature_has_one_spelling(spelling: str) -> None:
    changed = spelled(SPELLINGS[spelling])
    assert changed != spelled(lambda said: said)
    assert faulty(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_signing_writes_what_the_page_says(kind: str) -> None:
    """An envelope that is written by hand."""
    said = envelope(payload(component(kind), kind=kind))
    assert signed(kind) == component(kind) + section(canonical(said))


def test_a_long_envelope_is_not_read() -> None:
    assert f"more than {MAX_ENVELOPE_BYTES} bytes" in faulty(spelled(SPELLINGS["much"]))


def test_the_one_spelling_is_taken() -> None:
    """It is what the others differ in that is refused."""
    assert spelled(lambda said: said) == sign(FIXED, "router", "decision", OURS)
    assert believed(spelled(lambda said: said)) == public(OURS)


@pytest.mark.parametrize("written", PAYLOADS)
def test_a_payload_has_one_spelling(written: str) -> None:
    """Though it is signed as it stands."""
    said = envelope(PAYLOADS[written](component()))
    assert "something else" in faulty(component() + section(canonical(said)))


def test_a_signature_over_another_type_is_not_taken() -> None:
    """Of the very same payload: what a key signs for another purpose is no capsule."""
    mine = component()
    said = envelope(payload(mine), kind="application/vnd.other+json") | {"payloadType": PAYLOAD_TYPE}
    with pytest.raises(InvalidCapsule, match="not made with the key"):
        believed(mine + section(canonical(said)))


MINE: Final = component()
ENVELOPE: Final = signed()[len(MINE) :]
CONTENT: Final = canonical(envelope(payload(MINE)))
#: Sections in which a signature may be missed, or found where none counts.
PLACES: dict[str, tuple[bytes, str]] = {
    "twice": (signed() + ENVELOPE, "2 signatures"),
    "one of each signer": (signed() + signed(key=THEIRS)[len(MINE) :], "2 signatures"),
    "something behind it": (signed() + section(b"", b"name"), "stands behind"),
    "before the definition": (HEADER + ENVELOPE + MINE[8:], "stands behind"),
    "an empty one behind it": (signed() + section(b""), "2 signatures"),
    "a length that is longer than it need be": (MINE + section(CONTENT, pad=1), "not spelled"),
    "a length of five bytes": (MINE + section(CONTENT, pad=3), "not spelled"),
    "a name whose length is": (MINE + section(CONTENT, pad_name=1), "not spelled"),
}
#: What is no WebAssembly, for whatever reads it.
BROKEN: dict[str, bytes] = {
    "a byte behind it": signed() + b"\0",
    "half a section behind it": signed() + b"\x00\x05\x01",
    "cut off": signed()[:-1],
    "without its last length": MINE + ENVELOPE[:2],
    "a length of six bytes": MINE + section(CONTENT, pad=4),
    "a length past 32 bits": MINE + b"\0\xff\xff\xff\xff\x7f" + ENVELOPE[3:],
    "a name past its section": MINE + b"\0\x03\x0fcapsa:signature",
    "another format": b"\0asm\x01\x00\x00\x00" + signed()[8:],
}


@pytest.mark.parametrize("what", PLACES)
def test_a_signature_has_one_place(what: str) -> None:
    """The last section of the component, and no other."""
    content, said = PLACES[what]
    assert said in faulty(content)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_refused(what: str) -> None:
    with pytest.raises(InvalidCapsule):
        believed(BROKEN[what])
    with pytest.raises(CapsaError):
        read_source(BROKEN[what])


def test_a_signature_inside_counts_for_nothing() -> None:
    """A component within a component, a section within a section, or text that looks like one."""
    for content in (
        nested(signed()),
        HEADER + section(ENVELOPE, b"data"),
        HEADER + section(CONTENT, b"capsa:signature2"),
        HEADER + b"\x01" + leb(len(ENVELOPE)) + ENVELOPE,
    ):
        assert source(content).signature is None
        # Signed itself, it is what the outer signature covers.
        whole = sign(content, "router", "decision", THEIRS)
        assert believed(whole, [public(OURS), public(THEIRS)]) == public(THEIRS)
        with pytest.raises(InvalidCapsule, match="another key"):
            believed(whole)


def test_a_walk_has_an_end() -> None:
    """A file of the smallest sections there are; the one that a walk over them all would take seconds for."""
    most = HEADER + section(b"", b"") * (MAX_SECTIONS - 1)
    assert believed(sign(most, "router", "decision", OURS)) == public(OURS)
    more = HEADER + section(b"", b"") * MAX_SECTIONS + section(CONTENT)
    with pytest.raises(InvalidCapsule, match="too many"):
        believed(more)


def test_what_is_signed_is_not_signed_again() -> None:
    with pytest.raises(InvalidCapsule, match="already"):
        sign(signed(), "router", "decision", THEIRS)
    with pytest.raises(InvalidCapsule, match="no component"):
        sign(SPEC.encode(), "router", "decision", OURS)


def test_the_vector_of_the_specification_of_dsse() -> None:
    """protocol.md of secure-systems-lab/dsse: ``PAE(type, "hello world")``."""
    kind = "http://example.com/HelloWorld"
    assert pae(kind, b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    # Bytes are counted, not characters.
    assert pae("é", b"\0\xff") == b"DSSEv1 2 \xc3\xa9 2 \0\xff"


@given(first=st.tuples(st.text(), st.binary()), second=st.tuples(st.text(), st.binary()))
def test_no_two_things_are_signed_alike(first: tuple[str, bytes], second: tuple[str, bytes]) -> None:
    assert (pae(*first) == pae(*second)) == (first == second)
    assert pae(*first) == by_hand.pae(*first)


def test_the_format_stays() -> None:
    """A component that was signed once, by a key of the numbers from 0 to 31."""
    content = HEADER + section(b"golden", b"x")
    assert public(OURS) == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    whole = sign(content, "golden", "decision", OURS)
    assert whole == content + section(GOLDEN)
    assert believed(whole, name="golden") == public(OURS)


GOLDEN: Final = (
    b'{"payload":"eyJkaWdlc3QiOiJiMjo4N2MyMTZhMjcxYTE0NzM4MTA2NzRhZjk1MGQzMzg2NjlkZWQ2OTM4ZGJkZTgwYzk5MzYyZmMwMjEzYWRkZWI0Iiw'
    b'ia2luZCI6ImRlY2lzaW9uIiwibmFtZSI6ImdvbGRlbiIsInNjaGVtYSI6MSwic2l6ZSI6MTh9","payloadType":"application/vnd.capsa.capsule+j'
    b'son","signatures":[{"keyid":"b2:9d24e2eeaf27c2a088a564a32fc03a882dcd9804dbc0d03a119491e54ba0c933","sig":"4O9klDkmG6ZHR18yS6'
    b'KAoVFV3h273WXGgCyw192kBEF9H4gmCLQuVeMXLkfq7gkjVifIwtC0xZ8N2Dg/lBbrDg=="}]}'
)


# Keys


@pytest.mark.parametrize("y", sorted(_SMALL))
@pytest.mark.parametrize("sign_bit", [0, 1])
def test_a_key_under_which_anybody_could_sign_is_refused(y: int, sign_bit: int) -> None:
    """For each there is a signature that nobody made: the neutral point, and zero."""
    raw = (y | sign_bit << 255).to_bytes(32, "little")
    with pytest.raises(InvalidField, match="anybody"):
        public_key(raw.hex())
    if sign_bit and y in (0, 1, 2**255 - 20):
        return
    forged = (1).to_bytes(32, "little") + bytes(32)
    assert any(holds(raw, forged, bytes([number])) for number in range(100)), "a key that need not be refused"


def holds(raw: bytes, value: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(value, message)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize("y", [2**255 - 19, 2**255 - 18, 2**255 - 1])
def test_a_key_has_one_spelling(y: int) -> None:
    """Numbers past the field are other spellings of small ones."""
    with pytest.raises(InvalidField):
        public_key(y.to_bytes(32, "little").hex())


def test_a_key_is_read_from_hexadecimal_and_pem() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (public(OURS), public(OURS).upper(), f"{public(OURS)}\n", pem, pem.replace("\n", "\r\n")):
        assert public_key(text) == public(OURS)
    assert key_id(public(OURS)) == _native.digest(bytes.fromhex(public(OURS)))


@pytest.mark.parametrize(
    "wrong", ["", "ab", "g" * 64, public(OURS)[:-1], public(OURS) + "00", "a" * 5000, None, 5, b"a" * 64]
)
def test_what_is_no_key_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidField) as caught:
        public_key(wrong)
    assert caught.value.remedy
    assert len(caught.value.value or "") <= 80


def test_another_kind_of_key_and_a_private_one_are_refused() -> None:
    """And a private one is not repeated."""
    from cryptography.hazmat.primitives.asymmetric import ec, x25519
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    for other in (ec.generate_private_key(ec.SECP256R1()), x25519.X25519PrivateKey.generate()):
        pem = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(InvalidField):
            public_key(pem.decode())
    private = OURS.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(InvalidField) as caught:
        public_key(private)
    for line in private.splitlines()[1:-1]:
        assert line not in f"{caught.value} {caught.value.value}"
