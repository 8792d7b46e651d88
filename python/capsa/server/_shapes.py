"""What answers look like, for the OpenAPI document; the tests hold every answer to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from capsa.decisions import AuditRecord, DecisionRecord, FeedbackRecord
from capsa.decisions._report import ContextsReport, Notice
from capsa.wire._requests import OptionRef

Mode = Literal["off", "shadow", "live"]
Reason = Literal["learned", "explored", "frozen", "baseline", "current", "onlyOption"]
Status = Literal["applied", "pending", "repeated", "late", "frozen", "kept", "unrecorded"]


#: Of a learner; either spelling is understood.
AlgorithmName = Literal[
    "thompson", "simpleWeighted", "simple_weighted", "epsilonGreedy", "epsilon_greedy", "ucb1"
]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[float, Meta(gt=0, le=1e6)]
#: Ten years.
Seconds = Annotated[float, Meta(gt=0, le=315_360_000)]
Duration = Annotated[str, Meta(pattern="^[0-9]+\\.?[0-9]*(ms|[smhdw])$", examples=["7d"])]
MaxContexts = Annotated[int, Meta(ge=1, le=1_000_000)]


def _either(name: str) -> Meta:
    """Of a list whose entries are answers of a type, or problem documents."""
    refs = [{"$ref": f"#/components/schemas/{each}"} for each in (name, "Problem")]
    return Meta(extra_json_schema={"items": {"anyOf": refs}})


class StrategyPart(Struct, rename="camel"):
    """One strategy of a decision. Above 64 options, what has an entry for each is left out unless asked for."""

    strategy_id: int
    strategy: str
    option: int
    option_name: str
    propensity: float | None
    node_id: int = field(name="node_id")
    chosen_option: int = field(name="chosen_option")
    names: list[str] | UnsetType = UNSET
    probabilities: list[float] | UnsetType | None = UNSET
    weights: list[float] | UnsetType = UNSET


class Suggested(Struct, rename="camel"):
    """What the learner would have done."""

    propensity: float
    reason: Reason
    decisions: list[StrategyPart]
    option: int | UnsetType = UNSET
    option_name: str | UnsetType = UNSET


class Decided(Struct, rename="camel"):
    """What to do now. With several strategies, `decisions` alone says what."""

    decision_id: str | None
    capsule: str
    capsule_version: int
    job: str
    tenant: str
    mode: Mode
    context_key: str
    context_key_from: Literal["input", "request"]
    propensity: float | None
    reason: Reason
    suggested: Suggested | None
    decisions: list[StrategyPart]
    learner_version: int
    warnings: list[str]
    strategy_id: int | UnsetType = UNSET
    strategy: str | UnsetType = UNSET
    option: int | UnsetType = UNSET
    option_name: str | UnsetType = UNSET


class ProblemPart(Struct, rename="camel"):
    """Where something is wrong. Of a spec: line, column, key and message."""

    pointer: str | UnsetType = UNSET
    value: str | UnsetType = UNSET
    remedy: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    column: int | UnsetType = UNSET
    key: str | UnsetType = UNSET
    message: str | UnsetType = UNSET


class Problem(Struct, rename="camel"):
    """A problem document (RFC 9457).

    Attributes:
        failure: Of a tool that failed in its own words: what it names the failure.
        retryable: Of the same: whether it says that the same call may succeed later.
    """

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemPart] | UnsetType = UNSET
    failure: str | UnsetType = UNSET
    retryable: bool | UnsetType = UNSET


class DecidedBatch(Struct):
    """The answers in the order of the requests."""

    results: Annotated[list[Any], _either("Decided")]


class FeedbackPart(Struct, rename="camel"):
    """What a feedback did to one of several strategies."""

    strategy_id: int
    strategy: str
    option: int | None
    option_name: str
    before: list[float]
    after: list[float]


class Taken(Struct, rename="camel"):
    """What became of one feedback."""

    decision_id: str | None
    status: Status
    reward: float | None
    parts: dict[str, float]
    missing: list[str]
    context_key: str
    learner_version: int
    sequence: int
    strategy_id: int | UnsetType = UNSET
    strategy: str | UnsetType = UNSET
    option: int | UnsetType | None = UNSET
    option_name: str | UnsetType = UNSET
    before: list[float] | UnsetType = UNSET
    after: list[float] | UnsetType = UNSET
    decisions: list[FeedbackPart] | UnsetType = UNSET


class TakenBatch(Struct, rename="camel"):
    """The answers in the order of the events."""

    results: Annotated[list[Any], _either("Taken")]
    ok_count: int
    err_count: int


class Installed(Struct, rename="camel"):
    """What an install did, or would do."""

    tenant: str
    job: str
    capsule: str
    capsule_version: int
    digest: str
    unchanged: bool
    changes: list[str]
    dry_run: bool


class Described(Struct, rename="camel"):
    """What is installed.

    Attributes:
        definition: What the component says of itself: of a decision capsule with every default filled in, of a tool as it
            declares it.
        effect: What a tool does to the world.
        imports: The interfaces that a tool's component imports.
    """

    tenant: str
    job: str
    capsule: str
    capsule_version: int
    digest: str
    definition: dict[str, Any]
    kind: Literal["decision", "tool"]
    effect: Literal["pure", "read", "idempotent", "nonIdempotent"] | UnsetType = UNSET
    imports: list[str] | UnsetType = UNSET


class ReportedOption(Struct, rename="camel"):
    """One option. Interval fields are null until they hold at any time."""

    option: int
    option_name: str
    weight: float
    decisions: int
    rewards: int
    mean: float | None
    low: float | None
    high: float | None
    without_feedback: float | None


class ReportedStrategy(Struct, rename="camel"):
    """One strategy."""

    strategy_id: int
    strategy: str
    leader: str
    leader_is_best: float | None
    options: list[ReportedOption]
    node_id: int = field(name="node_id")
    n_options: int = field(name="n_options")


class ReportedFeedback(Struct, rename="camel"):
    """Feedback by what became of it."""

    applied: int
    pending: int
    expired: int
    late: int
    frozen: int
    kept: int
    defaulted: int
    repeated: int
    without_decision: int
    median_delay_seconds: float | None
    void: int


class ReportedReward(Struct):
    """The mean reward."""

    mean: float | None
    low: float | None
    high: float | None
    level: float
    range: list[float]


class Reported(Struct, rename="camel"):
    """What one capsule decides and has learned."""

    tenant: str
    job: str
    capsule: str
    capsule_version: int
    as_of: str
    sequence: int
    state_hash: str
    mode: Mode
    algorithm: str | dict[str, Any]
    frozen: bool
    override: dict[str, Any] | None
    decisions: int
    feedback: ReportedFeedback
    reward: ReportedReward
    shadow_agreement: float | None
    strategies: list[ReportedStrategy]
    contexts: ContextsReport
    notices: list[Notice]


class Context(Struct, rename="camel"):
    """What one strategy has learned in one context."""

    context_key: str
    strategy_id: int
    strategy: str
    weights: list[float]
    names: list[str]
    decisions: int
    rewards: int
    updated_at: str
    node_id: int
    total_tries: int


class ContextPage(Struct):
    """A page of contexts; `next` is the cursor of the page after it."""

    contexts: list[Context]
    next: str | None


class DecisionPage(Struct):
    """A page of decisions; `next` is the cursor of the page after it."""

    decisions: list[DecisionRecord]
    next: int | None


class FeedbackPage(Struct):
    """A page of feedback."""

    feedback: list[FeedbackRecord]
    next: int | None


class AuditPage(Struct):
    """A page of changes."""

    audit: list[AuditRecord]
    next: int | None


class Rails(Struct, rename="camel"):
    """What learning keeps to."""

    min_exploration: float
    max_delta: float | None
    freeze: bool


class Horizon(Struct, rename="camel"):
    """Until when feedback counts, and what silence means."""

    after_seconds: float
    outcome: dict[str, float] | None


class Learning(Struct, rename="camel"):
    """What is in force, and what of it is not the file's value."""

    algorithm: str | dict[str, Any]
    mode: Mode
    baseline: str | dict[str, str]
    rails: Rails
    decay: dict[str, float] | None
    shrinkage: dict[str, float] | None
    horizon: Horizon
    max_contexts: int
    canary: dict[str, None]
    override: None
    overridden: dict[str, dict[str, str]]
    version: int


