"""The contract of decide and feedback, field by field, over HTTP: `api_shapes.md` sections 0, 3 and 4."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.server.serving import INPUT, OUTCOME, Served
from tests.server.specs import JOINT, PLAIN, SCALED, WIDE, Capsules, problem, words

STRATEGY = {"strategyId", "strategy", "option", "optionName", "propensity", "node_id", "chosen_option"}
LISTS = {"names", "probabilities", "weights"}
DECIDED = words(
    "decisionId capsule capsuleVersion job tenant mode contextKey contextKeyFrom "
    "propensity reason suggested decisions learnerVersion warnings"
)
ONLY = {"strategyId", "strategy", "option", "optionName"}
TAKEN = ONLY | words("decisionId status reward parts missing contextKey learnerVersion sequence before after")


@pytest.fixture
def capsules(shared: Served) -> Capsules:
    return Capsules(shared)


def sums_to_one(numbers: list[float]) -> bool:
    return abs(sum(numbers) - 1) < 1e-9


# --- decide


def test_every_field_of_a_decision(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    told = capsule.decide({"input": INPUT, "options": ["cheap_fast", "balanced"], "current": "balanced"})
    assert set(told) == DECIDED | ONLY
    assert re.fullmatch(r"dec_[A-Za-z0-9_-]{1,251}", told["decisionId"])
    assert (told["capsule"], told["capsuleVersion"], told["job"], told["tenant"]) == (
        capsule.name,
        1,
        "default",
        "default",
    )
    assert (told["mode"], told["contextKey"], told["contextKeyFrom"]) == (
        "live",
        "legal|enterprise|normal",
        "input",
    )
    assert (told["strategyId"], told["strategy"], told["suggested"], told["warnings"]) == (
        0,
        "choice",
        None,
        [],
    )
    assert told["reason"] in ("learned", "explored")
    assert isinstance(told["learnerVersion"], int)
    (part,) = told["decisions"]
    assert set(part) == STRATEGY | LISTS
    assert {name: part[name] for name in ONLY} == {name: told[name] for name in ONLY}
    assert (part["node_id"], part["chosen_option"]) == (part["strategyId"], part["option"])
    assert part["names"] == ["cheap_fast", "balanced", "expensive_accurate"]
    assert part["names"][told["option"]] == told["optionName"]
    assert sums_to_one(part["probabilities"])
    assert part["probabilities"][2] == 0.0, "what was not allowed has probability 0"
    assert part["propensity"] == told["propensity"] == part["probabilities"][told["option"]]
    # The weights know no mask.
    assert sums_to_one(part["weights"])
    assert part["weights"][2] > 0


@pytest.mark.parametrize(
    "options", [["balanced"], [1], [1, "balanced"], {"choice": ["balanced"]}, {"choice": [1]}]
)
def test_an_option_is_its_number_or_its_name(capsules: Capsules, options: Any) -> None:
    for current in ("balanced", 1, {"choice": 1}, {"choice": "balanced"}):
        told = capsules.router.decide({"input": INPUT, "options": options, "current": current})
        assert (told["option"], told["optionName"], told["reason"]) == (1, "balanced", "onlyOption")
        assert told["propensity"] == 1.0


def test_the_id_shows_nothing_of_the_input(capsules: Capsules) -> None:
    ids = {capsules.router.decide({"input": INPUT})["decisionId"] for _ in range(5)}
    assert len(ids) == 5
    assert all(80 <= len(each) <= 255 for each in ids)
    assert not any("legal" in each or "bGVnYW" in each for each in ids)


def test_a_given_context_key_is_the_key(capsules: Capsules) -> None:
    told = capsules.router.decide({"contextKey": "rush_hour"})
    assert (told["contextKey"], told["contextKeyFrom"], told["warnings"]) == ("rush_hour", "request", [])


def test_a_missing_field_is_told(capsules: Capsules) -> None:
    told = capsules.router.decide({"input": {"task_type": "legal"}})
    assert told["contextKey"] == "legal|unknown|unknown"
    assert told["warnings"] == [
        "customer_tier is missing: counted as unknown",
        "urgency is missing: counted as unknown",
    ]


@pytest.mark.parametrize("body", [{}, {"input": None, "contextKey": None, "options": None, "current": None}])
def test_everything_may_be_left_out_or_null(capsules: Capsules, body: Any) -> None:
    assert capsules.router.decide(body)["contextKey"] == "unknown|unknown|unknown"


def test_several_strategies_are_decided_together(capsules: Capsules) -> None:
    capsule = capsules.install(JOINT)
    told = capsule.decide({"options": {"timeout": ["1s", 1]}, "current": {"timeout": 0, "retries": "0"}})
    assert set(told) == DECIDED, "no option of one strategy stands for all"
    timeout, retries = told["decisions"]
    assert (timeout["strategyId"], timeout["strategy"]) == (0, "timeout")
    assert (retries["strategyId"], retries["strategy"], retries["node_id"]) == (1, "retries", 1)
    for part in (timeout, retries):
        assert set(part) == STRATEGY | LISTS
        assert sums_to_one(part["probabilities"])
        assert part["propensity"] == part["probabilities"][part["option"]]
    assert timeout["probabilities"][2] == 0.0
    # 1s goes with all three retries, 2s with two of them: five combinations, none learned of yet.
    assert told["propensity"] == pytest.approx(1 / 5, abs=0.1)
    assert told["propensity"] <= min(timeout["propensity"], retries["propensity"])


def test_shadow_answers_the_applications_own_choice(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN + b"mode: shadow\nbaseline: b\n")
    told = capsule.decide({"current": "c"})
    assert (told["mode"], told["optionName"], told["reason"]) == ("shadow", "c", "current")
    assert told["propensity"] is None
    assert told["decisions"][0]["probabilities"] is None
    suggested = told["suggested"]
    assert set(suggested) == {"option", "optionName", "propensity", "reason", "decisions"}
    assert ["a", "b", "c"][suggested["option"]] == suggested["optionName"]
    assert suggested["propensity"] == suggested["decisions"][0]["probabilities"][suggested["option"]]
    without = capsule.decide({})
    assert (without["optionName"], without["reason"]) == ("b", "baseline")
    taken = capsule.feedback({"decisionId": told["decisionId"], "reward": 1})
    assert (taken["status"], taken["optionName"]) == ("applied", "c"), "what was carried out is credited"


def test_shadow_of_several_strategies_suggests_by_strategy(capsules: Capsules) -> None:
    capsule = capsules.install(JOINT + b"mode: shadow\n")
    suggested = capsule.decide({})["suggested"]
    assert set(suggested) == {"propensity", "reason", "decisions"}
    assert [part["strategy"] for part in suggested["decisions"]] == ["timeout", "retries"]


def test_mode_off_answers_the_baseline_and_records_nothing(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN + b"mode: 'off'\nbaseline: b\n")
    told = capsule.decide({"current": "c"})
    assert (told["decisionId"], told["mode"], told["optionName"], told["reason"]) == (
        None,
        "off",
        "b",
        "baseline",
    )
    assert capsule.get("/decisions").value == {"decisions": [], "next": None}
    taken = capsule.feedback({"decisionId": None, "outcome": {"quality": 1}})
    assert (taken["decisionId"], taken["status"], taken["reward"]) == (None, "unrecorded", None)
    assert capsule.get("/report").value["decisions"] == 0


def test_frozen_answers_the_best_and_learns_nothing(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    early = capsule.decide({"options": ["b"]})["decisionId"]
    capsule.feedback({"decisionId": early, "reward": 1})
    late = capsule.decide({})["decisionId"]
    assert capsule.patch({"rails": {"freeze": True}}).status == 200
    told = capsule.decide({})
    assert (told["reason"], told["optionName"], told["propensity"]) == ("frozen", "b", 1.0)
    before = capsule.state_hash()
    taken = capsule.feedback({"decisionId": late, "reward": -1})
    assert (taken["status"], taken["before"]) == ("frozen", taken["after"])
    assert capsule.state_hash() == before
    assert capsule.get("/report").value["frozen"] is True


def test_lists_are_left_out_above_64_options_unless_asked_for(capsules: Capsules) -> None:
    capsule = capsules.install(WIDE)
    (part,) = capsule.decide({})["decisions"]
    assert set(part) == STRATEGY
    (part,) = capsule.decide({}, query="?probabilities=true")["decisions"]
    assert {name: len(part[name]) for name in LISTS} == dict.fromkeys(LISTS, 65)
    assert sums_to_one(part["probabilities"])
    results = capsule.post("/decide/batch?probabilities=true", {"requests": [{}]}).value["results"]
    assert len(results[0]["decisions"][0]["probabilities"]) == 65


@pytest.mark.parametrize(
    ("body", "kind", "pointer", "remedy"),
    [
        ({"imput": {}}, "unknown-field", "/imput", "did you mean input?"),
        ({"context_key": "a"}, "unknown-field", "/context_key", "did you mean contextKey?"),
        ({"session": "chat-8f31"}, "unknown-field", "/session", "leave it out"),
        ({"options": []}, "invalid-field", "/options", None),
        ({"options": ["ballanced"]}, "unknown-option", "/options/0", "balanced"),
        ({"options": [3]}, "unknown-option", "/options/0", None),
        ({"options": {"choise": [1]}}, "unknown-strategy", "/options", None),
        ({"current": "ballanced"}, "unknown-option", "/current", "balanced"),
        ({"contextKey": ""}, "invalid-field", "/contextKey", None),
        ({"contextKey": "x" * 257}, "invalid-field", "/contextKey", None),
        ({"contextKey": "ä" * 129}, "invalid-field", "/contextKey", None),
        ({"subject": "x" * 129}, "invalid-field", "/subject", None),
        ({"input": {"urgency": [1, "a"]}}, "invalid-field", "/input/urgency", None),
        ([], "invalid-field", None, None),
    ],
)
def test_what_decide_refuses(
    capsules: Capsules, body: Any, kind: str, pointer: str | None, remedy: str | None
) -> None:
    refused = problem(capsules.router.post("/decide", body), 400, kind)
    (error,) = refused["errors"]
    assert error.get("pointer", "").startswith(pointer or "")
    assert remedy is None or remedy in error["remedy"]


def test_options_that_leave_nothing(capsules: Capsules) -> None:
    capsule = capsules.install(JOINT)
    # 5s goes with no retry but "0" and "1".
    body = {"options": {"timeout": ["5s"], "retries": ["3"]}}
    problem(capsule.post("/decide", body), 400, "no-allowed-option")


def test_a_retried_decide_gets_the_first_answer(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    key = {"Idempotency-Key": "again-1"}
    first = capsule.post("/decide", {"input": INPUT}, headers=key)
    again = capsule.post("/decide", {"input": INPUT}, headers=key)
    assert first.status == again.status == 200
    assert first.value == again.value
    problem(capsule.post("/decide", {"input": {}}, headers=key), 409, "idempotency-conflict")
    problem(capsule.post("/decide", {}, headers={"Idempotency-Key": "x" * 256}), 400, "invalid-field")
    assert len(capsule.get("/decisions").value["decisions"]) == 1


def test_a_batch_has_faults_in_their_place(capsules: Capsules) -> None:
    requests = [{"input": INPUT}, {"options": ["nope"]}, 7, {"contextKey": "k"}, {"imput": 1}]
    answered = capsules.router.post("/decide/batch", {"requests": requests})
    assert answered.status == 200
    good, unknown, no_object, keyed, misspelt = answered.value["results"]
    assert set(good) == set(keyed) == DECIDED | ONLY
    assert keyed["contextKey"] == "k"
    assert [each["type"] for each in (unknown, no_object, misspelt)] == [
        f"/problems/{kind}" for kind in ("unknown-option", "invalid-field", "unknown-field")
    ]
    assert all(each["status"] == 400 for each in (unknown, no_object, misspelt))
    problem(capsules.router.post("/decide/batch", {"requests": [{}] * 1001}), 400, "invalid-field")


# --- feedback


def test_every_field_of_a_feedback(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    decided = capsule.decide({"input": INPUT})
    told = capsule.feedback({"decisionId": decided["decisionId"], "outcome": OUTCOME})
    assert set(told) == TAKEN
    assert (told["decisionId"], told["status"], told["missing"]) == (decided["decisionId"], "applied", [])
    assert told["parts"] == pytest.approx({"quality": 0.54, "latency_ms": -0.064, "cost_usd": -0.011})
    assert told["reward"] == pytest.approx(0.465)
    assert told["contextKey"] == "legal|enterprise|normal"
    assert {name: told[name] for name in ONLY} == {name: decided[name] for name in ONLY}
    assert told["before"] == decided["decisions"][0]["weights"]
    assert sums_to_one(told["after"])
    assert told["before"] != told["after"] == capsule.decide({"input": INPUT})["decisions"][0]["weights"]
    assert told["learnerVersion"] == decided["learnerVersion"] + 1
    assert told["sequence"] == capsule.get("/feedback").value["feedback"][0]["sequence"]


def test_metrics_come_in_several_posts(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    about = {"decisionId": capsule.decide({})["decisionId"]}
    first = capsule.feedback(about | {"outcome": {"latency_ms": 640}})
    assert (first["status"], first["reward"], first["missing"]) == ("pending", None, ["cost_usd", "quality"])
    assert first["before"] == first["after"]
    again = capsule.feedback(about | {"outcome": {"latency_ms": 640}})
    assert (again["status"], again["missing"]) == ("repeated", ["cost_usd", "quality"])
    conflict = problem(
        capsule.post("/feedback", about | {"outcome": {"latency_ms": 641, "quality": 1}}),
        409,
        "feedback-conflict",
    )
    assert "640" in conflict["detail"]
    assert conflict["errors"][0]["pointer"] == "/outcome/latency_ms"
    problem(capsule.post("/feedback", about | {"reward": 1}), 409, "feedback-conflict")
    last = capsule.feedback(about | {"outcome": {"quality": True, "cost_usd": 0}})
    assert (last["status"], last["missing"]) == ("applied", [])
    assert last["reward"] == pytest.approx(0.6 - 0.2 * 640 / 2000), "nothing of the refused post counted"


def test_a_repeated_reward_is_answered_with_the_first_result(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    body = {"decisionId": capsule.decide({})["decisionId"], "reward": 0.5}
    first = capsule.feedback(body)
    assert (first["status"], first["reward"], first["parts"]) == ("applied", 0.5, {})
    state = capsule.state_hash()
    assert capsule.feedback(body) == first | {"status": "repeated"}
    conflict = problem(capsule.post("/feedback", body | {"reward": 0.6}), 409, "feedback-conflict")
    assert "0.5" in conflict["detail"], "it shows the first content's reward"
    problem(capsule.post("/feedback", body | {"taken": "a"} | {"reward": -0.5}), 409, "feedback-conflict")
    assert capsule.state_hash() == state


@pytest.mark.parametrize("taken", ["c", 2, {"choice": "c"}])
def test_what_was_carried_out_is_credited(capsules: Capsules, taken: Any) -> None:
    capsule = capsules.install(PLAIN)
    decided = capsule.decide({"options": ["a"]})
    told = capsule.feedback({"decisionId": decided["decisionId"], "reward": 1, "taken": taken})
    assert (told["status"], told["option"], told["optionName"]) == ("applied", 2, "c")
    story = capsule.get(f"/decisions/{decided['decisionId']}").value
    assert story["posts"][0]["taken"] == {"choice": "c"}


def test_nothing_of_ours_was_carried_out(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    about = {"decisionId": capsule.decide({})["decisionId"], "reward": 1}
    told = capsule.feedback(about | {"taken": None})
    assert told["status"] == "kept"
    assert not {"strategyId", "option", "before"} & set(told)
    assert told["decisions"] == []
    problem(capsule.post("/feedback", about | {"taken": "a"}), 409, "feedback-conflict")


def test_taken_names_every_strategy(capsules: Capsules) -> None:
    capsule = capsules.install(JOINT)
    decided = capsule.decide({})
    told = capsule.feedback(
        {"decisionId": decided["decisionId"], "reward": 1, "taken": {"timeout": 2, "retries": "1"}}
    )
    assert set(told) == TAKEN - {*ONLY, "before", "after"} | {"decisions"}
    assert [(part["strategyId"], part["strategy"], part["optionName"]) for part in told["decisions"]] == [
        (0, "timeout", "5s"),
        (1, "retries", "1"),
    ]
    for part in told["decisions"]:
        assert set(part) == {*ONLY, "before", "after"}
        assert part["before"] != part["after"], "one reward credits every strategy"
    other = capsule.decide({})["decisionId"]
    problem(
        capsule.post("/feedback", {"decisionId": other, "reward": 1, "taken": {"timeout": 2}}),
        400,
        "invalid-field",
    )


@pytest.mark.parametrize(
    "named", [{"strategyId": 0}, {"strategyId": "choice"}, {"strategy": "choice"}, {"nodeId": 0}, {}]
)
@pytest.mark.parametrize("option", [1, "b"])
def test_an_outcome_that_was_not_asked_for_here(
    capsules: Capsules, named: dict[str, Any], option: Any
) -> None:
    capsule = capsules.install(PLAIN)
    told = capsule.feedback(named | {"option": option, "reward": 1.0, "contextKey": "rush_hour"})
    assert set(told) == TAKEN
    assert (told["decisionId"], told["status"], told["contextKey"]) == (None, "applied", "rush_hour")
    assert (told["strategyId"], told["strategy"], told["option"], told["optionName"]) == (0, "choice", 1, "b")
    assert capsule.get("/report").value["feedback"]["withoutDecision"] == 1


def test_a_strategy_of_several_goes_by_number_or_name(capsules: Capsules) -> None:
    capsule = capsules.install(JOINT)
    for named in ({"strategyId": 1}, {"strategy": "retries"}, {"nodeId": 1}):
        told = capsule.feedback(named | {"option": "3", "reward": 0.5, "contextKey": "default"})
        assert (told["strategyId"], told["strategy"], told["option"]) == (1, "retries", 2)
    explicit = {"option": "3", "reward": 0.5, "contextKey": "default"}
    problem(capsule.post("/feedback", explicit | {"strategyId": 2}), 400, "unknown-strategy")
    problem(
        capsule.post("/feedback", explicit | {"strategyId": 1, "strategy": "retries"}), 400, "invalid-field"
    )


@pytest.mark.parametrize(
    ("more", "kind", "pointer"),
    [
        ({}, "reward-missing", "/outcome"),
        ({"outcome": {}}, "reward-missing", "/outcome"),
        ({"outcome": {"quality": 1}, "reward": 1}, "invalid-field", "/reward"),
        ({"outcome": {"qualty": 1}}, "unknown-metric", "/outcome/qualty"),
        ({"outcome": {"quality": 1.5}}, "metric-out-of-range", "/outcome/quality"),
        ({"outcome": {"latency_ms": -1}}, "metric-out-of-range", "/outcome/latency_ms"),
        ({"outcome": {"quality": "good"}}, "invalid-field", "/outcome"),
        ({"reward": 1.01}, "reward-out-of-range", "/reward"),
        ({"reward": "much"}, "invalid-field", "/reward"),
        ({"reward": 1, "taken": "ballanced"}, "unknown-option", "/taken"),
        ({"reward": 1, "option": 1}, "invalid-field", "/option"),
        ({"reward": 1, "rewards": 1}, "unknown-field", "/rewards"),
    ],
)
def test_what_feedback_refuses(capsules: Capsules, more: dict[str, Any], kind: str, pointer: str) -> None:
    capsule = capsules.router
    about = {"decisionId": capsule.decide({"input": INPUT})["decisionId"]}
    state = capsule.state_hash()
    refused = problem(capsule.post("/feedback", about | more), 400, kind)
    assert refused["errors"][0]["pointer"] == pointer
    assert refused["errors"][0]["remedy"]
    assert capsule.state_hash() == state


def test_a_metric_at_its_budget_counts_as_one(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    about = {"decisionId": capsule.decide({})["decisionId"]}
    told = capsule.feedback(about | {"outcome": {"quality": 1, "latency_ms": 9999, "cost_usd": 0}})
    assert told["parts"]["latency_ms"] == pytest.approx(-0.2)


def test_ids_that_are_not_of_this_capsule_are_unknown_alike(capsules: Capsules) -> None:
    capsule, other = capsules.install(PLAIN), capsules.install(PLAIN)
    own = capsule.decide({})["decisionId"]
    changed = own[:-1] + ("A" if own[-1] != "A" else "B")
    answers = []
    for decision_id in (other.decide({})["decisionId"], changed, "dec_", "nonsense"):
        refused = problem(
            capsule.post("/feedback", {"decisionId": decision_id, "reward": 1}), 404, "unknown-decision"
        )
        answers.append((refused["detail"], refused["title"]))
        problem(capsule.get(f"/decisions/{decision_id}"), 404, "unknown-decision")
    assert len(set(answers)) == 1


def test_feedback_after_the_horizon_is_late(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN + b"horizon: {after: 1s}\n")
    decision_id = capsule.decide({})["decisionId"]
    state = capsule.state_hash()
    deadline = datetime.fromisoformat(capsule.get("/decisions").value["decisions"][0]["deadline"])
    while datetime.now(UTC) <= deadline:
        time.sleep(0.02)
    told = capsule.feedback({"decisionId": decision_id, "reward": 1})
    assert (told["status"], told["before"]) == ("late", told["after"])
    assert capsule.get("/report").value["feedback"]["late"] == 1
    assert capsule.state_hash() == state, "it is kept, not learned"


def test_a_retried_feedback_without_id_counts_once(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    body = {"option": "b", "reward": 1.0, "contextKey": "k"}
    key = {"Idempotency-Key": "once-1"}
    first = capsule.post("/feedback", body, headers=key).value
    again = capsule.post("/feedback", body, headers=key).value
    assert first["status"] == "applied"
    assert again == first | {"status": "repeated"}
    problem(capsule.post("/feedback", body | {"reward": 0.5}, headers=key), 409, "idempotency-conflict")
    assert capsule.get("/report").value["feedback"]["withoutDecision"] == 1


def test_a_batch_of_feedback_takes_each_whole_or_not_at_all(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    first, second = (capsule.decide({})["decisionId"] for _ in range(2))
    events = [
        {"decisionId": first, "outcome": OUTCOME},
        {"decisionId": second, "outcome": {"quality": 1, "latency_ms": -1}},
        None,
        {"decisionId": first, "outcome": OUTCOME},
        {"decisionId": second, "reward": 1},
    ]
    told = capsule.post("/feedback/batch", {"events": events}).value
    assert (told["okCount"], told["errCount"]) == (3, 2)
    assert [each.get("status") for each in told["results"]] == ["applied", 400, 400, "repeated", "applied"]
    assert told["results"][1]["type"] == "/problems/metric-out-of-range"
    problem(capsule.post("/feedback/batch", {"events": [{}] * 10_001}), 400, "invalid-field")
