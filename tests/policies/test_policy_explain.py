"""An explanation is the answer that the capsule would get, by native code; what it says is needed is enough."""

from __future__ import annotations

import json
import tomllib
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies import matcher
from tests.policies.faulty import HEAD
from tests.policies.said import PAIRS, WANTS, policies, toml
from tests.sandbox.keeping import _BEYOND

from capsa import _native
from capsa.errors import InvalidField
from capsa.policies import Effective, Explanation, effective, explain, load_policy, load_wants
from capsa.policies._hosts import Unfit, host_pattern, private_pair, secret_host

DEFINITION: Final = {
    "wants": {
        "config": ["region", "zone"],
        "kv": {"access": "read_write", "max_bytes": 2000},
        "files": {"access": "read"},
        "http": [
            {"hosts": ["*"], "methods": ["GET", "POST"]},
            {"private": ["10.0.0.5:8080"], "schemes": ["http"]},
        ],
        "secrets": [{"name": "stripe", "hosts": ["api.stripe.com"]}, {"name": "mine", "hosts": ["a.com"]}],
    }
}
POLICY: Final = """
[grants]
config = { region = "eu", extra = "x" }
kv = { access = "read" }
files = { access = "read_write" }
[[grants.http]]
hosts = ["api.example.com", "*.example.org", "93.184.216.0/24"]
[[grants.http]]
private = ["10.0.0.5:8080"]
schemes = ["http"]
[[grants.secrets]]
name = "stripe"
hosts = ["*.stripe.com"]
[[grants.secrets]]
name = "theirs"
hosts = ["a.com"]
"""


def both(definition: dict[str, Any] = DEFINITION, policy: str = POLICY) -> Effective:
    return effective(load_wants(definition), load_policy(HEAD + policy), "idempotent")


def asked(target: str, method: str = "GET") -> Explanation:
    return explain(both(), target, method)


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@given(definition=WANTS, policy=policies(), data=st.data())
def test_native_code_agrees_with_the_matcher(
    definition: dict[str, Any], policy: dict[str, Any], data: st.DataObject
) -> None:
    """About the small world, from what was written; names as far as that can be told without looking them up."""
    found = effective(load_wants(definition), load_policy(f"\n{toml(policy)}"), "read")
    wants = definition.get("wants", {}).get("http", [])
    grants = policy.get("grants", {}).get("http", [])
    # All of them in eleven examples.
    for request in matcher.REQUESTS[data.draw(st.integers(0, 10)) :: 11]:
        told = explain(found, f"{request.scheme}://{in_url(request.host)}:{request.port}/", request.method)
        is_name = not (request.host[0].isdigit() or ":" in request.host)
        outside = request._replace(inside=False) if is_name else request
        wanted, allowed = matcher.wanted(wants, request), matcher.allowed(grants, outside)
        assert told.allowed == (wanted and allowed), (request, told)
        if told.allowed:
            assert told.needs_resolving == (
                is_name and not matcher.allowed(grants, request._replace(inside=True))
            )
            assert (told.rule, told.needed) == (None, ())
            assert told.wanted is not None
            assert told.allowed_rule is not None
            assert any(matcher.rule_matches(wants[told.wanted], request))
            assert any(matcher.rule_matches(grants[told.allowed_rule], request))
        else:
            assert told.rule is not None
            assert told.needed


def granted(definition: dict[str, Any], policy: dict[str, Any], told: Explanation) -> Effective:
    """The same with what an explanation says is needed."""
    for needed in told.needed:
        _, in_, rest = needed.partition("[[")
        assert in_, needed
        place, _, rule = rest.partition("]]: ")
        tables, (side, name) = (definition, policy), place.split(".")
        table = tables[side == "grants"].setdefault(side, {})
        added = tomllib.loads("\n".join(f"{part}]" for part in rule.split("], ") if part).replace("]]", "]"))
        table.setdefault(name, []).append(added)
    return effective(load_wants(definition), load_policy(f"\n{toml(policy)}"), "read")


