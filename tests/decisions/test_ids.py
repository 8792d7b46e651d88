"""Decision ids: opaque, short, good for one capsule only, and enough for feedback after any crash."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.decisions.past import PAIR, SPEC, given_id
from tests.decisions.reopened import KINDS, UNKNOWN, Reopened, reopened, said_of
from tests.reference.clock import Clock

import capsa
from capsa.decisions._async import AsyncCapsule, _Disk
from capsa.decisions._fair import FairThreads

ALPHABET = string.ascii_letters + string.digits + "-_"
#: Number of the key, time and random part of the nonce: in an id they are not hidden.
CLEAR_BYTES = 2 + 6 + 10
DEFAULTS = SPEC.replace("{after: 1h}", "{after: 1h, outcome: {quality: 0, cost: 1}}")
#: So many that an id holds their options and a short key only.
MANY = "name: router\nhorizon: {after: 1h}\nstrategies:\n" + "".join(
    f"  strategy{number}: {{options: [on, off]}}\n" for number in range(12)
)
LONG = "k" * 256
#: What is decided, and whether its id says all that feedback needs.
CASES: dict[str, tuple[str, str, bool]] = {
    "a short key": (SPEC, "legal|enterprise", True),
    "a long key": (SPEC, LONG, False),
    "many strategies": (MANY, "a key of moderate length: " + "k" * 70, False),
    "a horizon that brings something": (DEFAULTS, "a", False),
}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
#: 1 to 256 bytes.
keys = st.one_of(texts, st.integers(1, 256).map(lambda length: "k" * length)).filter(
    lambda key: len(key.encode()) <= 256
)


def sealed_bytes(decision_id: str) -> bytes:
    """What stands in an id."""
    text = decision_id.removeprefix("dec_")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# What an id looks like


@pytest.mark.parametrize("spec", [SPEC, PAIR, MANY, DEFAULTS], ids=["one", "two", "many", "defaults"])
@given(key=keys)
def test_an_id_is_short_and_safe_in_any_text(spec: str, key: str) -> None:
    """At most 255 characters that need no escape in a URL, a header or a name; and it leads to its decision."""
    with capsa.open(seed=7, clock=Clock()) as store:
        capsule = store.install(spec)
        decision = given_id(capsule.decide(context_key=key))
        assert re.fullmatch("dec_[A-Za-z0-9_-]+", decision)
        assert len(decision) <= 255
        assert capsule.feedback(decision, reward=0.5).context_key == key


@given(key=st.text(string.ascii_lowercase + "|", min_size=1, max_size=28))
def test_the_id_of_an_ordinary_key_has_about_100_characters(key: str) -> None:
    """Such as legal|enterprise|500-2000|no."""
    with capsa.open(seed=7) as store:
        assert len(given_id(store.install(SPEC).decide(context_key=key))) <= 120


@given(
    pair=st.integers(4, 80).flatmap(
        lambda size: st.tuples(
            st.binary(min_size=size, max_size=size), st.binary(min_size=size, max_size=size)
        )
    )
)
def test_an_id_shows_nothing_of_the_decision(pair: tuple[bytes, bytes]) -> None:
    """Those of two decisions that differ in their key alone have no more in common than time and the key's number."""
    with capsa.open(seed=7, clock=Clock()) as store:
        capsule = store.install(SPEC)
        shown = []
        for part in pair:
            key = part.hex()[:80]
            seen = sealed_bytes(given_id(capsule.decide(context_key=key, options=["dear"])))
            assert not any(key[at : at + 4].encode() in seen for at in range(len(key) - 3))
            assert b"dear" not in seen
            shown.append(seen)
        one, other = shown
        assert one[:8] == other[:8]
        assert len(one) == len(other)
        pieces = {one[at : at + 4] for at in range(8, len(one) - 3)}
        assert pieces.isdisjoint(other[at : at + 4] for at in range(8, len(other) - 3))
        # What is sealed does not even repeat where the same is sealed again.
        again = sealed_bytes(given_id(capsule.decide(context_key=key, options=["dear"])))
        assert pieces.isdisjoint(again[at : at + 4] for at in range(8, len(again) - 3))


# What does not open


