"""A secret and its event: what is recorded, before it counts, and what a crash or the disk makes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cbor2
import pytest
from tests.sandbox.outside import Site
from tests.tools.ending import ends, left, whole
from tests.tools.making import echo, opened, outside, policy
from tests.tools.test_tool_life import Stopped
from tests.tools.test_tool_secrets import GRANT, got, sends_it

import capsa
from capsa.tools import _vault


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_what_is_recorded_before_it_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the event is on disk, the file is still the one before; then it is the one after."""
    with opened(folder) as store:
        store.install(echo())
        tenant = store.tenant("default")
        tenant.set_secret("key", "old-old-old")
        file = folder / "vault" / "default.json"
        seen: list[tuple[str, list[bool]]] = []
        durable = store._durable

        def syncs() -> None:
            durable()
            said = [cbor2.loads(event.payload)["removed"] for event in store.journal.read("default") if event.type == "secret_changed"]  # fmt: skip
            seen.append((file.read_text(), said))

        with monkeypatch.context() as patched:
            patched.setattr(store, "_durable", syncs)
            tenant.set_secret("key", "new-new-new")
            tenant.remove_secret("key")
        assert seen == [('{"key": "old-old-old"}', [False, False]), ('{"key": "new-new-new"}', [False, False, True])]  # fmt: skip
        assert not file.exists()
        assert whole(store)


@pytest.mark.parametrize("others", [[], ["other"]], ids=["the only one", "one of two"])
@pytest.mark.parametrize("value", ["new-new-new", None], ids=["set", "removed"])
def test_a_crash_leaves_no_change_without_its_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, others: list[str]
) -> None:
    """Before the event nothing has changed; behind it the audit says so, though perhaps nothing has changed yet."""

    def change(store: capsa.Store) -> object:
        tenant = store.tenant("default")
        return tenant.remove_secret("key") if value is None else tenant.set_secret("key", value)

    def recorded(store: capsa.Store) -> int:
        return sum(row.type == "secret_changed" for row in store.audit())

    with opened(folder) as store:
        store.install(echo())
        for name in ("key", *others):
            store.tenant("default").set_secret(name, "old-old-old")
    before = dict.fromkeys(("key", *others), "old-old-old")
    last = "_publish" if value or others else "_remove"
    for step, expected in (("_append", 0), (last, 1)):
        with opened(folder) as store, monkeypatch.context() as patched:
            count = recorded(store)
            patched.setattr(_vault if expected else store, step, ends)
            with pytest.raises(Stopped):
                change(store)
            assert recorded(store) == count + expected
            assert len(left(folder / "vault")) == 1 + (step == "_publish"), "a draft, perhaps"
        with opened(folder) as store:
            assert store._vault.values("default") == before
            assert whole(store)
    with opened(folder) as store:
        assert change(store) is True
        assert store.tenant("default").secrets() == sorted([*([] if value is None else ["key"]), *others])
        assert len(left(folder / "vault")) == (1 if value or others else 0), "no draft of an earlier one"
        store.purge("default")
        assert left(folder / "vault") == []


def test_a_draft_goes_with_its_tenant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(folder) as store:
        store.install(echo())
        with monkeypatch.context() as patched:
            patched.setattr(_vault, "_publish", ends)
            with pytest.raises(Stopped):
                store.tenant("default").set_secret("key", "hunter2-hunter2")
        assert b"hunter2" in b"".join(file.read_bytes() for file in left(folder / "vault"))
        store.purge("default")
        assert left(folder / "vault") == []
        assert whole(store)


def test_a_removal_that_is_not_recorded_is_none_and_can_be_made_again(site: Site) -> None:
    """The clock is wrong for a moment. From the second try on the secret is not sent."""
    now = [1.8e9]
    with opened(clock=lambda: now[0]) as store:
        tried = store.install(sends_it(site))
        tried.set_policy(policy(**GRANT, **outside(site)))
        tenant = store.tenant("default")
        tenant.set_secret("key", "old-old-old")
        tried.invoke()
        changes: list[Callable[[], bool]] = [
            lambda: tenant.set_secret("key", "new-new-new"),
            lambda: tenant.remove_secret("key"),
        ]
        for change in changes:
            now[0] = -1.0
            with pytest.raises(capsa.HostFault, match="clock"):
                change()
            now[0] = 1.8e9
            assert tenant.secrets() == ["key"]
            tried.invoke()
        assert tenant.remove_secret("key") is True
        tried.invoke()
        sent = got(site)
        assert sent[:3] == ["old-old-old"] * 3
        assert "old-old-old" not in "".join(sent[3:])
        assert whole(store)


def test_a_change_that_the_disk_fails_can_be_made_again(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the last step: the file is the new one already, but nobody knows for how long."""

    def fails(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with opened(folder) as store:
        tried = store.install(sends_it(site))
        tried.set_policy(policy(**GRANT, **outside(site)))
        tenant = store.tenant("default")
        tenant.set_secret("key", "old-old-old")
        changes: list[tuple[Callable[[], bool], str]] = [
            (lambda: tenant.set_secret("key", "new-new-new"), "new-new-new"),
            (lambda: tenant.remove_secret("key"), ""),
        ]
        before = "old-old-old"
        for change, after in changes:
            with monkeypatch.context() as patched:
                patched.setattr(_vault, "sync_folder", fails)
                with pytest.raises(capsa.HostFault, match="Input/output error"):
                    change()
            tried.invoke()
            assert got(site) == [before]
            assert change() is True
            tried.invoke()
            assert all(before not in sent for sent in got(site))
            before = after
        assert tenant.secrets() == []
        assert whole(store)


def test_a_removal_binds_anew_though_there_was_none(site: Site) -> None:
    """Should a tool ever be bound with another secret than there is, whoever removes it once more is rid of it."""
    with opened() as store:
        tried = store.install(sends_it(site))
        tried.set_policy(policy(**GRANT, **outside(site)))
        tenant = store.tenant("default")
        tenant.set_secret("key", "old-old-old")
        tried.invoke()
        # As a process does that was interrupted between the two.
        store._vault.forget("default")
        assert tenant.remove_secret("key") is False
        got(site)
        tried.invoke()
        assert "old-old-old" not in "".join(got(site))


def test_what_is_gone_is_gone_for_good(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is synced behind every change in it: power that fails does not bring back a secret."""
    vault, file = folder / "vault", folder / "vault" / "default.json"
    synced: list[tuple[str, bool]] = []
    sync = os.fsync

    def notes(opened_: int) -> None:
        sync(opened_)
        path = Path(f"/proc/self/fd/{opened_}").readlink()
        if path.is_relative_to(vault):
            synced.append((path.name, file.exists()))

    with opened(folder) as store:
        store.install(echo())
        monkeypatch.setattr(os, "fsync", notes)
        tenant = store.tenant("default")
        tenant.set_secret("key", "value")
        assert synced == [("default.writing", False), ("vault", True)]
        for remove in (lambda: tenant.remove_secret("key"), lambda: store.purge("default")):
            tenant.set_secret("key", "value")
            synced.clear()
            remove()
            assert synced == [("vault", False)]
