"""Taking away: of a purged tenant and of an erased subject nothing is left, and everything else is as it was."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decisions.past import given_id
from tests.decisions.reopened import KINDS, UNKNOWN, Reopened, reopened, said_of
from tests.reference.clock import Clock
from tests.simulation.worlds import IN_CUT, WRITES

import capsa
from capsa.decisions import DecisionRecord, _feedback, _upkeep
from capsa.decisions._erasure import Erased
from capsa.journal import Event

SPEC = """\
name: router
options: [cheap, balanced, dear]
contexts: [task]
reward: {quality: 0.6, cost: -0.4}
horizon: {after: 1h%s}
"""
PLAIN, DEFAULTS = SPEC % "", SPEC % ", outcome: {quality: 0, cost: 1}"
#: Numbers that a store holds only where somebody sent them.
QUALITY, REWARD = 0.12345678901234567, -0.7654321098765432


def bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.glob("store.sqlite*")))


def traces(folder: Path, marks: list[str]) -> set[object]:
    """Which of these texts and of the numbers above stand in a store's files."""
    content = bytes_of(folder)
    texts = {mark for mark in marks if mark.encode() in content}
    return texts | {number for number in (QUALITY, REWARD) if struct.pack(">d", number) in content}


def told(capsule: capsa.Capsule, subject: str, mark: str) -> list[str]:
    """Decisions about a subject with feedback of every kind; gives their ids."""
    ids = [given_id(capsule.decide(context_key=f"{mark}-{number}", subject=subject)) for number in range(4)]
    capsule.feedback(ids[0], outcome={"quality": QUALITY, "cost": 0.5})
    capsule.feedback(ids[1], reward=REWARD)
    capsule.feedback(ids[2], outcome={"quality": QUALITY})
    return ids


def guest_of(store: capsa.Store) -> capsa.Job:
    return store.tenant("guest").job("default")


# A subject


def test_an_erased_subject_leaves_no_bytes(tmp_path: Path) -> None:
    """Neither keys nor metrics nor rewards, in no file of the store; of others everything stays."""
    folder, clock = tmp_path / "store", Clock()
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        router = store.install(DEFAULTS)
        told(router, "ann", "OF-ANN")
        others = given_id(router.decide(context_key="OF-BOB", subject="bob"))
        router.feedback(others, reward=0.5)
        clock.forward(3601)
        store.upkeep()
        router.feedback(router.decide(context_key="OF-ANN-9", subject="ann").id, reward=REWARD)
    marks = ["OF-ANN", "OF-BOB"]
    assert traces(folder, marks) == {"OF-ANN", "OF-BOB", QUALITY, REWARD}
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        before = store.capsule("router").state_hash
        erased = store.erase_subject("ann")
        # What was posted: two wholes, a part, and once more; what the horizon brought: to the part, and to the silent one.
        assert (erased.decisions, erased.events) == (5, 5 + 4 + 2)
        assert store.capsule("router").state_hash == before
        assert store.verify() == []
    left = [
        event.payload
        for event in journal_of(folder, clock)
        if event.type in ("decided", "outcome_received", "horizon_passed")
    ]
    assert not any(b"OF-ANN" in payload for payload in left)
    assert any(b"OF-BOB" in payload for payload in left)


def journal_of(folder: Path, clock: Clock) -> list[Event]:
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        return list(store.journal.read("default"))


@pytest.mark.parametrize("spec", [PLAIN, DEFAULTS], ids=["plain", "defaults"])
def test_what_was_learned_from_a_subject_stays(life: Reopened, spec: str) -> None:
    """State, report and settings are those of before; now, after a restart, and when folded again."""
    router = life.store.install(spec)
    told(router, "ann", "ann")
    told(router, "bob", "bob")
    before = router.state_hash, router.report().to_dict(), router.contexts(), router.learning
    erased = life.store.erase_subject("ann")
    assert (erased.tenant, erased.decisions, erased.events) == ("default", 4, 7)
    for _ in range(3):
        router = life.router
        report = router.report().to_dict()
        after = (
            router.state_hash,
            {**report, "sequence": before[1]["sequence"]},
            router.contexts(),
            router.learning,
        )
        assert after == before
        assert life.store.rebuild().equal
        assert life.store.verify() == []
        assert life.store.erase_subject("ann") == Erased(tenant="default", decisions=0, events=0)
        life.restart()


