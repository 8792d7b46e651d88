"""The demo as a whole: its claims hold, can fail, and say what the figures say."""

import json
from pathlib import Path
from statistics import fmean

import msgspec
import pytest

from capsa import demo
from capsa.demo import _experiments, _text
from capsa.demo._classic import Classic, classic
from capsa.demo._experiments import BY_TASK, BY_TIER, Experiment
from capsa.demo._simulation import Request, Run
from capsa.demo._table import MODELS, Prompt

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "bench" / "results" / "demo_seeds.json"


@pytest.fixture(scope="module")
def printed() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, printed: list[str]) -> demo.DemoResult:
    """The whole demo with one seed."""
    return demo.run(tmp_path_factory.mktemp("demo") / "new" / "folder", 1, printed.append)


def test_one_seed_holds_its_claims(result: demo.DemoResult) -> None:
    assert [claim.text for claim in result.claims if not claim.holds] == []
    assert result.ok
    assert len(result.claims) == 7


def test_it_draws_a_picture(result: demo.DemoResult) -> None:
    picture = Path(result.picture).read_bytes()
    assert picture.startswith(b"\x89PNG")
    width = int.from_bytes(picture[16:20], "big")
    assert width >= 1200


def test_it_prints_every_figure_and_verdict(result: demo.DemoResult, printed: list[str]) -> None:
    text = "\n".join(printed)
    for experiment in result.experiments:
        assert f"{experiment.gain[0]:+.4f}" in text
        for rule, [value] in experiment.reward.items():
            if (experiment.setup.name, rule) != ("one price", _experiments.BEST_PER_KEY):
                assert f"{value:.4f}" in text
    assert text.count("does NOT") == sum(each.verdict != "better" for each in result.experiments)
    assert all(f"ok     {claim.text}" in printed for claim in result.claims)


def test_the_answer_is_json(result: demo.DemoResult) -> None:
    values = json.loads(json.dumps(msgspec.to_builtins(result)))
    assert values["ok"] is True
    assert {each["setup"]["name"] for each in values["experiments"]} == {"tier", "tier and task", "one price"}
    assert msgspec.convert(values, demo.DemoResult) == result


def test_rules_are_ordered_as_they_must_be(result: demo.DemoResult) -> None:
    """What is known in hindsight is an upper bound of what it knows less than."""
    for experiment in result.experiments:
        for seed in range(len(experiment.seeds)):
            earned = {rule: values[seed] for rule, values in experiment.reward.items()}
            fixed = [earned[model] for model in MODELS]
            assert earned[_experiments.BEST_FIXED] == max(fixed)
            assert earned[_experiments.RANDOM] == pytest.approx(fmean(fixed))
            assert (
                earned[_experiments.BEST_FIXED]
                <= earned[_experiments.BEST_PER_KEY]
                <= earned[_experiments.ORACLE]
            )
            assert earned[_experiments.OURS] < earned[_experiments.ORACLE]


def test_what_each_rule_earns() -> None:
    """Worked out by hand: two contexts, four requests."""
    rewards = [[0.5, 0.2, 0.0], [0.0, 0.6, 0.3], [0.4, 0.0, 0.9], [0.1, 0.5, 0.0]]
    request = Request(Prompt("task", 1, (0, 0, 0), (0, 0, 0)), "free", 1, 1)
    run = Run([request] * 4, ["a", "b", "a", "b"], rewards, [0, 0, 2, 1], [[1 / 3] * 3] * 4, 4, 4, 0.0, "")
    assert _experiments.by_rule(run) == {
        "ours": [0.5, 0.0, 0.9, 0.5],
        "best fixed model": [0.2, 0.6, 0.0, 0.5],
        "llama31_8b": [0.5, 0.0, 0.4, 0.1],
        "mistral_large": [0.2, 0.6, 0.0, 0.5],
        "gemini25_pro": [0.0, 0.3, 0.9, 0.0],
        "random": pytest.approx([0.7 / 3, 0.3, 1.3 / 3, 0.2]),
        "best fixed per context": [0.5, 0.6, 0.4, 0.5],
        "oracle": [0.5, 0.6, 0.9, 0.5],
    }


@pytest.mark.parametrize(
    ("wins", "seeds", "verdict"),
    [
        (18, 20, "better"),
        (17, 20, "no clear difference"),
        (3, 20, "no clear difference"),
        (2, 20, "worse"),
        (5, 5, "better"),
        (4, 5, "no clear difference"),
        (0, 5, "worse"),
        (1, 1, "better"),
        (0, 1, "worse"),
    ],
)
def test_what_may_be_said_after_so_many_wins(wins: int, seeds: int, verdict: str) -> None:
    assert _experiments.verdict(wins, seeds) == verdict


def _by_tier(result: demo.DemoResult) -> Experiment:
    return next(each for each in result.experiments if each.setup == BY_TIER and each.cut is None)


