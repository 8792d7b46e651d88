"""``author keygen | sign | verify``, ``settings`` and ``trust``: what a person reads, what a program does, and the files."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption as Encrypted
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.capsules.signed import KINDS, OURS, SPEC, component, public, signed

import capsa
from capsa.capsules import key_id, make_keys, private_key, read_source
from capsa.cli import _install, _signing
from capsa.cli._output import Answer
from capsa.cli._usage import Parser, WrongUse, read_words
from capsa.errors import (
    CapsaError,
    HostFault,
    InstallRefused,
    InvalidCapsule,
    InvalidField,
    NotAStore,
    UnknownTenant,
)

ID: Final = key_id(public(OURS))


def run(*words: object) -> Answer:
    """What a command answers, found by its words as a person types them."""
    commands = Parser(prog="capsa").add_subparsers()
    _signing.add_commands(commands)
    _install.add_commands(commands)
    chosen = read_words(commands.choices, [str(word) for word in words])
    answer: Answer = chosen.run(chosen)
    json.dumps(answer.values)
    return answer


def lines(*words: object) -> list[str]:
    return list(run(*words).lines)


def pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the pair of keys of the tests."""
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "signing.key").write_bytes(pem(OURS))
    (folder / "signing.key").chmod(0o600)
    public_pem = OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "signing.pub").write_bytes(public_pem)
    return folder


@pytest.fixture(params=KINDS)
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A component without a signature."""
    file = tmp_path / "router.wasm"
    file.write_bytes(component(request.param))
    return file


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_keygen_writes_a_private_key_for_this_user_alone(umask: int, tmp_path: Path) -> None:
    """Whatever the umask; in a folder that is made, and that is its user's alone."""
    before = os.umask(umask)
    try:
        answer = run("author", "keygen", tmp_path / "a" / "keys")
    finally:
        os.umask(before)
    folder = tmp_path / "a" / "keys"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600
    assert sorted(file.name for file in folder.iterdir()) == ["signing.key", "signing.pub"]
    key = private_key(folder / "signing.key").public_key().public_bytes_raw().hex()
    assert answer.values["publicKey"] == key
    assert answer.values["keyId"] == key_id(key)
    assert "PRIVATE" not in (folder / "signing.pub").read_text()
    assert run("author", "keygen", tmp_path / "b").values["publicKey"] != key


@pytest.mark.parametrize("there", ["signing.key", "signing.pub"])
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_keygen_overwrites_nothing(there: str, kind: str, tmp_path: Path) -> None:
    """Not what a link names either; and writes no half of a pair."""
    folder, elsewhere = tmp_path / "keys", tmp_path / "elsewhere"
    folder.mkdir()
    if kind == "link":
        elsewhere.write_text("kept")
    match kind:
        case "file":
            (folder / there).write_text("kept")
        case "folder":
            (folder / there).mkdir()
        case _:
            (folder / there).symlink_to(elsewhere)
    with pytest.raises(InvalidField, match="there already"):
        run("author", "keygen", folder)
    assert [file.name for file in folder.iterdir()] == [there]
    assert elsewhere.exists() == (kind == "link")
    if kind in ("file", "link"):
        assert (folder / there).read_text() == "kept"


def test_a_component_is_signed_and_verified(plain: Path, keys: Path, tmp_path: Path) -> None:
    """As sign says, as verify says, and as an install reads it."""
    out = tmp_path / "signed.wasm"
    kind = read_source(plain).kind
    answer = run("author", "sign", plain, keys / "signing.key", "-o", out)
    assert out.read_bytes() == signed(kind)
    told = {
        "name": "router",
        "kind": kind,
        "digest": read_source(out).digest,
        "signedDigest": read_source(plain).digest,
        "sizeBytes": len(signed(kind)),
        "keyId": ID,
    }
    assert answer.values == {**told, "written": [str(out)]}
    assert any(ID in line for line in answer.lines)
    for key in (keys / "signing.pub", public(OURS), public(OURS).upper()):
        assert run("author", "verify", out, "--key", key).values == {"ok": True, "verified": True, **told}
    assert "verified" in lines("author", "verify", out, "--key", public(OURS))[-1]


def test_a_spec_is_compiled_and_signed(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "router.yaml").write_text(SPEC)
    run("author", "sign", tmp_path / "router.yaml", keys / "signing.key", "-o", tmp_path / "out.wasm")
    assert (tmp_path / "out.wasm").read_bytes() == signed()


