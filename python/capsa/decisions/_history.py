"""Views of the journal: what was decided, what came of it, who changed what, and whether it all still holds.

Everything here reads. Pages go by sequence number: a row's `sequence` is the cursor of the page
after it, and nothing before a cursor is read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from capsa import _native
from capsa.decisions import _feedback, _learning
from capsa.decisions._fold import CapsuleState, Fold
from capsa.decisions._ids import decision_id as id_of
from capsa.decisions._ids import unknown_decision
from capsa.errors import InvalidField, UnknownTenant, shown
from capsa.journal import EVENT_TYPES, Event

if TYPE_CHECKING:
    from capsa.decisions._store import Store

Place = tuple[str, str, str]

#: Most rows in one page.
MAX_PAGE: Final = 1000
#: What people and gates caused: every type but those of single decisions and of the store's own keeping.
AUDITED: Final = EVENT_TYPES - {"decided", "outcome_received", "horizon_passed", "snapshot_sealed"}
#: Lines that an export holds back before it writes them.
_LINES: Final = 10_000
#: Fields whose values are names of ours, which JSON spells in camel case as it does keys.
_ENUMS: Final = frozenset({"reason", "type"})


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was recorded.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When, RFC 3339.
        principal: Who caused it.
        decision_id: Its id.
        capsule_version: The version that decided.
        learner_version: The learner version that was read.
        mode: ``shadow`` or ``live``.
        context_key: The context key.
        context_key_from: ``input`` or ``request``.
        choices: What was answered, by strategy.
        propensity: The probability with which it was drawn; ``None`` where the host did not draw it.
        probabilities: The distribution that was drawn from, by strategy.
        reason: As in `Decision.reason`.
        allowed: The numbers of the allowed options by strategy; ``None`` = all.
        current: What the application would have done by itself, by strategy.
        baseline: The baseline by strategy.
        suggested: In shadow: ``choices``, ``propensity``, ``probabilities`` and ``reason`` of the learner.
        unknown: Declared contexts that the input lacked.
        other: Declared contexts with an undeclared value.
        deadline: When feedback is too late to be learned, RFC 3339.
    """

    sequence: int
    time: str
    principal: str
    decision_id: str
    capsule_version: int
    learner_version: int
    mode: str
    context_key: str
    context_key_from: str
    choices: dict[str, str]
    propensity: float | None
    probabilities: dict[str, list[float]] | None
    reason: str
    allowed: dict[str, list[int]] | None
    current: dict[str, str] | None
    baseline: dict[str, str]
    suggested: dict[str, Any] | None
    unknown: list[str]
    other: dict[str, str]
    deadline: str