@given(definition=WANTS, policy=policies(), data=st.data())
def test_what_is_needed_is_enough(
    definition: dict[str, Any], policy: dict[str, Any], data: st.DataObject
) -> None:
    """Granted on the sides that it names, the request passes; and no side is named in vain."""
    definition.setdefault("wants", {}).setdefault("http", []).append({"hosts": ["only.wanted.com"]})
    policy.setdefault("grants", {}).setdefault("http", []).append({"hosts": ["only.allowed.com"]})
    request = data.draw(st.sampled_from(matcher.REQUESTS))
    url = f"{request.scheme}://{in_url(request.host)}:{request.port}/"
    found = effective(load_wants(definition), load_policy(f"\n{toml(policy)}"), "read")
    told = explain(found, url, request.method)
    if told.allowed:
        return
    assert ("[[wants.http]]" in str(told.needed)) == (told.wanted is None)
    assert ("[[grants.http]]" in str(told.needed)) == (told.allowed_rule is None)
    assert explain(granted(definition, policy, told), url, request.method).allowed


@given(
    text=st.text(max_size=30)
    | st.from_regex(r"[a-z0-9.:_\[\]-]{1,30}|xn--[a-z0-9-]{1,12}\.com", fullmatch=True)
)
def test_native_code_reads_what_we_take(text: str) -> None:
    """Every pattern that is accepted here is accepted there, and means the same host."""
    for key, read in (("hosts", host_pattern), ("private", private_pair), ("secret", secret_host)):
        try:
            canonical = read(text)
        except Unfit:
            continue
        rule: dict[str, Any] = {
            "hosts": [],
            "schemes": ["https"],
            "ports": [],
            "methods": ["GET"],
            "private": [],
        }
        values = both().to_json()
        if key == "secret":
            values["secrets"] = [{"name": "s", "wanted": [canonical], "allowed": [canonical]}]
        else:
            rule[key] = [canonical]
            values["http"] = {"wanted": [rule], "allowed": [rule]}
        host = in_url(canonical) if key == "hosts" else canonical
        if "/" in host or "*" in host or key == "secret":
            host = "a.com"
        told = _native.explain_url(json.dumps(values), "GET", f"https://{host}/")
        if host != "a.com":
            assert told["allowed"], told


def test_every_pattern_of_the_tables_is_read_by_native_code() -> None:
    """The unusual ones too."""
    for text in (
        "Bücher.example",
        "faß.de",
        "www。example。com",
        "*.ドメイン.example",
        "_a.b_c.com",
        "::ffff:93.184.216.34",
    ):
        rules = {"http": [{"hosts": [text]}]}
        found = effective(
            load_wants({"wants": rules}), load_policy({"schema": 1, "name": "x", "grants": rules}), "read"
        )
        host = text.replace("*.", "a.b.")
        assert explain(found, f"https://{in_url(host)}/").allowed, text
    for pair in PAIRS:
        rules = {"http": [{"private": [pair]}]}
        found = effective(
            load_wants({"wants": rules}), load_policy({"schema": 1, "name": "x", "grants": rules}), "read"
        )
        told = explain(found, f"https://{pair}/")
        assert (told.allowed, told.needs_resolving) == (True, False)