def test_verify_without_a_key_fails(tmp_path: Path) -> None:
    """It says who is said to have signed, which anybody can say."""
    file = tmp_path / "signed.wasm"
    file.write_bytes(signed())
    answer = run("author", "verify", file)
    assert (answer.values["ok"], answer.values["verified"], answer.values["keyId"]) == (False, False, ID)
    assert "proves nothing" in list(answer.lines)[-1]


def test_verify_refuses_what_does_not_hold(keys: Path, tmp_path: Path) -> None:
    """With the reason."""
    file, key = tmp_path / "file.wasm", keys / "signing.pub"
    other = make_keys(tmp_path / "other").public
    changed = bytearray(signed())
    changed[changed.index(b"cheap")] ^= 1
    for content, with_key, said in (
        (component(), key, "is not signed"),
        (bytes(changed), key, "something else"),
        (signed(), other, "another key"),
        (signed() + signed()[len(component()) :], key, "2 signatures"),
        (SPEC.encode(), key, "is not signed"),
        (b"text", key, "is no component"),
    ):
        file.write_bytes(content)
        with pytest.raises(InvalidCapsule, match=said):
            run("author", "verify", file, "--key", with_key)
    with pytest.raises(FileNotFoundError):
        run("author", "verify", tmp_path / "none", "--key", key)
    with pytest.raises(FileNotFoundError):
        run("author", "verify", file, "--key", tmp_path / "none")
    with pytest.raises(InvalidField):
        run("author", "verify", file, "--key", keys / "signing.key")


def test_sign_refuses_what_it_cannot_sign(keys: Path, plain: Path, tmp_path: Path) -> None:
    """And writes nothing then."""
    out, key = tmp_path / "out.wasm", keys / "signing.key"
    run("author", "sign", plain, key, "-o", tmp_path / "once.wasm")
    with pytest.raises(InvalidCapsule, match="already"):
        run("author", "sign", tmp_path / "once.wasm", key, "-o", out)
    for wrong in (keys / "signing.pub", plain):
        wrong.chmod(0o600)
        with pytest.raises(InvalidField, match="no private Ed25519 key"):
            run("author", "sign", plain, wrong, "-o", out)
    (tmp_path / "encrypted").write_bytes(
        OURS.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, Encrypted(b"password"))
    )
    (tmp_path / "encrypted").chmod(0o600)
    with pytest.raises(InvalidField, match="no private Ed25519 key"):
        run("author", "sign", plain, tmp_path / "encrypted", "-o", out)
    with pytest.raises(FileNotFoundError):
        run("author", "sign", plain, tmp_path / "none", "-o", out)
    with pytest.raises(CapsaError, match="overwrite the key"):
        run("author", "sign", plain, key, "-o", key)
    assert key.read_bytes() == pem(OURS)
    with pytest.raises(WrongUse):
        run("author", "sign", plain, key)
    assert not out.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_key_that_others_can_read_signs_nothing(mode: int, keys: Path, plain: Path, tmp_path: Path) -> None:
    (keys / "signing.key").chmod(mode)
    with pytest.raises(HostFault, match="open to other users"):
        run("author", "sign", plain, keys / "signing.key", "-o", tmp_path / "out.wasm")
    assert not (tmp_path / "out.wasm").exists()


def test_a_component_can_be_signed_in_its_place(plain: Path, keys: Path) -> None:
    kind = read_source(plain).kind
    run("author", "sign", plain, keys / "signing.key", "-o", plain)
    assert plain.read_bytes() == signed(kind)


def test_settings_and_trust(keys: Path, plain: Path, tmp_path: Path) -> None:
    """From a store that is not there yet to one that lets in what was signed, and what is signed no more."""
    store, file = tmp_path / "store", tmp_path / "signed.wasm"
    kind = read_source(plain).kind
    file.write_bytes(signed(kind))
    answer = run("settings", "set", store, "install.allow=signed")
    assert answer.values == {"tenant": "default", "install": {"allow": "signed"}, "trustedKeys": []}
    assert lines("settings", "show", store) == [
        "default: install.allow = signed",
        "! no key is trusted: only YAML may be installed, until capsa trust add names one",
    ]
    assert lines("trust", "list", store) == ["no keys"]
    with pytest.raises(InstallRefused):
        run("install", store, file)
    trusted = {"keyId": ID, "publicKey": public(OURS)}
    assert run("trust", "add", store, keys / "signing.pub").values["trustedKeys"] == [trusted]
    assert lines("trust", "list", store) == [f"{ID}  {public(OURS)}"]
    assert lines("settings", "show", store) == ["default: install.allow = signed", f"  trusts {ID}"]
    with pytest.raises(InstallRefused):
        run("install", store, plain)
    run("install", store, file)
    for named in (ID, public(OURS), keys / "signing.pub"):
        assert run("trust", "remove", store, named).values["trustedKeys"] == []
        run("trust", "add", store, public(OURS))
    assert run("settings", "set", store, "install.allow=spec_only").values["install"] == {"allow": "specOnly"}
    assert run("settings", "set", store, "install.allow=specOnly").values["install"] == {"allow": "specOnly"}
    assert "only where install.allow is signed" in lines("settings", "show", store)[-1]
    run("install", store, file)


