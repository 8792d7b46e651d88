"""The simulated application: repeatable, late, and telling the capsule of nothing but its own choices."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import capsa
from capsa.demo import _experiments, _simulation, _table

ROOT = Path(__file__).resolve().parents[2]
TIERS = tuple(_simulation.TIER_FACTOR)


@pytest.fixture(scope="module")
def table() -> list[_table.Prompt]:
    """A part of the table, so that many runs are quick."""
    return _table.prompts()[::7]


@pytest.fixture(scope="module")
def spec() -> str:
    return _table.spec("llm-router")


def test_the_same_seed_gives_the_same_run(spec: str, table: Sequence[_table.Prompt]) -> None:
    first, second = (_simulation.run(spec, table, 3, cut="gemini25_pro") for _ in range(2))
    assert first == second
    assert first.chosen != _simulation.run(spec, table, 4, cut="gemini25_pro").chosen


def test_what_another_model_would_have_done_changes_nothing(
    spec: str, table: Sequence[_table.Prompt]
) -> None:
    """The capsule must not see what it did not choose: spoil all of that, and it decides the same."""
    seen = _simulation.run(spec, table, 5)
    chosen = {id(request.prompt): model for request, model in zip(seen.requests, seen.chosen, strict=True)}
    spoiled = [
        prompt._replace(
            quality=tuple(
                prompt.quality[model] if model == chosen[id(prompt)] else 0.5 for model in range(3)
            ),
            cost_usd=tuple(
                prompt.cost_usd[model] if model == chosen[id(prompt)] else 0.01 for model in range(3)
            ),
        )
        for prompt in table
    ]
    again = _simulation.run(spec, spoiled, 5)
    assert again.chosen == seen.chosen
    assert again.state_hash == seen.state_hash
    assert again.rewards != seen.rewards


def test_prices_do_not_change_who_asks_when(table: Sequence[_table.Prompt]) -> None:
    """All courses of prices and all context keys see the same stream."""
    requests = _simulation.stream(table, 0, TIERS)
    assert requests == _simulation.stream(table, 0, TIERS)
    assert [request.prompt for request in requests] != list(table)
    assert sorted(request.prompt for request in requests) == sorted(table)
    assert {request.tier for request in requests} == set(TIERS)


def test_outcomes_come_late_shuffled_and_in_parts(table: Sequence[_table.Prompt]) -> None:
    requests = _simulation.stream(table, 0, TIERS)
    delays = [request.quality_after for request in requests]
    assert min(delays) >= 1
    assert max(delays) <= _simulation.LONGEST_DELAY
    assert max(delays) > _simulation.LONGEST_DELAY - 10
    assert all(1 <= request.cost_after <= request.quality_after for request in requests)
    arrivals = [at + delay for at, delay in enumerate(delays)]
    assert arrivals != sorted(arrivals)
    in_parts = sum(request.cost_after < request.quality_after for request in requests)
    assert 0.3 * len(requests) < in_parts < 0.7 * len(requests)


def test_everything_is_learned_once(spec: str, table: Sequence[_table.Prompt]) -> None:
    run = _simulation.run(spec, table, 1)
    in_parts = sum(request.cost_after < request.quality_after for request in run.requests)
    assert run.learned == len(table)
    assert run.posts == len(table) + in_parts
    assert run.reward_gap < 1e-12


def test_weights_are_probabilities_with_the_promised_exploration(
    spec: str, table: Sequence[_table.Prompt]
) -> None:
    run = _simulation.run(spec, table, 2)
    assert run.weights[0] == pytest.approx([1 / 3] * 3)
    for weights in run.weights:
        assert sum(weights) == pytest.approx(1, abs=1e-9)
        assert min(weights) >= 0.02 / 3 - 1e-12


def test_the_price_cut_comes_at_half_time(spec: str, table: Sequence[_table.Prompt]) -> None:
    steady = _simulation.run(spec, table, 6, tiers=("free",))
    cut = _simulation.run(spec, table, 6, tiers=("free",), cut="mistral_large")
    half = _simulation.half_time(len(table))
    assert half == len(table) // 2
    assert cut.rewards[:half] == steady.rewards[:half]
    assert cut.chosen[:half] == steady.chosen[:half]
    for before, after in zip(steady.rewards[half:], cut.rewards[half:], strict=True):
        assert (after[0], after[2]) == (before[0], before[2])
        assert after[1] > before[1]


@pytest.mark.parametrize(
    ("usd", "scaled"), [(1e-6, 0), (1e-5, 0), (1e-4, 0.25), (1e-3, 0.5), (0.1, 1), (0.5, 1)]
)
def test_the_scale_of_cost(usd: float, scaled: float) -> None:
    assert _simulation.scaled_cost(usd) == pytest.approx(scaled, abs=1e-12)


def test_the_setups_differ_in_their_contexts_only() -> None:
    shipped = _table.spec("llm-router").splitlines()
    for setup in _experiments.SETUPS:
        lines = setup.spec().splitlines()
        differing = [line for line, other in zip(lines, shipped, strict=True) if line != other]
        assert all(line.startswith("contexts: ") for line in differing)
    keys = set(_simulation.run(_experiments.BY_TASK.spec(), _table.prompts()[:40], 0).keys)
    assert {len(key.split("|")) for key in keys} == {2}


def test_the_capsule_in_source_is_the_one_that_ships() -> None:
    assert (ROOT / "capsules" / "llm-router" / "capsule.yaml").read_text(encoding="utf-8") == _table.spec(
        "llm-router"
    )


def test_its_readme_works() -> None:
    """The calls of capsules/llm-router/README.md."""
    router = capsa.open(seed=0).install(ROOT / "capsules" / "llm-router" / "capsule.yaml")
    decision = router.decide({"customer_tier": "standard"})
    assert router.feedback(decision.id, outcome={"cost": 0.12}).status == "pending"
    answer = router.feedback(decision.id, outcome={"quality": 0.9})
    assert answer.status == "applied"
    assert answer.reward == pytest.approx(0.9 - 0.7 * 0.12)
