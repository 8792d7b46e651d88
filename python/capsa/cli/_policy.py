"""``capsa policy …``: capability policies as files."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsa.cli._arguments import add_json, path
from capsa.cli._output import Answer, short_hash, size
from capsa.cli._usage import Commands, add_command

if TYPE_CHECKING:
    from capsa.policies import Effective, Grants, HttpRule, Limits, Policy

_POLICY_HELP = (
    "a TOML or JSON file, or the name of a ready policy (pure, read-only-http, tool-default, trusted)"
)


def add_commands(commands: Commands) -> None:
    """Adds ``policy check`` and ``policy diff``."""
    check = add_command(
        commands,
        "policy check",
        _check,
        "check a capability policy and show what it grants",
        "Reads a capability policy whole, and shows what it grants at most, defaults included. What is not shown is denied.",
    )
    check.add_argument("policy", metavar="FILE", help=_POLICY_HELP)
    add_json(check)
    diff = add_command(
        commands,
        "policy diff",
        _diff,
        "show which authority is new in a policy",
        "Compares what two capability policies grant, not how they are written: + is new, - is gone.",
    )
    diff.add_argument("old", metavar="OLD", help=_POLICY_HELP)
    diff.add_argument("new", metavar="NEW", help=_POLICY_HELP)
    add_json(diff)


def read_policy(text: str) -> Policy:
    """The policy that an argument names: a ready one or a file.

    Raises:
        InvalidPolicy: It does not hold.
        OSError: The file cannot be read.
    """
    from capsa.policies import READY, load_policy, ready_policy

    return ready_policy(text) if text in READY else load_policy(_file(text))


def show_answer(policy: Policy) -> Answer:
    """What a policy grants at most, as ``policy check`` and ``policy show`` print it."""
    return Answer({"digest": policy.digest, "policy": policy.to_json()}, _policy_lines(policy))


def explain_answer(effective: Effective, target: str, method: str = "GET") -> Answer:
    """Whether a capsule may do something, as ``policy explain`` prints it; denied is no failure."""
    from capsa.policies import explain

    found = explain(effective, target, method)
    return Answer(found.to_json(), found.lines())


def _check(chosen: argparse.Namespace) -> Answer:
    return show_answer(read_policy(chosen.policy))


def _diff(chosen: argparse.Namespace) -> Answer:
    from capsa.policies import diff

    found = diff(read_policy(chosen.old), read_policy(chosen.new))
    return Answer(found.to_json(), found.lines())


def _file(text: str) -> Path:
    from capsa.errors import InvalidPolicy
    from capsa.policies import READY

    try:
        return path(text)
    except argparse.ArgumentTypeError:
        raise InvalidPolicy(
            "the name of the policy is empty", pointer="", remedy=f"name a file, or one of {', '.join(READY)}"
        ) from None


def _policy_lines(policy: Policy) -> Iterator[str]:
    yield f"{policy.name}: engine {policy.engine}, {short_hash(policy.digest)}…"
    if policy.description:
        yield f"  {policy.description}"
    grants = list(_grant_lines(policy.grants))
    yield from grants or ["  grants nothing but log"]
    yield from _limit_lines(policy.limits)


def _grant_lines(grants: Grants) -> Iterator[str]:
    if grants.clock:
        yield "  clock"
    if grants.random:
        yield "  random"
    for name, text in grants.config.items():
        yield f"  config {name}: {text}"
    if grants.kv is not None:
        yield f"  kv: {_access(grants.kv.access)}, {size(grants.kv.max_bytes)} in {grants.kv.max_keys:,} keys"
    if grants.files is not None:
        files = grants.files
        yield f"  files: {_access(files.access)}, {size(files.max_bytes)} in {files.max_files:,} files"
    for rule in grants.http:
        yield from _rule_lines(rule)
    for secret in grants.secrets:
        yield f"  secret {secret.name}: to {', '.join(secret.hosts)}"


def _rule_lines(rule: HttpRule) -> Iterator[str]:
    methods, schemes = ", ".join(rule.methods), " and ".join(rule.schemes)
    if rule.hosts:
        hosts = ", ".join("any public host" if host == "*" else host for host in rule.hosts)
        ports = f", ports {', '.join(map(str, rule.ports))}" if rule.ports else ""
        yield f"  http: {methods} by {schemes}{ports} to {hosts}"
    if rule.private:
        yield f"  http: {methods} by {schemes} to private {', '.join(rule.private)}"


def _limit_lines(limits: Limits) -> Iterator[str]:
    yield "  limits:"
    shown: list[str] = [f"{name} {most:,}" for name, most in _values(limits) if most is not None]
    # As few lines as can be read.
    for first in range(0, len(shown), 3):
        yield f"    {', '.join(shown[first : first + 3])}"


def _values(limits: Limits) -> Iterable[tuple[str, Any]]:
    return ((name, getattr(limits, name)) for name in limits.__struct_fields__)


def _access(access: str) -> str:
    return "reading" if access == "read" else "reading and writing"
