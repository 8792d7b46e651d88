"""A tool from its install to its end: versions, what is verified, what is told of it, and that nothing of it stays."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any, Final

import pytest
from tests.sandbox import guests
from tests.sandbox.guests import call, script, send, tool
from tests.sandbox.outside import Site
from tests.tools.making import (
    KEEPING,
    asks,
    component,
    counts,
    decides,
    echo,
    journal,
    opened,
    outside,
    policy,
    remembers,
)
from tests.tools.ways import Way

import capsa
from capsa import _native

ROUTER = "name: echo\noptions: [a, b]\nreward_range: [0, 1]\n"
FILES: Final[dict[str, Any]] = {"files": {"access": "read_write"}}


def files(name: str = "files") -> bytes:
    """Tells what is in a file, and writes it."""
    return component(
        name, script(call("files.read", "a/b"), call("files.write", "a/b", "mine")), "idempotent", **FILES
    )


# --- install


def test_other_bytes_are_the_next_version_and_the_same_are_none(way: Way) -> None:
    first = way.install(echo())
    assert (first.sync.version, first.sync.kind) == (1, "tool")
    before = len(journal(way.store))
    assert way.install(echo()).sync.version == 1
    assert len(journal(way.store)) == before, "the same bytes change nothing"
    second = way.install(echo(mark=1))
    assert (second.sync.version, first.sync.version) == (2, 2)
    assert first.invoke(1).version == 2
    job = way.store.job("default")
    assert job.installed(echo(mark=2)).version == 3
    told = job.installed(echo(mark=2))
    assert (told.capsule, told.version, told.unchanged, told.changes) == ("echo", 3, True, [])
    installs = journal(way.store, "installed")
    assert len(installs) == 3


def test_a_plan_says_what_an_install_would_do_and_does_nothing(way: Way) -> None:
    job = way.store.job("default")
    plan = job.plan(echo())
    assert (plan.version, plan.unchanged, plan.changes) == (1, False, ["echo is new"])
    assert way.store.journal.streams() == []
    assert job.installed(echo()) == plan
    stronger = component("echo", tool(), "read", clock=True, http=[{"hosts": ["api.example.com"]}])
    plan = job.plan(stronger)
    assert (plan.version, plan.unchanged) == (2, False)
    assert "effect is read, was pure" in plan.changes
    said = "\n".join(plan.changes)
    assert "clock" in said
    assert "api.example.com" in said
    assert way.store.capsule("echo").version == 1
    assert job.installed(stronger) == plan


@pytest.mark.parametrize(
    ("effect", "wants", "steps", "pointer"),
    [
        ("pure", {"clock": True}, [call("clock.now")], "/effect"),
        ("pure", {"kv": {"access": "read"}}, [call("kv.get", "k")], "/effect"),
        ("read", {"kv": {"access": "read_write"}}, [call("kv.set", "k", "v")], "/effect"),
        ("read", {"files": {"access": "read_write"}}, [call("files.read", "k")], "/effect"),
        ("read", {"http": [{"hosts": ["*"], "methods": ["GET", "POST"]}]}, [send("https://a.test/")], "/effect"),
        ("read", {}, [call("clock.now")], "/wants/clock"),
        ("read", {"clock": True}, [call("clock.now"), call("kv.get", "k")], "/wants/kv"),
        ("non_idempotent", {"clock": True}, [call("random.number")], "/wants/random"),
        ("non_idempotent", {"kv": {"access": "read"}}, [call("secrets.handle", "k")], "/wants/secrets"),
    ],
)  # fmt: skip
def test_a_claim_that_the_component_disproves_is_refused(
    effect: str, wants: dict[str, Any], steps: list[guests.Step], pointer: str
) -> None:
    """Its effect, or what it wants; nothing of it is kept."""
    with opened() as store:
        with pytest.raises(capsa.InvalidCapsule) as refused:
            store.install(component("wrong", script(*steps), effect, **wants))
        assert refused.value.pointer == pointer
        assert refused.value.remedy
        assert store.journal.streams() == []


@pytest.mark.parametrize(
    ("effect", "wants", "steps"),
    [
        ("pure", {"random": True, "config": ["a"]}, [call("random.number"), call("config.get", "a")]),
        ("read", {"kv": {"access": "read"}, "clock": True}, [call("kv.get", "k"), call("clock.now")]),
        ("read", {"http": [{"hosts": ["*"]}]}, [send("https://a.test/")]),
        ("idempotent", {"kv": {"access": "read_write"}}, [call("kv.set", "k", "v")]),
        ("non_idempotent", {}, []),
        # Wanted, but never imported: that proves nothing.
        ("pure", {"kv": {"access": "read_write"}, "clock": True}, []),
    ],
)
def test_a_claim_that_holds_is_taken_as_it_is(
    effect: str, wants: dict[str, Any], steps: list[guests.Step]
) -> None:
    with opened() as store:
        told = store.install(component("right", script(*steps), effect, **wants)).describe()
        assert told["effect"] == {"non_idempotent": "nonIdempotent"}.get(effect, effect)
        assert sorted(told["imports"]) == sorted({step.function.split(".")[0] for step in steps})


def test_a_component_of_another_world_or_with_no_definition_is_no_tool() -> None:
    with opened() as store:
        for content in (
            tool().bytes,
            _native.embed_tool_definition(
                guests.decision().bytes, '{"schema":1,"kind":"tool","name":"x","effect":"pure"}'
            ),
            _native.embed_tool_definition(tool().bytes, '{"schema":1,"kind":"tool","name":"x"}'),
            _native.embed_tool_definition(
                tool().bytes, '{"schema":1,"kind":"tool","name":"../x","effect":"pure"}'
            ),
            _native.embed_tool_definition(
                tool().bytes, '{"schema":1,"kind":"tool","name":"x","effect":"pure","more":1}'
            ),
        ):
            with pytest.raises(capsa.InvalidCapsule):
                store.install(content)
        assert store.journal.streams() == []


# --- of which kind


def test_a_name_is_of_one_kind(way: Way) -> None:
    """A tool does not take the place of a decision capsule, nor the other way round; after a delete it may."""
    decider = way.install(ROUTER)
    with pytest.raises(capsa.InstallConflict) as refused:
        way.install(echo())
    assert refused.value.pointer == "/kind"
    with pytest.raises(capsa.InstallConflict):
        way.store.plan(echo())
    assert decider.sync.kind == "decision"
    assert decider.call("decide").capsule_version == 1
    decider.sync.delete()
    echoes = way.install(echo())
    assert (echoes.sync.kind, echoes.sync.version) == ("tool", 1)
    with pytest.raises(capsa.InstallConflict):
        way.install(ROUTER)
    with pytest.raises(capsa.InstallConflict):
        way.store.plan(ROUTER)
    assert echoes.invoke(5).output == 5
    assert way.store.rebuild().equal


def test_each_kind_does_its_own(way: Way) -> None:
    """What the other one does is refused as of the wrong kind, and nothing is recorded."""
    echoes, decider = way.install(echo()), way.install(decides("decides"))
    before = len(journal(way.store))
    decides_: list[tuple[str, list[Any]]] = [
        ("decide", [{}]),
        ("decide_batch", [[{}]]),
        ("report", []),
        ("contexts", []),
        ("decisions", []),
        ("feedback_log", []),
        ("story", ["dec_0"]),
        ("replay", ["dec_0"]),
    ]
    for name, args in decides_:
        with pytest.raises(capsa.WrongKind):
            echoes.call(name, *args)
    with pytest.raises(capsa.WrongKind):
        echoes.call("update_learning", mode="off")
    with pytest.raises(capsa.WrongKind):
        echoes.call("feedback", option=0, reward=1.0, context_key="k")
    invokes: list[tuple[str, list[Any]]] = [
        ("invoke", [1]),
        ("compensate", [1, 1]),
        ("set_policy", ["pure"]),
        ("explain", ["kv:k"]),
        ("invocations", []),
        ("invocation", ["inv_" + "0" * 32]),
        ("replay_invocation", ["inv_" + "0" * 32]),
    ]
    for name, args in invokes:
        with pytest.raises(capsa.WrongKind):
            decider.call(name, *args)
    with pytest.raises(capsa.WrongKind):
        decider.policy  # noqa: B018 - it is asked for
    with pytest.raises(capsa.WrongKind):
        way.store.call_counts(("default", "default", "decides"))
    with pytest.raises(capsa.WrongKind):
        way.store.counts(("default", "default", "echo"))
    assert len(journal(way.store)) == before
    assert (way.store.places(), way.store.tool_places()) == (
        [("default", "default", "decides")],
        [("default", "default", "echo")],
    )


def test_what_is_told_of_a_tool(way: Way) -> None:
    told = way.install(remembers()).sync.describe()
    assert set(told) == {"tenant", "job", "capsule", "kind", "capsuleVersion", "digest", "effect", "imports", "definition"}  # fmt: skip
    assert (told["kind"], told["effect"], told["imports"], told["capsuleVersion"]) == (
        "tool",
        "idempotent",
        ["kv"],
        1,
    )
    assert told["digest"] == _native.digest(remembers())
    assert told["definition"]["wants"]["kv"]["access"] == "readWrite"
    assert way.install(ROUTER).sync.describe()["kind"] == "decision"
    assert way.store.job("default").info().capsules == ["echo", "remembers"]


# --- the end


def test_a_deleted_tool_leaves_nothing_to_the_next_of_its_name(way: Way) -> None:
    """Not what it kept, not its calls, not its policy, not its files."""
    keeper = way.install(remembers())
    keeper.set_policy(policy(**KEEPING))
    writer = way.install(files())
    if way.persistent:
        writer.set_policy(policy(**FILES))
        assert writer.invoke().output == ["not-found", "ok"]
        assert writer.invoke().output == ["mine", "ok"]
    ids = [keeper.invoke().id for _ in range(3)]
    assert keeper.invoke().output == ["v", "ok"]
    for tried in (keeper, writer):
        deleted = tried.call("delete")
        assert deleted.capsule == tried.sync.name
        with pytest.raises(capsa.UnknownCapsule):
            tried.invoke()
        with pytest.raises(capsa.UnknownCapsule):
            tried.policy  # noqa: B018 - it is asked for
    assert not list(way.store.journal.folder.glob("files/**/b")) if way.persistent else True  # type: ignore[attr-defined]
    keeper = way.install(remembers())
    assert (keeper.sync.version, keeper.policy.by, keeper.invocations()) == (1, None, [])
    with pytest.raises(capsa.CapabilityDenied):
        keeper.invoke()
    keeper.set_policy(policy(**KEEPING))
    assert keeper.invoke().output == [None, "ok"]
    for id_ in ids:
        with pytest.raises(capsa.UnknownInvocation):
            keeper.invocation(id_)
        with pytest.raises(capsa.UnknownInvocation):
            keeper.replay(id_)
    if way.persistent:
        writer = way.install(files())
        writer.set_policy(policy(**FILES))
        assert writer.invoke().output == ["not-found", "ok"]
    assert way.store.rebuild().equal
    assert way.store.verify() == []
    # Its content is gone from the journal, too.
    changes = journal(way.store, "kv_changed")
    assert [event.erased for event in changes] == [True, False]


def test_a_job_ends_with_its_tools(way: Way) -> None:
    writer = way.install(files(), job="one")
    other = way.install(files(), job="two")
    for tried in (writer, other):
        tried.set_policy(policy(**FILES))
        if way.persistent:
            tried.invoke()
    way.store.job("one").delete()
    with pytest.raises(capsa.UnknownJob):
        writer.invoke()
    if way.persistent:
        root = way.store._files
        assert root is not None
        assert not (root / "default" / "one").exists()
        assert other.invoke().output == ["mine", "ok"]
    assert way.store.rebuild().equal


def test_a_purged_tenant_leaves_nothing(tmp_path: Path, site: Site) -> None:
    """Not its calls, not what it kept, not its files, not its secrets: neither now nor to another one of this name."""
    with opened(tmp_path / "store") as store:
        acme, other = store.tenant("acme"), store.tenant("other")
        for tenant in (acme, other):
            for source in (files(), counts()):
                tenant.job("j").install(source).set_policy(policy(**FILES, **KEEPING))
            tenant.set_secret("key", f"{tenant.name}-kept-secret")
            tenant.job("j").capsule("files").invoke()
            tenant.job("j").capsule("counts").invoke()
        assert (tmp_path / "store" / "vault" / "acme.json").exists()
        assert acme.purge().capsules == 2
        with pytest.raises(capsa.UnknownTenant):
            acme.job("j").capsule("counts")
        assert not (tmp_path / "store" / "vault" / "acme.json").exists()
        assert not (tmp_path / "store" / "files" / "acme").exists()
        assert b"acme-kept-secret" not in b"".join(
            path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()
        )
        assert other.secrets() == ["key"]
        assert other.job("j").capsule("files").invoke().output == ["mine", "ok"]
        again = acme.job("j").install(counts())
        again.set_policy(policy(**KEEPING))
        assert again.invoke().output == 1
        assert acme.secrets() == []
        asking = asks(
            "asks", site, "/", call("secrets.handle", "key"), secrets=[{"name": "key", "hosts": ["a.test"]}]
        )
        asking_ = acme.job("j").install(asking)
        asking_.set_policy(policy(**outside(site), secrets=[{"name": "key", "hosts": ["a.test"]}]))
        assert asking_.invoke().output == ["not-found", 1]
        assert store.rebuild().equal
        assert store.verify() == []


def test_a_purged_tenant_has_no_secrets_until_it_is_used(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as store:
        store.tenant("acme").job("j").install(echo())
        store.purge("acme")
        for call_ in (store.tenant("acme").secrets, lambda: store.tenant("acme").set_secret("key", "value")):
            with pytest.raises(capsa.UnknownTenant):
                call_()


def test_purged_logs_are_gone_and_what_was_kept_stays(way: Way) -> None:
    tried = way.install(counts())
    tried.set_policy(policy("deterministic", **KEEPING))
    ids = [tried.invoke(record=True).id for _ in range(3)]
    purged = tried.call("purge_logs")
    assert purged.events == 6, "three calls, and what each of them has kept"
    assert tried.invocations() == []
    for id_ in ids:
        with pytest.raises(capsa.UnknownInvocation):
            tried.invocation(id_)
        with pytest.raises(capsa.UnknownInvocation):
            tried.replay(id_)
    assert tried.invoke().output == 4
    assert len(tried.invocations()) == 1
    assert tried.policy.by == "local"
    assert way.store.rebuild().equal
    if way.persistent:
        way.restart()
        tried = way.again(tried)
        assert tried.invoke().output == 5
        assert len(tried.invocations()) == 2
        assert way.store.rebuild().equal
        assert way.store.verify() == []


class Stopped(BaseException):
    """The process ends here."""


def test_purged_logs_are_not_shown_though_a_crash_ends_the_purge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the word on, before any of it is gone, and after a restart."""
    with opened(tmp_path / "store") as store:
        tried = store.install(echo())
        tried.set_policy(policy("deterministic"))
        before = tried.invoke(1, record=True).id

        def ends(*_: object, **__: object) -> None:
            raise Stopped

        with monkeypatch.context() as patched:
            patched.setattr(store.journal, "erase", ends)
            with pytest.raises(Stopped):
                tried.purge_logs()
        after = tried.invoke(2).id
        assert not journal(store, "invoked")[0].erased
        assert [row.id for row in tried.invocations()] == [after]
        for ask in (tried.invocation, tried.replay_invocation):
            with pytest.raises(capsa.UnknownInvocation):
                ask(before)
    with opened(tmp_path / "store") as store:
        tried = store.capsule("echo")
        assert [row.id for row in tried.invocations()] == [after]
        store.upkeep()
        assert [event.erased for event in journal(store, "invoked")] == [True, False]
        assert [row.id for row in tried.invocations()] == [after]
        assert store.rebuild().equal


