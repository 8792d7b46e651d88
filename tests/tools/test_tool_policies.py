"""What a tool of a store is allowed: set, told, in effect, and from the next call on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from tests.sandbox.guests import call, script, send, tool
from tests.sandbox.outside import Site
from tests.tools.making import KEEPING, asks, component, echo, journal, opened, outside, policy, remembers
from tests.tools.ways import Way

import capsa
from capsa.policies import READY, load_policy

EVERYTHING: Final[dict[str, Any]] = {
    "clock": True,
    "random": True,
    "config": ["place", "other"],
    "kv": {"access": "read_write", "max_bytes": 1000, "max_keys": 5},
    "files": {"access": "read"},
    "http": [{"hosts": ["*"]}],
    "secrets": [{"name": "key", "hosts": ["api.example.com", "b.example.com"]}],
}


def everything(name: str = "all") -> bytes:
    """Imports every interface, and wants each."""
    steps = [call("clock.now"), call("random.number"), call("config.get", "place"), call("kv.get", "k"), call("files.read", "a"), call("secrets.handle", "key"), send("https://a.test/")]  # fmt: skip
    return component(name, script(*steps), "idempotent", **EVERYTHING)


def test_without_a_policy_of_its_own_a_tool_may_nothing(way: Way) -> None:
    tried = way.install(everything())
    policy_ = tried.policy
    assert (policy_.policy["name"], policy_.by, policy_.at) == ("pure", None, None)
    assert policy_.digest == load_policy("pure").digest
    assert sorted(policy_.not_granted) == ["clock", "config", "files", "http", "kv", "random", "secrets"]
    effective = policy_.effective
    assert (effective["clock"], effective["random"], effective["kv"], effective["files"]) == (
        False,
        False,
        None,
        None,
    )
    assert (effective["config"], effective["secrets"], effective["http"]["allowed"]) == ({}, [], [])
    with pytest.raises(capsa.CapabilityDenied) as denied:
        tried.invoke()
    for name in policy_.not_granted:
        assert name in denied.value.detail


def test_what_is_effective_is_wanted_and_allowed(way: Way) -> None:
    """The lesser of both; and what stays away is named."""
    tried = way.install(everything())
    allowed = policy(
        clock=True,
        kv={"access": "read", "max_bytes": 5000, "max_keys": 2},
        config={"place": "here", "unwanted": "there"},
        http=[{"hosts": ["api.example.com"], "methods": ["GET", "POST"]}],
        secrets=[
            {"name": "key", "hosts": ["*.example.com"]},
            {"name": "unwanted", "hosts": ["a.example.com"]},
        ],
        limits={"cpu_ms": 7, "concurrency": 3},
    )
    effective = tried.set_policy(allowed).effective
    assert (effective["clock"], effective["random"]) == (True, False)
    assert effective["kv"] == {"access": "read", "maxBytes": 1000, "maxKeys": 2}
    assert effective["config"] == {"place": "here"}
    assert effective["files"] is None
    assert effective["http"]["wanted"][0]["hosts"] == ["*"]
    assert effective["http"]["allowed"][0]["hosts"] == ["api.example.com"]
    assert [secret["name"] for secret in effective["secrets"]] == ["key"]
    assert (effective["limits"]["cpuMs"], effective["limits"]["concurrency"]) == (7, 3)
    assert sorted(tried.policy.not_granted) == ["files", "random"]
    assert tried.policy == way.again(tried).policy


def test_a_policy_is_set_and_told(way: Way) -> None:
    """Who did it, when, and with every default; an event each, and none where nothing changes."""
    tried = way.install(remembers())
    before = tried.policy
    set_ = tried.set_policy(policy(**KEEPING))
    assert set_ == tried.policy
    assert (set_.by, set_.policy["grants"]["kv"]["maxKeys"]) == ("local", 1000)
    assert set_.digest != before.digest
    assert set_.effective_digest != before.effective_digest
    assert tried.invoke().policy_digest == set_.effective_digest
    again = tried.set_policy(load_policy(policy(**KEEPING)))
    assert again == set_, "the same changes nothing, not even who set it"
    assert len(journal(way.store, "policy_changed")) == 1
    row = tried.sync.audit()[-2] if tried.sync.audit()[-1].type == "breached" else tried.sync.audit()[-1]
    assert (row.type, row.principal, row.capsule) == ("policy_changed", "local", "remembers")
    # Back to that of before: now it was set.
    pure = tried.set_policy("pure")
    assert (pure.digest, pure.by) == (before.digest, "local")
    assert len(journal(way.store, "policy_changed")) == 2
    with pytest.raises(capsa.CapabilityDenied):
        tried.invoke()
    if way.persistent:
        way.restart()
        assert way.again(tried).policy == pure
    assert way.store.rebuild().equal


def test_setting_what_holds_already_is_still_a_word(way: Way) -> None:
    """Nobody had said so before."""
    tried = way.install(echo())
    assert tried.set_policy("pure").by == "local"
    assert len(journal(way.store, "policy_changed")) == 1


def test_only_if_nobody_was_faster(way: Way) -> None:
    tried = way.install(echo())
    first = tried.policy.digest
    second = tried.set_policy(policy(limits={"cpu_ms": 5}), if_digest=first)
    for stale in (first, "b2:" + "0" * 64, "", "nonsense"):
        with pytest.raises(capsa.StaleDocument) as refused:
            tried.set_policy(policy(limits={"cpu_ms": 6}), if_digest=stale)
        assert second.digest in refused.value.detail
        # Also where it would change nothing.
        with pytest.raises(capsa.StaleDocument):
            tried.set_policy(policy(limits={"cpu_ms": 5}), if_digest=stale)
    assert tried.policy == second
    assert (
        tried.set_policy(policy(limits={"cpu_ms": 6}), if_digest=second.digest).policy["limits"]["cpuMs"] == 6
    )
    assert len(journal(way.store, "policy_changed")) == 2


@pytest.mark.parametrize("source", [*READY, "path", "text", "bytes", "snake", "camel", "policy"])
def test_wherever_a_policy_comes_from(tmp_path: Path, source: str) -> None:
    toml = 'schema = 1\nname = "mine"\n[limits]\ncpu_ms = 7\n'
    file = tmp_path / "mine.toml"
    file.write_text(toml)
    camel = load_policy(toml).to_json()
    sources: dict[str, Any] = {"path": file, "text": toml, "bytes": toml.encode(), "snake": {"schema": 1, "name": "mine", "limits": {"cpu_ms": 7}}, "camel": camel, "policy": load_policy(toml)}  # fmt: skip
    with opened() as store:
        set_ = store.install(echo()).set_policy(sources.get(source, source))
        assert set_.policy == (camel if source in sources else load_policy(source).to_json())
        assert set_.digest == load_policy(set_.policy).digest


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"schema": 1, "name": "x", "grants": {"clok": True}}, "/grants/clok"),
        ({"schema": 1, "name": "x", "limits": {"cpu_ms": 0}}, "/limits/cpu_ms"),
        ({"schema": 1, "name": "x", "engine": "fast", "limits": {"fuel": 5}}, "/limits/fuel"),
        (
            {"schema": 1, "name": "x", "grants": {"http": [{"hosts": ["127.0.0.1"]}]}},
            "/grants/http/0/hosts/0",
        ),
        ({"schema": 1}, None),
        ({}, None),
        ("no such policy\n", None),
        (b"\xff", None),
        (5, None),
        (None, None),
    ],
    ids=repr,
)
def test_a_policy_that_does_not_hold_changes_nothing(wrong: Any, pointer: str | None) -> None:
    with opened() as store:
        tried = store.install(echo())
        before = tried.set_policy(policy(limits={"cpu_ms": 5}))
        events = len(journal(store))
        with pytest.raises((capsa.InvalidPolicy, TypeError)) as refused:
            tried.set_policy(wrong)
        if pointer is not None:
            assert isinstance(refused.value, capsa.InvalidPolicy)
            assert refused.value.pointer == pointer
        # What is no policy at all is the caller's slip.
        assert len(journal(store, "refused")) == isinstance(refused.value, capsa.InvalidPolicy)
        assert (tried.policy, len(journal(store)) - len(journal(store, "refused"))) == (before, events)


def test_a_change_counts_from_the_next_call_on(way: Way, site: Site) -> None:
    """Taken away, it is taken away; and given, it is given."""
    tried = way.install(remembers())
    asking = way.install(asks("asks", site))
    for _ in range(3):
        tried.set_policy(policy(**KEEPING))
        tried.invoke()
        tried.set_policy(policy(kv={"access": "read"}))
        assert [(denial.interface, denial.rule) for denial in tried.invoke().denied] == [("kv", "kv-access")]
        tried.set_policy("pure")
        with pytest.raises(capsa.CapabilityDenied):
            tried.invoke()
        asking.set_policy(policy(**outside(site)))
        assert asking.invoke().output == [1]
        asking.set_policy(policy(http=[{"hosts": ["api.example.com"], "schemes": ["http"]}]))
        assert asking.invoke().output == ["denied"]
    assert len(site.asked) == 3


def test_the_engine_is_the_policys(way: Way) -> None:
    tried = way.install(echo())
    for engine in ("deterministic", "fast", "deterministic"):
        tried.set_policy(policy(engine))
        made = tried.invoke(1)
        assert (made.engine, made.used.fuel is not None) == (engine, engine == "deterministic")


def test_an_install_may_want_more_than_is_granted(way: Way) -> None:
    """The policy stays as it is: it is the operator's."""
    tried = way.install(component("echo", tool(), "read", clock=True))
    set_ = tried.set_policy(policy(clock=True))
    way.install(
        component("echo", script(call("clock.now"), call("random.number")), "read", clock=True, random=True)
    )
    assert tried.policy.policy == set_.policy
    assert tried.policy.not_granted == ["random"]
    with pytest.raises(capsa.CapabilityDenied, match="random"):
        tried.invoke()
    way.install(component("echo", script(call("clock.now")), "read", clock=True))
    assert tried.invoke().output == ["ok"]
    assert tried.policy.not_granted == []


