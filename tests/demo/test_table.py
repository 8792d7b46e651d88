"""The shipped table: what it holds, where it comes from, and that it says what its source says."""

import csv
import gzip
import math
import re
import runpy
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from capsa.demo import _simulation, _table

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "python" / "capsa" / "demo" / "data"
SOURCE = Path("/work/shared/data/llm_routing_paretobandit.csv.gz")


@pytest.fixture(scope="module")
def table() -> list[_table.Prompt]:
    return _table.prompts()


@pytest.fixture(scope="module")
def source() -> list[dict[str, str]]:
    """The rows that the table was made from."""
    if not SOURCE.exists():
        pytest.skip(f"{SOURCE} is not on this machine: the table cannot be compared with its source")
    with gzip.open(SOURCE, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_it_has_the_documented_shape(table: list[_table.Prompt]) -> None:
    assert len(table) == 1785
    assert len({prompt.task for prompt in table}) == 30
    for prompt in table:
        assert len(prompt.quality) == len(prompt.cost_usd) == len(_table.MODELS) == 3
        assert all(0 <= quality <= 1 for quality in prompt.quality)
        assert all(0 < cost < 1 for cost in prompt.cost_usd)
        assert prompt.prompt_chars > 0


def test_its_means_are_known(table: list[_table.Prompt]) -> None:
    """A damaged or exchanged table does not go unnoticed."""
    quality = [fmean(prompt.quality[model] for prompt in table) for model in range(3)]
    cost = [fmean(prompt.cost_usd[model] for prompt in table) for model in range(3)]
    assert quality == pytest.approx([0.788782, 0.924759, 0.934923], abs=1e-6)
    assert cost == pytest.approx([2.929143e-05, 5.028650e-04, 1.503663e-02], rel=1e-6)


def test_it_holds_no_prompt_text() -> None:
    """Beside the task's name, which is a short identifier, every cell is a number."""
    raw = (DATA / "llm-routing.csv.gz").read_bytes()
    [header, *rows] = csv.reader(gzip.decompress(raw).decode().splitlines())
    models = [f"{what}_{model}" for model in _table.MODELS for what in ("quality", "cost_usd")]
    assert header == ["task", "prompt_chars", *models]
    for task, *numbers in rows:
        assert re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)?", task)
        assert len(task) <= 48
        assert all(math.isfinite(float(number)) for number in numbers)


def test_it_ships_with_its_attribution() -> None:
    text = (DATA / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for said in (
        "`paretobandit` 0.1.1",
        "val.jsonl",
        "Copyright 2025 ParetoBandit Authors",
        "Apache License",
        "Changed:",
    ):
        assert said in text
    assert all(
        f"`{column}`" in text for column in ("task", "prompt_chars", "quality_<model>", "cost_usd_<model>")
    )


def test_the_archive_names_neither_a_file_nor_a_time() -> None:
    """So that the same table is the same bytes."""
    header = (DATA / "llm-routing.csv.gz").read_bytes()[:10]
    assert header[3] == 0, "no optional header fields"
    assert header[4:8] == b"\0\0\0\0"


def test_the_script_makes_this_table(source: list[dict[str, str]]) -> None:
    facts = runpy.run_path(str(ROOT / "scripts" / "make-demo-data"))["facts"]
    shipped = gzip.decompress((DATA / "llm-routing.csv.gz").read_bytes()).decode()
    assert list(csv.DictReader(shipped.splitlines())) == [facts(row) for row in source]


def test_no_prompt_of_the_source_is_in_it(source: list[dict[str, str]]) -> None:
    shipped = gzip.decompress((DATA / "llm-routing.csv.gz").read_bytes()).decode()
    assert not [row["id"] for row in source if row["prompt"] in shipped]


def test_metrics_and_rewards_are_those_of_a_direct_computation(source: list[dict[str, str]]) -> None:
    """Differential: what the simulated application would report, against NumPy on the source itself."""
    quality = np.array([[float(row[f"reward_{model}"]) for model in _table.MODELS] for row in source])
    usd = np.array([[float(row[f"cost_usd_{model}"]) for model in _table.MODELS] for row in source])
    table = _table.prompts()
    for tier, factor in (("free", 1.0), ("standard", 0.3), ("enterprise", 0.0)):
        for price in (1.0, 1 / 40):
            cost = factor * np.clip(np.interp(np.log(usd * price), np.log([1e-5, 0.1]), [0.0, 1.0]), 0, 1)
            reported = [
                [_simulation.outcome(prompt, model, tier, price) for model in range(3)] for prompt in table
            ]
            assert np.array_equal([[each["quality"] for each in row] for row in reported], quality)
            assert np.allclose([[each["cost"] for each in row] for row in reported], cost, rtol=0, atol=1e-12)
            rewards = [[_simulation.reward(each) for each in row] for row in reported]
            assert np.allclose(rewards, quality - 0.7 * cost, rtol=0, atol=1e-12)
