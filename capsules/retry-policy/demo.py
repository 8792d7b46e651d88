"""A service learns how long to wait for a flaky dependency and how often to try again.

The dependency, its callers and their clock are simulated; the capsule is the one that stands beside this file, used
through the public API alone. It is held against every valid combination of timeout and retries.

Invariants:
* a run is a function of its arguments: time and chance are simulated;
* every rule of choosing meets the same requests with the same luck;
* the capsule is told what came of the combination that it chose and of no other.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Final, NamedTuple

import msgspec
from flaky_dependency import (
    CALL_REPORTED_WITHIN_S,
    COMBINATIONS,
    SUCCESS_REPORTED_WITHIN_S,
    WORLDS,
    Combination,
    Outcome,
    Request,
    World,
    call,
    stream,
)

import capsa

SPEC: Final = Path(__file__).with_name("capsule.yaml")

CAPSA: Final = "Capsa"
UNIFORM: Final = "uniform over the valid ones"
BEST_PER_CONTEXT: Final = "best per context, in hindsight"

#: Decisions of a context that show what it does now.
LATELY: Final = 100

_START_S: Final = 1_767_603_600.0  # 2026-01-05 09:00 UTC


def utility(outcome: Outcome) -> float:
    """What the spec makes of an outcome, worked out here once more to compare."""
    return (
        0.6 * outcome.success - 0.6 * min(outcome.latency_ms / 10_000, 1) - 0.1 * (outcome.attempts - 1) / 3
    )


class Run(NamedTuple):
    """What one pass came to; the lists have one entry for each request.

    Attributes:
        requests: The stream.
        outcomes: What each combination would have come to.
        utilities: What that would have been worth.
        keys: The context keys that the capsule computed.
        chosen: The number of the combination that the capsule chose.
        reported: The numbers of the requests in the order of their last report.
        learned: How many rewards the capsule says it has learned from.
        reward_gap: The largest difference between the capsule's reward and ours.
        state_hash: The digest of what was learned in the end.
    """

    requests: list[Request]
    outcomes: list[list[Outcome]]
    utilities: list[list[float]]
    keys: list[str]
    chosen: list[int]
    reported: list[int]
    learned: int
    reward_gap: float
    state_hash: str


def run(world: World, requests: int, seed: int) -> Run:
    """Sends every request through the capsule, on a clock that jumps from event to event."""
    drawn = stream(world, requests, seed)
    outcomes = [[call(request.attempts, combination) for combination in COMBINATIONS] for request in drawn]
    utilities = [[utility(outcome) for outcome in row] for row in outcomes]
    keys: list[str] = []
    ids: list[str] = []
    chosen: list[int] = []
    reported: list[int] = []
    reward_gap = 0.0
    # (time, request, metrics to report); no metrics: the request is made. Sorted, so a heap already.
    events: list[tuple[float, int, tuple[str, ...]]] = [
        (request.at_s, number, ()) for number, request in enumerate(drawn)
    ]
    at_s = 0.0
    with capsa.open(clock=lambda: _START_S + at_s, seed=seed) as store:
        retry = store.install(SPEC)
        while events:
            at_s, number, metrics = heapq.heappop(events)
            request = drawn[number]
            if metrics:
                truth = outcomes[number][chosen[number]]
                feedback = retry.feedback(
                    ids[number], outcome={name: getattr(truth, name) for name in metrics}
                )
                if feedback.reward is not None:
                    reported.append(number)
                    reward_gap = max(reward_gap, abs(feedback.reward - utilities[number][chosen[number]]))
                continue
            decision = retry.decide({"endpoint": request.endpoint, "load": request.load})
            assert decision.id is not None
            keys.append(decision.context_key)
            ids.append(decision.id)
            choices = decision.choices
            chosen.append(COMBINATIONS.index(Combination(choices["timeout"], choices["retries"])))
            ended_s = at_s + outcomes[number][chosen[number]].latency_ms / 1000
            reports = (
                (request.call_reported_after_s, ("latency_ms", "attempts")),
                (request.success_reported_after_s, ("success",)),
            )
            for after_s, names in reports:
                heapq.heappush(events, (ended_s + after_s, number, names))
        learned, state_hash = retry.report().feedback.applied, retry.state_hash
    return Run(drawn, outcomes, utilities, keys, chosen, reported, learned, reward_gap, state_hash)


class Rule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one rule of choosing came to.

    Attributes:
        name: `CAPSA`, `UNIFORM`, `BEST_PER_CONTEXT` or the label of a combination.
        utility: Mean per request.
        utility_second_half: The same over the second half of the requests.
        p95_latency_ms: 95 % of the requests ended within it.
        success: The share of requests that were answered.
    """

    name: str
    utility: float
    utility_second_half: float
    p95_latency_ms: float
    success: float


class ContextResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was right in one context while it was in one regime, and what the capsule did.

    Attributes:
        context_key: The context.
        regime: The regime.
        requests: How many there were.
        best: The best combination in hindsight.
        best_utility: What it earned a request.
        worst_utility: What the worst one earned.
        earned: What the capsule earned.
        lately: What the capsule chose most often in the last `LATELY` requests.
        lately_share: How often.
        lately_utility: What that combination earned over all requests of the context and regime.
    """

    context_key: str
    regime: str
    requests: int
    best: str
    best_utility: float
    worst_utility: float
    earned: float
    lately: str
    lately_share: float
    lately_utility: float


class WorldResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What came out in one world.

    Attributes:
        name: The world.
        title: What it is about.
        rules: Ours, the best per context, every combination from the best to the worst, and uniform.
        best_fixed: The best single combination in hindsight.
        gain: Ours less that one, per request.
        gain_error: Its standard error.
        verdict: ``better``, ``worse`` or ``no clear difference``: whether the gain is beyond two standard errors.
        contexts: What was learned.
        learned: How many rewards the capsule has learned from.
        reward_gap: The largest difference between the capsule's reward and a computation beside it.
        state_hash: The digest of what was learned.
    """

    name: str
    title: str
    rules: list[Rule]
    best_fixed: str
    gain: float
    gain_error: float
    verdict: str
    contexts: list[ContextResult]
    learned: int
    reward_gap: float
    state_hash: str

    def rule(self, name: str) -> Rule:
        """One rule by its name."""
        return next(rule for rule in self.rules if rule.name == name)


