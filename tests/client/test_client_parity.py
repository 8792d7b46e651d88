"""The client answers what the same calls answer in process."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.serving import INPUT, KEY, OUTCOME, SPEC, Served
from tests.tools.making import says

import capsa
from capsa.capsules import read_source
from capsa.client import (
    AsyncRemoteCapsule,
    Client,
    RemoteCapsule,
    RemoteDecision,
    RemoteJob,
    RemoteStrategy,
    RemoteSuggestion,
    RemoteTenant,
)

OPTIONS = ["cheap_fast", "balanced", "expensive_accurate"]
TWO = b"""\
name: retry
strategies:
  timeout: {options: [1s, 2s, 5s], algorithm: {name: epsilon_greedy, epsilon: 0.1}}
  retries: {options: ["0", "1", "3"]}
contexts: [service]
"""

#: What no two stores have in common: when, and who.
OWN = {"id", "decision_id", "time", "as_of", "sequence", "updated_at", "deadline", "principal", "state_hash"}
OWN |= {"created_at", "delay_seconds", "median_delay_seconds", "at", "by", "warnings_at"}


def plain(value: Any) -> Any:
    """An answer as plain values, without what no two stores have in common."""
    if isinstance(value, capsa.CapsaError):
        return [type(value).__name__, value.pointer]
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    elif type(value).__module__.startswith("capsa._native"):
        value = {name: getattr(value, name) for name in ATTRIBUTES[type(value).__name__]}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name not in OWN and name != "error"}
    return [plain(item) for item in value] if isinstance(value, list) else value


def names(class_: type[msgspec.Struct], *more: str) -> list[str]:
    return [name for name in class_.__struct_fields__ if name != "error"] + list(more)


ATTRIBUTES = {
    "Decision": names(RemoteDecision),
    "StrategyDecision": names(RemoteStrategy),
    "Suggestion": names(RemoteSuggestion),
}


class Pair:
    """The same capsule in process and behind the server, which are asked the same."""

    def __init__(self, store: capsa.Store, client: Client, spec: bytes, job: str) -> None:
        self.inside = store.job(job).install(spec)
        self.remote = client.job(job).install(spec)

    def same(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Calls both, compares, and gives the answer from the server."""
        there = getattr(self.remote, method)(*arguments, **named)
        assert plain(there) == plain(getattr(self.inside, method)(*arguments, **named))
        return there


@pytest.fixture(scope="module")
def jobs(shared: Served) -> Iterator[Iterator[tuple[capsa.Store, Client, str]]]:
    """As many pairs of equal jobs as are asked for."""
    with capsa.open() as store, Client(shared.url, KEY) as client:
        yield ((store, client, f"job{number}") for number in range(10_000))


@pytest.fixture
def pair(jobs: Iterator[tuple[capsa.Store, Client, str]]) -> Pair:
    store, client, job = next(jobs)
    return Pair(store, client, SPEC, job)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.one_of(
    TEXTS,
    st.booleans(),
    st.none(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.lists(st.one_of(TEXTS, st.integers(-9, 9)), max_size=3),
    st.dictionaries(TEXTS, st.floats(), max_size=2),
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "input": st.dictionaries(st.sampled_from([*INPUT, "a.b", "x"]) | TEXTS, VALUES, max_size=4),
        "context_key": TEXTS,
        "options": st.lists(st.sampled_from([*OPTIONS, 0, 2, "zz", 7]), max_size=3),
        "current": st.sampled_from([*OPTIONS, 1, 9]),
        "subject": TEXTS,
    },
)


def outcome_of(call: Any) -> Any:
    try:
        return call()
    except capsa.CapsaError as error:
        return type(error)


@given(REQUESTS)
def test_decisions_of_any_request(shared_pair: Pair, request_: dict[str, Any]) -> None:
    """What does not depend on the draw is the same; or both refuse it as the same class."""
    inside = outcome_of(lambda: shared_pair.inside.decide(**request_))
    remote = outcome_of(lambda: shared_pair.remote.decide(**request_))
    if isinstance(remote, type):
        assert remote is inside
        return
    drawn = {"option", "option_name", "propensity", "reason", "learner_version"}
    told, said = plain(remote), plain(inside)
    for answer in (told, said):
        for name in drawn:
            answer.pop(name)
        for part in answer["decisions"]:
            for name in drawn & part.keys():
                part.pop(name)
    assert told == said
    assert remote.reason in ("learned", "explored", "only_option")


