"""What `capsa demo static-policy` prints. No figure or verdict is written here: all are worked out from the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from capsa.demo._experiments import BY_TIER, ONE_PRICE, OURS, RANDOM, needed, spread
from capsa.demo._result import Claim
from capsa.demo._simulation import PRICE_CUT
from capsa.demo._text import prices
from capsa.demo.static._rules import CHOSEN, CHOSEN_PER_KEY, FIRST, Comparison

#: Where a learner has to be ahead of the one model that was fixed: no model suits all, or the right one changes.
_CLAIMED = ((BY_TIER.name, None), (BY_TIER.name, "gemini25_pro"), (ONE_PRICE.name, "mistral_large"))


def opening(requests: int, seeds: int) -> Iterator[str]:
    """What is compared."""
    yield f"Fixed rules of routing against the learner, on the same {requests:,} requests, {seeds} time{'s' if seeds > 1 else ''}."
    yield f"  {CHOSEN}: one model for all, chosen with every outcome of every model known of these {FIRST}"
    yield f"  {CHOSEN_PER_KEY}: the same for each tier: three rules that somebody writes down once"
    yield f"  scored after the first {FIRST}; the choice costs the fixed rules nothing, which flatters them"
    yield f"  prices: steady, or one model {PRICE_CUT:g}x cheaper at half time. Nobody is told."


def title(comparison: Comparison) -> str:
    """A comparison in a few words."""
    whose = "every customer is in the free tier" if comparison.setup == ONE_PRICE else "three tiers"
    return f"{whose}; prices {prices(comparison.cut)}"


def table(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """One setup under every course of prices: the figures, then what they mean."""
    first = comparisons[0]
    seeds = len(first.reward[OURS])
    yield ""
    yield title(first).partition(";")[0].capitalize()
    yield f"mean reward per request{f' ± sd over {seeds} seeds' if seeds > 1 else ''}; in brackets: ours less this, seeds ahead"
    yield _row("prices:", [prices(each.cut) for each in comparisons])
    yield _row(OURS, [_figure(each.reward[OURS]) for each in comparisons])
    for rule in first.fixed:
        cells = [
            f"{fmean(each.reward[rule]):.4f} ({each.gain(rule):+.4f}, {each.wins[rule]} of {seeds})"
            for each in comparisons
        ]
        yield _row(rule, cells)
    for each in comparisons:
        yield from _sentences(each)


def _figure(values: Sequence[float]) -> str:
    deviation = f" ±{spread(values):.4f}" if len(values) > 1 else ""
    return f"{fmean(values):.4f}{deviation}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<32}" + "".join(f"{cell:<28}" for cell in cells).rstrip()


def _sentences(comparison: Comparison) -> Iterator[str]:
    """First what holds against the fixed rules that somebody would really choose, then what finding out has cost."""
    words = {
        "better": "learning is better than",
        "worse": "learning is NOT as good as",
        "no clear difference": "learning is NOT clearly better than",
    }
    told = [
        f"{words[comparison.verdict[rule]]} the {rule} ({comparison.gain(rule):+.4f})"
        for rule in (CHOSEN, CHOSEN_PER_KEY)
        if rule in comparison.verdict
    ]
    yield f"  {prices(comparison.cut)}: {'; '.join(told)}."
    ours, in_turn = fmean(comparison.early[OURS]), fmean(comparison.early[RANDOM])
    yield f"    In the first {FIRST} it earned {ours:.4f} a request; trying the models in turn earns {in_turn:.4f}."


def claims(comparisons: Sequence[Comparison]) -> Iterator[Claim]:
    """What the comparison stands for, checked. Where a fixed rule is as good, the tables say so."""
    for each in comparisons:
        seeds = len(each.reward[OURS])
        if (each.setup.name, each.cut) in _CLAIMED:
            yield Claim(
                f"{title(each)}: ours beats the {CHOSEN} on {each.wins[CHOSEN]} of {seeds} seeds (asked: {needed(seeds)})",
                each.verdict[CHOSEN] == "better",
            )
    asked, learned = sum(each.decisions for each in comparisons), sum(each.learned for each in comparisons)
    yield Claim(f"every outcome was learned from once: {learned:,} of {asked:,} decisions", learned == asked)
