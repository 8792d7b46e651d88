"""What every journal does, whatever it is kept in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from capsa.journal._checkpoint import Checkpoint
from capsa.journal._event import Event
from capsa.journal._verify import Fault

#: Largest payload of an event.
MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
#: Largest blob.
MAX_BLOB_BYTES: Final = 256 * 1024 * 1024
#: Most events that one `follow` answers.
FOLLOW_EVENTS: Final = 1000


class Journal(Protocol):
    """Events in streams, one stream per tenant. Safe to use from many threads."""

    @property
    def persistent(self) -> bool:
        """Whether what was recorded outlives the process."""

    @property
    def public_key(self) -> bytes:
        """The Ed25519 key that checkpoints are verified with, 32 bytes."""

    def append(
        self, stream: str, type_: str, time_ms: int, principal: str, path: str, payload: bytes
    ) -> Event:
        """Adds one event and gives it its place in the stream. It is not durable yet: see `wait`.

        Takes microseconds. Where more is appended than the disk takes, the caller waits; nothing is dropped.

        Args:
            stream: The tenant.
            type_: One of `EVENT_TYPES`.
            time_ms: When it happened, milliseconds since 1970, UTC.
            principal: Who caused it.
            path: What it is about.
            payload: At most `MAX_PAYLOAD_BYTES`.

        Raises:
            StoreUnwritable: The journal failed.
            ValueError: A type that does not exist, or a number or text that cannot be written.
        """

    def wait(self, event: Event) -> None:
        """Returns once `event` and everything before it in its stream is on disk.

        Raises:
            StoreUnwritable: It may never be. After the store is opened again the journal tells.
        """

    def flush(self) -> None:
        """Waits for everything that was appended so far, as `wait` does."""

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The durable events of one stream in order, from after a sequence number, at most `limit`.

        Those that were durable when reading began are all there.
        """

    def follow(self, stream: str, after: int, timeout_s: float) -> list[Event]:
        """The durable events after a sequence number; waits for the first one.

        At most `FOLLOW_EVENTS`, in order; none where nothing came in `timeout_s` seconds.
        """

    def length(self, stream: str) -> int:
        """The sequence number of the stream's last event, durable or not; 0 where there is none."""

    def streams(self) -> list[str]:
        """The names of all streams, sorted."""

    def put_blob(self, digest: str, data: bytes) -> None:
        """Keeps bytes by their digest. They are durable when this returns.

        Args:
            digest: ``b2:`` and the BLAKE2b-256 digest of `data` in hexadecimal.
            data: At most `MAX_BLOB_BYTES`.

        Raises:
            ValueError: The digest is another one.
            StoreUnwritable: The journal failed.
        """

    def blob(self, digest: str) -> bytes:
        """The bytes with a digest, which is checked.

        Raises:
            UnknownBlob: There are none.
            StoreDamaged: They have changed.
        """

    def seal(self) -> Checkpoint:
        """Signs the heads of all streams, with everything appended so far, and keeps the checkpoint."""

    def checkpoints(self, after: int = 0) -> list[Checkpoint]:
        """The checkpoints from after a number on, as they are kept; `verify` tells whether they hold."""

    def erase(self, stream: str, sequence: int) -> None:
        """Removes the payload and the salt of one event for good. Its header and the chain stay.

        Read again it has an empty payload and ``erased=True``. Erasing once more changes nothing.
        That something was erased, by whom and why, is for an event of the caller to say.

        Raises:
            UnknownEvent: There is no such event.
        """

    def verify(self, public_key: bytes | None = None) -> list[Fault]:
        """Everything that is not as it was written; nothing if the journal is intact.

        Args:
            public_key: The key that the checkpoints were signed with, kept elsewhere. Without it the journal's
                own is taken: whoever can replace that one too can sign what he likes.
        """

    def close(self) -> None:
        """Writes what is queued, then ends the use of the journal. Once more changes nothing.

        Raises:
            StoreUnwritable: Something could not be written.
        """
