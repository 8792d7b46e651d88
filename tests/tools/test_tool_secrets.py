"""Secrets of a store's tools: kept apart, never told, and what is set counts from the next call on."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sandbox.guests import KEPT, call, script, send
from tests.sandbox.outside import Site
from tests.tools.making import component, echo, journal, opened, outside, policy, tells, together
from tests.tools.ways import Way

import capsa
from capsa.tools import Vault
from capsa.tools._vault import MAX_SECRETS, MAX_VALUE_BYTES

GRANT: Final[dict[str, Any]] = {"secrets": [{"name": "key", "hosts": ["127.0.0.1"]}]}
#: They begin with what stands nowhere else.
VALUES: Final = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60).map(
    lambda text: f"Zq~{text}"
)


def sends_it(site: Site, name: str = "tool") -> bytes:
    """Sends the secret to the site."""
    steps = [
        call("secrets.handle", "key", keep=True),
        send(f"http://127.0.0.1:{site.port}/", headers=[("X-Key", KEPT)]),
    ]
    return component(name, script(*steps), "read", **GRANT, **outside(site))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def got(site: Site) -> list[str]:
    """What the site was sent as secrets, since the last time."""
    came = [asked.header("x-key") for asked in site.asked]
    site.asked.clear()
    return came


# --- the files


def test_only_the_owner_can_read_it(folder: Path) -> None:
    """Under a loose umask too: folder and file are closed from the first byte on."""
    before = os.umask(0)
    try:
        with opened(folder) as store:
            acme = store.tenant("acme")
            acme.job("j").install(echo())
            for value in ("first-value", "second-value"):
                acme.set_secret("key", value)
                vault = folder / "vault"
                assert stat.S_IMODE(vault.stat().st_mode) == 0o700
                [file] = vault.iterdir()
                assert file.name == "acme.json"
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
                assert json.loads(file.read_bytes()) == {"key": value}
            acme.remove_secret("key")
            assert list(vault.iterdir()) == [], "without secrets there is no file"
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_can_open_is_refused(folder: Path, mode: int) -> None:
    with opened(folder) as store:
        store.install(echo())
        store.tenant("default").set_secret("key", "hunter2-hunter2")
    file = folder / "vault" / "default.json"
    file.chmod(mode)
    with opened(folder) as store:
        for ask in (
            store.tenant("default").secrets,
            lambda: store.tenant("default").set_secret("other", "value"),
            lambda: store.tenant("default").remove_secret("key"),
        ):
            with pytest.raises(capsa.HostFault) as refused:
                ask()
            assert str(file) in refused.value.detail
            assert "chmod 600" in str(refused.value)
        file.chmod(0o600)
        assert store.tenant("default").secrets() == ["key"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"key": 5}', b'{"key": "hunter2-hunter2", "', b"\xff"]
)
def test_a_file_that_holds_something_else_is_refused_without_telling_it(folder: Path, content: bytes) -> None:
    with opened(folder) as store:
        store.install(echo())
        store.tenant("default").set_secret("key", "hunter2-hunter2")
    file = folder / "vault" / "default.json"
    file.write_bytes(content)
    with opened(folder) as store:
        with pytest.raises(capsa.HostFault) as refused:
            store.tenant("default").secrets()
        assert "hunter2" not in repr(refused.value) + str(refused.value)
        assert refused.value.__cause__ is None
        assert refused.value.__context__ is None or refused.value.__suppress_context__
        # Others have theirs.
        store.tenant("acme").job("j").install(echo())
        store.tenant("acme").set_secret("key", "value")
        assert store.tenant("acme").secrets() == ["key"]


def test_a_write_that_fails_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(folder) as store:
        store.install(echo())
        tenant = store.tenant("default")
        tenant.set_secret("key", "before-before")
        events = len(journal(store))

        def fails(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fails)
            for name in ("key", "new"):
                with pytest.raises(capsa.HostFault, match="No space left"):
                    tenant.set_secret(name, "after-after")
        assert len(journal(store)) == events
        assert store._vault.values("default") == {"key": "before-before"}
        tenant.set_secret("key", "after-after")
    with opened(folder) as store:
        assert store._vault.values("default") == {"key": "after-after"}
        assert [file.name for file in (folder / "vault").iterdir()] == ["default.json"]


def test_in_memory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with opened() as store:
        store.install(echo())
        assert store.tenant("default").set_secret("key", "value") is False
        assert store.tenant("default").secrets() == ["key"]
        assert list(tmp_path.iterdir()) == []


def test_a_backup_holds_no_secrets(folder: Path, tmp_path: Path) -> None:
    """Nor do keys bring them: they are set where it is opened."""
    with opened(folder) as store:
        store.install(echo())
        store.tenant("default").set_secret("key", "hunter2-hunter2")
        for keys in (False, True):
            store.backup(tmp_path / f"copy-{keys}", keys=keys)
    for keys in (False, True):
        copied = tmp_path / f"copy-{keys}"
        assert b"hunter2" not in b"".join(path.read_bytes() for path in copied.rglob("*") if path.is_file())
        with opened(copied) as copy:
            assert copy.tenant("default").secrets() == []


# --- names and values


NO_NAMES: Final[list[Any]] = [
    "",
    "a b",
    "é",
    "a" * 65,
    "a.b",
    "../key",
    "a/b",
    "key\n",
    None,
    5,
    b"key",
    "\ud800",
]


def test_names_that_are_none(way: Way) -> None:
    way.install(echo())
    for name in NO_NAMES:
        with pytest.raises(capsa.InvalidField) as refused:
            way.store.tenant("default").set_secret(name, "hunter2-hunter2")
        assert refused.value.pointer == "/name"
        assert "hunter2" not in repr(refused.value) + str(refused.value)
    assert way.store.tenant("default").secrets() == []
    assert journal(way.store, "secret_changed") == []


@pytest.mark.parametrize(
    "value",
    ["", " hunter2", "hunter2 ", "hunter2\n", "hun\rter2", "hun\0ter2", "hunter2é", "hunter2\x7f", "hunter2\t", "hunter2" * 1000, "hunter2\ud800", 5, b"hunter2", ["hunter2"]],
    ids=lambda value: ascii(value)[:16],
)  # fmt: skip
def test_values_that_are_none_are_not_told(value: Any) -> None:
    """Not in the error, nor in what the error hangs on."""
    with opened() as store:
        store.install(echo())
        with pytest.raises(capsa.InvalidField) as refused:
            store.tenant("default").set_secret("key", value)
        error: BaseException | None = refused.value
        assert refused.value.pointer == "/value"
        while error is not None:
            said = repr(error) + str(error) + repr(vars(error))
            assert "hunter" not in said
            error = error.__cause__ or error.__context__
        assert store.tenant("default").secrets() == []


def test_no_value_is_no_value() -> None:
    with opened() as store:
        store.install(echo())
        tenant = store.tenant("default")
        tenant.set_secret("key", "value")
        nothing: Any = None
        with pytest.raises(capsa.InvalidField):
            tenant.set_secret("key", nothing)
        assert tenant.secrets() == ["key"]


@pytest.mark.parametrize(
    "value", ["!", "~", "a b  c", "x" * MAX_VALUE_BYTES, '"\\{}', "$(rm -rf)"], ids=lambda value: value[:12]
)
def test_values_at_the_edges(site: Site, value: str) -> None:
    with opened() as store:
        store.install(sends_it(site)).set_policy(policy(**GRANT, **outside(site)))
        store.tenant("default").set_secret("key", value)
        store.capsule("tool").invoke()
        assert got(site) == [value]


def test_there_are_only_so_many() -> None:
    with opened() as store:
        store.install(echo())
        tenant = store.tenant("default")
        for number in range(MAX_SECRETS):
            tenant.set_secret(f"key-{number}", "value")
        with pytest.raises(capsa.InvalidField, match=str(MAX_SECRETS)):
            tenant.set_secret("one-more", "value")
        assert tenant.set_secret("key-0", "another") is True
        assert tenant.remove_secret("key-0") is True
        assert tenant.set_secret("one-more", "value") is False
        assert len(tenant.secrets()) == MAX_SECRETS


def test_unknown_tenants_and_secrets(way: Way) -> None:
    way.install(echo())
    nobody = way.store.tenant("nobody")
    for ask in (
        nobody.secrets,
        lambda: nobody.set_secret("key", "value"),
        lambda: nobody.remove_secret("key"),
    ):
        with pytest.raises(capsa.UnknownTenant):
            ask()
    events = len(journal(way.store))
    assert way.store.tenant("default").remove_secret("key") is False
    assert len(journal(way.store)) == events


# --- what counts


def test_what_is_set_counts_from_the_next_call_on(way: Way, site: Site) -> None:
    tried = way.install(sends_it(site))
    tried.set_policy(policy(**GRANT, **outside(site)))
    tenant = way.store.tenant("default")
    # It has no handle then: what the guest keeps as one is nothing.
    assert tried.invoke().output[0] == "not-found"
    got(site)
    for number in range(4):
        assert tenant.set_secret("key", f"value-{number}") is (number > 0)
        tried.invoke()
        assert got(site) == [f"value-{number}"]
    assert tenant.remove_secret("key") is True
    assert tried.invoke().output[0] == "not-found"
    assert "value-" not in "".join(got(site))
    if way.persistent:
        tenant.set_secret("key", "value-again")
        way.restart()
        way.again(tried).invoke()
        assert got(site) == ["value-again"]


def test_a_rotation_counts_though_a_call_binds_meanwhile(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has read the old value, and is about to bind the tool with it."""
    with opened() as store:
        tried = store.install(sends_it(site))
        tried.set_policy(policy(**GRANT, **outside(site)))
        tenant = store.tenant("default")
        tenant.set_secret("key", "old-old-old")
        has_read, go = threading.Event(), threading.Event()
        values = store._vault.values

        def slowly(name: str) -> dict[str, str]:
            read = values(name)
            if threading.current_thread() is thread:
                has_read.set()
                assert go.wait(20)
            return read

        monkeypatch.setattr(store._vault, "values", slowly)
        thread = threading.Thread(target=tried.invoke)
        thread.start()
        assert has_read.wait(20)
        rotating = threading.Thread(target=tenant.set_secret, args=("key", "new-new-new"))
        rotating.start()
        until = time.monotonic() + 20
        while values("default") != {"key": "new-new-new"} and time.monotonic() < until:
            time.sleep(0.001)
        # It may wait for whoever binds; it must not be forgotten.
        rotating.join(0.05)
        go.set()
        for each in (thread, rotating):
            each.join()
        got(site)
        tried.invoke()
        assert got(site) == ["new-new-new"]


