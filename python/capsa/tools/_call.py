"""Calls of a tool: bind it to what it may do, call it, record what came of it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from capsa import _native
from capsa._native.tools import Files, Invocation, RunningCalls, Tool, ToolComponent
from capsa.errors import (
    CapabilityDenied,
    CapsaError,
    CapsuleBadOutput,
    CapsuleDeadline,
    CapsuleFailure,
    CapsuleLimit,
    HostFault,
    InvalidField,
    Overloaded,
    UnknownCapsule,
)
from capsa.journal import MAX_PAYLOAD_BYTES
from capsa.policies import Effective
from capsa.tools import _record
from capsa.tools._answers import Denial, Invoked, LogLine, Replayed, Used
from capsa.tools._inputs import json_text, read_output
from capsa.tools._record import invocation_id
from capsa.tools._state import InForce, ToolState

#: Larger answers are read on another thread.
_INLINE_BYTES: Final = 1024 * 1024
#: Processor time, in milliseconds, from which a call that was over on such a thread is the last one there: twice what ends it.
_INLINE_MS: Final = 2.0

#: What a call may have done outside is on disk before it is answered.
_EFFECTFUL: Final = frozenset({"idempotent", "non_idempotent"})


class Books(Protocol):
    """What a store gives its tools."""

    def now_ms(self) -> int:
        """The time, milliseconds since 1970."""

    def nonce(self, now_ms: int) -> bytes:
        """A time-ordered nonce of 16 bytes."""

    def record(self, type_: str, nonce: bytes, payload: bytes) -> None:
        """Appends an event of the tool and folds it; it is found again by the call's nonce."""

    def change(
        self,
        key: str,
        value: bytes | None,
        expected: tuple[bytes | None] | None,
        max_bytes: int,
        max_keys: int,
    ) -> bool | None:
        """Changes what the tool keeps, and records that; see `ToolComponent.bind`."""

    def log(self, lines: list[tuple[str, str]]) -> None:
        """Writes what the tool logged: level and message of each line."""

    def is_there(self) -> bool:
        """Whether the tool has not been taken away: what is read next may be another's of its name."""

    def durable(self) -> None:
        """Returns once everything recorded so far is on disk."""

    def secrets(self) -> Mapping[str, str]:
        """The values of the tenant's secrets by name."""

    def folder(self) -> Path | None:
        """The tool's own directory; ``None`` where the store has no folder."""


class _Bound(msgspec.Struct, frozen=True):
    """A tool with what it may do.

    Attributes:
        of: What it was made of.
        tool: To call.
        effective: What it may do.
        text: The same as JSON.
        digest: Of the same.
    """

    of: InForce
    tool: Tool
    effective: Effective
    text: str
    digest: str


