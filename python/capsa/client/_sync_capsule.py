"""A capsule of a server, for threads."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from capsa.client._answers import RemoteDecision
from capsa.client._capsule import AsyncRemoteCapsule, CapsuleSettings, answered, capsule_settings, check_name
from capsa.client._errors import Unreachable
from capsa.client._line import SLOW_S
from capsa.client._standing_in import Default, standing_in
from capsa.client._sync_invoking import RemoteInvoking
from capsa.decisions import (
    AuditRecord,
    ContextMemory,
    DecisionRecord,
    Deleted,
    Erased,
    Feedback,
    FeedbackRecord,
    Report,
    Story,
)
from capsa.decisions._feedback import AS_ANSWERED, NOT_GIVEN, OptionLike, _Unset
from capsa.errors import CapsaError, StoreClosed

if TYPE_CHECKING:
    from capsa.client._sync import Client

T = TypeVar("T")


class RemoteCapsule(RemoteInvoking):
    """A capsule of a server: the methods of `capsa.Capsule`, with ``timeout`` and ``default``.

    Made by `Client.install` and `Client.capsule`. Safe to use from many threads, and after a fork.
    """

    def __init__(self, client: Client, place: tuple[str, str, str], settings: CapsuleSettings) -> None:
        check_name(place)
        self._client = client
        self._place = place
        self._settings = settings

    @property
    def name(self) -> str:
        """The capsule's name."""
        return self._place[2]

    def decide(
        self,
        input: Mapping[str, Any] | None = None,
        *,
        context_key: str | None = None,
        options: Sequence[str | int] | Mapping[str, Sequence[str | int]] | None = None,
        current: OptionLike | None = None,
        subject: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        default: Default | None = None,
    ) -> RemoteDecision:
        """See `capsa.Capsule.decide`.

        Args:
            input: What the capsule looks at.
            context_key: If given it is the key.
            options: Only these are allowed this time.
            current: What the application would do by itself.
            subject: Whom it is about.
            idempotency_key: A call with the same key and arguments gets the first answer.
            timeout: Seconds for all of it, if not the capsule's: looking up the name, connecting, sending, reading.
            default: If not the capsule's: the option that stands in where no decision comes, by strategy where
                there are several. With one, nothing is raised but wrong use of Python.

        Raises:
            CapsaError: As in process, where there is no default.
            Unreachable: No answer came in time, and there is no default.
        """
        settings = self._in_force(timeout, default)
        try:
            return self._run(
                lambda capsule: capsule.decide(
                    input,
                    context_key=context_key,
                    options=options,
                    current=current,
                    subject=subject,
                    idempotency_key=idempotency_key,
                ),
                self._seconds(settings),
                settings,
            )
        except CapsaError as error:
            # Of the client's thread: what the server says is dealt with there.
            if settings.default is None:
                raise
            return standing_in(settings.default, self._place, context_key, error)

    def decide_batch(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        default: Default | None = None,
    ) -> list[RemoteDecision | CapsaError]:
        """See `capsa.Capsule.decide_batch`. With a default it stands in the place of each that has no decision."""
        settings = self._in_force(timeout, default)
        listed = requests if isinstance(requests, str | bytes | Mapping) else list(requests)
        try:
            return self._run(lambda capsule: capsule.decide_batch(listed), self._seconds(settings), settings)
        except CapsaError as error:
            if settings.default is None or not isinstance(listed, list):
                raise
            return [standing_in(settings.default, self._place, None, error) for _ in listed]

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
        timeout: float | None = None,
    ) -> Feedback:
        """See `capsa.Capsule.feedback`.

        Where no answer comes within `timeout` seconds, it waits in the client's queue and is sent again until it
        arrives, and then counts once: status ``queued``; or ``dropped`` where the queue is full. While others wait,
        it waits behind them. What the server refuses then is told to `on_refused`.

        Raises:
            CapsaError: As in process: the server refused it. Never because it does not answer.
        """
        settings = self._in_force(timeout, None)
        told = decision_id if isinstance(decision_id, str) else None
        try:
            return self._run(
                lambda capsule: capsule.feedback(
                    decision_id,
                    outcome=outcome,
                    reward=reward,
                    taken=taken,
                    strategy=strategy,
                    option=option,
                    context_key=context_key,
                    idempotency_key=idempotency_key,
                ),
                self._seconds(settings),
                settings,
                abandon=True,
            )
        except StoreClosed:
            return answered("dropped", told)
        except Unreachable:
            # Of the client's thread, which will come to it.
            return answered("queued", told)

    def feedback_batch(
        self, events: Iterable[Mapping[str, Any]], *, timeout: float | None = None
    ) -> list[Feedback | CapsaError]:
        """See `capsa.Capsule.feedback_batch`. What cannot be sent waits, as with `feedback`.

        Feedback without a decision's id goes one by one: a batch has no keys that would let it count once.
        """
        settings = self._in_force(timeout, None)
        listed = events if isinstance(events, str | bytes | Mapping) else list(events)
        try:
            return self._run(
                lambda capsule: capsule.feedback_batch(listed),
                self._seconds(settings),
                settings,
                abandon=True,
            )
        except (StoreClosed, Unreachable) as error:
            status = "queued" if isinstance(error, Unreachable) else "dropped"
            return [
                answered(status, item.get("decision_id") if isinstance(item, Mapping) else None)
                for item in listed
            ]

    def report(self) -> Report:
        """See `capsa.Capsule.report`."""
        return self._run(lambda capsule: capsule.report())

    def contexts(self, *, after: str | None = None, limit: int = 100) -> list[ContextMemory]:
        """See `capsa.Capsule.contexts`."""
        return self._run(lambda capsule: capsule.contexts(after=after, limit=limit))

    @property
    def learning(self) -> dict[str, Any]:
        """See `capsa.Capsule.learning`."""
        return self._run(lambda capsule: capsule.learning())

    def update_learning(self, *, if_version: int | None = None, **changes: Any) -> dict[str, Any]:
        """See `capsa.Capsule.update_learning`."""
        return self._run(lambda capsule: capsule.update_learning(if_version=if_version, **changes))

    def decisions(self, after: int = 0, limit: int = 100) -> list[DecisionRecord]:
        """See `capsa.Capsule.decisions`."""
        return self._run(lambda capsule: capsule.decisions(after=after, limit=limit))

    def feedback_log(self, after: int = 0, limit: int = 100) -> list[FeedbackRecord]:
        """See `capsa.Capsule.feedback_log`."""
        return self._run(lambda capsule: capsule.feedback_log(after=after, limit=limit))

    def audit(self, after: int = 0, limit: int = 100) -> list[AuditRecord]:
        """See `capsa.Capsule.audit`."""
        return self._run(lambda capsule: capsule.audit(after=after, limit=limit))

    def story(self, decision_id: str) -> Story:
        """See `capsa.Capsule.story`."""
        return self._run(lambda capsule: capsule.story(decision_id))

    def describe(self) -> dict[str, Any]:
        """See `capsa.Capsule.describe`."""
        return self._run(lambda capsule: capsule.describe())

    def delete(self) -> Deleted:
        """See `capsa.Capsule.delete`."""
        return self._run(lambda capsule: capsule.delete(), max(self._client._timeout, SLOW_S))

    def purge_logs(self) -> Erased:
        """See `capsa.Capsule.purge_logs`."""
        return self._run(lambda capsule: capsule.purge_logs(), max(self._client._timeout, SLOW_S))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'/'.join(self._place)} at {self._client._shown}>"

    def _in_force(self, timeout: float | None, default: Default | None) -> CapsuleSettings:
        given = capsule_settings(timeout, default)
        return CapsuleSettings(
            self._settings.timeout if given.timeout is None else given.timeout,
            self._settings.default if given.default is None else given.default,
        )

    def _seconds(self, settings: CapsuleSettings) -> float:
        return self._client._timeout if settings.timeout is None else settings.timeout

    def _run(
        self,
        call: Callable[[AsyncRemoteCapsule], Coroutine[Any, Any, T]],
        timeout: float | None = None,
        settings: CapsuleSettings | None = None,
        *,
        abandon: bool = False,
    ) -> T:
        return self._client._worker.run(
            lambda client: call(AsyncRemoteCapsule(client._line, self._place, settings or self._settings)),
            self._client._timeout if timeout is None else timeout,
            abandon=abandon,
        )
