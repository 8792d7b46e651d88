"""Commands that use a store: ``decide``, ``feedback``, ``report``, ``contexts``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from capsa.cli._arguments import (
    add_capsule,
    add_decision,
    add_limit,
    is_url,
    json_object,
    number,
    option,
)
from capsa.cli._arguments import options as read_options
from capsa.cli._output import Answer, named, short_time, table
from capsa.cli._usage import Commands, add_command, nearest
from capsa.errors import NotAStore, StoreLocked, UnknownCapsule, UnknownJob, UnknownTenant
from capsa.journal import Inspection, inspect
from capsa.wire import context_page, feedback_json, report_json

if TYPE_CHECKING:
    from capsa import Capsule, ContextMemory, Decision, Feedback, Store
    from capsa.client import Client, RemoteCapsule, RemoteDecision

Seen = TypeVar("Seen")

#: Seconds that a server has for an answer.
_PATIENCE_S: Final = 60.0


def add_commands(commands: Commands) -> None:
    """Adds what uses a store."""
    _add_decide(commands)
    _add_feedback(commands)
    report = add_command(commands, "report", _report, "show what is chosen, how often, and at what reward")
    add_capsule(report)
    contexts = add_command(
        commands,
        "contexts",
        _contexts,
        "show what each context has learned",
        "Shows what each context of a capsule has learned, in the order of their keys.",
    )
    add_capsule(contexts)
    contexts.add_argument(
        "--after", metavar="KEY", help="start after this key: the last one of the page before"
    )
    add_limit(contexts)


def _add_decide(commands: Commands) -> None:
    decide = add_command(
        commands,
        "decide",
        _decide,
        "choose an option for one input",
        "Chooses an option for one input, and records the decision.",
    )
    add_capsule(decide)
    decide.add_argument(
        "--input",
        metavar="JSON",
        help="what the capsule looks at: a JSON object, @FILE, or - for standard input",
    )
    decide.add_argument("--context-key", metavar="KEY", help="the context, instead of what the input gives")
    decide.add_argument(
        "--options", metavar="A,B", help="allow only these: names with commas between them, or JSON"
    )
    decide.add_argument(
        "--current", metavar="OPTION", help="what would be done without Capsa: a name, or JSON by strategy"
    )
    decide.add_argument(
        "--subject", metavar="TEXT", help="whom it is about, so that all about them can be erased"
    )


def _add_feedback(commands: Commands) -> None:
    feedback = add_command(
        commands,
        "feedback",
        _feedback,
        "report what came of a decision",
        "Reports what came of a decision. When the command ends, it is on disk; the same again "
        "changes nothing.",
    )
    add_decision(feedback)
    what = feedback.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--outcome", metavar="JSON", help="metrics: a JSON object, @FILE, or - for standard input"
    )
    what.add_argument("--reward", type=number, metavar="N", help="one number instead")
    feedback.add_argument(
        "--taken",
        metavar="OPTION",
        help="what was really carried out: a name, JSON by strategy, or null for nothing of ours",
    )


def open_existing(folder: Path, *, retention: str | None = None) -> Store:
    """Opens a store that is there; `capsa.open` would make one.

    Raises:
        NotAStore: There is none.
        InvalidField: `retention` is not a duration.
    """
    import capsa

    check_store(folder)
    # How long events are kept is declared where the service opens the store: a look at it must not cut any off.
    return capsa.open(folder, retention=retention, upkeep=False)


@contextmanager
def folder_alone() -> Iterator[None]:
    """Around what is done in the folder of a store and by no server: there is nobody to ask where the store is in use.

    Raises:
        StoreLocked: It is; says so.
    """
    try:
        yield
    except StoreLocked as error:
        raise StoreLocked(
            error.detail,
            value=error.value,
            remedy="stop that process first, for example capsa serve: this is done in the folder, never over HTTP",
        ) from None


def check_store(folder: Path, remedy: str | None = None) -> None:
    """Refuses a folder without a store.

    Args:
        folder: Any path.
        remedy: What to do then. Left out: name another one, or make one.

    Raises:
        NotAStore: There is none.
    """
    if not folder.is_dir():
        detail = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
    elif (folder / "store.sqlite").exists():
        return
    else:
        detail = f"there is no store in {folder}"
    raise NotAStore(
        detail, remedy=remedy or f"name the folder of a store, or make one: capsa install {folder} SPEC"
    )


def looked_at(folder: Path, look: Callable[[Inspection], Seen]) -> Seen:
    """What is seen of a store that is not opened: it may be in use, and is not changed.

    Raises:
        NotAStore: There is none.
        OSError: The folder cannot be read.
    """
    check_store(folder)
    while True:
        with inspect(folder) as inspection:
            seen = look(inspection)
            # Somebody has begun to write: what was read may be of two moments.
            if not inspection.disturbed:
                return seen


@contextmanager
def opened_capsule(chosen: argparse.Namespace) -> Iterator[Capsule | RemoteCapsule]:
    """The capsule that the arguments name, in its store, which is open meanwhile; or at a server.

    Raises:
        NotAStore: There is no store.
        NotFound: There is no such tenant, job or capsule; says which capsules there are.
    """
    if is_url(chosen.store):
        with client_of(chosen.store) as client:
            yield client.tenant(chosen.tenant).job(chosen.job).capsule(chosen.capsule)
        return
    with open_existing(chosen.store) as store:
        job = store.tenant(chosen.tenant).job(chosen.job)
        try:
            capsule = job.capsule(chosen.capsule)
        except (UnknownTenant, UnknownJob, UnknownCapsule) as error:
            raise type(error)(
                error.detail, value=error.value, remedy=_which(chosen, job.capsules())
            ) from None
        yield capsule


def client_of(url: str) -> Client:
    """A client of the server at a URL, with the key of the environment."""
    from capsa.client import Client

    # Some answers take a server its time.
    return Client(url, timeout=_PATIENCE_S)


def _which(chosen: argparse.Namespace, there: list[str]) -> str:
    if not there:
        place = "".join(
            f" --{name} {value}"
            for name, value in (("tenant", chosen.tenant), ("job", chosen.job))
            if value != "default"
        )
        return f"install it first: capsa install {chosen.store} SPEC{place}"
    meant = nearest(chosen.capsule, there)
    return (
        f"did you mean {meant}" if meant else f"there are: {', '.join(there[:5])}{', …' * (len(there) > 5)}"
    )


def _decide(chosen: argparse.Namespace) -> Answer:
    given = None if chosen.input is None else json_object(chosen.input, "input")
    allowed = None if chosen.options is None else read_options(chosen.options, "options")
    current = None if chosen.current is None else option(chosen.current, "current")
    with opened_capsule(chosen) as capsule:
        decision = capsule.decide(
            given, context_key=chosen.context_key, options=allowed, current=current, subject=chosen.subject
        )
    return Answer(_decision_json(decision), _decision_lines(decision))


def _decision_lines(decision: Decision | RemoteDecision) -> Iterator[str]:
    chance = "" if decision.propensity is None else f"  probability {decision.propensity:.4g}"
    yield f"{named(decision.choices)}{chance}  {decision.reason}"
    if decision.suggested is not None:
        suggested = decision.suggested
        yield f"suggested: {named(suggested.choices)}  probability {suggested.propensity:.4g}"
    yield f"context: {decision.context_key}"
    yield f"id: {decision.id or 'none: the mode is off, and nothing is recorded'}"
    for warning in decision.warnings:
        yield f"! {warning}"


def _decision_json(decision: Decision | RemoteDecision) -> dict[str, Any]:
    from capsa.decisions._learning import to_camel

    values: dict[str, Any] = {
        "decisionId": decision.id,
        "capsule": decision.capsule,
        "capsuleVersion": decision.capsule_version,
        "job": decision.job,
        "tenant": decision.tenant,
        "mode": decision.mode,
        "contextKey": decision.context_key,
        "contextKeyFrom": decision.context_key_from,
        "propensity": decision.propensity,
        "reason": to_camel(decision.reason),
        "suggested": None,
        "decisions": [_strategy_json(each) for each in decision.decisions],
        "learnerVersion": decision.learner_version,
        "warnings": decision.warnings,
    }
    if decision.strategy is not None:
        values |= {"strategyId": decision.strategy_id, "strategy": decision.strategy}
        values |= {"option": decision.option, "optionName": decision.option_name}
    if decision.suggested is not None:
        suggested = decision.suggested
        values["suggested"] = {
            "propensity": suggested.propensity,
            "reason": to_camel(suggested.reason),
            "decisions": [_strategy_json(each) for each in suggested.decisions],
        }
        if suggested.option_name is not None:
            values["suggested"] |= {"option": suggested.option, "optionName": suggested.option_name}
    return values


def _strategy_json(part: Any) -> dict[str, Any]:
    return {
        "strategyId": part.strategy_id,
        "strategy": part.strategy,
        "option": part.option,
        "optionName": part.option_name,
        "propensity": part.propensity,
        "names": part.names,
        "probabilities": part.probabilities,
    }


def _feedback(chosen: argparse.Namespace) -> Answer:
    sent: dict[str, Any] = {}
    if chosen.outcome is not None:
        sent["outcome"] = json_object(chosen.outcome, "outcome")
    else:
        sent["reward"] = chosen.reward
    if chosen.taken is not None:
        sent["taken"] = option(chosen.taken, "taken")
    with opened_capsule(chosen) as capsule:
        feedback = capsule.feedback(chosen.id, **sent)
        if feedback.status in ("queued", "dropped"):
            # It would wait in a process that is about to end.
            from capsa.client import Unreachable

            raise Unreachable(
                "the server does not answer", remedy="send it again once it does: it counts once"
            )
    return Answer(feedback_json(feedback), _feedback_lines(feedback))


def _feedback_lines(feedback: Feedback) -> Iterator[str]:
    reward = "" if feedback.reward is None else f"  reward {feedback.reward:.4g}"
    yield f"{feedback.status}{reward}  context {feedback.context_key}"
    if feedback.missing:
        yield f"awaited: {', '.join(feedback.missing)}"
    for part in feedback.decisions if feedback.status == "applied" else []:
        weights = "  ".join(
            f"{one:.3f}→{other:.3f}" for one, other in zip(part.before, part.after, strict=True)
        )
        yield f"{part.strategy}: {part.option_name} is credited; weights {weights}"


def _report(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        report = capsule.report()
    return Answer(report_json(report), str(report).split("\n"))


def _contexts(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        rows = capsule.contexts(after=chosen.after, limit=chosen.limit)
    following = rows[-1].context_key if len(rows) == chosen.limit else None
    return Answer(context_page(rows, chosen.limit), _context_lines(rows, following))


def _context_lines(rows: list[ContextMemory], following: str | None) -> Iterator[str]:
    leaders = []
    for row in rows:
        for strategy, weights in row.weights.items():
            leader = max(range(len(weights)), key=weights.__getitem__)
            learned = (row.decisions, row.rewards, short_time(row.updated_at))
            leaders.append(
                (row.context_key, strategy, row.names[strategy][leader], weights[leader], *learned)
            )
    headers = ("context", "strategy", "leader", "weight", "decisions", "rewards", "updated (UTC)")
    yield from table(headers, leaders, whole=("weight", "decisions", "rewards", "updated (UTC)"))
    if following is not None:
        yield f"more: --after {following}"
