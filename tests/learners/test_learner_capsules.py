"""The same learners in capsules: what YAML declares decides as `capsa.learners` does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.driven import loader, rebuilt
from tests.learners.learner_cases import ALGORITHMS, SUMMING, learner_of
from tests.reference.clock import Clock
from tests.reference.close import apart
from tests.reference.tabular_model import Settings
from tests.reference.yaml_text import to_yaml

import capsa
from capsa import _native
from capsa.learners import Learner

NAMES = ["a", "b", "c", "d"]
KEYS = ["night", "day"]
TOLERANCE = 1e-12

_JOBS = itertools.count()

Rows = Sequence[tuple[int, float, str]]


def spec_of(settings: Settings) -> dict[str, Any]:
    """The spec that declares these settings."""
    options: list[Any] = list(NAMES[: settings.n_options])
    for option, (mean, count) in settings.priors.items():
        options[option] = {"name": NAMES[option], "prior": {"reward": mean, "count": count}}
    spec: dict[str, Any] = {
        "name": "taught",
        "options": options,
        "algorithm": settings.algorithm,
        "reward_range": list(settings.reward_range),
        "rails": {"min_exploration": settings.min_exploration},
    }
    if settings.algorithm == "epsilon_greedy":
        spec["algorithm"] = {"name": "epsilon_greedy", "epsilon": settings.epsilon}
    if settings.algorithm == "simple_weighted":
        spec["rails"]["max_delta"] = settings.max_delta
    if settings.shrinkage is not None:
        spec["shrinkage"] = {"strength": settings.shrinkage}
    if settings.half_life_updates is not None:
        spec["decay"] = {"half_life_feedbacks": settings.half_life_updates}
    return spec


def installed(store: capsa.Store, settings: Settings) -> capsa.Capsule:
    """A capsule in a job of its own."""
    return store.job(f"learners{next(_JOBS)}").install(to_yaml(spec_of(settings)))


def teach(rows: Rows, capsule: capsa.Capsule, *learners: Learner) -> None:
    """The same history to a capsule and to learners."""
    for option, reward, key in rows:
        capsule.feedback(option=NAMES[option], reward=reward, context_key=key)
        for learner in learners:
            learner.update(option, reward, key)


def weights(capsule: capsa.Capsule) -> dict[str, list[float]]:
    return {row.context_key: row.weights["choice"] for row in capsule.contexts()}


@st.composite
def declared(draw: st.DrawFn, algorithm: str) -> Settings:
    n_options = draw(st.integers(2, 4))
    settings = Settings(
        algorithm,
        n_options,
        epsilon=draw(st.sampled_from([0.0, 0.1, 1.0])),
        max_delta=draw(st.sampled_from([0.15, 0.02])),
        reward_range=draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-2.5, 40.0)])),
        min_exploration=draw(st.sampled_from([0.0, 0.02, 0.5])),
        half_life_updates=draw(st.sampled_from([None, 0.5, 3.0, 200.0])),
    )
    prior = st.tuples(st.floats(*settings.reward_range), st.sampled_from([0.25, 5.0]))
    return settings.but(
        priors=draw(st.dictionaries(st.integers(0, n_options - 1), prior, max_size=2)),
        shrinkage=draw(st.sampled_from([None, 0.5, 8.0])) if algorithm in SUMMING else None,
    )


def histories(settings: Settings, most: int = 15) -> st.SearchStrategy[list[tuple[int, float, str]]]:
    low, high = settings.reward_range
    rewards = st.sampled_from([low, high]) | st.floats(low, high)
    return st.lists(
        st.tuples(st.integers(0, settings.n_options - 1), rewards, st.sampled_from(KEYS)), max_size=most
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_a_capsule_decides_as_its_learner(store: capsa.Store, algorithm: str, data: st.DataObject) -> None:
    """After the same history: weights, distributions with and without a mask, and propensities."""
    settings = data.draw(declared(algorithm))
    rows = data.draw(histories(settings))
    capsule, learner = installed(store, settings), learner_of(settings)
    teach(rows, capsule, learner)
    assert set(weights(capsule)) == set(learner.keys()) == {key for _, _, key in rows}
    for key, held in weights(capsule).items():
        assert apart(held, learner.probabilities(key).tolist()) < TOLERANCE
    names = NAMES[: settings.n_options]
    allowed = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    mask = [name in allowed for name in names]
    for key in [*KEYS, "never seen"]:
        for decision, expected in [
            (capsule.decide(context_key=key), learner.probabilities(key)),
            (capsule.decide(context_key=key, options=allowed), learner.probabilities(key, mask)),
        ]:
            assert decision.option is not None
            assert decision.probabilities is not None
            assert apart(decision.probabilities, expected.tolist()) < TOLERANCE
            assert decision.propensity == decision.probabilities[decision.option] > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
def test_a_journal_gives_the_same_learner_again(
    store: capsa.Store, host: _native.Host, algorithm: str, data: st.DataObject
) -> None:
    """Priors, shrinkage and the algorithm's own settings are in the events: folded anew, the same state."""
    settings = data.draw(declared(algorithm))
    job = f"learners{next(_JOBS)}"
    source = to_yaml(spec_of(settings))
    capsule = store.job(job).install(source)
    teach(data.draw(histories(settings)), capsule)
    capsule.decide(context_key="night")
    events = [event for event in store.journal.read("default") if event.path == f"{job}/taught"]
    assert rebuilt(events, loader(host, source)).native.state_hash == capsule.state_hash


