"""A hostile case: who attacks how, what it has to end in, and what must not have happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import pytest
from tests.sandbox.guests import Guest

from capsa.errors import CapsaError
from capsa.policies import Effect

if TYPE_CHECKING:
    from tests.sandbox.arena import Arena

Grants: TypeAlias = Mapping[str, Any]
#: The processor time of most cases: what loops is over soon.
CPU_MS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the matrix.

    Attributes:
        category: What kind of attack.
        name: What is tried; unique in its category.
        guest: Who tries it; a function where it needs to know ports.
        grants: What the policy allows and the definition wants, as a policy spells it.
        wants: What the definition wants, where that is something else.
        limits: Of the policy.
        engine: Of the policy.
        effect: Of the definition.
        input: JSON.
        output: If given, `compensate` is called with it. Of a decision capsule: ``reward`` is called.
        ends: The class of error that it has to end in; ``None`` = it is answered.
        says: A part of the error's sentence.
        answer: What a tool has to answer, parsed; ``...`` = anything that is JSON. Not looked at where it ends in an error.
        denied: Interface and rule of each denial, in order. Not looked at where it is ``None``.
        logs: A part of what was logged.
        before: Sets something up.
        after: Checks what must (not) have happened.
        defect: The number of the defect that lets it fail, in `/SECURITY.md`.
    """

    category: str
    name: str
    guest: Guest | Callable[[Arena], Guest]
    grants: Grants | Callable[[Arena], Grants] = field(default_factory=dict)
    wants: Grants | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    engine: str = "fast"
    effect: Effect = "non_idempotent"
    input: str = "1"
    output: str | None = None
    ends: type[CapsaError] | None = None
    says: str = ""
    answer: object = None
    denied: tuple[tuple[str, str], ...] | None = ()
    logs: str = ""
    before: Callable[[Arena], object] | None = None
    after: Callable[[Arena, Ended], object] | None = None
    defect: str = ""

    @property
    def id(self) -> str:
        """Category and name."""
        return f"{self.category}: {self.name}"

    def attacker(self, arena: Arena) -> Guest:
        """Who tries it."""
        return self.guest(arena) if callable(self.guest) else self.guest

    def policy(self, arena: Arena) -> dict[str, Any]:
        """What it is allowed."""
        return {
            "schema": 1,
            "name": "case",
            "engine": self.engine,
            "grants": self._granted(arena),
            "limits": dict(self.limits),
        }

    def wanted(self, arena: Arena) -> dict[str, Any]:
        """What its definition wants."""
        if self.wants is not None:
            return dict(self.wants)
        return wanted(self._granted(arena))

    def _granted(self, arena: Arena) -> dict[str, Any]:
        return dict(self.grants(arena) if callable(self.grants) else self.grants)

    def parameter(self) -> Any:
        """As pytest takes it."""
        marks = [pytest.mark.xfail(strict=True, reason=self.defect)] if self.defect else []
        return pytest.param(self, id=self.id, marks=marks)


def wanted(grants: Mapping[str, Any]) -> dict[str, Any]:
    """What a definition wants that is granted all this."""
    config = {"config": list(grants["config"])} if "config" in grants else {}
    return {**grants, **config}


@dataclass(frozen=True)
class Ended:
    """How a case ended.

    Attributes:
        error: The error, if any, also one of a load, a policy or a binding.
        output: What was answered, as text.
        denied: Interface, rule and a sentence of each denial.
        log: The messages.
        log_dropped: How many further ones there were.
        used: What was used; empty where nothing ran.
    """

    error: CapsaError | None
    output: str | None = None
    denied: tuple[tuple[str, str, str], ...] = ()
    log: tuple[str, ...] = ()
    log_dropped: int = 0
    used: Mapping[str, Any] = field(default_factory=dict)

    def said(self) -> str:
        """Everything that comes out of it."""
        error = self.error
        parts = [] if error is None else [str(error), error.detail, error.value or "", error.pointer or ""]
        denials = [" ".join(denial) for denial in self.denied]
        return "\n".join([*parts, self.output or "", *denials, *self.log])


class Runner(Protocol):
    """A way to run a case: natively, or through a store."""

    def begin(self, case: Case, arena: Arena, folder: Path) -> None:
        """Before the arena begins: what is run in a folder is made there."""

    def run(self, case: Case, arena: Arena) -> Ended:
        """Installs the guest, gives it what the case grants, and calls it."""

    def innocent(self, arena: Arena) -> None:
        """An innocent tool and an innocent decision capsule of another tenant are called, and answer."""

    def recorded(self, ended: Ended) -> None:
        """What ended so stands in the audit, where there is one."""

    def end(self) -> None:
        """What the case was run in is closed."""
