"""Commands that use a store: ``install``, ``decide``, ``feedback``, ``report``, ``contexts``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsa.cli._arguments import Commands, add_capsule, add_limit, add_place, add_store, json_object, option
from capsa.cli._arguments import options as read_options
from capsa.cli._output import named, printable, short_time, table

if TYPE_CHECKING:
    from capsa import Capsule, Decision, Store


def add_commands(commands: Commands) -> None:
    """Adds what uses a store."""
    _add_install(commands)
    _add_decide(commands)
    _add_feedback(commands)
    report = commands.add_parser(
        "report",
        help="show what is chosen, how often, and at what reward",
        description="Shows what a capsule chooses, how often, and at what reward.",
    )
    add_capsule(report)
    report.set_defaults(run=_report)
    contexts = commands.add_parser(
        "contexts",
        help="show what each context has learned",
        description="Shows what each context of a capsule has learned, in the order of their keys.",
    )
    add_capsule(contexts)
    contexts.add_argument(
        "--after", metavar="KEY", help="start after this key: the last one of the page before"
    )
    add_limit(contexts)
    contexts.set_defaults(run=_contexts)


def _add_install(commands: Commands) -> None:
    install = commands.add_parser(
        "install",
        help="install a capsule into a store, which is made if there is none",
        description="Installs a capsule, or its next version, into a store. The store is made if there is none; "
        "the same file again changes nothing.",
    )
    add_store(install)
    install.add_argument("spec", type=Path, metavar="SPEC", help="a YAML spec or a component")
    add_place(install)
    install.set_defaults(run=_install)


def _add_decide(commands: Commands) -> None:
    decide = commands.add_parser(
        "decide",
        help="choose an option for one input",
        description="Chooses an option for one input, and records the decision.",
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
    decide.set_defaults(run=_decide)


def _add_feedback(commands: Commands) -> None:
    feedback = commands.add_parser(
        "feedback",
        help="report what came of a decision",
        description="Reports what came of a decision. When the command ends, it is on disk; the same again "
        "changes nothing.",
    )
    add_capsule(feedback)
    feedback.add_argument("id", metavar="ID", help="the decision, as decide gave it")
    what = feedback.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--outcome", metavar="JSON", help="metrics: a JSON object, @FILE, or - for standard input"
    )
    what.add_argument("--reward", type=float, metavar="N", help="one number instead")
    feedback.add_argument(
        "--taken",
        metavar="OPTION",
        help="what was really carried out: a name, JSON by strategy, or null for nothing of ours",
    )
    feedback.set_defaults(run=_feedback)


def open_existing(folder: Path) -> Store:
    """Opens a store that is there; `capsa.open` would make one.

    Raises:
        NotAStore: There is none.
    """
    import capsa

    check_store(folder)
    return capsa.open(folder)


def check_store(folder: Path) -> None:
    """Refuses a folder without a store.

    Raises:
        NotAStore: There is none.
    """
    from capsa.journal import NotAStore

    if not folder.is_dir():
        detail = f"{folder} is not a folder" if folder.exists() else f"there is no folder {folder}"
    elif (folder / "store.sqlite").exists():
        return
    else:
        detail = f"there is no store in {folder}"
    raise NotAStore(detail, remedy=f"name the folder of a store, or make one: capsa install {folder} SPEC")


def opened_capsule(store: Store, chosen: argparse.Namespace) -> Capsule:
    """The capsule that the arguments name."""
    return store.tenant(chosen.tenant).job(chosen.job).capsule(chosen.capsule)


def _install(chosen: argparse.Namespace) -> dict[str, Any]:
    import capsa
    from capsa.capsules import read_source
    from capsa.decisions._history import to_json

    # Before the store is made: a spec that does not hold leaves nothing behind.
    read_source(chosen.spec)
    with capsa.open(chosen.store) as store:
        job = store.tenant(chosen.tenant).job(chosen.job)
        plan = job.plan(chosen.spec)
        capsule = job.install(chosen.spec)
        if not chosen.json:
            what = "is unchanged" if plan.unchanged else "is installed"
            print(f"{capsule.name} v{capsule.version} {what} ({plan.digest[:19]}…)")
            for change in plan.changes:
                print(f"  {printable(change)}")
        result: dict[str, Any] = to_json(plan)
    return result


def _decide(chosen: argparse.Namespace) -> dict[str, Any]:
    given = None if chosen.input is None else json_object(chosen.input, "input")
    allowed = None if chosen.options is None else read_options(chosen.options, "options")
    current = None if chosen.current is None else option(chosen.current, "current")
    with open_existing(chosen.store) as store:
        decision = opened_capsule(store, chosen).decide(
            given, context_key=chosen.context_key, options=allowed, current=current
        )
    if not chosen.json:
        _show(decision)
    return _decision_json(decision)


def _show(decision: Decision) -> None:
    chance = "" if decision.propensity is None else f"  probability {decision.propensity:.4g}"
    print(f"{printable(named(decision.choices))}{chance}  {decision.reason}")
    if decision.suggested is not None:
        suggested = decision.suggested
        print(f"suggested: {printable(named(suggested.choices))}  probability {suggested.propensity:.4g}")
    print(f"context: {printable(decision.context_key)}")
    print(f"id: {decision.id or 'none: the mode is off, and nothing is recorded'}")
    for warning in decision.warnings:
        print(f"! {printable(warning)}")


def _decision_json(decision: Decision) -> dict[str, Any]:
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


def _feedback(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    sent: dict[str, Any] = {}
    if chosen.outcome is not None:
        sent["outcome"] = json_object(chosen.outcome, "outcome")
    else:
        sent["reward"] = chosen.reward
    if chosen.taken is not None:
        sent["taken"] = option(chosen.taken, "taken")
    with open_existing(chosen.store) as store:
        feedback = opened_capsule(store, chosen).feedback(chosen.id, **sent)
    if not chosen.json:
        reward = "" if feedback.reward is None else f"  reward {feedback.reward:.4g}"
        print(f"{feedback.status}{reward}  context {printable(feedback.context_key)}")
        if feedback.missing:
            print(f"awaited: {', '.join(feedback.missing)}")
        for part in feedback.decisions if feedback.status == "applied" else []:
            weights = "  ".join(
                f"{one:.3f}→{other:.3f}" for one, other in zip(part.before, part.after, strict=True)
            )
            print(f"{part.strategy}: {part.option_name} is credited; weights {weights}")
    result: dict[str, Any] = to_json(feedback)
    return result


def _report(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    with open_existing(chosen.store) as store:
        report = opened_capsule(store, chosen).report()
    if not chosen.json:
        print(report)
    result: dict[str, Any] = to_json(report)
    return result


def _contexts(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    with open_existing(chosen.store) as store:
        rows = opened_capsule(store, chosen).contexts(after=chosen.after, limit=chosen.limit)
    if not chosen.json:
        print(_context_table(rows))
    following = rows[-1].context_key if len(rows) == chosen.limit else None
    return {"contexts": to_json(rows), "next": following}


def _context_table(rows: list[Any]) -> str:
    lines = []
    for row in rows:
        for strategy, weights in row.weights.items():
            leader = max(range(len(weights)), key=weights.__getitem__)
            name = row.names[strategy][leader]
            lines.append(
                (
                    row.context_key,
                    strategy,
                    name,
                    weights[leader],
                    row.decisions,
                    row.rewards,
                    short_time(row.updated_at),
                )
            )
    headers = ("context", "strategy", "leader", "weight", "decisions", "rewards", "updated (UTC)")
    return table(headers, lines, whole=("weight", "decisions", "rewards", "updated (UTC)"))
