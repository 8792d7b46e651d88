"""What changes between two policies, or between what two versions of a definition want: which authority is new.

Compared is what is granted, not what is written: a host that a wider pattern covered before is not new, nor is a rule that
was split or moved. Where in doubt, something is called new: a network that only two old ones cover together, for example.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from capsa.policies._hosts import Network, Pattern, parse_pattern
from capsa.policies._model import (
    DEFAULT_PORTS,
    Files,
    HttpRule,
    Kv,
    Method,
    Policy,
    Secret,
    Wants,
    camel,
)

Grant: TypeAlias = Literal["engine", "clock", "random", "config", "kv", "files", "http", "secrets", "limits"]
#: Requests, as scheme, port and method.
_Requests: TypeAlias = frozenset[tuple[str, int, str]]

_NOTHING: Final[_Requests] = frozenset()
_METHODS: Final[tuple[str, ...]] = get_args(Method)


class Change(msgspec.Struct, frozen=True):
    """One piece of authority.

    Attributes:
        grant: Which grant it belongs to.
        name: Which one of them, as Python spells it: a limit, a quota, a name of configuration or of a secret; ``None``
            where the grant has no parts.
        detail: What it is, in words.
    """

    grant: Grant
    name: str | None
    detail: str

    def __str__(self) -> str:
        """``limits.cpu_ms: 50 -> 100``."""
        return f"{self.grant}{f'.{self.name}' if self.name else ''}: {self.detail}"


class Difference(msgspec.Struct, frozen=True):
    """What one side grants and the other does not.

    Attributes:
        new: Authority that was not there.
        gone: Authority that is there no more.
    """

    new: tuple[Change, ...]
    gone: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both sides grant the same."""
        return not self.new and not self.gone

    def to_json(self) -> dict[str, Any]:
        """As JSON spells it."""
        return {
            "same": self.is_empty,
            "new": [_plain(change) for change in self.new],
            "gone": [_plain(change) for change in self.gone],
        }

    def lines(self) -> Iterator[str]:
        """A line for each change: ``+`` new, ``-`` gone."""
        for sign, changes in (("+", self.new), ("-", self.gone)):
            for change in changes:
                yield f"{sign} {change}"
        if self.is_empty:
            yield "the same authority"


def diff(old: Policy | Wants, new: Policy | Wants) -> Difference:
    """Which authority is new, and which is gone.

    Args:
        old: A policy, or what a definition wanted.
        new: The same kind of thing.

    Raises:
        TypeError: One is a policy, and the other is what a definition wants.
    """
    if type(old) is not type(new):
        raise TypeError(f"a {type(old).__name__} cannot be compared with a {type(new).__name__}")
    return Difference(tuple(_gained(old, new, "->")), tuple(_gained(new, old, "<-")))


def _gained(old: Policy | Wants, new: Policy | Wants, arrow: str) -> Iterator[Change]:
    """What `new` has and `old` has not."""
    if isinstance(old, Policy) and isinstance(new, Policy) and old.engine != new.engine:
        yield Change("engine", None, new.engine)
    before = old.grants if isinstance(old, Policy) else old
    after = new.grants if isinstance(new, Policy) else new
    if after.clock and not before.clock:
        yield Change("clock", None, "the time")
    if after.random and not before.random:
        yield Change("random", None, "random numbers")
    yield from _config(before.config, after.config)
    yield from _store("kv", before.kv, after.kv, arrow)
    yield from _store("files", before.files, after.files, arrow)
    yield from _http(before.http, after.http)
    yield from _secrets(before.secrets, after.secrets)
    yield from _limits(old, new, arrow)


def _config(
    before: dict[str, str] | tuple[str, ...], after: dict[str, str] | tuple[str, ...]
) -> Iterator[Change]:
    for name in sorted(after):
        if not isinstance(after, dict) or not isinstance(before, dict):
            if name not in before:
                yield Change("config", name, "its text")
        elif before.get(name) != after[name]:
            yield Change("config", name, repr(after[name]))


def _store(
    grant: Literal["kv", "files"], before: Kv | Files | None, after: Kv | Files | None, arrow: str
) -> Iterator[Change]:
    if after is None:
        return
    names = [name for name in after.__struct_fields__ if name != "access"]
    if before is None:
        quotas = ", ".join(f"{name} {getattr(after, name):,}" for name in names)
        yield Change(grant, None, f"{_words(after.access)}, {quotas}")
        return
    if after.access == "read_write" and before.access == "read":
        yield Change(grant, "access", _words(after.access))
    for name in names:
        was, now = getattr(before, name), getattr(after, name)
        if now > was:
            yield Change(grant, name, _moved(was, now, arrow))


def _limits(old: Policy | Wants, new: Policy | Wants, arrow: str) -> Iterator[Change]:
    for name in new.limits.__struct_fields__:
        was, now = getattr(old.limits, name), getattr(new.limits, name)
        if name == "fuel" and isinstance(new, Policy) and None in (was, now):
            # It is not counted on one side, which has another engine, and that is told already.
            continue
        # What a definition does not limit is for the policy to say.
        if was is not None and (now is None or now > was):
            yield Change("limits", name, _moved(was, now, arrow))