def test_no_view_shows_an_erased_subject(life: Reopened, tmp_path: Path) -> None:
    """Nor does it count as anything but unknown; what is about others stands in every view."""
    router = life.store.install(PLAIN)
    anns, bobs = told(router, "ann", "OF-ANN"), told(router, "bob", "OF-BOB")
    nobodys = given_id(router.decide(context_key="OF-NOBODY"))
    life.store.erase_subject("ann")
    for number in range(2):
        router = life.router
        assert all(said_of(router, decision) == {UNKNOWN} for decision in anns)
        assert [row.decision_id for row in router.decisions()] == [*bobs, nobodys]
        assert [row.decision_id for row in router.feedback_log()] == bobs[:3]
        for decision in bobs:
            story = router.story(decision)
            assert story.decision is not None
            assert story.decision.decision_id == decision
        life.store.export(tmp_path / str(number))
        exported = b"".join(file.read_bytes() for file in (tmp_path / str(number)).rglob("*.jsonl"))
        assert (b"OF-ANN" in exported, b"OF-BOB" in exported) == (False, True)
        life.restart()
    [row] = [row for row in life.store.audit() if row.type == "erased"]
    assert row.detail["decisions"] == 4
    assert "ann" not in json.dumps(row.detail)
    assert life.router.feedback(bobs[3], reward=0.5).status == "applied"


def test_a_subject_is_erased_in_one_tenant(life: Reopened) -> None:
    """And in all of its jobs and capsules."""
    here = [life.store.install(PLAIN), life.store.job("other").install(PLAIN)]
    there = guest_of(life.store).install(PLAIN)
    ids = [told(capsule, "ann", "ann") for capsule in (*here, there)]
    assert life.store.erase_subject("ann").decisions == 8
    for capsule, known in zip(here, ids, strict=False):
        assert all(said_of(capsule, decision) == {UNKNOWN} for decision in known)
    assert [row.decision_id for row in there.decisions()] == ids[2]
    assert life.store.erase_subject("ann", tenant="guest").decisions == 4
    with pytest.raises(capsa.UnknownTenant):
        life.store.erase_subject("ann", tenant="nobody")
    with pytest.raises(capsa.InvalidField):
        life.store.erase_subject("")


def test_later_decisions_about_an_erased_subject_are_new(life: Reopened) -> None:
    """They are kept until they are erased in their turn."""
    life.store.install(PLAIN)
    told(life.router, "ann", "ann")
    life.store.erase_subject("ann")
    life.restart()
    later = told(life.router, "ann", "ann")
    assert [row.decision_id for row in life.router.decisions()] == later
    assert life.router.feedback(later[3], reward=0.5).status == "applied"
    erased = life.store.erase_subject("ann")
    assert (erased.decisions, erased.events) == (4, 8)
    assert life.router.decisions() == []
    assert life.store.rebuild().equal


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=15)
def test_an_erasure_that_was_killed_is_done_again(kind: str, data: st.DataObject) -> None:
    """Wherever it died, and however often: then nothing is left, and what was learned stays."""
    with reopened(kind) as life:
        router = life.store.install(data.draw(st.sampled_from([PLAIN, DEFAULTS])))
        anns = told(router, "ann", "OF-ANN")
        bobs = told(router, "bob", "OF-BOB")
        state = router.state_hash
        for _ in range(data.draw(st.integers(1, 3))):
            where = data.draw(st.sampled_from(["any", "append", "put_blob", "erase"]))
            with life.killed(where, data.draw(st.integers(1, 9))):
                life.store.erase_subject("ann")
            assert life.router.state_hash == state
            assert life.store.verify() == []
        life.store.erase_subject("ann")
        life.restart()
        check_erased(life.store, anns)
        assert life.router.state_hash == state
        assert [row.decision_id for row in life.router.decisions()] == bobs
        assert [row.decision_id for row in life.router.feedback_log()] == bobs[:3]


def check_erased(store: capsa.Store, ids: list[str]) -> None:
    assert not any(
        b"OF-ANN" in event.payload
        for event in store.journal.read("default")
        if event.type != "snapshot_sealed"
    )
    assert all(said_of(store.capsule("router"), decision) == {UNKNOWN} for decision in ids)
    assert store.rebuild().equal
    assert store.verify() == []


