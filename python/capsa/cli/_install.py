"""The command ``install``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from capsa.cli._arguments import add_place, add_store_or_server, is_url, path
from capsa.cli._output import Answer, short_hash
from capsa.cli._policy import in_force_lines, read_policy
from capsa.cli._store import client_of
from capsa.cli._usage import Commands, add_command
from capsa.errors import WrongKind
from capsa.wire import installed_json, policy_json

if TYPE_CHECKING:
    from capsa import Store
    from capsa.client import Client


def add_commands(commands: Commands) -> None:
    """Adds ``install``."""
    install = add_command(
        commands,
        "install",
        _install,
        "install a capsule into a store, which is made if there is none",
        "Installs a capsule, or its next version, into a store. The store is made if there is none; "
        "the same file again changes nothing.",
    )
    add_store_or_server(install)
    install.add_argument("spec", type=path, metavar="SPEC", help="a YAML spec or a component")
    add_place(install)
    install.add_argument(
        "--policy",
        metavar="POLICY",
        help="of a tool: what it is allowed, a file or the name of a ready policy; left out, what it was allowed before",
    )


def _install(chosen: argparse.Namespace) -> Answer:
    import capsa
    from capsa.capsules import read_source

    # Before the store is made: what does not hold leaves nothing behind.
    read = read_source(chosen.spec)
    policy = None if chosen.policy is None else read_policy(chosen.policy)
    if policy is not None and read.tool is None:
        raise WrongKind(
            f"{read.name} is a decision capsule, which can be granted nothing", remedy="leave out --policy"
        )
    opened: Store | Client
    if is_url(chosen.store):
        opened = client_of(chosen.store)
    else:
        opened = capsa.open(chosen.store, retention=None, upkeep=False)
    with opened as store:
        job = store.tenant(chosen.tenant).job(chosen.job)
        result = job.installed(chosen.spec)
        capsule = job.capsule(result.capsule)
        in_force = capsule.set_policy(policy) if policy is not None else None
        if in_force is None and read.tool is not None:
            in_force = capsule.policy
        what = "is unchanged" if result.unchanged else "is installed"
        line = f"{capsule.name} v{result.version} {what} ({short_hash(result.digest)}…)"
    told = installed_json(chosen.tenant, chosen.job, result, dry_run=False)
    lines = [line, *(f"  {change}" for change in result.changes)]
    if in_force is not None:
        told["policy"] = policy_json(in_force)
        lines += [f"policy: {in_force.policy['name']}", *in_force_lines(in_force)]
    return Answer(told, lines)
