"""I3: a decision can be replayed. I8: the same events give the same state. And what is written is canonical."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.driven import loader
from tests.reference.cbor_profile import encode
from tests.reference.clock import Clock
from tests.reference.yaml_text import to_yaml

import capsa
from capsa import _native
from capsa.decisions._fold import CapsuleState, Fold
from capsa.journal import Event

Draw = Callable[[st.SearchStrategy[Any]], Any]

KEYS = ["a", "b", "c", "d", "a key with more than twenty-three bytes: ü"]
OPTIONS = ["one", "two", "three"]

BASE: dict[str, Any] = {
    "name": "replayed",
    "options": OPTIONS,
    "contexts": [{"name": "tier", "values": ["free", "paid"]}, {"name": "size", "buckets": [10, 20]}],
    "reward": {"quality": {"weight": 0.8}, "ms": {"weight": -0.2, "budget": 100}},
    "max_contexts": 3,
}
VERSIONS: list[dict[str, Any]] = [
    BASE,
    BASE | {"options": ["three", "one", "two"]},
    BASE | {"options": [*OPTIONS, "four"], "algorithm": "simple_weighted"},
    BASE | {"options": ["two", "three"], "decay": {"half_life": "1h"}},
]
JOINT: list[dict[str, Any]] = [
    {
        "name": "replayed",
        "strategies": {
            "timeout": {"options": ["1s", "2s", "5s"], "algorithm": "simple_weighted"},
            "retries": {"options": ["0", "1"]},
        },
        "valid": [{"timeout": "1s"}, {"timeout": ["2s", "5s"], "retries": "1"}],
        "max_contexts": 2,
    }
]
SETTINGS: list[Mapping[str, Any]] = [
    {"mode": "shadow"},
    {"mode": "live"},
    {"mode": "off"},
    {"rails": {"freeze": True}},
    {"rails": {"freeze": False}},
    {"rails": {"min_exploration": 0.3}},
    {"rails": None},
    {"decay": {"half_life": "10m"}},
    {"decay": {"half_life_feedbacks": 2}},
    {"decay": None},
    {"algorithm": "simple_weighted", "rails": {"max_delta": 0.05}},
    {"algorithm": None, "rails": {"max_delta": None}},
    {"max_contexts": 1},
    {"max_contexts": None},
    {"horizon": {"after": "1h"}},
]


class Story:
    """The only capsule of a tenant, that lives through random calls, with the inputs of its decisions."""

    _tenants = itertools.count()

    def __init__(self, store: capsa.Store, clock: Clock, versions: list[dict[str, Any]]) -> None:
        self.store, self.clock = store, clock
        self.tenant = f"tenant{next(self._tenants)}"
        self.sources = [to_yaml(version) for version in versions]
        self.capsule = self.job.install(self.sources[0])
        self.decisions: list[tuple[capsa.Decision, dict[str, Any]]] = []

    def step(self, draw: Draw) -> None:
        kind = draw(
            st.sampled_from(["decide"] * 4 + ["feedback"] * 4 + ["explicit", "time", "settings", "install"])
        )
        if kind == "decide" or (kind == "feedback" and not self.decisions):
            self._decide(draw)
        elif kind == "feedback":
            self._feedback(draw)
        elif kind == "explicit":
            # Every version offers some of the same options, by name.
            strategy, option = ("timeout", "2s") if len(self.sources) == 1 else ("choice", "two")
            key, reward = draw(st.sampled_from(KEYS)), draw(st.floats(-1, 1))
            self.capsule.feedback(strategy=strategy, option=option, reward=reward, context_key=key)
        elif kind == "time":
            self.clock.forward(draw(st.sampled_from([0.001, 1.0, 600.0, 4000.0])))
        elif kind == "settings":
            # Refused where max_delta would stand without simple_weighted; then nothing may have changed.
            with contextlib.suppress(capsa.InvalidField):
                self.capsule.update_learning(**draw(st.sampled_from(SETTINGS)))
        else:
            self.job.install(draw(st.sampled_from(self.sources)))

    def _decide(self, draw: Draw) -> None:
        if draw(st.booleans()):
            call: dict[str, Any] = {"context_key": draw(st.sampled_from(KEYS))}
        else:
            fields = {"tier": st.sampled_from(["free", "paid", "gold"]), "size": st.floats(0, 30)}
            call = {"input": draw(st.fixed_dictionaries({}, optional=fields))}
        if draw(st.booleans()) and len(self.sources) > 1:
            call["options"] = draw(st.sampled_from([["two"], ["three", "two"]]))
        decision = self.capsule.decide(**call)
        if decision.id is not None:
            self.decisions.append((decision, call))

    def _feedback(self, draw: Draw) -> None:
        decision, _ = draw(st.sampled_from(self.decisions))
        posts: list[dict[str, Any]] = [{"reward": 0.5}, {"reward": -1.0, "taken": None}, {"reward": True}]
        if len(self.sources) > 1:
            posts += [
                {"outcome": {"quality": 1}},
                {"outcome": {"ms": 7}},
                {"outcome": {"quality": 0.1, "ms": 1e9}},
            ]
        with contextlib.suppress(capsa.FeedbackConflict):
            self.capsule.feedback(decision.id, **draw(st.sampled_from(posts)))

    @property
    def job(self) -> capsa.Job:
        return self.store.tenant(self.tenant).job("default")

    @property
    def state(self) -> CapsuleState:
        return self.store._fold.capsules[self.tenant, "default", "replayed"]

    def events(self) -> list[Event]:
        return list(self.store.journal.read(self.tenant))


def lived(
    store: capsa.Store, clock: Clock, versions: list[dict[str, Any]], data: st.DataObject, most: int
) -> Story:
    """A story of up to so many steps."""
    story = Story(store, clock, versions)
    for _ in range(data.draw(st.integers(1, most))):
        story.step(data.draw)
    return story


@pytest.mark.parametrize("versions", [VERSIONS, JOINT], ids=["one strategy", "several"])
@given(data=st.data())
def test_a_rebuilt_state_is_the_live_state(
    store: capsa.Store, clock: Clock, host: _native.Host, versions: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Any interleaving folds again to the same hash, report, weights and learning document."""
    story = lived(store, clock, versions, data, 40)
    fold = Fold(loader(host, *story.sources), story.store._ids.ring)
    for event in story.events():
        fold.apply(event)
    (again,) = fold.capsules.values()
    live = story.state
    assert again.native.state_hash == live.native.state_hash
    assert again.native.state() == live.native.state()
    assert again.native.counts(clock.now_ms) == live.native.counts(clock.now_ms)
    assert again.native.contexts(clock.now_ms, limit=1000) == live.native.contexts(clock.now_ms, limit=1000)
    for key in KEYS:
        assert again.native.weights(key, clock.now_ms) == live.native.weights(key, clock.now_ms)
    assert again.native.overrides == live.native.overrides
    assert (again.changed, again.learning_version) == (live.changed, live.learning_version)


