"""What a difference calls new is new, and what it does not call new is not."""

from __future__ import annotations

import copy
import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies import matcher
from tests.policies.faulty import HEAD
from tests.policies.said import WANTS, camel_keys, policies, toml, versions

from capsa.policies import Change, Policy, Wants, diff, load_policy, load_wants


def read(policy: dict[str, Any]) -> Policy:
    return load_policy(f"\n{toml(policy)}")


def lines(old: str, new: str) -> list[str]:
    """The lines between two policies, each told by what stands under its head."""
    return list(diff(load_policy(HEAD + old), load_policy(HEAD + new)).lines())


@given(policy=policies(), definition=WANTS)
def test_nothing_changes_where_nothing_does(policy: dict[str, Any], definition: dict[str, Any]) -> None:
    """Whatever it is called, and in whatever order it stands."""
    other = copy.deepcopy(policy) | {"name": "other", "description": "else"}
    for rule in other.get("grants", {}).get("http", []):
        for parts in rule.values():
            parts.reverse()
    for name in ("http", "secrets"):
        other.get("grants", {}).get(name, []).reverse()
    found = diff(read(policy), read(other))
    assert found.is_empty, list(found.lines())
    assert list(found.lines()) == ["the same authority"]
    wants = load_wants(definition)
    assert diff(wants, wants).is_empty


