"""``capsa audit``: who changed what; ``capsa audit verify``: whether the journal is as it was written."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from capsa.cli._arguments import add_page, add_store, add_store_or_server, add_tenant, is_url, named_file
from capsa.cli._history import counted_page
from capsa.cli._output import Answer, counted, short_time, table
from capsa.cli._store import client_of, looked_at, open_existing
from capsa.cli._usage import Commands, add_command
from capsa.decisions._history import AuditRecord, to_json
from capsa.errors import InvalidField, StoreDamaged, StoreError, shown
from capsa.journal import Checkpoint, Fault, Inspection
from capsa.wire import audit_page

#: No file of a public key is longer.
_MAX_KEY_BYTES: Final = 4096


class Span(msgspec.Struct, frozen=True):
    """Checkpoints one after the other."""

    first: int
    last: int


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        ok: Nothing is wrong, and if a key was given, something is signed with it.
        events: How many the journal has.
        faults: What is not as it was written.
        public_key: The key that checkpoints were compared with, in hexadecimal.
        key_from: ``argument`` or ``store``.
        checkpoints: Those that it has signed.
        proven_events: How many events these prove.
    """

    ok: bool
    events: int
    faults: list[Fault]
    public_key: str
    key_from: str
    checkpoints: list[Span]
    proven_events: int


def add_commands(commands: Commands) -> None:
    """Adds ``audit`` and ``audit verify``."""
    audit = add_command(
        commands,
        "audit",
        _audit,
        "show who changed what",
        "Shows who changed what in a tenant, oldest first; audit verify looks for damage instead.",
    )
    add_store_or_server(audit)
    add_tenant(audit)
    add_page(audit)
    verify = add_command(
        commands,
        "audit verify",
        _verify,
        "look for events that were changed, lost, added or reordered",
        "Looks for any event that was changed, lost, added or reordered, in all tenants, and says how many are "
        "proven by signed checkpoints.",
    )
    add_store(verify)
    verify.add_argument(
        "--public-key",
        metavar="FILE",
        help="the key that must have signed, kept elsewhere: a PEM file, or 64 hexadecimal digits "
        "(default: the store's own)",
    )


def _audit(chosen: argparse.Namespace) -> Answer:
    opened = client_of(chosen.store) if is_url(chosen.store) else open_existing(chosen.store)
    with opened as store:
        rows = store.audit(chosen.tenant, chosen.after, chosen.limit)
    headers = ("sequence", "time (UTC)", "who", "what", "where", "detail")
    lines = table(headers, [_cells(row) for row in rows], whole=("sequence", "time (UTC)", "what"))
    return counted_page(audit_page(rows, chosen.limit), lines)


def _cells(row: AuditRecord) -> tuple[object, ...]:
    where = "/".join(filter(None, (row.job, row.capsule))) or "-"
    detail = dict(row.detail)
    # Where it is stands beside it.
    detail.pop("capsule", None)
    if isinstance(detail.get("error"), Mapping):
        # Its sentence would be cut off: --json has it.
        detail["error"] = detail["error"].get("code")
    said = "  ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        # The table cuts the end: a digest can be spared sooner than a version.
        for name, value in sorted(detail.items(), key=lambda item: len(str(item[1])))
    )
    return (row.sequence, short_time(row.time), row.principal, row.type, where, said)


def _verify(chosen: argparse.Namespace) -> Answer:
    given = None if chosen.public_key is None else public_key(chosen.public_key)
    # The journal alone: what was changed in it may keep the store from being opened.
    found = looked_at(chosen.store, lambda inspection: verify(inspection, given))
    return Answer(to_json(found), _lines(found))