@pytest.mark.parametrize("versions", [VERSIONS, JOINT], ids=["one strategy", "several"])
@given(data=st.data())
def test_a_decision_replays_from_its_record(
    store: capsa.Store, clock: Clock, host: _native.Host, versions: list[dict[str, Any]], data: st.DataObject
) -> None:
    """The state at its learner version, its nonce and its time give the same option and propensity."""
    story = lived(store, clock, versions, data, 30)
    if not story.decisions:
        return
    asked = {decision.nonce: (decision, call) for decision, call in story.decisions}
    fold = Fold(loader(host, *story.sources), story.store._ids.ring)
    replayed = 0
    for event in story.events():
        # Field 0 is the nonce.
        nonce = cbor2.loads(event.payload)[0] if event.type == "decided" else None
        if nonce is not None:
            decision, call = asked[nonce]
            (state,) = fold.capsules.values()
            assert state.native.learner_version == decision.learner_version
            call = dict(call)
            again = state.native.decide(nonce, event.time_ms, call.pop("input", None), **call)
            assert again.payload == decision.payload == event.payload
            assert (again.choices, again.propensity) == (decision.choices, decision.propensity)
            replayed += 1
        fold.apply(event)
    assert replayed == len(asked)


@given(data=st.data())
def test_a_single_draw_can_be_drawn_again(store: capsa.Store, clock: Clock, data: st.DataObject) -> None:
    """From the record alone: what was answered live, and what was suggested in shadow."""
    story = lived(store, clock, VERSIONS, data, 30)
    recorded: dict[int | None, Event] = {event.sequence: event for event in story.events()}
    for decision, _ in story.decisions:
        read = story.state.native.read_decision(recorded[decision.sequence])
        drawn = decision.suggested.option if decision.suggested else decision.option
        assert decision.draw_again() == read.draw_again() == drawn
        assert read.choices == decision.choices
        assert read.payload == decision.payload


@given(data=st.data())
def test_deciding_changes_nothing_that_was_learned(
    store: capsa.Store, clock: Clock, data: st.DataObject
) -> None:
    """Neither do reads."""
    story = lived(store, clock, VERSIONS, data, 15)
    before = (story.capsule.state_hash, story.capsule.report().state_hash)
    version = story.capsule.decide(context_key="zz").learner_version
    clock.forward(500)
    for key in KEYS:
        story.capsule.decide(context_key=key)
    story.capsule.contexts()
    assert (story.capsule.state_hash, story.capsule.report().state_hash) == before
    assert story.capsule.decide({"tier": "free"}).learner_version == version


@pytest.mark.parametrize("versions", [VERSIONS, JOINT], ids=["one strategy", "several"])
@given(data=st.data())
def test_what_is_written_is_deterministic_cbor(
    store: capsa.Store, clock: Clock, versions: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Every payload and the encoded state are what RFC 8949 section 4.2.1 says of their content."""
    story = lived(store, clock, versions, data, 25)
    for at, event in enumerate(story.events(), 1):
        assert event.sequence == at
        assert event.payload_digest == _native.digest(event.payload)
        assert encode(cbor2.loads(event.payload)) == event.payload, event.type
    state = story.state.native.state()
    assert encode(cbor2.loads(state)) == state
    assert _native.digest(state) == story.capsule.state_hash