def split(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rules, one for each host, method and scheme."""
    return [
        rule | {kind: [host], "methods": [method], "schemes": [scheme]}
        for whole in rules
        for kind in ("hosts", "private")
        for host in whole.get(kind, [])
        for method in whole.get("methods", ["GET", "HEAD"])
        for scheme in whole.get("schemes", ["https"])
        for rule in [{"ports": whole["ports"]} if "ports" in whole and kind == "hosts" else {}]
    ]


@given(policy=policies())
def test_a_rule_that_is_split_is_the_same_authority(policy: dict[str, Any]) -> None:
    """One for each host, method and scheme."""
    other = copy.deepcopy(policy)
    if "http" in other.get("grants", {}):
        other["grants"]["http"] = split(other["grants"]["http"])
    assert diff(read(policy), read(other)).is_empty


@given(both=st.one_of(versions(), st.tuples(policies(), policies())))
def test_http_is_new_exactly_if_a_request_is(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """In a world where every pattern has a host of its own."""
    old, new = both
    before, after = (policy.get("grants", {}).get("http", []) for policy in (old, new))
    found = diff(read(old), read(new))
    gained = any(
        matcher.allowed(after, request) and not matcher.allowed(before, request)
        for request in matcher.REQUESTS
    )
    lost = any(
        matcher.allowed(before, request) and not matcher.allowed(after, request)
        for request in matcher.REQUESTS
    )
    # A pair of what a pattern covers too is named in any case: it may turn out to be inside.
    assert any(change.grant == "http" for change in found.new) == gained
    assert any(change.grant == "http" for change in found.gone) == lost


@given(both=st.one_of(versions(), st.tuples(policies(), policies())))
def test_everything_else_is_new_exactly_if_it_is_more(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Held against the values themselves."""
    old, new = both
    before, after = read(old), read(new)
    told = {(change.grant, change.name) for change in diff(before, after).new} - {("http", None)}
    more: set[tuple[str, str | None]] = set()
    if after.engine != before.engine:
        more.add(("engine", None))
    for name in ("clock", "random"):
        if getattr(after.grants, name) > getattr(before.grants, name):
            more.add((name, None))
    for name, text in after.grants.config.items():
        if before.grants.config.get(name) != text:
            more.add(("config", name))
    more |= larger_stores(before, after) | further_secrets(before, after)
    for name in after.limits.__struct_fields__:
        was, now = getattr(before.limits, name), getattr(after.limits, name)
        if None not in (was, now) and now > was:
            more.add(("limits", name))
    assert told == more


def larger_stores(before: Policy, after: Policy) -> set[tuple[str, str | None]]:
    more: set[tuple[str, str | None]] = set()
    for name in ("kv", "files"):
        mine, theirs = getattr(before.grants, name), getattr(after.grants, name)
        if theirs is not None and mine is None:
            more.add((name, None))
        elif theirs is not None:
            # "read" < "read_write"
            more |= {
                (name, key) for key in theirs.__struct_fields__ if getattr(theirs, key) > getattr(mine, key)
            }
    return more


def further_secrets(before: Policy, after: Policy) -> set[tuple[str, str | None]]:
    more: set[tuple[str, str | None]] = set()
    for secret in after.grants.secrets:
        known = [host for each in before.grants.secrets if each.name == secret.name for host in each.hosts]
        for at in matcher.HOSTS:
            if any(matcher.host_matches(host, at) for host in secret.hosts) and not any(
                matcher.host_matches(host, at) for host in known
            ):
                more.add(("secrets", secret.name))
    return more


@given(both=st.one_of(versions(), st.tuples(policies(), policies())))
def test_gone_is_new_the_other_way_round(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """The same pieces; only amounts are told in the direction of time."""
    old, new = both
    forth, back = diff(read(old), read(new)), diff(read(new), read(old))
    assert [(c.grant, c.name) for c in forth.gone] == [(c.grant, c.name) for c in back.new]
    for change in (*forth.new, *forth.gone):
        was, arrow, now = change.detail.partition(" -> ")
        if arrow and change.grant in ("limits", "kv", "files"):
            rises = int(now.replace(",", "")) > int(was.replace(",", ""))
            assert rises is (change in forth.new)


@given(old=WANTS, new=WANTS)
def test_wants_are_compared_likewise(old: dict[str, Any], new: dict[str, Any]) -> None:
    """A limit that is no longer wanted is left to the policy, which is more."""
    before, after = load_wants(old), load_wants(camel_keys(new))
    told = {change.name for change in diff(before, after).new if change.grant == "limits"}
    for name in after.limits.__struct_fields__:
        was, now = getattr(before.limits, name), getattr(after.limits, name)
        assert (name in told) == (was is not None and (now is None or now > was))
    names = {change.name for change in diff(before, after).new if change.grant == "config"}
    assert names == set(after.config) - set(before.config)


def test_it_is_told_in_words() -> None:
    """A line each."""
    old = """
[grants]
config = { region = "eu", gone = "x" }
kv = { access = "read", max_bytes = 5 }
[[grants.http]]
hosts = ["*.example.com"]
[[grants.secrets]]
name = "my_key"
hosts = ["*.example.com"]
[limits]
cpu_ms = 100
log_lines = 5
"""
    new = """
engine = "deterministic"
[grants]
clock = true
config = { region = "us" }
kv = { access = "read_write", max_bytes = 2000 }
files = { access = "read" }
[[grants.http]]
hosts = ["api.example.com", "example.com", "api.other.net"]
methods = ["GET", "POST"]
schemes = ["https", "http"]
[[grants.http]]
private = ["10.0.0.5:8080"]
[[grants.secrets]]
name = "my_key"
hosts = ["api.example.com", "example.com"]
[[grants.secrets]]
name = "two"
hosts = ["a.com"]
[limits]
cpu_ms = 50
log_lines = 6000
"""
    assert lines(old, new) == [
        "+ engine: deterministic",
        "+ clock: the time",
        "+ config.region: 'us'",
        "+ kv.access: reading and writing",
        "+ kv.max_bytes: 5 -> 2,000",
        "+ files: reading, max_bytes 16,777,216, max_files 1,000",
        "+ http: GET, POST api.example.com (http)",
        "+ http: POST api.example.com (https)",
        "+ http: GET, POST example.com, api.other.net (http, https)",
        "+ http: GET, HEAD private 10.0.0.5:8080 (https)",
        "+ secrets.my_key: to example.com",
        "+ secrets.two: to a.com",
        "+ limits.log_lines: 5 -> 6,000",
        "- engine: fast",
        "- config.gone: 'x'",
        "- config.region: 'eu'",
        "- http: GET, HEAD *.example.com (https)",
        "- secrets.my_key: to *.example.com",
        "- limits.cpu_ms: 100 -> 50",
    ]


def test_it_is_told_in_json() -> None:
    """Names of ours in JSON's spelling, those of others as they are."""
    old = load_policy(HEAD)
    new = load_policy(
        f'{HEAD}[grants]\nconfig = {{ my_key = "a" }}\n[[grants.secrets]]\nname = "my_key"\nhosts = ["a.com"]\n'
        "[limits]\ncpu_ms = 60\n"
    )
    found = diff(old, new).to_json()
    assert found == {
        "same": False,
        "new": [
            {"grant": "config", "name": "my_key", "detail": "'a'"},
            {"grant": "secrets", "name": "my_key", "detail": "to a.com"},
            {"grant": "limits", "name": "cpuMs", "detail": "50 -> 60"},
        ],
        "gone": [],
    }
    assert json.loads(json.dumps(found)) == found
    assert diff(old, old).to_json() == {"same": True, "new": [], "gone": []}


def test_ports_and_schemes_that_are_new() -> None:
    """The default port of each scheme is what it says."""
    http = '[[grants.http]]\nhosts = ["a.com"]\n'
    assert lines(http, f"{http}ports = [443]\n") == ["the same authority"]
    assert lines(http, f"{http}ports = [443, 8443]\n") == ["+ http: GET, HEAD a.com (https 8443)"]
    assert lines(http, f'{http}schemes = ["http", "https"]\n') == ["+ http: GET, HEAD a.com (http)"]
    both = f'{http}schemes = ["http", "https"]\n'
    assert lines(both, f"{both}ports = [80, 443]\n") == ["+ http: GET, HEAD a.com (http 443, https 80)"]
    assert lines(http, http.replace("a.com", "*")) == ["+ http: GET, HEAD any public host (https)"]


def test_unlike_things_are_not_compared() -> None:
    with pytest.raises(TypeError, match="a Policy cannot be compared with a Wants"):
        diff(load_policy("pure"), load_wants({}))
    assert isinstance(load_wants({}), Wants)


def test_a_change_reads_as_a_line() -> None:
    assert str(Change("limits", "cpu_ms", "50 -> 100")) == "limits.cpu_ms: 50 -> 100"
    assert str(Change("clock", None, "the time")) == "clock: the time"


@pytest.mark.parametrize("kind", ["v6", "names", "rules"])
def test_large_policies_are_compared_soon(kind: str) -> None:
    """As many hosts as a file can hold, all in doubt."""
    if kind == "v6":
        hosts = [[f"2a00:{rule:x}:{n:x}::/48" for n in range(256)] for rule in range(16)]
    elif kind == "names":
        hosts = [[f"*.{n}." + "a." * 20 + f"{rule}.com" for n in range(64)] for rule in range(48)]
    else:
        hosts = [["*"] + [f"{rule}-{n}.com" for n in range(32)] for rule in range(256)]
    rules = [
        {"hosts": each, "methods": ["GET", "PUT"], "ports": [1, 2, 3, rule + 1000]}
        for rule, each in enumerate(hosts)
    ]
    policy = {"schema": 1, "name": "x", "grants": {"http": rules}}
    old = read(policy)
    new = read(policy | {"grants": {"http": [rule | {"methods": ["GET", "POST"]} for rule in rules]}})
    begun = time.process_time()
    found = diff(old, new)
    assert time.process_time() - begun < 5
    assert {change.grant for change in found.new} == {"http"}


@given(data=st.data())
def test_a_secret_that_a_wider_pattern_covered_is_not_new(data: st.DataObject) -> None:
    """Nor a host."""
    host = data.draw(st.sampled_from(["a.example.com", "*.a.example.com", "b.a.example.com"]))
    named = '[[grants.secrets]]\nname = "s"\nhosts = ["{}"]\n'
    http = '[[grants.http]]\nhosts = ["{}"]\n'
    wide, narrow = ((named + http).format(each, each) for each in ("*.example.com", host))
    found = diff(load_policy(HEAD + wide), load_policy(HEAD + narrow))
    assert found.new == ()
    assert {change.grant for change in found.gone} == {"secrets", "http"}


def few_rules() -> list[dict[str, Any]]:
    """Every rule of a few schemes, ports, methods and ways to name one host."""
    found: list[dict[str, Any]] = []
    for schemes, methods, named in itertools.product(
        (["https"], ["http"], ["http", "https"]),
        (["GET"], ["POST"], ["GET", "POST"]),
        ({"private": ["a.example.com:8080"]}, {"hosts": ["a.example.com"]}, {"hosts": ["*.example.com"]}),
    ):
        for ports in ([443], [80, 8080], []) if "hosts" in named else ([],):
            rule = {"schemes": schemes, "methods": methods, **named}
            found.append(rule | {"ports": ports} if ports else rule)
    return found


def test_between_two_rules_all_is_new_that_is_more() -> None:
    """Every pair, held against every request to the host."""
    requests = [request for request in matcher.REQUESTS if request.host in ("a.example.com", "b.example.com")]
    rules = [
        (
            load_policy({"schema": 1, "name": "x", "grants": {"http": [rule]}}),
            {request for request in requests if matcher.allowed([rule], request)},
        )
        for rule in few_rules()
    ]
    assert len(rules) == 63
    for (old, before), (new, after) in itertools.product(rules, repeat=2):
        found = diff(old, new)
        assert bool(found.new) == bool(after - before), (old, new)
        assert bool(found.gone) == bool(before - after), (old, new)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("", "engine = 'deterministic'", "engine"),
        ("", "[grants]\nclock = true", "clock"),
        ("", "[grants]\nrandom = true", "random"),
        ("[grants.config]\na = 'b'", "[grants.config]\na = 'c'", "config.a"),
        ("[grants.config]\na = 'b'", "[grants.config]\na = 'b'\nc = ''", "config.c"),
        ("", "[grants.kv]\naccess = 'read'", "kv"),
        ("[grants.kv]\naccess = 'read'", "[grants.kv]\naccess = 'read_write'", "kv.access"),
        ("[grants.kv]\naccess = 'read'", "[grants.kv]\naccess = 'read'\nmax_keys = 1001", "kv.max_keys"),
        (
            "[grants.files]\naccess = 'read'",
            "[grants.files]\naccess = 'read'\nmax_files = 1001",
            "files.max_files",
        ),
        ("", "[[grants.secrets]]\nname = 'a'\nhosts = ['a.com']", "secrets.a"),
        ("", "[limits]\ncpu_ms = 51", "limits.cpu_ms"),
        ("[limits]\nlog_lines = 0", "[limits]\nlog_lines = 1", "limits.log_lines"),
    ],
)
def test_one_thing_more_is_one_change(old: str, new: str, line: str) -> None:
    """However small it is."""
    found = diff(load_policy(HEAD + old), load_policy(HEAD + new))
    assert [str(change).partition(":")[0] for change in found.new] == [line]
    # What is in the place of something else takes it away.
    assert [str(change).partition(":")[0] for change in found.gone] == [line] * (
        line in ("engine", "config.a")
    )
