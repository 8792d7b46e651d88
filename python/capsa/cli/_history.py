"""Commands that look back: decisions, feedback, one story, a replay, a rebuild, an export, the audit."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsa.cli._arguments import Commands, add_capsule, add_page, add_store, add_tenant
from capsa.cli._output import named, printable, short_time, table
from capsa.cli._store import open_existing, opened_capsule

if TYPE_CHECKING:
    from capsa.decisions._history import AuditRecord, Difference


def add_commands(commands: Commands) -> None:
    """Adds what looks back."""
    for name, run, help_ in (
        ("decisions", _decisions, "show what was decided, oldest first"),
        ("feedback-log", _feedback_log, "show what came of decisions, oldest first"),
    ):
        page = commands.add_parser(name, help=help_, description=_sentence(help_))
        add_capsule(page)
        add_page(page)
        page.set_defaults(run=run)
    for name, run, help_ in (
        ("story", _story, "tell everything about one decision"),
        ("replay", _replay, "make one decision again from the journal and compare it"),
    ):
        one = commands.add_parser(name, help=help_, description=_sentence(help_))
        add_capsule(one)
        one.add_argument("id", metavar="ID", help="the decision, as decide gave it")
        one.set_defaults(run=run)
    rebuild = commands.add_parser(
        "rebuild",
        help="fold the whole journal again and compare it with what is in force",
        description="Folds the whole journal again and compares it with what is in force. It changes nothing.",
    )
    add_store(rebuild)
    rebuild.set_defaults(run=_rebuild)
    export = commands.add_parser(
        "export",
        help="write everything as files that a person can read",
        description="Writes everything as files that a person can read, into a new or an empty folder.",
    )
    add_store(export)
    export.add_argument("folder", type=Path, metavar="FOLDER", help="a new or an empty folder")
    export.set_defaults(run=_export)
    audit = commands.add_parser(
        "audit",
        help="show who changed what, or verify the journal",
        description="Shows who changed what in a tenant; with verify, looks for any event that was changed, lost, "
        "added or reordered, in all tenants.",
    )
    add_store(audit)
    audit.add_argument("what", nargs="?", choices=["verify"], help="look for damage instead")
    add_tenant(audit)
    add_page(audit)
    audit.set_defaults(run=_audit)


def _sentence(help_: str) -> str:
    verb, _, rest = help_.partition(" ")
    return f"{verb.capitalize()}s {rest}."


def _page(rows: list[Any], chosen: argparse.Namespace, name: str) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    following = rows[-1].sequence if len(rows) == chosen.limit else None
    if following is not None and not chosen.json:
        print(f"more: --after {following}")
    return {name: to_json(rows), "next": following}


def _decisions(chosen: argparse.Namespace) -> dict[str, Any]:
    with open_existing(chosen.store) as store:
        rows = opened_capsule(store, chosen).decisions(chosen.after, chosen.limit)
    if not chosen.json:
        headers = ("sequence", "time (UTC)", "context", "option", "prob.", "id")
        lines = [
            (
                row.sequence,
                short_time(row.time),
                row.context_key,
                named(row.choices),
                row.propensity,
                row.decision_id,
            )
            for row in rows
        ]
        print(table(headers, lines, whole=("sequence", "time (UTC)", "prob.", "id")))
    return _page(rows, chosen, "decisions")


def _feedback_log(chosen: argparse.Namespace) -> dict[str, Any]:
    with open_existing(chosen.store) as store:
        rows = opened_capsule(store, chosen).feedback_log(chosen.after, chosen.limit)
    if not chosen.json:
        headers = ("sequence", "time (UTC)", "status", "reward", "credited", "id")
        lines = [
            (
                row.sequence,
                short_time(row.time),
                row.status,
                row.reward,
                named(row.credited),
                row.decision_id or "none",
            )
            for row in rows
        ]
        print(table(headers, lines, whole=("sequence", "time (UTC)", "reward", "id")))
    return _page(rows, chosen, "feedback")


def _story(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    with open_existing(chosen.store) as store:
        story = opened_capsule(store, chosen).story(chosen.id)
    if not chosen.json:
        decision = story.decision
        chance = "not drawn" if decision.propensity is None else f"probability {decision.propensity:.4g}"
        print(f"{short_time(decision.time)}  decided {printable(named(decision.choices))}, {chance}")
        version = f"v{decision.capsule_version}, learner version {decision.learner_version}"
        print(f"  {decision.mode}, {decision.reason}, {version}")
        print(f"  context {printable(decision.context_key)} from the {decision.context_key_from}")
        if decision.suggested is not None:
            share = f"probability {decision.suggested['propensity']:.4g}"
            print(f"  suggested {printable(named(decision.suggested['choices']))}, {share}")
        for post in story.posts:
            metrics = ", ".join(f"{printable(name)} {value:.4g}" for name, value in post.metrics.items())
            reward = "" if post.reward is None else f"reward {post.reward:.4g}"
            print(f"{short_time(post.time)}  {post.status}  {'  '.join(filter(None, [metrics, reward]))}")
            if post.taken is not None:
                print(f"  carried out: {printable(named(post.taken)) if post.taken else 'nothing of ours'}")
        awaited = f"; awaited: {', '.join(story.missing)}" if story.missing else ""
        print(f"now {story.status}{awaited}; feedback is learned until {short_time(decision.deadline)}")
    result: dict[str, Any] = to_json(story)
    return result


def _replay(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    with open_existing(chosen.store) as store:
        replay = opened_capsule(store, chosen).replay(chosen.id)
    if not chosen.json:
        print({True: "equal", False: "NOT EQUAL", None: "nothing can be compared"}[replay.equal])
        print(
            f"compared at learner version {replay.learner_version}: {', '.join(replay.compared) or 'nothing'}"
        )
        _show_differences(replay.differences)
        for note in replay.notes:
            print(f"! {note}")
    return {"ok": replay.equal is True, **to_json(replay)}


def _rebuild(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    with open_existing(chosen.store) as store:
        rebuild = store.rebuild()
    if not chosen.json:
        headers = ("capsule", "equal", "decisions", "learner version", "state")
        lines = [
            (
                f"{row.tenant}/{row.job}/{row.capsule}",
                "yes" if row.equal else "NO",
                row.decisions,
                row.learner_version,
                (row.state_hash or "-")[:19],
            )
            for row in rebuild.capsules
        ]
        print(table(headers, lines))
        for row in rebuild.capsules:
            _show_differences(row.differences)
        print(f"{rebuild.events} events folded: {'equal' if rebuild.equal else 'NOT EQUAL'}")
    return {"ok": rebuild.equal, **to_json(rebuild)}


def _show_differences(differences: list[Difference]) -> None:
    for each in differences:
        print(f"  {each.what}: {printable(each.recorded)} was recorded, {printable(each.again)} came out")


def _export(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    with open_existing(chosen.store) as store:
        done = store.export(chosen.folder)
    if not chosen.json:
        print(f"wrote {done.events} events and {done.capsules} capsules to {printable(done.folder)}")
    result: dict[str, Any] = to_json(done)
    return result


def _audit(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    with open_existing(chosen.store) as store:
        if chosen.what == "verify":
            faults, events = store.verify(), sum(map(store.journal.length, store.journal.streams()))
            if not chosen.json:
                for fault in faults:
                    where = f"{fault.stream} {fault.first}..{fault.last}".strip()
                    print(f"{fault.kind}  {printable(where)}  {printable(fault.detail)}")
                print(f"{events} events, {len(faults)} faults")
            return {"ok": not faults, "events": events, "faults": to_json(faults)}
        rows = store.audit(chosen.tenant, chosen.after, chosen.limit)
    if not chosen.json:
        headers = ("sequence", "time (UTC)", "who", "what", "where", "detail")
        print(table(headers, [_audit_line(row) for row in rows], whole=("sequence", "time (UTC)", "what")))
    return _page(rows, chosen, "audit")


def _audit_line(row: AuditRecord) -> tuple[object, ...]:
    where = "/".join(filter(None, (row.job, row.capsule))) or "-"
    detail = dict(row.detail)
    # Where it is stands beside it.
    detail.pop("capsule", None)
    said = "  ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        # The table cuts the end: a digest can be spared sooner than a version.
        for name, value in sorted(detail.items(), key=lambda item: len(str(item[1])))
    )
    return (row.sequence, short_time(row.time), row.principal, row.type, where, said)
