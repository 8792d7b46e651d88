"""The report: what is chosen where, how sure, at what reward."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from capsa._native import LearnedThen
from capsa.decisions._fold import CapsuleState
from capsa.decisions._learning import algorithms, is_overridden, shown_algorithm
from capsa.journal import timestamp

#: So long a change of settings is told, though it was taken back; one that is in force always is.
CHANGED_MS: Final = 7 * 24 * 3600 * 1000


class OptionReport(msgspec.Struct, frozen=True, kw_only=True):
    """One option.

    Attributes:
        option: Its number.
        option_name: Its name.
        weight: The mean weight over contexts, by their traffic.
        decisions: How often it was answered.
        rewards: How many learned rewards it was credited with.
        mean: Their mean; ``None`` before the first.
        low: Interval of the mean that holds at any time; ``None`` until this version has one.
        high: See `low`.
        without_feedback: The share of its decisions whose horizon passed in silence, of those that await nothing;
            ``None`` before the first.
    """

    option: int
    option_name: str
    weight: float
    decisions: int
    rewards: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    without_feedback: float | None = None


class StrategyReport(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy; `leader` is the option with the largest mean weight."""

    strategy_id: int
    strategy: str
    leader: str
    leader_is_best: float | None
    options: list[OptionReport]


class FeedbackReport(msgspec.Struct, frozen=True, kw_only=True):
    """Feedback by what became of it.

    `pending` and `expired` count decisions, as of a 256th of the horizon ago at most; the others what was recorded.
    `defaulted` are those of `applied` that the horizon brought.
    """

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


class ContextsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The contexts that are held, and what the input lacked or held undeclared."""

    count: int
    limit: int
    evicted: int
    unknown: dict[str, int]
    other: dict[str, dict[str, int]]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something that deserves a look."""

    kind: str
    text: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one capsule decides and has learned. ``print(report)`` draws it as a table."""

    tenant: str
    job: str
    capsule: str
    capsule_version: int
    as_of: str
    sequence: int
    state_hash: str
    mode: str
    algorithm: str | dict[str, Any]
    frozen: bool
    decisions: int
    feedback: FeedbackReport
    reward_mean: float | None
    reward_range: list[float]
    shadow_agreement: float | None
    strategies: list[StrategyReport]
    contexts: ContextsReport
    notices: list[Notice]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        values: dict[str, Any] = msgspec.to_builtins(self)
        return values

    def __str__(self) -> str:
        feedback = self.feedback
        mean = "-" if self.reward_mean is None else f"{self.reward_mean:.3f}"
        lines = [
            f"{self.capsule} v{self.capsule_version}  mode {self.mode}"
            + ("  FROZEN" if self.frozen else "")
            + f"  algorithm {shown_algorithm(self.algorithm)}",
            f"{self.decisions} decisions  {feedback.applied} learned  {feedback.pending} awaited"
            f"  {feedback.expired} expired  mean reward {mean}",
        ]
        for strategy in self.strategies:
            width = max(len(option.option_name) for option in strategy.options)
            lines.append(f"{strategy.strategy}: {strategy.leader} leads")
            for option in sorted(strategy.options, key=lambda option: -option.weight):
                bar = "█" * round(24 * option.weight)
                mean = "    -" if option.mean is None else f"{option.mean:5.3f}"
                lines.append(
                    f"  {option.option_name:<{width}}  {option.weight:5.1%} {bar:<24}"
                    f"  {option.decisions:>7} decisions  mean reward {mean}"
                )
        lines.append(f"{self.contexts.count} contexts")
        lines.extend(f"! {notice.text}" for notice in self.notices)
        return "\n".join(lines)


class Folded(msgspec.Struct, frozen=True):
    """What a report reads in one moment, under the store's lock."""

    counts: dict[str, Any]
    learned: LearnedThen
    sequence: int
    changed: dict[str, dict[str, Any]]
    overrides: str


def folded(state: CapsuleState, sequence: int, now_ms: int) -> Folded:
    """The counts of one moment. The store's lock is held."""
    native = state.native
    return Folded(native.counts(now_ms), native.learned(), sequence, dict(state.changed), native.overrides)


