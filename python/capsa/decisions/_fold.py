"""The fold: tenants, jobs and capsules as their events make them.

The live store and a rebuild apply events through the same object, so that they cannot differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cbor2

from capsa._native import Capsule as NativeCapsule
from capsa._native import Component, Decision
from capsa.decisions._answers import Feedback
from capsa.decisions._ids import decision_id
from capsa.decisions._ledger import Ledger
from capsa.errors import JournalMismatch
from capsa.journal import Event


class CapsuleState:
    """One capsule: its native state and its ledger.

    Attributes:
        native: The component and the learned state.
        ledger: Its decisions.
        changed: Who changed which setting when, by the setting's dotted name.
        repeated: How many feedbacks said again what was known. Not folded: nothing was recorded.
        learning_version: How often the settings were changed.
        epoch: Changes with every install and every change of settings.
        options: The options of the installed version by strategy.
    """

    def __init__(self, native: NativeCapsule) -> None:
        self.native = native
        self.ledger = Ledger()
        self.changed: dict[str, dict[str, Any]] = {}
        self.repeated = 0
        self.learning_version = 0
        self.epoch = 0
        self.options = self._options()

    def _options(self) -> dict[str, list[str]]:
        definition = json.loads(self.native.definition)
        return {strategy["name"]: strategy["options"] for strategy in definition["strategies"]}

    def installed(self, event: Event, component: Component) -> None:
        """Folds the install of a further version."""
        self.native.apply(event.type, event.time_ms, event.payload, component)
        self.options = self._options()
        self.epoch += 1

    def decided(self, event: Event, decision: Decision) -> None:
        """Folds a decision, decoded."""
        self.native.apply_decided(decision)
        self.ledger.decided(decision, event.time_ms)


class Fold:
    """Everything that the events of a journal make.

    Args:
        load: Gives the component with a digest.
    """

    def __init__(self, load: Callable[[str], Component]) -> None:
        self._load = load
        self.capsules: dict[tuple[str, str, str], CapsuleState] = {}

    def apply(self, event: Event, outcome: dict[str, Any] | None = None) -> None:
        """Folds one event.

        Args:
            event: The event.
            outcome: Its payload, where the live path holds it decoded.

        Raises:
            JournalMismatch: The event does not fit what was folded before.
        """
        if event.type == "created":
            return
        if event.erased:
            # Nothing was learned from a decision by itself; what else was erased has left its mark on the state.
            if event.type == "decided":
                return
            raise JournalMismatch(
                f"event {event.sequence} of {event.stream} ({event.type}) was erased: the state cannot be folded without it",
                remedy="restore a backup; erasing more than decisions needs snapshots, which this version does not have",
            )
        job, _, name = event.path.partition("/")
        place = (event.stream, job, name)
        if event.type == "installed":
            self._installed(place, event)
            return
        state = self.capsules.get(place)
        if state is None:
            raise JournalMismatch(f"{event.type} of a capsule that was never installed: {'/'.join(place)}")
        if event.type == "decided":
            state.decided(event, state.native.read_decision(event.payload))
            return
        state.native.apply(event.type, event.time_ms, event.payload)
        if event.type == "outcome_received":
            if outcome is None:
                self._outcome(state, cbor2.loads(event.payload))
                self._answer(state, event)
            else:
                self._outcome(state, outcome)
        elif event.type == "learning_changed":
            state.learning_version += 1
            state.epoch += 1
            for dotted in cbor2.loads(event.payload)["changed"]:
                state.changed[dotted] = {"by": event.principal, "at_ms": event.time_ms}

    def _installed(self, place: tuple[str, str, str], event: Event) -> None:
        component = self._load(cbor2.loads(event.payload)["digest"])
        state = self.capsules.get(place)
        if state is None:
            tenant, job, _ = place
            self.capsules[place] = CapsuleState(
                NativeCapsule(tenant, job, component, event.time_ms, event.payload)
            )
        else:
            state.installed(event, component)

    @staticmethod
    def _answer(state: CapsuleState, event: Event) -> None:
        """What a repeated post is answered where the first answer is not at hand."""
        outcome = cbor2.loads(event.payload)
        row = state.ledger.get(outcome["id"]) if outcome.get("id") is not None else None
        if row is None:
            return
        metrics = row.metrics or {}
        row.answer = Feedback(
            decision_id=decision_id(outcome["id"]),
            status=outcome["status"],
            reward=outcome.get("reward"),
            parts=state.native.parts(metrics) or {},
            missing=[name for name in state.native.declared_metrics or [] if metrics and name not in metrics],
            context_key=outcome["key"],
            decisions=[],
            learner_version=state.native.learner_version,
            sequence=event.sequence,
        )

    @staticmethod
    def _outcome(state: CapsuleState, outcome: dict[str, Any]) -> None:
        nonce = outcome.get("id")
        # Of a decision whose record was erased there is no row, and no more feedback.
        if nonce is None or state.ledger.get(nonce) is None:
            return
        metrics = outcome["metrics"]
        done = outcome["status"] != "pending"
        state.ledger.received(
            nonce,
            metrics=metrics,
            plain=None if metrics else outcome.get("reward"),
            taken=outcome["taken"] if outcome.get("taken") is not None else outcome["made"],
            done=done,
        )
