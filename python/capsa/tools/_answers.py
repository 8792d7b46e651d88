"""What calls of tools answer."""

from __future__ import annotations

from typing import Any

import msgspec


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What a call used.

    Attributes:
        cpu_ms: Processor time, milliseconds.
        wall_ms: From start to end, milliseconds.
        fuel: Instructions, about, in the deterministic engine; ``None`` in the fast one.
        memory_bytes: All memories together, at the end.
        host_calls: Calls of host functions other than ``log``.
        egress_requests: HTTP requests that left, or tried to.
        egress_bytes: Bytes of HTTP sent and received.
        log_lines: Lines that it logged, kept or not.
    """

    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    fuel: int | None = None
    memory_bytes: int = 0
    host_calls: int = 0
    egress_requests: int = 0
    egress_bytes: int = 0
    log_lines: int = 0


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a capsule asked for and did not get.

    Attributes:
        interface: Which, such as ``http``.
        rule: The rule that decided; docs/policies.md lists them.
        detail: One sentence.
    """

    interface: str
    rule: str
    detail: str


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that a capsule logged.

    Attributes:
        level: ``debug``, ``info``, ``warn`` or ``error``.
        message: What it says.
    """

    level: str
    message: str


class Invoked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call.

    Attributes:
        id: Names the call, ``inv_`` and 32 hexadecimal digits.
        capsule: The capsule's name.
        version: The version that was called.
        effect: What it does to the world.
        engine: ``fast`` or ``deterministic``.
        policy_digest: The digest of what it was effectively allowed.
        output: What it answered; ``None`` of `compensate`.
        used: What it used.
        denied: What it was denied, the first 64.
        log: What it logged, within its limits.
        recorded: Whether what the host answered was kept, so that the call can be repeated.
    """

    id: str
    capsule: str
    version: int
    effect: str
    engine: str
    policy_digest: str
    output: Any
    used: Used
    denied: list[Denial]
    log: list[LogLine]
    recorded: bool


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded call that was made again from its recording. Nothing outside was asked.

    Attributes:
        id: The call.
        same: Whether everything was as it was: output or error, fuel, log.
        differences: The names of what was not.
        output: What it answers now.
        recorded_output: What it answered then.
    """

    id: str
    same: bool
    differences: list[str]
    output: Any
    recorded_output: Any
