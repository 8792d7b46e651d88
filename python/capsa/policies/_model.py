"""What a capability policy says, and what a definition wants: the words, their ranges and what they mean.

The structs are the one place where a key is declared: reading (`_read`), the JSON Schema (`_schema`) and the tests walk
them. Each field's text here is also its text in the schema. Make them with `load_policy` and `load_wants`: a struct that is
made by hand is not checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from capsa import _native
from capsa.policies._hosts import MAX_TEXT, host_pattern, private_pair, secret_host

Engine: TypeAlias = Literal["fast", "deterministic"]
Access: TypeAlias = Literal["read", "read_write"]
Scheme: TypeAlias = Literal["https", "http"]
Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Effect: TypeAlias = Literal["pure", "read", "idempotent", "non_idempotent"]

#: Rules for HTTP, and hosts, ports and private destinations in each.
MAX_RULES: Final = 256
MAX_HOSTS: Final = 256
#: Secrets, and names of configuration.
MAX_NAMED: Final = 64
DEFAULT_PORTS: Final[Mapping[str, int]] = {"https": 443, "http": 80}
#: Instructions of a call in the deterministic engine, where the policy does not say.
DEFAULT_FUEL: Final = 1_000_000_000

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_HOST_SHAPE: Final = r"\*\.[^\s*/@:]+|[^\s*/@]+(/[0-9]{1,3})?"


def _number(least: int, most: int, text: str) -> Meta:
    return Meta(ge=least, le=most, description=text)


def _list(text: str, *, least: int = 1, most: int = MAX_HOSTS) -> Meta:
    """A list without repetitions."""
    return Meta(min_length=least, max_length=most, description=text, extra={"unique": True})


def _text(parse: Callable[[str], str], pattern: str) -> Meta:
    """A text that `parse` reads; the schema can say only roughly what that takes."""
    return Meta(
        min_length=1, max_length=MAX_TEXT, extra={"parse": parse}, extra_json_schema={"pattern": pattern}
    )


class _Part(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False, rename="camel"
):
    """One table of a policy or of what a definition wants."""


_Host: TypeAlias = Annotated[str, _text(host_pattern, rf"^(\*|{_HOST_SHAPE})$")]
_SecretHost: TypeAlias = Annotated[str, _text(secret_host, rf"^({_HOST_SHAPE})$")]
_PrivatePair: TypeAlias = Annotated[str, _text(private_pair, r"^[^\s*/@]+:[1-9][0-9]{0,4}$")]
_SecretName: TypeAlias = Annotated[
    str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$", description="1 to 64 of A-Z, a-z, 0-9, _ and -.")
]
_ConfigName: TypeAlias = Annotated[
    str, Meta(pattern="^[A-Za-z0-9_.-]{1,64}$", description="1 to 64 of A-Z, a-z, 0-9, _, - and point.")
]
_ConfigValue: TypeAlias = Annotated[str, Meta(max_length=4096, description="At most 4,096 characters.")]
_Access: TypeAlias = Annotated[Access, Meta(description="read, or read_write.")]


class Kv(_Part, frozen=True):
    """Values that outlive a call, by key; of one tenant, job and capsule."""

    access: _Access
    max_bytes: Annotated[int, _number(0, _GIB, "Bytes of all keys and values.")] = _MIB
    max_keys: Annotated[int, _number(0, 1_000_000, "Number of keys.")] = 1000


class Files(_Part, frozen=True):
    """Files in a directory of the capsule's own."""

    access: _Access
    max_bytes: Annotated[int, _number(0, 64 * _GIB, "Bytes of all files.")] = 16 * _MIB
    max_files: Annotated[int, _number(0, 1_000_000, "Number of files.")] = 1000


