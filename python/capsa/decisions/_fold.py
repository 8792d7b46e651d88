"""The fold: tenants, jobs and capsules as their events make them.

The live store and a rebuild apply events through the same object, so that they cannot differ.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, Final, Protocol

import cbor2
import msgspec

from capsa._native import Capsule as NativeCapsule
from capsa._native import Component, Decision, Keyring
from capsa._native.tools import ToolComponent
from capsa.decisions._letting_in import Settings, read_changed
from capsa.errors import JournalMismatch, UnknownBlob
from capsa.journal import Event
from capsa.tools import ToolState

Place = tuple[str, str, str]

#: Most that the tools of one tenant keep together: so their part of a snapshot always fits.
MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
#: What a key counts beside its bytes and its value's: many short ones cost time as well.
KEPT_KEY_BYTES: Final = 256


class CapsuleState:
    """One capsule: its native state, and what of it is none of the core's business.

    Attributes:
        native: The component and the learned state.
        began: The sequence of its first install: events before it are another capsule's of the same name.
        since: Decisions before this sequence are forgotten: that of its first install, or of the last purge of its logs.
        purged_ms: When its logs were purged last, or before its first install something of its tenant; 0 if never.
        changed: Who changed which setting when, by the setting's dotted name.
        repeated: How many feedbacks said again what was known. Not folded: nothing was recorded.
        learning_version: How often the settings were changed.
        longest_ms: The longest horizon there was.
        epoch: Changes with every install and every change of settings, and when something of it is taken away.
        options: The options of the installed version by strategy.
    """

    def __init__(self, native: NativeCapsule, since: int, purged_ms: int = 0) -> None:
        self.native = native
        self.began = since
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

    def decided(self, decision: Decision, sequence: int) -> None:
        """Folds a decision that was just made, and gives it its place."""
        self.native.apply_decided(decision, sequence)

    def learning_changed(self, event: Event) -> None:
        """Folds a change of the settings."""
        self.native.apply(event)
        self.learning_version += 1
        for dotted in cbor2.loads(event.payload)["changed"]:
            self.changed[dotted] = {"by": event.principal, "at_ms": event.time_ms}
        self._settled()

    def logs_purged(self, event: Event) -> None:
        """Folds a purge of its logs: ids of before are unknown."""
        self.since, self.purged_ms = event.sequence, event.time_ms
        self.epoch += 1

    def snapshot(self) -> dict[str, Any]:
        """Everything of it that is folded."""
        return {
            "began": self.began,
            "since": self.since,
            "native": self.native.snapshot(),
            "changed": self.changed,
            "component": self.native.component_digest,
            "purged_ms": self.purged_ms,
            "longest_ms": self.longest_ms,
            "learning_version": self.learning_version,
        }


class JobState(msgspec.Struct, kw_only=True):
    """One job.

    Attributes:
        created_ms: When it was made, milliseconds since 1970.
        description: What it is for.
        metadata: What its owner says of it.
    """

    created_ms: int
    description: str = ""
    metadata: dict[str, Any] = {}


class TenantState(msgspec.Struct, kw_only=True):
    """One tenant that is there.

    Attributes:
        created_ms: When it was made, or used again after a purge.
        jobs: Its jobs by name.
        erasing: By path: the sequence before which the content of its decisions and feedback is to go, until it is
            recorded that it did.
        settings: What may be installed; snapshots of before there were any have the defaults.
    """

    created_ms: int
    jobs: dict[str, JobState] = {}
    erasing: dict[str, int] = {}
    settings: Settings = Settings()


class TenantSnapshot(msgspec.Struct, kw_only=True):
    """What a snapshot holds of a tenant beside its capsules.

    Attributes:
        tenant: The tenant; ``None`` where it was purged and not used since.
        purged_ms: When something of it was taken away last; 0 if never.
    """

    tenant: TenantState | None
    purged_ms: int


class Loader(Protocol):
    """Gives components by their digests."""

    def load(self, digest: str) -> Component:
        """A decision capsule's."""

    def load_tool(self, digest: str) -> ToolComponent:
        """A tool's."""


