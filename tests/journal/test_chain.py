"""The bytes that are hashed and signed are those of docs/journal.md."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.reference.cbor_profile import encode

from capsa.journal import MemoryJournal, _chain

DOCUMENT = Path(__file__).parents[2] / "docs/journal.md"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1))


def written_down() -> list[dict[str, Any]]:
    """The golden vectors of the document: events of one stream, from its first."""
    [block] = re.findall(r"^```json\n(.*?)^```", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
    vectors: list[dict[str, Any]] = json.loads(block)
    return vectors


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32).digest()


def test_the_golden_vectors_follow_from_the_document() -> None:
    """With nothing but an encoder of a few lines and BLAKE2b; and the journal computes the same."""
    head = ours = bytes(32)
    vectors = written_down()
    assert len(vectors) > 1
    for sequence, vector in enumerate(vectors, 1):
        salt, payload = bytes.fromhex(vector["salt"]), bytes.fromhex(vector["payload"])
        fields = vector["event"]
        assert fields["sequence"] == sequence
        header = encode({**fields, "digest": digest(salt + payload)})
        head = digest(head + header)
        assert (header.hex(), head.hex()) == (vector["header"], vector["head"])

        parts = _chain.Header(*(fields[name] for name in ("schema", "stream", "type", "principal", "path")))
        written = parts.encode(fields["time_ms"], sequence, _chain.salted_digest(salt, payload))
        ours = _chain.next_head(ours, written)
        assert (written.hex(), ours.hex()) == (vector["header"], vector["head"])


@given(
    schema=numbers,
    stream=texts,
    type_=texts,
    principal=texts,
    path=texts,
    time_ms=numbers,
    sequence=numbers,
    salted=st.binary(min_size=32, max_size=32),
)
def test_a_header_is_deterministic_cbor(
    schema: int,
    stream: str,
    type_: str,
    principal: str,
    path: str,
    time_ms: int,
    sequence: int,
    salted: bytes,
) -> None:
    """Whatever stands in it, an encoder that knows nothing of headers gives the same bytes."""
    ours = _chain.Header(schema, stream, type_, principal, path).encode(time_ms, sequence, salted)
    assert ours == encode(
        {
            "schema": schema,
            "stream": stream,
            "type": type_,
            "principal": principal,
            "path": path,
            "time_ms": time_ms,
            "sequence": sequence,
            "digest": salted,
        }
    )


@given(names=st.lists(texts, unique=True, max_size=5))
def test_the_body_of_a_checkpoint_is_deterministic_cbor(names: list[str]) -> None:
    """As the document describes it, over the heads of all streams."""
    journal = MemoryJournal()
    for name in names:
        journal.append(name, "decided", 1, "local", "", b"")
    first, second = journal.seal(), journal.seal()
    for number, checkpoint in enumerate((first, second), 1):
        assert checkpoint.body == encode(
            {
                "type": "capsa.checkpoint",
                "schema": 2,
                "number": number,
                "since": 1,
                "cuts": {},
                "previous": digest(first.body) if number == 2 else bytes(32),
                "heads": {name: [length, head] for name, (length, head) in checkpoint.heads.items()},
            }
        )
    assert sorted(second.heads) == sorted(names)


def test_salts_differ() -> None:
    """Equal payloads have different digests: what was erased cannot be guessed."""
    heads = set()
    for _ in range(20):
        journal = MemoryJournal()
        journal.append("acme", "decided", 1, "local", "", b"yes")
        heads.add(journal.seal().heads["acme"][1])
    assert len(heads) == 20