@pytest.fixture
def router(store: capsa.Store) -> capsa.Capsule:
    return store.install(SPEC)


def test_every_changed_character_makes_an_id_unknown(store: capsa.Store, router: capsa.Capsule) -> None:
    """Each in turn, replaced by each other one; then cut, doubled, swapped, or with something around it."""
    decision = given_id(router.decide({"task": "a"}))
    place = store._state(router._place).native
    assert place.open_id(decision) is not None
    for at in range(len(decision)):
        for char in ALPHABET:
            changed = decision[:at] + char + decision[at + 1 :]
            assert changed == decision or place.open_id(changed) is None, (at, char)
    changed_ones = {
        *(decision[:at] for at in range(len(decision))),
        *(decision[at:] for at in range(1, len(decision))),
        *(decision[:at] + decision[at + 1 :] for at in range(len(decision))),
        *(decision[:at] + decision[at] + decision[at:] for at in range(len(decision))),
        *(decision[:at] + decision[at].swapcase() + decision[at + 1 :] for at in range(len(decision))),
        *(decision[:at] + decision[at + 1] + decision[at] + decision[at + 2 :] for at in range(len(decision) - 1)),
        *(decision + tail for tail in ("=", "==", " ", "\n", "\0", "A", "ä")),
        *(head + decision for head in (" ", "dec_", "\ufeff")),
        decision * 2,
        decision * 10_000,
        decision.upper(),
        decision.replace("dec_", "Dec_"),
        decision.replace("_", "\uff3f"),
        "",
        "dec_",
        "\ud800",
    } - {decision}  # fmt: skip
    for changed in sorted(changed_ones, key=ascii):
        assert said_of(router, changed) == {UNKNOWN}, changed
    for other in (5, True, b"dec_", [], {}, object()):
        assert said_of(router, other) == {UNKNOWN}
    assert router.feedback(decision, reward=0.5).status == "applied"


@pytest.mark.parametrize("case", CASES)
def test_an_id_is_good_for_its_capsule_only(clock: Clock, case: str) -> None:
    """Not for one of the same bytes in another job, tenant or store, nor for another capsule beside it."""
    spec, key, _ = CASES[case]
    with capsa.open(clock=clock) as store, capsa.open(clock=clock) as elsewhere:
        capsules = [
            store.install(spec),
            store.install(spec.replace("name: router", "name: router2")),
            store.job("other").install(spec),
            store.tenant("acme").job("default").install(spec),
            elsewhere.install(spec),
        ]
        # Each at the same place in its stream, as far as they have one of their own.
        ids = [given_id(capsule.decide(context_key=key)) for capsule in capsules]
        for of, capsule in enumerate(capsules):
            for at, decision in enumerate(ids):
                if at != of:
                    assert said_of(capsule, decision) == {UNKNOWN}
        for capsule, decision in zip(capsules, ids, strict=True):
            assert capsule.feedback(decision, reward=0.5).status == "applied"


@pytest.mark.parametrize("case", CASES)
def test_ids_of_what_was_taken_away_are_as_unknown_as_any(life: Reopened, case: str) -> None:
    """Erased, or of the tenant that was purged and set up again: at once, after a restart, and with time."""
    spec, key, _ = CASES[case]
    router = life.store.install(spec)
    erased = given_id(router.decide(context_key=key, subject="ann"))
    kept = given_id(router.decide(context_key=key))
    router.feedback(erased, reward=0.5)
    life.store.erase_subject("ann")
    guest = life.store.tenant("guest").job("default").install(spec)
    purged = [given_id(guest.decide(context_key=key)) for _ in range(12)]
    life.store.purge("guest")
    # In a stream that is shorter than it was, too.
    life.store.tenant("guest").job("default").install(spec)
    for seconds in (0, 3601, 86_400 * 3):
        life.clock.forward(seconds)
        for _ in range(2):
            guest = life.store.tenant("guest").job("default").capsule("router")
            assert said_of(life.router, erased) == {UNKNOWN}
            assert all(said_of(guest, decision) == {UNKNOWN} for decision in purged)
            life.store.upkeep()
            life.restart()
    assert life.router.feedback(kept, reward=0.5).status == "late"