def meanwhile(work: Callable[[int], bool], then: Callable[[], object]) -> None:
    """Does something while four threads work, again and again while there is work."""
    stop, failed = threading.Event(), []

    def again(number: int) -> None:
        try:
            while not stop.is_set() and work(number):
                pass
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=again, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        then()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_subject_is_erased_while_others_go_on(tmp_path: Path, on_disk: bool) -> None:
    """Decided before the erasure began: gone. What comes of others meanwhile counts, and is not touched."""
    with capsa.open(tmp_path / "store" if on_disk else None) as store:
        router = store.install(PLAIN)
        anns = told(router, "ann", "OF-ANN")
        given: dict[int, list[str]] = {number: [] for number in range(4)}

        def work(number: int) -> bool:
            decision = given_id(router.decide(context_key=f"OF-{number}", subject=f"bob {number}"))
            assert router.feedback(decision, reward=0.5).status == "applied"
            given[number].append(decision)
            with contextlib.suppress(capsa.UnknownDecision, capsa.FeedbackConflict):
                router.feedback(anns[number], outcome={"cost": 0.5})
            return True

        meanwhile(work, lambda: [store.erase_subject("ann") for _ in range(3)])
        check_erased(store, anns)
        others = {row.decision_id for row in rows(router)}
        assert others == {decision for ids in given.values() for decision in ids}
        for ids in given.values():
            assert all(router.feedback(decision, reward=0.5).status == "repeated" for decision in ids)


def rows(router: capsa.Capsule) -> list[DecisionRecord]:
    """All decisions, page by page."""
    found: list[DecisionRecord] = []
    while page := router.decisions(after=found[-1].sequence if found else 0, limit=1000):
        found += page
    return found


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_an_erasure_ends_though_its_subject_is_decided_about_meanwhile(tmp_path: Path, on_disk: bool) -> None:
    """Each decision is one of before or one of after: its feedback counts, or it is unknown."""
    with capsa.open(tmp_path / "store" if on_disk else None) as store:
        router = store.install(PLAIN)
        anns = told(router, "ann", "OF-ANN")
        left = [100] * 4

        def work(number: int) -> bool:
            left[number] -= 1
            decision = router.decide(context_key=f"OF-ANN-{number}", subject="ann")
            with contextlib.suppress(capsa.UnknownDecision):
                router.feedback(decision.id, reward=0.5)
            return left[number] > 0

        meanwhile(work, lambda: store.erase_subject("ann"))
        assert all(said_of(router, decision) == {UNKNOWN} for decision in anns)
        store.erase_subject("ann")
        assert rows(router) == []
        check_erased(store, anns)


@pytest.mark.parametrize("already", [None, 0.5], ids=["the first", "a repeat"])
def test_a_post_that_an_erasure_overtakes_is_unknown(
    life: Reopened, monkeypatch: pytest.MonkeyPatch, already: float | None
) -> None:
    """The subject is erased after the post was worked out and before it is recorded."""
    router = life.store.install(PLAIN)
    decision = given_id(router.decide(context_key="OF-ANN", subject="ann"))
    if already is not None:
        router.feedback(decision, reward=already)
    work_out = _feedback.by_decision

    def overtaken(*arguments: Any) -> Any:
        answer = work_out(*arguments)
        life.store.erase_subject("ann")
        return answer

    monkeypatch.setattr(_feedback, "by_decision", overtaken)
    state = router.state_hash
    with pytest.raises(capsa.UnknownDecision):
        router.feedback(decision, reward=0.5)
    monkeypatch.undo()
    assert router.state_hash == state
    check_erased(life.store, [decision])


# A tenant


def test_a_purged_tenant_leaves_no_bytes(tmp_path: Path) -> None:
    """Nor does its component, nor a snapshot of it; other tenants are as they were."""
    folder, clock = tmp_path / "store", Clock()
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        router = store.install(PLAIN)
        told(router, "ann", "OF-HOST")
        guest = guest_of(store).install(PLAIN.replace("[cheap, balanced, dear]", "[own-one, own-two]"))
        told(guest, "ann", "OF-GUEST")
    marks = ["OF-HOST", "OF-GUEST", "own-one"]
    assert traces(folder, marks) == {*marks, QUALITY, REWARD}
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        before = store.capsule("router").state_hash
        store.tenant("guest")
        purged = store.purge("guest")
        assert (purged.tenant, purged.capsules) == ("guest", 1)
        assert purged.events == 2 + 1 + 4 + 3
        assert store.verify() == []
        assert store.capsule("router").state_hash == before
        with pytest.raises(capsa.UnknownTenant):
            guest_of(store).capsule("router")
    assert traces(folder, marks) == {"OF-HOST", QUALITY, REWARD}
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        assert [row.type for row in store.audit("guest")] == ["purged"]
        assert store.rebuild().equal
        assert len(store.capsule("router").decisions()) == 4
        assert store.purge("default").capsules == 1
    assert traces(folder, marks) == set()


