"""``capsa doctor``: what is in a store's folder, and what is wrong with it.

It reads only, so it can look at a store that is in use, damaged, or on a disk that is full. The one
thing that it may leave behind is SQLite's own ``store.sqlite-shm``, where a process was killed.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import msgspec

from capsa import __version__, _native
from capsa.cli._arguments import add_store
from capsa.cli._output import Answer, counted, short_hash, size, table
from capsa.cli._store import looked_at
from capsa.cli._usage import Commands, add_command
from capsa.decisions import _snapshots
from capsa.decisions._fold import Fold
from capsa.decisions._history import to_json
from capsa.errors import CapsaError
from capsa.journal import Inspection, Journal

#: Below this a store may fail soon.
_LITTLE_SPACE_BYTES: Final = 100_000_000


class Problem(msgspec.Struct, frozen=True):
    """Something that is wrong: what, and what to do."""

    type: str
    detail: str
    remedy: str | None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One capsule in the journal."""

    tenant: str
    job: str
    capsule: str
    version: int
    learner_version: int
    decisions: int
    state_hash: str


class FoundTool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool in the journal."""

    tenant: str
    job: str
    capsule: str
    version: int
    policy: str
    calls: int
    breached: int
    state_hash: str


class Diagnosis(msgspec.Struct, kw_only=True):
    """What was found.

    Attributes:
        store: The folder.
        capsa: The version of Capsa that looked.
        format: The format of the database; ``None`` where it cannot be told.
        known_format: The newest format that this version knows.
        held_by: The process that has the store open.
        size_bytes: Of all files.
        files: Size by name.
        free_bytes: What is free on the disk.
        sequences: The sequence of the last event by tenant.
        events: How many there are; fewer where retention has cut some off.
        checkpoints: How many there are.
        capsules: What the events give.
        tools: Likewise.
        problems: What is wrong.
    """

    store: str
    capsa: str
    format: int | None = None
    known_format: int = 0
    held_by: str | None = None
    size_bytes: int = 0
    files: dict[str, int] = msgspec.field(default_factory=dict)
    free_bytes: int = 0
    sequences: dict[str, int] = msgspec.field(default_factory=dict)
    events: int = 0
    checkpoints: int = 0
    capsules: list[Found] = msgspec.field(default_factory=list)
    tools: list[FoundTool] = msgspec.field(default_factory=list)
    problems: list[Problem] = msgspec.field(default_factory=list)


def add_commands(commands: Commands) -> None:
    """Adds ``doctor``."""
    doctor = add_command(
        commands,
        "doctor",
        _doctor,
        "say what is in a store and what is wrong with it",
        "Says what is in a store and what is wrong with it. It reads only, and may look while the "
        "store is in use.",
    )
    add_store(doctor)


def _doctor(chosen: argparse.Namespace) -> Answer:
    diagnosis = examine(chosen.store)
    return Answer({"ok": not diagnosis.problems, **to_json(diagnosis)}, _lines(diagnosis))


def examine(folder: Path) -> Diagnosis:
    """Looks at a store without opening it.

    Raises:
        NotAStore: There is none.
        OSError: The folder cannot be read.
    """
    return looked_at(folder, _diagnosis)


def _diagnosis(inspection: Inspection) -> Diagnosis:
    problems = [_problem(error) for error in inspection.problems]
    free_bytes = shutil.disk_usage(inspection.folder).free
    if free_bytes < _LITTLE_SPACE_BYTES:
        problems.append(
            Problem("store-full", f"the disk has {size(free_bytes)} left", "free space on this disk")
        )
    diagnosis = Diagnosis(
        store=str(inspection.folder),
        capsa=__version__,
        format=inspection.format,
        known_format=inspection.known_format,
        held_by=inspection.held_by,
        size_bytes=sum(inspection.files.values()),
        files=inspection.files,
        free_bytes=free_bytes,
        problems=problems,
    )
    if inspection.readable:
        for look in (_look_at_events, _look_at_faults, _look_at_checkpoints, _look_at_capsules):
            try:
                look(diagnosis, inspection)
            except CapsaError as error:
                # One problem is told once, whoever meets it.
                if (problem := _problem(error)) not in problems:
                    problems.append(problem)
    return diagnosis


def _problem(error: CapsaError) -> Problem:
    return Problem(error.code, error.detail, error.remedy)


def _look_at_events(diagnosis: Diagnosis, inspection: Inspection) -> None:
    diagnosis.sequences = {stream: inspection.length(stream) for stream in inspection.streams()}
    diagnosis.events = sum(
        length - inspection.first(stream) + 1 for stream, length in diagnosis.sequences.items()
    )


def _look_at_faults(diagnosis: Diagnosis, inspection: Inspection) -> None:
    for fault in inspection.verify():
        where = f"{fault.stream} {fault.first}..{fault.last}: " if fault.stream else ""
        remedy = "keep a copy of the folder, then see docs/journal.md, Recovery"
        diagnosis.problems.append(Problem("store-damaged", f"{where}{fault.detail} ({fault.kind})", remedy))


def _look_at_checkpoints(diagnosis: Diagnosis, inspection: Inspection) -> None:
    diagnosis.checkpoints = len(inspection.checkpoints())


def _look_at_capsules(diagnosis: Diagnosis, inspection: Inspection) -> None:
    """What the events fold to in this version."""
    host = _native.Host()
    # No id is opened here, so no key is needed.
    fold = Fold(_Loader(host, inspection), _native.Keyring())
    for stream in inspection.streams():
        # It only reads.
        _snapshots.start(_snapshots.Marks(cast("Journal", inspection)), fold, stream)
    diagnosis.capsules = [
        Found(
            tenant=tenant,
            job=job,
            capsule=capsule,
            version=state.native.version,
            learner_version=state.native.learner_version,
            # Of what is counted, decisions alone do not go by the clock.
            decisions=state.native.counts(0)["decisions"],
            state_hash=state.native.state_hash,
        )
        for (tenant, job, capsule), state in sorted(fold.capsules.items())
    ]
    diagnosis.tools = [
        FoundTool(
            tenant=tenant,
            job=job,
            capsule=capsule,
            version=tool.in_force.version,
            policy=tool.in_force.policy.name,
            calls=tool.invoked + tool.breached,
            breached=tool.breached,
            state_hash=tool.state_hash,
        )
        for (tenant, job, capsule), tool in sorted(fold.tools.items())
    ]


class _Loader:
    """Compiles what the store holds; nothing of it is called."""

    def __init__(self, host: _native.Host, inspection: Inspection) -> None:
        self._host = host
        self._inspection = inspection

    def load(self, digest: str) -> _native.Component:
        """A decision capsule's component."""
        return self._host.load(self._inspection.blob(digest))

    def load_tool(self, digest: str) -> _native.tools.ToolComponent:
        """A tool's component."""
        return self._host.load_tool(self._inspection.blob(digest))


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    known = f"this is Capsa {diagnosis.capsa}, which knows formats up to {diagnosis.known_format}"
    yield f"{diagnosis.store}: format {diagnosis.format}; {known}"
    if diagnosis.held_by is not None:
        yield f"open in process {diagnosis.held_by}"
    yield f"{size(diagnosis.size_bytes)} in {counted(len(diagnosis.files), 'file')}, {size(diagnosis.free_bytes)} free"
    for tenant, length in diagnosis.sequences.items():
        yield f"tenant {tenant}: {counted(length, 'event')}"
    if diagnosis.capsules:
        headers = ("capsule", "version", "learner version", "decisions", "state")
        cells = [
            (
                f"{row.tenant}/{row.job}/{row.capsule}",
                row.version,
                row.learner_version,
                row.decisions,
                short_hash(row.state_hash),
            )
            for row in diagnosis.capsules
        ]
        yield from table(headers, cells)
    if diagnosis.tools:
        rows = [
            (
                f"{row.tenant}/{row.job}/{row.capsule}",
                row.version,
                row.policy,
                row.calls,
                row.breached,
                short_hash(row.state_hash),
            )
            for row in diagnosis.tools
        ]
        yield from table(("tool", "version", "policy", "calls", "breached", "state"), rows)
    for problem in diagnosis.problems:
        yield ": ".join(filter(None, (f"! {problem.detail}", problem.remedy)))
    yield "nothing is wrong" if not diagnosis.problems else counted(len(diagnosis.problems), "problem")
