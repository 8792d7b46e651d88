"""One tool: what of it is folded."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

import cbor2
import msgspec

from capsa import _native
from capsa._native.tools import KeyValues, ToolComponent
from capsa.capsules import ToolDefinition, read_tool_definition
from capsa.errors import InvalidCapsule, InvalidPolicy
from capsa.journal import Event
from capsa.policies import Effective, Policy, effective, load_policy, ready_policy

#: Most bytes of a policy, or of a definition, as it is recorded: with every default.
MAX_RECORDED_BYTES: Final = 1024 * 1024
_REPORT: Final = "this is a fault of Capsa's: please report it with what you sent"


# What is recorded is read before, to see whether that can be done, and once more by the fold: under the store's lock, where the
# largest would take seconds.
_read_once = functools.lru_cache(maxsize=4)


@_read_once
def read_policy(text: str) -> Policy:
    """A policy as it was recorded.

    Raises:
        InvalidPolicy: It does not hold.
    """
    # As a mapping: what a text may have was counted before every default was written down.
    return load_policy(json.loads(text))


@_read_once
def read_definition(text: str) -> ToolDefinition:
    """A definition as it was recorded.

    Raises:
        InvalidCapsule: It does not hold.
        InvalidPolicy: What it wants does not hold.
    """
    return read_tool_definition(json.loads(text))


def recorded_policy(policy: Policy) -> str:
    """A policy as it is recorded: what is folded of it is the same policy again.

    Raises:
        InvalidPolicy: It is too large to be recorded, or would not be read again.
    """
    text = json.dumps(policy.to_json(), sort_keys=True, ensure_ascii=False)
    size = len(text.encode())
    if size > MAX_RECORDED_BYTES:
        raise InvalidPolicy(
            f"the policy has {size} bytes with every default, at most {MAX_RECORDED_BYTES} are kept",
            pointer="",
            remedy="grant less, or by wider patterns",
        )
    if read_policy(text) != policy:
        raise InvalidPolicy(
            "the policy reads as another one once it was written down", pointer="", remedy=_REPORT
        )
    return text


def check_definition(text: str, definition: ToolDefinition) -> None:
    """Returns if what is folded of a definition's text is this definition.

    Raises:
        InvalidCapsule: It is too large to be recorded, or would not be read again.
    """
    size = len(text.encode())
    if size > MAX_RECORDED_BYTES:
        raise InvalidCapsule(
            f"the definition has {size} bytes with every default, at most {MAX_RECORDED_BYTES} are kept",
            pointer="/definition",
            remedy="want less, or by wider patterns",
        )
    if read_definition(text) != definition:
        raise InvalidCapsule(
            "the definition reads as another one once it was written down",
            pointer="/definition",
            remedy=_REPORT,
        )


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """What a call goes by: replaced whole, so that who reads it never sees half of a change.

    Attributes:
        component: The installed version's component.
        version: The host's number of it, from 1.
        definition: What it declares.
        definition_json: The same as it was recorded.
        policy: What the store allows it; `pure` until somebody says otherwise.
        policy_set: Who set the policy (``by``) and when (``at_ms``); ``None`` while nobody has.
    """

    component: ToolComponent
    version: int
    definition: ToolDefinition
    definition_json: str
    policy: Policy
    policy_set: dict[str, Any] | None

    def effective(self) -> Effective:
        """What the tool may do."""
        return effective(self.definition.wants, self.policy, self.definition.effect)


class ToolState:
    """One tool capsule.

    Attributes:
        in_force: What a call goes by now.
        versions: The digest of every version that was installed.
        kv: What it keeps.
        began: The sequence of its first install: events before it are another capsule's of the same name.
        since: Invocations before this sequence are forgotten.
        invoked: How many calls answered or failed in their own words.
        breached: How many were denied something, or broke a limit.
    """

    def __init__(self, component: ToolComponent, event: Event) -> None:
        self.began = self.since = event.sequence
        self.versions: list[str] = []
        self.kv = KeyValues()
        self.invoked = 0
        self.breached = 0
        said = cbor2.loads(event.payload)
        self.in_force = _in_force(component, said["version"], said["definition"], ready_policy("pure"), None)
        self.versions.append(component.digest)

    def installed(self, event: Event, component: ToolComponent) -> None:
        """Folds the install of a further version."""
        said, now = cbor2.loads(event.payload), self.in_force
        self.in_force = _in_force(component, said["version"], said["definition"], now.policy, now.policy_set)
        if component.digest not in self.versions:
            self.versions.append(component.digest)

    def policy_changed(self, event: Event) -> None:
        """Folds a change of the policy."""
        policy = read_policy(cbor2.loads(event.payload)["policy"])
        self.in_force = msgspec.structs.replace(
            self.in_force,
            policy=policy,
            policy_set={"by": event.principal, "at_ms": event.time_ms},
        )

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
        now = self.in_force
        return {
            "kind": "tool",
            "kv": self.kv.entries(),
            "began": self.began,
            "since": self.since,
            "policy": None if now.policy_set is None else now.policy.to_json(),
            "invoked": self.invoked,
            "version": now.version,
            "breached": self.breached,
            "versions": self.versions,
            "component": now.component.digest,
            "definition": now.definition_json,
            "policy_set": now.policy_set,
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
        state.versions = list(kept["versions"])
        state.kv = KeyValues(kept["kv"])
        state.invoked, state.breached = kept["invoked"], kept["breached"]
        policy = ready_policy("pure") if kept["policy"] is None else load_policy(kept["policy"])
        state.in_force = _in_force(component, kept["version"], kept["definition"], policy, kept["policy_set"])
        return state


def _in_force(
    component: ToolComponent, version: int, definition: str, policy: Policy, policy_set: dict[str, Any] | None
) -> InForce:
    return InForce(
        component=component,
        version=version,
        definition=read_definition(definition),
        definition_json=definition,
        policy=policy,
        policy_set=policy_set,
    )
