"""What operators and reports rely on when things change underneath."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import cbor2
import pytest

import capsa
from capsa.cli import main

SPEC = "name: router\noptions: [a, b, c]\nhorizon: {after: 10s}\n"


def test_an_install_never_loses_an_override() -> None:
    """A file that an override does not hold with is refused, and everything stays in force."""
    store = capsa.open()
    router = store.install(SPEC)
    router.update_learning(baseline="c", mode="shadow", rails={"freeze": True})
    before = router.learning
    with pytest.raises(capsa.InstallConflict, match="override"):
        store.install(SPEC.replace("[a, b, c]", "[a, b]"))
    assert router.learning == before
    assert router.decide().mode == "shadow"


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_looking_at_a_report_changes_no_count(looks: int) -> None:
    """Late feedback takes an expired decision back, however often somebody looked before."""
    now = [1.8e9]
    router = capsa.open(clock=lambda: now[0]).install(SPEC)
    first, _ = router.decide(), router.decide()
    now[0] += 20
    for _ in range(looks):
        assert router.report().feedback.expired == 2
    assert router.feedback(first.id, reward=1.0).status == "late"
    feedback = router.report().feedback
    assert (feedback.pending, feedback.expired, feedback.late) == (0, 1, 1)


def test_switching_off_breaks_no_caller() -> None:
    """With mode off a decision has no id, and feedback for it is answered."""
    router = capsa.open().install(SPEC)
    router.update_learning(mode="off")
    decision = router.decide()
    assert (decision.id, decision.option_name) == (None, "a")
    assert router.feedback(decision.id, reward=1.0).status == "unrecorded"
    with pytest.raises(capsa.InvalidField):
        router.feedback(reward=1.0)


def test_an_input_that_changes_while_it_is_read_does_no_harm() -> None:
    """A value's own code may run; the entries are those of the beginning."""

    class Clears:
        def __init__(self, target: dict[str, Any]) -> None:
            self.target = target

        def __index__(self) -> int:
            self.target.clear()
            return 1

    input_: dict[str, Any] = {"first": 1}
    input_["second"] = Clears(input_)
    input_["third"] = 3
    assert capsa.open().install(SPEC).decide(input_).option in (0, 1, 2)


def test_a_busy_context_is_counted_after_many_stray_ones() -> None:
    """Contexts without feedback do not crowd out those that learn."""
    spec = "name: router\noptions: [a, b]\ncontexts: [t]\nmax_contexts: 2\n"
    router = capsa.open(seed=1).install(spec)
    for number in range(10):
        router.decide({"t": f"stray {number}"})
    for _ in range(50):
        decision = router.decide({"t": "real"})
        router.feedback(decision.id, reward=1.0 if decision.option_name == "a" else -1.0)
    [real] = [row for row in router.contexts() if row.context_key == "real"]
    assert (real.decisions, real.rewards) == (49, 50)
    report = router.report()
    assert report.strategies[0].options[0].weight > 0.8
    assert "contexts-uncounted" in [notice.kind for notice in report.notices]


def test_a_report_prints_no_control_characters() -> None:
    """What callers send cannot forge lines of the report."""
    router = capsa.open().install("name: r\noptions: [a, b]\ncontexts: [{name: t, values: [x]}]\n")
    router.decide({"t": "\n! forged \x1b[31m"})
    text = str(router.report())
    assert "\x1b" not in text
    assert "\n! forged" not in text


def test_decisions_are_recorded_under_the_version_that_made_them() -> None:
    """Installs and settings that change meanwhile never leave a record behind the event that outdates it."""
    store = capsa.open()
    router = store.install(SPEC)
    stop = threading.Event()

    def decide() -> None:
        while not stop.is_set():
            router.feedback(router.decide().id, reward=0.5)

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(40):
        store.install(SPEC.replace("[a, b, c]", "[a, b]" if turn % 2 else "[a, b, c, d]"))
        router.update_learning(rails={"freeze": turn % 3 == 0})
    stop.set()
    for thread in threads:
        thread.join()
    version, frozen = 0, False
    native = store._fold.capsules["default", "default", "router"].native
    for event in store.journal.read("default"):
        if event.type == "installed":
            version += 1
        elif event.type == "learning_changed":
            frozen = json.loads(cbor2.loads(event.payload)["overrides"]).get("rails", {}).get("freeze", False)
        elif event.type == "decided":
            assert native.read_decision(event).capsule_version == version
        elif event.type == "outcome_received":
            assert native.read_outcome(event)["status"] == ("frozen" if frozen else "applied")


def test_the_command_line_overwrites_nothing_that_it_reads(tmp_path: Path) -> None:
    """--wat-out on the spec, or on --out, is refused before anything is written."""
    spec = tmp_path / "router.yaml"
    spec.write_text(SPEC)
    out = tmp_path / "x"
    assert main(["author", str(spec), "--wat-out", str(spec)]) == 1
    assert main(["author", str(spec), "--out", str(out), "--wat-out", str(out)]) == 1
    assert spec.read_text() == SPEC
    assert sorted(tmp_path.iterdir()) == [spec]
    assert main(["author", str(spec)]) == 0
    component = tmp_path / "router.wasm"
    assert main(["author", str(component), "--out", str(out), "--wat-out", str(tmp_path / "w")]) == 1
    assert not out.exists()
