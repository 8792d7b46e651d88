"""Makes the golden store of the present format: ``python -m tests.journal.golden_store FOLDER``.

A golden store is made once, when its format is new, and never again: it stands for the stores that users have.
The private key is not kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cbor2

from capsa import _native
from capsa.journal import EVENT_TYPES, SqliteJournal, _chain
from capsa.journal.sqlite._tables import FORMAT

ERASED = ("acme", 9)
#: Where each stream is cut: `acme` never is.
CUT = ("münchen", 9)
COMPONENT = b"\0asm\x0d\0\x01\0" + bytes(range(256)) * 4


def record(journal: SqliteJournal, numbers: range) -> None:
    """Events of all types; some with keys, some with a time."""
    for number in numbers:
        type_ = sorted(EVENT_TYPES)[number % len(EVENT_TYPES)]
        payload = cbor2.dumps({"n": number, "text": "ü" * (number % 7), "share": number / 60}, canonical=True)
        stream = "acme" if number % 3 else "münchen"
        path = ["", "default", "default/router"][number % 3]
        journal.append(
            stream,
            type_,
            1763734710123 + number * 997,
            f"key-{number % 4}",
            path,
            payload,
            once=[b"k%03d/%d" % (number, part) for part in range(number % 3)],
            due_ms=1763734800000 - number if number % 5 == 4 else None,
        )
        if number in (20, 45):
            journal.seal()


def make(folder: Path) -> None:
    """Writes the store, and beside it what it must read as."""
    # Payloads change more often than tables: a store holds events of several schemas.
    _chain.SCHEMA = 1  # type: ignore[misc]
    with SqliteJournal(folder) as journal:
        record(journal, range(30))
    _chain.SCHEMA = 2  # type: ignore[misc]
    with SqliteJournal(folder) as journal:
        record(journal, range(30, 60))
        journal.append("acme", "decided", 1763734800000, "local", "default/large", bytes(20_000))
        journal.put_blob(_native.digest(COMPONENT), COMPONENT)
        journal.erase(*ERASED)
        journal.cut(*CUT)
        journal.seal()
        journal.flush()
        (folder / "expected.json").write_text(
            json.dumps(expected(journal), indent=1, ensure_ascii=False) + "\n"
        )
    (folder / "keys/checkpoints.key").unlink()
    (folder / "cache").rmdir()
    (folder / "lock").unlink()


def expected(journal: SqliteJournal) -> dict[str, object]:
    """What the store must read as."""
    streams = journal.streams()
    return {
        "format": FORMAT,
        "public_key": journal.public_key.hex(),
        "blobs": {_native.digest(COMPONENT): COMPONENT.hex()},
        "checkpoints": [checkpoint.body.hex() for checkpoint in journal.checkpoints()],
        "first": {stream: journal.first(stream) for stream in streams},
        "cuts": {stream: journal.cuts(stream) for stream in streams},
        "claims": {
            stream: [[key.hex(), sequence] for key, sequence in journal.claims(stream, b"k")]
            for stream in streams
        },
        "due": [[at_ms, event.stream, event.sequence] for at_ms, event in journal.due(1 << 62, 1000)],
        "streams": {
            stream: [
                {
                    "schema": event.schema,
                    "time_ms": event.time_ms,
                    "type": event.type,
                    "principal": event.principal,
                    "path": event.path,
                    "payload": _native.digest(event.payload),
                    "erased": event.erased,
                }
                for event in journal.read(stream)
            ]
            for stream in streams
        },
    }


if __name__ == "__main__":
    make(Path(sys.argv[1]))
