"""Deleting capsules and jobs: the content goes, the audit stays, the name begins anew."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.decisions.past import PAIR, given_id
from tests.decisions.reopened import KINDS, UNKNOWN, Reopened, reopened, said_of
from tests.decisions.test_erasure import DEFAULTS, PLAIN, QUALITY, REWARD, bytes_of, told, traces
from tests.reference.clock import Clock
from tests.simulation.worlds import WRITES

import capsa
from capsa.decisions import _feedback, _snapshots

CONTENT = {"decided", "outcome_received", "horizon_passed"}


def payloads(store: capsa.Store) -> list[bytes]:
    """What is left of decisions and feedback in the default tenant."""
    return [
        event.payload for event in store.journal.read("default") if event.type in CONTENT and not event.erased
    ]


def check_whole(store: capsa.Store) -> None:
    assert store.rebuild().equal
    assert store.verify() == []
    assert store._fold.tenants["default"].erasing == {}


# A capsule


def test_a_deleted_capsule_leaves_no_content(tmp_path: Path) -> None:
    """Neither keys nor numbers nor its component, in no file of the store; another one stays whole."""
    folder, clock = tmp_path / "store", Clock()
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        told(store.install(DEFAULTS), "ann", "OF-GONE")
        other = store.job("other").install(PLAIN.replace("[cheap, balanced, dear]", "[own-one, own-two]"))
        others = [given_id(other.decide(context_key="OF-OTHER")) for _ in range(3)]
        other.feedback(others[0], reward=0.5)
        clock.forward(3601)
        store.upkeep()
        before = other.state_hash
    assert traces(folder, ["OF-GONE", "OF-OTHER", "own-one"]) == {
        "OF-GONE",
        "OF-OTHER",
        "own-one",
        QUALITY,
        REWARD,
    }
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        digest = store.capsule("router")._state().native.component_digest
        deleted = store.capsule("router").delete()
        # Four decisions; three posts; what the horizon brought to the part and to the silent one.
        assert deleted == capsa.Deleted(
            tenant="default", job="default", capsule="router", capsules=1, decisions=4, events=4 + 3 + 2
        )
        assert store.job("other").capsule("router").state_hash == before
        with pytest.raises(capsa.UnknownBlob):
            store.journal.blob(digest)
        check_whole(store)
    assert traces(folder, ["OF-GONE", "OF-OTHER", "own-one"]) == {"OF-OTHER", "own-one"}
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        assert store.job("other").capsule("router").feedback(others[0], reward=0.5).status == "repeated"
        assert [job.capsules for job in store.tenant("default").jobs()] == [[], ["router"]]
        rows = [(row.type, row.capsule) for row in store.audit() if row.job == "default"]
        assert rows == [
            ("created", None),
            ("installed", "router"),
            ("deleted", "router"),
            ("erased", "router"),
        ]
        assert all(row.detail for row in store.audit())
        check_whole(store)


@pytest.mark.parametrize("again_at_once", [True, False])
def test_a_deleted_name_begins_anew(life: Reopened, again_at_once: bool) -> None:
    """At version 1, with nothing learned, set or decided; ids of before stay unknown."""
    untouched = life.store.job("fresh").install(PLAIN).state_hash
    router = life.store.install(PLAIN)
    life.store.install(PLAIN.replace("dear]", "dear, dearest]"))
    before = told(router, "ann", "OF-GONE")
    router.update_learning(rails={"freeze": True})
    router.delete()
    if not again_at_once:
        for _ in range(2):
            with pytest.raises(capsa.UnknownCapsule):
                life.store.capsule("router")
            life.restart()
    life.store.install(PLAIN)
    life.mark()
    for number in range(3):
        router = life.router
        assert (router.state_hash, router.version, router.learning["rails"]["freeze"]) == (
            untouched,
            1,
            False,
        )
        assert (router.decisions(), router.feedback_log(), router.contexts()) == ([], [], [])
        assert all(said_of(router, decision) == {UNKNOWN} for decision in before)
        check_whole(life.store)
        life.restart() if number else life.crash()
    decision = given_id(life.router.decide())
    assert life.router.feedback(decision, reward=0.5).status == "applied"
    assert life.router.replay(decision).equal
    assert [row.decision_id for row in life.router.decisions()] == [decision]


def test_a_handle_of_a_deleted_capsule_is_of_no_use(life: Reopened) -> None:
    router = life.store.install(PLAIN)
    decision = router.decide()
    router.delete()
    calls: list[Any] = [
        router.decide,
        router.report,
        router.contexts,
        router.decisions,
        router.delete,
        router.purge_logs,
        lambda: router.learning,
        lambda: router.update_learning(mode="off"),
        lambda: router.feedback(decision.id, reward=0.5),
        lambda: router.feedback(option="cheap", reward=0.5, context_key="a"),
        lambda: router.story(given_id(decision)),
    ]
    length = life.store.journal.length("default")
    for call in calls:
        with pytest.raises(capsa.UnknownCapsule):
            call()
    assert life.store.journal.length("default") == length


@pytest.mark.parametrize("how", ["decide", "feedback", "explicit", "learning"])
@pytest.mark.parametrize("again", [False, True], ids=["gone", "installed again"])
def test_a_call_that_a_deletion_overtakes_records_nothing_in_it(
    life: Reopened, monkeypatch: pytest.MonkeyPatch, how: str, again: bool
) -> None:
    """It was worked out on the old capsule: it is refused, or is one of the new capsule."""
    router = life.store.install(PLAIN)
    decision = given_id(router.decide())

    def overtake() -> None:
        monkeypatch.undo()
        router.delete()
        if again:
            life.store.install(PLAIN)

    if how == "feedback":
        work_out = _feedback.by_decision

        def overtaken(*arguments: Any) -> Any:
            answer = work_out(*arguments)
            overtake()
            return answer

        monkeypatch.setattr(_feedback, "by_decision", overtaken)
    else:
        # The last look at the store before what is recorded.
        lock = life.store._lock
        monkeypatch.setattr(life.store, "_lock", _Before(lock, overtake))
    calls: dict[str, Any] = {
        "decide": router.decide,
        "feedback": lambda: router.feedback(decision, reward=0.5),
        "explicit": lambda: router.feedback(option="cheap", reward=0.5, context_key="a"),
        "learning": lambda: router.update_learning(mode="off"),
    }
    if not again:
        with pytest.raises(capsa.UnknownCapsule):
            calls[how]()
    elif how == "feedback":
        with pytest.raises(capsa.UnknownDecision):
            calls[how]()
    else:
        calls[how]()
    monkeypatch.undo()
    life.restart()
    check_whole(life.store)


class _Before:
    """A lock before which something happens once."""

    def __init__(self, lock: Any, happens: Any) -> None:
        self._lock, self._happens = lock, happens

    def __enter__(self) -> None:
        happens, self._happens = self._happens, lambda: None
        happens()
        self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=25)
def test_a_deletion_that_was_killed_is_done_again(kind: str, data: st.DataObject) -> None:
    """Wherever it died, and however often: by the same call or by upkeep. Never is half of a capsule there."""
    with reopened(kind) as life:
        router = life.store.install(data.draw(st.sampled_from([PLAIN, DEFAULTS])))
        ids = told(router, "ann", "OF-GONE")
        other = life.store.job("other").install(PLAIN)
        others = told(other, "bob", "OF-OTHER")
        state, other_state = router.state_hash, other.state_hash
        for _ in range(data.draw(st.integers(1, 3))):
            where = data.draw(st.sampled_from([*WRITES, "any"]))
            with life.killed(where, data.draw(st.integers(1, 9))), contextlib.suppress(capsa.UnknownCapsule):
                life.store.job("default").delete_capsule("router")
            there = life.store.job("default").capsules()
            if there:
                assert life.router.state_hash == state
            assert life.store.job("other").capsule("router").state_hash == other_state
            assert life.store.verify() == []
            assert life.store.rebuild().equal
            if not there and data.draw(st.booleans()):
                # What was installed since is not touched.
                life.clock.forward(0.001)
                new = life.store.install(PLAIN)
                assert all(said_of(new, decision) == {UNKNOWN} for decision in ids)
                ids += told(new, "cid", "OF-GONE")
                state = new.state_hash
        by_call: bool = data.draw(st.booleans())
        if by_call or life.store.job("default").capsules():
            with contextlib.suppress(capsa.UnknownCapsule):
                life.store.job("default").delete_capsule("router")
        else:
            life.store.upkeep()
        life.restart()
        assert not any(b"OF-GONE" in payload for payload in payloads(life.store))
        check_whole(life.store)
        with pytest.raises(capsa.UnknownCapsule):
            life.store.job("default").delete_capsule("router")
        other = life.store.job("other").capsule("router")
        assert other.state_hash == other_state
        assert [row.decision_id for row in other.decisions()] == others


@pytest.mark.parametrize("on_disk", [False, True], ids=["memory", "disk"])
def test_a_capsule_is_deleted_while_others_go_on(tmp_path: Path, on_disk: bool) -> None:
    """Its callers are told that it is gone; callers of others notice nothing."""
    with capsa.open(tmp_path / "store" if on_disk else None) as store:
        router, guest = store.install(PLAIN), store.job("guest").install(PLAIN)
        stop, failed, counted = threading.Event(), [], [0]

        def work(mine: bool) -> None:
            try:
                while not stop.is_set():
                    if mine:
                        assert router.feedback(router.decide().id, reward=0.5).status == "applied"
                        counted[0] += 1
                        continue
                    with contextlib.suppress(capsa.UnknownCapsule, capsa.UnknownDecision):
                        guest.feedback(guest.decide(context_key="OF-GUEST").id, reward=0.5)
            except BaseException as error:
                failed.append(error)
                raise

        threads = [threading.Thread(target=work, args=(mine,)) for mine in (True, False, False)]
        for thread in threads:
            thread.start()
        for number in range(4):
            guest.delete()
            if number < 3:
                store.upkeep()
                store.job("guest").install(PLAIN)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert router.report().feedback.applied == counted[0]
        assert not any(b"OF-GUEST" in payload for payload in payloads(store))
        check_whole(store)
    if on_disk:
        assert b"OF-GUEST" not in bytes_of(tmp_path / "store")
        with capsa.open(tmp_path / "store") as store:
            check_whole(store)


def test_what_is_due_in_a_deleted_capsule_is_passed_over(life: Reopened) -> None:
    """Neither it nor its successor learns what the horizon would have brought."""
    router = life.store.install(DEFAULTS)
    for _ in range(3):
        router.decide()
    router.delete()
    router = life.store.install(DEFAULTS)
    before = router.state_hash
    late = given_id(router.decide())
    life.clock.forward(3601)
    life.restart()
    life.store.upkeep()
    assert [row.decision_id for row in life.router.feedback_log()] == [late]
    assert life.store.journal.due(2**62, 10) == []
    assert life.router.state_hash != before
    check_whole(life.store)


def test_a_subject_of_a_deleted_capsule(life: Reopened) -> None:
    """There is nothing left to erase of it, whether its deletion ended or not; what is elsewhere goes."""
    told(life.store.install(PLAIN), "ann", "OF-GONE")
    other = life.store.job("other").install(PLAIN)
    told(other, "ann", "OF-ANN")
    with life.killed("erase", 2):
        life.router.delete()
    assert any(b"OF-GONE" in payload for payload in payloads(life.store))
    new = told(life.store.install(PLAIN), "bob", "OF-NEW")
    erased = life.store.erase_subject("ann")
    assert (erased.decisions, erased.events) == (4, 7)
    assert not any(b"OF-GONE" in payload or b"OF-ANN" in payload for payload in payloads(life.store))
    assert [row.decision_id for row in life.router.decisions()] == new
    life.restart()
    check_whole(life.store)


def test_nothing_shows_the_old_one_before_its_deletion_ends(life: Reopened, tmp_path: Path) -> None:
    """Views, export and replay are of the new capsule, though the old one's events are still whole."""
    ids = told(life.store.install(PLAIN), "ann", "OF-GONE")
    with life.killed("erase", 1):
        life.router.delete()
    router = life.store.install(PAIR.replace("retries\n", "router\n"))
    decision = given_id(router.decide())
    assert any(b"OF-GONE" in payload for payload in payloads(life.store))
    assert [row.decision_id for row in router.decisions()] == [decision]
    assert router.feedback_log() == []
    assert all(said_of(router, old) == {UNKNOWN} for old in ids)
    assert router.replay(decision).equal
    life.store.export(tmp_path / "out")
    (lines,) = (tmp_path / "out").rglob("decision.jsonl")
    assert len(lines.read_text().splitlines()) == 1
    life.store.upkeep()
    life.store.export(tmp_path / "again")
    assert router.replay(decision).equal
    check_whole(life.store)


