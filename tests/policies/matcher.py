"""Who may send what where: the rules of the contract once more, one request at a time and without any shortcut.

Knows nothing of `capsa.policies`: it reads what people write, or the JSON that goes to native code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

HOSTS: Final = (
    "example.com",
    "a.example.com",
    "b.example.com",
    "x.a.example.com",
    "other.net",
    "else.org",
    "db.internal",
    "93.184.216.34",
    "93.184.216.35",
    "93.184.1.1",
    "2606:4700::1",
    "2606:4700::2",
    "10.0.0.5",
    "fd00::1",
)
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


class Request(NamedTuple):
    """One request, as far as rules look at it.

    Attributes:
        inside: Whether the host turns out to be at an address that is not public.
    """

    scheme: str
    host: str
    port: int
    method: str
    inside: bool


def requests() -> Iterator[Request]:
    """Every request of a small world."""
    for scheme, host, port, method in itertools.product(("https", "http"), HOSTS, (80, 443, 8080), _METHODS):
        if host[0] in "1f" and not host.startswith("e"):
            yield Request(scheme, host, port, method, True)
        elif host[0].isdigit():
            yield Request(scheme, host, port, method, False)
        else:
            # A name may turn out to be anywhere.
            yield Request(scheme, host, port, method, False)
            yield Request(scheme, host, port, method, True)


REQUESTS: Final = tuple(requests())


def host_matches(pattern: str, host: str) -> bool:
    """Whether a pattern means a host."""
    is_address = host[0].isdigit() or ":" in host
    if pattern == "*":
        return not is_address or ip_address(host).is_global
    if pattern.startswith("*."):
        return not is_address and host.endswith(pattern[1:])
    if "/" in pattern:
        return is_address and ip_address(host) in ip_network(pattern)
    return pattern == host


def rule_matches(rule: Mapping[str, Any], request: Request) -> tuple[bool, bool]:
    """Whether a rule matches a request by its hosts, and whether by its private pairs."""
    if request.scheme not in rule.get("schemes", ["https"]):
        return False, False
    if request.method not in rule.get("methods", ["GET", "HEAD"]):
        return False, False
    ports = rule.get("ports") or [_DEFAULT_PORTS[request.scheme]]
    hosts = rule.get("hosts", [])
    by_host = request.port in ports and any(host_matches(pattern, request.host) for pattern in hosts)
    shown = f"[{request.host}]" if ":" in request.host else request.host
    return by_host, f"{shown}:{request.port}" in rule.get("private", [])


def wanted(rules: list[dict[str, Any]], request: Request) -> bool:
    """Whether the side of the definition has a rule for it."""
    return any(any(rule_matches(rule, request)) for rule in rules)


def allowed(rules: list[dict[str, Any]], request: Request) -> bool:
    """Whether the side of the policy has a rule for it: what is inside has to be named."""
    found = [rule_matches(rule, request) for rule in rules]
    return any(private or (by_host and not request.inside) for by_host, private in found)
