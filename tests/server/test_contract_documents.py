"""The contract of what is installed, set and read, over HTTP: `api_shapes.md` sections 2, 5 and 6."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.server.serving import INPUT, OUTCOME, Served
from tests.server.specs import JOINT, PLAIN, SCALED, Capsules, Installed, problem, words

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture
def capsules(shared: Served) -> Capsules:
    return Capsules(shared)


# --- learning


def test_every_field_of_the_learning_document(capsules: Capsules) -> None:
    capsule = capsules.install(
        SCALED + b"decay: {half_life: 14d}\nhorizon: {after: 7d, outcome: {quality: 0}}\n"
    )
    answered = capsule.get("/learning")
    told = answered.value
    assert told == {
        "algorithm": "thompson",
        "mode": "live",
        "baseline": "cheap_fast",
        "rails": {"minExploration": 0.02, "maxDelta": None, "freeze": False},
        "decay": {"halfLifeSeconds": 1209600},
        "shrinkage": None,
        "horizon": {"afterSeconds": 604800, "outcome": {"quality": 0}},
        "maxContexts": 10000,
        "canary": {"share": None},
        "override": None,
        "overridden": {},
        "version": told["version"],
    }
    assert answered.headers["ETag"] == f'"{told["version"]}"'


def test_a_change_merges_and_says_who_and_when(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    before = capsule.get("/learning").value
    changed = capsule.patch({"rails": {"minExploration": 0.1}, "mode": "shadow"}).value
    assert changed["rails"] == before["rails"] | {"minExploration": 0.1}
    assert (changed["mode"], changed["version"]) == ("shadow", before["version"] + 1)
    assert set(changed["overridden"]) == {"mode", "rails.minExploration"}
    for each in changed["overridden"].values():
        assert each["by"] == "key admin"
        assert TIME.fullmatch(each["at"])
    back = capsule.patch({"mode": None, "rails": {"minExploration": None}}).value
    assert {**back, "version": 0} == {**before, "version": 0}
    assert capsule.get("/audit").value["audit"][-1]["type"] == "learningChanged"


def test_a_document_put_back_as_it_was_read_changes_nothing(capsules: Capsules) -> None:
    for spec in (
        PLAIN,
        JOINT,
        SCALED + b"algorithm: {name: epsilon_greedy, epsilon: 0.2}\nshrinkage: {strength: 8}\n",
    ):
        capsule = capsules.install(spec)
        for change in ({}, {"rails": {"freeze": True}, "decay": {"halfLifeFeedbacks": 100}}):
            capsule.patch(change)
            read = capsule.get("/learning")
            again = capsule.put(read.value, headers={"If-Match": read.headers["ETag"]})
            assert (again.status, again.value) == (200, read.value)


def test_a_document_put_back_with_one_change_changes_that(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    read = capsule.get("/learning").value
    read["rails"]["freeze"] = True
    told = capsule.put(read).value
    assert (told["rails"]["freeze"], list(told["overridden"])) == (True, ["rails.freeze"])


def test_a_stale_document_is_refused(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    old = capsule.get("/learning")
    assert capsule.patch({"mode": "shadow"}, headers={"If-Match": old.headers["ETag"]}).status == 200
    now = capsule.get("/learning").value
    for headers in ({"If-Match": old.headers["ETag"]}, {"If-Match": '"nonsense"'}):
        refused = problem(capsule.patch({"mode": "live"}, headers=headers), 412, "stale-document")
        assert str(now["version"]) in refused["detail"], "it shows the present version"
    assert capsule.get("/learning").value == now
    assert capsule.patch({"mode": "live"}, headers={"If-Match": "*"}).status == 200


def test_a_whole_document_that_is_stale(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    old = capsule.get("/learning").value
    capsule.patch({"mode": "shadow"})
    problem(capsule.put(old), 412, "stale-document")


@pytest.mark.parametrize("spelled", ["epsilonGreedy", "epsilon_greedy"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_either_spelling_of_a_value_is_understood(capsules: Capsules, spelled: str, wrapped: bool) -> None:
    capsule = capsules.install(PLAIN)
    told = capsule.patch({"algorithm": {"name": spelled, "epsilon": 0.3} if wrapped else spelled}).value
    assert told["algorithm"] == {"name": "epsilonGreedy", "epsilon": 0.3 if wrapped else 0.1}
    assert capsule.patch({"algorithm": "simple_weighted"}).value["algorithm"] == "simpleWeighted"


def test_old_spellings_are_understood(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN + b"algorithm: simple_weighted\n")
    old = {"freezeLearning": True, "minExploration": 0.05, "maxWeightDeltaPerFeedback": 0.1}
    told = capsule.patch({"safety": old, "decay": {"halfLifeFeedbacks": 500}}).value
    assert told["rails"] == {"freeze": True, "minExploration": 0.05, "maxDelta": 0.1}
    assert told["decay"] == {"halfLifeFeedbacks": 500}
    problem(capsule.patch({"safety": {"freeze": True}}), 400, "unknown-field")
    problem(
        capsule.patch({"safety": {"freezeLearning": True}, "rails": {"freeze": True}}), 400, "invalid-field"
    )


@pytest.mark.parametrize("baseline", ["c", 2])
def test_a_baseline_is_a_name_or_a_number(capsules: Capsules, baseline: Any) -> None:
    assert capsules.install(PLAIN).patch({"baseline": baseline}).value["baseline"] == "c"
    joint = capsules.install(JOINT).patch({"baseline": {"timeout": "2s", "retries": 1}})
    assert joint.value["baseline"] == {"timeout": "2s", "retries": "1"}


@pytest.mark.parametrize(
    ("change", "kind", "pointer"),
    [
        ({"algorithm": "gradient"}, "invalid-field", "/algorithm"),
        ({"mode": "canary"}, "invalid-field", "/mode"),
        ({"canary": {"share": 0.1}}, "invalid-field", "/canary"),
        ({"override": {"pin": "a"}}, "invalid-field", "/override"),
        ({"rails": {"minExploration": 1.5}}, "invalid-field", "/rails/minExploration"),
        ({"rails": {"maxDelta": 0.1}}, "invalid-field", "/rails/maxDelta"),
        ({"rails": {"min_explore": 0.1}}, "unknown-field", "/rails/min_explore"),
        ({"rail": {}}, "unknown-field", "/rail"),
        ({"baseline": "d"}, "unknown-option", "/baseline"),
        ({"maxContexts": 0}, "invalid-field", "/maxContexts"),
        ({"horizon": {"afterSeconds": 0}}, "invalid-field", "/horizon/afterSeconds"),
        ({"version": "7"}, "invalid-field", "/version"),
        ({"overridden": {"mode": {}}}, "invalid-field", "/overridden"),
        ([], "invalid-field", None),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_what_the_learning_document_refuses(
    capsules: Capsules, method: str, change: Any, kind: str, pointer: str | None
) -> None:
    capsule = capsules.install(PLAIN)
    before = capsule.get("/learning").value
    good = {"mode": "shadow"} if isinstance(change, dict) and "mode" not in change else {}
    body = change if isinstance(change, list) else good | change
    refused = problem(capsule.served.call(method, f"{capsule.path}/learning", body), 400, kind)
    assert refused["errors"][0].get("pointer") in (pointer, "" if pointer is None else pointer)
    assert capsule.get("/learning").value == before, "at once, or not at all"


def test_what_is_shown_of_later_settings_may_be_sent_back(capsules: Capsules) -> None:
    assert capsules.install(PLAIN).put({"canary": {"share": None}, "override": None}).status == 200


@pytest.mark.parametrize(
    "name", ["self", "cls", "if_version", "changes", "idempotency_key", "args", "kwargs"]
)
def test_names_of_pythons_own_are_unknown_fields(capsules: Capsules, name: str) -> None:
    """A body's keys become arguments somewhere: none of them may meet one that is there."""
    capsule = capsules.install(PLAIN)
    before = capsule.get("/learning").value
    for answered in (
        capsule.patch({name: 1}),
        capsule.put({name: 1}),
        capsule.post("/decide", {name: 1}),
        capsule.post("/feedback", {name: 1}),
        capsule.post("/decide/batch", {"requests": [], name: 1}),
        capsule.post("/feedback/batch", {"events": [], name: 1}),
        capsule.served.post("/tenants/default/jobs", {"id": "another", name: 1}),
    ):
        assert problem(answered, 400, "unknown-field")["errors"][0]["value"] == name
    [item] = capsule.post("/decide/batch", {"requests": [{name: 1}]}).value["results"]
    assert item["type"] == "/problems/unknown-field"
    assert capsule.get("/learning").value == before