def test_others_are_replayed_from_before_a_deletion(life: Reopened) -> None:
    """A snapshot of then holds a capsule whose component is gone by now."""
    router = life.store.install(PLAIN)
    other = life.store.job("other").install(PLAIN.replace("[cheap, balanced, dear]", "[one, two]"))
    _snapshots.seal(life.store, "default", "events")
    decision = given_id(router.decide())
    other.delete()
    life.store.upkeep()
    for _ in range(2):
        replay = life.router.replay(decision)
        assert replay.equal
        assert "record" in replay.compared
        life.restart()


@pytest.mark.parametrize("how", ["delete", "delete the job", "purge_logs"])
def test_ids_whose_records_a_crash_took_are_unknown_too(life: Reopened, how: str) -> None:
    """Their places in the journal are those of later events by now."""
    life.store.install(PLAIN)
    life.mark()
    lost = [given_id(life.router.decide()) for _ in range(12)]
    life.crash()
    if how == "purge_logs":
        life.router.purge_logs()
    else:
        life.router.delete() if how == "delete" else life.store.job("default").delete()
        _snapshots.seal(life.store, "default", "events")
        life.restart()
        life.store.install(PLAIN)
    assert life.store.journal.length("default") < 12
    for _ in range(3):
        life.restart()
        assert all(said_of(life.router, decision) == {UNKNOWN} for decision in lost)
        life.router.decide()