def test_each_tenant_has_its_own(way: Way, site: Site) -> None:
    """Under the same names; a name that looks like another's file is a file of its own."""
    tenants = ["acme", "acme2", "acme-json", "default"]
    for name in tenants:
        tried = way.install(sends_it(site), tenant=name)
        tried.set_policy(policy(**GRANT, **outside(site)))
        way.store.tenant(name).set_secret("key", f"of-{name}")
    for name in tenants:
        way.store.tenant(name).job("default").capsule("tool").invoke()
        assert got(site) == [f"of-{name}"]
        assert way.store.tenant(name).secrets() == ["key"]
    way.store.tenant("acme").remove_secret("key")
    assert way.store.tenant("acme2").secrets() == ["key"]


def test_only_granted_ones_and_only_where_they_may_go(way: Way, site: Site) -> None:
    """Another name of the same tenant, and another host."""
    tenant_name = "default"
    tried = way.install(sends_it(site))
    way.store.tenant(tenant_name).set_secret("key", "hunter2-hunter2")
    way.store.tenant(tenant_name).set_secret("other", "swordfish-swordfish")
    for grant in ([{"name": "other", "hosts": ["127.0.0.1"]}], []):
        tried.set_policy(policy(**outside(site), secrets=grant))
        with pytest.raises(capsa.CapabilityDenied):
            tried.invoke()
    tried.set_policy(policy(**outside(site), secrets=[{"name": "key", "hosts": ["api.example.com"]}]))
    made = tried.invoke()
    assert made.output[1] == "denied"
    assert [(denial.interface, denial.rule) for denial in made.denied] == [("http", "secret-host")]
    assert got(site) == []
    tried.set_policy(policy(**outside(site), **GRANT))
    tried.invoke()
    assert got(site) == ["hunter2-hunter2"]


