"""Retention: old events go, at a snapshot, and nobody notices but who asks for what is gone."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decisions.past import given_id, lived_through
from tests.decisions.reopened import KINDS, UNKNOWN, Reopened, reopened, said_of
from tests.reference.clock import Clock

import capsa
from capsa.decisions import _snapshots, _upkeep
from capsa.decisions._ledger import GRACE_MS

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
horizon: {after: %s}
"""
DEFAULTS = SPEC.replace("{after: %s}", "{after: %s, outcome: {quality: 0.5, cost: 0.5}}")
DAY = 86_400.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sealed after many events is sealed after a few."""
    monkeypatch.setattr(_upkeep, "SNAPSHOT_EVENTS", 6)


def test_events_are_kept_for_90_days_where_nothing_is_said(tmp_path: Path) -> None:
    assert inspect.signature(capsa.open).parameters["retention"].default == "90d"
    clock = Clock()
    with capsa.open(tmp_path / "store", clock=clock, upkeep=False) as store:
        store.install(SPEC % "7d")
        for _ in range(12):
            lived_through(store, clock, 8)
            clock.forward(10 * DAY)
            store.upkeep()
        oldest = next(store.journal.read("default"))
        assert oldest.sequence > 1
        # Up to an eighth is kept longer, and here is one snapshot in ten days.
        assert 90 * DAY <= clock.now_s - oldest.time_ms / 1000 <= (90 + 90 / 8 + 11) * DAY


@pytest.mark.parametrize(
    "retention",
    ["0d", "0.0001ms", "-1d", "90", "", "for ever", "d", "1 d", 90, 90.0, True, b"90d", [], "nand"],
)
def test_what_is_no_duration_is_refused(tmp_path: Path, retention: Any) -> None:
    """And the folder can be opened right after."""
    with pytest.raises(capsa.InvalidField) as caught:
        capsa.open(tmp_path / "store", retention=retention)
    assert caught.value.pointer == "/retention"
    assert caught.value.remedy
    capsa.open(tmp_path / "store").close()


def test_none_keeps_everything(life: Reopened) -> None:
    life.store.install(SPEC % "1h")
    for _ in range(5):
        lived_through(life.store, life.clock, 8)
        life.clock.forward(1000 * DAY)
        assert life.store.upkeep().cut == 0
        life.restart()
    assert life.store.journal.first("default") == 1
    assert len(life.router.decisions()) == 40


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=15)
def test_life_goes_on_as_if_nothing_had_been_cut(kind: str, data: st.DataObject) -> None:
    """Beside a twin that keeps everything: the same answers, reports and states, but to what is gone."""
    retention_ms = data.draw(st.sampled_from([1, 3_600_000, int(10 * DAY * 1000)]))
    horizon = data.draw(st.sampled_from(["1h", "3d"]))
    spec = data.draw(st.sampled_from([SPEC, DEFAULTS])) % horizon
    with ExitStack() as both:
        lives = [both.enter_context(reopened(kind, kept)) for kept in (retention_ms, None)]
        for life in lives:
            life.store.install(spec)
        ids: list[tuple[str, ...]] = []
        made: dict[str, int] = {}
        gone: set[str] = set()
        for _ in range(data.draw(st.integers(5, 30))):
            kinds = ["decide"] * 3 + ["post"] * 3 + ["time"] * 3 + ["upkeep"] * 2 + ["restart"]
            match data.draw(st.sampled_from(kinds)):
                case "decide":
                    task = data.draw(st.sampled_from("ab"))
                    decisions = [life.router.decide({"task": task}) for life in lives]
                    assert len({(of.option, of.propensity, of.learner_version) for of in decisions}) == 1
                    ids.append(tuple(map(given_id, decisions)))
                    made[ids[-1][0]] = decisions[0].deadline_ms
                case "post" if ids:
                    pair = ids[data.draw(st.integers(0, len(ids) - 1))]
                    outcome = data.draw(
                        st.sampled_from([{"quality": 1.0}, {"cost": 0.0}, {"quality": 0.5, "cost": 1}])
                    )
                    said = post(lives[0].router, pair[0], outcome)
                    if said == UNKNOWN:
                        # Then no feedback could have changed anything any more.
                        assert lives[0].clock.now_ms > made[pair[0]] + GRACE_MS
                        gone.add(pair[0])
                    else:
                        assert pair[0] not in gone
                        assert said == post(lives[1].router, pair[1], outcome)
                case "time":
                    seconds = data.draw(st.sampled_from([1.0, 3600.0, DAY, 5 * DAY]))
                    for life in lives:
                        life.clock.forward(seconds)
                case "upkeep":
                    done = [life.store.upkeep() for life in lives]
                    assert (done[0].horizons, done[0].snapshots) == (done[1].horizons, done[1].snapshots)
                case _:
                    for life in lives:
                        life.restart()
            assert lives[0].router.state_hash == lives[1].router.state_hash
            assert lives[0].router.contexts() == lives[1].router.contexts()
            one, other = (life.router.report().to_dict() for life in lives)
            assert one == other
        cut = lives[0].store
        assert cut.rebuild().equal
        assert cut.verify() == []
        kept, first = lives[0].router.decisions(), cut.journal.first("default")
        everything = [row for row in lives[1].router.decisions() if row.sequence >= first]
        assert [row.sequence for row in kept] == [row.sequence for row in everything]
        for row in kept:
            assert lives[0].router.replay(row.decision_id).equal
        for decision in made.keys() - {row.decision_id for row in kept}:
            assert said_of(lives[0].router, decision) == {UNKNOWN}


def post(capsule: capsa.Capsule, decision_id: str, outcome: dict[str, float]) -> object:
    """What is answered, but for the id."""
    try:
        answer = capsule.feedback(decision_id, outcome=outcome)
    except capsa.CapsaError as error:
        return error.code, error.detail, error.pointer, error.remedy
    return msgspec.structs.replace(answer, decision_id=None)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=25)
def test_what_feedback_is_compared_with_is_never_cut(kind: str, data: st.DataObject) -> None:
    """Nothing younger than what is declared, nor than the longest horizon there was and two days. It begins at a snapshot."""
    retention_ms = data.draw(st.sampled_from([1, 3_600_000, int(5 * DAY * 1000), int(20 * DAY * 1000)]))
    with reopened(kind, retention_ms) as life:
        longest_ms, cut = 0, 0
        for _ in range(data.draw(st.integers(1, 6))):
            hours = data.draw(st.sampled_from([1, 48, 240]))
            life.store.install(SPEC % f"{hours}h")
            longest_ms = max(longest_ms, hours * 3_600_000)
            for _ in range(data.draw(st.integers(0, 3))):
                lived_through(life.store, life.clock, 4)
                life.clock.forward(data.draw(st.sampled_from([1.0, DAY, 3 * DAY, 15 * DAY])))
                before = list(life.store.journal.read("default"))
                removed = life.store.upkeep().cut
                cut += removed
                kept_ms = max(retention_ms, longest_ms + 2 * GRACE_MS)
                assert all(event.time_ms <= life.clock.now_ms - kept_ms for event in before[:removed])
                first = next(life.store.journal.read("default"))
                assert first.type == "snapshot_sealed" or (first.sequence, cut) == (1, 0)
                if data.draw(st.booleans()):
                    life.restart()
                assert life.store.verify() == []


def test_what_is_old_does_go(life_with_a_week: Reopened) -> None:
    """Beyond the retention and an eighth of it, up to the next snapshot."""
    life = life_with_a_week
    life.store.install(SPEC % "1h")
    kept = []
    for _ in range(40):
        lived_through(life.store, life.clock, 8)
        life.clock.forward(DAY)
        life.store.upkeep()
        oldest = next(life.store.journal.read("default"))
        kept.append(life.clock.now_s - oldest.time_ms / 1000)
        if len(kept) % 7 == 0:
            life.restart()
    assert life.store.journal.first("default") > 1
    assert max(kept) <= (7 + 7 / 8 + 2) * DAY
    assert min(kept[10:]) >= 7 * DAY
    assert life.router.report().decisions == 320
    # Snapshots go with the events.
    assert len(life.store.journal.cuts("default")) <= 12


@pytest.fixture(params=KINDS)
def life_with_a_week(request: pytest.FixtureRequest) -> Any:
    with reopened(request.param, int(7 * DAY * 1000)) as opened:
        yield opened


@pytest.mark.parametrize("where", ["cut", "in cut", "drop_blobs", "append", "put_blob", "release", "seal"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_process_that_dies_while_it_cuts(life_with_a_week: Reopened, where: str, count: int) -> None:
    """What is opened next has either, and cuts it again."""
    life = life_with_a_week
    life.store.install(SPEC % "1h")
    for _ in range(10):
        lived_through(life.store, life.clock, 8)
        life.clock.forward(DAY)
    state = life.router.state_hash
    _snapshots.seal(life.store, "default", "events")
    life.clock.forward(8 * DAY)
    lived_through(life.store, life.clock, 8)
    state = life.router.state_hash
    with life.killed(where, count):
        life.store.upkeep()
    assert life.router.state_hash == state
    assert life.store.verify() == []
    life.store.upkeep()
    first = next(life.store.journal.read("default"))
    assert (first.type, first.sequence > 80) == ("snapshot_sealed", True)
    life.restart()
    assert life.router.state_hash == state
    assert life.store.rebuild().equal
    assert life.store.verify() == []