@pytest.mark.parametrize(
    ("method", "url", "rule", "detail", "needed"),
    [
        ("GET", "https://api.example.com/x", None, "GET to api.example.com:443", []),
        ("GET", "https://93.184.216.9", None, "GET to 93.184.216.9:443", []),
        ("GET", "https://x:y@api.example.com", "userinfo", "no user name", ["another URL"]),
        ("GET", "https://a..b", "host-form", "is not a host", ["another URL"]),
        ("GET", "https:///x", "url-form", "HOST", ["another URL"]),
        ("GET", "ftp://a.com", "scheme", "neither http nor https", ["another URL"]),
        ("GET", "https://a.com:0", "port", "no valid port", ["another URL"]),
        ("POST", "https://api.example.com", "method", "by the policy", ['[[grants.http]]: hosts = ["api.example.com"]']),
        ("GET", "https://example.org", "host", "example.org is not granted", ['hosts = ["example.org"], ports = [443]']),
        ("PUT", "https://a.example.org", "method", "PUT", ["[[wants.http]]", 'methods = ["PUT"]']),
        ("GET", "https://api.example.com:8443", "port", "8443", ["[[wants.http]]", "ports = [8443]"]),
        ("GET", "http://api.example.com", "scheme", "http to", ["[[wants.http]]", 'schemes = ["http"]']),
        ("GET", "http://10.0.0.5:8080", None, "GET to 10.0.0.5:8080", []),
        ("GET", "http://0xa.5:8080", None, "GET to 10.0.0.5:8080", []),
        ("GET", "http://10.0.0.5:8081", "private", "private (10.0.0.0/8)", ["[[wants.http]]", 'private = ["10.0.0.5:8081"]']),
        ("GET", "https://[::1]:80", "private", "loopback", ["[[wants.http]]", 'private = ["[::1]:80"]']),
    ],
)  # fmt: skip
def test_urls(method: str, url: str, rule: str | None, detail: str, needed: list[str]) -> None:
    told = asked(url, method)
    assert (told.allowed, told.rule) == (rule is None, rule)
    assert detail in told.detail
    assert len(told.needed) == (0 if rule is None else 1 + ("[[wants.http]]" in needed))
    for words in needed:
        assert any(words in each for each in told.needed), told.needed


@pytest.mark.parametrize(
    ("target", "method", "rule", "detail", "needed"),
    [
        ("kv:a", "GET", None, "kv may be read", []),
        ("kv:a", "HEAD", None, "kv may be read", []),
        ("kv:a", "PUT", "kv-access", "only be read", ['in the policy: kv = { access = "read_write" }']),
        ("kv:", "GET", "invalid", "1 to 256 bytes", ["another key"]),
        (f"kv:{'ü' * 129}", "GET", "invalid", "1 to 256 bytes", ["another key"]),
        (f"kv:{'ü' * 128}", "GET", None, "kv may be read", []),
        ("notes/today.txt", "GET", None, "files may be read", []),
        (
            "notes/today.txt",
            "PUT",
            "files-access",
            "only be read",
            ['in the definition: files = { access = "read_write" }'],
        ),
        ("/etc/passwd", "GET", "path", "absolute", ["inside the capsule's own directory"]),
        ("../other", "GET", "path", "leads out", ["inside"]),
        ("a/../../b", "GET", "path", "leads out", ["inside"]),
        ("a//b", "GET", "invalid", "each part", ["inside"]),
        ("a/./b", "PUT", "invalid", "each part", ["inside"]),
        ("a\\b", "GET", None, "files may be read", []),
        ("a\0b", "GET", "invalid", "control character", ["inside"]),
        ("", "GET", "invalid", "empty", ["inside"]),
        ("secret:stripe", "GET", None, "api.stripe.com as far as they match *.stripe.com", []),
        ("secret:mine", "GET", "secret", "'mine'", ["in the policy, [[grants.secrets]]"]),
        ("secret:theirs", "GET", "secret", "'theirs'", ["in the definition, [[wants.secrets]]"]),
        ("config:region", "GET", None, "'eu'", []),
        ("config:zone", "GET", "config", "'zone'", ["in the policy, under [grants]: config = { zone ="]),
        (
            "config:extra",
            "GET",
            "config",
            "'extra'",
            ['in the definition, under [wants]: config = ["extra"]'],
        ),
        ("config:none", "GET", "config", "'none'", ["definition", "policy"]),
    ],
)
def test_other_targets(target: str, method: str, rule: str | None, detail: str, needed: list[str]) -> None:
    told = asked(target, method)
    assert (told.allowed, told.rule) == (rule is None, rule)
    assert detail in told.detail
    assert len(told.needed) == len(needed)
    for words, each in zip(needed, told.needed, strict=True):
        assert words in each