def build(tenant: str, job: str, capsule: str, state: CapsuleState, folded: Folded, now_ms: int) -> Report:
    """The report. Weights are worked out without a lock: decisions go on."""
    native, counts = state.native, folded.counts
    definition = json.loads(native.definition_in_force)
    weights = native.mean_weights(now_ms)
    pending, expired = counts["waiting"]
    feedback = FeedbackReport(**counts["feedback"], pending=pending, expired=expired, repeated=state.repeated)
    strategies = [
        _strategy(number, strategy, weights[strategy["name"]], counts["options"].get(strategy["name"], {}))
        for number, strategy in enumerate(definition["strategies"])
    ]
    count, evicted = counts["contexts"]
    contexts = ContextsReport(
        count=count,
        limit=definition["maxContexts"],
        evicted=evicted,
        unknown=counts["unknown"],
        other=counts["other"],
    )
    shadow_decisions, agreed = counts["shadow"]
    applied = feedback.applied
    report = Report(
        tenant=tenant,
        job=job,
        capsule=capsule,
        capsule_version=native.version,
        as_of=timestamp(now_ms),
        sequence=folded.sequence,
        state_hash=folded.learned.state_hash,
        mode=definition["mode"],
        algorithm=algorithms(definition["strategies"]),
        frozen=definition["rails"]["freeze"],
        decisions=counts["decisions"],
        feedback=feedback,
        reward_mean=counts["reward_sum"] / applied if applied else None,
        reward_range=definition["rewardRange"],
        shadow_agreement=agreed / shadow_decisions if shadow_decisions else None,
        strategies=strategies,
        contexts=contexts,
        notices=[],
    )
    notices = _notices(report, counts["uncounted"]) + _changed(folded, now_ms)
    return msgspec.structs.replace(report, notices=notices)


def _strategy(
    number: int,
    strategy: dict[str, Any],
    weights: list[float],
    tallies: dict[str, tuple[int, int, float, int, int]],
) -> StrategyReport:
    options = []
    for at, (name, weight) in enumerate(zip(strategy["options"], weights, strict=True)):
        decisions, rewards, total, waiting, expired = tallies.get(name, (0, 0, 0.0, 0, 0))
        options.append(
            OptionReport(
                option=at,
                option_name=name,
                weight=weight,
                decisions=decisions,
                rewards=rewards,
                mean=total / rewards if rewards else None,
                without_feedback=expired / (decisions - waiting) if decisions > waiting else None,
            )
        )
    leader = max(options, key=lambda option: option.weight).option_name
    return StrategyReport(
        strategy_id=number, strategy=strategy["name"], leader=leader, leader_is_best=None, options=options
    )


def _changed(folded: Folded, now_ms: int) -> list[Notice]:
    """Settings that are not the file's, or were changed a short time ago."""
    overrides, notices = json.loads(folded.overrides), []
    for dotted, change in sorted(folded.changed.items()):
        overridden = is_overridden(overrides, dotted)
        if overridden or now_ms - change["at_ms"] <= CHANGED_MS:
            # Whoever named himself so cannot forge lines.
            by = str(change["by"]).encode("unicode_escape").decode()
            what = "was changed" if overridden else "was given back to the file's value"
            text = f"{dotted} {what} by {by} at {timestamp(change['at_ms'])}"
            notices.append(Notice(kind="configuration-changed", text=text))
    return notices


def _notices(report: Report, uncounted: int) -> list[Notice]:
    notices = []
    if uncounted:
        text = f"{uncounted} decisions were made in more contexts than are counted apart: mean weights leave them out"
        notices.append(Notice(kind="contexts-uncounted", text=text))
    for name, count in sorted(report.contexts.unknown.items()):
        text = (
            f"{name} was missing in {count} of {report.decisions} decisions: they share the context unknown"
        )
        notices.append(Notice(kind="context-unknown", text=text))
    for name, values in sorted(report.contexts.other.items()):
        # Callers sent them: escaped, so that they cannot forge lines or steer a terminal.
        most = sorted(values, key=lambda value: -values[value])[:3]
        often = ", ".join(value.encode("unicode_escape").decode() for value in most)
        text = f"{name} had undeclared values ({often}) in {sum(values.values())} decisions: they share the context other"
        notices.append(Notice(kind="context-other", text=text))
    if report.contexts.evicted:
        text = (
            f"{report.contexts.evicted} contexts were evicted: raise max_contexts or declare coarser contexts"
        )
        notices.append(Notice(kind="contexts-evicted", text=text))
    if report.decisions >= 100 and not report.feedback.applied and report.mode != "off":
        text = f"{report.decisions} decisions and no learned feedback: nothing can be learned without it"
        notices.append(Notice(kind="feedback-missing", text=text))
    notices += filter(None, map(_uneven, report.strategies))
    return notices


#: Decisions of an option that await nothing any more, from which on their silence says something.
_SETTLED: Final = 50
#: Shares of silent decisions that differ by more make the means of their options hard to compare.
_UNEVEN: Final = 0.05


def _uneven(strategy: StrategyReport) -> Notice | None:
    """Where feedback is missing more often after one option than after another."""
    known = [
        (option.without_feedback, option)
        for option in strategy.options
        if option.without_feedback is not None and option.decisions >= _SETTLED
    ]
    if len(known) < 2:
        return None
    least, worst = min(known, key=lambda each: each[0]), max(known, key=lambda each: each[0])
    if worst[0] - least[0] <= _UNEVEN:
        return None
    text = (
        f"{worst[1].option_name}: {worst[0]:.0%} of decisions never got feedback, {least[1].option_name} {least[0]:.0%}; "
        "their means are not comparable"
    )
    return Notice(kind="feedback-missing-unevenly", text=text)
