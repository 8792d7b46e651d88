"""Tools for tests of the edges: what they are made of, and as capsules on a server."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

from tests.sandbox import guests
from tests.server.serving import Answer, Served
from tests.server.specs import Installed

from capsa import _native
from capsa.capsules import read_tool_definition

#: Grants everything that the guests here ask for, and records calls.
DETERMINISTIC: Final = b"""\
schema = 1
name = "replayable"
engine = "deterministic"
[grants]
clock = true
random = true
kv = { access = "read_write" }
"""
#: Grants the same in the fast engine.
OPEN: Final = DETERMINISTIC.replace(b'engine = "deterministic"\n', b"")
#: Calls the host at the address that a test gives; nothing answers there.
NOWHERE: Final = "http://127.0.0.1:9/"

_numbers = itertools.count(1)


def component(name: str, guest: guests.Guest, effect: str = "pure", **wants: Any) -> bytes:
    """A tool that can be installed."""
    document: dict[str, Any] = {"schema": 1, "kind": "tool", "name": name, "effect": effect}
    document["summary"] = "For tests."
    if wants:
        document["wants"] = wants
    definition = read_tool_definition(document)
    return _native.embed_tool_definition(guest.bytes, json.dumps(definition.to_json()))


def echo(name: str) -> bytes:
    """Answers what it is sent."""
    return component(name, guests.tool(guests.ECHO))


def remember(name: str) -> bytes:
    """Sets a value, takes it back with `compensate`, and tells what there was."""
    remembers = guests.script(guests.call("kv.get", "k"), guests.call("kv.set", "k", "v"))
    return component(name, remembers, "idempotent", kv={"access": "read_write"})


def compensable(name: str) -> bytes:
    """Answers what it is sent, and can take that back."""
    guest = guests.tool(guests.ECHO, compensate="(i32.store8 (i32.const 64) (i32.const 0)) i32.const 64")
    return component(name, guest)


def fails(name: str, *, retryable: bool = True) -> bytes:
    """Fails in its own words."""
    return component(name, guests.fails("out-of-stock", "nothing is left", int(retryable)))


def spins(name: str) -> bytes:
    """Never ends."""
    return component(name, guests.tool(guests.SPIN))


class Tool(Installed):
    """A tool on a server."""

    def invoke(self, input: Any = None, **more: Any) -> Answer:
        """A call of it."""
        return self.post("/invoke", {"input": input, **more})

    def allow(self, policy: bytes | dict[str, Any], **more: Any) -> Answer:
        """Sets its policy."""
        return self.served.call("PUT", f"{self.path}/policy", policy, **more)


def install(served: Served, make: Any, policy: bytes | None = None) -> Tool:
    """A tool under a name of its own, allowed what `policy` says."""
    tool = Tool(served, f"tool-{next(_numbers)}")
    answered = tool.post("/install", make(tool.name))
    assert answered.status == 200, answered.body
    if policy is not None:
        answered = tool.allow(policy)
        assert answered.status == 200, answered.body
    return tool
