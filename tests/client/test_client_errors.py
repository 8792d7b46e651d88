"""What the server refuses is what the same call raises in process."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.server.serving import KEY, SPEC, Served

import capsa
from capsa import errors
from capsa.client import Client, Unauthorized, Unreachable
from capsa.client._errors import CLASSES, exception
from capsa.client._requests import segment
from capsa.errors import CapsaError
from capsa.server._problems import KINDS, document, kind_of

CLASSES_OF_CAPSA = [
    class_
    for _, class_ in inspect.getmembers(errors, inspect.isclass)
    # Nobody sees the one that is left out.
    if issubclass(class_, CapsaError) and class_.code in KINDS and class_ is not errors.TooSlow
]


def test_every_type_of_problem_has_its_class() -> None:
    assert set(CLASSES) == set(KINDS)


@pytest.mark.parametrize("class_", CLASSES_OF_CAPSA, ids=lambda class_: class_.__name__)
def test_an_error_comes_back_as_its_class_with_what_it_says(class_: type[CapsaError]) -> None:
    if class_ is errors.InvalidSpec:
        told = document(errors.InvalidSpec("bad", problems=[(3, 1, "options", "no"), (4, 2, "", "x")]), "r1")
        back = exception(told)
        assert isinstance(back, errors.InvalidSpec)
        assert back.problems == [(3, 1, "options", "no"), (4, 2, "", "x")]
        return
    error = class_("what is wrong", pointer="/a/0", value="v", remedy="do that")
    back = exception(document(error, "r1"))
    # A class that shares the code of a class below it comes back as that one.
    assert type(back) is CLASSES[kind_of(error)]
    assert (
        isinstance(back, class_)
        or class_ in (CapsaError, errors.NotFound, errors.Conflict, errors.CapsuleFailure)
        or (kind_of(error) == "internal" and isinstance(back, errors.HostFault))
    )
    # What a fault of the server says is for its log.
    if kind_of(error) not in ("internal", "store-unwritable"):
        assert (back.detail, back.pointer, back.value, back.remedy) == (
            "what is wrong",
            "/a/0",
            "v",
            "do that",
        )
    assert back.__notes__ == ["request r1"]


def test_types_of_later_versions_become_what_their_status_suggests() -> None:
    assert type(exception({"type": "/problems/new", "status": 400})) is errors.InvalidRequest
    assert type(exception({"type": "/problems/new", "status": 500})) is errors.HostFault


CALLS: list[tuple[str, Callable[[Any], Any]]] = [
    ("option", lambda c: c.decide(options=["zz"])),
    ("no options", lambda c: c.decide(options=[])),
    ("options text", lambda c: c.decide(options="cheap_fast")),
    ("options fraction", lambda c: c.decide(options=[1.5])),
    ("strategy", lambda c: c.decide(options={"nope": ["balanced"]})),
    ("current", lambda c: c.decide(current=1.5)),
    ("current not allowed", lambda c: c.decide(current="balanced", options=["cheap_fast"])),
    ("input", lambda c: c.decide([1])),
    ("input nan", lambda c: c.decide({"x": math.nan})),
    ("input nan inside", lambda c: c.decide({"x": {"y": [1.0, math.inf]}})),
    ("input bytes", lambda c: c.decide({"x": b"1"})),
    ("input names", lambda c: c.decide({1: 2})),
    ("input big", lambda c: c.decide({"x": 2**63})),
    ("input inexact", lambda c: c.decide({"x": 2**53 + 1})),
    ("input surrogate", lambda c: c.decide({"x": "\ud800"})),
    ("input mixed", lambda c: c.decide({"x": [1, "a"]})),
    ("input type", lambda c: c.decide({"task_type": [1]})),
    ("input large", lambda c: c.decide({"x": "a" * 70_000})),
    ("input huge", lambda c: c.decide({"x": "a" * 300_000})),
    ("input deep", lambda c: c.decide(nested(20))),
    ("input very deep", lambda c: c.decide(nested(2000))),
    ("context key", lambda c: c.decide(context_key="")),
    ("context key type", lambda c: c.decide(context_key=5)),
    ("context key long", lambda c: c.decide(context_key="é" * 200)),
    ("subject", lambda c: c.decide(subject="")),
    ("idempotency", lambda c: c.decide(idempotency_key="é")),
    ("idempotency header", lambda c: c.decide(idempotency_key="a\r\nX: y")),
    ("feedback id", lambda c: c.feedback("dec_x", reward=1)),
    ("feedback id type", lambda c: c.feedback(5, reward=1)),
    ("feedback id surrogate", lambda c: c.feedback("\ud800", reward=1)),
    ("feedback nothing", lambda c: c.feedback(reward=1)),
    ("feedback both", lambda c: c.feedback(c.decide().id, option="balanced", reward=1)),
    ("reward", lambda c: c.feedback(c.decide().id, reward=2)),
    ("reward nan", lambda c: c.feedback(c.decide().id, reward=math.nan)),
    ("reward text", lambda c: c.feedback(c.decide().id, reward="1")),
    ("reward none", lambda c: c.feedback(c.decide().id)),
    ("metric", lambda c: c.feedback(c.decide().id, outcome={"q": 1})),
    ("metric range", lambda c: c.feedback(c.decide().id, outcome={"quality": 2})),
    ("metric nan", lambda c: c.feedback(c.decide().id, outcome={"quality": math.nan})),
    ("metric none", lambda c: c.feedback(c.decide().id, outcome={"quality": None})),
    ("metrics", lambda c: c.feedback(c.decide().id, outcome=[1])),
    ("metric name", lambda c: c.feedback(c.decide().id, outcome={1: 1})),
    ("no metric", lambda c: c.feedback(c.decide().id, outcome={})),
    ("taken", lambda c: c.feedback(c.decide().id, reward=1, taken="zz")),
    ("taken type", lambda c: c.feedback(c.decide().id, reward=1, taken=object())),
    ("explicit", lambda c: c.feedback(option="zz", reward=1)),
    ("explicit strategy", lambda c: c.feedback(option="balanced", strategy="nope", reward=1)),
    ("explicit outcome", lambda c: c.feedback(option="balanced", outcome={"quality": 1})),
    ("setting", lambda c: c.update_learning(nope=1)),
    ("setting value", lambda c: c.update_learning(rails={"min_exploration": 2})),
    ("setting nan", lambda c: c.update_learning(rails={"min_exploration": math.nan})),
    ("version", lambda c: c.update_learning(if_version=55)),
    ("version type", lambda c: c.update_learning(if_version="1")),
    ("limit", lambda c: c.contexts(limit=0)),
    ("after", lambda c: c.contexts(after=5)),
    ("page", lambda c: c.decisions(limit=5000)),
    ("page type", lambda c: c.feedback_log(limit=1.5)),
    ("story", lambda c: c.story("dec_x")),
    ("batch", lambda c: c.decide_batch("x")),
    ("long batch", lambda c: c.decide_batch([{}] * 1001)),
    ("feedback batch", lambda c: c.feedback_batch({})),
]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"x": value}
    return value


def conflict(capsule: Any) -> None:
    decision = capsule.decide()
    capsule.feedback(decision.id, reward=0.5)
    capsule.feedback(decision.id, reward=0.25)


def idempotency_conflict(capsule: Any) -> None:
    capsule.decide({"x": 1}, idempotency_key="the same")
    capsule.decide({"x": 2}, idempotency_key="the same")


CALLS += [("conflict", conflict), ("idempotency conflict", idempotency_conflict)]


@pytest.mark.parametrize("call", [call for _, call in CALLS], ids=[name for name, _ in CALLS])
def test_both_raise_the_same(client: Client, call: Callable[[Any], Any]) -> None:
    """The class and where it points to; words may differ where the edge refuses what never reaches the domain."""
    with capsa.open() as store, pytest.raises(CapsaError) as inside:
        call(store.install(SPEC))
    with pytest.raises(CapsaError) as remote:
        call(client.capsule("router"))
    assert type(remote.value) is type(inside.value)
    assert (
        remote.value.pointer is None
        or remote.value.pointer.split("/")[:2] == (inside.value.pointer or "").split("/")[:2]
    )


def test_places_that_are_not_there(client: Client) -> None:
    with pytest.raises(errors.UnknownCapsule):
        client.capsule("nope").decide()
    with pytest.raises(errors.UnknownTenant):
        client.tenant("nope").job("j").capsule("c").decide()
    with pytest.raises(errors.UnknownJob):
        client.job("nope").info()
    with pytest.raises(errors.UnknownCapsule):
        client.capsule("../../x").decide()
    for name in ("", "\ud800"):
        with pytest.raises(errors.UnknownCapsule):
            client.capsule(name)
    with pytest.raises(errors.InvalidField):
        client.tenant("No")


def test_a_name_cannot_leave_its_place_in_the_path(client: Client) -> None:
    """``..`` in a path would be the folder above, and another call."""
    for name in ("..", ".", "a/b", "a?b", "a#b", "%2e%2e"):
        with pytest.raises(errors.UnknownCapsule) as raised:
            client.capsule(name).describe()
        assert raised.value.value == name
    # What stands on the way may tidy paths up.
    assert [segment(name) for name in ("..", ".", "a.b", "a/b")] == ["%2E%2E", "%2E", "a.b", "a%2Fb"]


def test_specs_that_do_not_hold(client: Client) -> None:
    with pytest.raises(errors.InvalidSpec) as raised:
        client.install(b"name: x\noptions: [a]\ncontext: [b]\n")
    assert raised.value.problems
    with pytest.raises(errors.InvalidCapsule):
        client.install(b"\0asm not a component")
    with pytest.raises(OSError, match="nowhere"):
        client.install("/nowhere/router.yaml")
    with pytest.raises(TypeError):
        client.install(5)  # type: ignore[arg-type]


def test_jobs(client: Client) -> None:
    tenant = client.tenant("jobs")
    assert tenant.create_job("one", description="d", metadata={"a": 1}).metadata == {"a": 1}
    with pytest.raises(errors.AlreadyExists):
        tenant.create_job("one")
    with pytest.raises(errors.InvalidField):
        tenant.create_job("No")
    with pytest.raises(errors.InvalidField):
        tenant.create_job("two", metadata={"a": math.nan})
    assert [job.name for job in tenant.jobs()] == ["one"]
    assert tenant.job("one").delete().job == "one"


def test_a_wrong_key_is_refused_and_never_said(shared: Served, caplog: pytest.LogCaptureFixture) -> None:
    wrong = "wrong-key-0123456789"
    with Client(shared.url, wrong) as client:
        capsule = client.capsule("router")
        with pytest.raises(Unauthorized) as raised:
            capsule.decide()
        decision = capsule.decide(default="balanced")
        assert (decision.reason, type(decision.error)) == ("refused", Unauthorized)
        with pytest.raises(Unauthorized):
            capsule.feedback("dec_x", reward=1)
        said = [
            repr(client),
            repr(capsule),
            str(raised.value),
            repr(raised.value),
            repr(decision),
            caplog.text,
        ]
    assert not any(wrong in text for text in said)


def test_the_key_comes_from_the_environment(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSA_ADMIN_KEY", KEY)
    with Client(shared.url) as client:
        assert client.capsule("router").decide().id is not None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("ftp://x",), ValueError),
        (("x",), ValueError),
        ((5,), TypeError),
        (("http://user:hunter2@x",), ValueError),
        (("http://x?key=hunter2",), ValueError),
        (("http://x:99999",), ValueError),
        (("unix:relative",), ValueError),
        (("http://x", "hunter2\r\nX: y"), ValueError),
        (("http://x", 5), TypeError),
    ],
)
def test_wrong_arguments_raise_at_once_and_say_no_secret(
    arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        Client(*arguments)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"timeout": math.nan}, {"queue": -1}])
def test_wrong_settings_raise_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"timeout|queue"):
        Client("http://127.0.0.1:1", **settings)
    with pytest.raises(TypeError):
        Client("http://127.0.0.1:1", **{name: str(value) for name, value in settings.items()})  # type: ignore[arg-type]


@pytest.mark.parametrize("default", [1, ["balanced"], {"choice": 1}, {1: "balanced"}, b"balanced"])
def test_a_default_of_a_wrong_type_raises_at_once(default: Any) -> None:
    client = Client("http://127.0.0.1:1")
    with pytest.raises(TypeError):
        client.capsule("router", default=default)
    with pytest.raises(TypeError):
        client.capsule("router").decide(default=default)


def test_without_a_default_it_raises_unreachable() -> None:
    with Client("http://127.0.0.1:1") as client, pytest.raises(Unreachable):
        client.capsule("router").decide()
