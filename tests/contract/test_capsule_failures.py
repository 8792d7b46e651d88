"""A capsule's faults end in errors of their own; nothing changes, and everybody else goes on."""

from __future__ import annotations

import pytest
from tests.reference.doctored import doctored

import capsa
from capsa import _native

SPEC = "name: guest\noptions: [a, b]\nreward: {quality: 1}\nreward_range: [0, 1]\n"

#: Answers one choice of strategy `choice` in key `k`, and the reward 0.5.
GOOD_FRAME = "i32.const 64"
GOOD_REWARD = "i32.const 192"


def guest(frame: str = GOOD_FRAME, reward: str = GOOD_REWARD, more: str = "") -> bytes:
    """A capsule whose `frame` and `reward` have these bodies."""
    core = f"""(module
        (memory (export "memory") 1)
        (global $heap (mut i32) (i32.const 4096))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
            (global.get $heap)
            (global.set $heap (i32.add (global.get $heap) (local.get 3))))
        (func (export "frame") (param i32 i32) (result i32) {frame})
        (func (export "reward") (param i32 i32 i32 i32) (result i32) {reward})
        {more}
        (data (i32.const 16) "choicek")
        (data (i32.const 64) "\\00\\00\\00\\00\\80\\00\\00\\00\\01\\00\\00\\00")
        (data (i32.const 128) "\\10\\00\\00\\00\\06\\00\\00\\00\\16\\00\\00\\00\\01\\00\\00\\00")
        (data (i32.const 192) "\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\e0\\3f"))"""
    return doctored(_native.compile_spec(SPEC), core)


SPIN = "(loop $on (br $on)) unreachable"
NEEDED = """(if (i32.eq (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable)) i32.const 64"""
DIVE = "(call $dive (i32.const 0))"
DIVER = "(func $dive (param i32) (result i32) (i32.add (call $dive (local.get 0)) (i32.const 1)))"

FAULTS: dict[str, tuple[bytes, type[capsa.CapsaError]]] = {
    "a trap": (guest(frame="unreachable"), capsa.CapsuleTrapped),
    "a division by zero": (guest(frame="(i32.div_u (i32.const 1) (i32.const 0))"), capsa.CapsuleTrapped),
    "an access out of bounds": (guest(frame="(i32.load (i32.const -4))"), capsa.CapsuleTrapped),
    "an endless loop": (guest(frame=SPIN), capsa.CapsuleDeadline),
    "more memory than there is": (guest(frame=NEEDED), capsa.CapsuleOutOfMemory),
    "endless recursion": (guest(frame=DIVE, more=DIVER), capsa.CapsuleStack),
    "an answer outside its memory": (guest(frame="i32.const -64"), capsa.CapsuleBadOutput),
    "no choice": (guest(frame="(i32.store (i32.const 72) (i32.const 0)) i32.const 64"), capsa.CapsuleBadOutput),
    "an unknown strategy": (guest(frame="(i32.store8 (i32.const 16) (i32.const 67)) i32.const 64"), capsa.CapsuleBadOutput),
    "a strategy that is no text": (
        guest(frame="(i32.store8 (i32.const 16) (i32.const 255)) i32.const 64"),
        capsa.CapsuleBadOutput,
    ),
    "a refusal": (
        guest(frame="(i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 68) (i32.const 16)) (i32.store (i32.const 72) (i32.const 6)) i32.const 64"),
        capsa.CapsuleRefused,
    ),
}  # fmt: skip

REWARDS: dict[str, tuple[bytes, type[capsa.CapsaError]]] = {
    "a trap": (guest(reward="unreachable"), capsa.CapsuleTrapped),
    "an endless loop": (guest(reward=SPIN), capsa.CapsuleDeadline),
    "NaN": (
        guest(reward="(f64.store (i32.const 200) (f64.const nan)) i32.const 192"),
        capsa.CapsuleBadOutput,
    ),
    "infinity": (
        guest(reward="(f64.store (i32.const 200) (f64.const inf)) i32.const 192"),
        capsa.CapsuleBadOutput,
    ),
    "out of range": (
        guest(reward="(f64.store (i32.const 200) (f64.const 1.1)) i32.const 192"),
        capsa.CapsuleBadOutput,
    ),
}


@pytest.fixture
def neighbour(store: capsa.Store) -> capsa.Capsule:
    return store.job("neighbour").install(SPEC)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_frame(store: capsa.Store, neighbour: capsa.Capsule, fault: str) -> None:
    component, error = FAULTS[fault]
    capsule = store.install(component)
    before = (capsule.state_hash, store.journal.length("default"))
    for _ in range(3):
        with pytest.raises(error) as caught:
            capsule.decide({"x": 1})
        assert type(caught.value) is error
        assert caught.value.detail
        assert "\n" not in caught.value.detail
    # What broke out of its bounds is told, what was refused is not.
    told = 3 if issubclass(error, capsa.CapsuleFailure) else 0
    assert (capsule.state_hash, store.journal.length("default") - told) == before
    assert [row.detail["error"]["code"] for row in capsule.audit() if row.type == "breached"] == told * [
        error.code
    ]
    assert neighbour.decide().option_name in ("a", "b")
    assert capsule.feedback(option="a", reward=1, context_key="k").status == "applied"


@pytest.mark.parametrize("fault", REWARDS)
def test_a_fault_in_reward(store: capsa.Store, neighbour: capsa.Capsule, fault: str) -> None:
    """The decision still awaits its feedback."""
    component, error = REWARDS[fault]
    capsule = store.install(component)
    decision = capsule.decide()
    assert (decision.context_key, decision.strategy) == ("k", "choice")
    before = (capsule.state_hash, store.journal.length("default"))
    with pytest.raises(error) as caught:
        capsule.feedback(decision.id, outcome={"quality": 0.5})
    assert type(caught.value) is error
    assert (capsule.state_hash, store.journal.length("default") - 1) == before
    (breach,) = (row.detail for row in capsule.audit() if row.type == "breached")
    assert (breach["function"], breach["error"]["code"]) == ("reward", error.code)
    assert capsule.feedback(decision.id, reward=0.5).status == "applied"
    assert neighbour.feedback(neighbour.decide().id, outcome={"quality": 1}).reward == 1.0


def test_a_refusal_is_passed_on(store: capsa.Store) -> None:
    component, _ = FAULTS["a refusal"]
    with pytest.raises(capsa.CapsuleRefused) as caught:
        store.install(component).decide()
    assert caught.value.detail == "choice"


def test_the_capsules_own_reward_counts(store: capsa.Store) -> None:
    """The component values an outcome, not the host's formula."""
    capsule = store.install(guest())
    assert capsule.feedback(capsule.decide().id, outcome={"quality": 1.0}).reward == 0.5
