"""The learning document, the report and the contexts."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.decisions.reopened import Reopened
from tests.reference.clock import Clock

import capsa

SPEC = """\
name: router
options: [cheap, balanced, dear]
baseline: balanced
contexts: [task, {name: tier, values: [free, paid]}]
reward_range: [0, 1]
"""


@pytest.fixture
def router(store: capsa.Store) -> capsa.Capsule:
    return store.install(SPEC)


def test_every_default_is_written_down(router: capsa.Capsule) -> None:
    assert router.learning == {
        "algorithm": "thompson",
        "mode": "live",
        "baseline": "balanced",
        "rails": {"min_exploration": 0.02, "max_delta": None, "freeze": False},
        "decay": None,
        "shrinkage": None,
        "horizon": {"after_seconds": 30 * 86400.0, "outcome": None},
        "max_contexts": 10_000,
        "canary": {"share": None},
        "override": None,
        "overridden": {},
        "version": 0,
    }


def test_what_a_file_declares_is_in_force(store: capsa.Store) -> None:
    declared = """\
    rails: {min_exploration: 0.1, max_delta: 0.05, freeze: true}
    algorithm: simple_weighted
    decay: {half_life: 14d}
    horizon: {after: 12h}
    max_contexts: 7
    mode: shadow
    log_input: contexts
    """
    text = SPEC + "\n".join(line.strip() for line in declared.splitlines())
    learning = store.install(text).learning
    assert learning["algorithm"] == "simple_weighted"
    assert learning["rails"] == {"min_exploration": 0.1, "max_delta": 0.05, "freeze": True}
    assert learning["decay"] == {"half_life_seconds": 14 * 86400.0}
    assert learning["horizon"] == {"after_seconds": 12 * 3600.0, "outcome": None}
    assert (learning["max_contexts"], learning["mode"]) == (7, "shadow")


def test_updates_merge(router: capsa.Capsule, clock: Clock) -> None:
    """A missing key stays, `None` gives the file's value back, and each change says by whom and when."""
    router.update_learning(rails={"min_exploration": 0.1, "freeze": True}, mode="shadow")
    clock.forward(60)
    learning = router.update_learning(rails={"freeze": None}, baseline="dear")
    assert learning["rails"] == {"min_exploration": 0.1, "max_delta": None, "freeze": False}
    assert (learning["mode"], learning["baseline"], learning["version"]) == ("shadow", "dear", 2)
    assert set(learning["overridden"]) == {"rails.min_exploration", "mode", "baseline"}
    assert learning["overridden"]["mode"] == {"by": "local", "at": "2027-01-15T08:00:00.000Z"}
    assert learning["overridden"]["baseline"]["at"] == "2027-01-15T08:01:00.000Z"
    learning = router.update_learning(rails=None, mode=None, baseline=None)
    assert learning["rails"]["min_exploration"] == 0.02
    assert (learning["mode"], learning["baseline"], learning["overridden"]) == ("live", "balanced", {})


def test_both_spellings_are_accepted(router: capsa.Capsule) -> None:
    learning = router.update_learning(
        algorithm="simpleWeighted", rails={"minExploration": 0.3, "maxDelta": 0.1}, maxContexts=5
    )
    assert learning["algorithm"] == "simple_weighted"
    assert learning["rails"] == {"min_exploration": 0.3, "max_delta": 0.1, "freeze": False}
    assert learning["max_contexts"] == 5
    assert {"rails.min_exploration", "rails.max_delta", "max_contexts", "algorithm"} == set(
        learning["overridden"]
    )


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"decay": {"half_life": "14d"}}, {"decay": {"half_life_seconds": 14 * 86400.0}}),
        ({"decay": {"halfLifeSeconds": 60}}, {"decay": {"half_life_seconds": 60.0}}),
        ({"decay": {"half_life_feedbacks": 2000}}, {"decay": {"half_life_feedbacks": 2000.0}}),
        ({"horizon": {"after": "90s"}}, {"horizon": {"after_seconds": 90.0, "outcome": None}}),
        ({"horizon": {"after_seconds": 5}}, {"horizon": {"after_seconds": 5.0, "outcome": None}}),
        ({"max_contexts": 1}, {"max_contexts": 1}),
        ({"baseline": 2}, {"baseline": "dear"}),
        ({"mode": "off"}, {"mode": "off"}),
    ],
)
def test_each_setting(router: capsa.Capsule, changes: dict[str, Any], shown: dict[str, Any]) -> None:
    learning = router.update_learning(**changes)
    assert {name: learning[name] for name in shown} == shown
    assert set(learning["overridden"]) == set(changes)
    back = router.update_learning(**dict.fromkeys(changes))
    assert back["overridden"] == {}
    assert {name: back[name] for name in shown} != shown


