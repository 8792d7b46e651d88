"""Patterns of hosts: one spelling each, none that reaches what is not public, the same ranges as the guard."""

from __future__ import annotations

import itertools
import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies import matcher
from tests.policies.said import PATTERNS

from capsa.policies._diff import _Cover
from capsa.policies._hosts import (
    SPECIAL,
    Unfit,
    host_pattern,
    parse_pattern,
    private_pair,
    secret_host,
    special,
)

ROOT: Final = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("*", "*"),
        ("API.Example.COM", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("*.Example.com.", "*.example.com"),
        ("intranet", "intranet"),
        ("_dmarc.my_host.example", "_dmarc.my_host.example"),
        ("r3---sn-abc.googlevideo.com", "r3---sn-abc.googlevideo.com"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("www。example。com", "www.example.com"),
        ("\uff21\uff22\uff23.com", "abc.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("93.184.216.34", "93.184.216.34"),
        ("93.184.216.34/32", "93.184.216.34"),
        ("93.184.216.0/24", "93.184.216.0/24"),
        ("::ffff:93.184.216.34", "93.184.216.34"),
        ("2606:4700:0:0::1", "2606:4700::1"),
        ("[2606:4700::1]", "2606:4700::1"),
        ("2606:4700:0::/32", "2606:4700::/32"),
        ("2606:4700::1/128", "2606:4700::1"),
        ("1.com", "1.com"),
        ("4chan.org", "4chan.org"),
    ],
)
def test_there_is_one_spelling(text: str, canonical: str) -> None:
    """Which is its own."""
    assert host_pattern(text) == canonical
    assert host_pattern(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.5:8080", "10.0.0.5:8080"),
        ("LOCALHOST:80", "localhost:80"),
        ("db.internal.:5432", "db.internal:5432"),
        ("[FD00::0001]:443", "[fd00::1]:443"),
        ("[::ffff:10.0.0.5]:80", "10.0.0.5:80"),
        ("93.184.216.34:1", "93.184.216.34:1"),
    ],
)
def test_pairs_have_one_spelling(text: str, canonical: str) -> None:
    """Likewise."""
    assert private_pair(text) == canonical
    assert private_pair(canonical) == canonical


@given(text=st.text(max_size=40) | st.from_regex(r"[a-zA-Z0-9*.:/_\[\]%@ -]{1,40}", fullmatch=True))
def test_any_text_is_a_pattern_or_is_refused(text: str) -> None:
    """What is taken has one spelling, and can be taken apart."""
    for read in (host_pattern, secret_host, private_pair):
        try:
            canonical = read(text)
        except Unfit:
            continue
        assert read(canonical) == canonical
        assert canonical == canonical.lower()
        assert canonical.isascii()
        if read is not private_pair:
            parse_pattern(canonical)


@given(address=st.ip_addresses())
def test_an_address_that_is_not_public_is_in_no_pattern(
    address: object,
) -> None:
    """Python's own table is a part of ours, and the one way in is a private pair."""
    text = str(address)
    host = f"[{text}]" if ":" in text else text
    private_pair(f"{host}:80")
    if not ip_address(text).is_global:
        with pytest.raises(Unfit):
            host_pattern(text)


@given(bits=st.integers(0, 2**32 - 1), length=st.integers(0, 32), inside=st.integers(0, 2**32 - 1))
def test_a_network_that_is_taken_is_public_throughout(bits: int, length: int, inside: int) -> None:
    """Whatever address of it one looks at."""
    network = IPv4Network((bits >> (32 - length) << (32 - length), length))
    try:
        host_pattern(str(network))
    except Unfit:
        return
    assert network[inside % network.num_addresses].is_global


def test_every_range_of_the_registries_is_special() -> None:
    """Each at both ends, and what holds it."""
    for network, name in SPECIAL:
        for address in (network[0], network[-1]):
            assert special(ip_network(address)) is not None, (network, name)
        if network.prefixlen:
            assert special(network.supernet()) is not None


def test_the_guard_has_the_same_ranges() -> None:
    """Read from its table; of IPv6 all that is outside 2000::/3 besides."""
    source = (ROOT / "crates/capsa-egress/src/address.rs").read_text()
    theirs = {
        ip_network(text): name
        for name, text in re.findall(r'"([^"]+) \(([0-9a-f.:]+/\d+)\)"', source.partition("#[cfg(test)]")[0])
    }
    ours = dict(SPECIAL)
    beyond = {IPv6Network("::/3"), IPv6Network("4000::/2"), IPv6Network("8000::/1")}
    assert "GLOBAL_UNICAST_V6: Ipv6Net = v6(0x2000, 0, 0, 0, 3)" in source
    assert {network: name for network, name in ours.items() if network not in beyond} == theirs


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("*", "a.com", True),
        ("*", "*.a.com", True),
        ("*", "93.184.216.0/24", True),
        ("a.com", "*", False),
        ("*.a.com", "b.a.com", True),
        ("*.a.com", "c.b.a.com", True),
        ("*.a.com", "*.b.a.com", True),
        ("*.a.com", "*.a.com", True),
        ("*.a.com", "a.com", False),
        ("*.b.a.com", "*.a.com", False),
        ("*.a.com", "ba.com", False),
        ("b.a.com", "*.b.a.com", False),
        ("a.com", "b.a.com", False),
        ("93.184.216.0/24", "93.184.216.34", True),
        ("93.184.216.0/24", "93.184.217.34", False),
        ("93.184.0.0/16", "93.184.216.0/24", True),
        ("93.184.216.0/24", "93.184.0.0/16", False),
        ("93.184.216.34", "93.184.216.0/24", False),
        ("2606:4700::/32", "2606:4700::1", True),
        ("2606:4700::/32", "2606:4701::1", False),
    ],
)
def test_what_covers_what(wide: str, narrow: str, covers: bool) -> None:
    """Of two patterns."""
    assert bool(_Cover([(wide, 1)]).of(narrow)) is covers


def test_a_pattern_covers_another_if_it_means_all_of_its_hosts() -> None:
    """Every pair, held against the hosts of a small world, in which each pattern has one of its own."""
    for wide, narrow in itertools.product(PATTERNS, repeat=2):
        means_all = all(
            matcher.host_matches(wide, host) for host in matcher.HOSTS if matcher.host_matches(narrow, host)
        )
        assert bool(_Cover([(wide, 1)]).of(narrow)) is means_all, (wide, narrow)