def test_claims_can_fail(result: demo.DemoResult) -> None:
    """Each fault makes exactly its claims fail."""
    steady = _by_tier(result)
    good = classic()
    weights = dict(good.weights)
    weights["support-low-cost"] = [0.969, 0.03, 0.001]
    weights[good.unseen] = [0.34, 0.33, 0.33]
    wrong = Classic(options=good.options, weights=weights, right=good.right, unseen=good.unseen)
    replace = msgspec.structs.replace
    kept = result.restart
    faults = [
        ([replace(steady, verdict="no clear difference")], good, kept, ["by tier"]),
        ([replace(steady, learned=steady.learned - 1)], good, kept, ["every outcome"]),
        ([replace(steady, reward_gap=0.01)], good, kept, ["the capsule's rewards"]),
        ([steady], wrong, kept, ["classic: the right option", "classic: the unseen"]),
        ([steady], good, replace(kept, lost=1), ["killed"]),
        ([steady], good, replace(kept, doubled=1), ["killed"]),
        ([steady], good, replace(kept, unknown=1), ["killed"]),
        ([steady], good, replace(kept, faults=1), ["killed"]),
    ]
    for experiments, lesson, restart, failing in faults:
        failed = [claim.text for claim in _text.claims(experiments, lesson, restart) if not claim.holds]
        assert len(failed) == len(failing)
        assert all(text.startswith(start) for text, start in zip(failed, failing, strict=True))


def test_a_loss_is_called_a_loss(result: demo.DemoResult) -> None:
    steady = _by_tier(result)
    lost = msgspec.structs.replace(steady, setup=BY_TASK, gain=[-0.01], wins=0, verdict="worse")
    first, _ = _text.sentences(lost)
    assert "learning does NOT beat the best fixed model (-0.0100 a request, ahead on 0 of 1 seeds)" in first


def test_the_store_survives_its_process(result: demo.DemoResult) -> None:
    """What the kills did is told as it was, and nothing acknowledged is missing."""
    restart = result.restart
    assert restart.kills == restart.sent_again == 2
    assert restart.acknowledged == restart.requests == 300
    assert restart.lost == restart.unknown == restart.doubled == restart.faults == 0


def test_a_decision_without_a_record_is_told_of(result: demo.DemoResult) -> None:
    """A kill may take one; most runs have none."""
    for count in (0, 2):
        restart = msgspec.structs.replace(result.restart, unrecorded=count)
        told = [line for line in _text.restart_lines(restart) if "have no record" in line]
        assert [line.split()[0] for line in told] == ([str(count)] if count else [])


def test_the_classic_scenario() -> None:
    learned = classic()
    assert learned.weights["support-low-cost"] == pytest.approx([0.98 + 0.02 / 3, 0.02 / 3, 0.02 / 3])
    assert learned.weights["legal-high-accuracy"] == pytest.approx([0.02 / 3, 0.02 / 3, 0.98 + 0.02 / 3])
    assert learned.weights[learned.unseen] == pytest.approx([1 / 3] * 3, abs=1e-12)


def test_the_stored_run_meets_the_bar() -> None:
    stored = msgspec.convert(json.loads(STORED.read_text(encoding="utf-8"))["demo"], demo.DemoResult)
    assert stored.ok
    for experiment in stored.experiments:
        assert len(experiment.seeds) == 20
        assert experiment.wins == sum(gain > 0 for gain in experiment.gain)
        if experiment.setup == BY_TIER and experiment.cut != "mistral_large":
            assert experiment.wins >= 18


def test_in_process_the_figures_are_those_of_the_stored_run(result: demo.DemoResult) -> None:
    """The same seed, the same figures: on any machine, and as they were when the manual was written."""
    stored = msgspec.convert(json.loads(STORED.read_text(encoding="utf-8"))["demo"], demo.DemoResult)
    for experiment, known in zip(result.experiments, stored.experiments, strict=True):
        assert (experiment.setup, experiment.cut) == (known.setup, known.cut)
        assert experiment.reward == {rule: values[:1] for rule, values in known.reward.items()}


def test_the_manual_has_the_figures_of_the_stored_run() -> None:
    manual = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    document = json.loads(STORED.read_text(encoding="utf-8"))
    stored = msgspec.convert(document["demo"], demo.DemoResult)
    for experiment in stored.experiments:
        assert f"{fmean(experiment.gain):+.4f} ({experiment.wins} of 20)" in manual
    for experiment in stored.experiments[:2]:
        for values in experiment.reward.values():
            assert f"{fmean(values):.4f}" in manual
    [other] = [each for each in stored.experiments if each.setup == BY_TIER and each.cut == "mistral_large"]
    room = fmean(other.reward[_experiments.BEST_PER_KEY]) - fmean(other.reward[_experiments.BEST_FIXED])
    assert f"gains only {room:.4f}" in " ".join(manual.split())
    for row in document["settings"]:
        assert f"{row['gain']:+.4f} ({row['wins']} of 20)" in manual