def test_a_purged_name_begins_anew(life: Reopened) -> None:
    """Nothing of what was learned, decided or set before is there; and ids of before stay unknown."""
    guest = guest_of(life.store).install(PLAIN)
    before = told(guest, "ann", "a")
    guest.update_learning(rails={"freeze": True})
    life.store.purge("guest")
    life.clock.forward(1)
    untouched = life.store.tenant("fresh").job("default").install(PLAIN).state_hash
    for _ in range(2):
        with pytest.raises(capsa.UnknownTenant):
            guest_of(life.store).capsule("router")
        assert guest_of(life.store).capsules() == []
        life.restart()
    guest = guest_of(life.store).install(PLAIN)
    for _ in range(2):
        guest = guest_of(life.store).capsule("router")
        assert (guest.state_hash, guest.version, guest.learning["rails"]["freeze"]) == (untouched, 1, False)
        assert (guest.decisions(), guest.feedback_log(), guest.contexts()) == ([], [], [])
        assert all(said_of(guest, decision) == {UNKNOWN} for decision in before)
        assert life.store.rebuild().equal
        assert life.store.verify() == []
        life.restart()
    guest = guest_of(life.store).capsule("router")
    assert guest.feedback(guest.decide().id, reward=0.5).status == "applied"
    with pytest.raises(capsa.UnknownTenant):
        life.store.purge("nobody")


@pytest.mark.parametrize("seconds", [0.0, -60.0])
def test_after_a_purge_the_clock_may_stand_or_go_back(life: Reopened, seconds: float) -> None:
    """What is decided in the new capsule is known, and what was decided in the old one is not."""
    guest = guest_of(life.store).install(PLAIN)
    before = [given_id(guest.decide(context_key="a")) for _ in range(6)]
    life.store.purge("guest")
    life.clock.forward(seconds)
    guest = guest_of(life.store).install(PLAIN)
    life.mark()
    decision = given_id(guest.decide(context_key="a"))
    assert guest.feedback(decision, reward=0.5).status == "applied"
    assert all(said_of(guest, old) == {UNKNOWN} for old in before)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=25)
def test_a_purge_that_was_killed_is_done_again(kind: str, data: st.DataObject) -> None:
    """By the next start or by whoever asks again. Never is half of a tenant there."""
    with reopened(kind) as life:
        told(life.store.install(PLAIN), "ann", "OF-HOST")
        guest = guest_of(life.store).install(PLAIN)
        told(guest, "ann", "OF-GUEST")
        state, other = guest.state_hash, life.router.state_hash
        where = data.draw(st.sampled_from([*WRITES, IN_CUT, "any"]))
        with life.killed(where, data.draw(st.integers(1, 3))):
            life.store.purge("guest")
        there = guest_of(life.store).capsules()
        if there:
            assert guest_of(life.store).capsule("router").state_hash == state
        if data.draw(st.booleans()) or there:
            life.store.purge("guest")
        else:
            life.store.upkeep()
        life.restart()
        events = list(life.store.journal.read("guest"))
        assert {event.type for event in events} <= {"purged", "snapshot_sealed"}
        assert events[0].type == "purged"
        assert guest_of(life.store).capsules() == []
        assert life.router.state_hash == other
        assert life.store.rebuild().equal
        assert life.store.verify() == []


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_tenant_is_purged_while_others_go_on(
    tmp_path: Path, on_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its callers are told that it is gone; callers of others notice nothing."""
    monkeypatch.setattr(_upkeep, "SNAPSHOT_EVENTS", 50)
    with capsa.open(tmp_path / "store" if on_disk else None) as store:
        router, guest = store.install(PLAIN), guest_of(store).install(PLAIN)
        counted = [0] * 4

        def work(number: int) -> bool:
            if number < 2:
                assert router.feedback(router.decide().id, reward=0.5).status == "applied"
                counted[number] += 1
                return True
            with contextlib.suppress(capsa.errors.NotFound):
                guest.feedback(guest.decide(context_key="OF-GUEST").id, reward=0.5)
            return True

        def purge() -> None:
            for _ in range(3):
                store.purge("guest")
                store.upkeep()
                guest_of(store).install(PLAIN)
            store.purge("guest")

        meanwhile(work, purge)
        assert router.report().feedback.applied == counted[0] + counted[1]
        assert guest_of(store).capsules() == []
        assert not any(b"OF-GUEST" in event.payload for event in store.journal.read("guest"))
        assert store.rebuild().equal
        assert store.verify() == []
    if on_disk:
        assert b"OF-GUEST" not in bytes_of(tmp_path / "store")
        with capsa.open(tmp_path / "store") as store:
            assert guest_of(store).capsules() == []
            assert store.rebuild().equal