@pytest.fixture(scope="module")
def shared_pair(jobs: Iterator[tuple[capsa.Store, Client, str]]) -> Pair:
    store, client, job = next(jobs)
    return Pair(store, client, SPEC, job)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*OPTIONS, 0, 2]),
            st.floats(-1, 1) | st.booleans(),
            st.sampled_from(["a", "b|c", "é", "x.y/z?"]),
        ),
        max_size=6,
    )
)
def test_learning_of_any_choices(
    jobs: Iterator[tuple[capsa.Store, Client, str]], chosen: list[tuple[str | int, float, str]]
) -> None:
    """Feedback without an id needs no draw: answers, contexts and reports are the same to the last bit."""
    store, client, job = next(jobs)
    pair = Pair(store, client, SPEC, job)
    for option, reward, key in chosen:
        pair.same("feedback", option=option, reward=reward, context_key=key)
    pair.same("contexts")
    pair.same("report")
    pair.same("feedback_log")


def test_a_decision_and_its_feedback(pair: Pair) -> None:
    """With one allowed option there is nothing to draw, and everything is the same."""
    inside = pair.inside.decide(INPUT, options=["balanced"])
    remote = pair.remote.decide(INPUT, options=["balanced"])
    assert plain(remote) == plain(inside)
    assert (remote.reason, remote.choices, remote.probabilities) == (
        inside.reason,
        inside.choices,
        inside.probabilities,
    )
    for content in ({"outcome": {"quality": True}}, {"outcome": OUTCOME}, {"outcome": OUTCOME}):
        assert outcome_of(lambda c=content: plain(pair.remote.feedback(remote.id, **c))) == outcome_of(
            lambda c=content: plain(pair.inside.feedback(inside.id, **c))
        )
    assert plain(pair.remote.story(remote.id or "")) == plain(pair.inside.story(inside.id or ""))
    for method in ("decisions", "feedback_log", "report", "contexts", "describe"):
        said = plain(getattr(pair.inside, method)())
        told = plain(getattr(pair.remote, method)())
        # The server counts its connections' decisions as this process does.
        assert told == said


def test_shadow_and_off(pair: Pair) -> None:
    for mode in ("shadow", "off"):
        pair.same("update_learning", mode=mode)
        decision = pair.same("decide", INPUT, options=["balanced"], current="balanced")
        assert decision.mode == mode
        if mode == "shadow":
            assert decision.suggested.choices == {"choice": "balanced"}
    assert decision.id is None
    assert pair.remote.feedback(decision.id, reward=1).status == "unrecorded"
    assert pair.inside.feedback(None, reward=1).status == "unrecorded"


def test_several_strategies(jobs: Iterator[tuple[capsa.Store, Client, str]]) -> None:
    store, client, job = next(jobs)
    pair = Pair(store, client, TWO, job)
    allowed = {"timeout": ["2s"], "retries": ("0",)}
    decision = pair.same("decide", {"service": "db"}, options=allowed)
    assert decision.choices == {"timeout": "2s", "retries": "0"}
    assert (decision.option, decision.strategy, decision.probabilities) == (None, None, None)
    answered = pair.remote.feedback(decision.id, reward=0.5, taken={"timeout": "1s", "retries": "3"})
    assert [part.option_name for part in answered.decisions] == ["1s", "3"]
    told = pair.remote.report()
    assert told.algorithm == pair.inside.report().algorithm
    assert pair.same("update_learning", algorithm={"name": "epsilon_greedy", "epsilon": 0.2})[
        "algorithm"
    ] == {
        "name": "epsilon_greedy",
        "epsilon": 0.2,
    }


def test_settings(pair: Pair) -> None:
    document = pair.same(
        "update_learning", algorithm="simple_weighted", rails={"max_delta": 0.1}, if_version=0
    )
    assert document == pair.remote.learning
    assert set(document["overridden"]) == set(pair.inside.learning["overridden"])
    pair.same(
        "update_learning", decay={"half_life": "14d"}, horizon={"after": "7d", "outcome": {"quality": 0}}
    )
    pair.same("update_learning", rails={"max_delta": None}, maxContexts=50, baseline=1)
    assert plain(pair.remote.learning) == plain(pair.inside.learning)
    told = [(row.type, row.capsule, row.job, row.detail) for row in pair.remote.audit()]
    assert told == [(row.type, row.capsule, row.job, row.detail) for row in pair.inside.audit()]
    assert told[1][:3] == ("learning_changed", "router", pair.remote._place[1])
    assert told[1][3]["changed"] == ["algorithm", "rails.max_delta"]