def test_the_default_epsilon_is_a_tenth(store: capsa.Store) -> None:
    """`algorithm: epsilon_greedy` alone; the learning document says which epsilon is in force."""
    plain = store.install(
        "name: greedy\noptions: [a, b]\nalgorithm: epsilon_greedy\nrails: {min_exploration: 0}\n"
    )
    assert plain.decide().probabilities == pytest.approx([0.95, 0.05], abs=1e-12)
    said = store.install(
        "name: said\noptions: [a, b]\nalgorithm: {name: epsilon_greedy, epsilon: 0.4}\nrails: {min_exploration: 0}\n"
    )
    assert said.decide().probabilities == pytest.approx([0.8, 0.2], abs=1e-12)
    assert "0.4" in str(said.learning)
    assert "epsilon_greedy" in str(said.learning["algorithm"])


@pytest.mark.parametrize("name", ["ucb1", "thompson", "simple_weighted", "epsilon_greedy"])
def test_an_algorithm_may_be_said_with_its_name_alone(store: capsa.Store, name: str) -> None:
    """As a text and as `{name: …}` the same."""
    rest = "options: [a, b, c]\nreward_range: [0, 1]\n"
    text = store.job("text").install(f"name: one\nalgorithm: {name}\n{rest}")
    table = store.job("table").install(f"name: one\nalgorithm: {{name: {name}}}\n{rest}")
    for capsule in (text, table):
        for option, reward in [("a", 0.5), ("b", 1.0), ("c", 0.25)]:
            capsule.feedback(option=option, reward=reward, context_key="k")
    assert text.learning == table.learning
    assert weights(text) == weights(table)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_strategies_learn_each_by_their_own_algorithm(store: capsa.Store, algorithm: str) -> None:
    """Two strategies of different algorithms, all combinations valid: each has its learner's weights."""
    other = "ucb1" if algorithm != "ucb1" else "epsilon_greedy"
    capsule = store.install(
        f"""\
name: joint
strategies:
  first: {{options: [a, b, c], algorithm: {algorithm}}}
  second: {{options: [d, e], algorithm: {other}}}
reward_range: [0, 1]
rails: {{min_exploration: 0}}
"""
    )
    first, second = learner_of(Settings(algorithm, 3)), learner_of(Settings(other, 2))
    for at, reward in enumerate([0.5, 1.0, 0.25, 0.75, 0.0, 1.0, 0.25]):
        capsule.feedback(strategy="first", option="abc"[at % 3], reward=reward, context_key="k")
        first.update(at % 3, reward)
        capsule.feedback(strategy="second", option="de"[at % 2], reward=reward, context_key="k")
        second.update(at % 2, reward)
    (row,) = capsule.contexts()
    assert apart(row.weights["first"], first.probabilities().tolist()) < TOLERANCE
    assert apart(row.weights["second"], second.probabilities().tolist()) < TOLERANCE
    decision = capsule.decide(context_key="k")
    assert apart([part.probabilities for part in decision.decisions], list(row.weights.values())) < TOLERANCE


