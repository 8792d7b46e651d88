"""What is a policy is read whole; what is none is refused with its place and a remedy."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.faulty import FAULTY, HEAD, Faulty
from tests.policies.said import WANTS, camel_keys, policies, toml

from capsa.errors import InvalidPolicy, InvalidRequest
from capsa.policies import READY, load_policy, load_wants, ready_policy
from capsa.policies._document import MAX_BYTES


def fault_of(read: Callable[[Any], object], source: object) -> InvalidPolicy | None:
    """Why something is refused; any other error goes on."""
    try:
        read(source)
    except InvalidPolicy as error:
        return error
    return None


@given(policy=policies())
def test_toml_json_and_mappings_say_the_same(policy: dict[str, Any]) -> None:
    """However it is spelled, and once more from what was made of it."""
    text = toml(policy)
    read = load_policy(text)
    assert load_policy(text.encode()) == read
    assert load_policy(policy) == read
    assert load_policy(camel_keys(policy)) == read
    assert load_policy(json.dumps(camel_keys(policy))) == read
    again = load_policy(read.to_json())
    assert again == read
    assert load_policy(json.dumps(read.to_json()).encode()) == read
    assert (again.digest, again.to_json()) == (read.digest, read.to_json())


@given(definition=WANTS)
def test_wants_come_back_from_their_json(definition: dict[str, Any]) -> None:
    """In either spelling."""
    read = load_wants(definition)
    assert load_wants(camel_keys(definition)) == read
    said = read.to_json()
    limits = said.pop("limits")
    assert load_wants({"wants": said, "limits": limits}) == read


def test_there_are_enough_faults() -> None:
    assert len({row.name for row in FAULTY}) == len(FAULTY) >= 80


@pytest.mark.parametrize("row", FAULTY, ids=lambda row: row.name)
def test_a_fault_has_its_place_and_a_remedy(row: Faulty) -> None:
    """Told by a subclass of `InvalidRequest`, which the edges map."""
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(row.toml)
    told = caught.value
    assert told.pointer == row.pointer, told
    assert told.remedy is not None
    assert row.remedy in told.remedy, told.remedy
    assert len(str(told)) < 700
    assert isinstance(told, InvalidRequest)
    assert told.code == "invalid-policy"


@pytest.mark.parametrize("row", FAULTY, ids=lambda row: row.name)
def test_a_pointer_points_at_the_value(row: Faulty) -> None:
    """Or at a key that is missing, in the table that lacks it."""
    if row.pointer == "":
        return
    at: Any = tomllib.loads(row.toml)
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in row.pointer.split("/")[1:]]
    for part in way:
        at = at[int(part)] if isinstance(at, list) else at[part]
    if isinstance(at, Mapping):
        missing = row.name in {"kv without access", "a secret without hosts", "a secret without name"}
        assert (last in at) is not missing
    else:
        assert int(last) < len(at)


def test_both_required_keys_are_asked_for() -> None:
    for text, pointer, remedy in (
        ('name = "x"\n', "/schema", "write schema = 1"),
        ("schema = 1\n", "/name", "write name"),
    ):
        with pytest.raises(InvalidPolicy) as caught:
            load_policy(text)
        assert (caught.value.pointer, caught.value.remedy) == (pointer, remedy)


@pytest.mark.parametrize(
    ("text", "pointer", "remedy"),
    [
        ('{"schema": 1, "name": "x", "name": "y"}', "", "each key once"),
        ('{"schema": 1, "name": "x"} x', "", "write TOML, or JSON"),
        ('{"schema": 1, "name": "x", "limits": {"cpuMs": NaN}}', "", "write TOML, or JSON"),
        ('{"schema": 1, "name": "x", "limits": {"cpu_ms": 5}}', "/limits/cpu_ms", "write cpuMs"),
        ('{"schema": 1, "name": "x", "limits": null}', "/limits", "write a table with cpuMs"),
        ('{"schema": 1, "name": "x", "grants": {"kv": null}}', "/grants/kv", "access, maxBytes and maxKeys"),
        (
            '{"schema": 1, "name": "x", "grants": {"kv": {"access": "write"}}}',
            "/grants/kv/access",
            "readWrite",
        ),
        ('{"schema": 1, "name": "x", "limits": {"wallMs": 1e400}}', "", "write TOML, or JSON"),
        ('{"schema": 1, "name": "x", "limits": {"wallMs": 5.0}}', "/limits/wallMs", "as 5"),
        ('{"schema": 1e0, "name": "x"}', "/schema", "write 1"),
        ('{"a":' * 40 + "1" + "}" * 40, "", "write TOML, or JSON"),
        ("[1]\n", "", None),
    ],
)
def test_json_is_held_to_its_own_spelling(text: str, pointer: str, remedy: str | None) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(text)
    if remedy is not None:
        assert caught.value.pointer == pointer
        assert remedy in (caught.value.remedy or "")


def test_enum_values_are_read_in_either_spelling() -> None:
    for word in ("read_write", "readWrite"):
        kv = load_policy(f'{HEAD}[grants]\nkv = {{ access = "{word}" }}\n').grants.kv
        assert kv is not None
        assert kv.access == "read_write"


def test_a_mapping_may_not_say_a_thing_twice() -> None:
    """Once in each spelling."""
    with pytest.raises(InvalidPolicy, match="twice") as caught:
        load_policy({"schema": 1, "name": "x", "limits": {"cpu_ms": 5, "cpuMs": 6}})
    assert caught.value.pointer == "/limits/cpuMs"


@pytest.mark.parametrize(
    ("source", "pointer"),
    [
        ({1: 2}, "/1"),
        ({"schema": 1, "name": "\ud800"}, "/name"),
        ({"schema": 1, "name": "x", "description": "\ud800"}, "/description"),
        ({"schema": 1, "name": "x", "grants": {"config": {5: "a"}}}, "/grants/config/5"),
        ({"schema": 1, "name": "x", "grants": {"http": {"hosts": []}}}, "/grants/http"),
        ({"schema": 1, "name": b"x"}, "/name"),
        ({"schema": [], "name": "x"}, "/schema"),
        ({"schema": 1, "name": "x", "grants": {"clock": object()}}, "/grants/clock"),
        ({"schema": 1, "name": "x", "grants": {"http": [{"hosts": ["a\ud800"]}]}}, "/grants/http/0/hosts/0"),
    ],
)
def test_a_mapping_may_hold_anything(source: dict[Any, Any], pointer: str) -> None:
    """It is refused all the same."""
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(source)
    assert caught.value.pointer == pointer


@given(document=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["schema", "name", "grants", "limits", "http", "kv", "config", "hosts", "fuel"]) | st.text(),
        inner, max_size=6),
    max_leaves=20,
))  # fmt: skip
def test_whatever_comes_it_is_read_or_refused(document: Any) -> None:
    """No other error, for policies and wants alike."""
    for read in (load_policy, load_wants):
        if isinstance(document, Mapping):
            error = fault_of(read, document)
            assert error is None or (error.pointer is not None and error.remedy)


@given(data=st.binary() | st.text().map(str.encode) | st.text().map(lambda text: f"{HEAD}{text}".encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Never taken for a path."""
    error = fault_of(load_policy, data)
    assert error is None or error.remedy


