"""One tool: what of it is folded."""

from __future__ import annotations

from typing import Any

import cbor2
import msgspec

from capsa import _native
from capsa._native.tools import KeyValues, ToolComponent
from capsa.capsules import ToolDefinition, read_tool_definition
from capsa.journal import Event
from capsa.policies import Effective, Policy, effective, load_policy, ready_policy


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What a call goes by: replaced whole, so that who reads it never sees half of a change.

    Attributes:
        epoch: Counts changes.
        component: The installed version's component.
        version: The host's number of it, from 1.
        definition: What it declares.
        definition_json: The same as it was recorded.
        policy: What the store allows it; `pure` until somebody says otherwise.
    """

    epoch: int
    component: ToolComponent
    version: int
    definition: ToolDefinition
    definition_json: str
    policy: Policy

    def effective(self) -> Effective:
        """What the tool may do."""
        return effective(self.definition.wants, self.policy, self.definition.effect)


class ToolState:
    """One tool capsule.

    Attributes:
        in_force: What a call goes by now.
        versions: The digest of every version that was installed.
        policy_set: Who set the policy and when; ``None`` while nobody has.
        kv: What it keeps.
        began: The sequence of its first install: events before it are another capsule's of the same name.
        since: Invocations before this sequence are forgotten.
        invoked: How many calls answered or failed in their own words.
        breached: How many were denied something, or broke a limit.
        epoch: Changes when it is taken away.
    """

    def __init__(self, component: ToolComponent, event: Event) -> None:
        self.began = self.since = event.sequence
        self.policy_set: dict[str, Any] | None = None
        self.versions: list[str] = []
        self.kv = KeyValues()
        self.invoked = 0
        self.breached = 0
        self.epoch = 0
        said = cbor2.loads(event.payload)
        self.in_force = _in_force(0, component, said["version"], said["definition"], ready_policy("pure"))
        self.versions.append(component.digest)

    def installed(self, event: Event, component: ToolComponent) -> None:
        """Folds the install of a further version."""
        said, now = cbor2.loads(event.payload), self.in_force
        self.in_force = _in_force(now.epoch + 1, component, said["version"], said["definition"], now.policy)
        if component.digest not in self.versions:
            self.versions.append(component.digest)

    def policy_changed(self, event: Event) -> None:
        """Folds a change of the policy."""
        said, now = cbor2.loads(event.payload), self.in_force
        self.policy_set = {"by": event.principal, "at_ms": event.time_ms}
        policy = load_policy(said["policy"].encode())
        self.in_force = msgspec.structs.replace(now, epoch=now.epoch + 1, policy=policy)

    def kv_changed(self, event: Event) -> None:
        """Folds a change of what it keeps."""
        said = cbor2.loads(event.payload)
        self.kv.apply(said["key"], said["value"])

    def called(self, event: Event) -> None:
        """Folds a call."""
        if event.type == "breached":
            self.breached += 1
        else:
            self.invoked += 1

    def logs_purged(self, event: Event) -> None:
        """Folds a purge of its logs: calls of before are unknown."""
        self.since = event.sequence

    def snapshot(self) -> dict[str, Any]:
        """Everything of it that is folded."""
        return {
            "kind": "tool",
            "kv": self.kv.entries(),
            "began": self.began,
            "since": self.since,
            "policy": None if self.policy_set is None else self.in_force.policy.to_json(),
            "invoked": self.invoked,
            "version": self.in_force.version,
            "breached": self.breached,
            "versions": self.versions,
            "component": self.in_force.component.digest,
            "definition": self.in_force.definition_json,
            "policy_set": self.policy_set,
        }

    @property
    def state_hash(self) -> str:
        """The digest of everything that is folded."""
        return _native.digest(cbor2.dumps(self.snapshot(), canonical=True))

    @classmethod
    def restore(cls, component: ToolComponent, kept: dict[str, Any]) -> ToolState:
        """Takes over what `snapshot` gave."""
        state = cls.__new__(cls)
        state.began, state.since = kept["began"], kept["since"]
        state.policy_set = kept["policy_set"]
        state.versions = list(kept["versions"])
        state.kv = KeyValues(kept["kv"])
        state.invoked, state.breached = kept["invoked"], kept["breached"]
        state.epoch = 0
        policy = ready_policy("pure") if kept["policy"] is None else load_policy(kept["policy"])
        state.in_force = _in_force(0, component, kept["version"], kept["definition"], policy)
        return state


def _in_force(epoch: int, component: ToolComponent, version: int, definition: str, policy: Policy) -> InForce:
    return InForce(
        epoch=epoch,
        component=component,
        version=version,
        definition=read_tool_definition(definition.encode()),
        definition_json=definition,
        policy=policy,
    )
