"""What a tenant lets in: its setting ``install.allow``, and the keys whose signatures it believes.

A refusal comes before anything of the component is compiled. What is installed already stays, whatever is set later: the
setting is asked by installs, not by calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import cbor2
import msgspec

from capsa.capsules import CapsuleSource, key_id, public_key, signer
from capsa.errors import InstallRefused, InvalidCapsule, InvalidField, JournalMismatch, shown

if TYPE_CHECKING:
    from capsa.decisions._fold import Fold, Place
    from capsa.decisions._store import Store
    from capsa.journal import Event

#: ``spec_only``: what is compiled here from YAML; ``signed``: that, and what a trusted key has signed; ``any``: everything.
InstallAllow: TypeAlias = Literal["spec_only", "signed", "any"]
#: Most keys that a tenant trusts.
MAX_TRUSTED: Final = 64
#: Most tenants that a warning names.
_NAMED: Final = 5
_ALLOWS: Final[tuple[InstallAllow, ...]] = get_args(InstallAllow)


class Settings(msgspec.Struct, frozen=True):
    """What a tenant lets in.

    Attributes:
        install_allow: What may be installed; ``any`` while nobody has said anything.
        trusted_keys: Public keys whose signatures are believed, each as 64 hexadecimal digits; sorted.
    """

    install_allow: InstallAllow = "any"
    trusted_keys: tuple[str, ...] = ()


class _Changed(msgspec.Struct, forbid_unknown_fields=True):
    """What an event ``settings_changed`` says.

    Attributes:
        install_allow: As it is from here on.
        trusted_keys: Likewise.
        trusted: Those of them that are new.
        distrusted: Those that are gone.
    """

    install_allow: InstallAllow
    trusted_keys: tuple[str, ...]
    trusted: tuple[str, ...]
    distrusted: tuple[str, ...]


def read_changed(event: Event) -> Settings:
    """The settings from an event on.

    Raises:
        JournalMismatch: It does not say what this version understands: to guess would be to let in.
    """
    try:
        said = msgspec.convert(cbor2.loads(event.payload), _Changed)
    except (cbor2.CBORDecodeError, msgspec.ValidationError) as error:
        raise JournalMismatch(
            f"event {event.sequence} of {event.stream} sets what this version does not know: {error}"
        ) from error
    return Settings(said.install_allow, said.trusted_keys)


def settings_of(fold: Fold, tenant: str) -> Settings:
    """What a tenant lets in; one that is not there yet, or was purged, has the defaults."""
    found = fold.tenants.get(tenant)
    return Settings() if found is None else found.settings


def check(fold: Fold, place: Place, source: CapsuleSource) -> None:
    """Returns if a tenant lets a capsule in. Under the store's lock the answer holds until that is let go.

    Raises:
        InstallRefused: It does not.
    """
    settings = settings_of(fold, place[0])
    if settings.install_allow == "any" or source.spec is not None or _installed(fold, place) == source.digest:
        return
    if settings.install_allow == "spec_only":
        raise InstallRefused(
            f"{place[0]} lets in YAML alone (install.allow is spec_only), and {source.name} is a component",
            remedy="install the YAML spec, or let whoever runs the store change install.allow",
        )
    try:
        signature = source.signature
        if signature is None:
            raise InvalidCapsule("it has no signature")
        signer(signature, settings.trusted_keys)
    except InvalidCapsule as fault:
        raise InstallRefused(
            f"{place[0]} lets in components that a trusted key has signed (install.allow is signed); "
            f"of {source.name}: {fault.detail}",
            remedy="sign it with capsa author sign and a key that is trusted, or trust its key with capsa trust add",
        ) from None


def _installed(fold: Fold, place: Place) -> str | None:
    """The digest of what is installed."""
    tool, capsule = fold.tools.get(place), fold.capsules.get(place)
    if tool is not None:
        return tool.in_force.component.digest
    return None if capsule is None else capsule.native.component_digest


def change(
    store: Store,
    tenant: str,
    allow: str | None,
    trust: Sequence[str],
    distrust: Sequence[str],
) -> Settings:
    """Changes what a tenant lets in; see `Tenant.change_settings`."""
    # It needs this module for what it offers.
    from capsa.decisions._jobs import create_tenant

    store._check_usable()
    allowed = None if allow is None else install_allow(allow)
    new = {_key(key, f"/trust/{number}") for number, key in enumerate(_listed(trust, "/trust"))}
    gone = _listed(distrust, "/distrust")
    with store._lock:
        store._check_usable()
        before = settings_of(store._fold, tenant)
        removed = {_trusted(key, before, f"/distrust/{number}") for number, key in enumerate(gone)}
        if removed & new:
            raise InvalidField(
                "a key is to be trusted and not to be", pointer="/distrust/0", remedy="send it once"
            )
        keys = {*before.trusted_keys, *new} - removed
        if len(keys) > MAX_TRUSTED:
            raise InvalidField(
                f"a tenant trusts at most {MAX_TRUSTED} keys", pointer="/trust", remedy="remove one first"
            )
        after = Settings(allowed or before.install_allow, tuple(sorted(keys)))
        if after != before:
            now_ms = store._now_ms()
            create_tenant(store, tenant, now_ms)
            said = _Changed(
                install_allow=after.install_allow,
                trusted_keys=after.trusted_keys,
                trusted=tuple(sorted(new.difference(before.trusted_keys))),
                distrusted=tuple(sorted(removed)),
            )
            payload = cbor2.dumps(msgspec.to_builtins(said), canonical=True)
            store._record((tenant, "", ""), "settings_changed", now_ms, payload)
    store._durable()
    return after


def warning(store: Store) -> str | None:
    """One sentence for whoever serves a store to others, where it lets in everything; ``None`` where it does not."""
    with store._lock:
        tenants = sorted(store._fold.tenants)
        lax = [name for name in tenants if settings_of(store._fold, name).install_allow == "any"]
    if tenants and not lax:
        return None
    named = ", ".join(lax[:_NAMED]) + (", …" if len(lax) > _NAMED else "")
    where = f" (tenants: {named})" if lax else ""
    return (
        f"whoever may install may install any code: install.allow is any{where}; "
        "docs/signing.md says how to let in only YAML, or what a trusted key has signed"
    )


def install_allow(value: object) -> InstallAllow:
    """A value of ``install.allow``, given in either spelling.

    Raises:
        InvalidField: It is none.
    """
    # It needs the fold, which needs this module.
    from capsa.decisions._learning import to_camel

    found = next((allow for allow in _ALLOWS if value in (allow, to_camel(allow))), None)
    if found is None:
        raise InvalidField(
            f"install.allow is {shown(value)!r}",
            pointer="/install/allow",
            value=shown(value),
            remedy=f"use {', '.join(_ALLOWS[:-1])} or {_ALLOWS[-1]}",
        )
    return found


def _listed(keys: object, pointer: str) -> list[object]:
    if isinstance(keys, str) or not isinstance(keys, Sequence):
        raise InvalidField(
            f"{pointer.removeprefix('/')} is not a list of keys",
            pointer=pointer,
            value=shown(keys),
            remedy="send a list, of one key too",
        )
    return list(keys)


def _key(text: object, pointer: str) -> str:
    try:
        return public_key(text)
    except InvalidField as error:
        raise InvalidField(error.detail, pointer=pointer, value=error.value, remedy=error.remedy) from None


def _trusted(text: object, settings: Settings, pointer: str) -> str:
    """The trusted key that is meant, by itself or by its id."""
    named = {key_id(key): key for key in settings.trusted_keys}
    found = named.get(text) if isinstance(text, str) else None
    found = found or _key(text, pointer)
    if found not in settings.trusted_keys:
        # Whoever wants to be rid of a key must not believe so after a slip.
        raise InvalidField(
            f"{key_id(found)} is not trusted",
            pointer=pointer,
            value=shown(text),
            remedy="see which keys are, with their ids: capsa trust list",
        )
    return found
