"""Effect classes are what imports and wants prove, and no more may be claimed."""

from __future__ import annotations

import itertools
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policies.said import WANTS

from capsa.errors import InvalidCapsule
from capsa.policies import Effect, Wants, check_effect, effect_of, load_wants

EFFECTS: Final[tuple[Effect, ...]] = ("pure", "read", "idempotent", "non_idempotent")
INTERFACES: Final = ("clock", "random", "config", "kv", "http", "files", "secrets")
EVERYTHING: Final[dict[str, Any]] = {
    "clock": True,
    "random": True,
    "config": ["a"],
    "kv": {"access": "read_write"},
    "files": {"access": "read_write"},
    "http": [{"hosts": ["a.com"], "methods": ["POST"]}],
    "secrets": [{"name": "s", "hosts": ["a.com"]}],
}


def imports(*names: str) -> list[str]:
    """As a component of the world `tool` names them, with the interfaces of types."""
    return ["log", *(f"capsa:capsule/{name}@0.1.0" for name in ("types", "outside", *names))]


def wants(**changed: Any) -> Wants:
    return load_wants({"wants": EVERYTHING | changed})


@pytest.mark.parametrize(
    ("imported", "changed", "effect"),
    [
        ((), {}, "pure"),
        (("random", "config"), {}, "pure"),
        (("clock",), {}, "read"),
        (("secrets",), {}, "read"),
        (("kv",), {"kv": {"access": "read"}}, "read"),
        (("kv",), {}, "idempotent"),
        (("files",), {"files": {"access": "read"}}, "read"),
        (("files",), {}, "idempotent"),
        (("http",), {"http": [{"hosts": ["a.com"]}]}, "read"),
        (("http",), {}, "idempotent"),
        (
            ("http",),
            {"http": [{"hosts": ["a.com"]}, {"hosts": ["b.com"], "methods": ["GET", "PUT"]}]},
            "idempotent",
        ),
        (("http",), {"http": [{"hosts": ["a.com"], "methods": ["OPTIONS"]}]}, "idempotent"),
        (INTERFACES, {}, "idempotent"),
    ],
)
def test_the_class_is_what_is_proved(
    imported: tuple[str, ...], changed: dict[str, Any], effect: Effect
) -> None:
    """Any weaker one may be declared, no stronger one."""
    wanted = wants(**changed)
    assert effect_of(wanted, imports(*imported)) == effect
    for declared in EFFECTS:
        if EFFECTS.index(declared) >= EFFECTS.index(effect):
            check_effect(declared, wanted, imports(*imported))
        else:
            with pytest.raises(InvalidCapsule, match=f"says {declared}") as caught:
                check_effect(declared, wanted, imports(*imported))
            assert caught.value.pointer == "/effect"


@pytest.mark.parametrize("name", INTERFACES)
def test_an_import_has_to_be_wanted(name: str) -> None:
    """Wanting it without importing it is no fault."""
    unwanted = load_wants({"wants": {key: value for key, value in EVERYTHING.items() if key != name}})
    with pytest.raises(InvalidCapsule, match=f"imports {name}") as caught:
        check_effect("non_idempotent", unwanted, imports(name))
    assert caught.value.pointer == f"/wants/{name}"
    assert "in the definition" in str(caught.value) or "under [wants]" in str(caught.value)
    check_effect("non_idempotent", wants(), imports(name))
    check_effect("pure", wants(), imports())


def test_log_is_never_wanted() -> None:
    check_effect("pure", load_wants({}), ["log"])


@pytest.mark.parametrize(
    "name",
    [
        "wasi:http/outgoing-handler@0.2.0",
        "capsa:capsule/sockets@0.1.0",
        "http",
        "evil:capsule/http@0.1.0",
        "capsa:capsule/log@0.1.0",
        "env.memory",
        "",
    ],
)
def test_what_no_host_has_is_refused(name: str) -> None:
    """Also where it ends like one of ours."""
    for check in (
        lambda: effect_of(wants(), [name]),
        lambda: check_effect("non_idempotent", wants(), [name]),
    ):
        with pytest.raises(InvalidCapsule, match="no host has"):
            check()


def test_why_a_claim_does_not_hold_is_told() -> None:
    rows: tuple[tuple[Effect, tuple[str, ...], str], ...] = (
        ("pure", ("clock", "kv"), "it imports clock, kv"),
        ("read", ("kv",), "it wants to write kv"),
        ("read", ("files",), "it wants to write files"),
        ("read", ("http",), "it wants to send POST"),
    )
    for declared, imported, said in rows:
        with pytest.raises(InvalidCapsule, match=said) as caught:
            check_effect(declared, wants(), imports(*imported))
        # As `capsule.toml` spells it.
        assert "non_idempotent, or want less" in (caught.value.remedy or "")


@given(definition=WANTS, imported=st.sets(st.sampled_from(INTERFACES)))
def test_a_claim_of_read_or_pure_means_that_nothing_can_be_changed(
    definition: dict[str, Any], imported: set[str]
) -> None:
    """From what was written, whatever it is."""
    effect = effect_of(load_wants(definition), imports(*imported))
    said = definition.get("wants", {})
    writes = {
        "kv": said.get("kv", {}).get("access") == "read_write",
        "files": said.get("files", {}).get("access") == "read_write",
        "http": bool(
            set(itertools.chain.from_iterable(rule.get("methods", []) for rule in said.get("http", [])))
            - {"GET", "HEAD"}
        ),
    }
    changes = any(writes.get(name, False) for name in imported)
    assert (effect == "idempotent") == changes
    if effect == "pure":
        assert imported <= {"random", "config"}