def test_secrets_of_many_threads(folder: Path) -> None:
    """None is lost, and the file is always whole."""
    with opened(folder) as store:
        store.install(echo())
        tenant = store.tenant("default")
        broken: list[object] = []
        stop = threading.Event()

        def reads() -> None:
            while not stop.is_set():
                try:
                    json.loads((folder / "vault" / "default.json").read_bytes())
                except FileNotFoundError:
                    pass
                except ValueError as error:
                    broken.append(error)

        reading = threading.Thread(target=reads)
        reading.start()
        together(
            8,
            lambda number: [tenant.set_secret(f"key-{number}-{each}", f"value-{each}") for each in range(5)],
        )
        stop.set()
        reading.join()
        assert broken == []
        assert len(tenant.secrets()) == 40
    assert len(Vault(folder / "vault").values("default")) == 40


# --- it is told nowhere


def test_the_journal_says_who_set_it_and_not_what(way: Way) -> None:
    way.install(echo())
    way.store.tenant("default").set_secret("key", "hunter2-hunter2")
    way.store.tenant("default").remove_secret("key")
    rows = [row for row in way.store.audit() if row.type == "secret_changed"]
    assert [(row.detail["name"], row.detail["removed"], row.principal) for row in rows] == [
        ("key", False, "local"),
        ("key", True, "local"),
    ]
    assert all(b"hunter2" not in event.payload for event in journal(way.store))
    assert way.store.rebuild().equal


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage() + str(record.exc_info))


