"""Snapshots: a start goes on from the newest one that holds, and comes to the state of the whole journal."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_replay import BASE, JOINT, VERSIONS, Story
from tests.decisions.past import PAIR, SPEC, given_id, lived_through
from tests.decisions.reopened import KINDS, Reopened, reopened
from tests.reference.clock import Clock

import capsa
from capsa import _native
from capsa.decisions import _snapshots, _upkeep
from capsa.decisions._fold import Fold
from capsa.decisions._snapshots import Sealed
from capsa.journal import Event, Journal

#: Files of every algorithm, each with other versions that may be installed after it.
LIVES: dict[str, list[dict[str, Any]]] = {
    **{
        algorithm: [version | {"algorithm": algorithm} for version in VERSIONS]
        for algorithm in ("thompson", "simple_weighted", "ucb1", "epsilon_greedy")
    },
    "several strategies": JOINT,
    "evicting": [BASE | {"max_contexts": 1}, BASE | {"max_contexts": 2}],
    "defaults": [
        BASE | {"horizon": {"after": "10m", "outcome": {"quality": 0.5, "ms": 50}}},
        BASE | {"horizon": {"after": "1h", "outcome": {"quality": 0.5}}},
    ],
}


def seen(store: capsa.Store, tenant: str) -> dict[str, Any]:
    """Everything of a tenant that is folded."""
    return {
        f"{place[1]}/{place[2]}": (
            state.native.snapshot(),
            state.native.state_hash,
            state.native.counts(store._now_ms()),
            state.changed,
            state.learning_version,
            state.since,
            state.longest_ms,
        )
        for place, state in store._fold.capsules.items()
        if place[0] == tenant
    }


def folded_from_the_beginning(store: capsa.Store, tenant: str) -> str:
    """The state hash of the only capsule, with no snapshot in use."""
    assert store.journal.first(tenant) == 1
    fold = Fold(store._components, store._ids.ring)
    for event in store.journal.read(tenant):
        fold.apply(event)
    [state] = [state for place, state in fold.capsules.items() if place[0] == tenant]
    return state.native.state_hash


def snapshots(journal: Journal) -> list[tuple[Event, Sealed]]:
    """The sealing events of a journal, and what they say."""
    found = [event for event in journal.read("default") if event.type == "snapshot_sealed"]
    return [(event, msgspec.convert(cbor2.loads(event.payload), Sealed)) for event in found]


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sequences of the events that were folded one by one."""
    sequences: list[int] = []
    apply = Fold.apply

    def noted(fold: Fold, event: Event) -> None:
        sequences.append(event.sequence)
        apply(fold, event)

    monkeypatch.setattr(Fold, "apply", noted)
    return sequences


