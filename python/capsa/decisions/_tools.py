"""Tools of a store: install, policy, calls, and what was recorded of them."""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from capsa.decisions._answers import InstallResult
from capsa.decisions._guest_log import write_log
from capsa.decisions._history._views import CALLED, check_page
from capsa.decisions._learning import to_camel
from capsa.decisions._ledger import event_at
from capsa.decisions._refusals import refusals
from capsa.errors import (
    CapsuleFailure,
    HostFault,
    InstallConflict,
    InvalidField,
    InvalidPolicy,
    StaleDocument,
    StoreClosed,
    UnknownCapsule,
    UnknownInvocation,
    shown,
)
from capsa.journal import Event, sync_folder, timestamp
from capsa.policies import Policy, diff, load_policy
from capsa.tools import (
    Calls,
    InvocationRecord,
    Replayed,
    ToolState,
    encode_breach,
    invocation_id,
    invocation_record,
    nonce_of,
    recorded_policy,
)

if TYPE_CHECKING:
    from capsa.capsules import CapsuleSource
    from capsa.decisions._fold import Place
    from capsa.decisions._store import Store

#: Behind the nonce of a call, in the key under which its event is found.
_INVOKED: Final = b"invoked"


class PolicyInForce(msgspec.Struct, frozen=True, kw_only=True):
    """What a capsule is allowed.

    Attributes:
        policy: As it was set, with every default; as JSON spells it.
        digest: Of it; its ETag.
        effective: What is left of it, given what the capsule wants.
        effective_digest: Of that.
        not_granted: The interfaces that the component imports and is not granted: it cannot be called.
        by: Who set it; ``None`` while nobody has.
        at: When, RFC 3339.
    """

    policy: dict[str, Any]
    digest: str
    effective: dict[str, Any]
    effective_digest: str
    not_granted: list[str]
    by: str | None
    at: str | None


class StoreBooks:
    """What a store gives one of its tools."""

    def __init__(self, store: Store, place: Place, state: ToolState) -> None:
        # Weakly: native code holds this, and would keep a store that nobody uses any more.
        self._of = weakref.ref(store)
        self._place = place
        self._state = state

    @property
    def _store(self) -> Store:
        store = self._of()
        if store is None:
            raise StoreClosed("the store is gone", remedy="open it again")
        return store

    def now_ms(self) -> int:
        """See `Books.now_ms`."""
        return self._store._now_ms()

    def nonce(self, now_ms: int) -> bytes:
        """See `Books.nonce`."""
        return self._store._nonces.take(now_ms)

    def record(self, type_: str, nonce: bytes, payload: bytes) -> None:
        """See `Books.record`. Of a tool that was deleted meanwhile nothing is kept."""
        store = self._store
        with store._lock:
            if self.is_there():
                once = [nonce + _INVOKED]
                store._fold.apply(store._append(self._place, type_, store._now_ms(), payload, once=once))

    def change(
        self,
        key: str,
        value: bytes | None,
        expected: tuple[bytes | None] | None,
        max_bytes: int,
        max_keys: int,
    ) -> bool | None:
        """See `Books.change`."""
        store, kv = self._store, self._state.kv
        with store._lock:
            if not self.is_there():
                raise UnknownCapsule("the capsule was deleted")
            before = kv.get(key)
            if expected is not None and before != expected[0]:
                return False
            fits = kv.fits(key, value, max_bytes=max_bytes, max_keys=max_keys)
            if not fits or not store._fold.has_room(self._place, key, value):
                return None
            if before != value:
                payload = cbor2.dumps({"key": key, "value": value}, canonical=True)
                store._record(self._place, "kv_changed", store._now_ms(), payload)
            return before is not None or expected is not None

    def log(self, lines: list[tuple[str, str]]) -> None:
        """See `Books.log`."""
        write_log(self._place, lines)

    def is_there(self) -> bool:
        """See `Books.is_there`."""
        return self._store._fold.tools.get(self._place) is self._state

    def durable(self) -> None:
        """See `Books.durable`."""
        self._store._durable()

    def secrets(self) -> Mapping[str, str]:
        """See `Books.secrets`."""
        return self._store._vault.values(self._place[0])

    def folder(self) -> Path | None:
        """See `Books.folder`."""
        files = self._store._files
        return None if files is None else files.joinpath(*self._place)


class breaches:  # noqa: N801 - a context manager, made by hand: `contextlib` takes microseconds, and decisions go through it
    """Records it where a decision capsule breaks a limit, traps or answers nonsense. Nobody waits for the disk."""

    __slots__ = ("_function", "_place", "_store")

    def __init__(self, store: Store, place: Place, function: str) -> None:
        self._store = store
        self._place = place
        self._function = function

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: object
    ) -> None:
        if not isinstance(failure, CapsuleFailure):
            return
        store = self._store
        with store._lock:
            state = store._fold.capsules.get(self._place)
            if state is not None:
                now_ms = store._now_ms()
                nonce, version = store._nonces.take(now_ms), state.native.version
                payload = encode_breach(nonce, self._function, version, failure)
                store._record(self._place, "breached", now_ms, payload)


