"""What is kept of tools beside the journal, and its end: neither a crash nor a fault of the disk leaves any of it behind."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.sandbox.guests import Span, call
from tests.tools.ending import ends, left, whole, writes
from tests.tools.making import KEEPING, echo, journal, keeps, opened, policy, together
from tests.tools.test_tool_life import Stopped

import capsa
from capsa.decisions import _fold, _snapshots, _tools
from capsa.tools._record import nonce_of

DAY_S: Final = 86_400.0
PLACE: Final = ("default", "default", "tool")
DECIDER: Final = "name: decider\noptions: [a, b]\nreward: {quality: 1}\nreward_range: [0, 1]\nbaseline: a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


# --- the next one of a name


@pytest.mark.parametrize(
    "begin",
    [
        lambda tenant: tenant.job("j").install(echo()),
        lambda tenant: tenant.create_job("j"),
        lambda tenant: tenant.change_settings(install_allow="signed"),
    ],
    ids=["install", "create_job", "change_settings"],
)
@pytest.mark.parametrize("restarts", [False, True])
def test_the_next_tenant_of_a_name_has_nothing_of_one_whose_purge_was_ended(
    folder: Path, monkeypatch: pytest.MonkeyPatch, begin: Callable[[capsa.Tenant], object], restarts: bool
) -> None:
    """The name is used before upkeep can go on with the purge."""
    store = opened(folder)
    acme = store.tenant("acme")
    writes(store, "j", "acme")
    acme.set_secret("key", "hunter2-hunter2")
    with monkeypatch.context() as patched:
        patched.setattr(store._vault, "forget", ends)
        with pytest.raises(Stopped):
            store.purge("acme")
    assert len(left(folder / "vault")) == len(left(folder / "files")) == 1
    if restarts:
        store.close()
        store = opened(folder)
        acme = store.tenant("acme")
    begin(acme)
    assert acme.secrets() == []
    assert left(folder / "vault") == left(folder / "files") == []
    # What is of the new one stays when the purge of the old one is finished.
    acme.change_settings(install_allow="any")
    acme.set_secret("key", "swordfish-swordfish")
    assert writes(store, "j", "acme") == ["not-found", "ok"]
    store.upkeep()
    assert journal(store, tenant="acme")[0].type == "purged"
    assert acme.secrets() == ["key"]
    assert writes(store, "j", "acme") == ["mine", "ok"]
    assert whole(store)
    store.close()


def test_a_tenant_does_not_begin_while_what_was_kept_of_the_last_one_cannot_be_removed(folder: Path) -> None:
    with opened(folder) as store:
        acme = store.tenant("acme")
        acme.job("j").install(echo())
        acme.set_secret("key", "value")
        file = folder / "vault" / "acme.json"
        file.unlink()
        file.mkdir()
        with pytest.raises(capsa.HostFault, match=r"acme\.json"):
            store.purge("acme")
        with pytest.raises(capsa.HostFault, match=r"acme\.json"):
            acme.create_job("j")
        assert store.tenants() == []
        file.rmdir()
        acme.create_job("j")
        assert acme.secrets() == []
        assert whole(store)


def test_no_secret_is_set_while_its_tenant_is_purged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The purge begins when it is already known that there is such a tenant."""
    with opened(folder) as store:
        acme = store.tenant("acme")
        acme.job("j").install(echo())
        purging = threading.Thread(target=store.purge, args=("acme",))
        check_used = _tools.check_used

        def checks(*args: Any) -> None:
            check_used(*args)
            purging.start()
            purging.join(0.3)

        with monkeypatch.context() as patched:
            patched.setattr(_tools, "check_used", checks)
            acme.set_secret("key", "hunter2-hunter2")
        purging.join()
        assert store.tenants() == []
        assert left(folder / "vault") == []
        acme.job("j").install(echo())
        assert acme.secrets() == []
        assert whole(store)


# --- one tenant's fault


@pytest.mark.parametrize("content", [None, b"", b"\xff{"], ids=["open to others", "empty", "garbage"])
def test_a_tenant_is_purged_whatever_its_vault_holds(folder: Path, content: bytes | None) -> None:
    with opened(folder) as store:
        store.install(echo())
        store.tenant("default").set_secret("key", "value")
    file = folder / "vault" / "default.json"
    if content is None:
        file.chmod(0o644)
    else:
        file.write_bytes(content)
    with opened(folder) as store:
        assert store.purge("default").capsules == 1
        assert left(folder / "vault") == []
        assert whole(store)


