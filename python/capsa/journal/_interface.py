"""What every journal does, whatever it is kept in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

from capsa.errors import StoreUnwritable
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
        self,
        stream: str,
        type_: str,
        time_ms: int,
        principal: str,
        path: str,
        payload: bytes,
        *,
        once: Sequence[bytes] = (),
        due_ms: int | None = None,
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
            once: Keys that count once in the whole journal, at most 256 of 1 to 96 bytes. They are durable with
                the event. The caller has looked whether they are free: one that is taken all the same means that
                what was folded and what is stored disagree. Then the journal stops; one in memory refuses the event.
            due_ms: When the event asks to be looked at again: see `due`.

        Raises:
            StoreUnwritable: The journal failed.
            StoreDamaged: A key is taken. A journal on disk says so to whoever waits.
            ValueError: A type that does not exist, or a number or text that cannot be written.
        """

    def wait(self, event: Event) -> None:
        """Returns once `event` and everything before it in its stream is on disk.

        Raises:
            StoreUnwritable: It may never be. After the store is opened again the journal tells.
        """

    def flush(self) -> None:
        """Waits for everything that was appended so far, as `wait` does."""

    def when_durable(self, call: Callable[[StoreUnwritable | None], object]) -> None:
        """Calls back once everything that was appended so far is on disk; with the failure where it may never be.

        At once, or from the writing thread, which waits meanwhile.
        """

    def check(self) -> None:
        """Returns if events are taken.

        Raises:
            StoreUnwritable: The journal failed.
            StoreClosed: It was closed.
        """

    @property
    def crowded(self) -> bool:
        """Whether so much waits to be written that `append` may soon have to wait for room."""

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> Iterator[Event]:
        """The durable events of one stream in order, from after a sequence number, at most `limit`.

        Those that were durable when reading began are all there, but for those that were cut off. Where the
        events after that number were cut off, it begins at the first one that is there.
        """

    def follow(self, stream: str, after: int, timeout_s: float) -> list[Event]:
        """The durable events after a sequence number; waits for the first one.

        At most `FOLLOW_EVENTS`, in order; none where nothing came in `timeout_s` seconds.
        """

    def length(self, stream: str) -> int:
        """The sequence number of the stream's last event, durable or not; 0 where there is none."""

    def durable(self, stream: str) -> int:
        """The sequence number of the stream's last durable event; 0 where there is none."""

    def streams(self) -> list[str]:
        """The names of all streams, sorted."""

    def claims(self, stream: str, prefix: bytes) -> list[tuple[bytes, int]]:
        """The durable keys that count once, begin with `prefix` and were given with an event of a stream.

        In their order, each with the sequence of its event, whether that was cut off since or not. None is left out
        that was durable when this was called. Takes microseconds.

        Raises:
            ValueError: The prefix is empty.
        """

    def release(self, before: bytes) -> int:
        """Forgets the keys that count once and are smaller than `before`; gives how many. They are free again."""

    def due(self, until_ms: int, limit: int) -> list[tuple[int, Event]]:
        """The durable events that asked to be looked at up to a time: at most `limit`, the earliest first.

        Each with its time, again and again until it is settled. One that was erased comes too, one that was cut
        off does not.
        """

    def settle(self, rows: Sequence[tuple[int, str, int]]) -> None:
        """Takes events off the list of `due`: time, stream and sequence of each.

        It is durable later, before whatever is appended after it. One that is not on the list is passed over.

        Raises:
            StoreUnwritable: The journal failed.
        """

    def put_blob(self, digest: str, data: bytes, *, wait: bool = True) -> None:
        """Keeps bytes by their digest. They are durable when this returns.

        Args:
            digest: ``b2:`` and the BLAKE2b-256 digest of `data` in hexadecimal.
            data: At most `MAX_BLOB_BYTES`.
            wait: Otherwise they are durable before whatever is appended after them, and can be read then.

        Raises:
            ValueError: The digest is another one.
            StoreUnwritable: The journal failed.
        """

    def drop_blobs(self, keep: Collection[str]) -> int:
        """Removes every blob whose digest is not in `keep`; gives how many. Their room is used again.

        Raises:
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

    def erase(self, stream: str, sequence: int, *, wait: bool = True) -> None:
        """Removes the payload and the salt of one event for good. Its header and the chain stay.

        Read again it has an empty payload and ``erased=True``. Erasing once more changes nothing.
        That something was erased, by whom and why, is for an event of the caller to say.

        Args:
            stream: The stream.
            sequence: The event.
            wait: Whether it is on disk when this returns; otherwise `flush` waits for it, and what is erased
                later is not on disk before. Many so share a sync.

        Raises:
            UnknownEvent: There is no such event.
        """

    def first(self, stream: str) -> int:
        """The sequence number of the first event that is there: 1 where nothing was cut off."""

    def cuts(self, stream: str) -> list[int]:
        """Where a stream may be cut: the durable events of type ``snapshot_sealed`` or ``purged``, in order."""

    def cut(self, stream: str, sequence: int) -> int:
        """Removes all events of a stream before one of its `cuts` for good; gives how many.

        The chain of the others still holds, and a checkpoint says what was cut. Keys that count once stay.

        Raises:
            UnknownEvent: There is no such event, or the stream may not be cut there.
            StoreUnwritable: The journal failed.
        """

    def secret(self, name: str) -> bytes:
        """32 random bytes that are kept with the journal under a name; made when they are first asked for.

        Raises:
            ValueError: The name is not 1 to 40 of ``a-z``, ``0-9`` and ``-``.
        """

    def secrets(self) -> list[str]:
        """The names of the secrets that there are, sorted."""

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
