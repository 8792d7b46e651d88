"""The golden stores: every format that a version ever wrote can be opened, from the first day on."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tests.reference.cbor_profile import encode

from capsa.journal import SqliteJournal
from capsa.journal.sqlite import _database

GOLDEN = Path(__file__).with_name("golden")
FORMATS = sorted(folder.name for folder in GOLDEN.iterdir())


@pytest.fixture(params=FORMATS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden store, as a user would have it."""
    copy = tmp_path / "store"
    shutil.copytree(GOLDEN / request.param, copy)
    copy.chmod(0o700)
    return copy


def expected(store: Path) -> Any:
    return json.loads((store / "expected.json").read_text())


def test_there_is_a_golden_store_of_every_format() -> None:
    assert [f"format-{number}" for number in range(1, _database.FORMAT + 1)] == FORMATS


def test_a_golden_store_opens_and_holds_what_was_written(store: Path) -> None:
    """Every field of every event, the blobs and the checkpoints; it is intact, and goes on."""
    wanted = expected(store)
    key = bytes.fromhex(wanted["public_key"])
    with SqliteJournal(store) as journal:
        assert journal.verify(key) == journal.verify() == []
        assert journal.streams() == sorted(wanted["streams"])
        for stream, events in wanted["streams"].items():
            read = list(journal.read(stream))
            assert [event.sequence for event in read] == list(range(1, len(events) + 1))
            for event, fields in zip(read, events, strict=True):
                found = {name: getattr(event, name) for name in fields}
                assert {**found, "payload": event.payload_digest} == fields
        for digest, data in wanted["blobs"].items():
            assert journal.blob(digest) == bytes.fromhex(data)
        assert [checkpoint.body.hex() for checkpoint in journal.checkpoints()] == wanted["checkpoints"]
        assert sum(event["erased"] for events in wanted["streams"].values() for event in events) == 1
        event = journal.append("acme", "decided", 1, "local", "default/router", b"\xa0")
        journal.wait(event)
        assert event.sequence == len(wanted["streams"]["acme"]) + 1
        assert journal.verify(key) == []


def test_an_auditor_needs_none_of_our_code() -> None:
    """SQLite, BLAKE2b, Ed25519 and docs/journal.md are enough to check a store."""
    store = GOLDEN / "format-1"
    heads: dict[str, list[bytes]] = {}
    with closing(sqlite3.connect(f"{(store / 'store.sqlite').as_uri()}?immutable=1", uri=True)) as database:
        names = dict(database.execute("SELECT id, name FROM stream"))
        rows = database.execute(
            "SELECT e.id, time_ms, schema, type, principal, path, salt, payload, digest "
            "FROM event e JOIN origin o ON o.id = e.origin ORDER BY e.id"
        )
        for number, time_ms, schema, type_, principal, path, salt, payload, erased in rows:
            stream, sequence = names[number // 2**40], number % 2**40
            header = {
                "schema": schema,
                "stream": stream,
                "sequence": sequence,
                "time_ms": time_ms,
                "type": type_,
                "principal": principal,
                "path": path,
                "digest": erased or blake2b(salt + payload, digest_size=32).digest(),
            }
            chain = heads.setdefault(stream, [bytes(32)])
            assert len(chain) == sequence
            chain.append(blake2b(chain[-1] + encode(header), digest_size=32).digest())
        ends = {
            name: (length, head)
            for name, length, head in database.execute("SELECT name, length, head FROM stream")
        }
        assert ends == {name: (len(chain) - 1, chain[-1]) for name, chain in heads.items()}
        checkpoints = database.execute(
            "SELECT number, body, signature FROM checkpoint ORDER BY number"
        ).fetchall()
    key: Any = load_pem_public_key((store / "keys/checkpoints.pub").read_bytes())
    previous = bytes(32)
    lengths = [{"acme": 14, "münchen": 7}, {"acme": 30, "münchen": 16}]
    for number, body, signature in checkpoints:
        key.verify(signature, body)
        sealed = {name: [length, heads[name][length]] for name, length in lengths[number - 1].items()}
        assert body == encode(
            {"type": "capsa.checkpoint", "schema": 1, "number": number, "previous": previous, "heads": sealed}
        )
        previous = blake2b(body, digest_size=32).digest()
    assert len(checkpoints) == 2


def test_a_copy_of_a_golden_store_with_one_bit_less_is_not_intact(store: Path) -> None:
    """The tests above look at what they say."""
    with closing(sqlite3.connect(store / "store.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE event SET time_ms = time_ms + 1 WHERE id = (SELECT max(id) FROM event)")
    with SqliteJournal(store) as journal:
        assert [fault.kind for fault in journal.verify()] == ["changed"]