class HttpRule(_Part, frozen=True):
    """Requests that may be made: one of the hosts, schemes, ports and methods each, or a private destination."""

    hosts: Annotated[
        tuple[_Host, ...],
        _list(
            "Names (api.example.com), suffixes (*.example.com: any depth, not example.com itself), public addresses, "
            'public networks (93.184.216.0/24), or "*" for any public host.',
            least=0,
        ),
    ] = ()
    schemes: Annotated[
        tuple[Scheme, ...], _list("https, http or both; http has to be named.", most=len(DEFAULT_PORTS))
    ] = ("https",)
    ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65_535)], ...],
        _list("Ports of the hosts. Left out: the default port of each scheme (443, 80)."),
    ] = ()
    methods: Annotated[tuple[Method, ...], _list("Methods by name.", most=7)] = ("GET", "HEAD")
    private: Annotated[
        tuple[_PrivatePair, ...],
        _list(
            'Exact host:port pairs, as "10.0.0.5:8080": the only way to a private, loopback or other special '
            "address. Hosts may then be left out.",
            least=0,
        ),
    ] = ()

    def destinations(self) -> frozenset[tuple[str, int]]:
        """Scheme and port of every request to one of the hosts."""
        return frozenset(
            (scheme, port) for scheme in self.schemes for port in self.ports or (DEFAULT_PORTS[scheme],)
        )


class Secret(_Part, frozen=True):
    """A secret that the host puts into headers; the capsule never sees it."""

    name: _SecretName
    hosts: Annotated[
        tuple[_SecretHost, ...],
        _list(
            'Where it may be sent, as patterns of http rules but not "*"; over https, or to a private destination.'
        ),
    ]


_CpuMs: TypeAlias = Annotated[int, _number(1, 60_000, "Milliseconds of processor time of a call.")]
_WallMs: TypeAlias = Annotated[int, _number(1, 600_000, "Milliseconds from start to answer, waits included.")]
_Fuel: TypeAlias = Annotated[
    int,
    _number(
        1,
        10**15,
        "Instructions of a call, about; counted by the deterministic engine alone, and 1,000,000,000 there if left out.",
    ),
]
_MemoryBytes: TypeAlias = Annotated[int, _number(65_536, 4 * _GIB, "Bytes of all memories together.")]
_TableElements: TypeAlias = Annotated[int, _number(1, 100_000, "Elements of all tables together.")]
_OutputBytes: TypeAlias = Annotated[
    int, _number(1, 64 * _MIB, "Bytes of one piece that is handed to the host, the answer too.")
]
_LogLines: TypeAlias = Annotated[int, _number(0, 10_000, "Lines of log of a call.")]
_LogBytes: TypeAlias = Annotated[int, _number(0, _MIB, "Bytes of log of a call.")]
_HostCalls: TypeAlias = Annotated[
    int, _number(0, 1_000_000, "Calls of host functions other than log, in one call.")
]
_EgressRequests: TypeAlias = Annotated[int, _number(0, 10_000, "HTTP requests of a call.")]
_EgressBytes: TypeAlias = Annotated[
    int, _number(0, _GIB, "Bytes that a call sends and receives over HTTP, headers and bodies.")
]
_Concurrency: TypeAlias = Annotated[int, _number(1, 1000, "Calls of this capsule at once.")]


class Limits(_Part, frozen=True):
    """What a call may use up."""

    cpu_ms: _CpuMs = 50
    wall_ms: _WallMs = 10_000
    fuel: _Fuel | None = None
    memory_bytes: _MemoryBytes = 64 * _MIB
    table_elements: _TableElements = 100_000
    output_bytes: _OutputBytes = _MIB
    log_lines: _LogLines = 64
    log_bytes: _LogBytes = 16 * _KIB
    host_calls: _HostCalls = 1000
    egress_requests: _EgressRequests = 16
    egress_bytes: _EgressBytes = 10 * _MIB
    concurrency: _Concurrency = 8


class WantedLimits(_Part, frozen=True):
    """What a call of a definition needs at most; what is left out is for the policy to say."""

    cpu_ms: _CpuMs | None = None
    wall_ms: _WallMs | None = None
    fuel: _Fuel | None = None
    memory_bytes: _MemoryBytes | None = None
    table_elements: _TableElements | None = None
    output_bytes: _OutputBytes | None = None
    log_lines: _LogLines | None = None
    log_bytes: _LogBytes | None = None
    host_calls: _HostCalls | None = None
    egress_requests: _EgressRequests | None = None
    egress_bytes: _EgressBytes | None = None
    concurrency: _Concurrency | None = None


_Clock: TypeAlias = Annotated[bool, Meta(description="The time.")]
_Random: TypeAlias = Annotated[bool, Meta(description="Random numbers.")]
_Http: TypeAlias = Annotated[
    tuple[HttpRule, ...],
    Meta(max_length=MAX_RULES, description="Rules; a request has to match one of them."),
]
_Secrets: TypeAlias = Annotated[
    tuple[Secret, ...],
    Meta(
        max_length=MAX_NAMED, description="Secrets by name; the values are kept apart.", extra={"named": True}
    ),
]