def test_an_update_of_nothing_changes_nothing(store: capsa.Store, router: capsa.Capsule) -> None:
    length = store.journal.length("default")
    assert router.update_learning() == router.learning
    assert store.journal.length("default") == length


def test_an_update_takes_effect_at_once(router: capsa.Capsule) -> None:
    for _ in range(40):
        router.feedback(option="dear", reward=1.0, context_key="k")
        router.feedback(option="cheap", reward=0.0, context_key="k")
        router.feedback(option="balanced", reward=0.0, context_key="k")
    learned = router.decide(context_key="k").probabilities
    assert learned is not None
    assert learned[2] == pytest.approx(0.98 + 0.02 / 3, abs=1e-3)
    router.update_learning(rails={"min_exploration": 1.0})
    assert router.decide(context_key="k").probabilities == pytest.approx([1 / 3] * 3)
    router.update_learning(rails={"min_exploration": 0.0}, algorithm="simple_weighted")
    # The weights that these rewards would have moved it to: 40 steps of 0.05 for dear.
    assert router.decide(context_key="k").probabilities == pytest.approx([0.0, 0.0, 1.0])


def test_the_report_counts(store: capsa.Store, router: capsa.Capsule, clock: Clock) -> None:
    decisions = [router.decide({"task": "legal", "tier": "free"}, options=["cheap"]) for _ in range(4)]
    decisions.append(router.decide({"tier": "gold"}, options=["dear"]))
    for decision, reward in zip(decisions, [1.0, 0.5, 0.0], strict=False):
        clock.forward(2)
        router.feedback(decision.id, reward=reward)
    report = router.report()
    assert (report.tenant, report.job, report.capsule, report.capsule_version) == (
        "default",
        "default",
        "router",
        1,
    )
    assert (report.decisions, report.sequence) == (5, store.journal.length("default"))
    assert report.as_of == "2027-01-15T08:00:06.000Z"
    assert report.state_hash == router.state_hash
    assert (report.mode, report.algorithm, report.frozen) == ("live", "thompson", False)
    assert (report.feedback.applied, report.feedback.pending, report.feedback.expired) == (3, 2, 0)
    assert report.feedback.median_delay_seconds == pytest.approx(4, rel=0.15)
    assert (report.reward_mean, report.reward_range) == (0.5, [0.0, 1.0])
    (strategy,) = report.strategies
    cheap, balanced, dear = strategy.options
    assert (cheap.decisions, cheap.rewards, cheap.mean) == (4, 3, 0.5)
    assert (balanced.decisions, balanced.rewards, balanced.mean) == (0, 0, None)
    assert (dear.decisions, dear.rewards, dear.option, dear.option_name) == (1, 0, 2, "dear")
    assert sum(option.weight for option in strategy.options) == pytest.approx(1)
    assert strategy.leader == max(strategy.options, key=lambda option: option.weight).option_name
    assert (report.contexts.count, report.contexts.limit, report.contexts.evicted) == (1, 10_000, 0)
    assert report.contexts.unknown == {"task": 1}
    assert report.contexts.other == {"tier": {"gold": 1}}
    assert {notice.kind for notice in report.notices} == {"context-unknown", "context-other"}
    text = str(report)
    assert "router v1" in text
    assert "cheap" in text
    assert report.to_dict()["strategies"][0]["options"][0]["option_name"] == "cheap"
    clock.forward(31 * 86400)
    later = router.report().feedback
    assert (later.applied, later.pending, later.expired) == (3, 0, 2)


