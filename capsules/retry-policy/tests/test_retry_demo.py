"""The demo of retry-policy: a fair simulation, run twice alike, with results that are called what they are."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsa import _native

CAPSULE = Path(__file__).parents[1]
README = CAPSULE / "README.md"

#: What is asked of learning is asked on each of these seeds, or on at least `MOST` of them where it says so.
SEEDS = range(10)
MOST = 9
#: About 200 for each of the six contexts: enough to have found out.
REQUESTS = 1200


def _load() -> tuple[ModuleType, ModuleType]:
    """demo.py under a name of its own, and the module it stands on; as a script its folder is on the path."""
    sys.path.insert(0, str(CAPSULE))
    try:
        spec = importlib.util.spec_from_file_location("retry_policy_demo", CAPSULE / "demo.py")
        assert spec is not None
        assert spec.loader is not None
        demo = importlib.util.module_from_spec(spec)
        # msgspec looks annotations up where the class says it is from.
        sys.modules["retry_policy_demo"] = demo
        spec.loader.exec_module(demo)
        return demo, sys.modules["flaky_dependency"]
    finally:
        sys.path.remove(str(CAPSULE))


demo, dependency = _load()
COMBINATIONS = dependency.COMBINATIONS
LABELS = [combination.label for combination in COMBINATIONS]


def judged(world: Any, requests: int, seeds: range) -> list[Any]:
    """One result of a world for each seed."""
    return [demo.judge(world, demo.run(world, requests, seed)) for seed in seeds]


def scripted(*arguments: str) -> str:
    """What the demo prints as a program of its own, started from another folder."""
    command = [sys.executable, str(CAPSULE / "demo.py"), *arguments]
    done = subprocess.run(  # noqa: S603 - our own demo
        command, check=True, capture_output=True, text=True, timeout=100, cwd=CAPSULE.parent
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def differs() -> list[Any]:
    """The world in which the right combination differs by context, on every seed."""
    return judged(dependency.DIFFERS, REQUESTS, SEEDS)


# The simulation


def test_the_combinations_are_those_of_the_spec() -> None:
    """The valid ones, each once, in the order of their option numbers."""
    definition = json.loads(_native.spec_definition((CAPSULE / "capsule.yaml").read_text()))
    strategies = {each["name"]: each["options"] for each in definition["strategies"]}
    assert [
        (timeout, retries)
        for timeout in strategies["timeout"]
        for retries in strategies["retries"]
        if any(
            timeout in row.get("timeout", [timeout]) and retries in row.get("retries", [retries])
            for row in definition["valid"]
        )
    ] == [tuple(combination) for combination in COMBINATIONS]


attempts = st.lists(
    st.builds(
        dependency.Attempt,
        st.floats(1, 20_000) | st.sampled_from([1000.0, 2000.0, 5000.0, float("inf")]),
        st.booleans(),
    ),
    min_size=4,
    max_size=4,
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(attempts=attempts)
def test_trying_longer_or_more_often_never_loses_an_answer(attempts: list[Any]) -> None:
    """And nothing takes longer than its timeouts and waits between; utility stays in the declared range."""
    outcomes = {tuple(each): dependency.call(attempts, each) for each in COMBINATIONS}
    for (timeout, retries), outcome in outcomes.items():
        allowed = dependency.RETRIES[retries]
        waits_ms = sum(100 * 2**at for at in range(outcome.attempts - 1))
        assert 1 <= outcome.attempts <= 1 + allowed
        assert outcome.success or outcome.attempts == 1 + allowed
        assert outcome.latency_ms <= outcome.attempts * dependency.TIMEOUT_MS[timeout] + waits_ms
        assert -0.7 - 1e-12 <= demo.utility(outcome) <= 0.6
        for (longer, more), other in outcomes.items():
            if dependency.TIMEOUT_MS[longer] >= dependency.TIMEOUT_MS[timeout] and int(more) >= int(retries):
                assert other.success >= outcome.success


def test_what_a_call_comes_to() -> None:
    """Worked out by hand: refused, timed out, answered at the very timeout."""
    refused, slow, answered = (
        dependency.Attempt(*each) for each in [(20.0, False), (1500.0, True), (1000.0, True)]
    )
    call, combination = dependency.call, dependency.Combination
    met = [refused, slow, answered, refused]
    assert call(met, combination("1s", "0")) == (False, 20.0, 1)
    assert call(met, combination("1s", "1")) == (False, 20.0 + 100 + 1000, 2)
    assert call(met, combination("1s", "3")) == (True, 20.0 + 100 + 1000 + 200 + 1000, 3)
    assert call(met, combination("2s", "1")) == (True, 20.0 + 100 + 1500, 2)
    assert demo.utility(call(met, combination("2s", "1"))) == pytest.approx(0.6 - 0.06 * 1.62 - 0.1 / 3)


def test_worlds_meet_the_same_requests() -> None:
    """The same seed: times, endpoints, loads and delays do not depend on the regimes, which begin where they must."""
    streams = [dependency.stream(world, 900, 3) for world in dependency.WORLDS]
    for requests in zip(*streams, strict=True):
        assert len({request._replace(regime=None, attempts=()) for request in requests}) == 1
    differs, incident, _ = streams
    for at, (plain, other) in enumerate(zip(differs, incident, strict=True)):
        hit = plain.endpoint == "search" and plain.load < 0.8 and 300 <= at < 600
        assert other.regime == (dependency.PARTIAL_OUTAGE if hit else plain.regime)
        assert hit or other.attempts == plain.attempts
    assert dependency.stream(dependency.DIFFERS, 900, 4) != differs


def test_the_right_combination_differs_by_context(differs: list[Any]) -> None:
    """Among 10 seeds together at least four combinations are right somewhere, and none is right in most contexts."""
    right = Counter(
        Counter(
            context.best for result in differs for context in result.contexts if context.context_key == key
        ).most_common(1)[0][0]
        for key in {context.context_key for context in differs[0].contexts}
    )
    assert sum(right.values()) == 6
    assert len(right) >= 4
    assert max(right.values()) <= 3


# A run


def test_a_run_reports_late_and_out_of_order() -> None:
    """Every request is learned from once, with the reward that is worked out beside it."""
    done = demo.run(dependency.DIFFERS, 400, 5)
    assert done.learned == len(done.requests) == len(done.reported) == 400
    assert sorted(done.reported) == list(range(400))
    overtaken = sum(one > other for one, other in zip(done.reported, done.reported[1:], strict=False))
    assert overtaken > 100
    assert done.reward_gap < 1e-12
    assert {key.rsplit("|", 1)[0] for key in done.keys} == set(dependency.ENDPOINTS)
    for key, request in zip(done.keys, done.requests, strict=True):
        assert key == f"{request.endpoint}|{'<0.8' if request.load < 0.8 else '>=0.8'}"


def test_rules_are_worked_out_as_they_say(differs: list[Any]) -> None:
    """What is known in hindsight is an upper bound of what knows less; uniform is the mean of all."""
    for result in differs:
        fixed = [result.rule(label) for label in LABELS]
        assert result.rule(result.best_fixed).utility == max(rule.utility for rule in fixed)
        assert result.rule(demo.BEST_PER_CONTEXT).utility >= result.rule(result.best_fixed).utility
        uniform = result.rule(demo.UNIFORM)
        assert uniform.utility == pytest.approx(fmean(rule.utility for rule in fixed))
        assert uniform.success == pytest.approx(fmean(rule.success for rule in fixed))
        ours = result.rule(demo.CAPSA)
        assert result.gain == pytest.approx(ours.utility - result.rule(result.best_fixed).utility)
        assert result.learned == REQUESTS
        assert result.reward_gap < 1e-12


def test_p95_and_the_second_half_by_hand() -> None:
    """Twenty requests that take 1 to 20 ms: the 19th is the 95th percentile."""
    outcomes = [[dependency.Outcome(True, float(at), 1)] for at in range(1, 21)]
    utilities = [[float(at)] for at in range(1, 21)]
    done = demo.Run([], outcomes, utilities, [], [], [], 20, 0.0, "")
    rule = demo._rule("one", done, [[0]] * 20)
    assert (rule.p95_latency_ms, rule.utility, rule.utility_second_half) == (19.0, 10.5, 15.5)
    assert rule.success == 1


@pytest.mark.parametrize(
    ("gain", "error", "verdict"),
    [
        (0.021, 0.01, "better"),
        (0.02, 0.01, "no clear difference"),
        (-0.02, 0.01, "no clear difference"),
        (-0.021, 0.01, "worse"),
    ],
)
def test_what_may_be_said_of_a_gain(gain: float, error: float, verdict: str) -> None:
    """Two standard errors decide."""
    assert demo.verdict(gain, error) == verdict


# What learning is worth


def test_learning_beats_choosing_at_random(differs: list[Any]) -> None:
    """On every seed, by more than what luck explains: 0.05 a request."""
    assert all(each.rule(demo.CAPSA).utility > each.rule(demo.UNIFORM).utility + 0.05 for each in differs)


def test_learning_beats_the_best_fixed_combination_where_contexts_differ(differs: list[Any]) -> None:
    """On at least 9 of 10 seeds, though that one is chosen in hindsight; the second half is better than the first."""
    assert sum(each.gain > 0 for each in differs) >= MOST
    assert sum(each.verdict == "better" for each in differs) >= MOST
    later = [each.rule(demo.CAPSA).utility_second_half - each.rule(demo.CAPSA).utility for each in differs]
    assert sum(gain > 0 for gain in later) >= MOST


def test_learning_beats_the_best_fixed_combination_with_an_incident() -> None:
    """On at least 4 of 5 seeds."""
    results = judged(dependency.INCIDENT, REQUESTS, range(5))
    assert sum(each.gain > 0 for each in results) >= 4


def test_learning_does_not_beat_what_is_right_everywhere() -> None:
    """Where one combination is right in every context nobody can beat it; the demo says so."""
    for result in judged(dependency.ALIKE, 600, range(3)):
        assert result.verdict == "worse"
        assert "Capsa does NOT beat the best fixed combination (-0.0" in demo.sentence(result)


def test_the_readme_table_of_seeds_is_what_comes_out(differs: list[Any]) -> None:
    """Requests, requests for each context, mean gain and seeds ahead, in every row."""
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (.+) \| (\d+) of 10 \|$", README.read_text(), re.MULTILINE)
    assert [row[0] for row in rows] == ["300", "600", "1,200"]
    for requests, for_each, gain, ahead in rows:
        count = int(requests.replace(",", ""))
        found = differs if count == REQUESTS else judged(dependency.DIFFERS, count, SEEDS)
        assert len(found) == 10
        assert int(for_each) == count / len(found[0].contexts)
        assert gain == f"{fmean(each.gain for each in found):+.3f}"
        assert int(ahead) == sum(each.gain > 0 for each in found)


# The program


def test_the_program_repeats_itself_exactly() -> None:
    """The same seed gives the same bytes, in another process too; another seed gives others."""
    one = scripted("--requests", "240", "--seed", "3", "--json")
    assert one == scripted("--requests", "240", "--seed", "3", "--json")
    other = json.loads(scripted("--requests", "240", "--seed", "4", "--json"))
    result = json.loads(one)
    assert (result["requests"], result["seed"], other["seed"]) == (240, 3, 4)
    for here, there in zip(result["worlds"], other["worlds"], strict=True):
        assert here["stateHash"] != there["stateHash"]


def test_json_and_text_say_the_same() -> None:
    """Every figure of the text is one of the document, and a rule that is not best is never called so."""
    result = json.loads(scripted("--requests", "300", "--json"))
    text = scripted("--requests", "300")
    assert [world["name"] for world in result["worlds"]] == ["differs", "incident", "alike"]
    for number, world in enumerate(result["worlds"]):
        assert f"{number + 1}. {world['title']}" in text
        assert f"({world['gain']:+.4f} a request, standard error {world['gainError']:.4f})" in text
        assert len(world["rules"]) == len(LABELS) + 3
        shown = (
            world["rules"]
            if number == 0
            else [
                rule
                for rule in world["rules"]
                if rule["name"] in (demo.CAPSA, demo.UNIFORM, demo.BEST_PER_CONTEXT, world["bestFixed"])
            ]
        )
        for rule in shown:
            assert f"{rule['utility']:.4f}" in text
            assert f"{rule['p95LatencyMs'] / 1000:.2f} s" in text
    for context in result["worlds"][0]["contexts"]:
        [line] = [line for line in text.split("\n2. ")[0].splitlines() if context["contextKey"] in line]
        for figure in (context["bestUtility"], context["worstUtility"], context["earned"]):
            assert f"{figure:.4f}" in line
        assert line.endswith(f"{context['lately']} ({context['latelyShare']:.0%})")
    assert text.count("Capsa beats") == sum(world["verdict"] == "better" for world in result["worlds"])
    assert text.count("<- best fixed, in hindsight") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *(
            (["--requests", text], "from 60 to 100000")
            for text in ["59", "100001", "many", "-60", "1e3", "9" * 5000]
        ),
        # Python's generator draws the same for -3 as for 3.
        *(
            (["--seed", text], "from 0 to 9223372036854775807")
            for text in ["-3", "9223372036854775808", "1.5"]
        ),
    ],
)
def test_numbers_out_of_range_are_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the range in the message and exit code 2."""
    with pytest.raises(SystemExit) as ended:
        demo.main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
