"""``author keygen | sign | verify``, ``settings show | set`` and ``trust add | remove | list``: who may be installed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from capsa.cli._arguments import add_json, add_store, add_tenant, named_file, path
from capsa.cli._output import Answer, short_hash
from capsa.cli._store import folder_alone, open_existing
from capsa.cli._usage import Commands, add_command, nearest
from capsa.errors import CapsaError, InvalidCapsule, InvalidField, InvalidSpec, shown

if TYPE_CHECKING:
    from capsa import Store
    from capsa.capsules import CapsuleSource
    from capsa.decisions import Settings

#: No file of a public key is longer.
_MAX_KEY_BYTES: Final = 4096
#: The settings that there are.
_NAMES: Final = ("install.allow",)
_KEY_HELP: Final = "a public key: a file in PEM, or 64 hexadecimal digits"


def add_commands(commands: Commands) -> None:
    """Adds what capsules are signed with, and what says which signatures count."""
    _add_author(commands)
    _add_settings(commands)


def _add_author(commands: Commands) -> None:
    keygen = add_command(
        commands,
        "author keygen",
        _keygen,
        "make a pair of keys that sign capsules",
        "Makes a pair of Ed25519 keys: signing.key, for this user alone, and signing.pub, for whoever is to trust it. "
        "No file is overwritten.",
    )
    keygen.add_argument("folder", type=path, metavar="DIR", help="the folder for both, made if there is none")
    add_json(keygen)
    sign = add_command(
        commands,
        "author sign",
        _sign,
        "sign a capsule",
        "Signs a component, or what a YAML spec is compiled to: name, kind and every byte. The signature becomes its last "
        "section.",
    )
    sign.add_argument("component", type=path, metavar="COMPONENT", help="the component, or a YAML spec")
    sign.add_argument("key", type=path, metavar="KEY", help="the private key, as author keygen made it")
    sign.add_argument(
        "--out", "-o", type=path, required=True, metavar="FILE", help="the signed component to write"
    )
    add_json(sign)
    verify = add_command(
        commands,
        "author verify",
        _verify,
        "verify the signature of a capsule",
        "Verifies that a component is, to the byte, what the holder of a key has signed. Without --key it shows which key "
        "is said to have signed, and fails: that proves nothing.",
    )
    verify.add_argument("component", type=path, metavar="COMPONENT", help="the component")
    verify.add_argument("--key", metavar="KEY", help=_KEY_HELP)
    add_json(verify)


def _add_settings(commands: Commands) -> None:
    show = add_command(commands, "settings show", _show, "show what may be installed in a tenant")
    add_store(show)
    add_tenant(show)
    set_ = add_command(
        commands,
        "settings set",
        _set,
        "set what may be installed in a tenant",
        "Sets what may be installed in a tenant: install.allow is spec_only (YAML, which is compiled here), signed (that, "
        "and what a trusted key has signed) or any. The store is made if there is none. What is installed already stays.",
    )
    add_store(set_)
    set_.add_argument("setting", metavar="NAME=VALUE", help="for example install.allow=signed")
    add_tenant(set_)
    add = add_command(
        commands,
        "trust add",
        _trust,
        "trust a key: what it has signed may be installed",
        "Trusts a key in a tenant: where install.allow is signed, what it has signed may be installed. The store is made if "
        "there is none.",
    )
    add_store(add)
    add.add_argument("key", metavar="KEY", help=_KEY_HELP)
    add_tenant(add)
    remove = add_command(
        commands,
        "trust remove",
        _distrust,
        "trust a key no more",
        "Trusts a key no more, from the next install on. What it has signed and is installed already stays.",
    )
    add_store(remove)
    remove.add_argument("key", metavar="KEY", help=f"{_KEY_HELP}, or its id as trust list shows it")
    add_tenant(remove)
    list_ = add_command(commands, "trust list", _list, "show which keys a tenant trusts")
    add_store(list_)
    add_tenant(list_)


def _keygen(chosen: argparse.Namespace) -> Answer:
    from capsa.capsules import key_id, make_keys

    pair = make_keys(chosen.folder)
    values = {
        "keyId": key_id(pair.key),
        "publicKey": pair.key,
        "written": [str(pair.private), str(pair.public)],
    }
    lines = [
        f"the key {values['keyId']}",
        f"wrote {pair.private}: keep it to yourself",
        f"wrote {pair.public}: for whoever is to trust what you sign",
    ]
    return Answer(values, lines)


def _sign(chosen: argparse.Namespace) -> Answer:
    from capsa.capsules import private_key, read_source, sign

    key = private_key(chosen.key)
    if chosen.out.exists() and chosen.out.samefile(chosen.key):
        raise CapsaError(
            "the signed component would overwrite the key", remedy="name another file with --out"
        )
    source = read_source(chosen.component)
    # As it will be installed.
    signed = read_source(sign(source.component, source.name, source.kind, key))
    chosen.out.write_bytes(signed.component)
    values = _facts(signed)
    lines = [f"{_described(signed)}, signed with {values['keyId']}", f"wrote {chosen.out}"]
    return Answer({**values, "written": [str(chosen.out)]}, lines)


def _verify(chosen: argparse.Namespace) -> Answer:
    from capsa.capsules import read_source, signer

    key = None if chosen.key is None else _public_key(chosen.key)
    try:
        source = read_source(chosen.component)
    except InvalidSpec:
        # Whatever it is, a spec has no signature.
        raise InvalidCapsule(
            f"{chosen.component} is no component", remedy="name one that author sign wrote"
        ) from None
    values = _facts(source)
    if key is None:
        lines = [
            _described(source),
            f"! said to be signed with {values['keyId']}: without --key that proves nothing",
        ]
        return Answer({"ok": False, "verified": False, **values}, lines)
    assert source.signature is not None
    signer(source.signature, [key])
    lines = [_described(source), f"signed with {values['keyId']}: verified with the given key"]
    return Answer({"ok": True, "verified": True, **values}, lines)


def _facts(source: CapsuleSource) -> dict[str, Any]:
    """What there is to know about a signed capsule.

    Raises:
        InvalidCapsule: It is not signed, or not as signing does it.
    """
    signature = source.signature
    if signature is None:
        raise InvalidCapsule(f"{source.name} is not signed", remedy="sign it with capsa author sign")
    return {
        "name": source.name,
        "kind": source.kind,
        "digest": source.digest,
        "signedDigest": signature.digest,
        "sizeBytes": len(source.component),
        "keyId": signature.key_id,
    }


def _described(source: CapsuleSource) -> str:
    kind = "a tool" if source.kind == "tool" else "a decision capsule"
    return f"{source.name}: {kind}, {len(source.component)} bytes, {short_hash(source.digest)}…"


def _public_key(text: str) -> str:
    """The key that an argument names: a file, or the key itself.

    Raises:
        InvalidField: It is none.
        OSError: The file cannot be read.
    """
    from capsa.capsules import public_key

    if len(text) == 64 and not Path(text).exists():
        return public_key(text)
    with named_file(text, "key").open("rb") as file:
        content = file.read(_MAX_KEY_BYTES + 1)
    return public_key(content.decode(errors="replace"))


def _opened(chosen: argparse.Namespace) -> Store:
    """The store, which is made if there is none: what may be installed is said before the first install."""
    import capsa

    store: Store = capsa.open(chosen.store, retention=None, upkeep=False)
    return store


def _show(chosen: argparse.Namespace) -> Answer:
    with folder_alone(), open_existing(chosen.store) as store:
        return _answer(chosen.tenant, store.tenant(chosen.tenant).settings())


def _set(chosen: argparse.Namespace) -> Answer:
    name, given, value = chosen.setting.partition("=")
    if name not in _NAMES or not given:
        meant = nearest(name, _NAMES)
        raise InvalidField(
            f"{shown(chosen.setting)!r} sets nothing",
            pointer="/setting",
            value=shown(chosen.setting),
            remedy=f"write {meant or _NAMES[0]}=VALUE; there are the settings {', '.join(_NAMES)}",
        )
    # Before the store is made: what does not hold leaves nothing behind.
    allow = _allow(value)
    with folder_alone(), _opened(chosen) as store:
        return _answer(chosen.tenant, store.tenant(chosen.tenant).change_settings(install_allow=allow))


def _allow(value: str) -> str:
    from capsa.decisions._letting_in import install_allow

    return install_allow(value)


def _trust(chosen: argparse.Namespace) -> Answer:
    key = _public_key(chosen.key)
    with folder_alone(), _opened(chosen) as store:
        return _answer(chosen.tenant, store.tenant(chosen.tenant).change_settings(trust=[key]))


def _distrust(chosen: argparse.Namespace) -> Answer:
    key = chosen.key if chosen.key.startswith("b2:") else _public_key(chosen.key)
    with folder_alone(), open_existing(chosen.store) as store:
        return _answer(chosen.tenant, store.tenant(chosen.tenant).change_settings(distrust=[key]))


def _list(chosen: argparse.Namespace) -> Answer:
    with folder_alone(), open_existing(chosen.store) as store:
        settings = store.tenant(chosen.tenant).settings()
    values = _json(chosen.tenant, settings)
    keys = [f"{key['keyId']}  {key['publicKey']}" for key in values["trustedKeys"]]
    return Answer(values, keys or ["no keys"])


def _answer(tenant: str, settings: Settings) -> Answer:
    return Answer(_json(tenant, settings), _lines(tenant, settings))


def _json(tenant: str, settings: Settings) -> dict[str, Any]:
    from capsa.capsules import key_id
    from capsa.decisions._learning import to_camel

    keys = [{"keyId": key_id(key), "publicKey": key} for key in settings.trusted_keys]
    return {"tenant": tenant, "install": {"allow": to_camel(settings.install_allow)}, "trustedKeys": keys}


def _lines(tenant: str, settings: Settings) -> Iterator[str]:
    from capsa.capsules import key_id

    yield f"{tenant}: install.allow = {settings.install_allow}"
    for key in settings.trusted_keys:
        yield f"  trusts {key_id(key)}"
    if settings.install_allow == "signed" and not settings.trusted_keys:
        yield "! no key is trusted: only YAML may be installed, until capsa trust add names one"
    if settings.install_allow != "signed" and settings.trusted_keys:
        yield "! signatures are asked for only where install.allow is signed"
