"""What a tenant lets in, who may change that, and what is told of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from tests.capsules.signed import (
    KINDS,
    OTHER_SPEC,
    OURS,
    SPEC,
    THEIRS,
    component,
    guarded,
    nested,
    public,
    signed,
    some_key,
)
from tests.decisions.past import SPEC as PAST
from tests.decisions.reopened import Reopened

import capsa
from capsa.capsules import key_id, read_source
from capsa.decisions import Settings, _letting_in
from capsa.decisions._letting_in import MAX_TRUSTED
from capsa.errors import InstallRefused, InvalidField, UnknownTenant

ALLOWS: Final = ("spec_only", "signed", "any")


def tampered(kind: str) -> bytes:
    """A signed component with one byte of its summary or its options changed; it is a capsule still."""
    old, new = (b"cheap", b"cheep") if kind == "decision" else (b'"summary":"1"', b'"summary":"7"')
    assert old in signed(kind)
    changed = signed(kind).replace(old, new)
    assert read_source(changed).name == "router"
    return changed


#: What may be installed, by what it is: of each kind of capsule but YAML.
SOURCES: dict[str, Callable[[str], Any]] = {
    "yaml": lambda _: SPEC,
    "unsigned": component,
    "signed by a trusted key": signed,
    "signed by another key": lambda kind: signed(kind, THEIRS),
    "tampered": tampered,
    "with another's signature": lambda kind: component(kind, 2) + signed(kind)[len(component(kind)) :],
    "with two signatures": lambda kind: signed(kind) + signed(kind)[len(component(kind)) :],
}
LET_IN: Final = {
    "spec_only": {"yaml"},
    "signed": {"yaml", "signed by a trusted key"},
    "any": set(SOURCES),
}


def everything(store: capsa.Store, tenant: str = "default", refused: int = 0) -> Any:
    """All that an install could change; `refused`: how often the journal has to say so."""
    events = list(store.journal.read(tenant)) if tenant in store.journal.streams() else []
    assert [event.type for event in events].count("refused") == refused
    return (
        len(events) - refused,
        sorted(store._fold.places()),
        msgspec.to_builtins(store._fold.snapshot(tenant)),
        {place: store._fold.state_hash(place) for place in store._fold.places()},
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("allow", ALLOWS)
def test_what_is_let_in(allow: str, source: str, kind: str) -> None:
    """By each setting; what is refused changes nothing, nor does the plan of it."""
    content = SOURCES[source](kind)
    with capsa.open() as store:
        guarded(store, allow)
        job, before = store.job("default"), everything(store)
        if source in LET_IN[allow]:
            plan = job.plan(content)
            assert everything(store) == before
            assert job.installed(content) == plan
            assert job.capsule("router").name == "router"
            return
        for call in (job.plan, job.install, job.installed, store.plan, store.install):
            with pytest.raises(InstallRefused) as caught:
                call(content)
            assert type(caught.value) is InstallRefused
            assert f"install.allow is {allow}" in caught.value.detail
            assert "router" in caught.value.detail
            assert caught.value.remedy
            assert "\n" not in str(caught.value)
        assert everything(store, refused=3) == before
        with pytest.raises(capsa.UnknownJob):
            job.capsule("router")


def test_what_is_refused_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes long, and is done by what is not believed yet."""
    with capsa.open() as store:
        guarded(store, "signed")
        compiled: list[str] = []
        components = store._components
        monkeypatch.setattr(components, "compiled", lambda source: compiled.append(source.digest))
        for call in (store.plan, store.install):
            with pytest.raises(InstallRefused):
                call(component())
        assert compiled == []


