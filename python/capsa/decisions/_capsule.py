"""A capsule of a store: decide, feedback, and what there is to read."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from capsa import _native
from capsa.decisions import (
    _batch,
    _erasure,
    _feedback,
    _history,
    _learning,
    _report,
    _retries,
    _tools,
    _upkeep,
)
from capsa.decisions._answers import ContextMemory, Feedback, credited, told_again, unrecorded
from capsa.decisions._arguments import MAX_PAGE, as_dict, check_text, is_page, plain_collection
from capsa.decisions._feedback import AS_ANSWERED, NOT_GIVEN, OptionLike, Recorded, Repeated, _Unset
from capsa.decisions._fold import CapsuleState
from capsa.decisions._guest_log import write_log
from capsa.decisions._ids import subject_hash, unknown_decision
from capsa.decisions._invoking import Invoking
from capsa.decisions._ledger import GRACE_MS
from capsa.errors import CapsaError, InvalidField, shown
from capsa.journal import timestamp

if TYPE_CHECKING:
    from capsa._native import Decision
    from capsa.decisions._report import Report
    from capsa.decisions._store import Store


class Capsule(Invoking):
    """An installed capsule. Safe to use from many threads.

    Made by `Store.install` and `Store.capsule`.
    """

    def __init__(self, store: Store, place: tuple[str, str, str]) -> None:
        self._store = store
        self._place = place

    @property
    def name(self) -> str:
        """The capsule's name."""
        return self._place[2]

    @property
    def version(self) -> int:
        """The host's number of the installed version, from 1."""
        self._store._check_usable()
        tool = self._store._fold.tools.get(self._place)
        return self._state().native.version if tool is None else tool.in_force.version

    @property
    def kind(self) -> str:
        """``decision`` or ``tool``."""
        self._store._check_there(self._place)
        return "tool" if self._place in self._store._fold.tools else "decision"

    def decide(
        self,
        input: Mapping[str, Any] | None = None,
        *,
        context_key: str | None = None,
        options: Sequence[str | int] | Mapping[str, Sequence[str | int]] | None = None,
        current: OptionLike | None = None,
        subject: str | None = None,
        idempotency_key: str | None = None,
    ) -> Decision:
        """Chooses an option for one input.

        Args:
            input: What the capsule looks at: JSON values by name, at most 64 KiB, nested at most 16 deep.
            context_key: 1 to 256 bytes. If given it is the key, and the declared contexts are not looked at.
            options: Only these are allowed this time, by name or number; by strategy where there are several.
            current: What the application would do by itself: answered in shadow. It must be allowed.
            subject: Whom it is about, at most 128 characters: kept as a keyed hash only, so that everything about
                one subject can be erased; see `Store.erase_subject`.
            idempotency_key: 1 to 255 printable ASCII characters: within 10 minutes, a call with the same key and
                arguments gets the first answer. Kept in memory, for the last 8,192 such calls.

        Raises:
            InvalidRequest: What is sent does not fit; nothing was decided.
            IdempotencyConflict: The key was sent with other arguments; nothing was decided.
            CapsuleRefused: The capsule answered with an error of its own.
            CapsuleFailure: The capsule failed; other capsules go on.
            StoreUnwritable: The decision could not be recorded.
        """
        if idempotency_key is None:
            decision = self._decide(input, context_key, options, current, subject)
        else:
            decision = self._decide_once(idempotency_key, input, context_key, options, current, subject)
        if not decision.is_in_id:
            # Its id does not say everything that feedback needs: so its record must be there before.
            self._store._durable()
        return decision

    def decide_batch(self, requests: Iterable[Mapping[str, Any]]) -> list[Decision | CapsaError]:
        """Makes many decisions. One that is refused has its error in its place, the others go on.

        Args:
            requests: At most 1,000 mappings with the arguments of `decide` by name.

        Raises:
            InvalidField: `requests` is no list, or too long; nothing was decided.
            StoreUnwritable: The decisions could not be recorded.
        """
        keys = _batch.DECISION_KEYS
        answers = _batch.in_turn("requests", requests, _batch.MAX_DECISIONS, keys, self._decide)
        if not all(answer.is_in_id for answer in answers if not isinstance(answer, CapsaError)):
            self._store._durable()
        return answers

    def _decide(
        self,
        input: Mapping[str, Any] | None = None,
        context_key: str | None = None,
        options: Sequence[str | int] | Mapping[str, Sequence[str | int]] | None = None,
        current: OptionLike | None = None,
        subject: str | None = None,
    ) -> Decision:
        """As `decide`, recorded but perhaps not yet on disk."""
        store = self._store
        if input is not None and not isinstance(input, dict):
            input = as_dict(input, "/input")
        if options is not None:
            options = plain_collection(options)
        if current is not None and isinstance(current, Mapping):
            current = dict(current)
        about = None if subject is None else subject_hash(store._subject_key, subject)
        while True:
            state = self._state()
            epoch, now_ms = state.epoch, store._now_ms()
            with _tools.breaches(store, self._place, "frame"):
                decision = state.native.decide(
                    store._nonces.take(now_ms),
                    now_ms,
                    input,
                    context_key=context_key,
                    options=options,
                    current=current,
                    subject=about,
                )
            if self._recorded(state, epoch, decision, now_ms):
                return decision

    def _recorded(self, state: CapsuleState, epoch: int, decision: Decision, now_ms: int) -> bool:
        """Records a decision that was just made; false where it is outdated, and is to be made again."""
        if decision.log:
            self._write_log(decision.log)
        payload = decision.payload
        if not payload:
            return True
        store, due_ms = self._store, decision.due_ms
        with store._lock:
            # A record must not follow the event that made it outdated, or took the capsule away.
            if state.epoch != epoch:
                return False
            event = store._append(self._place, "decided", now_ms, payload, due_ms=due_ms)
            state.decided(decision, event.sequence)
            store._ledger.decided(decision.nonce)
            if due_ms is not None:
                store._keep_up()
        return True

    def feedback(
        self,
        decision_id: str | _Unset | None = NOT_GIVEN,
        *,
        outcome: Mapping[str, float | bool] | None = None,
        reward: float | None = None,
        taken: OptionLike | _Unset | None = AS_ANSWERED,
        strategy: str | int | None = None,
        option: str | int | None = None,
        context_key: str | None = None,
        idempotency_key: str | None = None,
    ) -> Feedback:
        """Reports what came of a decision. The same content again changes nothing.

        Args:
            decision_id: The decision's id. ``None``, as decisions have it that were made with mode off, is
                answered ``unrecorded``: such a decision was not recorded, and there is nothing to learn.
            outcome: Metrics by name; they may come in several posts, each metric once.
            reward: One number within ``reward_range`` instead.
            taken: What was really carried out, if not the answered option; ``None`` = nothing of ours.
            strategy: Without an id: the strategy of a choice that was not asked for here.
            option: Without an id: the option that was chosen.
            context_key: Without an id: the context it was chosen in.
            idempotency_key: 1 to 255 printable ASCII characters: for as long as the horizon at least, a call with the
                same key and content counts once. With an id it does so without a key.

        Raises:
            InvalidRequest: What is sent does not fit the definition; nothing has changed.
            IdempotencyConflict: The key was sent with other content; nothing has changed.
            UnknownDecision: No decision of this capsule has this id.
            FeedbackConflict: It contradicts an earlier post; nothing has changed.
            StoreUnwritable: It could not be brought to disk; whether it was is known after the next start.
        """
        post = self._feedback if idempotency_key is None else partial(self._feedback_once, idempotency_key)
        answer = post(
            decision_id,
            outcome=outcome,
            reward=reward,
            taken=taken,
            strategy=strategy,
            option=option,
            context_key=context_key,
        )
        # What is repeated was answered before, but perhaps not yet written.
        self._store._durable()
        return answer

    def feedback_batch(self, events: Iterable[Mapping[str, Any]]) -> list[Feedback | CapsaError]:
        """Reports what came of many decisions, in order. One that is refused has its error in its place.

        Args:
            events: At most 10,000 mappings with the arguments of `feedback` by name.

        Raises:
            InvalidField: `events` is no list, or too long; nothing has changed.
            StoreUnwritable: They could not be brought to disk; which were is known after the next start.
        """
        keys = _batch.FEEDBACK_KEYS
        answers = _batch.in_turn("events", events, _batch.MAX_FEEDBACKS, keys, self._feedback)
        self._store._durable()
        return answers

    def _feedback(
        self,
        decision_id: str | _Unset | None = NOT_GIVEN,
        *,
        outcome: Mapping[str, float | bool] | None = None,
        reward: float | None = None,
        taken: OptionLike | _Unset | None = AS_ANSWERED,
        strategy: str | int | None = None,
        option: str | int | None = None,
        context_key: str | None = None,
        claims: Sequence[bytes] = (),
    ) -> Feedback:
        """As `feedback`, recorded but perhaps not yet on disk, with `claims` that count once beside its own."""
        state = self._state()
        if decision_id is None and strategy is None and option is None and context_key is None:
            return unrecorded(state, self._store._journal.length(self._place[0]))
        if decision_id is None or isinstance(decision_id, _Unset):
            if option is None:
                raise InvalidField(
                    "neither a decision nor an option is named",
                    pointer="/decisionId",
                    remedy="send decisionId, or strategyId, option, reward and contextKey",
                )
            return self._explicit(strategy, option, reward, context_key, outcome, taken, claims)
        if not (strategy is None and option is None and context_key is None):
            raise InvalidField(
                "strategy, option and context_key stand with a decision id",
                pointer="/option",
                remedy="leave them out; say with taken what was carried out",
            )
        store, tenant = self._store, self._place[0]
        while True:
            # First: what is taken away meanwhile is noticed below.
            epoch = state.epoch
            now_ms = store._now_ms()
            about = _feedback.find(store._journal, state, tenant, decision_id, now_ms)
            with store._lock:
                row = store._ledger.row(tenant, about.nonce, state.native)
                # One moment of the row, whole; what changes meanwhile is noticed below.
                seen, posts = copy.copy(row), row.posts
            if seen.erased:
                raise unknown_decision(decision_id)
            # Much later the journal may have forgotten that it brought something already.
            passed_ms = now_ms - about.deadline_ms
            if about.decision.defaults and not seen.done and 0 < passed_ms <= GRACE_MS:
                # What it brings does not depend on whether this post is faster than the sweeper.
                _upkeep.pass_horizon(store, self._place, about)
                state = self._state()
                continue
            with _tools.breaches(store, self._place, "reward"):
                posted = _feedback.by_decision(state, about, seen, now_ms, outcome, reward, taken)
            with store._lock:
                row = store._ledger.row(tenant, about.nonce, state.native)
                if row.erased:
                    raise unknown_decision(decision_id)
                if isinstance(posted, Repeated):
                    state.repeated += 1
                    return told_again(state, row, about.decision, now_ms)
                if (row.posts, state.epoch) != (posts, epoch):
                    # Another post for this decision, or other settings: work it out again.
                    state = self._state()
                    continue
                posted.once.extend(claims)
                answer = self._record_outcome(state, now_ms, about.decision.id, posted)
                if posted.once:
                    row.received(posted.event, answer.sequence)
                    row.answer = answer
                return answer

    def _explicit(
        self,
        strategy: str | int | None,
        option: str | int,
        reward: float | None,
        context_key: str | None,
        outcome: object,
        taken: object,
        claims: Sequence[bytes],
    ) -> Feedback:
        if outcome is not None or taken is not AS_ANSWERED:
            raise InvalidField(
                "outcome and taken need a decision id",
                pointer="/outcome" if outcome is not None else "/taken",
                remedy="send a reward, or the id of the decision",
            )
        with self._store._lock:
            state = self._state()
            posted = _feedback.explicit(state, strategy, option, reward, context_key)
            posted.once.extend(claims)
            return self._record_outcome(state, self._store._now_ms(), None, posted)

    def _decide_once(self, idempotency_key: str, *body: Any) -> Decision:
        """As `_decide`, or the first answer to a call with this key."""
        return _retries.decide(self, idempotency_key, body)

    def _feedback_once(
        self, idempotency_key: str, decision_id: str | _Unset | None = NOT_GIVEN, **body: Any
    ) -> Feedback:
        """As `_feedback`, unless a call with this key was recorded."""
        return _retries.feedback(self, idempotency_key, {"decision_id": decision_id} | body)

    def _record_outcome(
        self, state: CapsuleState, now_ms: int, decision_id: str | None, posted: Recorded
    ) -> Feedback:
        """Writes the event and makes the answer. The store's lock is held."""
        native, fields = state.native, posted.event
        key = fields["key"]
        if posted.log:
            self._write_log(posted.log)
        before = native.weights(key, now_ms)
        payload = native.encode_outcome(fields)
        event = self._store._append(self._place, "outcome_received", now_ms, payload, once=posted.once)
        native.apply(event)
        after = native.weights(key, now_ms) if fields["status"] == "applied" else before
        return Feedback(
            decision_id=decision_id,
            status=fields["status"],
            reward=fields["reward"],
            parts=posted.parts,
            missing=posted.missing,
            context_key=key,
            decisions=credited(state, fields["made"], before, after),
            learner_version=native.learner_version,
            sequence=event.sequence,
        )

    def report(self) -> Report:
        """What is chosen where, how sure, at what reward."""
        state, now_ms = self._state(), self._store._now_ms()
        with self._store._lock:
            folded = _report.folded(state, self._store._journal.length(self._place[0]), now_ms)
        return _report.build(*self._place, state, folded, now_ms)

    def contexts(self, *, after: str | None = None, limit: int = 100) -> list[ContextMemory]:
        """What each context has learned, in the order of their keys, from after a key.

        Args:
            after: The last key of the page before.
            limit: Contexts in a page, 1 to 1000.
        """
        if not is_page(limit):
            raise InvalidField(
                "limit is out of range",
                pointer="/limit",
                value=shown(limit),
                remedy=f"use 1 to {MAX_PAGE}",
            )
        state = self._state()
        if after is not None:
            check_text(after, "/after")
        rows = state.native.contexts(self._store._now_ms(), after=after, limit=limit)
        return [
            ContextMemory(
                context_key=row["context_key"],
                weights=row["weights"],
                names=state.options,
                decisions=row["decisions"],
                rewards=row["rewards"],
                updated_at=timestamp(row["updated_at_ms"]),
            )
            for row in rows
        ]

    @property
    def learning(self) -> dict[str, Any]:
        """The learning document: what is in force, and what of it is not the file's value."""
        return _learning.document(self._state())

    def update_learning(self, *, if_version: int | None = None, **changes: Any) -> dict[str, Any]:
        """Changes settings at once, or not at all. A missing key stays; ``None`` gives the file's value back.

        Args:
            if_version: The ``version`` of the document that the change was made from.
            changes: ``algorithm``, ``mode``, ``baseline``, ``rails``, ``decay``, ``horizon``, ``max_contexts``.

        Raises:
            InvalidRequest: A setting that does not exist or a value that does not hold.
            StaleDocument: The document has another version by now.
        """
        return self._change_learning(changes, if_version)

    def _change_learning(self, changes: Mapping[str, Any], if_version: int | None) -> dict[str, Any]:
        """As `update_learning`, of names that somebody sent: they may be those of its own arguments."""
        with self._store._lock:
            state = self._state()
            if if_version is not None:
                _learning.check_version(state, if_version)
            overrides, changed = _learning.merged(state.native, changes)
            if changed:
                payload = _native.encode_learning_changed(self.name, changed, overrides)
                self._store._record(self._place, "learning_changed", self._store._now_ms(), payload)
            document = _learning.document(state)
        if changed:
            self._store._durable()
        return document

    def delete(self) -> _erasure.Deleted:
        """Removes the capsule, what it learned, and the content of its decisions and feedback. It cannot be taken back.

        Who installed and changed it stays, and that it was deleted, by whom and when. Installed again under its name
        it starts from nothing, at version 1. Should the process end meanwhile, `Job.delete_capsule` goes on with it,
        and so does the store's upkeep. It reads the tenant's journal: its time grows with the events.

        Raises:
            UnknownCapsule: It was deleted already, or its job or tenant is gone.
            HostFault: What is left is too large to be sealed, so that no content could be removed yet.
        """
        return _erasure.delete(self._store, self._place)

    def purge_logs(self) -> _erasure.Erased:
        """Removes the content of all decisions and feedback up to now, for which feedback is then unknown.

        What was learned stays learned, and so does who changed what. It cannot be taken back. Should the process end
        meanwhile, the store's upkeep goes on with it.

        Raises:
            UnknownCapsule: It was deleted.
            HostFault: The state is too large to be sealed, so that no content could be removed yet.
        """
        return _erasure.purge_logs(self._store, self._place)

    @property
    def state_hash(self) -> str:
        """The digest of what was learned: equal states have equal digests on every machine."""
        return self._state().native.state_hash

    def __repr__(self) -> str:
        return f"<Capsule {'/'.join(self._place)} v{self.version}>"

    def _state(self) -> CapsuleState:
        return self._store._state(self._place)

    def _write_log(self, lines: list[tuple[str, str]]) -> None:
        write_log(self._place, lines)

    def decisions(self, after: int = 0, limit: int = 100) -> list[_history.DecisionRecord]:
        """What was decided, in the order of the journal. What was erased is not in it.

        Args:
            after: The `sequence` of the last row of the page before.
            limit: Rows in a page, 1 to 1000.
        """
        return _history.decisions(self._store, self._place, after, limit)

    def feedback_log(self, after: int = 0, limit: int = 100) -> list[_history.FeedbackRecord]:
        """Every recorded post of feedback, as `decisions`."""
        return _history.feedback_log(self._store, self._place, after, limit)

    def audit(self, after: int = 0, limit: int = 100) -> list[_history.AuditRecord]:
        """What people and gates changed of this capsule, as `decisions`."""
        return _history.capsule_audit(self._store, self._place, after, limit)

    def describe(self) -> dict[str, Any]:
        """What is installed, as JSON spells it: kind, version, digest and the definition with every default filled in.

        Of a tool its effect too, and the interfaces that it imports.
        """
        self._store._check_there(self._place)
        tenant, job, name = self._place
        where = {"tenant": tenant, "job": job, "capsule": name, "kind": self.kind}
        if self._place in self._store._fold.tools:
            return where | _tools.described(self._store, self._place)
        native = self._state().native
        return where | {
            "capsuleVersion": native.version,
            "digest": native.component_digest,
            "definition": json.loads(native.definition),
        }

    def answer(self, decision: Decision, *, full: bool = False) -> bytes:
        """A decision as JSON, with the weights of its context before any mask; see `Decision.answer`."""
        return decision.answer(self._state().native, self._store._now_ms(), full=full)

    def story(self, decision_id: str) -> _history.Story:
        """Everything about one decision: what was decided, what was posted, what was learned.

        Long after its horizon it reads the journal from the decision on for late feedback, which takes its time.

        Raises:
            UnknownDecision: No decision of this capsule has this id, or it is forgotten.
        """
        return _history.story(self._store, self._place, decision_id)

    def replay(self, decision_id: str) -> _history.Replay:
        """Folds the journal up to a decision's learner version, decides again, and compares to the last bit.

        Raises:
            UnknownDecision: No decision of this capsule has this id.
        """
        return _history.replay(self._store, self._place, decision_id)