# --- install


def test_an_install_its_dry_run_and_the_same_again(capsules: Capsules) -> None:
    capsule = Installed(capsules.router.served, "fresh")
    spec = PLAIN.replace(b"router", b"fresh")
    dry = capsule.post("/install?dryRun=true", spec).value
    assert set(dry) == words("tenant job capsule capsuleVersion digest unchanged changes dryRun")
    assert (dry["capsule"], dry["capsuleVersion"], dry["unchanged"], dry["dryRun"]) == (
        "fresh",
        1,
        False,
        True,
    )
    problem(capsule.get(), 404, "unknown-capsule")
    assert capsule.post("/install", spec).value == dry | {"dryRun": False}
    again = capsule.post("/install", spec).value
    assert (again["unchanged"], again["capsuleVersion"]) == (True, 1)
    wider = capsule.post("/install", spec.replace(b"[a, b, c]", b"[a, b, c, d]")).value
    assert (wider["unchanged"], wider["capsuleVersion"]) == (False, 2)
    assert any("d" in change for change in wider["changes"])
    described = capsule.get().value
    assert set(described) == words("tenant job capsule capsuleVersion digest definition kind")
    assert described["kind"] == "decision"
    assert (described["capsuleVersion"], described["digest"]) == (2, wider["digest"])
    assert described["definition"]["strategies"][0]["options"] == ["a", "b", "c", "d"]


