"""What the calls answer, but for `Decision`, which is native."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from capsa._native import Decision
    from capsa.decisions._fold import CapsuleState
    from capsa.decisions._ledger import Row


class StrategyFeedback(msgspec.Struct, frozen=True, kw_only=True):
    """What one feedback did to one strategy.

    Attributes:
        strategy_id: The strategy's number.
        strategy: Its name.
        option: The number of the option that was credited; ``None`` where it is no longer offered.
        option_name: Its name.
        before: The weights of this context before, in option order; they sum to 1.
        after: The weights of this context afterwards.
    """

    strategy_id: int
    strategy: str
    option: int | None
    option_name: str
    before: list[float]
    after: list[float]


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one feedback.

    Attributes:
        decision_id: The decision; ``None`` for the explicit form.
        status: ``applied``, ``pending``, ``repeated``, ``late``, ``frozen``, ``kept`` (nothing of ours was
            carried out) or ``unrecorded`` (the decision was made with mode off). There is nothing to send again in any of them.
        reward: The reward, once every declared metric is there.
        parts: Each metric's share of the reward; empty for a plain reward.
        missing: Declared metrics that are awaited.
        context_key: The context that was credited.
        decisions: One entry for each strategy.
        learner_version: The learner version afterwards.
        sequence: The position of the event in the journal.
    """

    decision_id: str | None
    status: str
    reward: float | None
    parts: dict[str, float]
    missing: list[str]
    context_key: str
    decisions: list[StrategyFeedback]
    learner_version: int
    sequence: int

    @property
    def strategy_id(self) -> int | None:
        """The strategy's number, in a capsule with one."""
        return self.decisions[0].strategy_id if len(self.decisions) == 1 else None

    @property
    def strategy(self) -> str | None:
        """The strategy of a capsule with one."""
        return self.decisions[0].strategy if len(self.decisions) == 1 else None

    @property
    def option(self) -> int | None:
        """The credited option's number, with one strategy."""
        return self.decisions[0].option if len(self.decisions) == 1 else None

    @property
    def option_name(self) -> str | None:
        """The credited option's name, with one strategy."""
        return self.decisions[0].option_name if len(self.decisions) == 1 else None

    @property
    def before(self) -> list[float] | None:
        """The weights before, with one strategy."""
        return self.decisions[0].before if len(self.decisions) == 1 else None

    @property
    def after(self) -> list[float] | None:
        """The weights afterwards, with one strategy."""
        return self.decisions[0].after if len(self.decisions) == 1 else None


class ContextMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What one context key has learned.

    Attributes:
        context_key: The key.
        weights: The weights by strategy, in option order.
        names: The options by strategy.
        decisions: How many decisions were made in it.
        rewards: How many feedbacks it has learned from.
        updated_at: The time of the last one, RFC 3339.
    """

    context_key: str
    weights: dict[str, list[float]]
    names: dict[str, list[str]]
    decisions: int
    rewards: int
    updated_at: str


class InstallResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an install did, or would do.

    Attributes:
        capsule: The capsule's name.
        version: The host's number of the version.
        digest: The component's digest.
        unchanged: Whether these bytes were the current version already.
        changes: What it means for what was learned, in sentences.
    """

    capsule: str
    version: int
    digest: str
    unchanged: bool
    changes: list[str]


def answered(told: bytes) -> Feedback:
    """An answer that was given as JSON, by `Capsule.learn`."""
    read = msgspec.json.decode(told)
    parts = read.get("decisions", [read])
    return Feedback(
        decision_id=read["decisionId"],
        status=read["status"],
        reward=read["reward"],
        parts=read["parts"],
        missing=read["missing"],
        context_key=read["contextKey"],
        decisions=[
            StrategyFeedback(
                strategy_id=part["strategyId"],
                strategy=part["strategy"],
                option=part["option"],
                option_name=part["optionName"],
                before=part["before"],
                after=part["after"],
            )
            for part in parts
        ],
        learner_version=read["learnerVersion"],
        sequence=read["sequence"],
    )


def credited(
    state: CapsuleState,
    made: Mapping[str, str],
    before: dict[str, list[float]],
    after: dict[str, list[float]],
) -> list[StrategyFeedback]:
    """What a feedback did to each strategy of the installed version."""
    return [
        StrategyFeedback(
            strategy_id=strategy_id,
            strategy=strategy,
            option=options.index(made[strategy]) if made[strategy] in options else None,
            option_name=made[strategy],
            before=before[strategy],
            after=after[strategy],
        )
        for strategy_id, (strategy, options) in enumerate(state.options.items())
        if strategy in made
    ]


def unrecorded(state: CapsuleState, sequence: int) -> Feedback:
    """The answer to feedback on a decision that was made with mode off."""
    return Feedback(
        decision_id=None,
        status="unrecorded",
        reward=None,
        parts={},
        missing=[],
        context_key="",
        decisions=[],
        learner_version=state.native.learner_version,
        sequence=sequence,
    )


def told_again(state: CapsuleState, row: Row, decision: Decision, now_ms: int) -> Feedback:
    """The answer to a post that says what is known: the first one, or what the journal knows of it.

    The store's lock is held.
    """
    if row.answer is not None:
        return msgspec.structs.replace(row.answer, status="repeated")
    assert row.outcome is not None
    native, metrics = state.native, row.metrics or {}
    weights = native.weights(decision.context_key, now_ms)
    return Feedback(
        decision_id=decision.id,
        status="repeated",
        reward=row.outcome["reward"],
        parts=native.parts(metrics) or {},
        missing=[name for name in native.declared_metrics or [] if metrics and name not in metrics],
        context_key=decision.context_key,
        decisions=credited(state, row.outcome["made"], weights, weights),
        learner_version=native.learner_version,
        sequence=row.posted,
    )
