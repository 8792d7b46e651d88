"""What was refused before it was there stands in the audit: who sent what, and why it is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from tests.sandbox import guests
from tests.tools.making import cache, component, echo
from tests.tools.ways import Way

import capsa
from capsa import _native
from capsa.capsules import read_source
from capsa.errors import InstallConflict, InstallRefused, InvalidCapsule, InvalidPolicy, InvalidSpec

SPEC: Final = "name: echo\noptions: [a, b]\nreward: {quality: 1}\nreward_range: [0, 1]\n"
#: A definition that fits, of a component that asks for more memory than any may have.
LARGE: Final = component("large", guests.tool(memory='(memory (export "memory") 65000)'))
_WRONG: Final = {"schema": 1, "kind": "tool", "name": "wrong", "effect": "pure"}
#: What its imports disprove.
LYING: Final = _native.embed_tool_definition(
    guests.script(guests.call("kv.set", "k", "v")).bytes, json.dumps(_WRONG)
)
POLICY: Final = {"schema": 1, "name": "x", "grants": {"http": [{"hosts": ["10.0.0.5"]}]}}


def rows(store: capsa.Store, tenant: str = "default") -> list[Any]:
    return [row for row in store.audit(tenant) if row.type == "refused"]


@pytest.mark.parametrize(
    ("source", "error", "capsule", "digest"),
    [
        (b"\0asm nonsense", InvalidCapsule, None, None),
        (b"\xff", InvalidCapsule, None, None),
        ("name: x\noptions: [a]\nunknown: 1\n", InvalidSpec, None, None),
        (LYING, InvalidCapsule, None, None),
        (LARGE, InvalidCapsule, "large", read_source(LARGE).digest),
        (SPEC, InstallConflict, "echo", read_source(SPEC).digest),
    ],
    ids=["bytes", "no text", "YAML", "definition", "memory", "kind"],
)
def test_an_install(way: Way, source: Any, error: type[capsa.CapsaError], capsule: str | None, digest: str | None) -> None:  # fmt: skip
    """One row each time, in the tenant alone; nothing else has changed, now or when the journal is folded again."""
    store = way.store
    way.install(echo())
    way.install(echo(), tenant="other")
    before = store.journal.length("default")
    store.principal = "key ci"
    with pytest.raises(error) as refused:
        way.install(source)
    with pytest.raises(error):
        way.install(source)
    for row in rows(store):
        assert (row.principal, row.job, row.capsule) == ("key ci", "default", capsule)
        told = {"what": "install", "error": {"code": error.code, "detail": refused.value.detail}}
        assert row.detail == (told if digest is None else told | {"digest": digest})
    assert len(rows(store)) == store.journal.length("default") - before == 2
    assert rows(store, "other") == []
    assert store.tenant("default").job("default").capsules() == ["echo"]
    assert store.rebuild().equal


def test_a_policy(way: Way) -> None:
    """Whoever sent it, and the tool goes on with the one that it has."""
    tried = way.install(echo())
    before = tried.policy
    with pytest.raises(InvalidPolicy) as refused:
        tried.set_policy(POLICY)
    (row,) = rows(way.store)
    assert (row.principal, row.job, row.capsule) == ("local", "default", "echo")
    assert row.detail == {
        "what": "policy",
        "error": {"code": "invalid-policy", "detail": refused.value.detail},
    }
    assert [told.sequence for told in tried.sync.audit() if told.type == "refused"] == [row.sequence]
    assert tried.policy == before
    # A document that somebody else has changed was not refused for what it says.
    with pytest.raises(capsa.StaleDocument):
        tried.set_policy("trusted", if_digest="b2:" + "0" * 64)
    assert rows(way.store) == [row]


def test_what_the_tenant_does_not_let_in(way: Way) -> None:
    way.store.tenant("default").change_settings(install_allow="spec_only")
    with pytest.raises(InstallRefused):
        way.install(echo())
    (row,) = rows(way.store)
    assert (row.capsule, row.detail["error"]["code"]) == ("echo", "install-refused")


def test_another_name_than_it_has_to_have(way: Way) -> None:
    job = way.install(echo()).sync._store.job("default")
    for call in (job.plan, job.installed):
        with pytest.raises(capsa.InvalidField) as refused:
            call(echo(), name="other")
        assert (refused.value.pointer, refused.value.value) == ("/name", "echo")
    (row,) = rows(way.store)
    assert (row.capsule, row.detail["error"]["code"]) == ("echo", "invalid-field")


def test_of_no_tenant_there_is_no_row(way: Way) -> None:
    """What was refused makes none; neither does a try that changes nothing leave one."""
    with pytest.raises(InvalidCapsule):
        way.install(LARGE, tenant="new")
    assert way.store.tenants() == []
    job = way.install(echo()).sync._store.job("default")
    with pytest.raises(InvalidCapsule):
        job.plan(LARGE)
    assert rows(way.store) == []


def test_a_long_sentence_is_cut(tmp_path: Path) -> None:
    """What somebody sent does not make the journal grow by what it says."""
    with capsa.open(tmp_path / "store", cache_dir=cache(), upkeep=False) as store:
        store.install(echo())
        wrong = "\n".join(f"unknown{number}{'x' * 200}: 1" for number in range(50))
        with pytest.raises(InvalidSpec) as refused:
            store.install("name: x\noptions: [a, b]\n" + wrong)
        (row,) = rows(store)
        assert len(refused.value.detail) > 1000
        assert row.detail["error"]["detail"] == refused.value.detail[:1000]


def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    with capsa.open(tmp_path / "store", cache_dir=cache(), upkeep=False) as store:
        store.install(echo())
        with pytest.raises(InvalidCapsule):
            store.install(LARGE)
        before = rows(store)
    with capsa.open(tmp_path / "store", cache_dir=cache(), upkeep=False) as store:
        assert rows(store) == before
        assert store.verify() == []
