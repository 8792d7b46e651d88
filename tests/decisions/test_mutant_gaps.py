"""What a deliberate fault showed that no other test noticed."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from typing import Any

import pytest

import capsa
from capsa.decisions import _feedback


def test_a_post_that_was_overtaken_is_worked_out_again(
    store: capsa.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another post for the same decision is recorded after ours was worked out: ours is the repeat."""
    capsule = store.install("name: router\noptions: [a, b]\nreward: {quality: 0.5, cost: -0.5}\n")
    work_out = _feedback.by_decision
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"reward": 0.5}, {"reward": 0.5}, "repeated"),
        ({"outcome": {"cost": 0}}, {"outcome": {"quality": 1, "cost": 0}}, "applied"),
    ]
    for first, ours, status in cases:
        decision = capsule.decide()
        overtaking: list[dict[str, Any]] = [first]

        def overtaken(
            *args: Any, decision: capsa.Decision = decision, overtaking: list[dict[str, Any]] = overtaking
        ) -> Any:
            answer = work_out(*args)
            if overtaking:
                capsule.feedback(decision.id, **overtaking.pop())
            return answer

        monkeypatch.setattr(_feedback, "by_decision", overtaken)
        assert capsule.feedback(decision.id, **ours).status == status
        assert capsule.feedback(decision.id, **ours).reward == 0.5
    report = capsule.report().feedback
    assert (report.applied, report.pending) == (2, 0)
    (row,) = capsule.contexts()
    assert row.rewards == 2


def test_equal_posts_at_the_same_time_are_repeats(store: capsa.Store) -> None:
    """Many threads say the same of the same decisions: each is learned once, and nobody is told of a conflict."""
    capsule = store.install("name: router\noptions: [a, b]\nreward: {quality: 0.5, cost: -0.5}\n")
    ids = [capsule.decide().id for _ in range(200)]
    said: list[str] = []

    def post() -> None:
        for decision_id in ids:
            try:
                said.append(capsule.feedback(decision_id, outcome={"quality": 1, "cost": 0}).status)
            except capsa.CapsaError as error:
                said.append(error.code)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=post) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert Counter(said) == {"applied": 200, "repeated": 600}