def plan(store: Store, place: Place, source: CapsuleSource) -> InstallResult:
    """What the install of a tool would mean. The store's lock is held, or the answer may be outdated."""
    assert source.tool is not None
    if place in store._fold.capsules:
        raise InstallConflict(
            f"{place[2]} is a decision capsule",
            pointer="/kind",
            value="tool",
            remedy="delete it first, or use another name",
        )
    state = store._fold.tools.get(place)
    if state is None:
        return InstallResult(
            capsule=source.name,
            version=1,
            digest=source.digest,
            unchanged=False,
            changes=[f"{source.name} is new"],
        )
    now = state.in_force
    unchanged = source.digest == now.component.digest
    changes: list[str] = []
    if not unchanged:
        if source.tool.effect != now.definition.effect:
            changes.append(f"effect is {source.tool.effect}, was {now.definition.effect}")
        changes += diff(now.definition.wants, source.tool.wants).lines()
    version = now.version if unchanged else now.version + 1
    return InstallResult(
        capsule=source.name, version=version, digest=source.digest, unchanged=unchanged, changes=changes
    )


def state_of(store: Store, place: Place) -> ToolState:
    """The tool at a place.

    Raises:
        WrongKind: It is a decision capsule.
        NotFound: There is none.
    """
    store._check_usable()
    state = store._fold.tools.get(place)
    if state is None:
        raise store._wrong_kind(place, "tool")
    return state


def described(store: Store, place: Place) -> dict[str, Any]:
    """What is installed, as JSON spells it."""
    now = state_of(store, place).in_force
    return {
        "capsuleVersion": now.version,
        "digest": now.component.digest,
        "effect": to_camel(now.definition.effect),
        "imports": now.component.imports,
        "definition": json.loads(now.definition_json),
    }


def calls_of(store: Store, place: Place) -> Calls:
    """The calls of the tool at a place."""
    state = state_of(store, place)
    found = store._tool_calls.get(place)
    if found is None or found[0] is not state:
        with store._lock:
            found = store._tool_calls.get(place)
            if found is None or found[0] is not state:
                calls = Calls(place[0], place[2], state, StoreBooks(store, place, state))
                found = store._tool_calls[place] = (state, calls)
    return found[1]


def policy(store: Store, place: Place) -> PolicyInForce:
    """What a tool is allowed, all of it at one moment."""
    now = state_of(store, place).in_force
    may = now.effective()
    granted = may.to_json()
    set_ = now.policy_set
    return PolicyInForce(
        policy=now.policy.to_json(),
        digest=now.policy.digest,
        effective=granted,
        effective_digest=may.digest,
        not_granted=[name for name in now.component.imports if not _is_granted(granted, name)],
        by=None if set_ is None else set_["by"],
        at=None if set_ is None else timestamp(set_["at_ms"]),
    )


def _is_granted(effective: Mapping[str, Any], interface: str) -> bool:
    granted = effective[interface]
    if interface == "http":
        return bool(granted["wanted"]) and bool(granted["allowed"])
    return granted is not None and granted is not False and granted not in ({}, [])


def set_policy(store: Store, place: Place, source: Any, if_digest: str | None) -> PolicyInForce:
    """Sets what a tool is allowed, for every call from now on.

    Raises:
        InvalidPolicy: It does not hold; nothing has changed, and the journal says who tried.
        StaleDocument: It is not `if_digest` any more.
    """
    state_of(store, place)
    with refusals(store, place, "policy"):
        new = _checked(source) if isinstance(source, Policy) else load_policy(source)
        # What is recorded has to be read again at every start.
        text = recorded_policy(new)
    with store._lock:
        now = state_of(store, place).in_force
        if if_digest is not None and if_digest != now.policy.digest:
            raise StaleDocument(
                f"the policy of {place[2]} is {now.policy.digest} by now",
                value=shown(if_digest),
                remedy="read it again",
            )
        if now.policy_set is None or new != now.policy:
            payload = cbor2.dumps({"policy": text, "capsule": place[2]}, canonical=True)
            store._record(place, "policy_changed", store._now_ms(), payload)
    store._durable()
    return policy(store, place)


def _checked(policy: Policy) -> Policy:
    """A policy that somebody may have made by hand: then nobody has looked at it yet."""
    try:
        said = policy.to_json()
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidPolicy(
            f"the policy cannot be written as JSON: {error}"[:200],
            pointer="",
            remedy="make it with load_policy",
        ) from None
    return load_policy(said)


def forget_bindings(store: Store, tenant: str) -> None:
    """Binds a tenant's tools anew at their next calls: a secret has changed."""
    for place, (_, calls) in list(store._tool_calls.items()):
        if place[0] == tenant:
            calls.forget()


def check_used(store: Store, tenant: str) -> None:
    """Raises UnknownTenant where there is none of this name, or none any more: secrets must not wait for the next."""
    store._check_usable()
    if tenant not in store._fold.tenants:
        raise store._missing((tenant, "", ""))