class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One post of feedback as it was recorded.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When, RFC 3339.
        principal: Who sent it.
        decision_id: The decision; ``None`` for the explicit form.
        status: As it was answered: ``applied``, ``pending``, ``late``, ``frozen`` or ``kept``.
        reward: The reward, once it was known.
        metrics: The metrics of this post.
        credited: The options that were credited, by strategy; empty where nothing of ours was carried out.
        taken: What the caller said was carried out, if it was not the answer.
        context_key: The context that was credited.
        capsule_version: The capsule version of the decision.
        delay_seconds: From decision to post; ``None`` for the explicit form.
    """

    sequence: int
    time: str
    principal: str
    decision_id: str | None
    status: str
    reward: float | None
    metrics: dict[str, float]
    credited: dict[str, str]
    taken: dict[str, str] | None
    context_key: str
    capsule_version: int
    delay_seconds: float | None


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A change that somebody made.

    Attributes:
        sequence: The position in the journal, and the cursor of the next page.
        time: When, RFC 3339.
        type: What happened, one of `AUDITED`.
        principal: Who did it.
        job: Where; ``None`` for the tenant itself.
        capsule: Where; ``None`` for a job or the tenant.
        detail: What the event says; empty once it was erased.
    """

    sequence: int
    time: str
    type: str
    principal: str
    job: str | None
    capsule: str | None
    detail: dict[str, Any]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one decision.

    Attributes:
        decision: What was decided.
        posts: Every feedback about it, in order.
        status: What became of it: the status of the last post; ``pending`` while feedback or parts of it are
            awaited, ``expired`` where they were awaited in vain.
        reward: The reward, once it was known.
        metrics: All metrics that were sent.
        missing: Declared metrics that are awaited.
        learned_at: The sequence of the post that it was learned with; ``None`` where nothing was learned.
    """

    decision: DecisionRecord
    posts: list[FeedbackRecord]
    status: str
    reward: float | None
    metrics: dict[str, float]
    missing: list[str]
    learned_at: int | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not the same.

    Attributes:
        what: Its name.
        recorded: As it was recorded, or is in the live state.
        again: As it came out now.
    """

    what: str
    recorded: Any
    again: Any


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded decision, made again.

    Attributes:
        decision_id: The decision.
        sequence: Its position in the journal.
        learner_version: The learner version it was made at.
        equal: Whether everything that was compared is the same, to the last bit; ``None`` where nothing could be.
        compared: What was compared: ``draw`` alone where the state of that time cannot be folded again.
        differences: What differs.
        notes: Why less was compared than could be.
    """

    decision_id: str
    sequence: int
    learner_version: int
    equal: bool | None
    compared: list[str]
    differences: list[Difference]
    notes: list[str]


class RebuiltCapsule(msgspec.Struct, frozen=True, kw_only=True):
    """One capsule, folded again.

    Attributes:
        tenant: Its tenant.
        job: Its job.
        capsule: Its name.
        state_hash: The digest of the folded state.
        learner_version: The learner version of the folded state.
        decisions: How many decisions the folded state counts.
        equal: Whether the live state is the same.
        differences: What differs.
    """

    tenant: str
    job: str
    capsule: str
    state_hash: str | None
    learner_version: int | None
    decisions: int | None
    equal: bool
    differences: list[Difference]


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """The whole journal, folded again beside the live state.

    Attributes:
        equal: Whether every capsule is the same.
        events: How many events were folded.
        sequences: Up to where, by tenant.
        capsules: One entry for each capsule.
    """

    equal: bool
    events: int
    sequences: dict[str, int]
    capsules: list[RebuiltCapsule]


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote.

    Attributes:
        folder: Where.
        events: How many events.
        sequences: Up to where, by tenant.
        capsules: How many capsules.
    """

    folder: str
    events: int
    sequences: dict[str, int]
    capsules: int


def decisions(store: Store, place: Place, after: int, limit: int) -> list[DecisionRecord]:
    """A page of a capsule's decisions. What was erased is not in it."""
    return [_decision(event) for event in _page(store, place, {"decided"}, after, limit)]


def feedback_log(store: Store, place: Place, after: int, limit: int) -> list[FeedbackRecord]:
    """A page of the feedback of a capsule. What was erased is not in it."""
    return [_post(event) for event in _page(store, place, {"outcome_received"}, after, limit)]


def audit(store: Store, tenant: str, after: int, limit: int) -> list[AuditRecord]:
    """A page of the changes that were made in a tenant.

    Raises:
        UnknownTenant: There is none of this name.
    """
    store._check_usable()
    _check_page(after, limit)
    if tenant not in store._journal.streams():
        raise UnknownTenant(
            f"no tenant {shown(tenant)!r}",
            value=shown(tenant),
            remedy="a tenant exists from its first install on",
        )
    store._durable()
    found = (event for event in store._journal.read(tenant, after) if event.type in AUDITED)
    return [_change(event) for event in islice(found, limit)]


def story(store: Store, place: Place, decision_id: object) -> Story:
    """Everything about one decision.

    Raises:
        UnknownDecision: No decision of this capsule has this id, or it was erased.
    """
    state = store._state(place)
    nonce = _feedback.find(state, decision_id).decision.nonce
    store._durable()
    decided = _decided(store, place, nonce, decision_id)
    posts = [
        _post(event)
        for event in _events(store, place, decided.sequence)
        if event.type == "outcome_received"
        and nonce in event.payload
        and cbor2.loads(event.payload).get("id") == nonce
    ]
    return _told(state, decided, posts, store._now_ms())


