"""Policies and wants from wherever they stand, checked whole."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from capsa.errors import InvalidPolicy, shown
from capsa.policies._document import read_document
from capsa.policies._hosts import is_localhost
from capsa.policies._model import DEFAULT_FUEL, HttpRule, Policy, WantedLimits, Wants
from capsa.policies._read import EITHER, JSON, TOML, read

#: The policies that come with Capsa, from the narrowest to the widest.
READY: Final = ("pure", "read-only-http", "tool-default", "trusted")


def load_policy(source: str | Path | bytes | Mapping[str, Any]) -> Policy:
    """Reads a capability policy.

    Args:
        source: The name of a ready policy (`READY`); a path (a `Path`, or text of one line); TOML (text of several lines,
            as every policy has); JSON (text that begins with a brace); the bytes of either; or a mapping with keys in
            either spelling. What comes from elsewhere belongs into bytes or a mapping: these are never taken for a path.

    Returns:
        The policy with every default written down.

    Raises:
        InvalidPolicy: It does not hold; nothing of it is used.
        OSError: The file cannot be read.
    """
    if isinstance(source, Mapping):
        return _checked(read(Policy, source, EITHER, what="the policy"))
    if isinstance(source, str) and source in READY:
        return ready_policy(source)
    named = f"a file, or one of {', '.join(READY)}"
    try:
        values, is_json = read_document(source, "policy", InvalidPolicy, named=named)
    except FileNotFoundError:
        if difflib.get_close_matches(str(source), READY, n=1):
            ready_policy(str(source))
        raise
    return _checked(read(Policy, values, JSON if is_json else TOML, what="the policy"))


@functools.cache
def ready_policy(name: str) -> Policy:
    """One of the policies that come with Capsa.

    Raises:
        InvalidPolicy: There is none of this name.
    """
    if name not in READY:
        meant = difflib.get_close_matches(name, READY, n=1)
        raise InvalidPolicy(
            f"there is no ready policy {shown(name)!r}",
            pointer="",
            value=shown(name),
            remedy=f"write {meant[0]}" if meant else f"there are {', '.join(READY)}",
        )
    return load_policy(resources.files("capsa.policies").joinpath("ready", f"{name}.toml").read_bytes())


def load_wants(definition: Mapping[str, Any]) -> Wants:
    """Reads what a definition wants.

    Args:
        definition: All of it, with keys in either spelling: ``wants`` and ``limits`` are looked at. Neither has to be
            there; what is not wanted is not granted.

    Raises:
        InvalidPolicy: They do not hold.
    """
    whole = "the definition's wants"
    wants = read(Wants, _without_limits(definition.get("wants", {})), EITHER, what=whole, at="/wants")
    _check_rules(wants.http, "wants.http", "/wants/http")
    limits = read(
        WantedLimits, definition.get("limits", {}), EITHER, what="the definition's limits", at="/limits"
    )
    return msgspec.structs.replace(wants, limits=limits)


def _without_limits(wants: object) -> object:
    # The struct has limits among the wants; in the file they stand beside them.
    if isinstance(wants, Mapping) and "limits" in wants:
        raise InvalidPolicy(
            "the definition's wants have no key 'limits'",
            pointer="/wants/limits",
            value="limits",
            remedy="it stands beside wants, not under it",
        )
    return wants


def _checked(policy: Policy) -> Policy:
    """What no single key can tell."""
    limits = policy.limits
    if policy.engine == "deterministic":
        fuel = DEFAULT_FUEL if limits.fuel is None else limits.fuel
        policy = msgspec.structs.replace(policy, limits=msgspec.structs.replace(limits, fuel=fuel))
    elif limits.fuel is not None:
        raise InvalidPolicy(
            "limits.fuel has no effect in the engine fast",
            pointer="/limits/fuel",
            value=str(limits.fuel),
            remedy='leave it out, or write engine = "deterministic"',
        )
    for number, rule in enumerate(policy.grants.http):
        for place, host in enumerate(rule.hosts):
            if is_localhost(host):
                raise InvalidPolicy(
                    f"grants.http[{number}].hosts[{place}] is this machine, which is not public",
                    pointer=f"/grants/http/{number}/hosts/{place}",
                    value=host,
                    remedy=f'name it with its port, as private = ["{host.removeprefix("*.")}:8080"]',
                )
    _check_rules(policy.grants.http, "grants.http", "/grants/http")
    return policy


def _check_rules(rules: tuple[HttpRule, ...], name: str, at: str) -> None:
    for number, rule in enumerate(rules):
        if not rule.hosts and not rule.private:
            raise InvalidPolicy(
                f"{name}[{number}] names no host",
                pointer=f"{at}/{number}",
                remedy='write hosts = ["api.example.com"], or private = ["10.0.0.5:8080"]',
            )
        if rule.ports and not rule.hosts:
            raise InvalidPolicy(
                f"{name}[{number}].ports has no effect without hosts",
                pointer=f"{at}/{number}/ports",
                value=shown(list(rule.ports)),
                remedy="leave it out: a private destination names its own port",
            )
