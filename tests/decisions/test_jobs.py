"""Tenants and jobs: which there are, with or without capsules, now, after a restart and when folded again."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decisions.past import PAIR, SPEC, given_id
from tests.decisions.reopened import KINDS, Reopened, reopened
from tests.decisions.test_golden_store import FORMATS, GOLDEN

import capsa
from capsa.decisions import _fold, _snapshots

DAY_S = 24 * 3600.0
#: JSON that metadata may hold.
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def everything(store: capsa.Store) -> dict[str, Any]:
    """All tenants and jobs, as the calls tell them."""
    tenants = store.tenants()
    assert [tenant.name for tenant in tenants] == sorted(tenant.name for tenant in tenants)
    told = {}
    for tenant in tenants:
        jobs = store.tenant(tenant.name).jobs()
        assert [job.name for job in jobs] == sorted(job.name for job in jobs)
        assert len(jobs) == tenant.jobs
        assert jobs == [store.tenant(tenant.name).job(job.name).info() for job in jobs]
        told[tenant.name] = tenant, jobs
    return told


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"in": value}
    return value


def test_tenants_and_jobs_are_listed(life: Reopened) -> None:
    """Made by a call or by an install, they are told alike, after a restart too."""
    assert life.store.tenants() == []
    life.clock.now_s = 1_800_000_000.0
    made = life.store.tenant("acme").create_job(
        "calls", description="who is called", metadata={"team": ["a", 1, 0.5]}
    )
    life.clock.forward(1)
    life.store.tenant("acme").job("routing").install(SPEC)
    life.store.tenant("acme").job("routing").install(PAIR)
    life.store.install(SPEC)
    for _ in range(3):
        store = life.store
        assert [(tenant.name, tenant.jobs) for tenant in store.tenants()] == [("acme", 2), ("default", 1)]
        assert store.tenants()[0].created_at == "2027-01-15T08:00:00.000Z"
        calls, routing = store.tenant("acme").jobs()
        assert calls == made == store.tenant("acme").job("calls").info()
        assert (calls.description, calls.metadata) == ("who is called", {"team": ["a", 1, 0.5]})
        assert calls.created_at == "2027-01-15T08:00:00.000Z"
        assert (routing.name, routing.capsules, routing.description, routing.metadata) == (
            "routing",
            ["retries", "router"],
            "",
            {},
        )
        assert routing.created_at == "2027-01-15T08:00:01.000Z"
        assert store.rebuild().equal
        life.restart()


def test_the_first_that_is_missing_is_named(life: Reopened) -> None:
    life.store.install(SPEC)
    for _ in range(2):
        with pytest.raises(capsa.UnknownTenant, match="'nobody'"):
            life.store.tenant("nobody").job("default").capsule("router")
        with pytest.raises(capsa.UnknownTenant, match="'nobody'"):
            life.store.tenant("nobody").job("default").info()
        with pytest.raises(capsa.UnknownTenant, match="'nobody'"):
            life.store.tenant("nobody").jobs()
        with pytest.raises(capsa.UnknownJob, match="'none'"):
            life.store.job("none").capsule("router")
        with pytest.raises(capsa.UnknownJob, match="'none'"):
            life.store.job("none").info()
        with pytest.raises(capsa.UnknownCapsule, match="'other'"):
            life.store.capsule("other")
        life.restart()


def test_a_job_is_made_once(life: Reopened) -> None:
    """Whether it was made by a call or by an install; what was said of it first stays."""
    life.store.job("b").install(SPEC)
    life.store.tenant("default").create_job("a", description="first")
    for name in ("a", "b", "a"):
        before = everything(life.store)
        with pytest.raises(capsa.AlreadyExists, match=repr(name)) as caught:
            life.store.tenant("default").create_job(name, description="second")
        assert (caught.value.code, caught.value.pointer) == ("already-exists", "/name")
        assert everything(life.store) == before
        life.restart()
    assert life.store.job("a").install(SPEC).version == 1
    assert life.store.job("a").info().description == "first"


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"description": "x" * 1025}, "/description"),
        ({"description": 5}, "/description"),
        ({"description": "\ud800"}, "/description"),
        ({"metadata": []}, "/metadata"),
        ({"metadata": "x"}, "/metadata"),
        ({"metadata": {"a": float("nan")}}, "/metadata"),
        ({"metadata": {"a": [float("inf")]}}, "/metadata"),
        ({"metadata": {"a": 2**63}}, "/metadata"),
        ({"metadata": {"a": b"x"}}, "/metadata"),
        ({"metadata": {1: "x"}}, "/metadata"),
        ({"metadata": {"a": "\ud800"}}, "/metadata"),
        ({"metadata": {"\ud800": "a"}}, "/metadata"),
        ({"metadata": deep(17)}, "/metadata"),
        ({"metadata": {"a": "x" * (16 * 1024 - 7)}}, "/metadata"),
    ],
)
def test_what_does_not_hold_makes_no_job(wrong: dict[str, Any], pointer: str) -> None:
    with capsa.open() as store:
        with pytest.raises(capsa.InvalidField) as caught:
            store.tenant("acme").create_job("calls", **wrong)
        assert caught.value.pointer == pointer
        assert caught.value.remedy
        assert store.tenants() == []
        assert store.journal.streams() == []


def test_the_limits_hold_to_the_last_byte() -> None:
    with capsa.open() as store:
        most: list[dict[str, Any]] = [
            {"description": "ü" * 1024},
            {"metadata": deep(16)},
            {"metadata": {"a": "x" * (16 * 1024 - 8)}},
            {"metadata": {"a": 2**63 - 1, "b": -(2**63), "c": (1, 2)}},
        ]
        for number, said in enumerate(most):
            info = store.tenant("acme").create_job(str(number), **said)
            assert info.metadata == json.loads(json.dumps(said.get("metadata", {})))


@pytest.mark.parametrize("name", ["", "A", "-a", "a/b", "a" * 65, 5])
def test_a_job_needs_a_name(name: Any) -> None:
    with capsa.open() as store, pytest.raises(capsa.InvalidField):
        store.tenant("acme").create_job(name)


@pytest.mark.parametrize("kind", KINDS)
@given(metadata=st.dictionaries(st.text(max_size=6), VALUES, max_size=3), description=st.text(max_size=20))
@settings(max_examples=20)
def test_what_is_said_of_a_job_comes_back(kind: str, metadata: dict[str, Any], description: str) -> None:
    """From the call, from the event, from a snapshot; and what a caller does to it changes nothing."""
    with reopened(kind) as life:
        info = life.store.tenant("acme").create_job("calls", description=description, metadata=metadata)
        assert (info.description, info.metadata) == (description, metadata)
        info.metadata["changed"] = True
        _snapshots.seal(life.store, "acme", "events")
        for _ in range(2):
            again = life.store.tenant("acme").job("calls").info()
            assert (again.description, again.metadata) == (description, metadata)
            assert life.store.rebuild().equal
            life.restart()


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_survive_retention(kind: str) -> None:
    """Their events are cut off, a snapshot carries them: so does the next one."""
    with reopened(kind, int(DAY_S * 1000)) as life:
        life.store.tenant("acme").create_job("empty", description="nothing yet", metadata={"a": [None]})
        router = life.store.tenant("acme").job("full").install(SPEC)
        before = everything(life.store)
        for _ in range(8):
            given_id(router.decide())
            _snapshots.seal(life.store, "acme", "events")
            life.clock.forward(DAY_S)
            life.store.upkeep()
        assert life.store.journal.first("acme") > 4
        for _ in range(3):
            assert everything(life.store) == before
            assert life.store.rebuild().equal
            life.restart()


def test_a_purged_tenant_is_not_listed_until_it_is_used(life: Reopened) -> None:
    acme = life.store.tenant("acme")
    acme.create_job("calls", description="before")
    acme.job("full").install(SPEC)
    life.store.install(SPEC)
    assert acme.purge().capsules == 1
    life.clock.forward(1)
    for _ in range(2):
        assert [tenant.name for tenant in life.store.tenants()] == ["default"]
        with pytest.raises(capsa.UnknownTenant):
            life.store.tenant("acme").jobs()
        assert life.store.rebuild().equal
        life.restart()
    created = life.store.tenant("acme").create_job("calls").created_at
    for _ in range(2):
        (acme_info, _) = life.store.tenants()
        assert (acme_info.name, acme_info.jobs, acme_info.created_at) == ("acme", 1, created)
        assert life.store.tenant("acme").job("calls").info().description == ""
        assert life.store.rebuild().equal
        life.restart()


def test_a_rebuild_compares_jobs(life: Reopened) -> None:
    """Something that no event says is found."""
    life.store.tenant("acme").create_job("calls", description="said")
    assert life.store.rebuild().equal
    life.store._fold.tenants["acme"].jobs["calls"].description = "not said"
    life.store._fold.tenants["acme"].jobs["more"] = _fold.JobState(created_ms=0)
    rebuilt = life.store.rebuild()
    assert not rebuilt.equal
    assert [difference.what for difference in rebuilt.jobs] == ["acme/calls", "acme/more"]


def test_an_export_shows_every_job(life: Reopened, tmp_path: Path) -> None:
    life.store.tenant("acme").create_job("empty", description="nothing yet", metadata={"a": 1})
    life.store.tenant("acme").job("full").install(SPEC)
    life.store.tenant("acme").job("gone").install(SPEC)
    life.store.tenant("acme").job("gone").delete()
    life.store.export(tmp_path / "out")
    jobs = tmp_path / "out" / "tenants" / "acme" / "jobs"
    shown = {file.parent.name: json.loads(file.read_text()) for file in jobs.glob("*/job.json")}
    assert {name: (job["description"], job["metadata"], job["capsules"]) for name, job in shown.items()} == {
        "empty": ("nothing yet", {"a": 1}, []),
        "full": ("", {}, ["router"]),
    }


def test_a_snapshot_of_an_older_version_gives_its_jobs(
    life: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names none: they follow from its capsules, and from the events that are still there."""
    tenant = life.store.tenant("acme")
    tenant.create_job("empty", description="kept")
    router = tenant.job("full").install(SPEC)
    before = everything(life.store)
    dumps = cbor2.dumps

    def without_jobs(value: Any, **how: Any) -> bytes:
        if isinstance(value, dict) and "capsules" in value and "tenant" in value:
            value = {"capsules": value["capsules"]}
        return dumps(value, **how)

    monkeypatch.setattr(cbor2, "dumps", without_jobs)
    _snapshots.seal(life.store, "acme", "events")
    monkeypatch.undo()
    router.decide()
    for _ in range(2):
        life.restart()
        assert everything(life.store) == before
        assert life.store.rebuild().equal
    # Cut off at that snapshot, what has a capsule is still there.
    (mark,) = life.store._marks.snapshots("acme")
    life.store.journal.cut("acme", mark.sequence)
    for _ in range(2):
        life.restart()
        assert [job.name for job in life.store.tenant("acme").jobs()] == ["full"]
        assert life.store.rebuild().equal


