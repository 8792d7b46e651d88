"""Fixed rules against the learner: scored alike, and told honestly where they are as good."""

from pathlib import Path
from statistics import fmean

import msgspec
import pytest

from capsa.demo import _experiments, _simulation, _table, static
from capsa.demo._simulation import Request, Run
from capsa.demo._table import MODELS, Prompt
from capsa.demo.static import _rules, _text

ROOT = Path(__file__).resolve().parents[2]
#: What `capsa demo static-policy --seeds 20 --json` found.
STORED = Path(__file__).with_name("static_20_seeds.json")


@pytest.fixture(scope="module")
def printed() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, printed: list[str]) -> static.StaticResult:
    return static.run(tmp_path_factory.mktemp("static") / "new" / "folder", 1, printed.append)


def _run(keys: list[str], rewards: list[list[float]], chosen: list[int]) -> Run:
    request = Request(Prompt("task", 1, (0, 0, 0), (0, 0, 0)), "free", 1, 1)
    return Run([request] * len(keys), keys, rewards, chosen, [[1 / 3] * 3] * len(keys), 0, len(keys), 0.0, "")


def test_what_each_rule_earns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked out by hand: two contexts, the rules chosen from the first two of five requests."""
    monkeypatch.setattr(_rules, "FIRST", 2)
    rewards = [[0.9, 0.2, 0.0], [0.0, 0.6, 0.7], [0.1, 0.0, 0.9], [0.3, 0.5, 0.8], [0.4, 0.1, 0.2]]
    run = _run(["a", "b", "a", "b", "c"], rewards, [0, 0, 2, 1, 2])
    rules = _rules.fixed_rules(run)
    assert rules == {
        "always llama31_8b": [0.9, 0.0, 0.1, 0.3, 0.4],
        "always mistral_large": [0.2, 0.6, 0.0, 0.5, 0.1],
        "always gemini25_pro": [0.0, 0.7, 0.9, 0.8, 0.2],
        # Of the first two the first model has earned most, and is kept although the third is better afterwards.
        _rules.CHOSEN: [0.9, 0.0, 0.1, 0.3, 0.4],
        # The third context was not among them: the best for all.
        _rules.CHOSEN_PER_KEY: [0.9, 0.7, 0.1, 0.8, 0.4],
    }
    compared = _rules.compared(_experiments.BY_TIER, None, [run])
    assert compared.reward["ours"] == [pytest.approx(fmean([0.9, 0.5, 0.2]))]
    assert compared.reward[_rules.CHOSEN_PER_KEY] == [pytest.approx(fmean([0.1, 0.8, 0.4]))]
    assert compared.early == {"ours": [0.45], "random": [pytest.approx(fmean([1.1 / 3, 1.3 / 3]))]}
    assert compared.wins[_rules.CHOSEN_PER_KEY] == 1


def test_what_comes_after_the_first_requests_does_not_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoil all later outcomes, and the rules choose the same."""
    monkeypatch.setattr(_rules, "FIRST", 2)
    first = [[0.9, 0.2, 0.0], [0.0, 0.6, 0.7]]
    for later in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]):
        rules = _rules.fixed_rules(_run(["a", "b"] * 3, [*first, *[later] * 4], [0] * 6))
        assert rules[_rules.CHOSEN][2:] == [later[0]] * 4
        assert rules[_rules.CHOSEN_PER_KEY][2:] == [later[0], later[2]] * 2


def test_one_seed_holds_its_claims(result: static.StaticResult) -> None:
    assert [claim.text for claim in result.claims if not claim.holds] == []
    assert result.ok
    assert len(result.claims) == 4


def test_it_draws_a_picture(result: static.StaticResult) -> None:
    picture = Path(result.picture).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20], "big") >= 1200


def test_the_learner_is_that_of_the_demo(result: static.StaticResult) -> None:
    """The same stream, capsule and decisions as `capsa demo --in-process`."""
    [steady] = [
        each for each in result.comparisons if each.setup == _experiments.BY_TIER and each.cut is None
    ]
    run = _simulation.run(_experiments.BY_TIER.spec(), _table.prompts(), 0)
    ours = _experiments.by_rule(run)["ours"]
    assert steady.reward["ours"] == [fmean(ours[_rules.FIRST :])]
    assert steady.early["ours"] == [fmean(ours[: _rules.FIRST])]


def test_no_fixed_rule_that_is_as_good_is_hidden(result: static.StaticResult, printed: list[str]) -> None:
    """Every figure is printed, and every rule that learning does not beat is called so."""
    text = "\n".join(printed)
    unbeaten = 0
    for each in result.comparisons:
        assert set(each.fixed) >= {*(f"always {model}" for model in MODELS), _rules.CHOSEN}
        for rule in each.fixed:
            assert f"{each.reward[rule][0]:.4f} ({each.gain(rule):+.4f}, {each.wins[rule]} of 1)" in text
        unbeaten += sum(
            each.verdict.get(rule, "better") != "better" for rule in (_rules.CHOSEN, _rules.CHOSEN_PER_KEY)
        )
    assert text.count("is NOT") == unbeaten > 0
    assert all(str(claim) in printed for claim in result.claims)


def test_claims_can_fail(result: static.StaticResult) -> None:
    replace = msgspec.structs.replace
    lost = [
        replace(each, verdict={**each.verdict, _rules.CHOSEN: "no clear difference"})
        for each in result.comparisons
    ]
    assert [claim.holds for claim in _text.claims(lost)] == [False, False, False, True]
    first, *others = result.comparisons
    forgot = [replace(first, learned=first.learned - 1), *others]
    assert [claim.holds for claim in _text.claims(forgot)] == [True, True, True, False]


def test_the_manual_has_the_figures_of_the_stored_run(result: static.StaticResult) -> None:
    """And the stored run is that of this code: its first seed is found again."""
    manual = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    stored = msgspec.json.decode(STORED.read_bytes(), type=static.StaticResult)
    assert stored.ok
    for known, found in zip(stored.comparisons, result.comparisons, strict=True):
        assert {rule: values[:1] for rule, values in known.reward.items()} == found.reward
        cells = [rule for rule in (_rules.CHOSEN, _rules.CHOSEN_PER_KEY) if rule in known.reward]
        assert all(f"{known.gain(rule):+.4f} ({known.wins[rule]} of 20)" in manual for rule in cells)