def test_a_report_of_nothing(router: capsa.Capsule) -> None:
    report = router.report()
    assert (report.decisions, report.reward_mean, report.feedback.median_delay_seconds) == (0, None, None)
    assert [option.weight for option in report.strategies[0].options] == pytest.approx([1 / 3] * 3)
    assert router.contexts() == []


def test_contexts_show_what_each_has_learned(router: capsa.Capsule, clock: Clock) -> None:
    router.decide({"task": "legal", "tier": "free"})
    router.feedback(option="dear", reward=1.0, context_key="legal|free")
    clock.forward(1.234)
    router.feedback(option="dear", reward=1.0, context_key="legal|free")
    (row,) = router.contexts()
    assert (row.context_key, row.decisions, row.rewards) == ("legal|free", 1, 2)
    assert row.names == {"choice": ["cheap", "balanced", "dear"]}
    assert row.updated_at == "2027-01-15T08:00:01.234Z"
    assert sum(row.weights["choice"]) == pytest.approx(1)


@pytest.mark.parametrize("duration", ["1h", "90s", "1.5d", "2w", "30m", "1500ms", "0.5h"])
def test_a_duration_means_the_same_in_file_and_call(store: capsa.Store, duration: str) -> None:
    """One rule for both, and every unit of it."""
    seconds = (
        float(duration.rstrip("mshdw"))
        * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[duration.lstrip("0123456789.")]
    )
    declared = store.install(f"{SPEC}decay: {{half_life: {duration}}}\nhorizon: {{after: {duration}}}\n")
    assert declared.learning["decay"] == {"half_life_seconds": pytest.approx(seconds)}
    assert declared.learning["horizon"]["after_seconds"] == pytest.approx(seconds)
    plain = store.job("plain").install(SPEC)
    called = plain.update_learning(decay={"half_life": duration}, horizon={"after": duration})
    assert called["decay"] == declared.learning["decay"]
    assert called["horizon"] == declared.learning["horizon"]


def test_an_algorithm_with_a_parameter_is_shown_with_it(router: capsa.Capsule) -> None:
    assert router.update_learning(algorithm="ucb1")["algorithm"] == "ucb1"
    learning = router.update_learning(algorithm={"name": "epsilonGreedy", "epsilon": 0.25})
    assert learning["algorithm"] == {"name": "epsilon_greedy", "epsilon": 0.25}
    assert "epsilon_greedy 0.25" in str(router.report())
    # What is shown may be sent back.
    assert router.update_learning(algorithm=learning["algorithm"])["algorithm"] == learning["algorithm"]
    assert router.update_learning(algorithm="epsilon_greedy")["algorithm"]["epsilon"] == 0.1


def test_shrinkage_is_a_switch(router: capsa.Capsule) -> None:
    before = router.contexts()
    for _ in range(30):
        router.feedback(option="dear", reward=1.0, context_key="a")
        router.feedback(option="cheap", reward=0.0, context_key="a")
    alone = router.decide(context_key="b").probabilities
    assert alone == pytest.approx([1 / 3] * 3, abs=1e-6)
    learning = router.update_learning(shrinkage={"strength": 8})
    assert learning["shrinkage"] == {"strength": 8.0}
    assert "shrinkage" in learning["overridden"]
    borrowed = router.decide(context_key="b").probabilities
    assert borrowed is not None
    assert borrowed[2] > 0.8
    assert router.update_learning(shrinkage=None)["shrinkage"] is None
    assert router.decide(context_key="b").probabilities == pytest.approx(alone)
    assert before == []