def _told(state: CapsuleState, decided: Event, posts: list[FeedbackRecord], now_ms: int) -> Story:
    decision = _decision(decided)
    metrics = {name: value for post in posts for name, value in post.metrics.items()}
    status = posts[-1].status if posts else "pending"
    missing: list[str] = []
    if status == "pending":
        missing = [name for name in state.native.declared_metrics or [] if name not in metrics]
        if now_ms > cbor2.loads(decided.payload)["deadline_ms"]:
            status = "expired"
    rewards = [post.reward for post in posts if post.reward is not None]
    learned = [post.sequence for post in posts if post.status == "applied"]
    return Story(
        decision=decision,
        posts=posts,
        status=status,
        reward=rewards[-1] if rewards else None,
        metrics=metrics,
        missing=missing,
        learned_at=learned[0] if learned else None,
    )


def replay(store: Store, place: Place, decision_id: object) -> Replay:
    """Folds the journal up to the learner version of a decision, and makes it again.

    Raises:
        UnknownDecision: No decision of this capsule has this id, or it was erased.
        JournalMismatch: The journal cannot be folded.
    """
    live = store._state(place)
    nonce = _feedback.find(live, decision_id).decision.nonce
    store._durable()
    decided = _decided(store, place, nonce, decision_id)
    decision = live.native.read_decision(decided.payload)
    fold = Fold(store._component)
    notes: list[str] = []
    for event in _events(store, place, 0):
        state = fold.capsules.get(place)
        # What comes between that learner version and the record has changed the state since.
        if state is not None and state.native.learner_version >= decision.learner_version:
            break
        if event.sequence >= decided.sequence:
            break
        if not event.erased:
            fold.apply(event)
        elif event.type != "decided":
            notes.append(f"event {event.sequence} was erased: the state of that time cannot be folded again")
            break
    return _made_again(None if notes else fold.capsules.get(place), decided, decision, notes)


def _decided(store: Store, place: Place, nonce: bytes, decision_id: object) -> Event:
    """The event of a decision.

    Raises:
        UnknownDecision: It was erased.
    """
    for event in _events(store, place, 0):
        # The bytes are looked for before the event is decoded: of most events nothing else is needed.
        if event.type == "decided" and nonce in event.payload and cbor2.loads(event.payload)["id"] == nonce:
            return event
    raise unknown_decision(decision_id)


def _made_again(
    state: CapsuleState | None, event: Event, decision: _native.Decision, notes: list[str]
) -> Replay:
    compared: list[str] = []
    differences: list[Difference] = []
    drawn = decision.draw_again()
    if drawn is not None:
        compared.append("draw")
        asked = decision.suggested.option if decision.suggested else decision.option
        if drawn != asked:
            differences.append(Difference(what="draw", recorded=asked, again=drawn))
    if state is not None:
        compared += ["choices", "propensity", "probabilities", "record"]
        again = _native.decide_again(state.native, decision, event.time_ms)
        differences += _record_differences(event.payload, again.payload)
    return Replay(
        decision_id=id_of(decision.nonce),
        sequence=event.sequence,
        learner_version=decision.learner_version,
        equal=not differences if compared else None,
        compared=compared,
        differences=differences,
        notes=notes,
    )


def _record_differences(recorded: bytes, again: bytes) -> list[Difference]:
    """What two payloads of ``decided`` say differently."""
    if recorded == again:
        return []
    one, other = cbor2.loads(recorded), cbor2.loads(again) if again else {}
    return [
        Difference(what=name, recorded=one.get(name), again=other.get(name))
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ] or [Difference(what="record", recorded=recorded.hex(), again=again.hex())]


def rebuild(store: Store) -> Rebuild:
    """Folds the whole journal again, and compares it with the live state.

    Raises:
        JournalMismatch: The journal cannot be folded.
        StoreDamaged: It cannot be read.
    """
    store._check_usable()
    now_ms = store._now_ms()
    with store._lock:
        # One moment: what is appended is folded under the same lock.
        lengths = _lengths(store)
        live = {place: _seen(state, now_ms) for place, state in store._fold.capsules.items()}
    store._durable()
    fold = Fold(store._component)
    events = 0
    for tenant, length in lengths.items():
        for event in store._journal.read(tenant, limit=length):
            fold.apply(event)
            events += 1
    again = {place: _seen(state, now_ms) for place, state in fold.capsules.items()}
    capsules = [_compared(place, live.get(place), again.get(place)) for place in sorted(live | again)]
    return Rebuild(
        equal=all(capsule.equal for capsule in capsules), events=events, sequences=lengths, capsules=capsules
    )