@pytest.mark.parametrize("what", ["secrets", "files"])
def test_a_purge_that_cannot_end_does_not_hold_up_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Their events are cut, and checkpoints are signed; the purge ends once it can."""
    now = [1.8e9]
    rmtree = shutil.rmtree

    def refuses(path: Path) -> None:
        if path.name.startswith("acme."):
            raise PermissionError(13, "Permission denied")
        rmtree(path)

    with opened(folder, clock=lambda: now[0], retention="2d") as store:
        writes(store, "j", "acme")
        store.tenant("acme").set_secret("key", "value")
        tried = store.install(echo())
        file = folder / "vault" / "acme.json"
        with monkeypatch.context() as patched:
            if what == "secrets":
                file.unlink()
                file.mkdir()
            else:
                patched.setattr(shutil, "rmtree", refuses)
            with pytest.raises(capsa.HostFault):
                store.purge("acme")
            for _ in range(6):
                tried.invoke(1)
                _snapshots.seal(store, "default", "events")
                now[0] += DAY_S
                done = store.upkeep()
            assert done.cut > 0
            assert store.journal.checkpoints()[-1].heads.keys() >= {"acme", "default"}
            assert "the purge of acme is not over" in caplog.text
            assert writes(store, "j", "other") == ["not-found", "ok"]
            store.tenant("other").job("j").delete()
            assert store.journal.first("acme") == 1
        if what == "secrets":
            file.rmdir()
        store.upkeep()
        assert [event.type for event in journal(store, tenant="acme")] == ["purged"]
        assert left(folder / "vault") == left(folder / "files") == []
        assert whole(store)


# --- files


def test_a_deleted_job_keeps_no_files_though_another_tool_is_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is installed before the files are removed."""
    with opened(folder) as store:
        writes(store, name="gone")
        writes(store, name="comes-again")
        with monkeypatch.context() as patched:
            patched.setattr(_tools, "remove_files", ends)
            with pytest.raises(Stopped):
                store.job("default").delete()
        assert len(left(folder / "files")) == 2
        assert writes(store, name="new") == writes(store, name="comes-again") == ["not-found", "ok"]
        store.upkeep()
        at = folder / "files" / "default" / "default"
        assert sorted(left(folder / "files")) == [at / name / "a" / "b" for name in ("comes-again", "new")]
        assert writes(store, name="new") == writes(store, name="comes-again") == ["mine", "ok"]
        assert whole(store)


@pytest.mark.parametrize(
    "remove",
    [
        lambda tenant: tenant.job("default").delete_capsule("files"),
        lambda tenant: tenant.job("default").delete(),
        lambda tenant: tenant.purge(),
    ],
    ids=["capsule", "job", "tenant"],
)
def test_a_tool_that_is_installed_while_files_are_removed_keeps_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, remove: Callable[[capsa.Tenant], object]
) -> None:
    """The name is used again in the midst of it."""
    rmtree, said = shutil.rmtree, []

    def removes(path: Path) -> None:
        monkeypatch.setattr(shutil, "rmtree", rmtree)
        said.extend(writes(store))
        rmtree(path)

    with opened(folder) as store:
        writes(store)
        monkeypatch.setattr(shutil, "rmtree", removes)
        remove(store.tenant("default"))
        assert said == ["not-found", "ok"]
        assert writes(store) == ["mine", "ok"]
        store.upkeep()
        assert writes(store) == ["mine", "ok"]
        assert whole(store)


def test_who_removes_files_sees_no_half_made_install(folder: Path) -> None:
    """Which tools there are is asked under the store's lock."""
    with opened(folder) as store:
        writes(store)
        store._fold.tools.pop(("default", "default", "files"))
        removing = threading.Thread(target=_tools.remove_files, args=(store, ("default", "", "")))
        with store._lock:
            removing.start()
            removing.join(0.2)
            assert len(left(folder / "files")) == 1
        removing.join()
        assert left(folder / "files") == []


def test_many_remove_files_of_a_tenant_at_once(folder: Path) -> None:
    """None of them fails, and all are gone when the first of them is told so."""
    jobs = [f"j{number}" for number in range(4)]

    def removes(number: int) -> bool:
        _tools.remove_files(store, ("default", jobs[number], ""))
        return (folder / "files" / "default" / jobs[number]).exists()

    with opened(folder) as store:
        for _ in range(10):
            for at in range(160):
                file = folder / "files" / "default" / jobs[at % 4] / "t" / f"{at}"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("mine")
            assert together(4, removes) == [False] * 4
            assert left(folder / "files") == []


