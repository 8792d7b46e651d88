"""``capsa doctor``: what is in a store's folder, and what is wrong with it.

It reads only, so it can look at a store that is in use, damaged, or on a disk that is full. The one
thing that it may leave behind is SQLite's own ``store.sqlite-shm``, where a process was killed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from capsa.cli._arguments import Commands, add_store
from capsa.cli._output import printable, size, table
from capsa.cli._store import check_store
from capsa.errors import CapsaError

#: Below this a store may fail soon.
_LITTLE_SPACE_BYTES: Final = 100_000_000


class Problem(msgspec.Struct, frozen=True, kw_only=True):
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
        sequences: The number of events by tenant.
        checkpoints: How many there are.
        capsules: What the events give.
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
    checkpoints: int = 0
    capsules: list[Found] = msgspec.field(default_factory=list)
    problems: list[Problem] = msgspec.field(default_factory=list)


def add_commands(commands: Commands) -> None:
    """Adds ``doctor``."""
    doctor = commands.add_parser(
        "doctor",
        help="say what is in a store and what is wrong with it",
        description="Says what is in a store and what is wrong with it. It reads only, and may look while the "
        "store is in use.",
    )
    add_store(doctor)
    doctor.set_defaults(run=_doctor)


def _doctor(chosen: argparse.Namespace) -> dict[str, Any]:
    from capsa.decisions._history import to_json

    diagnosis = examine(chosen.store)
    if not chosen.json:
        _show(diagnosis)
    return {"ok": not diagnosis.problems, **to_json(diagnosis)}


def examine(folder: Path) -> Diagnosis:
    """Looks at a store without opening it.

    Raises:
        NotAStore: There is none.
        OSError: The folder cannot be read.
    """
    from capsa import __version__
    from capsa.journal.sqlite import _database, _folder

    check_store(folder)
    folder = folder.absolute()
    diagnosis = Diagnosis(store=str(folder), capsa=__version__, known_format=_database.FORMAT)
    with _noted(diagnosis):
        _folder.refuse_network(folder, _folder.file_system)
    diagnosis.files = {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    diagnosis.size_bytes = sum(diagnosis.files.values())
    diagnosis.free_bytes = shutil.disk_usage(folder).free
    diagnosis.held_by = _holder(folder / "lock")
    _look_at_rights(diagnosis, folder)
    with _noted(diagnosis):
        _look_inside(diagnosis, folder)
    return diagnosis


@contextmanager
def _noted(diagnosis: Diagnosis) -> Iterator[None]:
    """Turns an error into a problem, and goes on."""
    try:
        yield
    except CapsaError as error:
        diagnosis.problems.append(Problem(type=error.code, detail=error.detail, remedy=error.remedy))


def _problem(diagnosis: Diagnosis, type_: str, detail: str, remedy: str) -> None:
    diagnosis.problems.append(Problem(type=type_, detail=detail, remedy=remedy))


def _holder(lock: Path) -> str | None:
    """The process that has the store open."""
    try:
        opened = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, and given back at once: no more is needed to see that somebody has it.
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(opened, 32, 0).decode(errors="replace").strip() or "of unknown number"
    finally:
        os.close(opened)
    return None


def _look_at_rights(diagnosis: Diagnosis, folder: Path) -> None:
    for path in (folder, folder / "keys", *sorted((folder / "keys").glob("*.key"))):
        if not path.exists():
            _problem(diagnosis, "store-damaged", f"{path} is missing", "bring it back from a backup")
        elif path.stat().st_mode & 0o077:
            rights = "700" if path.is_dir() else "600"
            _problem(
                diagnosis,
                "internal",
                f"{path} is open to other users",
                f"run chmod {rights} {path}, if nobody has read it",
            )
    if not os.access(folder, os.W_OK):
        _problem(
            diagnosis, "store-read-only", f"{folder} may not be written", "make it writable for this user"
        )
    if diagnosis.free_bytes < _LITTLE_SPACE_BYTES:
        free = size(diagnosis.free_bytes)
        _problem(diagnosis, "store-full", f"the disk has {free} left", "free space on this disk")


def _look_inside(diagnosis: Diagnosis, folder: Path) -> None:
    from capsa.journal import NotAStore, StoreTooNew
    from capsa.journal.sqlite import _database, _keys, _wal
    from capsa.journal.sqlite._verify import verify_database

    log = folder / "store.sqlite-wal"
    if diagnosis.held_by is None:
        _wal.refuse_damaged_log(folder)
    # Without a log SQLite is told that nothing changes: otherwise it would make files beside the database.
    quiet = diagnosis.held_by is None and (not log.exists() or log.stat().st_size == 0)
    address = f"{(folder / 'store.sqlite').as_uri()}?{'immutable=1' if quiet else 'mode=ro'}"
    with _database.translated(folder):
        connection = sqlite3.connect(address, uri=True, isolation_level=None)
        with closing(connection):
            connection.execute("BEGIN")
            [application] = connection.execute("PRAGMA application_id").fetchone()
            [diagnosis.format] = connection.execute("PRAGMA user_version").fetchone()
            if application != _database._APPLICATION:
                raise NotAStore(
                    f"{folder / 'store.sqlite'} is not a database of Capsa",
                    remedy="name another folder; this one is left as it is",
                )
            if diagnosis.format is not None and diagnosis.format > _database.FORMAT:
                raise StoreTooNew(
                    f"the store has format {diagnosis.format}; this version knows formats up to {_database.FORMAT}",
                    remedy="use the version of Capsa that wrote it, or a newer one",
                )
            for fault in verify_database(connection, lambda: _keys.public_key(folder / "keys")):
                where = f"{fault.stream} {fault.first}..{fault.last}: " if fault.stream else ""
                _problem(
                    diagnosis,
                    "store-damaged",
                    f"{where}{fault.detail} ({fault.kind})",
                    "keep a copy of the folder, then see docs/journal.md, Recovery",
                )
            streams = _database.streams(connection)
            diagnosis.sequences = {stream.name: stream.length for stream in streams}
            [diagnosis.checkpoints] = connection.execute("SELECT count(*) FROM checkpoint").fetchone()
            _fold(diagnosis, folder, connection, streams)


def _fold(diagnosis: Diagnosis, folder: Path, connection: sqlite3.Connection, streams: list[Any]) -> None:
    """What the events give in this version."""
    from capsa import _native
    from capsa.decisions._fold import Fold
    from capsa.journal import UnknownBlob
    from capsa.journal.sqlite import _database

    host = _native.Host()

    def load(digest: str) -> _native.Component:
        data = _database.read_blob(connection, digest)
        if data is None:
            raise UnknownBlob(f"the component {digest[:80]} is missing", remedy="bring it back from a backup")
        return host.load(data)

    fold = Fold(load)
    for stream in streams:
        for after in range(0, stream.length, 1000):
            count = min(1000, stream.length - after)
            for event in _database.read_events(connection, folder, stream.id, stream.name, after, count):
                fold.apply(event)
    diagnosis.capsules = [
        Found(
            tenant=tenant,
            job=job,
            capsule=capsule,
            version=state.native.version,
            learner_version=state.native.learner_version,
            decisions=state.native.counts()["decisions"],
            state_hash=state.native.state_hash,
        )
        for (tenant, job, capsule), state in sorted(fold.capsules.items())
    ]


def _show(diagnosis: Diagnosis) -> None:
    known = f"this is Capsa {diagnosis.capsa}, which knows formats up to {diagnosis.known_format}"
    print(f"{printable(diagnosis.store)}: format {diagnosis.format}; {known}")
    if diagnosis.held_by is not None:
        print(f"open in process {printable(diagnosis.held_by)}")
    print(f"{size(diagnosis.size_bytes)} in {len(diagnosis.files)} files, {size(diagnosis.free_bytes)} free")
    for tenant, length in diagnosis.sequences.items():
        print(f"tenant {printable(tenant)}: {length} events")
    if diagnosis.capsules:
        headers = ("capsule", "version", "learner version", "decisions", "state")
        lines = [
            (
                f"{row.tenant}/{row.job}/{row.capsule}",
                row.version,
                row.learner_version,
                row.decisions,
                row.state_hash[:19],
            )
            for row in diagnosis.capsules
        ]
        print(table(headers, lines))
    for problem in diagnosis.problems:
        remedy = f": {problem.remedy}" if problem.remedy else ""
        print(f"! {printable(problem.detail)}{printable(remedy)}")
    print("nothing is wrong" if not diagnosis.problems else f"{len(diagnosis.problems)} problems")