def test_a_copy_without_keys_opens_no_id_that_was_given_here(tmp_path: Path) -> None:
    clock = Clock()
    with capsa.open(tmp_path / "store", clock=clock) as store:
        router = store.install(SPEC)
        decision = given_id(router.decide({"task": "a"}))
        store.backup(tmp_path / "with", keys=True)
        store.backup(tmp_path / "without")
        store.rotate_keys()
        # What is decided in the same millisecond has the older key, which the copy has, too.
        clock.forward(0.001)
        younger = given_id(router.decide({"task": "a"}))
    for copy, known in (("with", "applied"), ("without", None)):
        # Upkeep would append events of its own.
        with capsa.open(tmp_path / copy, upkeep=False, clock=clock) as store:
            router = store.capsule("router")
            assert said_of(router, younger) == {UNKNOWN}
            if known is None:
                assert said_of(router, decision) == {UNKNOWN}
                [row] = router.decisions()
                assert row.decision_id != decision
                assert router.feedback(row.decision_id, reward=0.5).status == "applied"
            else:
                assert router.feedback(decision, reward=0.5).status == known


# One decision, one id


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_view_shows_the_id_that_was_given(kind: str, data: st.DataObject) -> None:
    """After restarts and changes of the key, too."""
    with reopened(kind) as life:
        life.store.install(data.draw(st.sampled_from([SPEC, DEFAULTS])))
        given_ids = []
        for _ in range(data.draw(st.integers(1, 8))):
            match data.draw(st.sampled_from(["decide", "decide", "decide", "time", "rotate", "restart"])):
                case "decide":
                    key = data.draw(st.sampled_from(["a", LONG]))
                    given_ids.append(given_id(life.router.decide(context_key=key)))
                case "time":
                    life.clock.forward(0.001)
                case "rotate":
                    life.store.rotate_keys()
                case _:
                    life.restart()
        router = life.router
        assert [row.decision_id for row in router.decisions()] == given_ids
        answers = [router.feedback(decision, reward=0.5) for decision in given_ids]
        assert [answer.decision_id for answer in answers] == given_ids
        life.restart()
        router = life.router
        assert [row.decision_id for row in router.decisions()] == given_ids
        assert [row.decision_id for row in router.feedback_log()] == given_ids
        for decision in given_ids:
            assert router.feedback(decision, reward=0.5).decision_id == decision
            story = router.story(decision)
            assert story.decision is not None
            assert story.decision.decision_id == decision
            assert [post.decision_id for post in story.posts] == [decision]
            assert (router.replay(decision).decision_id, router.replay(decision).equal) == (decision, True)