class DemoResult(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything that was found."""

    requests: int
    seed: int
    worlds: list[WorldResult]


def judge(world: World, done: Run) -> WorldResult:
    """Holds one pass against every other rule."""
    utilities = done.utilities
    everything = range(len(done.requests))
    contexts: dict[str, list[int]] = {}
    regimes: dict[tuple[str, str], list[int]] = {}
    for number, key in enumerate(done.keys):
        contexts.setdefault(key, []).append(number)
        regimes.setdefault((key, done.requests[number].regime.name), []).append(number)

    best_of = {
        key: max(earned := _earned(utilities, among), key=earned.__getitem__)
        for key, among in contexts.items()
    }
    fixed = _earned(utilities, everything)
    ranking = sorted(fixed, key=lambda combination: (-fixed[combination], combination))
    best = ranking[0]
    gains = [row[ours] - row[best] for row, ours in zip(utilities, done.chosen, strict=True)]
    gain, error = fmean(gains), stdev(gains) / math.sqrt(len(gains))
    rules = [
        _rule(CAPSA, done, [[ours] for ours in done.chosen]),
        _rule(BEST_PER_CONTEXT, done, [[best_of[key]] for key in done.keys]),
        *(_rule(COMBINATIONS[at].label, done, [[at]] * len(everything)) for at in ranking),
        _rule(UNIFORM, done, [list(range(len(COMBINATIONS)))] * len(everything)),
    ]
    return WorldResult(
        name=world.name,
        title=world.title,
        rules=rules,
        best_fixed=COMBINATIONS[best].label,
        gain=gain,
        gain_error=error,
        verdict=verdict(gain, error),
        contexts=[_context(key, regime, done, among) for (key, regime), among in sorted(regimes.items())],
        learned=done.learned,
        reward_gap=done.reward_gap,
        state_hash=done.state_hash,
    )


def verdict(gain: float, error: float) -> str:
    """What may be said of a gain with this standard error."""
    if abs(gain) <= 2 * error:
        return "no clear difference"
    return "better" if gain > 0 else "worse"


def _earned(utilities: Sequence[Sequence[float]], among: Sequence[int]) -> dict[int, float]:
    """What each combination earned per request, among some requests."""
    return {at: fmean(utilities[number][at] for number in among) for at in range(len(COMBINATIONS))}


def _rule(name: str, done: Run, taken: Sequence[Sequence[int]]) -> Rule:
    """A rule that takes, for each request, one of some combinations, each as likely as the others."""
    earned = [
        math.fsum(row[at] for at in those) / len(those)
        for row, those in zip(done.utilities, taken, strict=True)
    ]
    drawn = [row[at] for row, those in zip(done.outcomes, taken, strict=True) for at in those]
    latencies = sorted(outcome.latency_ms for outcome in drawn)
    return Rule(
        name=name,
        utility=fmean(earned),
        utility_second_half=fmean(earned[len(earned) // 2 :]),
        p95_latency_ms=latencies[math.ceil(0.95 * len(latencies)) - 1],
        success=fmean(outcome.success for outcome in drawn),
    )


def _context(key: str, regime: str, done: Run, among: Sequence[int]) -> ContextResult:
    fixed = _earned(done.utilities, among)
    best = max(fixed, key=fixed.__getitem__)
    last = [done.chosen[number] for number in among[-LATELY:]]
    lately, times = Counter(last).most_common(1)[0]
    return ContextResult(
        context_key=key,
        regime=regime,
        requests=len(among),
        best=COMBINATIONS[best].label,
        best_utility=fixed[best],
        worst_utility=min(fixed.values()),
        earned=fmean(done.utilities[number][done.chosen[number]] for number in among),
        lately=COMBINATIONS[lately].label,
        lately_share=times / len(last),
        lately_utility=fixed[lately],
    )


def conduct(requests: int, seed: int) -> DemoResult:
    """Runs every world."""
    worlds = [judge(world, run(world, requests, seed)) for world in WORLDS]
    return DemoResult(requests=requests, seed=seed, worlds=worlds)


def lines(result: DemoResult) -> Iterator[str]:
    """What a person reads. No figure or verdict is written here: all are worked out from the run."""
    yield f"A service calls a simulated dependency {result.requests:,} times in each world (seed {result.seed})."
    yield f"For every request one of {len(COMBINATIONS)} valid combinations of timeout and retries is chosen."
    yield "  utility = 0.6 x success - 0.6 x latency / 10 s (at most 1) - 0.1 x retries made / 3"
    yield f"  latency and attempts are reported up to {CALL_REPORTED_WITHIN_S:g} s after the end of a request,"
    yield f"  success up to {SUCCESS_REPORTED_WITHIN_S:g} s, in whatever order: the clock is simulated too"
    for number, world in enumerate(result.worlds, start=1):
        yield ""
        yield f"{number}. {world.title}"
        yield from _rule_lines(world, every=number == 1)
        yield f"  {sentence(world)}"
        yield from _context_lines(world, every=number == 1)


def _rule_lines(world: WorldResult, *, every: bool) -> Iterator[str]:
    """The rules, or those that matter most."""
    yield f"  {'':<32}{'utility':>9}{'2nd half':>10}{'p95 latency':>13}{'success':>9}"
    for rule in world.rules:
        if every or rule.name in (CAPSA, BEST_PER_CONTEXT, world.best_fixed, UNIFORM):
            mark = "  <- best fixed, in hindsight" if rule.name == world.best_fixed else ""
            yield (
                f"  {rule.name:<32}{rule.utility:>9.4f}{rule.utility_second_half:>10.4f}"
                f"{rule.p95_latency_ms / 1000:>11.2f} s{rule.success:>9.1%}{mark}"
            )


def _context_lines(world: WorldResult, *, every: bool) -> Iterator[str]:
    """What was learned in each context, or in those whose regime changed."""
    regimes = Counter(each.context_key for each in world.contexts)
    shown = [each for each in world.contexts if every or regimes[each.context_key] > 1]
    if shown:
        yield (
            f"  {'context':<15}{'regime':<16}{'requests':<10}{'best in hindsight':<22}{'worst':>8}{'Capsa':>8}"
            f"  its favourite in the last {LATELY}"
        )
    for each in shown:
        yield (
            f"  {each.context_key:<15}{each.regime:<16}{each.requests:<10,}{each.best:<15}{each.best_utility:>7.4f}"
            f"{each.worst_utility:>8.4f}{each.earned:>8.4f}  {each.lately} ({each.lately_share:.0%})"
        )


def sentence(world: WorldResult) -> str:
    """Whether learning was better than the best fixed combination."""
    judged = {
        "better": "Capsa beats",
        "worse": "Capsa does NOT beat",
        "no clear difference": "Capsa does NOT clearly beat",
    }[world.verdict]
    found = f"{world.gain:+.4f} a request, standard error {world.gain_error:.4f}"
    return f"{judged} the best fixed combination ({found})."


def main(arguments: Sequence[str] | None = None, echo: Callable[[str], object] = print) -> int:
    """Runs the demo and gives its exit code."""
    parser = argparse.ArgumentParser(description="Learns timeout and retries for a simulated dependency.")
    parser.add_argument(
        "--requests",
        type=_whole(60, 100_000),
        default=4000,
        metavar="N",
        help="in each world, 60 to 100000 (default: 4000)",
    )
    parser.add_argument(
        "--seed", type=_whole(0, 2**63 - 1), default=0, metavar="S", help="draws everything (default: 0)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON document")
    chosen = parser.parse_args(arguments)
    result = conduct(chosen.requests, chosen.seed)
    if chosen.json:
        echo(json.dumps(msgspec.to_builtins(result), ensure_ascii=False))
    else:
        for line in lines(result):
            echo(line)
    return 0


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


if __name__ == "__main__":
    sys.exit(main())