def test_a_purge_that_a_crash_ends_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "store") as store:
        store.tenant("acme").job("j").install(files()).set_policy(policy(**FILES))
        store.tenant("acme").set_secret("key", "hunter2-hunter2")
        store.tenant("acme").job("j").capsule("files").invoke()

        def ends(*_: object) -> None:
            raise Stopped

        monkeypatch.setattr(store.journal, "cut", ends)
        with pytest.raises(Stopped):
            store.purge("acme")
    with opened(tmp_path / "store") as store:
        store.upkeep()
        assert not (tmp_path / "store" / "vault" / "acme.json").exists()
        assert not (tmp_path / "store" / "files" / "acme").exists()


def test_a_delete_that_a_crash_ends_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "store") as store:
        tried = store.install(files())
        tried.set_policy(policy(**FILES))
        tried.invoke()

        def ends(*_: object, **__: object) -> None:
            raise Stopped

        monkeypatch.setattr(store.journal, "erase", ends)
        with pytest.raises(Stopped):
            tried.delete()
    with opened(tmp_path / "store") as store:
        store.upkeep()
        tried = store.install(files())
        tried.set_policy(policy(**FILES))
        assert tried.invoke().output == ["not-found", "ok"]


def test_a_store_that_was_closed_is_gone(tmp_path: Path) -> None:
    """And with it its sandbox, of which a process has room for some twenty."""
    store = opened(tmp_path / "store")
    store.install(echo()).invoke(1)
    store.close()
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
