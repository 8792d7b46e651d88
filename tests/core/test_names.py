"""I10: what is learned is kept by name, is bounded, and is evicted in the order of feedback."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.driven import Driven, loader, rebuilt, spec_of
from tests.reference.clock import Clock
from tests.reference.close import apart
from tests.reference.learner_model import LearnerModel, Settings
from tests.reference.yaml_text import to_yaml

import capsa
from capsa import _native

ALGORITHMS = ["thompson", "simple_weighted"]


def by_name(row: capsa.ContextMemory) -> dict[str, dict[str, float]]:
    return {
        strategy: dict(zip(row.names[strategy], weights, strict=True))
        for strategy, weights in row.weights.items()
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_reordering_keeps_what_was_learned(
    store: capsa.Store, clock: Clock, algorithm: str, data: st.DataObject
) -> None:
    """Options in another order, and strategies in another order: the same weights by name."""
    strategies = {"when": ["now", "later", "never"], "how": ["fast", "slow"]}
    driven = Driven(store, clock, Settings(strategies, algorithm=algorithm))
    for _ in range(data.draw(st.integers(1, 10))):
        made = {name: data.draw(st.sampled_from(options)) for name, options in strategies.items()}
        driven.learn("k", made, data.draw(st.floats(-1, 1)))
    (before,) = driven.capsule.contexts()
    names = data.draw(st.permutations(list(strategies)))
    moved = {name: data.draw(st.permutations(strategies[name])) for name in names}
    capsule = store.job(driven.job).install(to_yaml(spec_of(Settings(moved, algorithm=algorithm))))
    (after,) = capsule.contexts()
    assert list(after.names.items()) == list(moved.items())
    for name, weights in by_name(before).items():
        assert by_name(after)[name] == pytest.approx(weights, abs=1e-12)
    decision = capsule.decide(context_key="k")
    for part in decision.decisions:
        assert part.names == moved[part.strategy]
        assert part.probabilities == pytest.approx(after.weights[part.strategy], abs=1e-12)


def install(driven: Driven, options: list[str], **more: Any) -> None:
    settings = driven.settings
    spec = spec_of(
        Settings({"choice": options}, algorithm=settings.algorithm, reward_range=settings.reward_range)
    )
    store = driven.store
    driven.capsule = store.job(driven.job).install(to_yaml(spec | more))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_removed_option_is_not_offered_and_remembered(
    store: capsa.Store, clock: Clock, algorithm: str
) -> None:
    """Its number and name are refused; offered again it has what it learned, in the right place."""
    driven = Driven(
        store, clock, Settings({"choice": ["a", "b", "c"]}, algorithm=algorithm, reward_range=(0, 1))
    )
    for _ in range(10):
        driven.learn("k", {"choice": "b"}, 1.0)
        driven.learn("k", {"choice": "a"}, 0.0)
    learned = by_name(driven.capsule.contexts()[0])
    old = driven.decide("k")
    install(driven, ["c", "a"])
    assert {driven.decide("k").option_name for _ in range(50)} <= {"a", "c"}
    with pytest.raises(capsa.UnknownOption):
        driven.capsule.decide(context_key="k", options=["b"])
    install(driven, ["c", "b", "a"])
    assert apart(by_name(driven.capsule.contexts()[0]), learned) < 1e-9
    install(driven, ["c", "a"])
    assert old.id is not None
    credited = driven.capsule.feedback(old.id, reward=1.0, taken="b")
    assert (credited.status, credited.option_name, credited.option) == ("applied", "b", None)
    install(driven, ["a", "b", "c"])
    again = by_name(driven.capsule.contexts()[0])["choice"]
    assert again["b"] > max(again["a"], again["c"])


def test_an_added_option_starts_from_the_prior(store: capsa.Store, clock: Clock) -> None:
    """Nothing is known of it; what is known of the others stays."""
    settings = Settings({"choice": ["a", "b"]}, reward_range=(0.0, 1.0))
    driven = Driven(store, clock, settings)
    for _ in range(10):
        driven.learn("k", {"choice": "b"}, 1.0)
    install(driven, ["new", "a", "b"])
    model = LearnerModel(Settings({"choice": ["new", "a", "b"]}, reward_range=(0.0, 1.0)))
    for _ in range(10):
        model.feedback("k", {"choice": "b"}, 1.0, clock.now_s)
    (row,) = driven.capsule.contexts()
    assert apart(row.weights, model.weights("k", clock.now_s)) < 1e-6
    assert row.weights["choice"][0] == pytest.approx(row.weights["choice"][1], abs=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_added_option_does_not_change_with_the_history_of_reads(
    store: capsa.Store, clock: Clock, host: _native.Host, algorithm: str
) -> None:
    """What was looked at before must not matter: live and rebuilt weigh alike after an eviction."""
    driven = Driven(store, clock, Settings({"choice": ["a", "b"]}, algorithm=algorithm, max_contexts=2))
    first = to_yaml(spec_of(driven.settings))
    for key in ["evicted", "evicted", "kept"]:
        driven.learn(key, {"choice": "a"}, 1.0)
    wider = Settings({"choice": ["a", "b", "c"]}, algorithm=algorithm, max_contexts=2)
    second = to_yaml(spec_of(wider))
    driven.capsule = store.job(driven.job).install(second)
    driven.decide("kept")
    driven.capsule.feedback(option="c", reward=1.0, context_key="new")
    assert driven.capsule.report().contexts.evicted == 1
    again = rebuilt(driven.events(), loader(host, first, second))
    assert driven.weights("kept") == again.native.weights("kept", clock.now_ms)


@given(keys=st.lists(st.sampled_from([f"key {at}" for at in range(9)]), min_size=1, max_size=60))
def test_contexts_are_bounded_and_evicted_in_the_order_of_feedback(
    store: capsa.Store, clock: Clock, keys: list[str]
) -> None:
    """The longest without feedback goes first. Decisions neither make a context nor keep one."""
    settings = Settings({"choice": ["a", "b"]}, max_contexts=4)
    driven = Driven(store, clock, settings)
    for at, key in enumerate(keys):
        driven.capsule.feedback(option="a", reward=0.5, context_key=key)
        driven.model.feedback(key, {"choice": "a"}, 0.5, clock.now_s)
        driven.decide(keys[0])
        driven.decide(f"only decided {at}")
        held = [row.context_key for row in driven.capsule.contexts()]
        assert held == sorted(driven.model.keys)
    contexts = driven.capsule.report().contexts
    assert (contexts.count, contexts.evicted) == (len(driven.model.keys), len(driven.model.evicted))
    assert contexts.count <= contexts.limit == 4


def test_a_smaller_limit_evicts_at_once(store: capsa.Store, clock: Clock) -> None:
    driven = Driven(store, clock, Settings({"choice": ["a", "b"]}))
    for key in ["3", "1", "2", "3"]:
        driven.learn(key, {"choice": "a"}, 0.5)
    driven.capsule.update_learning(max_contexts=2)
    assert [row.context_key for row in driven.capsule.contexts()] == ["2", "3"]


def test_keys_are_paged_in_the_order_of_their_bytes(store: capsa.Store, clock: Clock) -> None:
    driven = Driven(store, clock, Settings({"choice": ["a", "b"]}))
    keys = ["b", "a", "ü", "Z", "|", "aa", "a|b"]
    for key in keys:
        driven.capsule.feedback(option="a", reward=0.5, context_key=key)
    expected = sorted(keys, key=str.encode)
    paged: list[str] = []
    while page := driven.capsule.contexts(after=paged[-1] if paged else None, limit=2):
        paged += [row.context_key for row in page]
    assert paged == expected
