"""What is effective is wanted and allowed, neither more nor less; every key of either side counts."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from msgspec import inspect
from tests.policies import matcher
from tests.policies.said import WANTS, policies, toml

from capsa import _native
from capsa.policies import Effective, Policy, Wants, effective, load_policy, load_wants

DEFAULTS: Final = {
    "cpuMs": 50,
    "wallMs": 10_000,
    "fuel": 1_000_000_000,
    "memoryBytes": 67_108_864,
    "tableElements": 100_000,
    "outputBytes": 1_048_576,
    "logLines": 64,
    "logBytes": 16_384,
    "hostCalls": 1_000,
    "egressRequests": 16,
    "egressBytes": 10_485_760,
    "concurrency": 8,
}


def met(definition: dict[str, Any], policy: dict[str, Any]) -> Effective:
    """What is effective of both, each as people write it."""
    return effective(load_wants(tomllib.loads(toml(definition))), load_policy(f"\n{toml(policy)}"), "read")


@given(definition=WANTS, policy=policies())
def test_a_request_passes_if_both_sides_let_it(definition: dict[str, Any], policy: dict[str, Any]) -> None:
    """Every request of a small world, judged from what was written and from what goes to native code."""
    sides = met(definition, policy).to_json()["http"]
    wants, grants = (
        definition.get("wants", {}).get("http", []),
        policy.get("grants", {}).get("http", []),
    )
    for request in matcher.REQUESTS:
        wanted, allowed = matcher.wanted(wants, request), matcher.allowed(grants, request)
        both = matcher.wanted(sides["wanted"], request) and matcher.allowed(sides["allowed"], request)
        assert both == (wanted and allowed), request


@given(definition=WANTS, policy=policies())
def test_everything_else_is_the_lesser_of_both_sides(
    definition: dict[str, Any], policy: dict[str, Any]
) -> None:
    """Booleans, access, quotas, limits, names, hosts of secrets."""
    found = met(definition, policy).to_json()
    wants, grants = definition.get("wants", {}), policy.get("grants", {})
    assert found["engine"] == policy.get("engine", "fast")
    for name in ("clock", "random"):
        assert found[name] == (wants.get(name, False) and grants.get(name, False))
    assert found["config"] == {
        name: text for name, text in grants.get("config", {}).items() if name in wants.get("config", [])
    }
    for name, count, quotas in (
        ("kv", "max_keys", (1 << 20, 1000)),
        ("files", "max_files", (16 << 20, 1000)),
    ):
        mine, theirs = wants.get(name), grants.get(name)
        if mine is None or theirs is None:
            assert found[name] is None
            continue
        both = {mine["access"], theirs["access"]}
        assert found[name]["access"] == ("readWrite" if both == {"read_write"} else "read")
        for key, default in zip(("max_bytes", count), quotas, strict=True):
            spelled = {"max_bytes": "maxBytes", "max_keys": "maxKeys", "max_files": "maxFiles"}[key]
            assert found[name][spelled] == min(mine.get(key, default), theirs.get(key, default))
    granted = {secret["name"]: secret["hosts"] for secret in grants.get("secrets", [])}
    assert found["secrets"] == [
        {"name": secret["name"], "wanted": secret["hosts"], "allowed": granted[secret["name"]]}
        for secret in wants.get("secrets", [])
        if secret["name"] in granted
    ]
    assert set(found["limits"]) == set(DEFAULTS)
    for key, default in DEFAULTS.items():
        name = "".join(f"_{char.lower()}" if char.isupper() else char for char in key)
        allowed = policy.get("limits", {}).get(name, default)
        least = min(allowed, definition.get("limits", {}).get(name, allowed))
        assert found["limits"][key] == (None if name == "fuel" and found["engine"] == "fast" else least)


#: A policy that has everything, and another value of each of its keys.
WHOLE: Final[dict[str, Any]] = {
    "schema": 1,
    "name": "whole",
    "description": "all",
    "engine": "deterministic",
    "grants": {
        "clock": True,
        "random": True,
        "config": {"region": "eu"},
        "kv": {"access": "read_write", "max_bytes": 10, "max_keys": 10},
        "files": {"access": "read_write", "max_bytes": 10, "max_files": 10},
        "http": [
            {"hosts": ["a.com"], "schemes": ["https"], "ports": [1], "methods": ["GET"], "private": ["b:1"]}
        ],
        "secrets": [{"name": "one", "hosts": ["a.com"]}],
    },
    "limits": {name[0]: 70_000 if name[0] == "memory_bytes" else 5 for name in [
        ("cpu_ms",), ("wall_ms",), ("fuel",), ("memory_bytes",), ("table_elements",), ("output_bytes",), ("log_lines",),
        ("log_bytes",), ("host_calls",), ("egress_requests",), ("egress_bytes",), ("concurrency",)]},
}  # fmt: skip
OTHER: Final[dict[str, Any]] = {
    "engine": "fast",
    "grants.clock": False,
    "grants.random": False,
    "grants.config": {"region": "us"},
    "grants.kv.access": "read",
    "grants.kv.max_bytes": 9,
    "grants.kv.max_keys": 9,
    "grants.files.access": "read",
    "grants.files.max_bytes": 9,
    "grants.files.max_files": 9,
    "grants.http.0.hosts": ["c.com"],
    "grants.http.0.schemes": ["http"],
    "grants.http.0.ports": [2],
    "grants.http.0.methods": ["POST"],
    "grants.http.0.private": ["c:1"],
    "grants.secrets.0.name": "two",
    "grants.secrets.0.hosts": ["c.com"],
    **{f"limits.{name}": 66_000 if name == "memory_bytes" else 4 for name in WHOLE["limits"]},
}
#: Not about authority.
TOLD: Final = {"schema", "name", "description"}


def leaves(kind: inspect.Type, place: str = "") -> Iterator[str]:
    """Every key that a struct has, those of its tables with a dot."""
    match kind:
        case inspect.Metadata():
            yield from leaves(kind.type, place)
        case inspect.UnionType():
            yield from leaves(kind.types[0], place)
        case inspect.VarTupleType() if "Struct" in str(kind.item_type):
            yield from leaves(kind.item_type, f"{place}.0")
        case inspect.StructType():
            for field in kind.fields:
                yield from leaves(field.type, f"{place}.{field.name}".removeprefix("."))
        case _:
            yield place


def changed(values: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """The same values but one."""
    copied = copy.deepcopy(values)
    *way, last = place.split(".")
    at: Any = copied
    for key in way:
        at = at[int(key)] if key.isdecimal() else at[key]
    at[last] = value
    return copied


def asked(policy: dict[str, Any]) -> dict[str, Any]:
    """A definition that wants all that a policy grants."""
    grants = copy.deepcopy(policy["grants"])
    grants["config"] = list(grants["config"])
    return {"wants": grants, "limits": dict(policy["limits"])}


def test_every_key_is_in_the_tables_of_this_test() -> None:
    """A new key has to say here what it changes."""
    assert set(leaves(inspect.type_info(Policy))) == set(OTHER) | TOLD
    wanted = {place.removeprefix("grants.") for place in OTHER} - {"engine"}
    assert set(leaves(inspect.type_info(Wants))) == wanted


@pytest.mark.parametrize("place", sorted(OTHER))
def test_every_key_of_a_policy_counts(place: str) -> None:
    """Another value makes something else effective, with another digest."""
    if place == "engine":
        # Fuel has no effect in the other one.
        other = changed(WHOLE, place, OTHER[place])
        del other["limits"]["fuel"]
    else:
        other = changed(WHOLE, place, OTHER[place])
    before, after = met(asked(WHOLE), WHOLE), met(asked(WHOLE), other)
    assert before.to_json() != after.to_json()
    assert before.digest != after.digest
    assert load_policy(toml(WHOLE)).digest != load_policy(toml(other)).digest


@pytest.mark.parametrize("place", sorted(set(OTHER) - {"engine"}))
def test_every_key_of_the_wants_counts(place: str) -> None:
    """Likewise."""
    definition = asked(WHOLE)
    if place == "grants.config":
        other = changed(definition, "wants.config", ["zone"])
    else:
        other = changed(definition, place.replace("grants.", "wants."), OTHER[place])
    assert met(definition, WHOLE).to_json() != met(other, WHOLE).to_json()
    assert load_wants(definition).digest != load_wants(other).digest


def test_it_is_spelled_as_native_code_reads_it() -> None:
    """Every key, to the letter."""
    assert met(asked(WHOLE), WHOLE).to_json() == {
        "engine": "deterministic",
        "effect": "read",
        "clock": True,
        "random": True,
        "config": {"region": "eu"},
        "kv": {"access": "readWrite", "maxBytes": 10, "maxKeys": 10},
        "files": {"access": "readWrite", "maxBytes": 10, "maxFiles": 10},
        "http": {
            side: [
                {
                    "hosts": ["a.com"],
                    "schemes": ["https"],
                    "ports": [1],
                    "methods": ["GET"],
                    "private": ["b:1"],
                }
            ]
            for side in ("wanted", "allowed")
        },
        "secrets": [{"name": "one", "wanted": ["a.com"], "allowed": ["a.com"]}],
        "limits": {key: 70_000 if key == "memoryBytes" else 5 for key in DEFAULTS},
    }


def test_effects_are_spelled_as_json_does() -> None:
    policy = load_policy("pure")
    assert effective(load_wants({}), policy, "non_idempotent").to_json()["effect"] == "nonIdempotent"


def test_default_ports_are_filled_in_where_that_is_not_more() -> None:
    """443 for https alone; with both schemes http to port 443 would be more than was said."""
    rules = [{"hosts": ["a.com"], "schemes": schemes} for schemes in (["https"], ["http"], ["http", "https"])]
    found = met({"wants": {"http": rules}}, {"schema": 1, "name": "x"}).to_json()["http"]["wanted"]
    assert [rule["ports"] for rule in found] == [[443], [80], []]


@given(definition=WANTS, policy=policies())
def test_the_digest_is_that_of_the_canonical_json(definition: dict[str, Any], policy: dict[str, Any]) -> None:
    """Sorted keys, no blanks, UTF-8 as it is."""
    for said in (met(definition, policy), load_policy(toml(policy)), load_wants(definition)):
        text = json.dumps(said.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert said.digest == _native.digest(text.encode())


def test_nothing_can_be_changed_afterwards() -> None:
    found = met(asked(WHOLE), WHOLE)
    for said, name in ((found, "clock"), (found.policy.grants, "clock"), (found.wants, "clock")):
        with pytest.raises(AttributeError):
            setattr(said, name, False)
    assert msgspec.structs.asdict(found.limits)["fuel"] == 5
