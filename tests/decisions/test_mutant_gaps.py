"""What a deliberate fault showed that no other test noticed."""

from __future__ import annotations

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
