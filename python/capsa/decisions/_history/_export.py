"""Everything as files that a person can read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cbor2

from capsa import _native
from capsa.decisions import _learning, _snapshots
from capsa.decisions._fold import CapsuleState, Fold, Place
from capsa.decisions._history._json import learning_json, plain, to_json
from capsa.decisions._history._records import Export
from capsa.decisions._history._views import (
    AUDITED,
    CALLED,
    MAX_PAGE,
    OUTCOMES,
    audit_record,
    decision_record,
    feedback_record,
    lengths_of,
)
from capsa.errors import InvalidField, shown
from capsa.journal import Event, timestamp
from capsa.tools import ToolState, invocation_record

if TYPE_CHECKING:
    from capsa.decisions._store import Store

#: Lines that an export holds back before it writes them.
_LINES: Final = 10_000


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
        lengths = lengths_of(store)
    store._durable()
    fold = Fold(store._components, store._ids.ring)
    lines = _Lines()
    events = 0
    for tenant, length in lengths.items():
        begin = _snapshots.epoch_start(store._marks, fold, tenant)
        for event in store._journal.read(tenant):
            if event.sequence > length:
                break
            # Those before tell what was; the state goes by those behind.
            if event.sequence > begin:
                fold.apply(event)
            events += 1
            lines.add(root / "events.jsonl", _raw(store, event))
            _export_event(store, root, event, lines)
    lines.write()
    for tenant, state in fold.tenants.items():
        for job, made in state.jobs.items():
            facts = {
                "tenant": tenant,
                "job": job,
                "createdAt": timestamp(made.created_ms),
                "description": made.description,
                "metadata": made.metadata,
                "capsules": sorted(name for *where, name in fold.places() if where == [tenant, job]),
            }
            _write_json(root / "tenants" / tenant / "jobs" / job / "job.json", facts)
    for place, tool in fold.tools.items():
        folder = _capsule_folder(root, place)
        (folder / "current.wasm").write_bytes(store._journal.blob(tool.in_force.component.digest))
        _write_json(folder / "tool.json", plain(tool.snapshot()))
    for place, capsule in fold.capsules.items():
        _export_state(store, _capsule_folder(root, place), capsule, now_ms)
    done = Export(folder=str(root), events=events, sequences=lengths, capsules=len(fold.places()))
    written = {"schema": _native.EVENT_SCHEMA, "capsa": _native.__version__}
    _write_json(root / "export.json", written | {"asOf": timestamp(now_ms)} | to_json(done))
    return done


def _capsule_folder(root: Path, place: Place) -> Path:
    tenant, job, capsule = place
    return root / "tenants" / tenant / "jobs" / job / "capsules" / capsule


def _state_of(store: Store, event: Event) -> CapsuleState | None:
    """The capsule that an event is about, where it is still there: another one may have its name by now."""
    job, _, name = event.path.partition("/")
    state = store._fold.capsules.get((event.stream, job, name))
    return None if state is None or event.sequence < state.began else state


def _tool_of(store: Store, event: Event) -> ToolState | None:
    """The tool that an event is about, likewise."""
    job, _, name = event.path.partition("/")
    tool = store._fold.tools.get((event.stream, job, name))
    return None if tool is None or event.sequence < tool.began else tool


def _export_event(store: Store, root: Path, event: Event, lines: _Lines) -> None:
    job, _, name = event.path.partition("/")
    if not name:
        return
    folder = _capsule_folder(root, (event.stream, job, name))
    state = _state_of(store, event)
    there = state is not None or _tool_of(store, event) is not None
    if there and event.type in CALLED and not event.erased:
        lines.add(folder / "invocations.jsonl", to_json(invocation_record(event)))
    if event.type in AUDITED:
        lines.add(folder / "audit.jsonl", to_json(audit_record(event)))
    elif state is not None and not event.erased and event.type == "decided":
        lines.add(folder / "decision.jsonl", to_json(decision_record(state.native, event)))
    elif state is not None and not event.erased and event.type in OUTCOMES:
        lines.add(folder / "feedback.jsonl", to_json(feedback_record(store, state, event)))
    if event.type == "installed" and not event.erased:
        lines.add(folder / "evolution.jsonl", to_json(audit_record(event)))
        installed = cbor2.loads(event.payload)
        snapshots = folder / "snapshots"
        snapshots.mkdir(parents=True, exist_ok=True)
        if there:
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
                "updatedAt": timestamp(row["updated_at_ms"]),
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


def _raw(store: Store, event: Event) -> dict[str, Any]:
    """An event of the journal. What stands in its payload as numbers is shown by name."""
    return {
        "stream": event.stream,
        "sequence": event.sequence,
        "schema": event.schema,
        "time": timestamp(event.time_ms),
        "type": event.type,
        "principal": event.principal,
        "path": event.path,
        "erased": event.erased,
        "payload": None if event.erased else plain(_named(store, event)),
    }


def _named(store: Store, event: Event) -> Any:
    state = _state_of(store, event)
    if state is None or event.schema == 1:
        return cbor2.loads(event.payload)
    if event.type == "decided":
        return state.native.read_decision(event).record()
    if event.type in OUTCOMES:
        return state.native.read_outcome(event)
    return cbor2.loads(event.payload)
