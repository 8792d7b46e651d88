"""What is served of one capsule: install, decide, feedback, and what there is to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from capsa.decisions._batch import MAX_DECISIONS, MAX_FEEDBACKS
from capsa.errors import CapsaError, InvalidField, StaleDocument, UnknownField, shown
from capsa.server import _problems
from capsa.server._call import Answer, Call
from capsa.wire import (
    Decide,
    DecideBatch,
    FeedbackBatch,
    FeedbackPost,
    audit_page,
    context_page,
    decoded,
    encode,
    feedback_json,
    installed_json,
    learning_json,
    page,
    report_json,
    to_json,
)

if TYPE_CHECKING:
    from capsa.decisions import AsyncCapsule

_PAGE = 100


async def install(call: Call) -> Answer:
    """Installs what the body is: YAML or a component, told apart by its first bytes."""
    query = call.query()
    dry_run = call.flag(query, "dryRun")
    data = await call.raw()
    named = call.named
    job = call.store.sync.tenant(named["tenant"]).job(named["job"])
    async with call.service.slow():
        result = await asyncio.to_thread(job.plan if dry_run else job.installed, data, name=named["capsule"])
    return Answer(installed_json(named["tenant"], named["job"], result, dry_run=dry_run))


async def describe(call: Call) -> Answer:
    """What is installed."""
    call.query()
    return Answer(call.capsule().sync.describe())


async def decide(call: Call) -> Answer:
    """Chooses an option for one input."""
    capsule = call.capsule()
    full = "?" in call.request.raw_path and call.flag(call.query(), "probabilities")
    await call.service.breathe()
    headers = call.request.headers
    key = headers.get("Idempotency-Key")
    if key is None and not call.is_cbor:
        decision = await capsule.decide_body(await call.raw())
        if decision is not None:
            return Answer(capsule.sync.answer(decision, full=full))
    asked = await call.body(Decide)
    decision = await capsule.decide(
        asked.input,
        context_key=asked.context_key,
        options=asked.options,
        current=asked.current,
        subject=asked.subject,
        idempotency_key=key,
    )
    return Answer(capsule.sync.answer(decision, full=full))


async def decide_batch(call: Call) -> Answer:
    """Chooses for many inputs; a fault of one is a problem document in its place."""
    capsule = call.capsule()
    full = call.flag(call.query(), "probabilities")
    asked = await call.body(DecideBatch)
    _check_length("requests", asked.requests, MAX_DECISIONS)
    async with call.service.slow():
        return await call.slowly(lambda: _decide_all(capsule, asked.requests, full))


def _decide_all(capsule: AsyncCapsule, requests: list[Any], full: bool) -> bytes:
    answers = [
        encode(_problems.document(answer, ""))
        if isinstance(answer, CapsaError)
        else capsule.sync.answer(answer, full=full)
        for answer in _each(requests, _decision_arguments, capsule.sync.decide_batch)
    ]
    # Each is JSON already.
    return b'{"results":[' + b",".join(answers) + b"]}"


def _decision_arguments(item: Any) -> dict[str, Any]:
    asked = decoded(item, Decide)
    return {name: value for name in asked.__struct_fields__ if (value := getattr(asked, name)) is not None}


async def feedback(call: Call) -> Answer:
    """Takes what came of a decision; it is on disk when this answers."""
    call.query()
    capsule = call.capsule()
    await call.service.breathe()
    key = call.request.headers.get("Idempotency-Key")
    if key is None and not call.is_cbor:
        answer = await capsule.feedback_body(await call.raw())
        if answer is not None:
            return Answer(answer)
    posted = await call.body(FeedbackPost)
    return Answer(feedback_json(await capsule.feedback(**posted.arguments(), idempotency_key=key)))


async def feedback_batch(call: Call) -> Answer:
    """Takes what came of many decisions, each whole or not at all."""
    call.query()
    capsule = call.capsule()
    posted = await call.body(FeedbackBatch)
    _check_length("events", posted.events, MAX_FEEDBACKS)

    def work() -> dict[str, Any]:
        answers = _each(
            posted.events, lambda item: decoded(item, FeedbackPost).arguments(), capsule.sync.feedback_batch
        )
        results = [
            _problems.document(answer, "") if isinstance(answer, CapsaError) else feedback_json(answer)
            for answer in answers
        ]
        failed = sum(isinstance(answer, CapsaError) for answer in answers)
        return {"results": results, "okCount": len(results) - failed, "errCount": failed}

    async with call.service.slow():
        return await call.slowly(work)


def _each(
    items: list[Any],
    arguments: Callable[[Any], dict[str, Any]],
    call: Callable[[list[Mapping[str, Any]]], list[Any]],
) -> list[Any]:
    """What each item comes to, in their order: those that are no request have their error in their place."""
    answers: list[Any] = [None] * len(items)
    good: list[int] = []
    asked: list[Mapping[str, Any]] = []
    for at, item in enumerate(items):
        try:
            asked.append(arguments(item))
            good.append(at)
        except (InvalidField, UnknownField) as error:
            answers[at] = error
    for at, answer in zip(good, call(asked), strict=True):
        answers[at] = answer
    return answers


def _check_length(name: str, items: list[Any], most: int) -> None:
    if len(items) > most:
        raise InvalidField(
            f"{name} has {len(items)} items",
            pointer=f"/{name}",
            value=str(len(items)),
            remedy=f"send at most {most} at once",
        )


async def report(call: Call) -> Answer:
    """What is chosen where, how sure, at what reward."""
    call.query()
    capsule = call.capsule()
    async with call.service.slow():
        return await call.slowly(lambda: report_json(capsule.sync.report()))


async def contexts(call: Call) -> Answer:
    """What each context has learned, by pages."""
    query = call.query()
    limit = call.number(query, "limit", _PAGE)
    capsule = call.capsule()
    async with call.service.slow():
        return await call.slowly(
            lambda: context_page(capsule.sync.contexts(after=query.get("after"), limit=limit), limit)
        )


async def decisions(call: Call) -> Answer:
    """What was decided, by pages."""
    after, limit = _page(call)
    capsule = call.capsule()
    async with call.service.slow():
        return await call.slowly(lambda: page("decisions", capsule.sync.decisions(after, limit), limit))


async def feedback_log(call: Call) -> Answer:
    """What was posted, by pages."""
    after, limit = _page(call)
    capsule = call.capsule()
    async with call.service.slow():
        return await call.slowly(lambda: page("feedback", capsule.sync.feedback_log(after, limit), limit))


async def audit(call: Call) -> Answer:
    """What people and gates changed, by pages: of a tenant, or of one capsule."""
    query = call.query()
    after, limit = call.number(query, "after", 0), call.number(query, "limit", _PAGE)
    read: Callable[[int, int], list[Any]]
    if "capsule" in call.named:
        read = call.capsule().sync.audit
    else:
        read = partial(call.store.sync.audit, query.get("tenant", "default"))
    async with call.service.slow():
        return await call.slowly(lambda: audit_page(read(after, limit), limit))


async def story(call: Call) -> Answer:
    """Everything about one decision."""
    call.query()
    capsule = call.capsule()
    async with call.service.slow():
        return await call.slowly(lambda: to_json(capsule.sync.story(call.named["decisionId"])))


def _page(call: Call) -> tuple[int, int]:
    query = call.query()
    return call.number(query, "after", 0), call.number(query, "limit", _PAGE)


async def learning(call: Call) -> Answer:
    """The learning document."""
    call.query()
    return _document(await call.capsule().learning())


def _document(document: Mapping[str, Any]) -> Answer:
    return Answer(learning_json(document), headers={"ETag": f'"{document["version"]}"'})


async def change_learning(call: Call) -> Answer:
    """Changes settings, all of them or none. A key that is left out stays, null gives the file's value back."""
    call.query()
    capsule = call.capsule()
    sent = await call.value()
    if not isinstance(sent, dict):
        raise InvalidField("the document is not an object", pointer="", remedy="send settings by name")
    async with call.service.slow():
        while True:
            present = learning_json(await capsule.learning())
            version, changes = _wanted(call, sent, present)
            try:
                # Worked out against this document: it must still be the one that is changed.
                document = await capsule.change_learning(
                    changes, if_version=present["version"] if version is None else version
                )
                return _document(document)
            except StaleDocument:
                if version is not None:
                    raise


