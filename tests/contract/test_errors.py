"""Every wrong spec, input, outcome, name and number gets its own error and changes nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from msgspec.structs import replace
from tests.contract import learning_rows, request_rows, spec_rows
from tests.contract.spec_rows import SpecRow
from tests.contract.world import PLAIN, ROUTER, Row, World, build

import capsa
from capsa import _native, errors

REQUESTS = [*request_rows.ROWS, *learning_rows.ROWS]

#: Classes that no table here can raise: why, and where they are raised instead.
ELSEWHERE = {
    "CapsaError": "the root",
    "InvalidRequest": "a branch of the tree",
    "NotFound": "a branch of the tree",
    "Conflict": "a branch of the tree",
    "CapsuleFailure": "a branch of the tree",
    "StoreError": "a branch of the tree",
    "AlreadyExists": "tests/decisions/test_jobs.py",
    "IdempotencyConflict": "tests/decisions/test_retries.py",
    "StaleDocument": "tests/decisions/test_learning_document.py",
    "Overloaded": "needs every place of the sandbox to be taken: tests of capsa-vm",
    "FeedbackConflict": "tests/decisions/test_feedback.py",
    "InstallConflict": "tests/decisions/test_store.py",
    "StoreForked": "tests/decisions/test_store.py",
    "StoreClosed": "tests/decisions/test_store.py",
    "StoreUnsupported": "a branch of the tree",
    "StoreLocked": "tests/journal/test_folder.py",
    "NotAStore": "tests/journal/test_folder.py",
    "StoreTooNew": "tests/journal/test_folder.py",
    "NetworkFileSystem": "tests/journal/test_folder.py",
    "StoreUnwritable": "tests/journal/test_failures.py",
    "StoreFull": "tests/journal/test_failures.py",
    "StoreBusy": "tests/journal/test_failures.py",
    "StoreReadOnly": "tests/journal/test_failures.py",
    "StoreDamaged": "tests/journal/test_damage.py",
    "UnknownEvent": "tests/journal/test_conformance.py",
    "UnknownBlob": "tests/journal/test_conformance.py",
    "CapsuleTrapped": "tests/contract/test_capsule_failures.py",
    "CapsuleDeadline": "tests/contract/test_capsule_failures.py",
    "CapsuleOutOfMemory": "tests/contract/test_capsule_failures.py",
    "CapsuleStack": "tests/contract/test_capsule_failures.py",
    "CapsuleBadOutput": "tests/contract/test_capsule_failures.py",
    "CapsuleFuel": "tests/server/test_tools.py",
    "CapsuleLimit": "tests/server/test_tools.py",
    "CapabilityDenied": "tests/server/test_tools.py",
    "WrongKind": "tests/server/test_tools.py",
    "UnknownInvocation": "tests/server/test_tools.py",
    "InvalidPolicy": "tests/policies/test_policy_load.py",
    "InstallRefused": "tests/client/test_client_parity.py",
    "TooSlow": "inside only: the call is made again on another thread",
    "HostFault": "test_a_cache_that_others_can_write_is_refused",
    "JournalMismatch": "test_events_that_do_not_fit_are_refused",
    "InvalidSpec": "the table of specs",
    "InvalidCapsule": "test_what_is_no_capsule_is_refused",
}


def test_every_id_is_its_own() -> None:
    for rows in (REQUESTS, spec_rows.ROWS):
        ids = [row.id for row in rows]
        assert sorted(set(ids)) == sorted(ids)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with capsa.open(clock=lambda: 1.8e9, seed=5) as store:
        yield build(store)


@pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row.id)
def test_a_wrong_request_gets_its_own_error_and_changes_nothing(world: World, row: Row) -> None:
    before = world.snapshot()
    with pytest.raises(row.error) as caught:
        row.call(world)
    error = caught.value
    assert type(error) is row.error
    assert isinstance(error, capsa.CapsaError)
    assert world.snapshot() == before
    assert in_json_spelling(error.pointer) == row.pointer
    assert row.detail.lower() in error.detail.lower()
    assert row.remedy.lower() in (error.remedy or "").lower()
    assert error.remedy or row.pointer is None
    assert error.detail in str(error)
    assert (error.remedy or "") in str(error)
    assert "\n" not in str(error)
    # What somebody sent is shown, but not at any length.
    assert len(error.value or "") <= 80
    assert len(str(error)) <= 500


def in_json_spelling(pointer: str | None) -> str | None:
    """A pointer with the names of settings in camelCase; names that users choose stay as they are."""
    if pointer is None or pointer.startswith(("/input", "/outcome")):
        return pointer
    return (
        re.sub(r"_([a-z])", lambda match: match.group(1).upper(), pointer)
        if known_setting(pointer)
        else pointer
    )


def known_setting(pointer: str) -> bool:
    last = pointer.rsplit("/", 1)[-1]
    return last in {
        "min_exploration",
        "max_delta",
        "half_life",
        "half_life_seconds",
        "half_life_feedbacks",
        "max_contexts",
    }


TAKE_KEYS: dict[str, Callable[[capsa.Capsule, Any], object]] = {
    "decide": lambda capsule, key: capsule.decide(context_key=key),
    "feedback": lambda capsule, key: capsule.feedback(option=0, reward=1, context_key=key),
    "contexts": lambda capsule, key: capsule.contexts(after=key),
}


@pytest.mark.parametrize("call", TAKE_KEYS)
@pytest.mark.parametrize("wrong", [5, b"key", ["key"], 1.5, object()], ids=lambda wrong: type(wrong).__name__)
def test_a_key_of_a_wrong_type(world: World, call: str, wrong: object) -> None:
    """Wrong use of Python may stay a TypeError; nothing else may come out, and nothing changes."""
    before = world.snapshot()
    with pytest.raises((TypeError, capsa.InvalidField)):
        TAKE_KEYS[call](world.router, wrong)
    assert world.snapshot() == before


def test_the_good_specs_hold() -> None:
    for text in (spec_rows.GOOD, spec_rows.JOINT, ROUTER, PLAIN):
        assert _native.compile_spec(text)


@pytest.mark.parametrize("row", spec_rows.ROWS, ids=lambda row: row.id)
def test_a_wrong_spec_is_told_line_and_key(world: World, row: SpecRow) -> None:
    before = world.snapshot()
    for call in (
        _native.compile_spec,
        _native.spec_definition,
        _native.spec_wat,
        world.store.install,
        world.store.plan,
    ):
        with pytest.raises(capsa.InvalidSpec) as caught:
            call(row.text if "\n" in row.text else row.text + "\n")
        problems = caught.value.problems
        assert [(line, key) for line, _, key, _ in problems] == [(row.line, row.key)], problems
        ((_, column, _, message),) = problems
        assert row.words.lower() in message.lower()
        assert column >= 1
        assert f"line {row.line}" in caught.value.detail
    assert world.snapshot(refused=1) == before


def test_every_problem_of_a_spec_is_told_at_once() -> None:
    text = (
        spec_rows.GOOD.replace("mode: live", "mode: on")
        .replace("weight: 0.6", "weight: x")
        .replace("14d", "14")
    )
    with pytest.raises(capsa.InvalidSpec) as caught:
        _native.compile_spec(text)
    assert [(line, key) for line, _, key, _ in caught.value.problems] == [
        (14, "reward.quality.weight"),
        (21, "decay.half_life"),
        (23, "mode"),
    ]


def test_a_problem_hides_no_other_problem() -> None:
    """What is empty or missing is told beside an unrelated problem."""
    text = spec_rows.GOOD.replace("mode: live", "zzz: live")
    text = text.replace("{half_life: 14d}", "{}").replace("{after: 7d}", "{}")
    with pytest.raises(capsa.InvalidSpec) as caught:
        _native.compile_spec(text)
    assert [(line, key) for line, _, key, _ in caught.value.problems] == [
        (21, "decay"),
        (22, "horizon"),
        (23, "zzz"),
    ]


CORE = wasmtime.wat2wasm("(module)")
NOTHING = wasmtime.wat2wasm("(component)")
NOT_CAPSULES = {
    "nothing": (b"", "InvalidSpec"),
    "not text": (b"\xff\xfe\x00binary", "InvalidCapsule"),
    "a head alone": (b"\0asm", "InvalidCapsule"),
    "a core module": (bytes(CORE), "InvalidCapsule"),
    "a component that says nothing": (bytes(NOTHING), "InvalidCapsule"),
    "half a component": (_native.compile_spec(PLAIN)[:400], "InvalidCapsule"),
    "a component and more": (_native.compile_spec(PLAIN) + b"\xff\xff", "InvalidCapsule"),
    "a definition without the world": (
        bytes(NOTHING)
        + _native.compile_spec(PLAIN)[_native.compile_spec(PLAIN).rindex(b"capsa:definition") - 4 :],
        "InvalidCapsule",
    ),
}


@pytest.mark.parametrize("what", NOT_CAPSULES)
def test_what_is_no_capsule_is_refused(world: World, what: str) -> None:
    source, error = NOT_CAPSULES[what]
    before = world.snapshot()
    for call in (world.store.plan, world.store.install):
        with pytest.raises(getattr(capsa, error)) as caught:
            call(source)
        assert caught.value.detail
    assert world.snapshot(refused=1) == before


@pytest.mark.parametrize("source", [5, None, ["name: a"], {"name": "a"}], ids=repr)
def test_a_source_of_a_wrong_type(world: World, source: object) -> None:
    """Says that it is the wrong type, not that an attribute is missing somewhere inside."""
    before = world.snapshot()
    with pytest.raises((TypeError, capsa.InvalidRequest, capsa.InvalidCapsule)):
        world.store.install(source)  # type: ignore[arg-type]
    assert world.snapshot() == before


def test_a_file_that_is_not_there(world: World, tmp_path: Path) -> None:
    before = world.snapshot()
    for source in (tmp_path / "nowhere.yaml", str(tmp_path / "nowhere.yaml"), tmp_path):
        with pytest.raises(OSError, match=str(tmp_path)):
            world.store.install(source)
    assert world.snapshot() == before


def test_a_cache_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """What is in it is run as it is."""
    tmp_path.chmod(0o777)
    with pytest.raises(capsa.HostFault):
        capsa.open(cache_dir=tmp_path)


def test_events_that_do_not_fit_are_refused(world: World, host: _native.Host) -> None:
    events = [event for event in world.store.journal.read("default") if event.path == "default/plain"]
    installed, decided, *_ = events
    component = host.load(_native.compile_spec(PLAIN))
    state = _native.Capsule("default", "default", component, installed, _native.Keyring())
    before = state.state()
    router = next(event for event in world.store.journal.read("default") if event.path == "default/router")
    for kind, payload in [
        ("invented", installed.payload),
        ("decided", installed.payload),
        ("decided", decided.payload[:-1]),
        ("decided", decided.payload + b"\0"),
        ("outcome_received", b""),
        ("installed", installed.payload),
        ("installed", router.payload),
    ]:
        with pytest.raises(capsa.JournalMismatch):
            state.apply(replace(installed, type=kind, payload=payload))
    for schema in (0, _native.EVENT_SCHEMA + 1):
        with pytest.raises(capsa.JournalMismatch, match="schema"):
            state.apply(replace(decided, schema=schema))
    for payload in (decided.payload, b"\xa0", b""):
        with pytest.raises(capsa.JournalMismatch):
            _native.Capsule(
                "default", "default", component, replace(installed, payload=payload), _native.Keyring()
            )
    assert state.state() == before


def test_every_class_is_raised_somewhere() -> None:
    """By a row of a table here, or it says where."""
    classes = {
        name for name, item in vars(errors).items() if inspect.isclass(item) and issubclass(item, Exception)
    }
    raised = {row.error.__name__ for row in REQUESTS}
    assert classes - raised == set(ELSEWHERE)
    assert not raised & set(ELSEWHERE)
    hidden = {name for name in classes if getattr(capsa, name, None) is not getattr(errors, name)}
    assert hidden == {"TooSlow"}


def test_every_problem_type_is_one_of_the_contract() -> None:
    """`code` is the last part of the problem type; only branches share one."""
    documented = {
        "unknown-field",
        "invalid-field",
        "unknown-option",
        "unknown-strategy",
        "no-allowed-option",
        "metric-out-of-range",
        "reward-out-of-range",
        "unknown-metric",
        "reward-missing",
        "invalid-spec",
        "invalid-capsule",
        "capsule-refused",
        "unknown-tenant",
        "unknown-job",
        "unknown-capsule",
        "unknown-decision",
        "feedback-conflict",
        "install-conflict",
        "already-exists",
        "idempotency-conflict",
        "stale-document",
        "overloaded",
        "store-unwritable",
        "internal",
        "capsule-trapped",
        "capsule-deadline",
        "capsule-out-of-memory",
        "capsule-stack",
        "capsule-bad-output",
        "capsule-fuel",
        "capsule-limit",
        "capability-denied",
        "invalid-policy",
        "install-refused",
        "wrong-kind",
        "unknown-invocation",
    }
    in_process = {
        "store-forked",
        "store-closed",
        "store-unsupported",
        "journal-mismatch",
        "store-locked",
        "not-a-store",
        "store-too-new",
        "network-file-system",
        # Why it is unwritable: the server answers all of them as store-unwritable.
        "store-full",
        "store-busy",
        "store-read-only",
        "store-damaged",
        "unknown-event",
        "unknown-blob",
    }
    codes = [
        item.code
        for item in vars(errors).values()
        if inspect.isclass(item) and issubclass(item, capsa.CapsaError)
    ]
    assert set(codes) == documented | in_process