@pytest.mark.parametrize("algorithm", SUMMING)
def test_priors_and_shrinkage_stand_under_a_strategy_too(store: capsa.Store, algorithm: str) -> None:
    capsule = store.install(
        f"""\
name: joint
strategies:
  first:
    options: [a, {{name: b, prior: {{reward: 0.75, count: 4}}}}]
    algorithm: {algorithm}
  second: {{options: [d, e], algorithm: {algorithm}}}
shrinkage: {{strength: 2}}
reward_range: [0, 1]
rails: {{min_exploration: 0}}
"""
    )
    first = learner_of(Settings(algorithm, 2, priors={1: (0.75, 4.0)}, shrinkage=2.0))
    second = learner_of(Settings(algorithm, 2, shrinkage=2.0))
    for at, reward in enumerate([0.5, 1.0, 0.25, 0.75, 0.25]):
        key = KEYS[at % 2]
        capsule.feedback(strategy="first", option="ab"[at // 2 % 2], reward=reward, context_key=key)
        first.update(at // 2 % 2, reward, key)
        capsule.feedback(strategy="second", option="de"[at // 2 % 2], reward=reward, context_key=key)
        second.update(at // 2 % 2, reward, key)
    for key in [*KEYS, "new"]:
        parts = capsule.decide(context_key=key).decisions
        assert apart(parts[0].probabilities, first.probabilities(key).tolist()) < TOLERANCE
        assert apart(parts[1].probabilities, second.probabilities(key).tolist()) < TOLERANCE


# A changed algorithm


ROWS: Rows = [
    (0, 0.5, "night"),
    (1, 1.0, "night"),
    (2, 0.25, "night"),
    (0, 0.75, "day"),
    (1, 0.25, "night"),
    (2, 1.0, "day"),
    (1, 0.5, "day"),
]


@pytest.mark.parametrize("reward_range", [(0.0, 1.0), (-1.0, 1.0)], ids=str)
@pytest.mark.parametrize("before", ALGORITHMS)
@pytest.mark.parametrize("after", ALGORITHMS)
def test_a_changed_algorithm_goes_on_from_what_was_earned(
    store: capsa.Store, before: str, after: str, reward_range: tuple[float, float]
) -> None:
    """(n, Σr, Σr²) are kept: it decides as if it had been the algorithm all along, and goes on learning so.

    Inner weights as well, as long as none of them met the floor or the cap: until then they are sums too.
    """
    capsule = installed(store, Settings(before, 3, reward_range=reward_range))
    learner = learner_of(Settings(after, 3, reward_range=reward_range))
    teach(ROWS, capsule, learner)
    capsule.update_learning(algorithm=after, rails={"max_delta": None})
    for more in [[], [(0, 1.0, "night"), (2, 0.0, "day")]]:
        teach(more, capsule, learner)
        for key in [*KEYS, "new"]:
            found = capsule.decide(context_key=key).probabilities
            assert apart(found, learner.probabilities(key).tolist()) < TOLERANCE, key


def test_weights_of_another_algorithm_in_between_are_worked_out_anew(store: capsa.Store) -> None:
    """Weights, sums, weights again: what was learned in between counts, and nothing twice."""
    capsule = installed(store, Settings("simple_weighted", 3))
    learner = learner_of(Settings("simple_weighted", 3))
    for algorithm in ("simple_weighted", "ucb1", "thompson", "simple_weighted"):
        capsule.update_learning(algorithm=algorithm, rails={"max_delta": None})
        teach(ROWS[:3], capsule, learner)
    for key in weights(capsule):
        assert apart(weights(capsule)[key], learner.probabilities(key).tolist()) < TOLERANCE


def test_shrinkage_switched_on_later_knows_what_came_before(store: capsa.Store) -> None:
    """And after an off and on again still: it is worked out from what the keys hold."""
    plain = Settings("epsilon_greedy", 3)
    capsule = installed(store, plain)
    shrunk, alone = learner_of(plain.but(shrinkage=2.0)), learner_of(plain)
    for strength in (2.0, None, 2.0):
        teach(ROWS, capsule, shrunk, alone)
        capsule.update_learning(shrinkage=None if strength is None else {"strength": strength})
        expected = alone if strength is None else shrunk
        for key in [*KEYS, "new"]:
            found = capsule.decide(context_key=key).probabilities
            assert apart(found, expected.probabilities(key).tolist()) < TOLERANCE, key


def test_an_algorithm_is_changed_with_its_settings(store: capsa.Store) -> None:
    """In either spelling; `None` gives the file's back, epsilon included."""
    capsule = installed(store, Settings("epsilon_greedy", 3, epsilon=0.3))
    teach(ROWS, capsule)
    declared = capsule.learning["algorithm"]
    expected = {epsilon: learner_of(Settings("epsilon_greedy", 3, epsilon=epsilon)) for epsilon in (0.3, 0.6)}
    for learner in expected.values():
        for row in ROWS:
            learner.update(*row)

    def decides_with(epsilon: float) -> bool:
        found = capsule.decide(context_key="night").probabilities
        return apart(found, expected[epsilon].probabilities("night").tolist()) < TOLERANCE

    assert decides_with(0.3)
    for name in ("epsilon_greedy", "epsilonGreedy"):
        capsule.update_learning(algorithm={"name": name, "epsilon": 0.6})
        assert decides_with(0.6)
        assert "0.6" in str(capsule.learning["algorithm"])
        capsule.update_learning(algorithm=None)
        assert decides_with(0.3)
    assert capsule.learning["algorithm"] == declared
    capsule.update_learning(algorithm="ucb1")
    assert capsule.learning["algorithm"] == "ucb1"


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "epsilon_greedy", "epsilon": 1.5},
        {"name": "epsilon_greedy", "epsilon": -0.1},
        {"name": "epsilon_greedy", "epsilon": float("nan")},
        {"name": "epsilon_greedy", "epsilon": "0.1"},
        {"name": "ucb1", "epsilon": 0.1},
        {"epsilon": 0.1},
        {"name": "epsilon_greedy", "epsilonn": 0.1},
        {"name": "bandit"},
        "bandit",
        7,
    ],
    ids=repr,
)
def test_a_bad_algorithm_is_refused_and_changes_nothing(store: capsa.Store, algorithm: Any) -> None:
    capsule = installed(store, Settings("epsilon_greedy", 3))
    teach(ROWS, capsule)
    before, learning = capsule.state_hash, capsule.learning
    with pytest.raises(capsa.errors.InvalidRequest) as caught:
        capsule.update_learning(algorithm=algorithm)
    assert "/algorithm" in (caught.value.pointer or "")
    assert (capsule.state_hash, capsule.learning) == (before, learning)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frozen_answers_the_best_estimate(store: capsa.Store, clock: Clock, algorithm: str) -> None:
    """Priors and what is earned elsewhere count; ties to the lowest; nothing is learned meanwhile."""
    summing = algorithm in SUMMING
    settings = Settings(
        algorithm, 3, priors={2: (0.9, 50.0)} if summing else {}, shrinkage=4.0 if summing else None
    )
    capsule = installed(store, settings)
    for _ in range(5):
        for option, reward in [("a", 0.0), ("b", 1.0), ("c", 0.5)]:
            capsule.feedback(option=option, reward=reward, context_key="night")
    capsule.update_learning(rails={"freeze": True})
    clock.forward(1)
    decision = capsule.decide(context_key="night")
    assert (decision.option_name, decision.propensity, decision.reason) == ("b", 1.0, "frozen")
    masked = capsule.decide(context_key="night", options=["a", "c"])
    assert masked.option_name == "c"
    before = weights(capsule)
    for _ in range(50):
        assert capsule.feedback(option="a", reward=1.0, context_key="night").status == "frozen"
    assert weights(capsule) == before
    assert capsule.decide(context_key="night").option_name == "b"


# What a spec may not say


BAD_SPECS: dict[str, tuple[str, str]] = {
    "epsilon too large": ("options: [a, b]\nalgorithm: {name: epsilon_greedy, epsilon: 1.5}", "1.5"),
    "epsilon negative": ("options: [a, b]\nalgorithm: {name: epsilon_greedy, epsilon: -0.1}", "-0.1"),
    "epsilon of ucb1": ("options: [a, b]\nalgorithm: {name: ucb1, epsilon: 0.1}", "epsilon"),
    "no name": ("options: [a, b]\nalgorithm: {epsilon: 0.1}", "name"),
    "unknown setting": ("options: [a, b]\nalgorithm: {name: epsilon_greedy, epsilom: 0.1}", "epsilom"),
    "unknown algorithm": ("options: [a, b]\nalgorithm: {name: bandit}", "bandit"),
    "prior outside": ("options: [{name: a, prior: {reward: 1.5, count: 5}}, b]", "1.5"),
    "prior count negative": ("options: [{name: a, prior: {reward: 0.5, count: -5}}, b]", "-5"),
    "prior without count": ("options: [{name: a, prior: {reward: 0.5}}, b]", "count"),
    "prior without reward": ("options: [{name: a, prior: {count: 5}}, b]", "reward"),
    "prior with more": ("options: [{name: a, prior: {reward: 0.5, count: 5, weight: 1}}, b]", "weight"),
    "prior a number": ("options: [{name: a, prior: 0.5}, b]", "prior"),
    "option without name": ("options: [{prior: {reward: 0.5, count: 5}}, b]", "name"),
    "option with more": ("options: [{name: a, priors: {reward: 0.5, count: 5}}, b]", "priors"),
    "the same option twice": ("options: [{name: a, prior: {reward: 0.5, count: 5}}, a]", "a"),
    "strength negative": ("options: [a, b]\nshrinkage: {strength: -8}", "-8"),
    "strength a text": ("options: [a, b]\nshrinkage: {strength: much}", "much"),
    "shrinkage without strength": ("options: [a, b]\nshrinkage: {}", "strength"),
    "shrinkage a number": ("options: [a, b]\nshrinkage: 8", "shrinkage"),
    "shrinkage with more": ("options: [a, b]\nshrinkage: {strength: 8, power: 2}", "power"),
    "shrinkage of weights": (
        "options: [a, b]\nalgorithm: simple_weighted\nshrinkage: {strength: 8}",
        "shrinkage",
    ),
}


@pytest.mark.parametrize("bad", BAD_SPECS)
def test_a_bad_spec_is_refused_in_words(store: capsa.Store, bad: str) -> None:
    """With the line's offending value; nothing is installed."""
    text, shown = BAD_SPECS[bad]
    with pytest.raises(capsa.errors.InvalidSpec) as caught:
        store.install(f"name: bad\n{text}\n")
    assert shown in str(caught.value)
    assert store.journal.length("default") == 0


def test_a_prior_moves_from_the_first_decision_on(store: capsa.Store) -> None:
    """The example of the manual: a prior of 0.9 worth 50 rewards, and one of 0.1."""
    capsule = store.install(
        """\
name: informed
options: [{name: good, prior: {reward: 0.9, count: 50}}, {name: bad, prior: {reward: 0.1, count: 50}}, new]
reward_range: [0, 1]
rails: {min_exploration: 0}
"""
    )
    decision = capsule.decide()
    assert decision.decisions[0].names == ["good", "bad", "new"]
    shares = np.array(decision.probabilities)
    assert shares[1] < 1e-6
    assert shares[0] > 0.8
    assert shares[2] == pytest.approx(0.1075, abs=0.02)