def _wanted(call: Call, sent: dict[str, Any], present: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """The version that the caller wants to change, if he says so, and the changes."""
    changes = _old_spellings(sent)
    now = present["version"]
    version = (
        now if call.if_match(str(now), f"the learning document has version {now}", "/ifVersion") else None
    )
    if "version" in changes:
        # Sent back as it was read: then it says which document was meant. Another than the header's is stale.
        version = _whole(changes.pop("version"))
    overridden = changes.pop("overridden", present["overridden"])
    if overridden != present["overridden"] and version in (None, now):
        raise InvalidField(
            "overridden is told, not set",
            pointer="/overridden",
            remedy="leave it out, or send it as it was read",
        )
    return version, _differing(changes, present) if call.request.method == "PUT" else changes


def _whole(version: object) -> int:
    if not isinstance(version, int) or isinstance(version, bool):
        raise InvalidField(
            "version is not a whole number", pointer="/version", value=shown(version), remedy="leave it out"
        )
    return version


#: How clients of the nearest system spell the rails.
_SAFETY = {
    "freezeLearning": "freeze",
    "minExploration": "minExploration",
    "maxWeightDeltaPerFeedback": "maxDelta",
}


def _old_spellings(sent: dict[str, Any]) -> dict[str, Any]:
    if "safety" not in sent:
        return dict(sent)
    changes = {name: value for name, value in sent.items() if name != "safety"}
    safety, rails = sent["safety"], changes.get("rails", {})
    for name, value in (("safety", safety), ("rails", rails)):
        if not isinstance(value, dict):
            raise InvalidField(
                f"{name} is not an object", pointer=f"/{name}", value=shown(value), remedy="send rails alone"
            )
    renamed = dict(rails)
    for name, value in safety.items():
        known = _SAFETY.get(name)
        if known is None:
            raise UnknownField(
                f"safety has no {shown(name)!r}",
                pointer=f"/safety/{shown(name)}",
                value=shown(name),
                remedy=f"use {', '.join(_SAFETY)}",
            )
        if known in renamed:
            raise InvalidField(
                f"{known} is given twice", pointer=f"/safety/{name}", remedy="send it in rails, or in safety"
            )
        renamed[known] = value
    return {**changes, "rails": renamed}


def _differing(changes: dict[str, Any], present: dict[str, Any]) -> dict[str, Any]:
    """Of a document that was read, changed and put back: what is not in force already."""
    differing = {
        name: value for name, value in changes.items() if not _same(value, present.get(name, _NOTHING))
    }
    rails, known = differing.get("rails"), present["rails"]
    if isinstance(rails, dict):
        changed = {
            rail: value for rail, value in rails.items() if not _same(value, known.get(rail, _NOTHING))
        }
        differing["rails"] = changed
    return differing


#: Equal to nothing that is sent.
_NOTHING: Final = object()


def _same(one: object, other: object) -> bool:
    # True is no 1 here.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


async def delete(call: Call) -> Answer:
    """Deletes the capsule: what it has learned, and the content of its logs."""
    call.query()
    named = call.named
    async with call.service.slow():
        deleted = await call.store.delete_capsule(named["tenant"], named["job"], named["capsule"])
    call.service.forget(named["tenant"], named["job"], named["capsule"])
    return Answer(to_json(deleted))


async def purge_logs(call: Call) -> Answer:
    """Removes the content of the logs up to now. What was learned stays, and so does the audit log."""
    call.query()
    named = call.named
    async with call.service.slow():
        return Answer(to_json(await call.store.purge_logs(named["tenant"], named["job"], named["capsule"])))