def set_secret(store: Store, tenant: str, name: str, value: str) -> bool:
    """Sets a secret; whether there was one. The journal says who did, before it counts, and never its value."""
    return _change_secret(store, tenant, name, store._vault.setting(tenant, name, value), removed=False)


def remove_secret(store: Store, tenant: str, name: str) -> bool:
    """Removes a secret; whether there was one. The journal says who did, before it counts."""
    return _change_secret(store, tenant, name, store._vault.removing(tenant, name), removed=True)


def _change_secret(
    store: Store, tenant: str, name: str, changing: AbstractContextManager[bool], *, removed: bool
) -> bool:
    # No purge meanwhile, and no other change: what is set now must not wait for the next tenant of the name.
    with store._upkeeping:
        check_used(store, tenant)
        try:
            with changing as was:
                if was or not removed:
                    payload = cbor2.dumps({"name": name, "removed": removed}, canonical=True)
                    with store._lock:
                        store._append((tenant, "", ""), "secret_changed", store._now_ms(), payload)
                    store._durable()
        finally:
            # Whatever came of it: tools are bound with what there is.
            forget_bindings(store, tenant)
    return was


def remove_files(store: Store, place: Place) -> None:
    """Removes the directories of tools that are gone: below a tenant, a job or a capsule.

    They are moved away first, so that no tool that is installed meanwhile loses its own, and nobody waits for the lock.

    Raises:
        HostFault: Some are still there.
    """
    for gone in [gone for gone in list(store._tool_calls) if gone not in store._fold.tools]:
        store._tool_calls.pop(gone, None)
    if store._files is None:
        return
    named = tuple(filter(None, place))
    # No tenant has such a name.
    away = store._files / ".gone"
    try:
        with store._lock:
            for folder in _without_tool(store._files.joinpath(*named), named, store._fold.tools):
                away.mkdir(mode=0o700, exist_ok=True)
                folder.rename(away / f"{place[0]}.{os.urandom(8).hex()}")
                sync_folder(folder.parent)
        # What a crash has left there of the tenant goes, too.
        for folder in list(away.glob(f"{place[0]}.*")):
            while folder.exists():
                # Somebody else may be at it.
                with suppress(FileNotFoundError):
                    shutil.rmtree(folder)
            sync_folder(away)
    except OSError as error:
        raise HostFault(f"the files of {'/'.join(named)} are still there: {error.strerror}") from None


def _without_tool(folder: Path, named: tuple[str, ...], tools: Collection[Place]) -> list[Path]:
    """The uppermost directories in one, or itself, in which no tool is; `named` says whose it is."""
    if not folder.exists():
        return []
    below = [place for place in tools if place[: len(named)] == named]
    if not below:
        return [folder]
    if named in below:
        return []
    return [gone for inner in folder.iterdir() for gone in _without_tool(inner, (*named, inner.name), below)]


def _events(store: Store, place: Place, after: int) -> Any:
    state = state_of(store, place)
    tenant, job, name = place
    store._durable()
    path = f"{job}/{name}"
    for event in store._journal.read(tenant, max(after, state.since)):
        if event.type in CALLED and event.path == path and not event.erased:
            yield event


def invocations(store: Store, place: Place, after: int, limit: int) -> list[InvocationRecord]:
    """A page of a tool's calls. What was erased is not in it."""
    check_page(after, limit)
    return [invocation_record(event) for event in islice(_events(store, place, after), limit)]


def _event(store: Store, place: Place, id_: object) -> Event:
    nonce, state, tenant = nonce_of(id_), state_of(store, place), place[0]
    store._durable()
    path = "/".join(place[1:])
    for key, sequence in store._journal.claims(tenant, nonce):
        event = event_at(store._journal, tenant, sequence) if key == nonce + _INVOKED else None
        if event is not None and event.path == path and event.sequence >= state.since and not event.erased:
            return event
    raise UnknownInvocation(
        f"no invocation {invocation_id(nonce)} of {place[2]}",
        value=shown(id_),
        remedy="send an invocationId as it was answered; calls of long ago are in the log of invocations alone",
    )


def invocation(store: Store, place: Place, id_: object) -> InvocationRecord:
    """One call."""
    return invocation_record(_event(store, place, id_))


def replay(store: Store, place: Place, id_: object) -> Replayed:
    """Makes a recorded call again from its recording.

    Raises:
        UnknownInvocation: There is no such call.
        InvalidField: It was not recorded.
    """
    said = cbor2.loads(_event(store, place, id_).payload)
    recording = said.get("recording")
    if recording is None:
        raise InvalidField(
            "this call was not recorded",
            pointer="/invocationId",
            value=shown(id_),
            remedy="repeat one that was: invoke with record, under a policy whose engine is deterministic; "
            "what is too large to be kept cannot be repeated",
        )
    component = store._components.load_tool(recording["component"])
    return calls_of(store, place).replay(recording, invocation_id(said["id"]), component)
