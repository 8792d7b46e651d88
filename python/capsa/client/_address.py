"""Where the server is, what it is shown, and which way leads there."""

from __future__ import annotations

import ipaddress
import os
import urllib.request
from typing import Final

import msgspec
from aiohttp import encode_basic_auth
from yarl import URL

#: Where the key is looked for; the server looks there too.
ENVIRONMENT: Final = "CAPSA_ADMIN_KEY"


class Address(msgspec.Struct, frozen=True):
    """Where the server is.

    Attributes:
        base: The URL that paths are added to, without a slash at its end.
        shown: As it may be said in messages.
        socket: The path of a socket in the file system; ``None`` over TCP.
    """

    base: str
    shown: str
    socket: str | None = None


def address(url: object) -> Address:
    """Reads ``http://host:port``, ``https://host`` or ``unix:/path``.

    Raises:
        TypeError: It is not a text.
        ValueError: It is none of these, or holds more than an address and a path.
    """
    if not isinstance(url, str):
        raise TypeError(f"the URL is a text, not {type(url).__name__}")
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        path = path[2:] if path.startswith("///") else path
        if not path.startswith("/") or "\0" in path:
            raise ValueError("a socket is named by its whole path, as unix:/run/capsa.sock")
        return Address("http://localhost", f"unix:{path}", path)
    try:
        parsed = URL(url)
    except ValueError:
        # What stands in it may be a secret.
        raise ValueError("this is not a URL; use http://host:port, https://host or unix:/path") from None
    if parsed.scheme not in ("http", "https") or not parsed.raw_host:
        raise ValueError("the URL begins with http://, https:// or unix:/")
    if parsed.raw_user is not None or parsed.raw_password is not None:
        raise ValueError("the URL holds no name or password: the key is an argument of its own")
    if parsed.raw_query_string or parsed.raw_fragment:
        raise ValueError("the URL holds an address and a path only")
    base = str(parsed).rstrip("/")
    return Address(base, base)


def key(given: object) -> str | None:
    """The key as given, or from the environment; ``None`` where there is none.

    Raises:
        TypeError: It is not a text.
        ValueError: No header could carry it. It is not said back.
    """
    if given is None:
        given = os.environ.get(ENVIRONMENT, "").strip() or None
        if given is None:
            return None
    if not isinstance(given, str):
        raise TypeError(f"the key is a text, not {type(given).__name__}")
    if not given or not (given.isascii() and given.isprintable()) or " " in given:
        raise ValueError("the key is not printable ASCII without spaces")
    return given


class Proxy(msgspec.Struct, frozen=True):
    """What leads to the server.

    Attributes:
        url: Where it is, without a password.
        headers: What it alone is shown.
    """

    url: str
    headers: dict[str, str]


def proxy(where: Address) -> Proxy | None:
    """The proxy that the environment names for an address; none for this machine.

    Raises:
        ValueError: What it names is no URL.
    """
    url = URL(where.base)
    host = url.host or ""
    if where.socket is not None or _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    named = urllib.request.getproxies().get(url.scheme)
    if not named:
        return None
    try:
        through = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        # A password may stand in it.
        raise ValueError(f"what the environment names as {url.scheme} proxy is not a URL") from None
    if through.user is None:
        return Proxy(str(through), {})
    shown = encode_basic_auth(through.user, through.password or "")
    return Proxy(str(through.with_user(None)), {"Proxy-Authorization": shown})


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
