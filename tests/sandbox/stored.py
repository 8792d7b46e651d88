"""Hostile cases through a store, as applications meet them: installed, allowed, called, and in the audit."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from tests.sandbox.arena import Arena
from tests.sandbox.case import Case, Ended
from tests.sandbox.guests import call, script

import capsa
from capsa import _native
from capsa.errors import CapabilityDenied, CapsaError, CapsuleFailure, CapsuleRefused, InvalidField
from capsa.tools import InvocationRecord, Invoked

#: Named so that a store in the folder above `Arena.root` keeps files where the arena has them.
TENANT: Final = "files"
JOB: Final = "acme"
_KV: Final = {"kv": {"access": "read_write"}}
_SPEC: Final = "name: tool\noptions: [a, b]\nreward: {quality: 1}\nreward_range: [0, 1]\nbaseline: a\n"


class Stored:
    """Runs each case in a store of its own."""

    def __init__(self) -> None:
        self._store: capsa.Store | None = None

    def begin(self, case: Case, arena: Arena, folder: Path) -> None:
        """See `Runner`."""
        self._store = store = capsa.open(
            folder, cache_dir=arena.cache, upkeep=False, dns=[arena.names.address], roots=arena.authority
        )
        # A new tenant begins without files, and so does a new tool; a new version finds what the case puts there.
        name = "first" if case.attacker(arena).world == "decision" else "tool"
        store.tenant(TENANT).job(JOB).install(_tool(arena.good[0], name=name))

    def run(self, case: Case, arena: Arena) -> Ended:
        """See `Runner`."""
        if arena.changes_fail:
            pytest.skip("tests/tools/test_tool_kv.py takes the disk from under a store")
        said = _Said()
        logger = logging.getLogger("capsa.capsule")
        logger.addHandler(said)
        logger.setLevel(logging.DEBUG)
        try:
            return self._called(case, arena, self._open())
        except CapsaError as error:
            return self._failed(error, said)
        finally:
            logger.removeHandler(said)
            logger.setLevel(logging.NOTSET)

    def _called(self, case: Case, arena: Arena, store: capsa.Store) -> Ended:
        guest = case.attacker(arena)
        job = store.tenant(TENANT).job(JOB)
        if guest.world == "decision":
            capsule = job.install(_decision(guest.bytes))
            decided = capsule.decide({"x": "y"})
            if case.output is not None:
                capsule.feedback(decided.id, outcome={"quality": 1})
            return Ended(None, json.dumps(decided.option))
        kept = arena.kv.entries()
        if kept:
            keeper = script(*(call("kv.set", key, value) for key, value in kept.items()))
            capsule = job.install(_tool(keeper.bytes, wants=_KV))
            capsule.set_policy({"schema": 1, "name": "keeper", "grants": _KV})
            capsule.invoke()
        capsule = job.install(_tool(guest.bytes, case.effect, case.wanted(arena)))
        for name, value in arena.secrets.items():
            try:
                store.tenant(TENANT).set_secret(name, value)
            except InvalidField:
                pytest.skip("a store does not take the secret")
        capsule.set_policy(case.policy(arena))
        arena.kv = store._fold.tools[TENANT, JOB, "tool"].kv
        input_ = json.loads(case.input)
        made = (
            capsule.invoke(input_)
            if case.output is None
            else capsule.compensate(input_, json.loads(case.output))
        )
        log = [line.message for line in made.log]
        return _ended(None, json.dumps(made.output, separators=(",", ":")), made, log)

    def _failed(self, error: CapsaError, said: _Said) -> Ended:
        try:
            record = self._open().tenant(TENANT).job(JOB).capsule("tool").invocations()[-1]
        except (CapsaError, IndexError):
            return Ended(error)
        return _ended(error, None, record, said.lines)

    def innocent(self, arena: Arena) -> None:
        """See `Runner`."""
        tool, decision = arena.good
        job = self._open().tenant("rival").job("default")
        assert job.install(_tool(tool, name="echo")).invoke({"a": 1}).output == {"a": 1}
        assert job.install(_decision(decision)).decide({}).option_name in ("a", "b")

    def recorded(self, ended: Ended) -> None:
        """See `Runner`: a breach stands in the audit, once, as it was told."""
        found = [row for row in self._open().audit(TENANT) if row.type in ("breached", "refused")]
        error = ended.error
        if not ended.denied and (error is None or isinstance(error, CapsuleRefused)):
            assert found == []
            return
        (row,) = found
        told = None if error is None else {"code": error.code, "detail": error.detail[:1000]}
        assert (row.job, row.detail.get("error")) == (JOB, told)
        if ended.denied or isinstance(error, CapsuleFailure | CapabilityDenied):
            assert (row.type, row.capsule) == ("breached", "tool")
            assert [tuple(denial) for denial in row.detail.get("denied", [])] == list(ended.denied)
        else:
            assert (row.type, row.capsule) in [("refused", None), ("refused", "tool")]

    def end(self) -> None:
        """See `Runner`."""
        if self._store is not None:
            self._store.close()

    def _open(self) -> capsa.Store:
        assert self._store is not None
        return self._store


class _Said(logging.Handler):
    """What capsules log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().partition(": ")[2])


def _ended(
    error: CapsaError | None, output: str | None, told: Invoked | InvocationRecord, log: list[str]
) -> Ended:
    denied = tuple((denial.interface, denial.rule, denial.detail) for denial in told.denied)
    # The last line says how many were dropped.
    kept = len(log) - any(line.endswith(" more lines were dropped") for line in log[-1:])
    return Ended(
        error, output, denied, tuple(log), told.used.log_lines - kept, msgspec.to_builtins(told.used)
    )


def _tool(
    component: bytes, effect: str = "non_idempotent", wants: dict[str, Any] | None = None, name: str = "tool"
) -> bytes:
    document = {"schema": 1, "kind": "tool", "name": name, "effect": effect, "wants": wants or {}}
    # As it is: whether it holds is for the install to say.
    return _defined(component, json.dumps(document))


def _decision(component: bytes) -> bytes:
    return _defined(component, _native.spec_definition(_SPEC))


def _defined(component: bytes, definition: str) -> bytes:
    """With a definition behind everything else, also where that is no component."""
    section = b"\x10capsa:definition" + definition.encode()
    return component + b"\0" + _leb(len(section)) + section


def _leb(number: int) -> bytes:
    low, number = number & 0x7F, number >> 7
    return bytes([low]) if number == 0 else bytes([low | 0x80]) + _leb(number)
