"""The native parts of tools: what they keep, what they are bound to, and their calls.

An inside door, as all of `capsa._native`.
"""

from collections.abc import Callable
from typing import Any, Self, final

from capsa.errors import CapsaError

__all__ = [
    "Files",
    "Invocation",
    "KeyValues",
    "RunningCalls",
    "Tool",
    "ToolComponent",
]

@final
class KeyValues:
    """The keys and values of one tool. Safe to use from many threads."""

    def __new__(cls, entries: dict[str, bytes] | None = None) -> Self:
        """Begins with these entries."""

    def get(self, key: str) -> bytes | None:
        """The value of a key."""

    def fits(self, key: str, value: bytes | None, *, max_bytes: int, max_keys: int) -> bool:
        """Whether a change stays within a quota: bytes of all keys and values, and the number of keys.

        A removal, and a value no longer than the one before, always do.
        """

    def apply(self, key: str, value: bytes | None) -> bool:
        """Sets a key, or removes it; whether there was such a key."""

    def entries(self) -> dict[str, bytes]:
        """Every entry, in the order of the keys' bytes."""

    @property
    def bytes(self) -> int:
        """Bytes of all keys and values."""

    def __len__(self) -> int:
        """The number of keys."""

@final
class Files:
    """The directory of one tool."""

    def __new__(cls, path: str) -> Self:
        """Opens it, and makes it where it is missing.

        Raises:
            OSError: It cannot be used.
        """

@final
class RunningCalls:
    """How many calls of one tool run."""

    def __new__(cls) -> Self: ...

@final
class ToolComponent:
    """A component of the world `tool`."""

    @property
    def digest(self) -> str:
        """``b2:`` and its BLAKE2b-256 digest."""

    @property
    def imports(self) -> list[str]:
        """The host interfaces that it imports, as a policy names them."""

    @property
    def compensates(self) -> bool:
        """Whether what it does can be taken back."""

    def bind(
        self,
        grants: str,
        *,
        kv: KeyValues | None = None,
        change: Callable[[str, bytes | None, tuple[bytes | None] | None, int, int], bool | None]
        | None = None,
        files: Files | None = None,
        secrets: dict[str, str] | None = None,
        detached: bool = False,
        running: RunningCalls | None = None,
    ) -> Tool:
        """Links it with what it is granted.

        Args:
            grants: The effective policy, as JSON.
            kv: What it keeps; read natively.
            change: Makes and records a change of it: key, value (``None`` removes), what is expected (``None`` anything,
                else a tuple with the value or ``None``), bytes and keys that there may be. Gives whether there was
                such a key or the value was the expected one; ``None`` where the quota would be passed.
            files: Its directory.
            secrets: The values of secrets by name.
            detached: Whether there is nothing outside: only replays can be called then.
            running: Counts its calls that run, for the limit on them, however it is bound.

        Raises:
            CapabilityDenied: It imports what is not granted, or what is granted has nothing behind it.
            InvalidCapsule: The deterministic engine does not take it.
            ValueError: `grants` is not such a document.
        """

@final
class Tool:
    """A tool with what it may do. Safe to use from many threads."""

    def call(
        self,
        tenant: str,
        input: str,
        output: str | None = None,
        *,
        seed: bytes | list[int],
        now_ns: int,
        inline: bool = False,
        record: bool = False,
        replay: bytes | None = None,
    ) -> Invocation:
        """Makes one call. It always gives an `Invocation`, whatever the tool does.

        Args:
            tenant: Whose call it is: tenants take turns.
            input: JSON.
            output: What was answered, JSON: then `compensate` is called.
            seed: Where random numbers begin, 32 bytes.
            now_ns: Nanoseconds since 1970.
            inline: Whether it has to be over at once: then it keeps the interpreter, and may end as `too_slow`.
            record: Whether what the host answers is kept.
            replay: A recording: answers are taken from it, and nothing outside is asked.

        Raises:
            JournalMismatch: `replay` is not a recording.
        """

@final
class Invocation:
    """How a call of a tool went."""

    @property
    def output(self) -> str | None:
        """The answer, JSON as the tool wrote it: nobody has parsed it."""

    @property
    def error(self) -> CapsaError | None:
        """Why there is none."""

    @property
    def too_slow(self) -> bool:
        """Whether it is to be made again, not inline."""

    @property
    def diverged(self) -> bool:
        """Whether, as a replay, it asked for something else than was recorded."""

    @property
    def used(self) -> dict[str, Any]:
        """What it used, by the names of `capsa.tools.Used`."""

    @property
    def log(self) -> list[tuple[str, str]]:
        """Level and message of each line."""

    @property
    def log_dropped(self) -> int:
        """How many further lines there were."""

    @property
    def denied(self) -> list[tuple[str, str, str]]:
        """Interface, rule and a sentence of what it was denied."""

    @property
    def denied_unlisted(self) -> int:
        """How many further denials there were."""

    @property
    def recording(self) -> bytes | None:
        """What the host answered, where that was to be recorded."""