def test_what_is_in_force_already_is_no_change(router: capsa.Capsule, store: capsa.Store) -> None:
    router.update_learning(rails={"min_exploration": 0.1}, mode="shadow")
    before, length = router.learning, store.journal.length("default")
    assert router.update_learning(rails={"min_exploration": 0.1}, mode="shadow") == before
    assert router.update_learning(decay=None) == before
    assert store.journal.length("default") == length
    # The file's own value, given as an override, is one: it stays when the file changes.
    assert router.update_learning(max_contexts=10_000)["version"] == before["version"] + 1


def test_a_change_of_a_stale_document_is_refused(router: capsa.Capsule, store: capsa.Store) -> None:
    """The version is that of the document which the change was made from."""
    version = router.learning["version"]
    changed = router.update_learning(if_version=version, rails={"min_exploration": 0.1})
    assert changed["version"] == version + 1
    length = store.journal.length("default")
    for stale in (version, version + 2, -1):
        with pytest.raises(capsa.StaleDocument, match=f"has version {version + 1}") as caught:
            router.update_learning(if_version=stale, rails={"min_exploration": 0.2})
        assert (caught.value.code, caught.value.pointer) == ("stale-document", "/ifVersion")
        assert isinstance(caught.value, capsa.errors.Conflict)
    # Stale is stale, though it would change nothing.
    with pytest.raises(capsa.StaleDocument):
        router.update_learning(if_version=version, rails={"min_exploration": 0.1})
    for wrong in (True, "1", 1.0):
        with pytest.raises(capsa.InvalidField):
            router.update_learning(if_version=wrong, mode="off")  # type: ignore[arg-type]
    assert router.learning == changed
    assert store.journal.length("default") == length
    assert router.update_learning(if_version=version + 1, mode="off")["mode"] == "off"


def test_of_many_changes_of_one_document_one_counts(store: capsa.Store) -> None:
    """The version is looked at in the moment of the change."""
    router = store.install(SPEC)
    start, told = threading.Barrier(8), []

    def change(number: int) -> None:
        for version in range(20):
            start.wait()
            try:
                router.update_learning(if_version=version, max_contexts=1000 + 8 * version + number)
                told.append("changed")
            except capsa.StaleDocument:
                told.append("stale")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (told.count("changed"), told.count("stale")) == (20, 140)
    assert router.learning["version"] == 20


def test_the_report_tells_a_changed_configuration(life: Reopened) -> None:
    """What is overridden, always; what was given back, for seven days; by whom and when."""

    def told() -> list[str]:
        notices = life.router.report().notices
        return [notice.text for notice in notices if notice.kind == "configuration-changed"]

    life.clock.now_s = 1_800_000_000.0
    life.store.install(SPEC)
    assert told() == []
    life.router.update_learning(rails={"freeze": True}, mode="shadow")
    life.clock.forward(1)
    life.router.update_learning(mode=None)
    frozen = "rails.freeze was changed by local at 2027-01-15T08:00:00.000Z"
    back = "mode was given back to the file's value by local at 2027-01-15T08:00:01.000Z"
    assert told() == [back, frozen]
    life.clock.forward(7 * 86400)
    assert told() == [back, frozen]
    life.restart()
    life.clock.forward(1)
    assert told() == [frozen]
    life.clock.forward(1000 * 86400)
    assert told() == [frozen]
    life.router.update_learning(rails={"freeze": None})
    assert len(told()) == 1
    life.clock.forward(8 * 86400)
    assert told() == []


def test_whoever_changed_it_cannot_forge_lines() -> None:
    with capsa.open(principal="evil\n! \x1b[2J") as store:
        router = store.install(SPEC)
        router.update_learning(mode="off")
        (notice,) = router.report().notices
        assert notice.text.isprintable()
        assert len([line for line in str(router.report()).splitlines() if line.startswith("!")]) == 1