@pytest.mark.parametrize(
    ("kind", "path"), [(kind, path) for kind, paths in _BEYOND.items() for path in paths]
)
def test_a_path_is_judged_as_for_a_guest(kind: str, path: str) -> None:
    """The table of paths that a guest tries in tests/sandbox: what it is denied, what is invalid, and what is a name."""
    rule = {"denied": "path", "invalid": "invalid", "not-found": None}[kind]
    assert asked(path).rule == rule


@pytest.mark.parametrize(
    ("target", "method", "pointer"),
    [
        ("https://api.example.com", "TRACE", "/method"),
        ("https://api.example.com", "get", "/method"),
        ("kv:a", "BREW", "/method"),
        ("kv:a", "", "/method"),
        ("kv:a", None, "/method"),
        ("kv:a", [], "/method"),
        ("http://\ud800/", "GET", "/target"),
        ("kv:\ud800", "GET", "/target"),
        (b"kv:a", "GET", "/target"),
        (None, "GET", "/target"),
    ],
)
def test_what_nobody_can_ask(target: Any, method: Any, pointer: str) -> None:
    """Is refused, whatever is granted."""
    for found in (both(), both({}, "")):
        with pytest.raises(InvalidField) as caught:
            explain(found, target, method)
        assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("target", "method", "definition", "policy"),
    [
        ("https://a.com", "GET", "[[wants.http]]", "[[grants.http]]"),
        ("kv:a", "GET", 'kv = { access = "read" } under [wants]', 'kv = { access = "read" } under [grants]'),
        ("a.txt", "PUT", 'files = { access = "read_write" } under [wants]', 'access = "read_write" } under [grants]'),
    ],
)  # fmt: skip
def test_an_interface_that_a_side_has_not(target: str, method: str, definition: str, policy: str) -> None:
    """Is not granted as a whole; each side that lacks it is named."""
    nothing = explain(both({}, ""), target, method)
    assert nothing.rule == "not-granted"
    assert definition in nothing.needed[0]
    assert policy in nothing.needed[1]
    [needed] = explain(both({}, POLICY), target, method).needed
    assert definition in needed
    [needed] = explain(both(DEFINITION, ""), target, method).needed
    assert policy in needed


def test_quotas_are_told_to_who_writes() -> None:
    """The smaller ones."""
    found = both(
        {"wants": {"kv": {"access": "read_write", "max_bytes": 2000}}},
        '[grants]\nkv = { access = "read_write" }',
    )
    assert explain(found, "kv:a", "PUT").detail == "kv may be written, at most 2,000 bytes in 1,000 keys"


def test_it_is_told_in_lines_and_in_json() -> None:
    """For a person and for a program."""
    assert list(asked("https://api.example.com/x").lines()) == [
        "allowed: GET to api.example.com:443",
        "  by wants.http[0] of the definition and grants.http[0] of the policy",
        "  if every address that the name has then is public",
    ]
    assert list(asked("https://evil.com").lines()) == [
        "denied: evil.com is not granted by the policy (host)",
        '  needed: in the policy, [[grants.http]]: hosts = ["evil.com"], ports = [443], methods = ["GET"]',
    ]
    assert list(asked("kv:a").lines()) == ["allowed: kv may be read"]
    assert asked("config:zone").to_json() == {
        "target": "config:zone",
        "allowed": False,
        "rule": "config",
        "detail": "no text named 'zone' is granted",
        "needed": ['in the policy, under [grants]: config = { zone = "…" }'],
        "wanted": None,
        "allowedRule": None,
        "needsResolving": False,
    }
