"""What the demo prints. No figure or verdict is written here: all are worked out from the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from capsa.demo._classic import EVENTS_EACH, RIGHT_WEIGHT, Classic
from capsa.demo._experiments import (
    BEST_FIXED,
    BEST_PER_KEY,
    BY_TASK,
    BY_TIER,
    ONE_PRICE,
    ORACLE,
    OURS,
    RANDOM,
    Experiment,
    Setup,
    needed,
    spread,
)
from capsa.demo._over_http import GROUP, Interruption
from capsa.demo._restart import Restart
from capsa.demo._result import Claim
from capsa.demo._simulation import LONGEST_DELAY, PRICE_CUT, Run, half_time
from capsa.demo._table import MODELS, Prompt

_TITLES = {
    BY_TIER.name: "1. The customer's tier is the context",
    BY_TASK.name: "2. The task is in the context too",
    ONE_PRICE.name: "3. One price: every customer is in the free tier",
}


def opening(table: Sequence[Prompt], seeds: int) -> Iterator[str]:
    """What is about to happen, and what of it is made up."""
    first_cheap = half_time(len(table)) + 1
    yield f"Routing {len(table):,} real prompts over {len(MODELS)} models, {seeds} time{'s' if seeds > 1 else ''}."
    yield "Real: how good each model's answer was (a judge's score, 0 to 1) and what the call cost."
    yield "Simulated, drawn by the seed: the order of the prompts, whose request each is, and when feedback comes."
    yield "  reward = quality - 0.7 x cost; cost = price on a log scale (0.00001 USD = 0, 0.1 USD = 1) x tier factor:"
    yield "  free 1 (they pay nothing, so our cost counts in full), standard 0.3, enterprise 0 (the best, at any cost)"
    yield f"  feedback comes 1 to {LONGEST_DELAY} requests late, shuffled, half of it in two posts"
    yield f"  prices: steady, or one model {PRICE_CUT:g}x cheaper from request {first_cheap} on. The capsule is not told."
    yield "  one spec for everything; the one setting in it that is not a default, its decay, was chosen on these data"


def over_http(url: str) -> Iterator[str]:
    """Where it happens, when it is not in this process."""
    yield f"Over HTTP: `capsa serve` runs in a process of its own at {url}, on a temporary store."
    yield f"  {GROUP} requests come at once: their decisions are one call, and so is the feedback that has arrived meanwhile"
    yield "  the server draws the decisions, and nobody knows its seed: another run gives slightly other figures"
    yield "  the first requests, one by one:"


def table(experiments: Sequence[Experiment]) -> Iterator[str]:
    """One setup under every course of prices: the figures, then what they mean."""
    setup = experiments[0].setup
    seeds = len(experiments[0].seeds)
    yield ""
    yield _TITLES[setup.name]
    yield f"mean reward per request{f' ± sd over {seeds} seeds' if seeds > 1 else ''}; {_context_count(experiments[0])}"
    yield _row("prices:", [prices(each.cut) for each in experiments])
    for rule in (OURS, BEST_FIXED, *MODELS, RANDOM, BEST_PER_KEY, ORACLE):
        if rule == BEST_PER_KEY and setup == ONE_PRICE:
            continue
        cells = []
        for each in experiments:
            values = each.reward[rule]
            deviation = f" ±{spread(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.4f}{deviation}")
        yield _row(f"  {rule}" if rule in MODELS else setup.label(rule), cells)
    yield _row("ours - best fixed", [f"{fmean(each.gain):+.4f}" for each in experiments])
    yield _row("seeds ahead", [f"{each.wins} of {seeds}" for each in experiments])
    for each in experiments:
        yield from sentences(each)


def _context_count(experiment: Experiment) -> str:
    return f"{experiment.contexts} context{'s' if experiment.contexts > 1 else ''}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<30}" + "".join(f"{cell:<24}" for cell in cells).rstrip()


def prices(cut: str | None) -> str:
    """A course of prices in a few words."""
    return "steady" if cut is None else f"{cut} / {PRICE_CUT:g}"


def sentences(experiment: Experiment) -> Iterator[str]:
    """What one experiment shows: first whether learning was better than the best fixed model, then why."""
    seeds, gain = len(experiment.seeds), fmean(experiment.gain)
    found = f"{gain:+.4f} a request, ahead on {experiment.wins} of {seeds} seeds"
    judged = {
        "better": "learning beats the best fixed model",
        "worse": "learning does NOT beat the best fixed model",
        "no clear difference": "learning does NOT clearly beat the best fixed model",
    }[experiment.verdict]
    yield f"  {prices(experiment.cut)}: {judged} ({found})."
    yield f"    {_why(experiment)}"


def _why(experiment: Experiment) -> str:
    better = experiment.verdict == "better"
    before, after = experiment.best_in_halves
    if experiment.setup == ONE_PRICE:
        if before != after:
            found = "learning follows." if better else "following costs about what it gains."
            return f"The right model changes from {before} to {after}: no fixed one is right throughout, and {found}"
        return f"{before} is right from first to last: there is nothing to gain by learning, and finding it costs."
    if experiment.setup == BY_TASK:
        each = experiment.decisions / len(experiment.seeds) / experiment.contexts
        return (
            f"{experiment.contexts} contexts have about {each:.0f} requests each, and one teaches the others nothing"
            f"{'.' if better else ': too few to learn from.'}"
        )
    room = fmean(experiment.reward[BEST_PER_KEY]) - fmean(experiment.reward[BEST_FIXED])
    gain = f"the best one for each tier, known beforehand, would gain {room:+.4f}"
    return (
        f"No single model suits all tiers: {gain}."
        if better
        else f"{gain[0].upper()}{gain[1:]}: finding out costs more."
    )


def noticed(runs: Sequence[Run], cut: str) -> str:
    """Whether the price cut was seen where it matters most."""
    model, window = MODELS.index(cut), 100
    before, after = [], []
    for run in runs:
        half = half_time(len(run.chosen))
        ours = [
            (at, weights[model])
            for at, (request, weights) in enumerate(zip(run.requests, run.weights, strict=True))
            if request.tier == "standard"
        ]
        before.append(fmean(weight for at, weight in ours if half - window <= at < half))
        after.append(fmean(weight for at, weight in ours if at >= len(run.chosen) - window))
    return (
        f"  The cut was noticed: in the standard tier {cut} went from {fmean(before):.0%} (last {window} requests "
        f"before it) to {fmean(after):.0%} (last {window} of all)."
        if fmean(after) > fmean(before)
        else f"  The cut was NOT noticed: in the standard tier {cut} went from {fmean(before):.0%} to {fmean(after):.0%}."
    )


def classic_lines(classic: Classic) -> Iterator[str]:
    """The 60 events."""
    events = EVENTS_EACH * len(classic.right)
    yield ""
    yield f"4. The classic: {events} outcomes of reward 1, simple_weighted, {EVENTS_EACH} in each of two contexts"
    yield _row("weights", classic.options)
    for key, weights in classic.weights.items():
        yield _row(key, [f"{weight:.1%}" for weight in weights])
    yield f"  {classic.unseen} was never spoken of and stays at the prior."


def restart_lines(restart: Restart) -> Iterator[str]:
    """The store on disk, and what its kills did."""
    yield ""
    yield "5. A store on disk whose process is killed"
    yield f"  {restart.requests} requests; kill -9 {restart.kills} times, each time with a feedback under way, then started again"
    yield f"  {restart.acknowledged} feedbacks acknowledged, {restart.sent_again} of them sent again since a kill left them without an answer"
    if restart.unrecorded:
        yield f"  {restart.unrecorded} of their decisions have no record, which a kill took before it was on disk; their ids told enough"


def claims(
    experiments: Sequence[Experiment],
    classic: Classic,
    restart: Restart,
    interruption: Interruption | None = None,
) -> Iterator[Claim]:
    """Everything the demo stands for, checked."""
    for each in experiments:
        seeds = len(each.seeds)
        if each.setup == BY_TIER and each.cut != "mistral_large":
            yield Claim(
                f"by tier, prices {prices(each.cut)}: ours beats the best fixed model on {each.wins} of {seeds} seeds "
                f"(asked: {needed(seeds)})",
                each.verdict == "better",
            )
    asked, learned = sum(each.decisions for each in experiments), sum(each.learned for each in experiments)
    yield Claim(f"every outcome was learned from once: {learned:,} of {asked:,} decisions", learned == asked)
    gap = max(each.reward_gap for each in experiments)
    yield Claim(
        f"the capsule's rewards are those worked out beside it (largest difference {gap:.0e})", gap < 1e-12
    )
    yield from classic_claims(classic)
    yield Claim(
        f"killed {restart.kills} times: {restart.lost} of {restart.acknowledged} acknowledged feedbacks lost, "
        f"{restart.unknown} refused, {restart.doubled} learned twice, the journal has {restart.faults} faults",
        restart.acknowledged > 0
        and restart.lost == restart.unknown == restart.doubled == restart.faults == 0,
    )
    if interruption is not None:
        then, now = interruption.learned
        yield Claim(
            f"killed in the middle of the streams, after {interruption.acknowledged:,} acknowledged feedbacks: "
            f"{interruption.changed} of {interruption.capsules} capsules changed, {then - now} rewards lost",
            interruption.acknowledged > 0 and interruption.changed == 0 and then == now,
        )


def classic_claims(classic: Classic) -> Iterator[Claim]:
    """What the 60 events stand for."""
    right = min(classic.right_weights())
    yield Claim(
        f"classic: the right option has {right:.1%} in each context (asked: {RIGHT_WEIGHT:.0%})",
        right >= RIGHT_WEIGHT,
    )
    yield Claim(
        f"classic: the unseen context is at the prior, 1/{len(classic.options)} each",
        classic.unseen_gap() < 1e-9,
    )
    if classic.kept is not None:
        yield Claim("classic: a kill and a new start have changed nothing of it", classic.kept)


def setup_name(setup: Setup) -> str:
    """A setup in a few words, for progress."""
    return f"context: {' and '.join(setup.contexts)}" if setup != ONE_PRICE else "one price for all"
