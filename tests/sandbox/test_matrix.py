"""Every hostile case ends as the matrix says; nothing that is not the guest's is touched, and the host goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.sandbox.arena import Arena
from tests.sandbox.case import Case, Ended, Runner
from tests.sandbox.matrix import MATRIX
from tests.sandbox.native import Native
from tests.sandbox.stored import Stored

from capsa.errors import InvalidCapsule


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    made = Arena(tmp_path_factory.mktemp("arena"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def native() -> Native:
    return Native()


@pytest.mark.parametrize("case", [case.parameter() for case in MATRIX])
def test_a_hostile_case(case: Case, arena: Arena, native: Native, tmp_path: Path) -> None:
    _tried(case, arena, native, tmp_path)


def _through_a_store() -> Iterator[Case]:
    for case in MATRIX:
        # An install takes what is no WebAssembly for a spec.
        if case.says == "not WebAssembly":
            continue
        # It asks for a definition that fits first: it refuses in other words.
        if case.name == "http that the wants do not have":
            yield replace(case, ends=InvalidCapsule)
        else:
            yield replace(case, says="") if case.ends is InvalidCapsule else case


@pytest.mark.parametrize("case", [case.parameter() for case in _through_a_store()])
def test_a_hostile_case_in_a_store(case: Case, arena: Arena, tmp_path: Path) -> None:
    """The same cases; and what they broke stands in the audit."""
    _tried(case, arena, Stored(), tmp_path)


def _tried(case: Case, arena: Arena, runner: Runner, folder: Path) -> None:
    store = folder / "store"
    store.mkdir(mode=0o700)
    try:
        runner.begin(case, arena, store)
        arena.begin(store / "files")
        if case.before is not None:
            case.before(arena)
        ended = runner.run(case, arena)
        _is_as_expected(case, arena, runner, ended)
        runner.recorded(ended)
    finally:
        runner.end()


def _is_as_expected(case: Case, arena: Arena, runner: Runner, ended: Ended) -> None:
    # First what must not have happened.
    arena.check(case, ended)
    runner.innocent(arena)
    if case.ends is None:
        assert ended.error is None
        assert ended.output is not None
        told = json.loads(ended.output)
        assert case.answer is ... or told == case.answer
    else:
        assert type(ended.error) is case.ends, (ended.error, ended.output)
        assert case.says in str(ended.error)
        if "cpu_ms" in case.limits and ended.used:
            # Ended soon behind its limit, whatever else the machine has to do: it is the thread's own time.
            assert ended.used["cpu_ms"] < 5 * case.limits["cpu_ms"] + 50
    if case.denied is not None:
        assert tuple((interface, rule) for interface, rule, _ in ended.denied) == case.denied
    assert case.logs in "\n".join(ended.log)
    if case.after is not None:
        case.after(arena, ended)


def test_the_matrix_is_whole() -> None:
    """Each case has a name of its own, and there is no category with hardly anything in it."""
    ids = [case.id for case in MATRIX]
    assert len(set(ids)) == len(ids) >= 80
