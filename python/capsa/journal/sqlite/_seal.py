"""The newest checkpoint of a store, and how the next one follows it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import TYPE_CHECKING

from capsa.journal import _chain
from capsa.journal._checkpoint import Checkpoint, decode, digest_of, sign
from capsa.journal.sqlite import _database
from capsa.journal.sqlite._group import Stream

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Seals:
    """The checkpoints of a store, seen from their end. The writing thread's own once there is one.

    Attributes:
        number: Of the newest one; 0 where there is none.
        digest: Its digest.
        since: The first one of the present key.
        cuts: What was cut, as the newest one says.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.number, self.digest, self.since = 0, _chain.NO_HEAD, 1
        self.cuts: dict[str, int] = {}
        last = _database.last_checkpoint(connection)
        if last is None:
            return
        self.number, body = last
        self.digest = digest_of(body)
        try:
            checkpoint = decode(body, b"")
        except ValueError:
            # `verify` says so. The next one follows it by its digest all the same.
            return
        self.since, self.cuts = checkpoint.since, checkpoint.cuts

    def add(
        self, connection: sqlite3.Connection, key: Ed25519PrivateKey, streams: Collection[Stream]
    ) -> Checkpoint:
        """Adds a checkpoint over the streams as they are written now."""
        written = [stream for stream in streams if stream.written]
        checkpoint = sign(
            key,
            self.number + 1,
            self.digest,
            {stream.name: (stream.written, stream.head) for stream in written},
            {stream.name: stream.first for stream in written if stream.first > 1},
            self.since,
        )
        connection.execute(
            "INSERT INTO checkpoint (number, body, signature) VALUES (?, ?, ?)",
            (checkpoint.number, checkpoint.body, checkpoint.signature),
        )
        self.number, self.digest, self.cuts = checkpoint.number, checkpoint.digest, checkpoint.cuts
        return checkpoint
