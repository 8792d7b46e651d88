"""One tool: what of it is folded."""

from __future__ import annotations

from typing import Any

import cbor2

from capsa import _native
from capsa._native import KeyValues, ToolComponent
from capsa.capsules import ToolDefinition, read_tool_definition
from capsa.journal import Event
from capsa.policies import Policy, load_policy, ready_policy


class ToolState:
    """One tool capsule.

    Attributes:
        component: The installed version's component.
        definition: What it declares.
        version: The host's number of it, from 1.
        versions: The digest of every version that was installed.
        policy: What the store allows it; `pure` until somebody says otherwise.
        policy_set: Who set the policy and when; ``None`` while nobody has.
        kv: What it keeps.
        began: The sequence of its first install: events before it are another capsule's of the same name.
        since: Invocations before this sequence are forgotten.
        invoked: How many calls answered or failed in their own words.
        breached: How many were denied something, or broke a limit.
        epoch: Changes with every install and every change of the policy.
    """

    def __init__(self, component: ToolComponent, event: Event) -> None:
        self.began = self.since = event.sequence
        self.policy: Policy = ready_policy("pure")
        self.policy_set: dict[str, Any] | None = None
        self.versions: list[str] = []
        self.kv = KeyValues()
        self.invoked = 0
        self.breached = 0
        self.epoch = 0
        self.installed(event, component)

    def installed(self, event: Event, component: ToolComponent) -> None:
        """Folds an install."""
        said = cbor2.loads(event.payload)
        self._take(component, said["version"], said["definition"])

    def _take(self, component: ToolComponent, version: int, definition: str) -> None:
        self.component = component
        self.definition: ToolDefinition = read_tool_definition(definition.encode())
        self.definition_json = definition
        self.version: int = version
        if component.digest not in self.versions:
            self.versions.append(component.digest)
        self.epoch += 1

    def policy_changed(self, event: Event) -> None:
        """Folds a change of the policy."""
        said = cbor2.loads(event.payload)
        self.policy = load_policy(said["policy"].encode())
        self.policy_set = {"by": event.principal, "at_ms": event.time_ms}
        self.epoch += 1

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
            "policy": None if self.policy_set is None else self.policy.to_json(),
            "invoked": self.invoked,
            "version": self.version,
            "breached": self.breached,
            "versions": self.versions,
            "component": self.component.digest,
            "definition": self.definition_json,
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
        state.policy = ready_policy("pure") if kept["policy"] is None else load_policy(kept["policy"])
        state.versions = list(kept["versions"])
        state.kv = KeyValues(kept["kv"])
        state.invoked, state.breached = kept["invoked"], kept["breached"]
        state.epoch = 0
        state._take(component, kept["version"], kept["definition"])
        return state
