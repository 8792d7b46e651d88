"""What the views of the journal answer."""

from __future__ import annotations

from typing import Any

import msgspec


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was recorded.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When, RFC 3339.
        principal: Who caused it.
        decision_id: Its id.
        capsule_version: The version that decided.
        learner_version: The learner version that was read.
        mode: ``shadow`` or ``live``.
        context_key: The context key.
        context_key_from: ``input`` or ``request``.
        choices: What was answered, by strategy.
        propensity: The probability with which it was drawn; ``None`` where the host did not draw it.
        probabilities: The distribution that was drawn from, by strategy.
        reason: As in `Decision.reason`.
        allowed: The numbers of the allowed options by strategy; ``None`` = all.
        current: What the application would have done by itself, by strategy.
        baseline: The baseline by strategy.
        suggested: In shadow: ``choices``, ``propensity``, ``probabilities`` and ``reason`` of the learner.
        unknown: Declared contexts that the input lacked.
        other: Declared contexts with an undeclared value.
        deadline: When feedback is too late to be learned, RFC 3339.
    """

    sequence: int
    time: str
    principal: str
    decision_id: str
    capsule_version: int
    learner_version: int
    mode: str
    context_key: str
    context_key_from: str
    choices: dict[str, str]
    propensity: float | None
    probabilities: dict[str, list[float]] | None
    reason: str
    allowed: dict[str, list[int]] | None
    current: dict[str, str] | None
    baseline: dict[str, str]
    suggested: dict[str, Any] | None
    unknown: list[str]
    other: dict[str, str]
    deadline: str


class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One post of feedback as it was recorded.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When, RFC 3339.
        principal: Who sent it.
        decision_id: The decision; ``None`` for the explicit form, and where the decision's record is gone.
        status: As it was answered: ``applied``, ``pending``, ``late``, ``frozen`` or ``kept``; ``expired`` where the
            horizon passed and nothing was learned.
        by_horizon: Whether nobody sent it: the horizon passed, and the declared outcome counts.
        reward: The reward, once it was known.
        metrics: The metrics of this post.
        credited: The options that were credited, by strategy; empty where nothing of ours was carried out.
        taken: What the caller said was carried out, if it was not the answer.
        context_key: The context that was credited.
        capsule_version: The capsule version of the decision.
        delay_seconds: From decision to post; ``None`` for the explicit form.
    """

    sequence: int
    time: str
    principal: str
    decision_id: str | None
    status: str
    by_horizon: bool
    reward: float | None
    metrics: dict[str, float]
    credited: dict[str, str]
    taken: dict[str, str] | None
    context_key: str
    capsule_version: int
    delay_seconds: float | None


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A change that somebody made.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When, RFC 3339.
        type: What happened, one of `AUDITED`.
        principal: Who did it.
        job: Where; ``None`` for the tenant itself.
        capsule: Where; ``None`` for a job or the tenant.
        detail: What the event says; empty once it was erased.
    """

    sequence: int
    time: str
    type: str
    principal: str
    job: str | None
    capsule: str | None
    detail: dict[str, Any]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one decision.

    Attributes:
        decision: What was decided; ``None`` where its record is gone.
        posts: Every feedback about it, in order, and what the horizon brought.
        status: What became of it: the status of the last post; ``pending`` while feedback or parts of it are
            awaited, ``expired`` where they were awaited in vain.
        reward: The reward, once it was known.
        metrics: All metrics that were sent.
        missing: Declared metrics that are awaited.
        learned_at: The sequence of the post that it was learned with; ``None`` where nothing was learned.
        notes: Why less is told than there was.
    """

    decision: DecisionRecord | None
    posts: list[FeedbackRecord]
    status: str
    reward: float | None
    metrics: dict[str, float]
    missing: list[str]
    learned_at: int | None
    notes: list[str]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not the same.

    Attributes:
        what: Its name.
        recorded: As it was recorded, or is in the live state.
        again: As it came out now.
    """

    what: str
    recorded: Any
    again: Any


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded decision, made again.

    Attributes:
        decision_id: The decision.
        sequence: Its position in the journal.
        learner_version: The learner version it was made at; ``None`` where its record is gone.
        equal: Whether everything that was compared is the same, to the last bit; ``None`` where nothing could be.
        compared: What was compared: ``draw`` alone where the state of that time cannot be folded again.
        differences: What differs.
        notes: Why less was compared than could be.
    """

    decision_id: str
    sequence: int
    learner_version: int | None
    equal: bool | None
    compared: list[str]
    differences: list[Difference]
    notes: list[str]


class RebuiltCapsule(msgspec.Struct, frozen=True, kw_only=True):
    """One capsule, folded again.

    Attributes:
        tenant: Its tenant.
        job: Its job.
        capsule: Its name.
        state_hash: The digest of the folded state.
        learner_version: The learner version of the folded state.
        decisions: How many decisions the folded state counts.
        equal: Whether the live state is the same.
        differences: What differs.
    """

    tenant: str
    job: str
    capsule: str
    state_hash: str | None
    learner_version: int | None
    decisions: int | None
    equal: bool
    differences: list[Difference]


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """The whole journal, folded again beside the live state.

    Attributes:
        equal: Whether every capsule is the same, and every tenant and job.
        events: How many events were folded.
        sequences: Up to where, by tenant.
        capsules: One entry for each capsule.
        jobs: What differs in tenants and jobs.
    """

    equal: bool
    events: int
    sequences: dict[str, int]
    capsules: list[RebuiltCapsule]
    jobs: list[Difference] = []


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote.

    Attributes:
        folder: Where.
        events: How many events.
        sequences: Up to where, by tenant.
        capsules: How many capsules.
    """

    folder: str
    events: int
    sequences: dict[str, int]
    capsules: int