# A job


def test_a_deleted_job_takes_its_capsules_with_it(life: Reopened) -> None:
    job = life.store.job("calls")
    ids = told(job.install(PLAIN), "ann", "OF-GONE")
    job.install(PAIR).decide(context_key="OF-GONE")
    life.store.install(PLAIN)
    others = told(life.router, "ann", "OF-OTHER")
    # Its name begins alike.
    alike = given_id(life.store.job("calls-2").install(PLAIN).decide())
    deleted = job.delete()
    assert deleted == capsa.Deleted(
        tenant="default", job="calls", capsule=None, capsules=2, decisions=5, events=8
    )
    for _ in range(2):
        job = life.store.job("calls")
        with pytest.raises(capsa.UnknownJob):
            job.capsule("router")
        with pytest.raises(capsa.UnknownJob):
            job.delete()
        assert [info.name for info in life.store.tenant("default").jobs()] == ["calls-2", "default"]
        assert life.store.job("calls-2").capsule("router").decisions()[0].decision_id == alike
        assert [row.decision_id for row in life.router.decisions()] == others
        check_whole(life.store)
        life.restart()
    assert not any(b"OF-GONE" in payload for payload in payloads(life.store))
    (row,) = [row for row in life.store.audit() if row.type == "deleted"]
    assert (row.job, row.capsule, row.detail) == (
        "calls",
        None,
        {"kind": "job", "name": "calls", "capsules": 2},
    )
    router = life.store.job("calls").install(PLAIN)
    assert all(said_of(router, decision) == {UNKNOWN} for decision in ids)
    assert life.store.job("calls").capsules() == ["router"]


