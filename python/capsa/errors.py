"""What can go wrong, drawn once.

```text
CapsaError                    detail, pointer, value, remedy; ``code`` is the problem type
├── InvalidRequest            what a caller sent; nothing has changed
│   ├── InvalidField · UnknownField
│   ├── UnknownOption · UnknownStrategy · NoAllowedOption
│   ├── MetricOutOfRange · RewardOutOfRange · UnknownMetric · RewardMissing
│   └── InvalidPolicy         a capability policy, or what a definition wants
├── InvalidSpec               a YAML spec; ``problems`` has every line that is wrong
├── InvalidCapsule            a component that cannot be run or does not say what it is
├── NotFound
│   ├── UnknownTenant · UnknownJob · UnknownCapsule · UnknownDecision · UnknownInvocation
│   └── UnknownEvent · UnknownBlob           of a journal
├── Conflict
│   ├── FeedbackConflict · InstallConflict
│   └── AlreadyExists · IdempotencyConflict · StaleDocument
├── CapsuleRefused            the capsule answered with an error of its own
├── CapsuleFailure            the capsule's fault, never the host's
│   ├── CapsuleTrapped · CapsuleDeadline · CapsuleFuel · CapsuleOutOfMemory
│   └── CapsuleStack · CapsuleLimit · CapsuleBadOutput
├── CapabilityDenied          the capability policy does not grant what the capsule imports
├── InstallRefused            what the store lets in says no
├── WrongKind                 a tool was asked to decide, or a decision capsule invoked
├── StoreError
│   ├── StoreForked · StoreClosed · JournalMismatch
│   ├── StoreLocked           somebody else has the store open
│   ├── NotAStore             the folder holds other things
│   ├── StoreUnsupported
│   │   └── StoreTooNew · NetworkFileSystem
│   └── StoreUnwritable       the journal failed: nothing is recorded until it is opened again
│       └── StoreFull · StoreBusy · StoreReadOnly · StoreDamaged
└── Overloaded · HostFault    ours
    └── TooSlow               never seen: the call is made again on another thread
```

A class of its own exists where a caller would act differently. Wrong use of Python itself stays
``TypeError``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlreadyExists",
    "CapabilityDenied",
    "CapsaError",
    "CapsuleBadOutput",
    "CapsuleDeadline",
    "CapsuleFailure",
    "CapsuleFuel",
    "CapsuleLimit",
    "CapsuleOutOfMemory",
    "CapsuleRefused",
    "CapsuleStack",
    "CapsuleTrapped",
    "Conflict",
    "FeedbackConflict",
    "HostFault",
    "IdempotencyConflict",
    "InstallConflict",
    "InstallRefused",
    "InvalidCapsule",
    "InvalidField",
    "InvalidPolicy",
    "InvalidRequest",
    "InvalidSpec",
    "JournalMismatch",
    "MetricOutOfRange",
    "NetworkFileSystem",
    "NoAllowedOption",
    "NotAStore",
    "NotFound",
    "Overloaded",
    "RewardMissing",
    "RewardOutOfRange",
    "StaleDocument",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreForked",
    "StoreFull",
    "StoreLocked",
    "StoreReadOnly",
    "StoreTooNew",
    "StoreUnsupported",
    "StoreUnwritable",
    "UnknownBlob",
    "UnknownCapsule",
    "UnknownDecision",
    "UnknownEvent",
    "UnknownField",
    "UnknownInvocation",
    "UnknownJob",
    "UnknownMetric",
    "UnknownOption",
    "UnknownStrategy",
    "UnknownTenant",
    "WrongKind",
]


def shown(value: object) -> str:
    """At most 80 characters of a value that somebody sent, as valid Unicode; never fails."""
    try:
        return _unicode(str(value)[:80])[:80]
    except Exception:  # noqa: BLE001 - a value's own __str__, or an integer of too many digits
        return type(value).__name__


def _unicode(text: str) -> str:
    """A text with halves of surrogate pairs spelled out: what stands in a header, or a path, may hold bytes as such."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