def test_a_refusal_says_what_is_wrong_with_the_signature() -> None:
    """So that whoever signed it can tell a missing key from a changed file."""
    said = {
        "unsigned": "no signature",
        "signed by another key": key_id(public(THEIRS)),
        "tampered": "something else",
        "with two signatures": "2 signatures",
    }
    with capsa.open() as store:
        guarded(store, "signed")
        for source, words in said.items():
            with pytest.raises(InstallRefused, match=words):
                store.install(SOURCES[source]("decision"))
        guarded(store, "spec_only")
        with pytest.raises(InstallRefused, match="YAML alone"):
            store.install(signed())


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_inside_lets_nothing_in(kind: str) -> None:
    """A component around a signed one, with a definition of its own."""
    whole = nested(signed(kind)) + component(kind)[8:]
    assert read_source(whole).signature is None
    with capsa.open() as store:
        guarded(store, "signed")
        with pytest.raises(InstallRefused, match="no signature"):
            store.install(whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("allow", ["spec_only", "signed"])
def test_what_is_installed_stays(allow: str, kind: str) -> None:
    """And may be installed again to the byte, as a service does at every start; another version may not."""
    with capsa.open() as store:
        capsule = store.install(component(kind))
        guarded(store, allow)
        for _ in range(2):
            assert store.plan(component(kind)).unchanged
            assert store.job("default").installed(component(kind)).unchanged
        if kind == "decision":
            assert capsule.decide().option_name in ("cheap", "dear")
        else:
            assert capsule.invoke({"a": 1}).output == {"a": 1}
        with pytest.raises(InstallRefused):
            store.install(component(kind, 2))
        # Elsewhere it is new.
        for job in (store.job("other"), store.tenant("default").job("other")):
            with pytest.raises(InstallRefused):
                job.install(component(kind))
        # What was there once is not what is there.
        if allow == "signed":
            store.install(signed(kind, OURS, 2))
            with pytest.raises(InstallRefused):
                store.install(component(kind))


def test_a_key_that_is_trusted_no_more_lets_nothing_new_in() -> None:
    """By itself or by its id; what it let in stays."""
    with capsa.open() as store:
        tenant = store.tenant("default")
        guarded(store, "signed", OURS, THEIRS)
        store.install(signed())
        assert tenant.change_settings(distrust=[public(OURS).upper()]).trusted_keys == (public(THEIRS),)
        assert store.plan(signed()).unchanged
        with pytest.raises(InstallRefused, match="another key"):
            store.install(signed(version=2))
        store.install(signed("decision", THEIRS, 2))
        assert tenant.change_settings(distrust=[key_id(public(THEIRS))]).trusted_keys == ()
        with pytest.raises(InstallRefused):
            store.install(signed("decision", THEIRS))
        store.install(SPEC + "baseline: dear\n")


def test_a_tenant_decides_for_itself() -> None:
    """Neither setting nor keys of another one count."""
    with capsa.open() as store:
        guarded(store, "signed", OURS, tenant="a")
        guarded(store, "signed", THEIRS, tenant="b")
        with pytest.raises(InstallRefused):
            store.tenant("b").job("default").install(signed())
        with pytest.raises(InstallRefused):
            store.tenant("a").job("default").install(signed("decision", THEIRS))
        store.tenant("a").job("default").install(signed())
        store.tenant("b").job("default").install(signed("decision", THEIRS))
        store.tenant("c").job("default").install(component())


def test_a_store_lets_everything_in_until_somebody_says_otherwise() -> None:
    """In process and without a server that is right; a server warns."""
    with capsa.open() as store:
        with pytest.raises(UnknownTenant):
            store.tenant("default").settings()
        store.install(component())
        assert store.tenant("default").settings() == Settings("any", ())


def test_a_change_is_audited(life: Reopened) -> None:
    """Who set what, the keys that are new and gone, and what is in force; a call that changes nothing is none."""
    store = life.store
    store.principal = "ops-1"
    tenant = store.tenant("default")
    guarded(store, "signed", OURS)
    guarded(store, "signed", OURS)
    tenant.change_settings()
    store.principal = "ops-2"
    tenant.change_settings(install_allow="specOnly", trust=[public(THEIRS)], distrust=[public(OURS)])
    rows = [row for row in store.audit() if row.type == "settings_changed"]
    assert [(row.principal, row.job, row.capsule) for row in rows] == [
        ("ops-1", None, None),
        ("ops-2", None, None),
    ]
    assert rows[0].detail == {
        "install_allow": "signed",
        "trusted_keys": [public(OURS)],
        "trusted": [public(OURS)],
        "distrusted": [],
    }
    assert rows[1].detail == {
        "install_allow": "spec_only",
        "trusted_keys": [public(THEIRS)],
        "trusted": [public(THEIRS)],
        "distrusted": [public(OURS)],
    }
    # A capsule's own log has none of it, and what was refused is no change.
    store.install(PAST)
    with pytest.raises(InstallRefused):
        store.install(component())
    assert "settings_changed" not in {row.type for row in store.capsule("router").audit()}
    assert len([row for row in store.audit() if row.type == "settings_changed"]) == 2


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another word": ({"install_allow": "all"}, "/install/allow"),
    "an empty word": ({"install_allow": ""}, "/install/allow"),
    "capitals": ({"install_allow": "Any"}, "/install/allow"),
    "a flag": ({"install_allow": True}, "/install/allow"),
    "no key": ({"trust": ["x"]}, "/trust/0"),
    "a second one that is none": ({"trust": [public(THEIRS), None]}, "/trust/1"),
    "bytes": ({"trust": [b"x"]}, "/trust/0"),
    "an id for a key": ({"trust": [key_id(public(OURS))]}, "/trust/0"),
    "a key that anybody has": ({"trust": ["00" * 32]}, "/trust/0"),
    "a text for a list": ({"trust": public(OURS)}, "/trust"),
    "a set for a list": ({"trust": {public(OURS)}}, "/trust"),
    "a number for a list": ({"distrust": 5}, "/distrust"),
    "a key that is not trusted": ({"distrust": [public(THEIRS)]}, "/distrust/0"),
    "an id that is not": ({"distrust": [key_id(public(THEIRS))]}, "/distrust/0"),
    "no key to distrust": ({"distrust": [public(OURS), "x"]}, "/distrust/1"),
    "a key twice": ({"trust": [public(OURS)], "distrust": [public(OURS)]}, "/distrust/0"),
    "too many": ({"trust": [some_key(number) for number in range(MAX_TRUSTED)]}, "/trust"),
    "a good word and a bad key": ({"install_allow": "any", "trust": ["x"]}, "/trust/0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_hold_changes_nothing(fault: str) -> None:
    sent, pointer = FAULTS[fault]
    with capsa.open() as store:
        guarded(store, "signed")
        before = everything(store)
        with pytest.raises(InvalidField) as caught:
            store.tenant("default").change_settings(**sent)
        assert caught.value.pointer == pointer
        assert caught.value.remedy
        assert everything(store) == before
        assert store.tenant("default").settings() == Settings("signed", (public(OURS),))


def test_no_install_slips_through_while_the_setting_changes() -> None:
    """One that was let in while it compiled is asked again where it takes its place in the journal."""
    with capsa.open() as store:
        store.install(SPEC)
        reached, go_on = threading.Event(), threading.Event()
        compiled = store._components.compiled

        def slow(source: Any) -> Any:
            reached.set()
            assert go_on.wait(30)
            return compiled(source)

        store._components.compiled = slow  # type: ignore[method-assign]
        told: list[object] = []

        def install() -> None:
            try:
                told.append(store.install(component(version=2)))
            except InstallRefused as error:
                told.append(error)

        thread = threading.Thread(target=install)
        thread.start()
        assert reached.wait(30)
        guarded(store, "signed")
        go_on.set()
        thread.join(30)
        [error] = told
        assert isinstance(error, InstallRefused)
        assert [event.type for event in store.journal.read("default")].count("installed") == 1


def test_many_change_at_once() -> None:
    """Nobody's key is lost."""
    keys = [some_key(number) for number in range(24)]
    with capsa.open() as store:
        tenant = store.tenant("default")
        threads = [threading.Thread(target=tenant.change_settings, kwargs={"trust": [key]}) for key in keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert tenant.settings().trusted_keys == tuple(sorted(keys))
        assert [event.type for event in store.journal.read("default")].count("created") == 1


def test_whoever_serves_a_store_is_warned() -> None:
    """Where any tenant lets in everything, or the first one that comes would."""
    with capsa.open() as store:
        assert "install.allow is any" in (_letting_in.warning(store) or "")
        guarded(store, "signed", tenant="a")
        assert _letting_in.warning(store) is None
        for number in range(7):
            store.tenant(f"b{number}").create_job("x")
        said = _letting_in.warning(store) or ""
        assert "b0, b1, b2, b3, b4, …" in said
        assert "b5" not in said
        assert "a," not in said
        for number in range(7):
            guarded(store, "spec_only", tenant=f"b{number}")
        assert _letting_in.warning(store) is None


def test_a_closed_store_says_so() -> None:
    store = capsa.open()
    store.install(OTHER_SPEC)
    store.close()
    with pytest.raises(capsa.StoreClosed):
        store.tenant("default").settings()
    with pytest.raises(capsa.StoreClosed):
        store.tenant("default").change_settings(install_allow="any")