def _secrets(before: tuple[Secret, ...], after: tuple[Secret, ...]) -> Iterator[Change]:
    known = {secret.name: _Cover((host, "") for host in secret.hosts) for secret in before}
    for secret in sorted(after, key=lambda secret: secret.name):
        cover = known.get(secret.name)
        hosts = [host for host in secret.hosts if cover is None or not cover.of(host)]
        if hosts:
            yield Change("secrets", secret.name, f"to {', '.join(hosts)}")


def _http(before: tuple[HttpRule, ...], after: tuple[HttpRule, ...]) -> Iterator[Change]:
    """New requests, those with the same methods, schemes and ports together."""
    requests = [_requests(rule) for rule in before]
    cover = _Cover((host, number) for number, rule in enumerate(before) for host in rule.hosts)
    pairs: dict[str, _Requests] = defaultdict(frozenset)
    for rule in before:
        for pair in rule.private:
            pairs[pair] |= _at_pairs(rule)
    # Many hosts are covered by the same rules.
    joined: dict[frozenset[Any], _Requests] = {}
    hosts: dict[_Requests, dict[str, None]] = defaultdict(dict)
    private: dict[_Requests, dict[str, None]] = defaultdict(dict)
    for rule in after:
        wanted = _requests(rule)
        for host in rule.hosts:
            rules = cover.of(host)
            if rules not in joined:
                joined[rules] = _NOTHING.union(*(requests[number] for number in rules))
            hosts[wanted - joined[rules]][host] = None
        for pair in rule.private:
            private[_at_pairs(rule) - pairs.get(pair, _NOTHING)][pair] = None
    for kind, found in (("", hosts), ("private ", private)):
        for left, names in found.items():
            for methods, places in _grouped(left):
                yield Change("http", None, f"{methods} {_places(places, names, kind)}")


def _requests(rule: HttpRule) -> _Requests:
    return frozenset(
        (scheme, port, method) for scheme, port in rule.destinations() for method in rule.methods
    )


def _at_pairs(rule: HttpRule) -> _Requests:
    # A pair names its port itself.
    return frozenset((scheme, 0, method) for scheme in rule.schemes for method in rule.methods)


def _grouped(requests: _Requests) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Methods, and the schemes and ports that have them all."""
    by_place: dict[tuple[str, int], list[str]] = defaultdict(list)
    for scheme, port, method in sorted(requests, key=lambda each: (*each[:2], _METHODS.index(each[2]))):
        by_place[scheme, port].append(method)
    by_methods: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, methods in by_place.items():
        by_methods[", ".join(methods)].append(place)
    yield from by_methods.items()


def _places(places: list[tuple[str, int]], names: Iterable[str], kind: str) -> str:
    shown = ", ".join("any public host" if name == "*" else name for name in names)
    if kind:
        return f"{kind}{shown} ({', '.join(scheme for scheme, _ in places)})"
    ways = ", ".join(
        scheme if DEFAULT_PORTS[scheme] == port else f"{scheme} {port}" for scheme, port in places
    )
    return f"{shown} ({ways})"


class _Cover:
    """Patterns with what each stands for, found by what they cover."""

    def __init__(self, patterns: Iterable[tuple[str, Any]]) -> None:
        self._found: dict[Any, set[Any]] = defaultdict(set)
        self._lengths: set[int] = set()
        for text, value in patterns:
            pattern = parse_pattern(text)
            if pattern.network is not None:
                self._lengths.add(pattern.network.prefixlen)
            self._found[_key(pattern)].add(value)

    def of(self, text: str) -> frozenset[Any]:
        """What the patterns stand for that cover this one; itself covers it too."""
        found: set[Any] = set()
        for key in self._wider(parse_pattern(text)):
            found |= self._found.get(key, set())
        return frozenset(found)

    def _wider(self, pattern: Pattern) -> Iterator[Any]:
        """The keys of every pattern that covers this one."""
        yield "any"
        yield _key(pattern)
        if pattern.network is not None:
            for length in self._lengths:
                if length < pattern.network.prefixlen:
                    yield _network_key(pattern.network, length)
            return
        rest = pattern.value
        while "." in rest:
            rest = rest.partition(".")[2]
            yield ("suffix", rest)


def _key(pattern: Pattern) -> Any:
    if pattern.network is not None:
        return _network_key(pattern.network, pattern.network.prefixlen)
    return pattern.kind if pattern.kind == "any" else (pattern.kind, pattern.value)


def _network_key(network: Network, length: int) -> tuple[int, int, int]:
    """A network's first bits."""
    return network.version, length, int(network.network_address) >> (network.max_prefixlen - length)


def _words(access: str) -> str:
    return "reading" if access == "read" else "reading and writing"


def _moved(was: int, now: int | None, arrow: str) -> str:
    """``50 -> 100`` from old to new; what is gone is told in the same direction."""
    shown = "as the policy says" if now is None else f"{now:,}"
    return f"{was:,} -> {shown}" if arrow == "->" else f"{shown} -> {was:,}"


def _plain(change: Change) -> dict[str, Any]:
    chosen = change.grant in ("config", "secrets")
    name = change.name if change.name is None or chosen else camel(change.name)
    return {"grant": change.grant, "name": name, "detail": change.detail}