class Grants(_Part, frozen=True):
    """What a capsule may touch; what is left out is denied."""

    clock: _Clock = False
    random: _Random = False
    config: Annotated[
        dict[_ConfigName, _ConfigValue],
        Meta(max_length=MAX_NAMED, description="Texts by name, which the capsule may read."),
    ] = {}
    kv: Kv | None = None
    files: Files | None = None
    http: _Http = ()
    secrets: _Secrets = ()


class Wants(_Part, frozen=True):
    """What a definition needs at most: the tables ``wants`` and ``limits`` of a ``capsule.toml``."""

    clock: _Clock = False
    random: _Random = False
    config: Annotated[
        tuple[_ConfigName, ...],
        _list("Names of texts that the policy gives.", least=0, most=MAX_NAMED),
    ] = ()
    kv: Kv | None = None
    files: Files | None = None
    http: _Http = ()
    secrets: _Secrets = ()
    limits: WantedLimits = WantedLimits()

    def to_json(self) -> dict[str, Any]:
        """Everything that is wanted, as JSON spells it; limits that nobody wants are left out."""
        return _plain(self)

    @property
    def digest(self) -> str:
        """``b2:`` and the BLAKE2b-256 of its canonical JSON, in hexadecimal."""
        return digest_of(self.to_json())


class Policy(_Part, frozen=True):
    """A capability policy: what a capsule may touch, and what a call may use up."""

    schema: Annotated[Literal[1], Meta(description="The version of this format: 1.")]
    name: Annotated[
        str,
        Meta(pattern="^[a-z0-9_-]{1,64}$", description="What it is called: 1 to 64 of a-z, 0-9, - and _."),
    ]
    description: Annotated[
        str, Meta(max_length=1024, description="For people; at most 1,024 characters.")
    ] = ""
    engine: Annotated[
        Engine,
        Meta(description="fast; or deterministic: fuel is counted, and a recorded call can be replayed."),
    ] = "fast"
    grants: Grants = Grants()
    limits: Limits = Limits()

    def to_json(self) -> dict[str, Any]:
        """Everything that it says, defaults written down, as JSON spells it; `load_policy` reads it."""
        return _plain(self)

    @property
    def digest(self) -> str:
        """``b2:`` and the BLAKE2b-256 of its canonical JSON, in hexadecimal."""
        return digest_of(self.to_json())


@functools.cache
def camel(name: str) -> str:
    """``read_write`` as ``readWrite``: the one conversion between the two spellings."""
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


def plain_rule(rule: HttpRule) -> dict[str, Any]:
    """A rule with its defaults filled in.

    Ports stay empty where both schemes have their default: 80 and 443 for both of them would be more.
    """
    ports = list(rule.ports)
    if not ports and len(rule.schemes) == 1:
        ports = [DEFAULT_PORTS[rule.schemes[0]]]
    return {
        "hosts": list(rule.hosts),
        "schemes": list(rule.schemes),
        "ports": ports,
        "methods": list(rule.methods),
        "private": list(rule.private),
    }


def plain_store(store: Kv | Files | None) -> dict[str, Any] | None:
    """Access and quotas of kv or files."""
    if store is None:
        return None
    return as_json(store) | {"access": camel(store.access)}


def as_json(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct as JSON has it: with lists, not tuples."""
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(struct))
    return values


def digest_of(values: Mapping[str, Any]) -> str:
    """``b2:`` and the BLAKE2b-256 of values as canonical JSON (RFC 8785): sorted keys, no blanks."""
    return _native.digest(msgspec.json.encode(values, order="sorted"))


def _plain(said: Policy | Wants) -> dict[str, Any]:
    """A policy or wants, as they are read again: absent is what stands for nothing."""
    values = as_json(said)
    grants = values["grants"] if isinstance(said, Policy) else values
    for store in ("kv", "files"):
        if grants[store] is None:
            del grants[store]
        else:
            grants[store]["access"] = camel(grants[store]["access"])
    for rule in grants["http"]:
        if not rule["ports"]:
            del rule["ports"]
    values["limits"] = {name: most for name, most in values["limits"].items() if most is not None}
    return values