class Fold:
    """Everything that the events of a journal make.

    Args:
        loader: Gives the components.
        keys: What decision ids are sealed with.

    Attributes:
        capsules: The decision capsules, by tenant, job and name.
        tools: The tools, likewise. A name is one or the other.
        tenants: By name.
    """

    def __init__(self, loader: Loader, keys: Keyring) -> None:
        self._loader = loader
        self._keys = keys
        self.capsules: dict[Place, CapsuleState] = {}
        self.tools: dict[Place, ToolState] = {}
        self.tenants: dict[str, TenantState] = {}
        #: By tenant: when something of it was taken away last. Ids of a time before need their records to be known.
        self._purged: dict[str, int] = {}
        #: By tenant: what its tools keep, as `MAX_KEPT_BYTES` counts it.
        self._kept: defaultdict[str, int] = defaultdict(int)

    def apply(self, event: Event) -> None:
        """Folds one event.

        Raises:
            JournalMismatch: The event does not fit what was folded before.
        """
        if event.type in ("snapshot_sealed", "secret_changed", "refused"):
            return
        if event.type == "purged":
            self.forget(event.stream)
            self._purged[event.stream] = event.time_ms
            return
        if event.erased:
            # Nothing was learned from a decision by itself, nor kept of a call; what else was erased has left its mark on
            # the state.
            if event.type in ("decided", "invoked", "breached"):
                return
            raise JournalMismatch(
                f"event {event.sequence} of {event.stream} ({event.type}) was erased: the state cannot be folded without it",
                remedy="restore a backup; erase subjects with erase_subject, which seals the state before",
            )
        job, _, name = event.path.partition("/")
        place = (event.stream, job, name)
        match event.type:
            case "decided" | "outcome_received" | "horizon_passed":
                self._capsule(place, event).native.apply(event)
            case "created" | "settings_changed":
                self._of_tenant(place, event)
            case "deleted":
                self._deleted(place, event)
            case "erased":
                self._erased(place, event)
            case "installed":
                self._installed(place, event)
            case "learning_changed":
                self._capsule(place, event).learning_changed(event)
            case "policy_changed" | "kv_changed" | "invoked" | "breached":
                self._of_tool(place, event)
            case _:
                self._capsule(place, event).native.apply(event)

    def _capsule(self, place: Place, event: Event) -> CapsuleState:
        state = self.capsules.get(place)
        if state is None:
            raise JournalMismatch(f"{event.type} of a capsule that was never installed: {'/'.join(place)}")
        return state

    def _of_tool(self, place: Place, event: Event) -> None:
        if event.type == "breached" and place in self.capsules:
            # A decision capsule that broke a limit has changed nothing.
            return
        tool = self._tool(place, event)
        match event.type:
            case "policy_changed":
                tool.policy_changed(event)
            case "kv_changed":
                before = _weight(tool)
                tool.kv_changed(event)
                self._kept[event.stream] += _weight(tool) - before
            case _:
                tool.called(event)

    def has_room(self, place: Place, key: str, value: bytes | None) -> bool:
        """Whether a tool may set a key, as far as all that its tenant's tools keep goes. Less than before always may be."""
        before = self.tools[place].kv.get(key)
        if value is None or (before is not None and len(value) <= len(before)):
            return True
        more = len(value) + (KEPT_KEY_BYTES + len(key.encode()) if before is None else -len(before))
        return self._kept[place[0]] + more <= MAX_KEPT_BYTES

    def _tool(self, place: Place, event: Event) -> ToolState:
        state = self.tools.get(place)
        if state is None:
            raise JournalMismatch(f"{event.type} of a tool that was never installed: {'/'.join(place)}")
        return state

    def places(self) -> list[Place]:
        """Every capsule there is, of any kind."""
        return [*self.capsules, *self.tools]

    def _tenant(self, event: Event) -> TenantState:
        """The tenant of an event, which makes it where it was not there."""
        return self.tenants.setdefault(event.stream, TenantState(created_ms=event.time_ms))

    def _of_tenant(self, place: Place, event: Event) -> None:
        tenant, (_, job, _) = self._tenant(event), place
        if event.type == "settings_changed":
            tenant.settings = read_changed(event)
        elif job:
            said = cbor2.loads(event.payload)
            tenant.jobs[job] = JobState(
                created_ms=event.time_ms,
                description=said.get("description", ""),
                metadata=said.get("metadata", {}),
            )

    def _installed(self, place: Place, event: Event) -> None:
        said = cbor2.loads(event.payload)
        tenant, job, _ = place
        self._tenant(event).jobs.setdefault(job, JobState(created_ms=event.time_ms))
        if json.loads(said["definition"])["kind"] == "tool":
            tool = self._loader.load_tool(said["digest"])
            if place in self.tools:
                self.tools[place].installed(event, tool)
            else:
                self.tools[place] = ToolState(tool, event)
            return
        component = self._loader.load(said["digest"])
        state = self.capsules.get(place)
        if state is None:
            native = NativeCapsule(tenant, job, component, event, self._keys)
            self.capsules[place] = CapsuleState(native, event.sequence, self._purged.get(tenant, 0))
        else:
            state.installed(event, component)

    def _deleted(self, place: Place, event: Event) -> None:
        name, job, capsule = place
        tenant = self._tenant(event)
        if capsule:
            self._drop([place])
        else:
            self._drop([found for found in self.places() if found[:2] == (name, job)])
            tenant.jobs.pop(job, None)
            # What was to be erased in its capsules goes with the rest of it.
            tenant.erasing = {
                path: before for path, before in tenant.erasing.items() if not path.startswith(f"{job}/")
            }
        tenant.erasing[event.path] = event.sequence
        self._purged[name] = max(self._purged.get(name, 0), event.time_ms)

    def _erased(self, place: Place, event: Event) -> None:
        if not event.path:
            # Of one subject: what was learned from it stays.
            return
        said = cbor2.loads(event.payload)
        if said["done"]:
            self._tenant(event).erasing.pop(event.path, None)
            return
        logged = self.tools.get(place) or self._capsule(place, event)
        logged.logs_purged(event)
        self._tenant(event).erasing[event.path] = event.sequence

    def _drop(self, places: list[Place]) -> None:
        for place in places:
            if place in self.tools:
                self._kept[place[0]] -= _weight(self.tools.pop(place))
            else:
                # Whoever is about to record something in it notices.
                self.capsules.pop(place).epoch += 1

    def forget(self, tenant: str) -> None:
        """Drops a tenant with its capsules."""
        self._drop([place for place in self.places() if place[0] == tenant])
        self.tenants.pop(tenant, None)

    def state_hash(self, place: Place) -> str:
        """The digest of what is folded of a capsule."""
        tool = self.tools.get(place)
        return self.capsules[place].native.state_hash if tool is None else tool.state_hash

    def snapshot(self, tenant: str) -> dict[str, Any]:
        """Everything of a tenant that is folded but its capsules, as plain values."""
        kept = TenantSnapshot(tenant=self.tenants.get(tenant), purged_ms=self._purged.get(tenant, 0))
        values: dict[str, Any] = msgspec.to_builtins(kept)
        return values

    def restore_tenant(self, tenant: str, kept: dict[str, Any]) -> None:
        """Takes over a tenant as `snapshot` gave it."""
        read = msgspec.convert(kept, TenantSnapshot)
        if read.tenant is not None:
            self.tenants[tenant] = read.tenant
        self._purged[tenant] = read.purged_ms

    def restore(self, place: Place, kept: dict[str, Any]) -> None:
        """Takes over a capsule as its state's `snapshot` gave it.

        Raises:
            JournalMismatch: Its component is gone, or it is not of this version.
        """
        tenant, job, _ = place
        try:
            if kept.get("kind") == "tool":
                tool = ToolState.restore(self._loader.load_tool(kept["component"]), kept)
                self.tools[place] = tool
                self._kept[tenant] += _weight(tool)
                return
            component = self._loader.load(kept["component"])
        except UnknownBlob as error:
            raise JournalMismatch(
                f"the component of {'/'.join(place)} is gone", remedy="restore a backup"
            ) from error
        native = NativeCapsule.restore(tenant, job, component, kept["native"], self._keys)
        state = self.capsules[place] = CapsuleState(native, kept["since"], kept["purged_ms"])
        # Before logs could be purged, they were one.
        state.began = kept.get("began", state.since)
        state.changed = kept["changed"]
        state.longest_ms = kept["longest_ms"]
        state.learning_version = kept["learning_version"]


def _weight(tool: ToolState) -> int:
    """What a tool keeps, as `MAX_KEPT_BYTES` counts it."""
    return tool.kv.bytes + KEPT_KEY_BYTES * len(tool.kv)