def _lengths(store: Store) -> dict[str, int]:
    return {tenant: store._journal.length(tenant) for tenant in store._journal.streams()}


def _seen(state: CapsuleState, now_ms: int) -> dict[str, Any]:
    """What two folds of the same events have in common."""
    native = state.native
    pending, expired = state.ledger.waiting(now_ms)
    return {
        "state_hash": native.state_hash,
        "capsule_version": native.version,
        "component": native.component_digest,
        "learner_version": native.learner_version,
        "learning_version": state.learning_version,
        "overrides": json.loads(native.overrides),
        "overridden": state.changed,
        "counts": native.counts(),
        "pending": pending,
        "expired": expired,
    }


def _compared(place: Place, live: dict[str, Any] | None, again: dict[str, Any] | None) -> RebuiltCapsule:
    if live is None or again is None:
        there = Difference(what="capsule", recorded=live is not None, again=again is not None)
        differences = [there]
    else:
        differences = [
            Difference(what=name, recorded=value, again=again[name])
            for name, value in live.items()
            if again[name] != value
        ]
    tenant, job, capsule = place
    return RebuiltCapsule(
        tenant=tenant,
        job=job,
        capsule=capsule,
        state_hash=None if again is None else again["state_hash"],
        learner_version=None if again is None else again["learner_version"],
        decisions=None if again is None else again["counts"]["decisions"],
        equal=not differences,
        differences=differences,
    )


def export(store: Store, folder: str | Path) -> Export:
    """Writes everything as files that a person can read.

    They show one moment of the journal: later events are not in them. ``export.json`` is written last, so a
    folder without it is an export that did not end.

    Raises:
        InvalidField: The folder is not empty.
        JournalMismatch: The journal cannot be folded.
        OSError: A file cannot be written.
    """
    store._check_usable()
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InvalidField(
            f"{shown(root)} is not an empty folder",
            pointer="/folder",
            value=shown(root),
            remedy="name a new or an empty folder: nothing is overwritten",
        )
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    now_ms = store._now_ms()
    with store._lock:
        lengths = _lengths(store)
    store._durable()
    fold = Fold(store._component)
    lines = _Lines()
    jobs: dict[tuple[str, str], str] = {}
    for tenant, length in lengths.items():
        for event in store._journal.read(tenant, limit=length):
            fold.apply(event)
            lines.add(root / "events.jsonl", _raw(event))
            _export_event(store, root, event, lines, jobs)
    lines.write()
    for (tenant, job), created in jobs.items():
        names = sorted(name for *where, name in fold.capsules if tuple(where) == (tenant, job))
        facts = {"tenant": tenant, "job": job, "createdAt": created, "capsules": names}
        _write_json(root / "tenants" / tenant / "jobs" / job / "job.json", facts)
    for place, state in fold.capsules.items():
        _export_state(store, _capsule_folder(root, place), state, now_ms)
    done = Export(
        folder=str(root), events=sum(lengths.values()), sequences=lengths, capsules=len(fold.capsules)
    )
    written = {"schema": _native.EVENT_SCHEMA, "capsa": _native.__version__}
    _write_json(root / "export.json", written | {"asOf": _learning.timestamp(now_ms)} | to_json(done))
    return done


def _capsule_folder(root: Path, place: Place) -> Path:
    tenant, job, capsule = place
    return root / "tenants" / tenant / "jobs" / job / "capsules" / capsule