def test_batches(pair: Pair) -> None:
    requests: list[Any] = [
        {"input": INPUT, "options": ["balanced"]},
        {"context_key": "k", "options": (1,)},
        {"inputs": {}},
        5,
        {"options": ["zz"]},
        {"input": {"x": b"1"}},
    ]
    remote = pair.same("decide_batch", requests)
    assert len(pair.remote.decide_batch(iter(requests))) == len(requests)
    inside = pair.inside.decide_batch(requests)
    ids = [[answer.id for answer in answers[:2]] for answers in (remote, inside)]  # type: ignore[union-attr]

    def events(ids: list[str | None]) -> list[Any]:
        return [
            {"decision_id": ids[0], "outcome": OUTCOME},
            {"decision_id": None, "reward": 1},
            {"option": "balanced", "reward": 0.5, "context_key": "k"},
            {"decision_id": ids[1], "reward": 5},
            {"rewards": 1},
            {"decision_id": ids[1], "reward": 0.5, "taken": None},
            {"decision_id": "dec_x", "reward": 0.5},
        ]

    told, said = pair.remote.feedback_batch(events(ids[0])), pair.inside.feedback_batch(events(ids[1]))
    assert [getattr(a, "status", type(a)) for a in told] == [getattr(a, "status", type(a)) for a in said]
    assert plain(told[:1] + told[2:]) == plain(said[:1] + said[2:])


def test_pages(pair: Pair) -> None:
    for key in "abcde":
        pair.same("feedback", option=0, reward=0.5, context_key=key)
    assert [row.context_key for row in pair.remote.contexts(limit=2)] == ["a", "b"]
    assert [row.context_key for row in pair.remote.contexts(after="b", limit=2)] == ["c", "d"]
    first = pair.remote.feedback_log(limit=2)
    assert [row.context_key for row in pair.remote.feedback_log(first[-1].sequence, 2)] == ["c", "d"]


def test_places_and_removal(client: Client) -> None:
    with capsa.open() as store:
        for opened in (store, client):
            tenant = opened.tenant("acme")
            tenant.create_job("empty", description="nothing")
            tenant.job("busy").install(SPEC).decide(INPUT)
            plan = tenant.job("busy").plan(SPEC)
            assert (plan.capsule, plan.version, plan.unchanged) == ("router", 1, True)
        here, there = client.tenant("acme"), store.tenant("acme")
        assert plain(here.jobs()) == plain(there.jobs())
        assert plain(here.job("busy").info()) == plain(there.job("busy").info())
        assert here.job("busy").capsules() == ["router"]
        assert "acme" in [tenant.name for tenant in client.tenants()]
        assert [row.type for row in client.audit("acme")] == [row.type for row in store.audit("acme")]
        assert plain(here.job("busy").capsule("router").purge_logs()) == plain(
            there.job("busy").capsule("router").purge_logs()
        )
        assert plain(here.job("busy").delete_capsule("router")) == plain(
            there.job("busy").delete_capsule("router")
        )
        assert plain(here.job("empty").delete()) == plain(there.job("empty").delete())
        assert client.purge("acme").tenant == store.purge("acme").tenant


def test_what_is_sent_is_the_source_itself(tmp_path: Path) -> None:
    """A tenant that lets in YAML alone lets in a client's, from a text, bytes and a file; and no component."""
    with capsa.open(tmp_path / "store") as store:
        store.tenant("default").change_settings(install_allow="spec_only")
    file = tmp_path / "router.yaml"
    file.write_bytes(SPEC)
    component = read_source(SPEC)
    with Served(tmp_path / "store") as served, Client(served.url, KEY) as client:
        for source in (SPEC, SPEC.decode(), file, str(file)):
            assert client.plan(source).digest == component.digest
            assert client.install(source).describe()["digest"] == component.digest
        with pytest.raises(capsa.InstallRefused):
            client.install(component.component.replace(b"router", b"rooter"))
        told = [
            row["detail"] for row in served.get("/audit").value["audit"] if row["type"] == "settingsChanged"
        ]
        assert [detail["installAllow"] for detail in told] == ["specOnly"]
        settings, refused = (row for row in client.audit() if row.type in ("settings_changed", "refused"))
        assert (settings.detail["install_allow"], settings.detail["trusted_keys"]) == ("spec_only", [])
        assert refused.detail["error"]["code"] == "install-refused"


