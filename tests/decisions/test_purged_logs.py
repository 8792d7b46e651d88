"""Purging the logs of a capsule: the content goes, what was learned and the audit stay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decisions.past import given_id
from tests.decisions.reopened import KINDS, UNKNOWN, Reopened, reopened, said_of
from tests.decisions.test_deletion import check_whole, payloads
from tests.decisions.test_erasure import DEFAULTS, PLAIN, told
from tests.simulation.worlds import WRITES

import capsa
from capsa.decisions import _feedback, _snapshots


@pytest.mark.parametrize("spec", [PLAIN, DEFAULTS], ids=["plain", "defaults"])
def test_purged_logs_are_gone_and_what_was_learned_stays(life: Reopened, spec: str) -> None:
    router = life.store.install(spec)
    ids = told(router, "ann", "OF-LOGS")
    router.update_learning(rails={"min_exploration": 0.1})
    before = router.state_hash, router.contexts(), router.learning, router.version
    erased = router.purge_logs()
    assert (erased.tenant, erased.decisions, erased.events) == ("default", 4, 7)
    life.mark()
    for number in range(4):
        router = life.router
        assert (router.state_hash, router.contexts(), router.learning, router.version) == before
        assert (router.decisions(), router.feedback_log()) == ([], [])
        assert all(said_of(router, decision) == {UNKNOWN} for decision in ids)
        assert not any(b"OF-LOGS" in payload for payload in payloads(life.store))
        types = [row.type for row in life.store.audit() if row.capsule]
        assert types == ["installed", "learning_changed", "erased", "erased"]
        check_whole(life.store)
        life.crash() if number == 1 else life.restart()
    life.clock.forward(3601)
    life.store.upkeep()
    assert life.router.state_hash == before[0]
    later = told(life.router, "ann", "OF-LATER")
    assert [row.decision_id for row in life.router.decisions()] == later
    assert life.router.replay(later[3]).equal
    assert life.router.feedback(later[3], reward=0.5).status == "applied"
    assert life.router.purge_logs().decisions == 4


@pytest.mark.parametrize("seconds", [0.0, -60.0])
def test_after_a_purge_of_logs_the_clock_may_stand_or_go_back(life: Reopened, seconds: float) -> None:
    router = life.store.install(PLAIN)
    before = [given_id(router.decide()) for _ in range(4)]
    router.purge_logs()
    life.clock.forward(seconds)
    decision = given_id(router.decide())
    assert router.feedback(decision, reward=0.5).status == "applied"
    assert all(said_of(router, old) == {UNKNOWN} for old in before)


def test_a_post_that_a_purge_of_logs_overtakes_is_unknown(
    life: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logs are purged after the post was worked out and before it is recorded."""
    router = life.store.install(PLAIN)
    decision = given_id(router.decide(context_key="OF-LOGS"))
    work_out = _feedback.by_decision

    def overtaken(*arguments: Any) -> Any:
        answer = work_out(*arguments)
        life.router.purge_logs()
        return answer

    monkeypatch.setattr(_feedback, "by_decision", overtaken)
    state = router.state_hash
    with pytest.raises(capsa.UnknownDecision):
        router.feedback(decision, reward=0.5)
    monkeypatch.undo()
    assert router.state_hash == state
    assert payloads(life.store) == []
    check_whole(life.store)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=20)
def test_a_purge_of_logs_that_was_killed_is_done_again(kind: str, data: st.DataObject) -> None:
    with reopened(kind) as life:
        router = life.store.install(data.draw(st.sampled_from([PLAIN, DEFAULTS])))
        ids = told(router, "ann", "OF-LOGS")
        state = router.state_hash
        for _ in range(data.draw(st.integers(1, 3))):
            with life.killed(data.draw(st.sampled_from([*WRITES, "any"])), data.draw(st.integers(1, 9))):
                life.router.purge_logs()
            assert life.router.state_hash == state
            assert life.store.verify() == []
            assert life.store.rebuild().equal
        begun = any(row.type == "erased" for row in life.store.audit())
        if begun and data.draw(st.booleans()):
            life.store.upkeep()
        else:
            life.router.purge_logs()
        life.restart()
        assert payloads(life.store) == []
        assert life.router.state_hash == state
        assert all(said_of(life.router, decision) == {UNKNOWN} for decision in ids)
        check_whole(life.store)


def test_a_state_that_is_too_large_to_be_sealed_keeps_its_content(
    life: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so; nobody is shown it; and it goes when it can be sealed."""
    ids = told(life.store.install(PLAIN), "ann", "OF-LOGS")
    monkeypatch.setattr(_snapshots, "MAX_BYTES", 10)
    with pytest.raises(capsa.HostFault):
        life.router.purge_logs()
    assert all(said_of(life.router, decision) == {UNKNOWN} for decision in ids)
    life.store.upkeep()
    assert len(payloads(life.store)) == 7
    monkeypatch.undo()
    life.restart()
    life.store.upkeep()
    assert payloads(life.store) == []
    check_whole(life.store)
