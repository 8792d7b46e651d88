"""What is answered: JSON as the classes that the same call answers in process."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, TypeVar, Union

import msgspec
from msgspec import Struct

from capsa.client._errors import Unreachable, exception, is_problem
from capsa.client._transport import Reply
from capsa.decisions import ContextMemory, Feedback, InstallResult, Report
from capsa.decisions._learning import to_camel, to_snake
from capsa.errors import CapsaError
from capsa.tools import InvocationRecord, Invoked, Replayed

T = TypeVar("T", bound=Struct)


class RemoteStrategy(Struct, frozen=True, kw_only=True, rename="camel"):
    """One strategy's part of a decision.

    Attributes:
        strategy_id: The strategy's number.
        strategy: Its name.
        option: The number of the option to carry out; ``None`` where the default stands in.
        option_name: Its name.
        propensity: The probability of this option; a marginal where there are several strategies.
        names: The options' names, in order; empty above 64 options.
        probabilities: The distribution; a marginal where there are several strategies. ``None`` above 64 options.
    """

    strategy_id: int
    strategy: str
    option: int | None
    option_name: str
    propensity: float | None = None
    names: list[str] = []
    probabilities: list[float] | None = None


class RemoteSuggestion(Struct, frozen=True, kw_only=True, rename="camel"):
    """What the learner would have done in shadow.

    Attributes:
        propensity: The probability with which it was drawn, all strategies together.
        reason: Why, as in `RemoteDecision.reason`.
        decisions: One entry for each strategy, in declared order.
        option: The number of the option, with one strategy.
        option_name: Its name, with one strategy.
    """

    propensity: float
    reason: str
    decisions: list[RemoteStrategy]
    option: int | None = None
    option_name: str | None = None

    def __post_init__(self) -> None:
        """JSON spells enums in camel case."""
        _spell(self)

    @property
    def choices(self) -> dict[str, str]:
        """The options by strategy."""
        return {part.strategy: part.option_name for part in self.decisions}


class RemoteDecision(Struct, frozen=True, kw_only=True, rename="camel"):
    """One decision, with the attributes of `capsa.Decision`.

    In every mode the application does what stands in `option_name` or `choices`; also where the default stands in for
    an answer. Attributes of a single strategy are ``None`` where the capsule has several.

    Attributes:
        id: Opaque, at most 255 characters; ``None`` with mode off, and where the default stands in.
        capsule: The capsule's name.
        capsule_version: The version that decided; 0 where the default stands in.
        tenant: The tenant's name.
        job: The job's name.
        mode: ``off``, ``shadow`` or ``live``; empty where the default stands in.
        context_key: The context key.
        context_key_from: ``input`` if the capsule computed it, ``request`` if the caller gave it.
        strategy_id: The number of the only strategy.
        strategy: The name of the only strategy.
        option: The number of the option to carry out; ``None`` where the default stands in.
        option_name: Its name.
        propensity: The probability with which the answer was drawn; ``None`` in shadow and off, and of a default.
        reason: ``learned``, ``explored``, ``frozen``, ``baseline``, ``current``, ``only_option``; of a default
            ``unreachable`` (no answer in time) or ``refused``.
        suggested: In shadow: what the learner would have done.
        decisions: One entry for each strategy, in declared order.
        learner_version: The learner version that was read; 0 where the default stands in.
        warnings: What deserves a look, such as a missing field.
        error: Why the default stands in.
    """

    id: str | None = msgspec.field(name="decisionId")
    capsule: str
    capsule_version: int
    tenant: str
    job: str
    mode: str
    context_key: str
    context_key_from: str
    propensity: float | None
    reason: str
    suggested: RemoteSuggestion | None
    decisions: list[RemoteStrategy]
    learner_version: int
    warnings: list[str]
    strategy_id: int | None = None
    strategy: str | None = None
    option: int | None = None
    option_name: str | None = None
    error: CapsaError | None = None

    def __post_init__(self) -> None:
        """JSON spells enums in camel case."""
        _spell(self)

    @property
    def choices(self) -> dict[str, str]:
        """The option to carry out, by strategy."""
        return {part.strategy: part.option_name for part in self.decisions}

    @property
    def probabilities(self) -> list[float] | None:
        """The distribution that was drawn from, in option order, with one strategy; ``None`` above 64 options."""
        return self.decisions[0].probabilities if len(self.decisions) == 1 else None


def _spell(answer: RemoteDecision | RemoteSuggestion) -> None:
    if not answer.reason.islower():
        msgspec.structs.force_setattr(answer, "reason", to_snake(answer.reason))


_decision = msgspec.json.Decoder(RemoteDecision).decode


def decision(reply: Reply) -> RemoteDecision:
    """A decision.

    Raises:
        CapsaError: The call was refused.
        Unreachable: This is no answer of a Capsa server.
    """
    if reply.status != 200:
        raise reply.refusal(reply.document())
    try:
        return _decision(reply.body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _strange(error) from None


def each(reply: Reply, read: typing.Callable[[Any], T], count: int) -> list[T | CapsaError]:
    """The items of a batch, each an answer or what was wrong with it."""
    results = part(reply.value(), "results")
    if not isinstance(results, list) or len(results) != count:
        raise _strange("it has not as many results as were asked for")
    return [exception(item) if is_problem(item) else read(item) for item in results]


def decision_of(told: Any) -> RemoteDecision:
    """A decision that stands in a batch."""
    return _converted(told, RemoteDecision)


def feedback_of(told: Any) -> Feedback:
    """What became of one feedback."""
    if isinstance(told, dict) and "decisions" not in told:
        told = {**told, "decisions": [told]}
    return struct(told, Feedback)


def contexts_of(told: Any) -> list[ContextMemory]:
    """A page of contexts, from a row for each strategy of each."""
    rows: dict[str, dict[str, Any]] = {}
    for row in _list(part(told, "contexts")):
        context = rows.setdefault(
            str(part(row, "contextKey")),
            {
                "weights": {},
                "names": {},
                **{name: row.get(name) for name in ("contextKey", "decisions", "rewards", "updatedAt")},
            },
        )
        context["weights"][part(row, "strategy")] = part(row, "weights")
        context["names"][part(row, "strategy")] = part(row, "names")
    return [struct(context, ContextMemory) for context in rows.values()]


def report_of(told: Any) -> Report:
    """A report."""
    reward = part(told, "reward")
    return struct({**told, "rewardMean": part(reward, "mean"), "rewardRange": part(reward, "range")}, Report)


def installed_of(told: Any) -> InstallResult:
    """What an install did, or would do."""
    return struct({**_dict(told), "version": part(told, "capsuleVersion")}, InstallResult)


def invoked_of(told: Any) -> Invoked:
    """What came of a call of a tool."""
    told = _dict(told)
    version, effect = part(told, "capsuleVersion"), part(told, "effect")
    return struct({**_named(told), "version": version, "effect": to_snake(str(effect))}, Invoked)


def invocations_of(told: Any) -> list[InvocationRecord]:
    """A page of calls of a tool."""
    return [invocation_of(row) for row in _list(part(told, "invocations"))]


def invocation_of(told: Any) -> InvocationRecord:
    """A call of a tool as it was recorded."""
    return struct(_named(told), InvocationRecord)


def replayed_of(told: Any) -> Replayed:
    """A call that was made again from its recording."""
    return struct(_named(told), Replayed)


def _named(told: Any) -> dict[str, Any]:
    """A call by the name that its id has in Python."""
    return {**_dict(told), "id": part(told, "invocationId")}


def learning_of(told: Any) -> dict[str, Any]:
    """The learning document, names in snake case."""
    return {to_snake(name): _setting(name, value) for name, value in _dict(told).items()}


def _setting(name: str, told: Any) -> Any:
    if name == "algorithm":
        return _algorithm(told)
    if name == "overridden":
        return {_dotted(dotted): at for dotted, at in _dict(told).items()}
    if isinstance(told, dict) and name != "baseline":
        return {to_snake(inner): item for inner, item in told.items()}
    return told


def structs(told: Any, type_: type[T]) -> list[T]:
    """A list of answers of one type."""
    return [struct(item, type_) for item in _list(told)]


def struct(told: Any, type_: type[T]) -> T:
    """JSON as an answer of a type: our own names in snake case, names that users chose as they are.

    Raises:
        Unreachable: It does not fit: this is no answer of a Capsa server of this kind.
    """
    return _converted(_spelled(_dict(told), type_), type_)


def part(told: Any, name: str) -> Any:
    """One value of an object."""
    try:
        return _dict(told)[name]
    except KeyError:
        raise _strange(f"{name} is missing") from None


#: Fields whose values are names of ours, which JSON spells in camel case.
_ENUMS: Final = frozenset({"reason", "type"})


@functools.cache
def _fields(type_: type[Struct]) -> list[tuple[str, str, type[Struct] | None]]:
    """Each field: its name, as JSON spells it, and the type of ours that its value is made of."""
    return [(field.name, to_camel(field.name), _inner(field.type)) for field in msgspec.structs.fields(type_)]


def _inner(type_: Any) -> type[Struct] | None:
    """The type of ours that a value is: directly, or in a list, or else ``None``."""
    if isinstance(type_, type) and issubclass(type_, Struct):
        return type_
    if typing.get_origin(type_) in (list, Union, types.UnionType):
        return next((found for each in typing.get_args(type_) if (found := _inner(each)) is not None), None)
    return None


def _spelled(told: Mapping[str, Any], type_: type[Struct]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, camel, inner in _fields(type_):
        if camel not in told:
            continue
        value = told[camel]
        if inner is not None and isinstance(value, dict):
            value = _spelled(value, inner)
        elif inner is not None and isinstance(value, list):
            value = [_spelled(item, inner) if isinstance(item, dict) else item for item in value]
        elif name in _ENUMS and isinstance(value, str):
            value = to_snake(value)
        elif name == "algorithm":
            value = _algorithm(value)
        elif name == "detail" and isinstance(value, dict):
            # Of an event of the audit log; of a fault it is a sentence.
            value = _detail(value)
        elif name == "suggested" and isinstance(value, dict) and isinstance(value.get("reason"), str):
            value = {**value, "reason": to_snake(value["reason"])}
        values[name] = value
    return values


def _algorithm(told: Any) -> Any:
    """An algorithm, or one by strategy, as the learning document has it."""
    if isinstance(told, str):
        return to_snake(told)
    if isinstance(told, dict) and isinstance(told.get("name"), str) and "epsilon" in told:
        return {**told, "name": to_snake(told["name"])}
    return {strategy: _algorithm(each) for strategy, each in told.items()} if isinstance(told, dict) else told


def _detail(told: Mapping[str, Any]) -> dict[str, Any]:
    """What an event of the audit log says: its keys, and the names of settings, as in process."""
    values = {to_snake(name): value for name, value in told.items()}
    if isinstance(values.get("changed"), list):
        values["changed"] = [_dotted(str(dotted)) for dotted in values["changed"]]
    if isinstance(values.get("used"), dict):
        values["used"] = {to_snake(name): used for name, used in values["used"].items()}
    if isinstance(values.get("install_allow"), str):
        values["install_allow"] = to_snake(values["install_allow"])
    return values


def _dotted(camel: str) -> str:
    return ".".join(map(to_snake, camel.split(".")))


def _converted(values: Any, type_: type[T]) -> T:
    try:
        return msgspec.convert(values, type_)
    except msgspec.ValidationError as error:
        raise _strange(error) from None


def _dict(told: Any) -> dict[str, Any]:
    if isinstance(told, dict):
        return told
    raise _strange("it is no object")


def _list(told: Any) -> list[Any]:
    if isinstance(told, list):
        return told
    raise _strange("it is no list")


def _strange(why: object) -> Unreachable:
    return Unreachable(f"the answer is none of a Capsa server of this version: {str(why)[:200]}")