def test_settings_are_a_tenants(tmp_path: Path) -> None:
    store = tmp_path / "store"
    run("settings", "set", store, "install.allow=spec_only", "--tenant", "acme")
    run("trust", "add", store, public(OURS), "--tenant", "beta")
    assert run("settings", "show", store, "--tenant", "acme").values == {
        "tenant": "acme",
        "install": {"allow": "specOnly"},
        "trustedKeys": [],
    }
    assert run("trust", "list", store, "--tenant", "beta").values["install"] == {"allow": "any"}
    with pytest.raises(UnknownTenant):
        run("settings", "show", store)


WRONG: Final[dict[str, tuple[str, ...]]] = {
    "a word that is none": ("settings", "set", "STORE", "install.allow=all"),
    "no value": ("settings", "set", "STORE", "install.allow"),
    "an empty value": ("settings", "set", "STORE", "install.allow="),
    "a setting that is none": ("settings", "set", "STORE", "install.alow=any"),
    "no setting": ("settings", "set", "STORE", "=any"),
    "no key": ("trust", "add", "STORE", "z" * 64),
    "a key that anybody has": ("trust", "add", "STORE", "00" * 32),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_hold_makes_no_store(wrong: str, tmp_path: Path) -> None:
    """And says what to write instead."""
    store = tmp_path / "store"
    words = [str(store) if word == "STORE" else word for word in WRONG[wrong]]
    with pytest.raises(InvalidField) as caught:
        run(*words)
    assert caught.value.remedy
    assert not store.exists()


def test_the_nearest_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidField) as caught:
        run("settings", "set", tmp_path / "store", "install.alow=any")
    assert "install.allow=VALUE" in (caught.value.remedy or "")


@pytest.mark.parametrize("words", [("settings", "show"), ("trust", "list"), ("trust", "remove", ID)])
def test_a_look_makes_no_store(words: tuple[str, ...], tmp_path: Path) -> None:
    store = tmp_path / "store"
    with pytest.raises(NotAStore):
        run(*words[:2], store, *words[2:])
    assert not store.exists()


def test_a_key_that_is_not_trusted_cannot_be_removed(tmp_path: Path) -> None:
    """Who mistypes an id must not believe that the key is gone."""
    store = tmp_path / "store"
    run("trust", "add", store, public(OURS))
    for wrong in (ID[:-1] + "0", "b2:", public(OURS)[:-1] + "0"):
        with pytest.raises((InvalidField, FileNotFoundError)):
            run("trust", "remove", store, wrong)
    assert run("trust", "list", store).values["trustedKeys"]


@pytest.mark.parametrize(
    "words", [("author", "sign", "a"), ("trust", "add"), ("settings", "set", "a"), ("author", "keygen")]
)
def test_a_word_too_few_is_wrong_use(words: tuple[str, ...]) -> None:
    with pytest.raises(WrongUse):
        run(*words)


def test_settings_of_a_server_are_its_folders() -> None:
    """Whoever may install over HTTP must not be able to lift what holds installs."""
    with pytest.raises(WrongUse, match="needs the folder"):
        run("settings", "set", "http://127.0.0.1:1", "install.allow=any")
    with pytest.raises(WrongUse, match="needs the folder"):
        run("trust", "add", "http://127.0.0.1:1", public(OURS))


def test_the_commands_say_what_the_journal_says(tmp_path: Path) -> None:
    """By the principal of the command line, in the audit log."""
    run("trust", "add", tmp_path / "store", public(OURS))
    with capsa.open(tmp_path / "store", upkeep=False) as store:
        [row] = [row for row in store.audit() if row.type == "settings_changed"]
    detail: dict[str, Any] = row.detail
    assert (row.principal, detail["trusted"]) == ("local", [public(OURS)])