@pytest.mark.parametrize("how", ["delete", "purge"])
def test_files_that_were_moved_away_are_removed_after_a_crash(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with opened(folder) as store:
        for tenant in ("default", "default2"):
            writes(store, tenant=tenant)
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", ends)
            with pytest.raises(Stopped):
                store.purge("default") if how == "purge" else store.capsule("files").delete()
        assert len(left(folder / "files")) == 2
        assert not (folder / "files" / "default" / "default" / "files").exists()
    with opened(folder) as store:
        store.upkeep()
        [file] = left(folder / "files")
        assert file.is_relative_to(folder / "files" / "default2")
        assert writes(store, tenant="default2") == ["mine", "ok"]
        assert whole(store)


# --- what would not fit into a snapshot


def kept_bytes(store: capsa.Store, tenant: str = "default") -> int:
    """What the fold says that the tools of a tenant keep, in all."""
    told = store._fold._kept[tenant]
    tools = [tool for place, tool in store._fold.tools.items() if place[0] == tenant]
    assert told == sum(tool.kv.bytes + _fold.KEPT_KEY_BYTES * len(tool.kv) for tool in tools)
    return told


def test_what_all_tools_of_a_tenant_keep_is_known(folder: Path) -> None:
    """With every change of it, and after a restart, from events and from a snapshot."""
    one = _fold.KEPT_KEY_BYTES + 1 + 100
    steps = [call("kv.set", "k", Span(0, 100)), call("kv.set", "l", Span(0, 100)), call("kv.remove", "l")]
    store = opened(folder)
    for tenant, job in (("default", "one"), ("default", "two"), ("other", "one")):
        tool = store.tenant(tenant).job(job).install(keeps("tool", *steps))
        tool.set_policy(policy(**KEEPING))
        tool.invoke()
    for _ in range(2):
        assert (kept_bytes(store), kept_bytes(store, "other")) == (2 * one, one)
        store.close()
        store = opened(folder)
        assert (kept_bytes(store), kept_bytes(store, "other")) == (2 * one, one)
        _snapshots.seal(store, "default", "events")
    store.tenant("default").job("two").delete()
    assert (kept_bytes(store), kept_bytes(store, "other")) == (one, one)
    store.purge("default")
    assert (kept_bytes(store), kept_bytes(store, "other")) == (0, one)
    store.close()


def test_there_is_room_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    key = _fold.KEPT_KEY_BYTES
    with opened() as store:
        for name in ("tool", "other"):
            tool = store.install(keeps(name, call("kv.set", "é", Span(0, 100))))
            tool.set_policy(policy(**KEEPING))
            tool.invoke()
        room = store._fold.has_room
        monkeypatch.setattr(_fold, "MAX_KEPT_BYTES", 3 * key + 204 + 11)
        assert room(PLACE, "x", b"y" * 10)
        assert not room(PLACE, "x", b"y" * 11)
        assert room(PLACE, "é", b"y" * (111 + key))
        assert not room(PLACE, "é", b"y" * (112 + key))
        monkeypatch.setattr(_fold, "MAX_KEPT_BYTES", 2 * key + 204 + 5)
        assert room(PLACE, "é", b"y" * 105)
        assert not room(PLACE, "é", b"y" * 106)
        monkeypatch.setattr(_fold, "MAX_KEPT_BYTES", 0)
        assert room(PLACE, "é", b"y" * 100)
        assert room(PLACE, "é", None)
        assert room(PLACE, "x", None)
        assert not room(PLACE, "x", b"")
        assert not room(PLACE, "é", b"y" * 101)


def test_a_state_that_is_too_large_says_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool, or the decision capsule; and what to do about it helps."""
    with opened() as store:
        decider = store.install(DECIDER)
        hog = store.install(keeps("hog", *(call("kv.set", f"k{n}", Span(0, 10_000)) for n in range(5))))
        hog.set_policy(policy(**KEEPING))
        hog.invoke()
        decided = decider.decide({}, subject="anna")
        decider.feedback(decided.id, outcome={"quality": 1})
        monkeypatch.setattr(_snapshots, "MAX_BYTES", 20_000)
        erase: list[Callable[[], object]] = [lambda: store.erase_subject("anna"), decider.purge_logs]
        for each in erase:
            with pytest.raises(
                capsa.HostFault, match=r"of which default/default/hog has 5\d,\d{3}"
            ) as refused:
                each()
            assert refused.value.remedy == "let it keep less, or delete it"
        hog.delete()
        assert store.erase_subject("anna").decisions == 0, "its content went with the logs"
        assert [event.erased for event in journal(store, "decided")] == [True]
        monkeypatch.setattr(_snapshots, "MAX_BYTES", 10)
        with pytest.raises(capsa.HostFault, match="of which default/default/decider has") as refused:
            decider.purge_logs()
        assert refused.value.remedy == "lower its max_contexts, or delete it"
        assert whole(store)


# --- what is read of the ones before


def test_an_export_holds_no_bytes_of_a_tool_that_was_deleted(folder: Path, tmp_path: Path) -> None:
    """Its component is gone; another tool has its name."""
    with opened(folder) as store:
        store.install(echo(mark=1)).invoke(1)
        store.capsule("echo").delete()
        store.install(echo(mark=2)).invoke(2)
        assert store.export(tmp_path / "export").capsules == 1
        capsule = tmp_path / "export" / "tenants" / "default" / "jobs" / "default" / "capsules" / "echo"
        assert (capsule / "current.wasm").read_bytes() == echo(mark=2)
        assert [file.read_bytes() for file in (capsule / "snapshots").iterdir()] == [echo(mark=2)]
        assert len((capsule / "invocations.jsonl").read_text().splitlines()) == 1
        assert whole(store)


def test_an_export_holds_no_calls_of_a_tool_whose_deletion_was_ended(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(folder) as store:
        store.install(echo()).invoke(1)
        with monkeypatch.context() as patched:
            patched.setattr(store.journal, "erase", ends)
            with pytest.raises(Stopped):
                store.capsule("echo").delete()
        store.install(echo()).invoke(2)
        store.export(tmp_path / "export")
        [calls] = (tmp_path / "export").rglob("invocations.jsonl")
        assert len(calls.read_text().splitlines()) == 1


# --- keys that count once


@pytest.fixture(params=["memory", "folder"])
def old(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[capsa.Store, list[float]]]:
    """A store that keeps events for ten days, and the hands of its clock."""
    now = [1.8e9]
    path = folder if request.param == "folder" else None
    with opened(path, clock=lambda: now[0], retention="10d") as store:
        yield store, now


def test_keys_of_old_calls_are_let_go_where_there_are_tools_alone(
    old: tuple[capsa.Store, list[float]],
) -> None:
    """Not before their events may go; young ones are still found."""
    store, now = old
    tried = store.install(echo())
    ids = []
    for _ in range(30):
        ids.append(tried.invoke(1).id)
        store._durable()
        _snapshots.seal(store, "default", "events")
        now[0] += DAY_S
        store.upkeep()
    kept = [bool(store.journal.claims("default", nonce_of(each))) for each in ids]
    assert kept == sorted(kept), "the young ones"
    assert 10 <= sum(kept) <= 13
    for each in ids[-9:]:
        assert tried.invocation(each).id == each
    assert whole(store)


def test_keys_of_calls_are_kept_where_everything_is() -> None:
    now = [1.8e9]
    with opened(clock=lambda: now[0], retention=None) as store:
        tried = store.install(echo())
        made = tried.invoke(1).id
        now[0] += 1000 * DAY_S
        store.upkeep()
        assert tried.invocation(made).id == made


def test_tools_of_a_tenant_keep_no_more_than_a_snapshot_holds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together, whatever each may keep alone. Other tenants have their own room, and what is taken away makes some."""
    most = 3 * (_fold.KEPT_KEY_BYTES + 1 + 10_000)
    monkeypatch.setattr(_fold, "MAX_KEPT_BYTES", most)
    monkeypatch.setattr(_snapshots, "MAX_BYTES", most + 10_000)
    steps = [call("kv.set", key, Span(0, 10_000)) for key in "ab"]
    with opened(folder) as store:
        for tenant in ("default", "other"):
            for name, expected in (("one", ["ok", "ok"]), ("two", ["ok", "too-large"])):
                tool = store.tenant(tenant).job("default").install(keeps(name, *steps))
                tool.set_policy(policy(kv={"access": "read_write", "max_bytes": 1 << 30}))
                assert tool.invoke().output == expected
        decider = store.install(DECIDER)
        decider.decide({}, subject="anna")
        assert store.erase_subject("anna").decisions == 1
        assert tool.invoke().output == ["ok", "too-large"], "as long as before"
        store.capsule("one").delete()
        assert store.capsule("two").invoke().output == ["ok", "ok"]
        assert tool.invoke().output == ["ok", "too-large"]
        assert whole(store)
