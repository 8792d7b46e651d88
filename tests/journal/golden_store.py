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
from capsa.journal import EVENT_TYPES, SqliteJournal

ERASED = ("acme", 9)


def make(folder: Path) -> None:
    """Writes the store, and beside it what it must read as."""
    component = b"\0asm\x0d\0\x01\0" + bytes(range(256)) * 4
    with SqliteJournal(folder) as journal:
        for number in range(60):
            type_ = sorted(EVENT_TYPES)[number % len(EVENT_TYPES)]
            payload = cbor2.dumps(
                {"n": number, "text": "ü" * (number % 7), "share": number / 60}, canonical=True
            )
            stream = "acme" if number % 3 else "münchen"
            path = ["", "default", "default/router"][number % 3]
            journal.append(stream, type_, 1763734710123 + number * 997, f"key-{number % 4}", path, payload)
            if number in (20, 45):
                journal.seal()
        journal.append("acme", "decided", 1763734800000, "local", "default/large", bytes(20_000))
        journal.put_blob(_native.digest(component), component)
        journal.erase(*ERASED)
        journal.flush()
        expected = {
            "public_key": journal.public_key.hex(),
            "blobs": {_native.digest(component): component.hex()},
            "checkpoints": [checkpoint.body.hex() for checkpoint in journal.checkpoints()],
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
                for stream in journal.streams()
            },
        }
    (folder / "keys/checkpoints.key").unlink()
    (folder / "cache").rmdir()
    (folder / "lock").unlink()
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
