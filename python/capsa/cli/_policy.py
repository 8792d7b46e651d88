"""``capsa policy …``: capability policies as files, and as tools have them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from capsa.cli._arguments import add_capsule, add_json, path
from capsa.cli._output import Answer, short_hash, short_time, size
from capsa.cli._store import opened_capsule
from capsa.cli._usage import Commands, add_command
from capsa.wire import policy_json

if TYPE_CHECKING:
    from capsa.decisions._tools import PolicyInForce
    from capsa.policies import Grants, HttpRule, Limits, Policy

_POLICY_HELP = (
    "a TOML or JSON file, or the name of a ready policy (pure, read-only-http, tool-default, trusted)"
)

_INTERFACES: Final = ("clock", "random", "config", "kv", "files", "http", "secrets")


def add_commands(commands: Commands) -> None:
    """Adds ``policy check | diff`` of files, and ``policy show | set | explain`` of tools."""
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
    show = add_command(
        commands,
        "policy show",
        _show,
        "show what a tool is allowed",
        "Shows the capability policy of a tool, and what of it is in effect: what its definition wants, too.",
    )
    add_capsule(show)
    set_ = add_command(
        commands,
        "policy set",
        _set,
        "set what a tool is allowed",
        "Sets the capability policy of a tool, from its next call on, and shows what is new in it.",
    )
    add_capsule(set_)
    set_.add_argument("policy", metavar="POLICY", help=_POLICY_HELP)
    explain = add_command(
        commands,
        "policy explain",
        _explain,
        "tell whether a tool may do something, and why",
        "Tells whether a tool may do something, by which rule, and what would have to be granted. Nothing is done.",
    )
    add_capsule(explain)
    explain.add_argument(
        "target",
        metavar="TARGET",
        help="a URL, the path of a file, kv:KEY, secret:NAME or config:NAME",
    )
    explain.add_argument(
        "--method",
        choices=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
        default="GET",
        help="of a request; of a file and a key GET and HEAD ask about reading, any other about writing (default: GET)",
    )


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


def in_force_lines(found: PolicyInForce) -> Iterator[str]:
    """What of a policy is in effect, and whether the tool can be called under it."""
    http = found.effective["http"]
    granted = {**found.effective, "http": http["wanted"] and http["allowed"]}
    given = [name for name in _INTERFACES if granted[name]]
    yield f"in effect: {', '.join(given) or 'nothing but log'}"
    if found.not_granted:
        yield f"! imported, and not granted: {', '.join(found.not_granted)}; so the tool cannot be called"


def _show(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        found = capsule.policy
    return Answer(policy_json(found), _show_lines(found))


def _show_lines(found: PolicyInForce) -> Iterator[str]:
    from capsa.policies import load_policy

    yield from _policy_lines(load_policy(found.policy))
    if found.at is not None:
        yield f"set by {found.by}, {short_time(found.at)}"
    yield from in_force_lines(found)


def _set(chosen: argparse.Namespace) -> Answer:
    from capsa.policies import diff, load_policy

    new = read_policy(chosen.policy)
    with opened_capsule(chosen) as capsule:
        before = capsule.policy
        # What is shown as new is so against what is replaced.
        found = capsule.set_policy(new, if_digest=before.digest)
    changes = diff(load_policy(before.policy), new)
    lines = [f"{chosen.capsule} has the policy {new.name} ({short_hash(found.digest)}…)", *changes.lines()]
    return Answer({**policy_json(found), "changes": changes.to_json()}, [*lines, *in_force_lines(found)])


def _explain(chosen: argparse.Namespace) -> Answer:
    with opened_capsule(chosen) as capsule:
        found = capsule.explain(chosen.target, chosen.method)
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
