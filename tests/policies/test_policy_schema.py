"""The JSON Schema and the loader agree; the checked-in file is the one that the structs make."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.faulty import FAULTY, Faulty
from tests.policies.said import camel_keys, policies, toml

from capsa.errors import InvalidPolicy
from capsa.policies import READY, load_policy, policy_schema

FILE: Final = Path(__file__).parents[2] / "policies/policy.schema.json"
VALIDATORS: Final = {
    spelling: jsonschema_rs.Draft202012Validator(policy_schema(spelling=spelling))
    for spelling in ("snake", "camel")
}
#: What a schema cannot say, and the loader finds: by the names of the faults.
BEYOND: Final = {
    "schema has a point",
    "in exponents",
    "the same host",
    "this machine",
    "a name of this machine",
    "loopback",
    "private",
    "metadata",
    "metadata, mapped",
    "loopback of IPv6",
    "NAT64",
    "any address",
    "any address of IPv6",
    "half private",
    "documentation",
    "bits behind the prefix",
    "a zone",
    "hexadecimal",
    "decimal",
    "octal",
    "short",
    "too large a number",
    "an empty part",
    "a dot alone",
    "a hyphen first",
    "a part too long",
    "a name too long",
    "no such letters",
    "a sign that is no letter",
    "too wide",
    "a port behind it",
    "private with port 70000",
    "IPv6 without brackets",
    "private in octal",
    "the same twice",
    "a secret twice",
}
#: What stands for a date or an infinity, which JSON has not.
_NO_JSON: Final = "no JSON"


def is_valid(document: Any, spelling: str = "snake") -> bool:
    return VALIDATORS[spelling].is_valid(document)


def holds(source: Any) -> bool:
    try:
        load_policy(source)
    except InvalidPolicy:
        return False
    return True


def test_the_file_is_what_the_structs_make() -> None:
    """Written anew by: python -c "…" as the message says."""
    text = json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"
    assert FILE.read_text() == text, (
        "write it anew: PYTHONPATH=python .venv/bin/python -c 'import json; from capsa.policies import policy_schema; "
        "print(json.dumps(policy_schema(), indent=2, ensure_ascii=False))' > policies/policy.schema.json"
    )


@pytest.mark.parametrize("spelling", ["snake", "camel"])
def test_it_is_a_schema(spelling: str) -> None:
    """Of the draft that it names, and with a text for each key."""
    schema = policy_schema(spelling=spelling)
    jsonschema_rs.meta.validate(schema)
    for table in (schema, *schema["$defs"].values()):
        assert table["additionalProperties"] is False
        assert table["description"]
        for name, field in table["properties"].items():
            drawn = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
            assert drawn["description"], name
    names = {name for table in schema["$defs"].values() for name in table["properties"]}
    assert ("max_bytes" in names) is (spelling == "snake")
    assert ("maxBytes" in names) is (spelling == "camel")


def test_there_is_no_third_spelling() -> None:
    with pytest.raises(ValueError, match="snake or camel"):
        policy_schema(spelling="kebab")


@given(policy=policies())
def test_what_holds_is_valid(policy: dict[str, Any]) -> None:
    """In both spellings; also as we write it."""
    assert is_valid(policy)
    assert is_valid(camel_keys(policy), "camel")
    assert is_valid(load_policy(f"\n{toml(policy)}").to_json(), "camel")


def places(document: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a document."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in entries:
        yield (*way, key)
        if isinstance(value, dict | list):
            yield from places(value, (*way, key))


_VALUES: Final = st.sampled_from([
    True, False, 0, 1, -1, 5, 443, 65_536, 10**15, 10**15 + 1, 10**30, 0.5,
    "", "x", "fast", "deterministic", "read", "read_write", "readWrite", "GET", "get", "https", "ftp",
    "a.com", "*.a.com", "*", "a b", "a.com:80", "a.com:0", "https://a.com", "93.184.216.0/24", "*a.com",
    "x" * 65, "x" * 513, "x" * 5000,
    [], ["a.com"], ["GET"], [1], [1, 1], ["a.com", "a.com"],
    {}, {"access": "read"}, {"region": "eu"}, {"a b": "eu"}, {"region": 5},
    [{"hosts": ["a.com"]}], [{}], [{"private": ["a.com:1"]}], [{"name": "s", "hosts": ["a.com"]}],
])  # fmt: skip
_KEYS: Final = st.sampled_from([
    "schema", "name", "engine", "grants", "limits", "clock", "kv", "access", "max_bytes", "max_keys", "http", "hosts",
    "ports", "private", "methods", "secrets", "fuel", "cpu_ms", "cpuMs", "zzz", "config",
])  # fmt: skip


@given(policy=policies(), data=st.data())
def test_they_refuse_the_same(policy: dict[str, Any], data: st.DataObject) -> None:
    """A policy that holds, with values put, added and left out anywhere."""
    changed = copy.deepcopy(policy)
    for _ in range(data.draw(st.integers(1, 3))):
        way = data.draw(st.sampled_from([(), *places(changed)]))
        at: Any = changed
        for key in way[:-1]:
            at = at[key]
        inner = at[way[-1]] if way else at
        if isinstance(inner, dict) and data.draw(st.booleans()):
            inner[data.draw(_KEYS)] = copy.deepcopy(data.draw(_VALUES))
        elif way and data.draw(st.integers(0, 3)):
            at[way[-1]] = copy.deepcopy(data.draw(_VALUES))
        elif way:
            del at[way[-1]]
    secrets = changed.get("grants", {}).get("secrets", []) if isinstance(changed.get("grants"), dict) else []
    if isinstance(secrets, list):
        names = [secret.get("name") for secret in secrets if isinstance(secret, dict)]
        if any(names.count(name) > 1 for name in names):
            # Two secrets of one name: the schema cannot say that.
            return
    assert is_valid(changed) == holds(f"\n{toml(changed)}"), changed
    assert is_valid(camel_keys(changed), "camel") == holds(json.dumps(camel_keys(changed)))


@pytest.mark.parametrize("row", FAULTY, ids=lambda row: row.name)
def test_it_refuses_what_it_can(row: Faulty) -> None:
    """What it cannot is listed, and nothing more."""
    try:
        document = tomllib.loads(row.toml)
    except (ValueError, RecursionError):
        return
    document = json.loads(json.dumps(document, default=lambda _: {_NO_JSON: True}, allow_nan=True))
    if row.name in ("infinity", "not a number", "a huge number"):
        return
    assert is_valid(document) is (row.name in BEYOND)


@pytest.mark.parametrize("name", READY)
def test_the_ready_ones_are_valid(name: str) -> None:
    assert is_valid(tomllib.loads((FILE.parent / f"{name}.toml").read_text()))
