"""The fold: tenants, jobs and capsules as their events make them.

The live store and a rebuild apply events through the same object, so that they cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2

from capsa._native import Capsule as NativeCapsule
from capsa._native import Component, Decision, Keyring
from capsa.errors import JournalMismatch
from capsa.journal import Event

Place = tuple[str, str, str]


class CapsuleState:
    """One capsule: its native state, and what of it is none of the core's business.

    Attributes:
        native: The component and the learned state.
        since: The sequence of its first install: decisions before it are another capsule's of the same name.
        purged_ms: When its tenant was purged last before that; 0 if never.
        changed: Who changed which setting when, by the setting's dotted name.
        repeated: How many feedbacks said again what was known. Not folded: nothing was recorded.
        learning_version: How often the settings were changed.
        longest_ms: The longest horizon there was.
        epoch: Changes with every install and every change of settings.
        options: The options of the installed version by strategy.
    """

    def __init__(self, native: NativeCapsule, since: int, purged_ms: int = 0) -> None:
        self.native = native
        self.since = since
        self.purged_ms = purged_ms
        self.changed: dict[str, dict[str, Any]] = {}
        self.repeated = 0
        self.learning_version = 0
        self.longest_ms = 0
        self.epoch = 0
        self.options: dict[str, list[str]] = {}
        self._settled()

    def _settled(self) -> None:
        """What follows from the definition in force."""
        definition = json.loads(self.native.definition_in_force)
        self.options = {strategy["name"]: strategy["options"] for strategy in definition["strategies"]}
        self.longest_ms = max(self.longest_ms, int(definition["horizon"]["afterSeconds"] * 1000))
        self.epoch += 1

    def installed(self, event: Event, component: Component) -> None:
        """Folds the install of a further version."""
        self.native.apply(event, component)
        self._settled()

    def decided(self, decision: Decision) -> None:
        """Folds a decision, decoded."""
        self.native.apply_decided(decision)

    def learning_changed(self, event: Event) -> None:
        """Folds a change of the settings."""
        self.native.apply(event)
        self.learning_version += 1
        for dotted in cbor2.loads(event.payload)["changed"]:
            self.changed[dotted] = {"by": event.principal, "at_ms": event.time_ms}
        self._settled()

    def snapshot(self) -> dict[str, Any]:
        """Everything of it that is folded."""
        return {
            "since": self.since,
            "native": self.native.snapshot(),
            "changed": self.changed,
            "component": self.native.component_digest,
            "purged_ms": self.purged_ms,
            "longest_ms": self.longest_ms,
            "learning_version": self.learning_version,
        }


class Fold:
    """Everything that the events of a journal make.

    Args:
        load: Gives the component with a digest.
        keys: What decision ids are sealed with.
    """

    def __init__(self, load: Callable[[str], Component], keys: Keyring) -> None:
        self._load = load
        self._keys = keys
        self.capsules: dict[Place, CapsuleState] = {}
        self._purged: dict[str, int] = {}

    def apply(self, event: Event) -> None:
        """Folds one event.

        Raises:
            JournalMismatch: The event does not fit what was folded before.
        """
        if event.type in ("created", "erased", "snapshot_sealed"):
            return
        if event.type == "purged":
            self.forget(event.stream)
            self._purged[event.stream] = event.time_ms
            return
        if event.erased:
            # Nothing was learned from a decision by itself; what else was erased has left its mark on the state.
            if event.type == "decided":
                return
            raise JournalMismatch(
                f"event {event.sequence} of {event.stream} ({event.type}) was erased: the state cannot be folded without it",
                remedy="restore a backup; erase subjects with erase_subject, which seals the state before",
            )
        job, _, name = event.path.partition("/")
        place = (event.stream, job, name)
        if event.type == "installed":
            self._installed(place, event)
            return
        state = self.capsules.get(place)
        if state is None:
            raise JournalMismatch(f"{event.type} of a capsule that was never installed: {'/'.join(place)}")
        if event.type == "learning_changed":
            state.learning_changed(event)
        else:
            state.native.apply(event)

    def _installed(self, place: Place, event: Event) -> None:
        component = self._load(cbor2.loads(event.payload)["digest"])
        state = self.capsules.get(place)
        if state is None:
            tenant, job, _ = place
            native = NativeCapsule(tenant, job, component, event, self._keys)
            self.capsules[place] = CapsuleState(native, event.sequence, self._purged.get(tenant, 0))
        else:
            state.installed(event, component)

    def forget(self, tenant: str) -> None:
        """Drops the capsules of a tenant."""
        for place in [place for place in self.capsules if place[0] == tenant]:
            del self.capsules[place]

    def restore(self, place: Place, kept: dict[str, Any]) -> None:
        """Takes over a capsule as `CapsuleState.snapshot` gave it."""
        tenant, job, _ = place
        component = self._load(kept["component"])
        native = NativeCapsule.restore(tenant, job, component, kept["native"], self._keys)
        state = self.capsules[place] = CapsuleState(native, kept["since"], kept["purged_ms"])
        state.changed = kept["changed"]
        state.longest_ms = kept["longest_ms"]
        state.learning_version = kept["learning_version"]
