"""What answers about tools look like, for the OpenAPI document; the tests hold every answer to it."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from capsa.tools import Denial, LogLine, Used

Effect = Literal["pure", "read", "idempotent", "nonIdempotent"]
Engine = Literal["fast", "deterministic"]


class Invoked(Struct, rename="camel"):
    """What came of a call.

    Attributes:
        invocation_id: Names the call, `inv_` and 32 hexadecimal digits.
        effect: What it does to the world, as its definition says.
        output: What it answered; null of `compensate`.
        denied: What it was denied, the first 64.
        log: What it logged, within its limits.
        policy_digest: The digest of what it was effectively allowed.
        recorded: Whether it can be replayed.
    """

    invocation_id: str
    tenant: str
    job: str
    capsule: str
    capsule_version: int
    effect: Effect
    engine: Engine
    output: Any
    used: Used
    denied: list[Denial]
    log: list[LogLine]
    policy_digest: str
    recorded: bool


class Invocation(Struct, rename="camel"):
    """A call as it was recorded; of input and output the digests are kept.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When it ended.
        principal: Who made it.
        policy_digest: The digest of what it was effectively allowed.
        error: The type of problem that it ended with; null where it answered.
        detail: The problem in a sentence.
        denied_unlisted: How many further denials there were.
        recorded: Whether it can be replayed.
    """

    sequence: int
    time: str
    principal: str
    invocation_id: str
    function: Literal["invoke", "compensate"]
    capsule_version: int
    policy_digest: str
    input_digest: str
    output_digest: str | None
    error: str | None
    detail: str | None
    used: Used
    denied: list[Denial]
    denied_unlisted: int
    recorded: bool


class InvocationPage(Struct):
    """A page of calls; `next` is the cursor of the page after it."""

    invocations: list[Invocation]
    next: int | None


class Replayed(Struct, rename="camel"):
    """A recorded call that was made again from its recording.

    Attributes:
        same: Whether everything was as it was: output or error, fuel, log.
        differences: The names of what was not.
        output: What it answers now.
        recorded_output: What it answered then.
    """

    invocation_id: str
    same: bool
    differences: list[str]
    output: Any
    recorded_output: Any