@pytest.fixture(scope="module")
def echoing() -> Iterator[Site]:
    with Site({"/": tells(b"1")}) as made:
        yield made


@given(value=VALUES)
@settings(max_examples=12)
def test_a_secret_is_told_nowhere(echoing: Site, tmp_path: Path, value: str) -> None:
    """Not in any file but its own, not in answers, errors, records, logs and representations; in no usual spelling."""
    logs = _Kept()
    root = logging.getLogger()
    level = root.level
    root.addHandler(logs)
    root.setLevel(logging.DEBUG)
    try:
        with tempfile.TemporaryDirectory(dir=tmp_path) as name:
            home = Path(name)
            said: list[object] = []
            with opened(home / "store") as store:
                tried = store.install(sends_it(echoing))
                tenant = store.tenant("default")
                said.append(tenant.set_secret("key", value))
                tried.set_policy(policy("deterministic", **GRANT, **outside(echoing)))
                made = tried.invoke({"a": 1}, record=True)
                assert got(echoing) == [value]
                for ask in (
                    lambda: tenant.set_secret("key", value + "\n"),
                    lambda: tenant.set_secret("no name", value),
                    lambda: tried.invoke(object()),
                    lambda: tried.set_policy({"schema": 1}),
                ):
                    try:
                        ask()
                    except capsa.CapsaError as error:
                        said += [str(error), repr(error), vars(error)]
                said += [made, tried.invocations(), tried.replay_invocation(made.id), tried.policy, tried.explain("secret:key"), tried.describe(), store.audit(), tenant.secrets()]  # fmt: skip
                said += [repr(each) for each in (store, tenant, tried, store._vault, store._tool_calls)]
                store.export(home / "export")
                store.backup(home / "backup", keys=True)
                store.upkeep()
            files = [path for path in home.rglob("*") if path.is_file()]
            kept = [
                path
                for path in files
                if value.encode() in path.read_bytes() or json.dumps(value).encode() in path.read_bytes()
            ]
            assert [path.relative_to(home) for path in kept] == [Path("store/vault/default.json")]
            everything = (
                b"\n".join(path.read_bytes() for path in files if path.parent.name != "vault")
                + repr(said).encode()
                + "\n".join(logs.said).encode()
            )
            for spelled in (
                value.encode(),
                value.encode().hex().encode(),
                base64.b64encode(value.encode()),
                repr(value)[1:-1].encode(),
                json.dumps(value)[1:-1].encode(),
            ):
                assert spelled not in everything
            assert re.search(rb"capsa-secret-[0-9a-f]{32}", everything), "what was looked through is there"
    finally:
        root.removeHandler(logs)
        root.setLevel(level)