def test_an_empty_job_is_deleted(life: Reopened) -> None:
    """It may be all that a tenant has; the tenant stays."""
    life.store.tenant("acme").create_job("calls")
    assert life.store.tenant("acme").job("calls").delete().capsules == 0
    for _ in range(2):
        (tenant,) = life.store.tenants()
        assert (tenant.name, tenant.jobs) == ("acme", 0)
        assert life.store.rebuild().equal
        life.restart()
    assert life.store.tenant("acme").create_job("calls").capsules == []


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=15)
def test_a_job_deletion_that_was_killed_is_done_again(kind: str, data: st.DataObject) -> None:
    with reopened(kind) as life:
        job = life.store.job("calls")
        told(job.install(PLAIN), "ann", "OF-GONE")
        job.install(PAIR).decide(context_key="OF-GONE")
        told(life.store.install(PLAIN), "bob", "OF-OTHER")
        with life.killed(data.draw(st.sampled_from([*WRITES, "any"])), data.draw(st.integers(1, 9))):
            life.store.job("calls").delete()
        there = life.store.job("calls").capsules()
        assert there in ([], ["retries", "router"])
        assert life.store.rebuild().equal
        by_call: bool = data.draw(st.booleans())
        if by_call or there:
            with contextlib.suppress(capsa.UnknownJob):
                life.store.job("calls").delete()
        else:
            life.store.upkeep()
        life.restart()
        assert not any(b"OF-GONE" in payload for payload in payloads(life.store))
        assert len(life.router.decisions()) == 4
        check_whole(life.store)