class Calls:
    """The calls of one tool. Safe to use from many threads.

    Args:
        tenant: Whose tool it is.
        name: Its name.
        state: What is folded of it.
        books: What the store gives it.
    """

    def __init__(self, tenant: str, name: str, state: ToolState, books: Books) -> None:
        self._tenant = tenant
        self._name = name
        self._state = state
        self._books = books
        # Held while it is bound: there is one count of its files, and of its running calls.
        self._lock = threading.Lock()
        self._bound: _Bound | None = None
        self._files: Files | None = None
        self._running = RunningCalls()
        #: The component that was slow: another version begins anew.
        self._slow: ToolComponent | None = None

    def forget(self) -> None:
        """Binds the tool anew at its next call: a secret has changed."""
        # Under the lock: who is binding has read the old one, perhaps.
        with self._lock:
            self._bound = None

    @property
    def inline(self) -> bool:
        """Whether a call may be made on a thread that has others to serve: it has no effects, and was never slow."""
        return self._may_inline(self._state.in_force)

    def _may_inline(self, now: InForce) -> bool:
        return (
            now.component is not self._slow
            and now.definition.effect == "pure"
            and now.policy.engine == "fast"
            and now.policy.limits.output_bytes <= _INLINE_BYTES
        )

    def call(
        self,
        input: Any,
        *,
        output: Any = None,
        function: str = "invoke",
        record: bool = False,
        inline: bool = False,
    ) -> Invoked | None:
        """Makes one call and records it.

        Args:
            input: What it is sent.
            output: For ``compensate``: what was answered.
            function: ``invoke`` or ``compensate``.
            record: Whether what the host answers is kept, so that the call can be repeated.
            inline: Whether it has to be over at once.

        Returns:
            What came of it; ``None`` where it is to be made again, not inline: nothing has happened then.

        Raises:
            CapabilityDenied: It imports what its policy does not grant.
            CapsuleRefused: It failed in its own words.
            CapsuleFailure: It broke a limit, trapped, answered nonsense, or more than a recording may hold.
            UnknownCapsule: It was taken away before it could be called.
            Overloaded: It could not be called now.
        """
        sent = json_text(input)
        done = None if function == "invoke" else json_text(output, "output")
        now_ms = self._books.now_ms()
        nonce = self._books.nonce(now_ms)
        now = self._state.in_force
        if inline and not self._may_inline(now):
            # It has changed since the caller looked.
            return None
        try:
            bound = self._ready(now, record)
        except CapabilityDenied as denied:
            self._write(now, nonce, function, sent, None, denied, "", None, None)
            raise
        seed = os.urandom(32)
        made = bound.tool.call(
            self._tenant, sent, done, seed=seed, now_ns=now_ms * 1_000_000, inline=inline, record=record
        )
        if made.too_slow:
            self._slow = now.component
            return None
        answer, error = _outcome(made)
        if isinstance(error, Overloaded):
            # It never began. A thread may wait until it can.
            if inline:
                return None
            raise error
        if inline and made.used["cpu_ms"] > _INLINE_MS:
            # On a busy machine whoever looks at its time may come late.
            self._slow = now.component
        self._books.log(made.log)
        kept = None
        if made.recording is not None:
            kept = {
                "now": now_ms,
                "log": [list(line) for line in made.log],
                "fuel": made.used["fuel"],
                "seed": seed,
                "calls": made.recording,
                "error": None if error is None else [error.code, error.detail],
                "input": sent,
                "output": made.output,
                "policy": bound.text,
                "answered": done,
                "component": now.component.digest,
            }
        error = self._write(
            now, nonce, function, sent, made.output, error, bound.digest, made, kept, inline=inline
        )
        if error is not None:
            raise error
        may = bound.effective
        return Invoked(
            id=invocation_id(nonce),
            capsule=self._name,
            version=now.version,
            effect=may.effect,
            engine=may.engine,
            policy_digest=bound.digest,
            output=answer,
            used=Used(**made.used),
            denied=[Denial(interface=where, rule=rule, detail=detail) for where, rule, detail in made.denied],
            log=[LogLine(level=level, message=message) for level, message in made.log],
            recorded=made.recording is not None,
        )

    def _write(
        self,
        now: InForce,
        nonce: bytes,
        function: str,
        sent: str,
        output: str | None,
        error: CapsaError | None,
        policy_digest: str,
        made: Invocation | None,
        recording: dict[str, Any] | None,
        *,
        inline: bool = False,
    ) -> CapsaError | None:
        """Records a call; what may have done something outside is on disk when this returns, unless it was inline.

        Returns:
            How it ended: an answer with which its recording is too large to be kept is none.
        """
        denied = [] if made is None else made.denied
        used = msgspec.to_builtins(Used()) if made is None else made.used

        def encoded() -> bytes:
            return _record.encode(
                nonce,
                function,
                now.version,
                policy_digest,
                _native.digest(sent.encode()),
                None if output is None else _native.digest(output.encode()),
                error,
                used,
                denied,
                0 if made is None else made.denied_unlisted,
                recording,
            )

        payload = encoded()
        if recording is not None and len(payload) > MAX_PAYLOAD_BYTES:
            if error is None:
                error, output = _too_large(len(payload)), None
            recording = None
            payload = encoded()
        breached = bool(denied) or isinstance(error, CapsuleFailure | CapabilityDenied)
        self._books.record("breached" if breached else "invoked", nonce, payload)
        if not inline and (now.definition.effect in _EFFECTFUL or breached or recording is not None):
            self._books.durable()
        return error

    def _ready(self, now: InForce, record: bool) -> _Bound:
        """The tool, bound to what it may do now."""
        bound = self._bound
        if bound is None or bound.of is not now:
            with self._lock:
                bound = self._bound
                if bound is None or bound.of is not now:
                    bound = self._bound = self._bind(now)
        if record and bound.effective.engine != "deterministic":
            raise InvalidField(
                "only calls in the deterministic engine can be recorded",
                pointer="/record",
                value="true",
                remedy='write engine = "deterministic" in the capsule\'s policy, or leave record out',
            )
        return bound

    def effective(self) -> Effective:
        """What the tool may do now."""
        return self._state.in_force.effective()

    def _bind(self, now: InForce) -> _Bound:
        self._check_there()
        may = now.effective()
        text = json.dumps(may.to_json(), sort_keys=True, ensure_ascii=False)
        files = None
        if may.files is not None and "files" in now.component.imports:
            files = self._directory()
        secrets = self._books.secrets() if may.secrets else {}
        names = {secret.name for secret in may.secrets}
        # Again: where it is there now, what was opened and read in between was its own.
        self._check_there()
        tool = now.component.bind(
            text,
            kv=self._state.kv,
            change=self._books.change,
            files=files,
            secrets={name: value for name, value in secrets.items() if name in names},
            running=self._running,
        )
        return _Bound(now, tool, may, text, may.digest)

    def _check_there(self) -> None:
        if not self._books.is_there():
            raise UnknownCapsule(f"{self._name} was taken away", value=self._name, remedy="install it again")

    def _directory(self) -> Files | None:
        """The tool's own directory: counted once, for its quota."""
        if self._files is None:
            folder = self._books.folder()
            if folder is None:
                return None
            try:
                self._files = Files(str(folder))
            except OSError as error:
                raise HostFault(f"the directory of {self._name} cannot be used: {error.strerror}") from None
        return self._files

    def replay(self, recording: Mapping[str, Any], id_: str, component: ToolComponent) -> Replayed:
        """Makes a recorded call again from its recording.

        Args:
            recording: As the event holds it.
            id_: The call's.
            component: That was called.

        Raises:
            InvalidField: Its time was over: nobody can tell where.
            Overloaded: It could not be called now.
        """
        if recording["error"] is not None and recording["error"][0] == CapsuleDeadline.code:
            raise InvalidField(
                "this call ended because its time was over, and time is not recorded",
                pointer="/invocationId",
                value=id_,
                remedy="repeat one that ended by itself",
            )
        tool = component.bind(recording["policy"], detached=True)
        made = tool.call(
            self._tenant,
            recording["input"],
            recording["answered"],
            seed=recording["seed"],
            now_ns=recording["now"] * 1_000_000,
            replay=recording["calls"],
        )
        answer, error = _outcome(made)
        if isinstance(error, Overloaded):
            # It never began: that says nothing of it.
            raise error
        now = {
            "output": made.output,
            "error": None if error is None else [error.code, error.detail],
            "fuel": made.used["fuel"],
            "log": [list(line) for line in made.log],
        }
        differences = [name for name, value in now.items() if recording[name] != value]
        if made.diverged and "output" not in differences:
            differences.append("calls")
        return Replayed(
            id=id_,
            same=not differences,
            differences=differences,
            output=answer,
            recorded_output=_readable(recording["output"]),
        )


def _outcome(made: Invocation) -> tuple[Any, CapsaError | None]:
    """What was answered, or why nothing was."""
    if made.error is not None:
        return None, made.error
    if made.output is None:
        return None, None
    try:
        return read_output(made.output), None
    except CapsuleBadOutput as error:
        return None, error


def _too_large(size: int) -> CapsuleLimit:
    return CapsuleLimit(
        f"what there is to keep of this call has {size} bytes, {MAX_PAYLOAD_BYTES} can be kept",
        remedy="invoke without record, or let it answer less",
    )


def _readable(output: str | None) -> Any:
    """What was answered; ``None`` where that was no JSON."""
    try:
        return None if output is None else read_output(output)
    except CapsuleBadOutput:
        return None
