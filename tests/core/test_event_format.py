"""The payloads that docs/events.md writes down are those that are read and written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cbor2
import pytest
from msgspec.structs import replace
from tests.reference.cbor_profile import encode

from capsa import _native
from capsa.errors import JournalMismatch
from capsa.journal import EVENT_TYPES, Event

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
SPEC = "name: router\noptions: [cheap, dear]\ncontexts: [task]\nreward: {quality: 0.6, cost: -0.4}\n"


@pytest.fixture
def vectors() -> dict[str, Any]:
    """The definition and the two events of the page."""
    found: dict[str, Any] = json.loads(
        re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)[0]
    )
    return found


@pytest.fixture
def capsule(vectors: dict[str, Any], host: _native.Host) -> _native.Capsule:
    component = host.load(_native.compile_spec(SPEC))
    filled = _native.filled_definition(json.dumps(vectors["definition"]))
    payload = _native.encode_installed("router", 1, component.digest, 9, filled)
    installed = Event(_native.EVENT_SCHEMA, "t", 3, 0, "installed", "p", "j/router", payload)
    return _native.Capsule("t", "j", component, installed, _native.Keyring())


def written(vectors: dict[str, Any], kind: str) -> Event:
    """An event as the page gives it."""
    row = vectors[kind]
    payload = bytes.fromhex(row["payload"])
    return Event(_native.EVENT_SCHEMA, "t", row["sequence"], row["time_ms"], kind, "p", "j/router", payload)


def test_the_documented_decision_is_read(vectors: dict[str, Any], capsule: _native.Capsule) -> None:
    record = capsule.read_decision(written(vectors, "decided")).record()
    assert {name: record[name] for name in vectors["decided"]["says"]} == vectors["decided"]["says"]
    assert record["id"].hex() == "019aa6c7e76b0102030405060708090a"


def test_the_documented_outcome_is_read_and_written(
    vectors: dict[str, Any], capsule: _native.Capsule
) -> None:
    event = written(vectors, "outcome_received")
    fields = capsule.read_outcome(event)
    assert {name: fields[name] for name in vectors["outcome_received"]["says"]} == vectors[
        "outcome_received"
    ]["says"]
    assert capsule.encode_outcome(fields) == event.payload
    assert encode(cbor2.loads(event.payload)) == event.payload


def test_every_documented_number_is_known_and_no_other(
    vectors: dict[str, Any], capsule: _native.Capsule
) -> None:
    """The tables end where the format does: the next number is refused."""
    tables = re.split(r"^\*\*`", PAGE.read_text(), flags=re.MULTILINE)[1:]
    for table, kind in zip(tables, ("decided", "outcome_received"), strict=True):
        numbers = [int(number) for number in re.findall(r"^\| ([0-9]+) \|", table, re.MULTILINE)]
        assert numbers == list(range(len(numbers)))
        event = written(vectors, kind)
        values = cbor2.loads(event.payload)
        read = capsule.read_decision if kind == "decided" else capsule.read_outcome
        for number, known in ((numbers[-1], True), (len(numbers), False)):
            # A value that fits no field: what is refused is the number, or the value.
            changed = replace(event, payload=cbor2.dumps(values | {number: None}, canonical=True))
            with pytest.raises(JournalMismatch) as refused:
                read(changed)
            assert (f"has a field {number}" in str(refused.value)) != known


def test_every_type_by_name_exists() -> None:
    """The first table names types that the journal takes."""
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert named
    assert set(named) <= EVENT_TYPES
