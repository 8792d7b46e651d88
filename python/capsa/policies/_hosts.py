"""Host patterns: which hosts a rule means, in one canonical spelling, and which pattern covers which.

A pattern is an exact name or address, ``*.suffix`` (any depth, not the suffix itself), a network in CIDR, or ``*`` for
any public host. Canonical: names are ASCII, in lower case, without a dot at the end; addresses are in their shortest
form, those of IPv6 without brackets; so two patterns mean the same exactly if they are the same text.

Addresses that are not public stand in no pattern: they are reached through ``host:port`` pairs (`private_pair`) alone.
The guard looks at the addresses once more when a request is made; what is refused here could never have had an effect.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["any", "name", "suffix", "network"]
Network: TypeAlias = IPv4Network | IPv6Network

#: Characters of a host name in its canonical form.
MAX_NAME: Final = 253
#: Characters of a pattern that is looked at: the longest name, in any script, with ``*.`` and a port.
MAX_TEXT: Final = 512
_ANY: Final = "*"
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
#: What a browser takes for a number of an IPv4 address: so no name ends in it.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

#: Both registries of special-purpose addresses (IANA) whole, what an IPv4 address is embedded in, what is not given to
#: anybody, and the one public address at which a cloud's own services answer. The narrower of two comes first. The guard
#: has the same table (`capsa-egress`, `address.rs`).
SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), name)
    for network, name in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "Azure platform"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "IETF protocols"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relays"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "local NAT64"),
        ("100::/64", "discard"),
        ("100:0:0:1::/64", "dummy"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "IETF protocols"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        # All but 2000::/3, from which alone addresses are given.
        ("::/3", "unassigned"),
        ("4000::/2", "unassigned"),
        ("8000::/1", "unassigned"),
    )
)


class Unfit(ValueError):
    """A text that is not what its field takes.

    Attributes:
        detail: What is wrong; goes on behind the name of the field, as in "is too wide".
        remedy: What to write instead.
    """

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy


class Pattern(NamedTuple):
    """A host pattern, taken apart.

    Attributes:
        kind: An address is a network of one.
        value: The name, or the suffix without ``*.``; empty for the other kinds.
        network: Of an address or a network.
    """

    kind: Kind
    value: str = ""
    network: Network | None = None


def host_pattern(text: str) -> str:
    """A pattern of an http rule's ``hosts``, in its canonical spelling.

    Raises:
        Unfit: It is none, it is wider than a pattern may be, or its addresses are not all public.
    """
    pattern = _pattern(text)
    network = parse_pattern(pattern).network
    if network is not None:
        _check_public(network)
    return pattern


def secret_host(text: str) -> str:
    """A pattern of a secret's ``hosts``, in its canonical spelling.

    Never any host; but an address need not be public: whether it can be reached is for the http rules to say.

    Raises:
        Unfit: It is none.
    """
    if text == _ANY:
        raise Unfit("would let the secret go anywhere", 'name the hosts that it is for, as "api.example.com"')
    return _pattern(text)


def private_pair(text: str) -> str:
    """One ``host:port``, in its canonical spelling; an IPv6 address stands in brackets.

    Raises:
        Unfit: It is none.
    """
    example = 'write host:port, as "10.0.0.5:8080" or "[fd00::1]:8080"'
    if "://" in text or "/" in text:
        raise Unfit("is a URL or a network", example)
    if "*" in text:
        raise Unfit("has a *", f"a private destination is named exactly; {example}")
    host, colon, port = text.rpartition(":")
    if not colon or not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise Unfit("is not host:port", example)
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65_535:
        raise Unfit("has no port from 1 to 65535", example)
    address = _address(host)
    if isinstance(address, IPv6Address):
        return f"[{address}]:{port}"
    return f"{address or _name(host)}:{port}"


def parse_pattern(text: str) -> Pattern:
    """Takes a canonical pattern apart."""
    if text == _ANY:
        return Pattern("any")
    if text.startswith("*."):
        return Pattern("suffix", text[2:])
    # A name never has a colon, and never ends in a number.
    if ":" in text or text.rpartition(".")[2].partition("/")[0].isdecimal():
        return Pattern("network", network=ip_network(text))
    return Pattern("name", text)


def is_localhost(pattern: str) -> bool:
    """Whether a canonical pattern means this machine by its name (RFC 6761)."""
    return pattern.removeprefix("*.").rpartition(".")[2] == "localhost"


def special(network: Network) -> str | None:
    """What the special addresses are for that a network overlaps; ``None`` where all of its addresses are public."""
    return next(
        (
            f"{name}, {other}"
            for other, name in SPECIAL
            if other.version == network.version and other.overlaps(network)
        ),
        None,
    )


def _pattern(text: str) -> str:
    if text == _ANY:
        return text
    if "://" in text:
        raise Unfit("is a URL", "write the host alone, without scheme, port and path")
    if text.startswith("*."):
        return _suffix(text)
    if "*" in text:
        raise Unfit(
            "has a * inside", 'write "*." and a suffix, as "*.example.org", or "*" for any public host'
        )
    if "/" in text:
        return _cidr(text)
    address = _address(text)
    if address is not None:
        return str(address)
    name, colon, port = text.rpartition(":")
    if colon and port.isdecimal():
        raise Unfit("has a port", f'write the host alone, as "{name}", and ports = [{port[:5]}]')
    return _name(text)


def _suffix(text: str) -> str:
    name = _name(text[2:])
    if "." not in name:
        raise Unfit("is too wide", f'name at least two parts behind the star, as "*.example.{name}"')
    return f"*.{name}"


def _cidr(text: str) -> str:
    address, _, length = text.partition("/")
    try:
        if not re.fullmatch(r"[0-9]{1,3}", length):
            raise ValueError
        network = ip_network(text, strict=False)
    except ValueError:
        raise Unfit(
            "is no network", 'write it as "93.184.216.0/24"; a path is not part of a host pattern'
        ) from None
    # `strict` would refuse these too, but not name the network.
    if ip_address(address) != network.network_address:
        raise Unfit("has bits set behind its prefix", f'write "{network}", or the address alone')
    # A network of one is an address.
    return str(network if network.num_addresses > 1 else network.network_address)


def _check_public(network: Network) -> None:
    name = special(network)
    if name is None:
        return
    if network.num_addresses > 1:
        raise Unfit(
            f"holds addresses that are not public ({name})",
            'name each of them with its port, as private = ["10.0.0.5:8080"], and only public networks here',
        )
    address = network.network_address
    host = f"[{address}]" if address.version == 6 else address
    raise Unfit(f"is not a public address ({name})", f'name it with its port, as private = ["{host}:8080"]')


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address; ``None`` where the text can only be a name."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in inner and ":" in inner:
        raise Unfit("has a zone", "leave out the % and what is behind it")
    try:
        address = ip_address(inner)
    except ValueError:
        if inner.count(":") > 1 or inner != text:
            raise Unfit("is no address", 'write it as "2606:2800:21f::1"') from None
        return None
    if inner != text and address.version == 4:
        raise Unfit("has brackets", f'write "{address}"')
    # The guard sees through this form too.
    return getattr(address, "ipv4_mapped", None) or address


def _name(text: str) -> str:
    """A host name as the guard compares it."""
    name = (_to_ascii(text) if not text.isascii() else text.lower()).removesuffix(".")
    if not name:
        raise Unfit("has no name", 'write a host name, as "api.example.com"')
    if len(name) > MAX_NAME:
        raise Unfit(f"has more than {MAX_NAME} characters", "write the whole name as it is looked up")
    labels = name.split(".")
    for label in labels:
        if not label:
            raise Unfit("has an empty part", "write one dot between two parts")
        if not _LABEL.fullmatch(label):
            raise Unfit(
                f"has the part {label[:63]!r}",
                "a part has 1 to 63 of a-z, 0-9, - and _, and no - at its ends",
            )
        if label.startswith("xn--"):
            _check_punycode(label)
    if _NUMBER.fullmatch(labels[-1]):
        raise Unfit("ends in a number, so it is read as an address", _ipv4_remedy(labels))
    return name


def _to_ascii(text: str) -> str:
    """A name as browsers look it up (UTS 46, not transitional), if IDNA 2008 knows it too."""
    import idna

    try:
        return idna.encode(text, uts46=True).decode("ascii")
    except UnicodeError as error:
        raise Unfit(
            f"has no ASCII form: {str(error)[:120]}", 'write the name in its ASCII form ("xn--…")'
        ) from None


def _check_punycode(label: str) -> None:
    import idna

    try:
        right = idna.alabel(idna.ulabel(label)).decode("ascii") == label
    except UnicodeError:
        right = False
    if not right:
        raise Unfit(f"has the part {label!r}, which stands for nothing", "write the name as people read it")


def _ipv4_remedy(labels: list[str]) -> str:
    """Names the address that a browser would read; such spellings hide where a request goes."""
    try:
        parts = [_ipv4_number(label) for label in labels]
        *high, last = parts
        if len(parts) > 4 or any(part > 255 for part in high) or last >= 256 ** (5 - len(parts)):
            raise ValueError
        value = last + sum(part * 256 ** (3 - place) for place, part in enumerate(high))
    except ValueError:
        return 'write an address as "93.184.216.34", or a whole name'
    return f'write "{IPv4Address(value)}" if that is meant'


def _ipv4_number(label: str) -> int:
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if len(label) > 1 and label.startswith("0") else 10)
