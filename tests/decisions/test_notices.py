"""Notices of a report: where "weights look wrong" starts."""

from __future__ import annotations

import pytest

import capsa

SPEC = """
name: router
options: [cheap, balanced, dear]
reward: {quality: 1}
horizon: {after: 1h}
"""


@pytest.mark.parametrize(("silent", "noticed"), [(0, False), (2, False), (30, True)])
def test_feedback_that_misses_after_one_option(silent: int, noticed: bool) -> None:
    """Where one option's decisions stay silent more often than another's, its mean is not comparable."""
    now = [1_800_000_000.0]
    with capsa.open(clock=lambda: now[0], upkeep=False) as store:
        router = store.install(SPEC.encode())
        for option in ("cheap", "dear"):
            for number in range(60):
                decision = router.decide(options=[option])
                if option == "cheap" or number >= silent:
                    router.feedback(decision.id, outcome={"quality": 0.5})
        assert "feedback-missing-unevenly" not in {notice.kind for notice in router.report().notices}
        now[0] += 2 * 3600
        notices = {notice.kind: notice.text for notice in router.report().notices}
    assert ("feedback-missing-unevenly" in notices) == noticed
    assert not noticed or notices["feedback-missing-unevenly"].startswith("dear: 50% of decisions never got")
