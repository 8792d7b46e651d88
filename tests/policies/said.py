"""Policies and wants as people write them: TOML out of values, and strategies that draw the values.

The hosts are chosen so that every pattern has a host in `requests` that it alone covers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PATTERNS: Final = (
    "*",
    "example.com",
    "a.example.com",
    "*.example.com",
    "*.a.example.com",
    "other.net",
    "93.184.216.34",
    "93.184.216.0/24",
    "93.184.0.0/16",
    "2606:4700::1",
    "2606:4700::/32",
)
PAIRS: Final = ("10.0.0.5:8080", "a.example.com:8080", "db.internal:443", "[fd00::1]:443")
LIMITS: Final = {
    "cpu_ms": (1, 60_000),
    "wall_ms": (1, 600_000),
    "memory_bytes": (65_536, 1 << 32),
    "table_elements": (1, 100_000),
    "output_bytes": (1, 64 << 20),
    "log_lines": (0, 10_000),
    "log_bytes": (0, 1 << 20),
    "host_calls": (0, 1_000_000),
    "egress_requests": (0, 10_000),
    "egress_bytes": (0, 1 << 30),
    "concurrency": (1, 1000),
}
_TEXT: Final = st.text(st.characters(codec="utf-8", exclude_characters="\x7f"), max_size=20)


def toml(values: Mapping[str, Any]) -> str:
    """A TOML document of these values."""
    return "".join(f"{_text(key)} = {_inline(value)}\n" for key, value in values.items())


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key)} = {_inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    # What JSON escapes TOML escapes in the same way, but for this one.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def camel_keys(values: Any, *, named: bool = False) -> Any:
    """The same with keys as JSON spells them; `named` where the keys are names that somebody chose."""
    if isinstance(values, Mapping):
        return {
            key if named else _camel(key): camel_keys(entry, named=key == "config")
            for key, entry in values.items()
        }
    return [camel_keys(entry) for entry in values] if isinstance(values, list) else values


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(map(str.capitalize, tail))


def some(values: tuple[Any, ...], *, least: int = 1, most: int = 3) -> st.SearchStrategy[list[Any]]:
    """Some of these, each once."""
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True)


def maybe(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with some of its optional keys."""
    return st.fixed_dictionaries(required, optional=optional)


def _stores(count: str) -> st.SearchStrategy[dict[str, Any]]:
    return maybe(
        {"access": st.sampled_from(["read", "read_write"])},
        {"max_bytes": st.integers(0, 4), count: st.integers(0, 4)},
    )


_PARTS: Final = {
    "schemes": some(("https", "http"), most=2),
    "methods": some(METHODS),
}
_HOSTS: Final = {"hosts": some(PATTERNS, most=4)}
_PRIVATE: Final = {"private": some(PAIRS)}
RULES: Final = st.one_of(
    maybe(_HOSTS, _PARTS | _PRIVATE | {"ports": some((80, 443, 8080))}),
    maybe(_PRIVATE, _PARTS),
)
_SECRETS: Final = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["one", "two", "my_key"]), "hosts": some(PATTERNS[1:])}),
    max_size=3,
    unique_by=lambda secret: secret["name"],
)
_SAME: Final = {
    "clock": st.booleans(),
    "random": st.booleans(),
    "kv": _stores("max_keys"),
    "files": _stores("max_files"),
    "http": st.lists(RULES, max_size=3),
    "secrets": _SECRETS,
}
_NAMES: Final = ("region", "my_key", "a.b")
_LIMITS: Final = {name: st.integers(least, most) for name, (least, most) in LIMITS.items()}
#: The tables of a definition that say what it wants.
WANTS: Final = maybe(
    {"wants": maybe({}, _SAME | {"config": some(_NAMES, least=0)})},
    {
        "limits": maybe({}, _LIMITS | {"fuel": st.integers(1, 10**15)}),
    },
)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """A policy that holds."""
    config = st.dictionaries(st.sampled_from(_NAMES), _TEXT, max_size=3)
    policy = draw(
        maybe(
            {
                "schema": st.just(1),
                "name": st.sampled_from(["x", "my-policy_1"]),
                "grants": maybe({}, _SAME | {"config": config}),
            },
            {
                "description": _TEXT,
                "engine": st.sampled_from(["fast", "deterministic"]),
                "limits": maybe({}, _LIMITS),
            },
        )
    )
    if policy.get("engine") == "deterministic" and draw(st.booleans()):
        policy.setdefault("limits", {})["fuel"] = draw(st.integers(1, 10**15))
    return policy


@st.composite
def versions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two policies that have much in common, as those before and after a change."""
    old, other = draw(policies()), draw(policies())
    new = copy.deepcopy(old)
    for table in ("grants", "limits"):
        theirs = other.get(table, {})
        for key in draw(st.sets(st.sampled_from(sorted(theirs)))) if theirs else ():
            mine = new.setdefault(table, {})
            if key == "http" and "http" in mine:
                # One rule more, or one of the old ones changed in one of its keys.
                mine[key] += theirs[key][:1]
                rule, changed = mine[key][0], theirs[key][:1]
                for name in ("methods", "schemes"):
                    if changed and name in changed[0]:
                        rule[name] = changed[0][name]
            elif key in ("kv", "files") and key in mine:
                mine[key] = mine[key] | theirs[key]
            elif key != "fuel":
                mine[key] = theirs[key]
    return old, new
