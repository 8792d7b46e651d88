"""What happens in a life: events as the model knows them, posts, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import capsa

#: Tenant and capsule; the job is always the default one.
Place = tuple[str, str]

#: The declared metrics of a capsule with metrics, and what one unit of each is worth.
WEIGHTS: Final = {"quality": 0.6, "cost": -0.4}
#: `taken` was left out.
AS_ANSWERED: Final = "as answered"


@dataclass(frozen=True)
class Post:
    """What a caller sends about a decision."""

    reward: float | None = None
    outcome: dict[str, float] | None = None
    taken: str | dict[str, str] | None = AS_ANSWERED

    def arguments(self) -> dict[str, Any]:
        """As `feedback` takes them."""
        given = {"reward": self.reward, "outcome": self.outcome, "taken": self.taken}
        left_out = {"reward": None, "outcome": None, "taken": AS_ANSWERED}
        return {name: value for name, value in given.items() if value != left_out[name]}


@dataclass(frozen=True)
class Created:
    """A tenant or a job."""

    type = "created"


@dataclass(frozen=True)
class Installed:
    """A version of a capsule."""

    type = "installed"
    place: Place
    options: dict[str, list[str]]
    horizon_ms: int
    defaults: dict[str, float] | None = None


@dataclass(frozen=True)
class Changed:
    """Settings that the model goes by, and all that were given, flat; ``None`` = the file's value."""

    type = "learning_changed"
    place: Place
    settings: dict[str, Any]
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Decided:
    """A decision that was answered.

    Attributes:
        defaults: What metrics count as that are not sent until the horizon.
        carried: Whether its id says everything that feedback needs.
        sequence: Where it was recorded; a crash may have taken it since.
    """

    type = "decided"
    place: Place
    id: str
    key: str
    choices: dict[str, str]
    decided_ms: int
    deadline_ms: int
    defaults: dict[str, float] | None
    carried: bool
    subject: str | None
    sequence: int


@dataclass(frozen=True)
class Received:
    """A feedback that was recorded, and what its answer says.

    Attributes:
        forgotten: Whether it came so late that it is compared with nothing, and changes nothing.
    """

    type = "outcome_received"
    place: Place
    id: str | None
    key: str
    made: dict[str, str]
    metrics: dict[str, float]
    reward: float | None
    status: str
    parts: dict[str, float]
    missing: frozenset[str]
    sequence: int
    forgotten: bool = False


@dataclass(frozen=True)
class Passed:
    """A horizon that has passed, and what it brought."""

    type = "horizon_passed"
    place: Place
    id: str
    key: str
    made: dict[str, str]
    metrics: dict[str, float]
    reward: float | None
    status: str


@dataclass(frozen=True)
class Sealed:
    """A snapshot."""

    type = "snapshot_sealed"


@dataclass(frozen=True)
class Erased:
    """The content of decisions about a subject is taken away."""

    type = "erased"
    ids: frozenset[str]


@dataclass(frozen=True)
class Purged:
    """Everything of a tenant is taken away."""

    type = "purged"


Happened = Created | Installed | Changed | Decided | Received | Passed | Sealed | Erased | Purged


@dataclass(frozen=True)
class Repeated:
    """The answer to what is known already: that of the last post that was recorded."""

    answer: Received


@dataclass(frozen=True)
class Refused:
    """Nothing changes."""

    error: type[capsa.CapsaError]


@dataclass
class DecisionModel:
    """One decision and the feedback it has had.

    Attributes:
        recorded: Whether its record is in the journal.
        done: Whether nothing more is awaited.
    """

    decided: Decided
    recorded: bool = True
    metrics: dict[str, float] = field(default_factory=dict)
    plain: float | None = None
    taken: dict[str, str] | None = None
    last: Received | None = None
    done: bool = False
    erased: bool = False
