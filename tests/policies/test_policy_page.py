"""The page about capability policies says every key with its default and range, every rule and ready policy, and does
what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
from msgspec import inspect
from tests.docs.walk import walk

from capsa.policies import READY, Grants, HttpRule, Limits, Method, Policy, Secret
from capsa.policies._model import DEFAULT_FUEL, MAX_HOSTS, MAX_NAMED, MAX_RULES

PAGE: Final = Path(__file__).parents[2] / "docs/policies.md"
TEXT: Final = PAGE.read_text()


def rows(heading: str) -> dict[str, list[str]]:
    """The first table below a heading, by its first column."""
    lines = TEXT[TEXT.index(f"\n{heading}\n") :].split("\n| ", 1)[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:]]
    return {cell[0].strip("`"): cell[1:] for cell in cells}


@pytest.mark.parametrize(
    ("heading", "struct"),
    [
        ("## Every key", Policy),
        ("### `[grants]`", Grants),
        ("### `[[grants.http]]`", HttpRule),
        ("### `[[grants.secrets]]`", Secret),
        ("### `[limits]`", Limits),
    ],
)
def test_every_key_stands_in_its_table(heading: str, struct: type[msgspec.Struct]) -> None:
    """But those that have a table of their own."""
    assert set(rows(heading)) == set(struct.__struct_fields__) - {"grants", "limits"}


def test_limits_have_the_defaults_and_ranges_of_the_code() -> None:
    """To the number."""
    table = rows("### `[limits]`")
    found = inspect.type_info(Limits)
    assert isinstance(found, inspect.StructType)
    for field in found.fields:
        kind: Any = field.type
        while not isinstance(kind, inspect.IntType):
            kind = kind.types[0] if isinstance(kind, inspect.UnionType) else kind.type
        default = DEFAULT_FUEL if field.name == "fuel" else field.default
        assert table[field.name][1:] == [f"{default:,}", f"{kind.ge:,} to {kind.le:,}"], field.name


def test_the_other_numbers_are_those_of_the_code() -> None:
    grants, http = rows("### `[grants]`"), rows("### `[[grants.http]]`")
    assert f"at most {MAX_RULES}" in grants["http"][0]
    assert f"at most {MAX_NAMED}" in grants["secrets"][0]
    assert f"at most {MAX_NAMED}, of 4,096 characters" in grants["config"][0]
    for key in ("hosts", "ports"):
        assert f"at most {MAX_HOSTS}" in http[key][0]
    assert re.findall(r"`([A-Z]+)`", http["methods"][0]) == list(get_args(Method))
    for name, quotas in (
        ("kv", "max_bytes = 1048576, max_keys = 1000"),
        ("files", "max_bytes = 16777216, max_files = 1000"),
    ):
        assert quotas in grants[name][0]


def test_every_ready_policy_and_every_rule_is_named() -> None:
    """Those of the contract."""
    assert list(rows("## Ready ones")) == list(READY)
    table = TEXT[TEXT.index("| rule | |") :].split("\n\n")[0]
    assert set(re.findall(r"`([a-z-]+)`", table)) >= {
        *(
            "scheme",
            "userinfo",
            "host-form",
            "url-form",
            "host",
            "port",
            "method",
            "address",
            "private",
            "unresolved",
        ),
        *("header", "secret-host", "secret", "kv-access", "files-access", "path", "config", "not-granted"),
        "invalid",
    }


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    """From top to bottom."""
    walk(PAGE, tmp_path)