@pytest.mark.parametrize("format_", FORMATS)
def test_a_golden_store_has_its_jobs(format_: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / format_, tmp_path / "store")
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    (tmp_path / "store" / "expected.json").unlink()
    for _ in range(2):
        with capsa.open(tmp_path / "store", upkeep=False) as store:
            told = {
                name: [(job.name, job.capsules) for job in jobs]
                for name, (_, jobs) in everything(store).items()
            }
            assert told == {"acme": [("calls", ["retries"])], "default": [("default", ["router"])]}
            assert store.rebuild().equal
            for tenant in told:
                _snapshots.seal(store, tenant, "events")


def test_the_async_store_tells_and_makes_jobs() -> None:
    async def story() -> None:
        async with capsa.AsyncStore(clock=lambda: 1.8e9) as store:
            made = await store.create_job("acme", "calls", description="d", metadata={"a": 1})
            assert [tenant.name for tenant in await store.tenants()] == ["acme"]
            assert await store.jobs("acme") == [made] == [await store.job("acme", "calls")]
            router = await store.install(SPEC, tenant="acme", job="calls")
            decision = await router.decide()
            assert (await store.purge_logs("acme", "calls", "router")).decisions == 1
            with pytest.raises(capsa.UnknownDecision):
                await router.feedback(decision.id, reward=0.5)
            await router.decide()
            assert (await router.purge_logs()).decisions == 1
            assert (await store.delete_capsule("acme", "calls", "router")).capsules == 1
            with pytest.raises(capsa.UnknownCapsule):
                await router.decide()
            router = await store.install(SPEC, tenant="acme", job="calls")
            assert (await router.delete()).capsule == "router"
            assert (await store.delete_job("acme", "calls")).capsules == 0
            with pytest.raises(capsa.UnknownJob):
                await store.job("acme", "calls")
            assert (await store.purge("acme")).tenant == "acme"
            assert await store.tenants() == []

    asyncio.run(story())