def _export_event(
    store: Store, root: Path, event: Event, lines: _Lines, jobs: dict[tuple[str, str], str]
) -> None:
    job, _, name = event.path.partition("/")
    if not name:
        if job and event.type == "created":
            jobs[event.stream, job] = _learning.timestamp(event.time_ms)
        return
    folder = _capsule_folder(root, (event.stream, job, name))
    if event.type in AUDITED:
        lines.add(folder / "audit.jsonl", to_json(_change(event)))
    elif not event.erased and event.type == "decided":
        lines.add(folder / "decision.jsonl", to_json(_decision(event)))
    elif not event.erased and event.type == "outcome_received":
        lines.add(folder / "feedback.jsonl", to_json(_post(event)))
    if event.type == "installed" and not event.erased:
        lines.add(folder / "evolution.jsonl", to_json(_change(event)))
        installed = cbor2.loads(event.payload)
        snapshots = folder / "snapshots"
        snapshots.mkdir(parents=True, exist_ok=True)
        (snapshots / f"{installed['version']}.wasm").write_bytes(store._journal.blob(installed["digest"]))


def _export_state(store: Store, folder: Path, state: CapsuleState, now_ms: int) -> None:
    native = state.native
    (folder / "current.wasm").write_bytes(store._journal.blob(native.component_digest))
    facts = {"version": native.version, "digest": native.component_digest}
    _write_json(folder / "current.json", facts | {"definition": json.loads(native.definition)})
    # Nothing can be granted in this version: silence denies.
    _write_json(folder / "policy.json", {})
    _write_json(folder / "learning.json", learning_json(_learning.document(state)))
    contexts: list[dict[str, Any]] = []
    after: str | None = None
    while page := native.contexts(now_ms, after=after, limit=MAX_PAGE):
        for row in page:
            context = {
                "contextKey": row["context_key"],
                "weights": row["weights"],
                "decisions": row["decisions"],
                "rewards": row["rewards"],
                "updatedAt": _learning.timestamp(row["updated_at_ms"]),
            }
            contexts.append(context)
        after = page[-1]["context_key"]
    memory = {
        "stateHash": native.state_hash,
        "learnerVersion": native.learner_version,
        "names": state.options,
    }
    _write_json(folder / "memory.json", memory | {"contexts": contexts})


class _Lines:
    """Lines for many files, of which only one is open at a time."""

    def __init__(self) -> None:
        self._held: dict[Path, list[str]] = {}
        self._count = 0

    def add(self, file: Path, row: dict[str, Any]) -> None:
        self._held.setdefault(file, []).append(json.dumps(row, ensure_ascii=False))
        self._count += 1
        if self._count >= _LINES:
            self.write()

    def write(self) -> None:
        for file, lines in self._held.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as opened:
                opened.write("\n".join(lines) + "\n")
        self._held, self._count = {}, 0


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _raw(event: Event) -> dict[str, Any]:
    """An event as it stands in the journal; the names in its payload are those of the event format."""
    return {
        "stream": event.stream,
        "sequence": event.sequence,
        "schema": event.schema,
        "time": _learning.timestamp(event.time_ms),
        "type": event.type,
        "principal": event.principal,
        "path": event.path,
        "erased": event.erased,
        "payload": None if event.erased else _plain(cbor2.loads(event.payload)),
    }


def to_json(value: Any) -> Any:
    """A value as JSON has it: our own names in camel case, names that users chose as they are."""
    if isinstance(value, msgspec.Struct):
        return {
            _learning.to_camel(name): _json_field(name, getattr(value, name))
            for name in value.__struct_fields__
        }
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return _plain(value)


def _json_field(name: str, value: Any) -> Any:
    if name in _ENUMS and isinstance(value, str):
        return _learning.to_camel(value)
    if name == "algorithm":
        return _algorithm_json(value)
    if name == "suggested" and value is not None:
        return {**to_json(value), "reason": _learning.to_camel(value["reason"])}
    return to_json(value)


def _algorithm_json(algorithm: Any) -> Any:
    if isinstance(algorithm, str):
        return _learning.to_camel(algorithm)
    if isinstance(algorithm.get("name"), str) and "epsilon" in algorithm:
        return {**algorithm, "name": _learning.to_camel(algorithm["name"])}
    return {strategy: _algorithm_json(each) for strategy, each in algorithm.items()}