class CapsaError(Exception):
    """The root: one sentence, and where it applies what it is about. Its texts are valid Unicode, whatever they quote.

    Attributes:
        detail: One sentence that says what is wrong.
        pointer: JSON pointer into what was sent, such as ``/options/1``.
        value: The offending value, shortened; never a secret.
        remedy: What to do instead.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self, detail: str, *, pointer: str | None = None, value: str | None = None, remedy: str | None = None
    ) -> None:
        self.detail = _unicode(detail)
        self.pointer = None if pointer is None else _unicode(pointer)
        self.value = None if value is None else _unicode(value)
        self.remedy = None if remedy is None else _unicode(remedy)
        super().__init__(f"{self.detail}: {self.remedy}" if self.remedy else self.detail)

    def again(self) -> CapsaError:
        """A new exception that says the same: many may raise it, each with a trace of its own."""
        fresh = type(self)(self.detail, pointer=self.pointer, value=self.value, remedy=self.remedy)
        fresh.__cause__ = self
        return fresh


class InvalidRequest(CapsaError):
    """Something that a caller sent; nothing has changed."""

    code = "invalid-field"


class InvalidField(InvalidRequest):
    """A type, range, length or number that is not finite."""


class UnknownField(InvalidRequest):
    """A key that does not exist; the remedy names the nearest one."""

    code = "unknown-field"


class UnknownOption(InvalidRequest):
    """No option has this name or number."""

    code = "unknown-option"


class UnknownStrategy(InvalidRequest):
    """No strategy has this name or number."""

    code = "unknown-strategy"


class NoAllowedOption(InvalidRequest):
    """What request, capsule and valid combinations allow leaves nothing."""

    code = "no-allowed-option"


class MetricOutOfRange(InvalidRequest):
    """A metric outside its declared scale: refused, never clipped."""

    code = "metric-out-of-range"


class RewardOutOfRange(InvalidRequest):
    """A reward outside ``reward_range``: refused, never clipped."""

    code = "reward-out-of-range"


class UnknownMetric(InvalidRequest):
    """A metric that the capsule does not declare."""

    code = "unknown-metric"


class RewardMissing(InvalidRequest):
    """Feedback with neither a reward nor an outcome."""

    code = "reward-missing"


class InvalidPolicy(InvalidRequest):
    """A capability policy, or what a definition wants, does not hold."""

    code = "invalid-policy"


class InvalidSpec(CapsaError):
    """A YAML spec that does not hold.

    Attributes:
        problems: Every problem as ``(line, column, key, message)``; lines and columns from 1.
    """

    code = "invalid-spec"

    def __init__(self, detail: str, *, problems: list[tuple[int, int, str, str]]) -> None:
        super().__init__(detail)
        self.problems = problems


class InvalidCapsule(CapsaError):
    """A component that cannot be run here or does not say what it is."""

    code = "invalid-capsule"


class NotFound(CapsaError):
    """Something that is not here."""


class UnknownTenant(NotFound):
    """No tenant has this name."""

    code = "unknown-tenant"


class UnknownJob(NotFound):
    """No job of the tenant has this name."""

    code = "unknown-job"


class UnknownCapsule(NotFound):
    """No capsule of the job has this name."""

    code = "unknown-capsule"


class UnknownDecision(NotFound):
    """No decision of this capsule has this id."""

    code = "unknown-decision"


class UnknownInvocation(NotFound):
    """No invocation of this capsule has this id."""

    code = "unknown-invocation"


class UnknownEvent(NotFound):
    """The stream has no event with this sequence."""

    code = "unknown-event"


class UnknownBlob(NotFound):
    """No blob has this digest."""

    code = "unknown-blob"


class Conflict(CapsaError):
    """Something else was said before; nothing has changed."""


class FeedbackConflict(Conflict):
    """Other content for a decision that has feedback already."""

    code = "feedback-conflict"


class InstallConflict(Conflict):
    """An install that would make what was learned mean something else."""

    code = "install-conflict"


class AlreadyExists(Conflict):
    """Something of this name is there."""

    code = "already-exists"


class IdempotencyConflict(Conflict):
    """An idempotency key that was sent before with something else."""

    code = "idempotency-conflict"


class StaleDocument(Conflict):
    """A document that was changed since it was read; the detail says which version it has."""

    code = "stale-document"


class CapsuleRefused(CapsaError):
    """The capsule answered with an error of its own, which is the detail.

    Attributes:
        failure: What a tool names it; ``None`` of a decision capsule.
        retryable: Whether a tool says that the same call may succeed later.
    """

    code = "capsule-refused"

    def __init__(
        self, detail: str, *, failure: str | None = None, retryable: bool = False, **fields: str | None
    ) -> None:
        super().__init__(detail, **fields)
        self.failure = failure
        self.retryable = retryable


class CapsuleFailure(CapsaError):
    """The capsule's fault; the host goes on."""