def test_an_export_has_the_ids_that_were_given(life: Reopened, tmp_path: Path) -> None:
    life.store.install(SPEC)
    decisions = []
    for key in ("a", LONG):
        decisions.append(given_id(life.router.decide(context_key=key)))
        life.router.feedback(decisions[-1], reward=0.5)
        life.clock.forward(1)
        life.store.rotate_keys()
    life.restart().export(tmp_path / "readable")
    folder = tmp_path / "readable/tenants/default/jobs/default/capsules/router"
    for name in ("decision.jsonl", "feedback.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        assert [row["decisionId"] for row in rows] == decisions


def test_a_new_key_seals_what_comes_and_the_old_ones_still_open(life: Reopened) -> None:
    """The number of the key stands in front, in clear."""
    life.store.install(SPEC)
    decisions = []
    for number in range(4):
        life.clock.forward(1)
        decision = given_id(life.router.decide({"task": "a"}))
        assert int.from_bytes(sealed_bytes(decision)[:2], "big") == number
        decisions.append(decision)
        assert life.store.rotate_keys() == number + 1
        if number % 2:
            life.restart()
    for decision in decisions:
        assert life.router.feedback(decision, reward=0.5).status == "applied"


# On disk before it is answered, where the id alone is not enough


def decided(capsule: capsa.Capsule, key: str, how: str) -> capsa.Decision:
    if how == "sync":
        return capsule.decide(context_key=key)
    return asyncio.run(AsyncCapsule(capsule, _Disk(capsule._store), FairThreads()).decide(context_key=key))


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("case", CASES)
def test_power_fails_right_after_an_answer(case: str, how: str) -> None:
    """The feedback counts in any case; the record is there where the id does not hold all."""
    spec, key, in_id = CASES[case]
    with reopened("disk") as life:
        life.store.install(spec)
        life.mark()
        before = life.store.journal.length("default")
        decision = decided(life.router, key, how)
        assert decision.is_in_id == in_id
        assert life.store.journal.durable("default") == before + (not in_id)
        life.crash()
        router = life.router
        assert life.store.journal.length("default") == before + (not in_id)
        story = router.story(given_id(decision))
        assert (story.decision is None) == in_id
        assert bool(story.notes) == in_id
        answer = router.feedback(decision.id, reward=0.5)
        assert (answer.status, answer.context_key, answer.decision_id) == ("applied", key, decision.id)
        assert {of.strategy: of.option_name for of in answer.decisions} == decision.choices
        [row] = router.feedback_log()
        assert (row.decision_id, row.credited) == (None if in_id else decision.id, decision.choices)
        story = router.story(given_id(decision))
        assert (story.status, story.reward) == ("applied", 0.5)
        assert router.feedback(decision.id, reward=0.5).status == "repeated"
        assert life.store.rebuild().equal
        assert life.store.verify() == []


def test_a_lost_decision_and_the_one_in_its_place_are_two(life: Reopened) -> None:
    """Both have their feedback and their story; the lost one says what it is."""
    life.store.install(SPEC)
    life.mark()
    lost = life.router.decide({"task": "lost"})
    life.crash()
    found = life.router.decide({"task": "found"})
    assert found.sequence == lost.sequence
    router = life.router
    assert router.feedback(lost.id, reward=-0.5).context_key == "lost"
    assert router.feedback(found.id, reward=0.5).context_key == "found"
    for _ in range(2):
        story = life.router.story(given_id(lost))
        assert story.decision is None
        assert story.notes[0].startswith("decision not recorded")
        assert (story.status, story.reward, len(story.posts)) == ("applied", -0.5, 1)
        assert life.router.replay(given_id(lost)).equal is None
        story = life.router.story(given_id(found))
        assert story.decision is not None
        assert (story.decision.decision_id, story.status, story.reward) == (found.id, "applied", 0.5)
        assert story.notes == []
        assert life.router.feedback(lost.id, reward=-0.5).status == "repeated"
        assert life.router.report().feedback.applied == 2
        life.restart()


CHILD = """\
import asyncio, os, signal, sys
import capsa

folder, how, spec, key = sys.argv[1:]

async def story():
    async with capsa.AsyncStore(folder) as store:
        router = await store.install(spec)
        end((await router.decide(context_key=key)).id)

def end(decision):
    os.write(1, decision.encode())
    os.kill(os.getpid(), signal.SIGKILL)

if how == "async":
    asyncio.run(story())
end(capsa.open(folder).install(spec).decide(context_key=key).id)
"""


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("case", CASES)
def test_a_process_that_is_killed_right_after_an_answer_loses_no_feedback(
    tmp_path: Path, case: str, how: str
) -> None:
    spec, key, in_id = CASES[case]
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "store"), how, spec, key],
        check=False,
        capture_output=True,
    )
    assert child.returncode == -9, child.stderr.decode()
    decision = child.stdout.decode()
    with capsa.open(tmp_path / "store") as store:
        router = store.capsule("router")
        if not in_id:
            assert [row.decision_id for row in router.decisions()] == [decision]
        assert router.feedback(decision, reward=0.5).status == "applied"
    with capsa.open(tmp_path / "store") as store:
        router = store.capsule("router")
        assert router.feedback(decision, reward=0.5).status == "repeated"
        assert router.report().feedback.applied == 1


def test_a_decision_that_its_id_tells_waits_for_no_disk(
    life: Reopened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait before they are answered, and not after."""
    waits: list[int] = []
    life.store.install(SPEC)
    flush: Any = life.store.journal.flush

    def counted() -> None:
        waits.append(life.store.journal.length("default"))
        flush()

    monkeypatch.setattr(life.store.journal, "flush", counted)
    life.router.decide(context_key="a")
    assert waits == []
    life.router.decide(context_key=LONG)
    assert waits == [life.store.journal.length("default")]
