"""Commands that look back: decisions, feedback, one story, replays, a rebuild, an export."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from capsa.cli._arguments import add_capsule, add_decision, add_page, add_store, is_url, path
from capsa.cli._output import Answer, counted, named, short_hash, short_time, table
from capsa.cli._store import open_existing, opened_capsule
from capsa.cli._usage import Commands, add_command
from capsa.decisions import Capsule
from capsa.decisions._history import DecisionRecord, Difference, Rebuild, Replay, Story, to_json
from capsa.errors import InvalidField
from capsa.wire import replayed_json

if TYPE_CHECKING:
    from capsa.tools import Replayed


def add_commands(commands: Commands) -> None:
    """Adds what looks back."""
    for name, run_page, help_ in (
        ("decisions", _decisions, "show what was decided, oldest first"),
        ("feedback-log", _feedback_log, "show what came of decisions, oldest first"),
    ):
        page = add_command(commands, name, run_page, help_)
        add_capsule(page)
        add_page(page)
    for name, run_one, help_ in (
        ("story", _story, "tell everything about one decision"),
        (
            "replay",
            _replay,
            "make one decision, or a recorded call of a tool, again from the journal and compare it",
        ),
    ):
        add_decision(add_command(commands, name, run_one, help_))
    rebuild = add_command(
        commands,
        "rebuild",
        _rebuild,
        "fold the whole journal again and compare it with what is in force",
        "Folds the whole journal again and compares it with what is in force. It changes nothing.",
    )
    add_store(rebuild)
    export = add_command(
        commands,
        "export",
        _export,
        "write everything as files that a person can read",
        "Writes everything as files that a person can read, into a new or an empty folder.",
    )
    add_store(export)
    export.add_argument("folder", type=path, metavar="FOLDER", help="a new or an empty folder")


def page(name: str, rows: list[Any], chosen: argparse.Namespace, lines: Iterable[str]) -> Answer:
    """A page of the journal.

    Args:
        name: What the rows are in JSON.
        rows: Each with its `sequence`.
        chosen: Has the `limit` that was asked for.
        lines: The rows for a person.
    """
    following = rows[-1].sequence if len(rows) == chosen.limit else None
    return counted_page({name: to_json(rows), "next": following}, lines)


def counted_page(values: Mapping[str, Any], lines: Iterable[str]) -> Answer:
    """A page whose ``next`` is the sequence that the one after it begins behind, null after the last one."""
    more = [] if values["next"] is None else [f"more: --after {values['next']}"]
    return Answer(values, (line for part in (lines, more) for line in part))


def _decisions(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        rows = capsule.decisions(chosen.after, chosen.limit)
    headers = ("sequence", "time (UTC)", "context", "option", "prob.", "id")
    cells = [
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
    lines = table(headers, cells, whole=("sequence", "time (UTC)", "prob.", "id"))
    return page("decisions", rows, chosen, lines)


def _feedback_log(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        rows = capsule.feedback_log(chosen.after, chosen.limit)
    headers = ("sequence", "time (UTC)", "status", "reward", "credited", "id")
    cells = [
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
    lines = table(headers, cells, whole=("sequence", "time (UTC)", "reward", "id"))
    return page("feedback", rows, chosen, lines)


def _story(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        story = capsule.story(chosen.id)
    return Answer(to_json(story), _story_lines(story))


def _story_lines(story: Story) -> Iterator[str]:
    until = ""
    if story.decision is not None:
        yield from _decided_lines(story.decision)
        until = f"; feedback is learned until {short_time(story.decision.deadline)}"
    for post in story.posts:
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in post.metrics.items())
        reward = "" if post.reward is None else f"reward {post.reward:.4g}"
        horizon = "the horizon passed" if post.by_horizon else ""
        said = "  ".join(filter(None, [horizon, metrics, reward]))
        yield f"{short_time(post.time)}  {post.status}  {said}".rstrip()
        if post.taken is not None:
            yield f"  carried out: {named(post.taken) if post.taken else 'nothing of ours'}"
    for note in story.notes:
        yield f"! {note}"
    awaited = f"; awaited: {', '.join(story.missing)}" if story.missing else ""
    yield f"now {story.status}{awaited}{until}"


def _decided_lines(decision: DecisionRecord) -> Iterator[str]:
    chance = "not drawn" if decision.propensity is None else f"probability {decision.propensity:.4g}"
    yield f"{short_time(decision.time)}  decided {named(decision.choices)}, {chance}"
    version = f"v{decision.capsule_version}, learner version {decision.learner_version}"
    yield f"  {decision.mode}, {decision.reason}, {version}"
    yield f"  context {decision.context_key} from the {decision.context_key_from}"
    if decision.suggested is not None:
        share = f"probability {decision.suggested['propensity']:.4g}"
        yield f"  suggested {named(decision.suggested['choices'])}, {share}"


def _replay(chosen: argparse.Namespace) -> Answer:
    if chosen.id.startswith("inv_"):
        with opened_capsule(chosen) as capsule:
            again = capsule.replay_invocation(chosen.id)
        return Answer({"ok": again.same, **replayed_json(again)}, _replayed_lines(again))
    if is_url(chosen.store):
        raise InvalidField(
            "a server replays no decisions",
            pointer="/store",
            remedy="make a backup (capsa backup works beside the server) and replay it there",
        )
    with opened_capsule(chosen) as capsule:
        assert isinstance(capsule, Capsule)
        replay = capsule.replay(chosen.id)
    return Answer({"ok": replay.equal is True, **to_json(replay)}, _replay_lines(replay))


def _replay_lines(replay: Replay) -> Iterator[str]:
    yield {True: "equal", False: "NOT EQUAL", None: "nothing can be compared"}[replay.equal]
    if replay.compared:
        yield f"compared at learner version {replay.learner_version}: {', '.join(replay.compared)}"
    yield from map(_difference, replay.differences)
    for note in replay.notes:
        yield f"! {note}"


def _replayed_lines(again: Replayed) -> Iterator[str]:
    yield "equal" if again.same else "NOT EQUAL"
    if again.differences:
        yield f"differ: {', '.join(again.differences)}"
    if again.output != again.recorded_output:
        then, now = (json.dumps(each, ensure_ascii=False) for each in (again.recorded_output, again.output))
        yield f"  output: {then} was recorded, {now} came out"


def _rebuild(chosen: argparse.Namespace) -> Answer:
    with open_existing(chosen.store) as store:
        rebuild = store.rebuild()
    return Answer({"ok": rebuild.equal, **to_json(rebuild)}, _rebuild_lines(rebuild))


def _rebuild_lines(rebuild: Rebuild) -> Iterator[str]:
    headers = ("capsule", "equal", "decisions", "learner version", "state")
    cells = [
        (
            f"{row.tenant}/{row.job}/{row.capsule}",
            "yes" if row.equal else "NO",
            row.decisions,
            row.learner_version,
            short_hash(row.state_hash),
        )
        for row in rebuild.capsules
    ]
    yield from table(headers, cells)
    for row in rebuild.capsules:
        yield from map(_difference, row.differences)
    yield f"{counted(rebuild.events, 'event')} folded: {'equal' if rebuild.equal else 'NOT EQUAL'}"


def _difference(each: Difference) -> str:
    return f"  {each.what}: {each.recorded} was recorded, {each.again} came out"


def _export(chosen: argparse.Namespace) -> Answer:
    with open_existing(chosen.store) as store:
        done = store.export(chosen.folder)
    what = f"{counted(done.events, 'event')} and {counted(done.capsules, 'capsule')}"
    line = f"wrote {what} to {done.folder}"
    return Answer(to_json(done), [line])