def test_an_install_says_line_and_column_of_everything_that_is_wrong(capsules: Capsules) -> None:
    capsule = capsules.router
    spec = b"name: router\noptions: [only]\ncontxts: []\n"
    refused = problem(capsule.post("/install", spec), 400, "invalid-spec")
    assert [(each["line"], each["column"], each["key"]) for each in refused["errors"]] == [
        (2, 10, "options"),
        (3, 1, "contxts"),
    ]
    assert 'did you mean "contexts"?' in refused["errors"][1]["message"]
    for later in (b"session_ttl: 24h", b"mode: canary", b"log_input: full"):
        told = problem(capsule.post("/install", PLAIN + later + b"\n"), 400, "invalid-spec")
        assert later.split(b":")[0].decode() in told["errors"][0]["key"], "a later key is refused by name"


def test_other_installs_that_are_refused(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    named = problem(capsule.post("/install", SCALED), 400, "invalid-field")
    assert named["errors"][0]["pointer"] == "/name"
    problem(capsule.post("/install", b"\0asm\x0d\0\1\0"), 400, "invalid-capsule")
    problem(capsule.post("/install?dry=true", SCALED), 400, "unknown-field")
    problem(capsule.post("/install?dryRun=1", SCALED), 400, "invalid-field")
    decision_id = capsule.decide({"input": INPUT})["decisionId"]
    capsule.feedback({"decisionId": decision_id, "outcome": OUTCOME})
    own = SCALED.replace(b"name: router", f"name: {capsule.name}".encode())
    problem(capsule.post("/install", own.replace(b", urgency]", b"]")), 409, "install-conflict")


# --- what is read


def test_every_field_of_a_report(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    for _ in range(3):
        capsule.feedback({"decisionId": capsule.decide({"input": INPUT})["decisionId"], "outcome": OUTCOME})
    capsule.decide({"input": {}})
    told = capsule.get("/report").value
    assert set(told) == words(
        "tenant job capsule capsuleVersion asOf sequence stateHash mode algorithm frozen override decisions "
        "feedback reward shadowAgreement strategies contexts notices"
    )
    assert (told["tenant"], told["job"], told["capsule"], told["capsuleVersion"]) == (
        "default",
        "default",
        capsule.name,
        1,
    )
    assert TIME.fullmatch(told["asOf"])
    assert re.fullmatch(r"b2:[0-9a-f]{64}", told["stateHash"])
    assert (told["mode"], told["algorithm"], told["frozen"], told["override"]) == (
        "live",
        "thompson",
        False,
        None,
    )
    assert told["decisions"] == 4
    feedback = told["feedback"]
    counts = dict.fromkeys(words("expired late frozen kept defaulted repeated withoutDecision void"), 0)
    assert feedback == counts | {
        "applied": 3,
        "pending": 1,
        "medianDelaySeconds": feedback["medianDelaySeconds"],
    }
    assert told["reward"] == {
        "mean": pytest.approx(0.465),
        "low": None,
        "high": None,
        "level": 0.95,
        "range": [-1, 1],
    }
    (strategy,) = told["strategies"]
    assert set(strategy) == {
        "strategyId",
        "strategy",
        "leader",
        "leaderIsBest",
        "options",
        "node_id",
        "n_options",
    }
    assert (strategy["node_id"], strategy["n_options"], strategy["leaderIsBest"]) == (0, 3, None)
    fields = words("option optionName weight decisions rewards mean low high withoutFeedback")
    assert all(set(option) == fields for option in strategy["options"])
    assert sum(option["weight"] for option in strategy["options"]) == pytest.approx(1)
    assert sum(option["rewards"] for option in strategy["options"]) == 3
    contexts = told["contexts"]
    assert set(contexts) == {"count", "limit", "evicted", "unknown", "other"}
    assert contexts["unknown"] == {"task_type": 1, "customer_tier": 1, "urgency": 1}
    assert all(set(notice) == {"kind", "text"} for notice in told["notices"])


def test_contexts_page_by_their_key(capsules: Capsules) -> None:
    capsule = capsules.install(JOINT)
    keys = [f"key {number:02}" for number in range(5)]
    for key in keys:
        capsule.feedback({"strategy": "timeout", "option": "2s", "reward": 1, "contextKey": key})
    seen: list[str] = []
    after = ""
    while True:
        page = capsule.get(f"/contexts?limit=2{after}").value
        assert set(page) == {"contexts", "next"}
        for row in page["contexts"]:
            assert set(row) == words(
                "contextKey strategyId strategy weights names decisions rewards updatedAt nodeId totalTries"
            )
            assert row["strategyId"] == row["nodeId"]
            assert len(row["weights"]) == len(row["names"]) == 3
            assert TIME.fullmatch(row["updatedAt"])
        seen += [row["contextKey"] for row in page["contexts"] if row["strategyId"] == 0]
        if page["next"] is None:
            break
        after = "&after=" + page["next"].replace(" ", "%20")
    assert seen == keys


@pytest.mark.parametrize("log", ["decisions", "feedback", "audit"])
def test_logs_page_by_cursor(capsules: Capsules, log: str) -> None:
    capsule = capsules.install(PLAIN)
    for number in range(5):
        decided = capsule.decide({})
        capsule.feedback({"decisionId": decided["decisionId"], "reward": number / 10})
        capsule.patch({"rails": {"minExploration": number / 10}})
    whole = capsule.get(f"/{log}").value
    assert (len(whole[log]), whole["next"]) == (6 if log == "audit" else 5, None)
    paged: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = capsule.get(f"/{log}?limit=2&after={after}").value
        assert len(page[log]) <= 2
        paged += page[log]
        after = page["next"]
    assert paged == whole[log]
    for query in ("limit=0", "limit=1001", "limit=x", "after=-1", "limit=1&limit=2"):
        problem(capsule.get(f"/{log}?{query}"), 400, "invalid-field")
    problem(capsule.get(f"/{log}?limits=2"), 400, "unknown-field")


def test_one_decisions_story(capsules: Capsules) -> None:
    capsule = capsules.install(SCALED)
    decided = capsule.decide({"input": INPUT, "options": [1, 2], "current": 2})
    about = {"decisionId": decided["decisionId"]}
    capsule.feedback(about | {"outcome": {"quality": 0.5}})
    told = capsule.get(f"/decisions/{decided['decisionId']}").value
    assert set(told) == words("decision posts status reward metrics missing learnedAt notes")
    decision = told["decision"]
    assert decision == next(iter(capsule.get("/decisions").value["decisions"]))
    assert (decision["allowed"], decision["current"]) == (
        {"choice": [1, 2]},
        {"choice": "expensive_accurate"},
    )
    assert decision["probabilities"] == {"choice": decided["decisions"][0]["probabilities"]}
    assert (told["status"], told["missing"]) == ("pending", ["cost_usd", "latency_ms"])
    assert told["posts"] == capsule.get("/feedback").value["feedback"]


# --- jobs


def test_jobs_and_tenants(shared: Served) -> None:
    made = shared.post("/tenants/acme/jobs", {"id": "routing", "description": "d", "metadata": {"a": [1]}})
    assert made.status == 201
    told = made.value
    assert set(told) == {"tenant", "name", "createdAt", "description", "metadata", "capsules"}
    assert (told["tenant"], told["name"], told["metadata"], told["capsules"]) == (
        "acme",
        "routing",
        {"a": [1]},
        [],
    )
    assert shared.get("/tenants/acme/jobs").value == {"tenant": "acme", "jobs": [told]}
    assert shared.get("/tenants/acme/jobs/routing").value == told
    assert {"name": "acme", "createdAt": told["createdAt"], "jobs": 1} in shared.get("/tenants").value[
        "tenants"
    ]
    problem(shared.post("/tenants/acme/jobs", {"id": "routing"}), 409, "already-exists")
    problem(shared.post("/tenants/acme/jobs", {"id": "Routing"}), 400, "invalid-field")
    problem(shared.post("/tenants/acme/jobs", {"id": "x", "descripton": ""}), 400, "unknown-field")
    path = "/tenants/acme/jobs/routing/capsules"
    shared.install(path=f"{path}/router")
    assert shared.get(path).value == {"tenant": "acme", "job": "routing", "capsules": ["router"]}
    deleted = shared.call("DELETE", f"{path}/router").value
    assert set(deleted) == {"tenant", "job", "capsule", "capsules", "decisions", "events"}
    problem(shared.get(f"{path}/router"), 404, "unknown-capsule")
    assert shared.call("DELETE", "/tenants/acme/jobs/routing").value["capsule"] is None
    problem(shared.get("/tenants/acme/jobs/routing"), 404, "unknown-job")
    purged = shared.call("DELETE", "/tenants/acme").value
    assert set(purged) == {"tenant", "events", "capsules"}
    problem(shared.get("/tenants/acme/jobs"), 404, "unknown-tenant")


def test_purging_logs_keeps_what_was_learned(capsules: Capsules) -> None:
    capsule = capsules.install(PLAIN)
    capsule.feedback({"decisionId": capsule.decide({})["decisionId"], "reward": 1})
    state = capsule.state_hash()
    told = capsule.served.call("DELETE", f"{capsule.path}/logs").value
    assert (set(told), told["decisions"]) == ({"tenant", "decisions", "events"}, 1)
    assert capsule.state_hash() == state