def test_a_breach_is_told_alike(shared: Served) -> None:
    """Names of ours in the details are those of the language."""
    component = says("breaks", "no JSON")
    with capsa.open() as store, Client(shared.url, KEY) as client:
        rows = []
        for opened in (store, client):
            tool = opened.tenant("breaches").job("default").install(component)
            with pytest.raises(capsa.CapsuleBadOutput):
                tool.invoke(1)
            rows.append(tool.audit()[-1].detail)
        inside, remote = rows
        assert set(remote) == set(inside)
        assert set(remote["used"]) == set(inside["used"])
        assert remote["error"] == inside["error"]
        (told,) = (
            row for row in shared.get("/audit?tenant=breaches").value["audit"] if row["type"] == "breached"
        )
        assert "cpuMs" in told["detail"]["used"]


#: What only one side takes: how long to wait, and on which thread of the server it runs.
EXTRA = {"timeout", "default", "inline"}


def signature(class_: type, name: str) -> list[tuple[str, Any, Any]]:
    told = inspect.signature(getattr(class_, name)).parameters.values()
    return [(each.name, each.kind, each.default) for each in told if each.name not in EXTRA]


@pytest.mark.parametrize(
    ("remote", "inside"),
    [
        (RemoteCapsule, capsa.Capsule),
        (AsyncRemoteCapsule, capsa.AsyncCapsule),
        (Client, capsa.Store),
        (RemoteTenant, capsa.Tenant),
        (RemoteJob, capsa.Job),
    ],
    ids=lambda class_: class_.__name__,
)
def test_methods_take_what_they_take_in_process(remote: type, inside: type) -> None:
    shared = [
        name
        for name in dir(remote)
        if not name.startswith("_")
        and callable(getattr(remote, name))
        and hasattr(inside, name)
        and name != "close"
    ]
    assert (
        {"decide", "feedback", "report"} <= set(shared)
        or {"install", "capsule"} & set(shared)
        or "jobs" in shared
    )
    for name in shared:
        assert signature(remote, name) == signature(inside, name), name


def test_nothing_that_has_a_route_is_missing() -> None:
    here = {"replay", "answer", "state_hash", "version", "kind"}
    public = {name for name in dir(capsa.Capsule) if not name.startswith("_")}
    assert public - here <= set(dir(RemoteCapsule))
    # Secrets do not go over HTTP, and what may be installed is said where the store is.
    local = {"set_secret", "remove_secret", "secrets", "settings", "change_settings"}
    tenant = {name for name in dir(capsa.Tenant) if not name.startswith("_")}
    assert tenant - local <= {*dir(RemoteTenant), "name"}
    assert not local & set(dir(RemoteTenant))
    assert {name for name in dir(capsa.Job) if not name.startswith("_")} <= {
        *dir(RemoteJob),
        "name",
        "tenant",
        # What the server answers an install with; who installs over HTTP asks for the capsule.
        "installed",
    }


def test_a_decision_has_every_attribute_that_is_for_callers() -> None:
    inner = {
        "recorded_at",
        "sequence",
        "is_in_id",
        "due_ms",
        "defaults",
        "subject",
        "record",
        "log",
        "deadline_ms",
    }
    inner |= {"nonce", "payload", "answer", "draw_again"}
    native = {name for name in dir(capsa.Decision) if not name.startswith("_")}
    assert native - inner <= set(dir(RemoteDecision))


def test_names_of_one_page_are_told_once(pair: Pair) -> None:
    """Above 64 options a decision leaves out what has an entry for each of them."""
    spec = ("name: many\noptions: [" + ", ".join(f"o{n}" for n in range(70)) + "]\n").encode()
    decision = pair.remote._client.job("many").install(spec).decide()
    assert decision.option_name is not None
    assert (decision.probabilities, decision.decisions[0].names) == (None, [])