def learning_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """The learning document as JSON has it."""
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name == "algorithm":
            converted = _algorithm_json(value)
        elif name == "overridden":
            converted = {
                ".".join(map(_learning.to_camel, dotted.split("."))): at for dotted, at in value.items()
            }
        elif isinstance(value, Mapping) and name != "baseline":
            converted = {_learning.to_camel(inner): item for inner, item in value.items()}
        else:
            converted = value
        values[_learning.to_camel(name)] = converted
    return values


def _plain(value: Any) -> Any:
    """A value of CBOR as JSON can hold it: bytes in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _decision(event: Event) -> DecisionRecord:
    recorded = cbor2.loads(event.payload)
    suggested = recorded.get("suggested")
    if suggested is not None:
        suggested = {
            "choices": suggested["options"],
            "propensity": suggested["propensity"],
            "probabilities": suggested["probabilities"],
            "reason": suggested["reason"],
        }
    return DecisionRecord(
        sequence=event.sequence,
        time=_learning.timestamp(event.time_ms),
        principal=event.principal,
        decision_id=id_of(recorded["id"]),
        capsule_version=recorded["capsule_version"],
        learner_version=recorded["learner_version"],
        mode=recorded["mode"],
        context_key=recorded["key"],
        context_key_from=recorded["key_from"],
        choices=recorded["options"],
        propensity=recorded["propensity"],
        probabilities=recorded.get("probabilities"),
        reason=recorded["reason"],
        allowed=recorded.get("allowed"),
        current=recorded.get("current"),
        baseline=recorded["baseline"],
        suggested=suggested,
        unknown=recorded.get("unknown") or [],
        other=recorded.get("other") or {},
        deadline=_deadline(recorded["deadline_ms"]),
    )


def _deadline(time_ms: int) -> str:
    try:
        return _learning.timestamp(time_ms)
    except (OverflowError, ValueError):
        # A horizon of centuries goes past what a calendar holds.
        return "9999-12-31T23:59:59.999Z"


def _post(event: Event) -> FeedbackRecord:
    recorded = cbor2.loads(event.payload)
    nonce, delay_ms = recorded.get("id"), recorded.get("delay_ms")
    return FeedbackRecord(
        sequence=event.sequence,
        time=_learning.timestamp(event.time_ms),
        principal=event.principal,
        decision_id=None if nonce is None else id_of(nonce),
        status=recorded["status"],
        reward=recorded.get("reward"),
        metrics=recorded["metrics"],
        credited=recorded["made"],
        taken=recorded.get("taken"),
        context_key=recorded["key"],
        capsule_version=recorded["capsule_version"],
        delay_seconds=None if delay_ms is None else delay_ms / 1000,
    )


def _change(event: Event) -> AuditRecord:
    detail = {} if event.erased else _plain(cbor2.loads(event.payload))
    # The definition belongs to the capsule, which the digest names; here it would bury who did what.
    detail.pop("definition", None)
    if isinstance(detail.get("overrides"), str):
        detail["overrides"] = json.loads(detail["overrides"])
    job, _, capsule = event.path.partition("/")
    return AuditRecord(
        sequence=event.sequence,
        time=_learning.timestamp(event.time_ms),
        type=event.type,
        principal=event.principal,
        job=job or None,
        capsule=capsule or None,
        detail=detail,
    )


def _page(store: Store, place: Place, types: Collection[str], after: int, limit: int) -> list[Event]:
    store._state(place)
    _check_page(after, limit)
    # What was answered a moment ago is in the page.
    store._durable()
    found = (event for event in _events(store, place, after) if event.type in types and not event.erased)
    return list(islice(found, limit))


def _events(store: Store, place: Place, after: int) -> Iterator[Event]:
    """The durable events of one capsule from after a sequence number."""
    tenant, job, capsule = place
    path = f"{job}/{capsule}"
    return (event for event in store._journal.read(tenant, after) if event.path == path)


def _check_page(after: object, limit: object) -> None:
    for name, value, least, most in (("after", after, 0, 2**53), ("limit", limit, 1, MAX_PAGE)):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidField(
                f"{name} is out of range",
                pointer=f"/{name}",
                value=shown(value),
                remedy="use 0, or the sequence of the last row of the page before"
                if name == "after"
                else f"use 1 to {MAX_PAGE}",
            )
