"""What a tenant was told to let in holds over restarts, snapshots, crashes and cuts, and is the fold of the journal."""

from __future__ import annotations

from typing import Any, Final

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.capsules.signed import OURS, SPEC, THEIRS, component, guarded, public, some_key
from tests.decisions.golden_store import Clock
from tests.decisions.past import SPEC as PAST
from tests.decisions.past import lived_through
from tests.decisions.reopened import Reopened, reopened
from tests.decisions.test_golden_store import FORMATS, Golden

import capsa
from capsa.decisions import Settings, _snapshots, _upkeep
from capsa.decisions._fold import Fold
from capsa.decisions._letting_in import MAX_TRUSTED
from capsa.errors import InstallRefused, JournalMismatch, UnknownTenant

DAY: Final = 86400


def test_settings_can_be_said_before_the_first_install(life: Reopened) -> None:
    """They make the tenant; the journal says so."""
    store = life.store
    guarded(store, "spec_only", tenant="new")
    assert [event.type for event in store.journal.read("new")] == ["created", "settings_changed"]
    assert [info.name for info in store.tenants()] == ["new"]
    assert store.tenant("new").jobs() == []
    store = life.restart()
    assert store.tenant("new").settings() == Settings("spec_only", (public(OURS),))
    with pytest.raises(InstallRefused):
        store.tenant("new").job("default").install(component())


def test_as_many_keys_as_there_may_be(life: Reopened) -> None:
    """And with them the settings of a restart."""
    keys = [some_key(number) for number in range(MAX_TRUSTED)]
    assert life.store.tenant("default").change_settings(trust=keys).trusted_keys == tuple(sorted(keys))
    assert life.restart().tenant("default").settings().trusted_keys == tuple(sorted(keys))