def verify(inspection: Inspection, given: bytes | None) -> Verification:
    """Verifies what is seen of a store.

    Args:
        inspection: Of the store.
        given: The key that must have signed. ``None``: the store's own.

    Raises:
        CapsaError: It cannot be read, or has no key.
    """
    if not inspection.readable:
        raise inspection.problems[-1]
    key = given or _own_key(inspection.folder / "keys" / "checkpoints.pub")
    faults = inspection.verify(key)
    broken = [fault.first for fault in faults if fault.kind == "checkpoint"]
    try:
        signed = [each for each in inspection.checkpoints() if each.signed_by(key)]
    except StoreDamaged:
        # One cannot be read, which is among the faults; then none is counted on.
        signed = []
    # Nor is what follows a broken one: it may be one that no event was compared with.
    signed = [each for each in signed if each.number < min(broken, default=each.number + 1)]
    firsts = {stream: inspection.first(stream) for stream in inspection.streams()}
    return Verification(
        ok=not faults and bool(signed or given is None),
        events=sum(inspection.length(stream) - first + 1 for stream, first in firsts.items()),
        faults=faults,
        public_key=key.hex(),
        key_from="store" if given is None else "argument",
        checkpoints=_spans([each.number for each in signed]),
        proven_events=proven(signed, faults, firsts),
    )


def _own_key(file: Path) -> bytes:
    try:
        return public_key(str(file))
    except FileNotFoundError:
        raise StoreError(
            f"{file} is missing", remedy="bring it back from a backup, or give the key with --public-key"
        ) from None


def public_key(text: str) -> bytes:
    """An Ed25519 key: 64 hexadecimal digits, or a file that holds them or the key in PEM.

    Raises:
        InvalidField: It is none.
        OSError: The file cannot be read.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if _hexadecimal(text):
        return bytes.fromhex(text)
    with named_file(text, "publicKey").open("rb") as file:
        content = file.read(_MAX_KEY_BYTES).strip()
    if _hexadecimal(content.decode(errors="replace")):
        return bytes.fromhex(content.decode())
    if b"PRIVATE KEY" in content:
        raise InvalidField(
            f"{text} holds a private key",
            pointer="/publicKey",
            value=shown(text),
            remedy="name the public one, and keep this one secret",
        )
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidField(
            f"{text} holds no Ed25519 key",
            pointer="/publicKey",
            value=shown(text),
            remedy="name a copy of checkpoints.pub (PEM), or give 64 hexadecimal digits",
        )
    return key.public_bytes_raw()


def _hexadecimal(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{64}", text) is not None


def proven(signed: Sequence[Checkpoint], faults: Sequence[Fault], firsts: Mapping[str, int]) -> int:
    """How many events checkpoints prove.

    An event is proven if the chain leads from it to a checkpoint: so if nothing is at fault between the checkpoint
    before it and the one after it.

    Args:
        signed: The checkpoints.
        faults: What is not as it was written.
        firsts: The first event of each stream that is there.
    """
    if any(fault.kind == "unreadable" and not fault.stream for fault in faults):
        return 0
    count = 0
    for stream, first in firsts.items():
        wrong = [fault for fault in faults if fault.stream == stream]
        lengths = sorted({each.heads[stream][0] for each in signed if stream in each.heads})
        for before, length in pairwise([first - 1, *(length for length in lengths if length >= first)]):
            if not any(fault.first <= length and fault.last > before for fault in wrong):
                count += length - before
    return count


def _spans(numbers: Sequence[int]) -> list[Span]:
    spans: list[Span] = []
    for number in numbers:
        if spans and spans[-1].last == number - 1:
            spans[-1] = Span(spans[-1].first, number)
        else:
            spans.append(Span(number, number))
    return spans


def _lines(found: Verification) -> Iterator[str]:
    for fault in found.faults:
        where = f"{fault.stream} {fault.first}..{fault.last}".strip()
        yield f"{fault.kind}  {where}  {fault.detail}"
    yield f"{counted(found.events, 'event')}, {counted(len(found.faults), 'fault')}"
    whose = "the given key" if found.key_from == "argument" else "the store's own key"
    if not found.checkpoints:
        yield f"no checkpoint is signed with {whose}: it proves nothing"
        return
    which = ", ".join(
        f"{each.first} to {each.last}" if each.last > each.first else f"{each.first}"
        for each in found.checkpoints
    )
    yield f"signed with {whose}: checkpoint {which}; {counted(found.proven_events, 'event')} proven by it"
    if found.key_from == "store":
        yield "whoever can write the store can replace its key: keep a copy elsewhere and give it with --public-key"