def behind(store: capsa.Store, sequence: int) -> list[int]:
    return list(range(sequence + 1, store.journal.length("default") + 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("versions", LIVES)
@given(data=st.data())
@settings(max_examples=10)
def test_a_start_comes_to_the_state_of_before_and_of_the_whole_journal(
    kind: str, versions: str, data: st.DataObject
) -> None:
    """Over random lives, with snapshots and restarts at random places."""
    with reopened(kind) as life:
        story = Story(life.store, life.clock, LIVES[versions])
        for step in range(data.draw(st.integers(5, 25))):
            story.step(data.draw)
            what = data.draw(
                st.sampled_from(["go on"] * 4 + ["seal", "restart", "seal and restart", "upkeep"])
            )
            if what == "upkeep":
                life.store.upkeep()
            if what in ("seal", "seal and restart"):
                _snapshots.seal(life.store, story.tenant, "events")
            if what.endswith("restart") or step == 0:
                before = seen(life.store, story.tenant)
                story.store = life.restart()
                story.capsule = story.job.capsule("replayed")
                assert seen(life.store, story.tenant) == before
        before, draw = seen(life.store, story.tenant), story.capsule.decide(context_key="a")
        assert life.store.rebuild().equal
        story.store = life.restart()
        assert story.state.native.state_hash == before["default/replayed"][1]
        assert story.state.native.state_hash == folded_from_the_beginning(life.store, story.tenant)
        # What comes next is what would have come.
        again = story.job.capsule("replayed").decide(context_key="a")
        assert (again.probabilities, again.learner_version) == (draw.probabilities, draw.learner_version)


def test_a_start_folds_what_came_after_the_newest_snapshot(life: Reopened, folded: list[int]) -> None:
    """And not what came before, however much there is."""
    life.store.install(SPEC)
    lived_through(life.store, life.clock, 40)
    _snapshots.seal(life.store, "default", "events")
    lived_through(life.store, life.clock, 40)
    sealed = _snapshots.seal(life.store, "default", "events")
    assert sealed is not None
    lived_through(life.store, life.clock, 2)
    state = life.router.state_hash
    folded.clear()
    life.restart()
    assert folded == behind(life.store, sealed.sequence) != []
    assert life.router.state_hash == state


def test_what_a_snapshot_holds_is_not_folded_again(life: Reopened) -> None:
    """One more outcome behind it counts once, and the counts of a report go on."""
    life.store.install(SPEC)
    decision = given_id(life.router.decide({"task": "a"}))
    life.router.feedback(decision, outcome={"quality": 1.0})
    _snapshots.seal(life.store, "default", "events")
    life.restart()
    assert life.router.feedback(decision, outcome={"cost": 0.5}).reward == pytest.approx(0.4)
    life.restart()
    assert life.router.feedback(decision, outcome={"quality": 1.0, "cost": 0.5}).status == "repeated"
    report = life.router.report()
    assert (report.decisions, report.feedback.applied, report.feedback.pending) == (1, 1, 0)
    [context] = life.router.contexts()
    assert (context.decisions, context.rewards) == (1, 1)


# When it is sealed


def sealed_for(store: capsa.Store) -> list[str]:
    return [said.why for _, said in snapshots(store.journal)]


def test_the_state_is_sealed_after_many_events_after_an_hour_and_when_closing(
    life: Reopened, folded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_upkeep, "SNAPSHOT_EVENTS", 60)
    monkeypatch.setattr(_upkeep, "AGED_EVENTS", 20)
    monkeypatch.setattr(_upkeep, "CLOSING_EVENTS", 10)
    life.store.install(SPEC)
    life.restart()
    assert sealed_for(life.store) == []
    lived_through(life.store, life.clock, 12)
    assert life.store.upkeep().snapshots == 0
    life.clock.forward(3600)
    assert life.store.upkeep().snapshots == 1
    assert life.store.upkeep().snapshots == 0
    assert sealed_for(life.store) == ["age"]
    lived_through(life.store, life.clock, 35)
    assert life.store.upkeep().snapshots == 1
    assert sealed_for(life.store) == ["age", "events"]
    life.restart()
    assert sealed_for(life.store) == ["age", "events"]
    lived_through(life.store, life.clock, 8)
    life.restart()
    assert sealed_for(life.store) == ["age", "events", "close"]
    folded.clear()
    life.restart()
    assert folded == []


def test_what_is_sealed_can_be_loaded_and_old_ones_go(
    life: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two newest stay, at every moment; the blobs of the others are dropped."""
    monkeypatch.setattr(_upkeep, "SNAPSHOT_EVENTS", 10)
    life.store.install(SPEC)
    for _ in range(6):
        lived_through(life.store, life.clock, 8)
        assert life.store.upkeep().snapshots == 1
        digests = [said.digest for _, said in snapshots(life.store.journal)]
        for digest in digests[-2:]:
            assert life.store.journal.blob(digest)
    # The first one begins the epoch.
    for digest in digests[1:-2]:
        with pytest.raises(capsa.UnknownBlob):
            life.store.journal.blob(digest)
    assert life.store.rebuild().equal


# One that does not hold


def flip(folder: Path, digest: str) -> None:
    """Changes one bit of a blob of a closed store."""
    with closing(sqlite3.connect(folder / "store.sqlite", isolation_level=None)) as database:
        [[data]] = database.execute("SELECT data FROM blob WHERE digest = ?", (digest,))
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        database.execute("UPDATE blob SET data = ? WHERE digest = ?", (changed, digest))


def drop(folder: Path, digest: str) -> None:
    with closing(sqlite3.connect(folder / "store.sqlite", isolation_level=None)) as database:
        database.execute("DELETE FROM blob WHERE digest = ?", (digest,))


@pytest.mark.parametrize("spoil", [flip, drop])
@pytest.mark.parametrize("which", [[1], [0, 1], [0]], ids=["the newest", "both", "the older"])
def test_a_snapshot_that_was_changed_is_not_used(
    tmp_path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    folded: list[int],
    spoil: Callable[[Path, str], None],
    which: list[int],
) -> None:
    """An older one is, or the journal from its beginning. The store opens, the state is the same, and the log says so."""
    folder = tmp_path / "store"
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        store.install(SPEC)
        sealed = []
        for _ in range(2):
            lived_through(store, clock, 10)
            event = _snapshots.seal(store, "default", "events")
            assert event is not None
            sealed.append(event.sequence)
        lived_through(store, clock, 3)
        before, length = seen(store, "default"), store.journal.length("default")
        store._durable()
        digests = [said.digest for _, said in snapshots(store.journal)]
        assert len(set(digests)) == 2
    for at in which:
        spoil(folder, digests[at])
    used = max((sequence for at, sequence in enumerate(sealed) if at not in which), default=0)
    folded.clear()
    with (
        caplog.at_level(logging.WARNING, "capsa.store"),
        capsa.open(folder, clock=clock, upkeep=False) as store,
    ):
        assert folded == list(range(used + 1, length + 1))
        assert seen(store, "default") == before
        assert store.rebuild().equal
        router = store.capsule("router")
        assert router.feedback(router.decide().id, reward=0.5).status == "applied"
    warned = [text for record in caplog.records if "older snapshot is tried" in (text := record.getMessage())]
    assert len(warned) == (len(which) if spoil is flip and 1 in which else 0)


def test_a_snapshot_of_another_state_is_not_used(
    life: Reopened, folded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Its bytes are what they were, but not what the journal says was sealed."""
    life.store.install(SPEC)
    lived_through(life.store, life.clock, 10)
    older = _snapshots.seal(life.store, "default", "events")
    lived_through(life.store, life.clock, 10)
    newer = _snapshots.seal(life.store, "default", "events")
    assert older is not None
    assert newer is not None
    said_older, said_newer = (cbor2.loads(event.payload) for event in (older, newer))
    assert said_older["states"] != said_newer["states"]
    payload = cbor2.dumps({**said_newer, "digest": said_older["digest"]}, canonical=True)
    forged = life.store.journal.append("default", "snapshot_sealed", life.clock.now_ms, "capsa", "", payload)
    state = life.router.state_hash
    with caplog.at_level(logging.WARNING, "capsa.store"):
        folded.clear()
        life.restart()
    assert life.router.state_hash == state
    [warning] = [record.getMessage() for record in caplog.records if record.name == "capsa.store"]
    assert f"event {forged.sequence}" in warning
    assert "an older snapshot is tried" in warning
    assert folded == [forged.sequence]
    assert life.store.rebuild().equal


def test_a_snapshot_of_another_fold_is_not_used(life: Reopened, caplog: pytest.LogCaptureFixture) -> None:
    """One that an older or newer version made of the events: folded anew."""
    life.store.install(SPEC)
    lived_through(life.store, life.clock, 10)
    sealed = _snapshots.seal(life.store, "default", "events")
    assert sealed is not None
    life.store._durable()
    said = cbor2.loads(sealed.payload)
    blob = cbor2.loads(life.store.journal.blob(said["digest"]))
    kept = blob["capsules"]["default/router"]
    native = cbor2.loads(kept["native"])
    assert native["fold"] == _native.FOLD_VERSION
    kept["native"] = cbor2.dumps(native | {"fold": _native.FOLD_VERSION + 1}, canonical=True)
    other = cbor2.dumps(blob, canonical=True)
    life.store.journal.put_blob(_native.digest(other), other)
    wrong = {**said, "digest": _native.digest(other), "fold": _native.FOLD_VERSION + 1}
    payload = cbor2.dumps(wrong, canonical=True)
    life.store.journal.append("default", "snapshot_sealed", life.clock.now_ms, "capsa", "", payload)
    state = life.router.state_hash
    with caplog.at_level(logging.WARNING, "capsa.store"):
        life.restart()
    assert life.router.state_hash == state
    assert "an older snapshot is tried" in caplog.text


def test_with_nothing_to_fold_from_it_does_not_open(tmp_path: Path, clock: Clock) -> None:
    """It says which events are gone and what helps; with a copy of the snapshot it opens again."""
    folder = tmp_path / "store"
    with capsa.open(folder, clock=clock, upkeep=False) as store:
        store.install(SPEC)
        lived_through(store, clock, 10)
        sealed = _snapshots.seal(store, "default", "events")
        assert sealed is not None
        store._durable()
        assert store.journal.cut("default", sealed.sequence) == sealed.sequence - 1
        state = store.capsule("router").state_hash
        [(_, said)] = snapshots(store.journal)
        kept = store.journal.blob(said.digest)
    drop(folder, said.digest)
    for _ in range(2):
        with pytest.raises(capsa.JournalMismatch) as caught:
            capsa.open(folder, clock=clock)
        assert f"the events of default before {sealed.sequence} were cut" in caught.value.detail
        assert caught.value.remedy == "restore a backup"
    with closing(sqlite3.connect(folder / "store.sqlite", isolation_level=None)) as database:
        database.execute("INSERT INTO blob (digest, data) VALUES (?, ?)", (said.digest, kept))
    with capsa.open(folder, clock=clock) as store:
        assert store.capsule("router").state_hash == state


# Epochs


def test_a_rebuild_compares_from_where_the_epoch_begins(life: Reopened) -> None:
    """After an erasure that is its snapshot: what came before cannot be folded, what comes after is compared."""
    router, pair = life.store.install(SPEC), life.store.install(PAIR)
    lived_through(life.store, life.clock, 8)
    erased = router.decide({"task": "a"}, subject="ann")
    router.feedback(erased.id, reward=1.0)
    assert life.store.rebuild().events == life.store.journal.length("default")
    life.store.erase_subject("ann")
    [(sealed, said)] = snapshots(life.store.journal)
    assert (said.why, said.epoch) == ("erasure", 1)
    for _ in range(2):
        lived_through(life.store, life.clock, 4)
        _snapshots.seal(life.store, "default", "events")
        rebuild = life.store.rebuild()
        assert rebuild.equal
        assert rebuild.events == life.store.journal.length("default") - sealed.sequence
        life.restart()
    router = life.router
    answer = router.feedback(router.decide().id, reward=0.5)
    [outcome] = life.store.journal.read("default", answer.sequence - 1, 1)
    life.store._state(router._place).native.apply(outcome)
    rebuild = life.store.rebuild()
    assert {row.capsule: row.equal for row in rebuild.capsules} == {"router": False, pair.name: True}


def test_a_seal_that_has_rotted_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever bytes stand there now: the state is folded from further back, and the store opens."""
    monkeypatch.setattr(_upkeep, "CLOSING_EVENTS", 1)
    with capsa.open(tmp_path / "store", upkeep=False) as store:
        router = store.install(SPEC)
        router.feedback(given_id(router.decide({"task": "a"})), reward=0.5)
        before, sealed = router.state_hash, store.journal.length("default") + 1
    for rotten in (b"\xff", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", b"", b"\xa0", b"\x01"):
        with closing(sqlite3.connect(tmp_path / "store" / "store.sqlite")) as database, database:
            database.execute("UPDATE event SET payload = ? WHERE id = ?", (rotten, (1 << 40) + sealed))
        monkeypatch.setattr(_upkeep, "CLOSING_EVENTS", 1000)
        with capsa.open(tmp_path / "store", upkeep=False) as store:
            assert store.capsule("router").state_hash == before
            assert store.rebuild().equal
            assert [fault.first for fault in store.verify()] == [sealed]