@pytest.mark.parametrize("how", ["restart", "seal and restart", "crash", "cut"])
def test_settings_outlive_the_process(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the journal from its beginning, from a snapshot, after the power went, and with the event cut off."""
    monkeypatch.setattr(_upkeep, "SNAPSHOT_EVENTS", 6)
    with reopened("disk", 2 * DAY * 1000 if how == "cut" else None) as life:
        store = life.store
        store.install(PAST)
        guarded(store, "signed")
        [event] = [event for event in store.journal.read("default") if event.type == "settings_changed"]
        if how == "seal and restart":
            _snapshots.seal(store, "default", "events")
        if how == "cut":
            for _ in range(6):
                lived_through(store, life.clock, 8)
                life.clock.forward(DAY)
                store.upkeep()
        if how == "crash":
            life.mark()
            life.crash()
        else:
            life.restart()
        if how == "cut":
            assert life.store.journal.first("default") > event.sequence
        assert life.store.tenant("default").settings() == Settings("signed", (public(OURS),))
        with pytest.raises(InstallRefused):
            life.store.install(component())
        assert life.store.rebuild().equal
        assert life.store.verify() == []


def test_a_change_is_on_disk_before_it_is_answered() -> None:
    """Power that goes right after it takes nothing back."""
    with reopened("disk") as life:
        life.store.install(PAST)
        life.mark()
        guarded(life.store, "spec_only")
        life.crash()
        assert life.store.tenant("default").settings().install_allow == "spec_only"


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["any", "signed", "spec_only", None]),
            st.sampled_from([(), (OURS,), (THEIRS,), (OURS, THEIRS)]),
            st.booleans(),
            st.sampled_from(["go on", "go on", "seal", "restart"]),
        ),
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None)
def test_the_state_is_the_fold_of_the_journal(steps: list[Any]) -> None:
    """Over random lives; and what is in force is what was said last."""
    with reopened("memory") as life:
        life.store.install(PAST)
        expected = Settings()
        for allow, keys, remove, then in steps:
            tenant = life.store.tenant("default")
            gone = list(expected.trusted_keys) if remove else []
            new = [public(key) for key in keys if public(key) not in gone]
            kept = {*expected.trusted_keys, *new} - set(gone)
            expected = Settings(allow or expected.install_allow, tuple(sorted(kept)))
            assert tenant.change_settings(install_allow=allow, trust=new, distrust=gone) == expected
            if then == "seal":
                _snapshots.seal(life.store, "default", "events")
            if then == "restart":
                life.restart()
            assert life.store.tenant("default").settings() == expected
        fold = Fold(life.store._components, life.store._ids.ring)
        for event in life.store.journal.read("default"):
            fold.apply(event)
        assert fold.tenants["default"].settings == expected


@pytest.mark.parametrize("format_", FORMATS)
def test_a_store_of_before_lets_in_what_it_did(format_: str, tmp_path: Any) -> None:
    """And takes the setting from then on."""
    golden = Golden(format_, tmp_path)
    with golden.open() as store:
        assert store.tenant("default").settings() == Settings("any", ())
        guarded(store, "signed")
        state = store.capsule("router").state_hash
    with golden.open() as store:
        assert store.tenant("default").settings() == Settings("signed", (public(OURS),))
        assert store.tenant("acme").settings() == Settings("any", ())
        assert store.capsule("router").state_hash == state
        assert store.rebuild().equal
        assert store.verify() == []


def test_a_snapshot_of_before_has_the_defaults() -> None:
    """Without the member; and one that holds a value that is none is not taken."""
    with capsa.open(clock=Clock()) as store:
        store.install(SPEC)
        guarded(store, "signed")
        kept = store._fold.snapshot("default")
        fold = Fold(store._components, store._ids.ring)
        fold.restore_tenant("default", cbor2.loads(cbor2.dumps(kept)))
        assert fold.tenants["default"].settings == Settings("signed", (public(OURS),))
        del kept["tenant"]["settings"]
        fold.restore_tenant("default", kept)
        assert fold.tenants["default"].settings == Settings()
        kept["tenant"]["settings"] = {"install_allow": "some"}
        with pytest.raises(msgspec.ValidationError):
            fold.restore_tenant("default", kept)


SAID: Final = {"install_allow": "signed", "trusted_keys": [], "trusted": [], "distrusted": []}


PAYLOADS: dict[str, bytes] = {
    "nothing": b"",
    "not CBOR": b"\xff",
    "a list": cbor2.dumps([]),
    "an empty map": cbor2.dumps({}),
    "another word": cbor2.dumps(SAID | {"install_allow": "some"}),
    "keys that are none": cbor2.dumps(SAID | {"trusted_keys": "x"}),
    "a field of later": cbor2.dumps(SAID | {"more": 1}),
    "the keys left out": cbor2.dumps({"install_allow": "any"}),
}


@pytest.mark.parametrize("what", PAYLOADS)
def test_an_event_that_is_not_understood_is_not_guessed_at(what: str) -> None:
    """A store that would then let in everything is not opened."""
    with capsa.open() as store:
        guarded(store, "signed")
        [_, event] = store.journal.read("default")
        with pytest.raises(JournalMismatch):
            store._fold.apply(msgspec.structs.replace(event, payload=PAYLOADS[what]))
        with pytest.raises(JournalMismatch):
            store._fold.apply(msgspec.structs.replace(event, payload=b"", erased=True))
        assert store.tenant("default").settings() == Settings("signed", (public(OURS),))


def test_a_purge_takes_the_settings_too(life: Reopened) -> None:
    """The name is a new tenant's; docs/signing.md warns of it."""
    store = life.store
    guarded(store, "spec_only")
    store.purge("default")
    with pytest.raises(UnknownTenant):
        store.tenant("default").settings()
    store = life.restart()
    store.install(component())
    assert store.tenant("default").settings() == Settings()
    guarded(store, "spec_only")
    assert life.restart().tenant("default").settings().install_allow == "spec_only"


def test_a_deleted_job_takes_no_settings(life: Reopened) -> None:
    store = life.store
    guarded(store, "spec_only")
    store.install(PAST)
    store.job("default").delete()
    with pytest.raises(InstallRefused):
        life.restart().install(component())
