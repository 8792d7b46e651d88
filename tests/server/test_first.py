"""The first minutes with the server."""

from tests.server.serving import INPUT, OUTCOME, ROUTER, Served


def test_decide_feedback_report(shared: Served) -> None:
    decided = shared.post(f"{ROUTER}/decide", {"input": INPUT})
    assert decided.status == 200
    decision = decided.value
    taken = shared.post(f"{ROUTER}/feedback", {"decisionId": decision["decisionId"], "outcome": OUTCOME})
    assert (taken.status, taken.value["status"]) == (200, "applied")
    assert shared.get(f"{ROUTER}/report").value["feedback"]["applied"] == 1


def test_stops_in_order_and_forgets_nothing(served: Served) -> None:
    decided = served.post(f"{ROUTER}/decide", {"input": INPUT}).value
    state = served.state_hash()
    assert served.stop() == 0
    served.start()
    assert served.state_hash() == state
    taken = served.post(f"{ROUTER}/feedback", {"decisionId": decided["decisionId"], "outcome": OUTCOME})
    assert taken.value["status"] == "applied"
