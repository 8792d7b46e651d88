"""The golden stores: every format that a version ever wrote can be opened, from the first day on."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tests.reference.cbor_profile import encode

from capsa.journal import SqliteJournal
from capsa.journal.sqlite._tables import FORMAT

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
    found = json.loads((store / "expected.json").read_text())
    # The first format knew nothing of these; its events of two types tell where it may be cut.
    beside = {"format": 1, "claims": {}, "due": []}
    cuts = {
        stream: [at for at, event in enumerate(events, 1) if event["type"] in ("snapshot_sealed", "purged")]
        for stream, events in found["streams"].items()
    }
    return {**beside, "cuts": cuts, **found}


def test_there_is_a_golden_store_of_every_format() -> None:
    assert [f"format-{number}" for number in range(1, FORMAT + 1)] == FORMATS


def test_a_golden_store_opens_and_holds_what_was_written(store: Path) -> None:
    """Every field of every event, the blobs and the checkpoints; it is intact, and goes on."""
    wanted = expected(store)
    key = bytes.fromhex(wanted["public_key"])
    with SqliteJournal(store) as journal:
        assert journal.verify(key) == journal.verify() == []
        assert journal.streams() == sorted(wanted["streams"])
        for stream, events in wanted["streams"].items():
            first = wanted.get("first", {}).get(stream, 1)
            assert journal.first(stream) == first
            read = list(journal.read(stream))
            assert [event.sequence for event in read] == list(range(first, first + len(events)))
            for event, fields in zip(read, events, strict=True):
                found = {name: getattr(event, name) for name in fields}
                assert {**found, "payload": event.payload_digest} == fields
        for digest, data in wanted["blobs"].items():
            assert journal.blob(digest) == bytes.fromhex(data)
        assert [checkpoint.body.hex() for checkpoint in journal.checkpoints()] == wanted["checkpoints"]
        assert sum(event["erased"] for events in wanted["streams"].values() for event in events) == 1
        event = journal.append("acme", "decided", 1, "local", "default/router", b"\xa0")
        journal.wait(event)
        assert event.sequence == wanted.get("first", {}).get("acme", 1) + len(wanted["streams"]["acme"])
        assert journal.verify(key) == []


def test_a_golden_store_keeps_what_stands_beside_its_events(store: Path) -> None:
    """Keys, times, and places to cut at: of the first format, those that its events tell."""
    wanted = expected(store)
    with SqliteJournal(store) as journal:
        assert journal.migrated_from == (1 if wanted["format"] == 1 else None)
        for stream, cuts in wanted["cuts"].items():
            assert journal.cuts(stream) == cuts
            found = [[key.hex(), sequence] for key, sequence in journal.claims(stream, b"k")]
            assert found == wanted["claims"].get(stream, [])
        due = [[at_ms, event.stream, event.sequence] for at_ms, event in journal.due(1 << 62, 100)]
        assert due == wanted["due"]
        journal.release(b"l")
        assert journal.claims("acme", b"k") == []


@pytest.mark.parametrize("name", FORMATS)
def test_an_auditor_needs_none_of_our_code(name: str) -> None:
    """SQLite, CBOR, BLAKE2b, Ed25519 and docs/journal.md are enough to check a store."""
    store = GOLDEN / name
    heads: dict[str, dict[int, bytes]] = {}
    with closing(sqlite3.connect(f"{(store / 'store.sqlite').as_uri()}?immutable=1", uri=True)) as database:
        names = dict(database.execute("SELECT id, name FROM stream"))
        if name != "format-1":
            for number, first, head in database.execute(
                "SELECT s.id, s.first, a.head FROM stream s JOIN anchor a ON a.event = s.id * (1 << 40) + s.first"
            ):
                if first > 1:
                    heads[names[number]] = {first - 1: head}
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
            chain = heads.setdefault(stream, {0: bytes(32)})
            assert max(chain) == sequence - 1
            chain[sequence] = blake2b(chain[sequence - 1] + encode(header), digest_size=32).digest()
        ends = {
            name: (length, head)
            for name, length, head in database.execute("SELECT name, length, head FROM stream")
        }
        assert ends == {name: (max(chain), chain[max(chain)]) for name, chain in heads.items()}
        checkpoints = database.execute(
            "SELECT number, body, signature FROM checkpoint ORDER BY number"
        ).fetchall()
    key: Any = load_pem_public_key((store / "keys/checkpoints.pub").read_bytes())
    previous = bytes(32)
    compared = 0
    for number, body, signature in checkpoints:
        key.verify(signature, body)
        says = cbor2.loads(body)
        assert encode(says) == body
        assert (says["type"], says["number"], says["previous"]) == ("capsa.checkpoint", number, previous)
        for stream, (length, head) in says["heads"].items():
            # What was cut off cannot be compared any more.
            if length >= min(heads[stream]):
                assert heads[stream][length] == head
                compared += 1
        previous = blake2b(body, digest_size=32).digest()
    cuts = {stream: min(chain) + 1 for stream, chain in heads.items() if min(chain)}
    assert (says.get("cuts", {}), says.get("since", 1)) == (cuts, 1)
    assert (len(checkpoints), compared) == {"format-1": (2, 4), "format-2": (4, 7)}[name]


def test_a_copy_of_a_golden_store_with_one_bit_less_is_not_intact(store: Path) -> None:
    """The tests above look at what they say."""
    with closing(sqlite3.connect(store / "store.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE event SET time_ms = time_ms + 1 WHERE id = (SELECT max(id) FROM event)")
    with SqliteJournal(store) as journal:
        assert [fault.kind for fault in journal.verify()] == ["changed"]