class AlgorithmChange(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The learner that has a parameter."""

    name: Literal["epsilonGreedy", "epsilon_greedy"]
    epsilon: Share | UnsetType = UNSET


class RailsChange(Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """`maxDelta` acts only with `simpleWeighted`."""

    min_exploration: Share | None = None
    max_delta: Annotated[float, Meta(gt=0, le=1)] | None = None
    freeze: bool | None = None


class DecayChange(Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """One of them."""

    half_life: Duration | UnsetType = UNSET
    half_life_seconds: Seconds | UnsetType = UNSET
    half_life_feedbacks: Positive | UnsetType = UNSET


class ShrinkageChange(Struct, forbid_unknown_fields=True):
    """What the other contexts may count as, in rewards."""

    strength: Count


class HorizonChange(Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """At least one of them; `after` or `afterSeconds`."""

    after: Duration | UnsetType = UNSET
    after_seconds: Annotated[float, Meta(ge=1, le=315_360_000)] | UnsetType = UNSET
    outcome: dict[str, float | bool] | UnsetType | None = UNSET


class LaterShare(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Canary is not supported by this version: null may be sent back as it was read."""

    share: None


class SafetyChange(Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """How clients of the nearest system spell `rails`."""

    freeze_learning: bool | None = None
    min_exploration: Share | None = None
    max_weight_delta_per_feedback: Annotated[float, Meta(gt=0, le=1)] | None = None


class LearningChange(Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Changes: a key that is left out stays, null gives the file's value back.

    `version` and `overridden` may be sent back as they were read, and so may what `GET` shows of other keys.
    """

    algorithm: AlgorithmName | AlgorithmChange | None = None
    mode: Mode | None = None
    baseline: OptionRef | dict[str, OptionRef] | None = None
    rails: RailsChange | None = None
    decay: DecayChange | None = None
    shrinkage: ShrinkageChange | None = None
    horizon: HorizonChange | None = None
    max_contexts: MaxContexts | None = None
    canary: LaterShare | None = None
    override: None = None
    overridden: dict[str, dict[str, str]] | UnsetType = UNSET
    version: int | UnsetType = UNSET
    safety: SafetyChange | UnsetType = UNSET


class Health(Struct):
    """The process answers."""

    ok: bool
    service: str
    version: str


class Ready(Struct):
    """Requests are served."""

    ok: bool
    service: str