@pytest.mark.parametrize(
    "text",
    [
        "a." * 60_000 + "b = 1",
        "[" + "a." * 60_000 + "b]",
        "x = " + "[" * 100_000,
        "x = " + "{a=" * 60_000,
        '{"a":' * 40_000,
        "\n".join(f"[a{n}.b.c.d]" for n in range(15_000)),
        "\n".join("[[a]]" for _ in range(40_000)),
        "[[grants.http]]\nhosts = [" + ",".join(f'"{n}.com"' for n in range(20_000)) + "]",
        f"{HEAD}[[grants.http]]\nhosts = [" + ",".join(f'"{n}.ü{n}.com"' for n in range(256)) + "]",
        "x = '" + "ü" * 120_000 + "'",
        "\n".join(f"[{'a.' * 63}b{n}]" for n in range(1900)),
        "\n".join(f"{'a . ' * 62}b{n} = 1" for n in range(900)),
        "'a'." * 60_000,
        '"' * 200_000,
        "a-" * 120_000,
        "a" + " " * 200_000 + ".",
        "a . " * 60_000,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_documents_end_soon(text: str) -> None:
    """Within the length that a policy may have."""
    assert len(text.encode()) <= MAX_BYTES
    begun = time.process_time()
    assert len(str(fault_of(load_policy, f"\n{text}"))) < 700
    assert time.process_time() - begun < 5


def test_a_policy_has_at_most_so_many_bytes(tmp_path: Path) -> None:
    """From wherever it comes; the last byte that may be is read."""
    fits = HEAD + "#" * (MAX_BYTES - len(HEAD))
    file = tmp_path / "long.toml"
    for text, more in ((fits, False), (f"{fits}#", True)):
        file.write_text(text)
        for source in (text, text.encode(), file, str(file)):
            if more:
                with pytest.raises(InvalidPolicy, match="more than 262144 bytes"):
                    load_policy(source)
            else:
                assert load_policy(source).name == "x"


def test_sources_are_told_apart(tmp_path: Path) -> None:
    """Ready names, paths, text, bytes."""
    file = tmp_path / "mine.toml"
    file.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    for source in (
        file,
        str(file),
        HEAD,
        HEAD.encode(),
        HEAD.replace("\n", "\r\n"),
    ):
        assert load_policy(source).name == "x"
    assert load_policy("pure") is ready_policy("pure")
    with pytest.raises(InvalidPolicy, match="cannot be read"):
        load_policy(b"pure")
    with pytest.raises(FileNotFoundError):
        load_policy(tmp_path / "none.toml")
    with pytest.raises(FileNotFoundError):
        load_policy("none.toml")
    with pytest.raises(IsADirectoryError):
        load_policy(tmp_path)
    with pytest.raises(InvalidPolicy, match="not a path"):
        load_policy("a\0b")
    # Neither is the working folder.
    with pytest.raises(InvalidPolicy, match="is empty"):
        load_policy("")
    with pytest.raises(InvalidPolicy, match="not text: byte 12"):
        load_policy(HEAD.encode()[:12] + b"\xff")
    with pytest.raises(InvalidPolicy, match="surrogate"):
        load_policy("name = '\ud800'\n")
    with pytest.raises(TypeError, match="not from int"):
        load_policy(5)  # type: ignore[arg-type]


def test_a_ready_name_misspelt_names_the_nearest() -> None:
    for read in (load_policy, ready_policy):
        with pytest.raises(InvalidPolicy) as caught:
            read("tool-defualt")
        assert caught.value.remedy == "write tool-default"
    with pytest.raises(InvalidPolicy) as caught:
        ready_policy("../../secret")
    assert caught.value.remedy == f"there are {', '.join(READY)}"


@pytest.mark.parametrize(
    ("definition", "pointer", "remedy"),
    [
        ({"wants": []}, "/wants", "write a table"),
        ({"wants": {"clok": True}}, "/wants/clok", "write clock"),
        ({"wants": {"config": {"a": "b"}}}, "/wants/config", "write a list"),
        ({"wants": {"config": ["a", "a"]}}, "/wants/config/1", "leave one"),
        ({"wants": {"limits": {}}}, "/wants/limits", "beside wants"),
        ({"wants": {"cpu_ms": 5}}, "/wants/cpu_ms", "it stands under limits"),
        ({"wants": {"secrets": [{"name": "a", "hosts": []}]}}, "/wants/secrets/0/hosts", "at least one"),
        ({"wants": {"http": [{}]}}, "/wants/http/0", "write hosts"),
        ({"wants": {"http": [{"private": ["a:1"], "ports": [1]}]}}, "/wants/http/0/ports", "leave it out"),
        ({"limits": {"cpuMs": 0}}, "/limits/cpuMs", "from 1 to 60,000"),
        ({"limits": {"cpu": 0}}, "/limits/cpu", "write cpu_ms"),
        ({"limits": 5}, "/limits", "write a table"),
    ],
)
def test_wants_are_held_to_the_same(definition: dict[str, Any], pointer: str, remedy: str) -> None:
    """With pointers into the definition."""
    with pytest.raises(InvalidPolicy) as caught:
        load_wants(definition)
    assert caught.value.pointer == pointer
    assert remedy in (caught.value.remedy or "")


def test_a_definition_may_want_what_a_policy_cannot_give_by_hosts() -> None:
    """This machine by name; fuel, whatever the engine. The rest of the definition is for others to read."""
    wants = load_wants({"kind": "tool", "wants": {"http": [{"hosts": ["localhost"]}]}, "limits": {"fuel": 5}})
    assert wants.http[0].hosts == ("localhost",)
    assert wants.limits.fuel == 5


def test_a_secret_may_go_to_a_private_destination() -> None:
    """Whether it can be reached is for the http rules to say."""
    secrets = '[[grants.secrets]]\nname = "s"\nhosts = ["10.0.0.5", "localhost", "10.0.0.0/8"]\n'
    assert load_policy(HEAD + secrets).grants.secrets[0].hosts == ("10.0.0.5", "localhost", "10.0.0.0/8")


def test_an_overlong_value_is_not_repeated() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        load_policy({"schema": 1, "name": "x", "grants": {"config": {"key": "secret" * 1000}}})
    assert caught.value.value is None
    assert "secret" not in str(caught.value)