def test_explanations(way: Way) -> None:
    """By what is in effect now: whether, by which rule, and what would be needed."""
    tried = way.install(everything())
    assert tried.explain("https://api.example.com/").rule == "not-granted"
    tried.set_policy(
        policy(
            clock=True,
            kv={"access": "read"},
            files={"access": "read"},
            config={"place": "here"},
            http=[{"hosts": ["*.example.com"]}],
            secrets=[{"name": "key", "hosts": ["b.example.com"]}],
        )
    )
    for target, method, allowed, rule in (
        ("https://api.example.com/a?b", "GET", True, None),
        ("https://api.example.com/", "POST", False, "method"),
        ("http://api.example.com/", "GET", False, "scheme"),
        ("https://example.com/", "GET", False, "host"),
        ("https://api.example.com:444/", "GET", False, "port"),
        ("https://127.0.0.1/", "GET", False, None),
        ("https://a@api.example.com/", "GET", False, "userinfo"),
        ("kv:k", "GET", True, None),
        ("kv:k", "PUT", False, "kv-access"),
        ("config:place", "GET", True, None),
        ("config:other", "GET", False, "config"),
        ("secret:key", "GET", True, None),
        ("secret:other", "GET", False, "secret"),
        ("a/b", "GET", True, None),
        ("../b", "GET", False, "path"),
        ("a/b", "PUT", False, "files-access"),
    ):
        told = tried.explain(target, method)
        assert told.allowed is allowed, target
        if rule is not None:
            assert told.rule == rule, target
        assert told.detail or allowed
        json.dumps(told.to_json())
    tried.set_policy("pure")
    assert not tried.explain("kv:k").allowed


def test_each_tenant_and_job_has_its_own(way: Way) -> None:
    one, two = way.install(remembers()), way.install(remembers(), job="two")
    three = way.install(remembers(), tenant="acme")
    two.set_policy(policy(**KEEPING))
    assert two.invoke().output == [None, "ok"]
    for other in (one, three):
        assert other.policy.by is None
        with pytest.raises(capsa.CapabilityDenied):
            other.invoke()
    three.set_policy(policy(**KEEPING))
    assert three.invoke().output == [None, "ok"]
    assert two.invoke().output == ["v", "ok"]
