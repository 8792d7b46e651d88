"""A capsule of a server, for asyncio: decide, feedback, and what there is to read."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from capsa.client import _answers
from capsa.client._answers import RemoteDecision
from capsa.client._errors import Unreachable, code_of, is_problem, may_pass
from capsa.client._invoking import AsyncRemoteInvoking
from capsa.client._line import SLOW_S, Line, idempotent, seconds
from capsa.client._queue import Entry
from capsa.client._requests import (
    checked_key,
    checked_text,
    decide_body,
    document_body,
    feedback_body,
    page_query,
    segment,
)
from capsa.client._standing_in import Default, checked_default, standing_in
from capsa.client._transport import ANSWER_BYTES, Reply
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
from capsa.decisions._batch import DECISION_KEYS, FEEDBACK_KEYS, MAX_DECISIONS, MAX_FEEDBACKS, in_turn
from capsa.decisions._feedback import AS_ANSWERED, NOT_GIVEN, OptionLike, _Unset
from capsa.decisions._history._views import check_page
from capsa.errors import CapsaError, InvalidField, StoreClosed, UnknownCapsule, shown

#: Most bytes of one request of a batch: half of what the server takes.
_BATCH_BYTES: Final = 4 * 1024 * 1024

T = TypeVar("T", bound=msgspec.Struct)


class CapsuleSettings(msgspec.Struct, frozen=True):
    """What calls of a capsule take where they do not say otherwise.

    Attributes:
        timeout: Seconds for `decide` and `feedback`; ``None``: as the client.
        default: The options that stand in where no decision comes, by strategy; ``None``: it raises.
    """

    timeout: float | None = None
    default: dict[str, str] | None = None


def capsule_settings(timeout: float | None, default: Default | None) -> CapsuleSettings:
    """Checked settings.

    Raises:
        TypeError: One has a wrong type.
        ValueError: One cannot be.
    """
    return CapsuleSettings(None if timeout is None else seconds(timeout), checked_default(default))


def check_name(place: tuple[str, str, str]) -> None:
    """Lets the names of a capsule's place pass.

    Raises:
        UnknownCapsule: No capsule can have this name.
    """
    tenant, job = place[:2]
    name: object = place[2]
    if not isinstance(name, str) or not name or any("\ud800" <= char <= "\udfff" for char in name):
        said = shown(ascii(name))
        raise UnknownCapsule(f"no capsule {said} in {tenant}/{job}", value=said, remedy="install it first")


class AsyncRemoteCapsule(AsyncRemoteInvoking):
    """A capsule of a server, for asyncio: the methods of `capsa.AsyncCapsule`, with ``timeout`` and ``default``.

    Made by `AsyncClient.install` and `AsyncClient.capsule`.
    """

    def __init__(self, line: Line, place: tuple[str, str, str], settings: CapsuleSettings) -> None:
        check_name(place)
        self._line = line
        self._place = place
        self._settings = settings
        tenant, job, name = map(segment, place)
        self._path = f"/tenants/{tenant}/jobs/{job}/capsules/{name}"

    @property
    def name(self) -> str:
        """The capsule's name."""
        return self._place[2]

    async def decide(
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
        fallback, within = self._in_force(timeout, default)
        try:
            headers = None if idempotency_key is None else idempotent(checked_key(idempotency_key))
            body = decide_body(input, context_key, options, current, subject)
            reply = await self._line.ask(
                "POST", f"{self._path}/decide", body, timeout=within, headers=headers, most=ANSWER_BYTES
            )
            return _answers.decision(reply)
        except CapsaError as error:
            return self._stands_in(fallback, context_key, error)

    async def decide_batch(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
        default: Default | None = None,
    ) -> list[RemoteDecision | CapsaError]:
        """See `capsa.Capsule.decide_batch`. With a default it stands in the place of each that has no decision."""
        fallback, within = self._in_force(timeout, default)
        deadline = time.monotonic() + within
        listed = list(requests) if _is_list(requests) else requests
        answers: list[RemoteDecision | CapsaError]
        try:
            bodies = in_turn("requests", listed, MAX_DECISIONS, DECISION_KEYS, decide_body)
            answers = await _in_batches(bodies, self._decide_some(deadline))
        except CapsaError as error:
            if fallback is None or not isinstance(listed, list):
                raise
            answers = [error] * len(listed)
        if fallback is None:
            return answers
        return [
            self._stands_in(fallback, _context_key(item), answer)
            if isinstance(answer, CapsaError)
            else answer
            for item, answer in zip(listed, answers, strict=True)
        ]

    async def feedback(
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
        within = self._in_force(timeout, None)[1]
        explicit = not (strategy is None and option is None and context_key is None)
        if decision_id is None and not explicit:
            return answered("unrecorded", None)
        key = None if idempotency_key is None else checked_key(idempotency_key)
        body = feedback_body(decision_id, outcome, reward, taken, strategy, option, context_key)
        if key is None and not isinstance(decision_id, str):
            key = secrets.token_hex(16)
        return await self._post(Entry(self._path, body, key), decision_id, within)

    async def feedback_batch(
        self, events: Iterable[Mapping[str, Any]], *, timeout: float | None = None
    ) -> list[Feedback | CapsaError]:
        """See `capsa.Capsule.feedback_batch`. What cannot be sent waits, as with `feedback`.

        Feedback without a decision's id goes one by one: a batch has no keys that would let it count once.
        """
        deadline = time.monotonic() + self._in_force(timeout, None)[1]
        bodies = in_turn("events", events, MAX_FEEDBACKS, FEEDBACK_KEYS, _entry_of(self._path))
        answers: list[Feedback | CapsaError] = []
        for run in _runs(bodies):
            first = run[0]
            if isinstance(first, CapsaError):
                answers.append(first)
            elif first is None:
                answers.append(answered("unrecorded", None))
            elif first.key is not None:
                answers.append(await self._post_one_of_many(first, deadline))
            else:
                answers.extend(
                    await self._post_some([entry for entry in run if isinstance(entry, Entry)], deadline)
                )
        return answers

    async def report(self) -> Report:
        """See `capsa.Capsule.report`."""
        return _answers.report_of(await self._line.read(f"{self._path}/report"))

    async def contexts(self, *, after: str | None = None, limit: int = 100) -> list[ContextMemory]:
        """See `capsa.Capsule.contexts`."""
        check_page(0, limit)
        query = f"limit={limit}"
        if after is not None:
            query += f"&after={quote(checked_text(after, '/after'), safe='')}"
        return _answers.contexts_of(await self._line.read(f"{self._path}/contexts?{query}"))

    async def learning(self) -> dict[str, Any]:
        """See `capsa.Capsule.learning`."""
        return _answers.learning_of(await self._line.read(f"{self._path}/learning"))

    async def update_learning(self, *, if_version: int | None = None, **changes: Any) -> dict[str, Any]:
        """See `capsa.Capsule.update_learning`."""
        headers: dict[str, str] | None = None
        if if_version is not None:
            if isinstance(if_version, bool) or not isinstance(if_version, int):
                raise InvalidField(
                    "if_version is not a whole number",
                    pointer="/ifVersion",
                    value=shown(if_version),
                    remedy="send the version of the document that was read",
                )
            headers = {"If-Match": f'"{if_version}"'}
        reply = await self._line.ask(
            "PATCH", f"{self._path}/learning", document_body(changes), headers=headers, repeatable=False
        )
        return _answers.learning_of(reply.value())

    async def decisions(self, *, after: int = 0, limit: int = 100) -> list[DecisionRecord]:
        """See `capsa.Capsule.decisions`."""
        return await self._page("decisions", DecisionRecord, after, limit)

    async def feedback_log(self, *, after: int = 0, limit: int = 100) -> list[FeedbackRecord]:
        """See `capsa.Capsule.feedback_log`."""
        return await self._page("feedback", FeedbackRecord, after, limit)

    async def audit(self, *, after: int = 0, limit: int = 100) -> list[AuditRecord]:
        """See `capsa.Capsule.audit`."""
        return await self._page("audit", AuditRecord, after, limit)

    async def story(self, decision_id: str) -> Story:
        """See `capsa.Capsule.story`."""
        named = segment(checked_text(decision_id, "/decisionId"))
        return _answers.struct(await self._line.read(f"{self._path}/decisions/{named}"), Story)

    async def describe(self) -> dict[str, Any]:
        """See `capsa.Capsule.describe`."""
        described: dict[str, Any] = await self._line.read(self._path)
        return described

    async def delete(self) -> Deleted:
        """See `capsa.Capsule.delete`."""
        return await self._remove(self._path, Deleted)

    async def purge_logs(self) -> Erased:
        """See `capsa.Capsule.purge_logs`."""
        return await self._remove(f"{self._path}/logs", Erased)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'/'.join(self._place)} at {self._line!r}>"

    def _in_force(
        self, timeout: float | None, default: Default | None
    ) -> tuple[dict[str, str] | None, float]:
        fallback = self._settings.default if default is None else checked_default(default)
        if timeout is not None:
            return fallback, seconds(timeout)
        return fallback, self._line.timeout if self._settings.timeout is None else self._settings.timeout

    def _stands_in(
        self, fallback: dict[str, str] | None, context_key: object, error: CapsaError
    ) -> RemoteDecision:
        """The default, or the error raised."""
        if fallback is None:
            raise error
        self._line.quiet.warn(
            type(error).__name__, "the default stands in for a decision of %s: %s", self.name, error
        )
        return standing_in(fallback, self._place, context_key, error)

    def _decide_some(self, deadline: float) -> Callable[[list[bytes]], Any]:
        async def ask(bodies: list[bytes]) -> list[RemoteDecision | CapsaError]:
            reply = await self._line.ask(
                "POST",
                f"{self._path}/decide/batch",
                b'{"requests":[' + b",".join(bodies) + b"]}",
                timeout=max(deadline - time.monotonic(), 0.0),
            )
            return _answers.each(reply, _answers.decision_of, len(bodies))

        return ask

    async def _post(self, entry: Entry, decision_id: object, within: float) -> Feedback:
        """Sends one feedback; it waits where no answer comes."""
        queue = self._line.queue
        told = decision_id if isinstance(decision_id, str) else None
        if queue.goes_first(entry.path):
            return answered("queued" if queue.put(entry) else "dropped", told)
        try:
            reply = await self._line.ask(
                "POST",
                f"{entry.path}/feedback",
                entry.body,
                timeout=within,
                headers=idempotent(entry.key),
                most=ANSWER_BYTES,
            )
            document = reply.document()
            if reply.status == 200:
                return _answers.feedback_of(document)
        except Unreachable:
            return answered("queued" if queue.put(entry) else "dropped", told)
        except StoreClosed:
            queue.put(entry)
            return answered("dropped", told)
        except asyncio.CancelledError:
            # Whoever waited has gone; what was said still counts.
            queue.put(entry)
            raise
        if _waits(reply, document):
            return answered("queued" if queue.put(entry, reply.retry_after_s) else "dropped", told)
        raise reply.refusal(document)

    async def _post_one_of_many(self, entry: Entry, deadline: float) -> Feedback | CapsaError:
        try:
            return await self._post(entry, None, max(deadline - time.monotonic(), 0.0))
        except CapsaError as error:
            return error

    async def _post_some(self, entries: list[Entry], deadline: float) -> list[Feedback | CapsaError]:
        """Sends feedbacks that need no key, in one request."""
        queue = self._line.queue
        if queue.goes_first(self._path):
            return self._put_all(entries, None)
        body = b'{"events":[' + b",".join(entry.body for entry in entries) + b"]}"
        try:
            reply = await self._line.ask(
                "POST", f"{self._path}/feedback/batch", body, timeout=max(deadline - time.monotonic(), 0.0)
            )
            document = reply.document()
            if reply.status == 200:
                return _answers.each(reply, _answers.feedback_of, len(entries))
        except (Unreachable, StoreClosed):
            return self._put_all(entries, None)
        except asyncio.CancelledError:
            self._put_all(entries, None)
            raise
        if _waits(reply, document):
            return self._put_all(entries, reply.retry_after_s)
        raise reply.refusal(document)

    def _put_all(self, entries: list[Entry], retry_after_s: float | None) -> list[Feedback | CapsaError]:
        return [
            answered(
                "queued" if self._line.queue.put(entry, retry_after_s) else "dropped",
                json.loads(entry.body).get("decisionId"),
            )
            for entry in entries
        ]

    async def _page(self, name: str, type_: type[Any], after: object, limit: object) -> list[Any]:
        told = await self._line.read(f"{self._path}/{name}?{page_query(after, limit)}")
        return _answers.structs(_answers.part(told, name), type_)

    async def _remove(self, path: str, type_: type[T]) -> T:
        timeout = max(self._line.timeout, SLOW_S)
        reply = await self._line.ask("DELETE", path, timeout=timeout, repeatable=False)
        return _answers.struct(reply.value(), type_)


def _waits(reply: Reply, document: Any) -> bool:
    """Whether a feedback that was refused so waits for a better time."""
    return not is_problem(document) or may_pass(reply.status, code_of(document))


def answered(status: str, decision_id: str | None) -> Feedback:
    """What became of a feedback that the server has not answered."""
    return Feedback(
        decision_id=decision_id,
        status=status,
        reward=None,
        parts={},
        missing=[],
        context_key="",
        decisions=[],
        learner_version=0,
        sequence=0,
    )


def _entry_of(path: str) -> Callable[..., Entry | None]:
    """From the arguments of one feedback to what is sent; ``None`` where there is nothing to send."""

    def made(**said: Any) -> Entry | None:
        by_id = said.get("decision_id", NOT_GIVEN)
        if by_id is None and all(said.get(name) is None for name in ("strategy", "option", "context_key")):
            return None
        return Entry(path, feedback_body(**said), None if isinstance(by_id, str) else secrets.token_hex(16))

    return made


def _runs(entries: Sequence[Entry | CapsaError | None]) -> Iterator[list[Entry | CapsaError | None]]:
    """Neighbours that can go in one request; everything else by itself."""
    run: list[Entry | CapsaError | None] = []
    size = 0
    for entry in entries:
        if isinstance(entry, Entry) and entry.key is None:
            if run and size + len(entry.body) > _BATCH_BYTES:
                yield run
                run, size = [], 0
            run.append(entry)
            size += len(entry.body) + 1
            continue
        if run:
            yield run
            run, size = [], 0
        yield [entry]
    if run:
        yield run


async def _in_batches(bodies: Sequence[bytes | CapsaError], ask: Callable[[list[bytes]], Any]) -> list[Any]:
    """What each comes to, in order: those that are an error already stay it."""
    answers: list[Any] = list(bodies)
    some: list[int] = []
    size = 0

    async def send() -> None:
        told = await ask([bodies[at] for at in some])  # type: ignore[misc]
        for at, answer in zip(some, told, strict=True):
            answers[at] = answer

    for at, body in enumerate(bodies):
        if not isinstance(body, bytes):
            continue
        if some and size + len(body) > _BATCH_BYTES:
            await send()
            some, size = [], 0
        some.append(at)
        size += len(body) + 1
    if some:
        await send()
    return answers


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _context_key(item: object) -> object:
    return item.get("context_key") if isinstance(item, Mapping) else None