class CapsuleTrapped(CapsuleFailure):
    """The capsule's code stopped in a way that WebAssembly calls a trap."""

    code = "capsule-trapped"


class CapsuleDeadline(CapsuleFailure):
    """The capsule used up its processor time, or the time that it may take in all."""

    code = "capsule-deadline"


class CapsuleFuel(CapsuleFailure):
    """The capsule used up its fuel, which counts instructions."""

    code = "capsule-fuel"


class CapsuleOutOfMemory(CapsuleFailure):
    """The capsule needed more memory than it may have."""

    code = "capsule-out-of-memory"


class CapsuleStack(CapsuleFailure):
    """The capsule's calls nested too deep."""

    code = "capsule-stack"


class CapsuleLimit(CapsuleFailure):
    """The capsule went past a limit that has no class of its own: calls of the host, or elements of tables."""

    code = "capsule-limit"


class CapsuleBadOutput(CapsuleFailure):
    """The capsule answered something that its world or definition does not allow."""

    code = "capsule-bad-output"


class CapabilityDenied(CapsaError):
    """The capability policy does not grant what the capsule imports; the detail names it."""

    code = "capability-denied"


class InstallRefused(CapsaError):
    """The store does not let in what was to be installed: see its setting ``install.allow``."""

    code = "install-refused"


class WrongKind(CapsaError):
    """A tool was asked to decide, or a decision capsule was invoked."""

    code = "wrong-kind"


class StoreError(CapsaError):
    """The store cannot be used in this way."""


class StoreForked(StoreError):
    """The store was opened before a fork and is used after it."""

    code = "store-forked"


class StoreClosed(StoreError):
    """The store was closed."""

    code = "store-closed"


class StoreUnsupported(StoreError):
    """A kind of store that this version does not have yet."""

    code = "store-unsupported"


class StoreLocked(StoreError):
    """Somebody else has the store open; the detail says who."""

    code = "store-locked"


class NotAStore(StoreError):
    """A folder or file that this version did not make."""

    code = "not-a-store"


class StoreTooNew(StoreUnsupported):
    """A newer version wrote the store."""

    code = "store-too-new"


class NetworkFileSystem(StoreUnsupported):
    """The folder is on a file system whose locks and syncs cannot be relied on."""

    code = "network-file-system"


class StoreUnwritable(StoreError):
    """The journal failed: nothing more is recorded until the store is opened again."""

    code = "store-unwritable"


class StoreFull(StoreUnwritable):
    """The disk is full."""

    code = "store-full"


class StoreBusy(StoreUnwritable):
    """Another program holds a lock on the database file."""

    code = "store-busy"


class StoreReadOnly(StoreUnwritable):
    """The folder or the file may not be written."""

    code = "store-read-only"


class StoreDamaged(StoreUnwritable):
    """The files are not what was written."""

    code = "store-damaged"


class JournalMismatch(StoreError):
    """A journal that this version cannot fold."""

    code = "journal-mismatch"


class Overloaded(CapsaError):
    """Every place was taken for as long as a caller waits; try again."""

    code = "overloaded"


class TooSlow(Overloaded):
    """A call that had to be over at once was not: it is made again on another thread, so that nobody sees this."""


class HostFault(CapsaError):
    """The machine could not do it; not the caller's or the capsule's fault."""
