"""The native parts: specs, the sandbox, and one capsule's state.

Everything here is an inside door: `capsa.open` and what it gives are the public one. Times are milliseconds
since 1970, UTC. Errors are those of `capsa.errors`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, ParamSpec, Self, TypeAlias, TypedDict, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from capsa.errors import CapsaError
from capsa.journal import Event

__all__ = [
    "EVENT_SCHEMA",
    "FOLD_VERSION",
    "Capsule",
    "Combinations",
    "Component",
    "Decision",
    "EpsilonGreedy",
    "Host",
    "Keyring",
    "LearnedThen",
    "Learner",
    "OpenedId",
    "Post",
    "SimpleWeighted",
    "StrategyDecision",
    "Suggestion",
    "Thompson",
    "Ucb1",
    "__version__",
    "compile_spec",
    "decide_again",
    "digest",
    "encode_installed",
    "encode_learning_changed",
    "filled_definition",
    "inspect_component",
    "masked_argmax",
    "masked_argmax_batch",
    "read_cbor",
    "read_json",
    "spec_definition",
    "spec_wat",
]

_Flags: TypeAlias = Sequence[bool] | Sequence[Sequence[bool]] | NDArray[np.bool_]
_Numbers: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | NDArray[Any]
_Priors: TypeAlias = (
    Mapping[int, tuple[float, float]]
    | Mapping[str, tuple[float, float]]
    | Mapping[int | str, tuple[float, float]]
)
_Keys: TypeAlias = Sequence[str | int] | NDArray[Any]

__version__: Final[str]

#: The version of the event format that is written.
EVENT_SCHEMA: Final[int]

#: The version of the fold: another one may make another state of the same events.
FOLD_VERSION: Final[int]

_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")

class _Facts(TypedDict):
    kind: str
    digest: str
    size_bytes: int
    imports: list[str]
    exports: list[str]
    world: str | None
    declares: str | None
    definition: str | None
    definition_error: str | None

class _Plan(TypedDict):
    version: int
    unchanged: bool
    changes: list[str]

class _ContextRow(TypedDict):
    context_key: str
    weights: dict[str, list[float]]
    decisions: int
    rewards: int
    updated_at_ms: int

def compile_spec(source: str) -> bytes:
    """Compiles a YAML spec to a component of the `decision` world.

    The same spec gives the same bytes on every machine.

    Raises:
        InvalidSpec: With every problem of the spec.
    """

def spec_definition(source: str) -> str:
    """The definition that a YAML spec declares, as JSON; defaults are not written down.

    Raises:
        InvalidSpec: With every problem of the spec.
    """

def spec_wat(source: str) -> str:
    """The readable WebAssembly text that a YAML spec compiles to.

    Raises:
        InvalidSpec: With every problem of the spec.
    """

def inspect_component(component: bytes) -> _Facts:
    """What a component is, imports, exports and declares. Nothing of it is run.

    Raises:
        InvalidCapsule: It is not valid WebAssembly.
    """

def filled_definition(definition: str) -> str:
    """A definition with every default written down, both as JSON.

    Raises:
        InvalidCapsule: The definition does not hold.
    """

def digest(bytes: bytes) -> str:
    """``b2:`` and the BLAKE2b-256 digest of some bytes, in hexadecimal."""

def decide_again(capsule: Capsule, decision: Decision, now_ms: int) -> Decision:
    """Makes a recorded decision again, from the state that the capsule has now.

    From the state of the recorded learner version, at the recorded time, its payload is that of the record, to the
    byte. The guest is not asked again: key and allowed options are in the record. Nothing changes.

    Args:
        capsule: Folded to the learner version of the decision.
        decision: As `Capsule.read_decision` gives it.
        now_ms: The time in the header of its event.

    Raises:
        InvalidRequest: What was recorded does not fit the state.
    """

def encode_installed(capsule: str, version: int, digest: str, size_bytes: int, definition: str) -> bytes:
    """The payload of an ``installed`` event."""

def encode_learning_changed(capsule: str, changed: list[str], overrides: str) -> bytes:
    """The payload of a ``learning_changed`` event; `overrides` is JSON."""

@final
class Keyring:
    """The keys that seal decision ids. Safe to use from many threads."""

    def __new__(cls) -> Self: ...
    def add(self, number: int, since_ms: int, key: bytes) -> None:
        """Adds a key of 32 bytes under its number; it seals decisions from a time on, and opens for good."""

@final
class OpenedId:
    """What a decision id says."""

    @property
    def nonce(self) -> bytes:
        """The decision's nonce, 16 bytes."""

    @property
    def sequence(self) -> int:
        """The position of its event in the tenant's stream."""

    @property
    def decided_ms(self) -> int:
        """When it was made, milliseconds since 1970."""

    @property
    def deadline_ms(self) -> int:
        """When its horizon ends."""

    @property
    def decision(self) -> Decision | None:
        """What was decided: options, key, propensity, mode; ``None`` where only its event tells."""

@final
class Host:
    """A WebAssembly engine that runs capsules; one per store.

    Every call gets a fresh instance with limits on processor time, memory, stack and output. Not to be used
    after a fork.
    """

    def __new__(
        cls, *, cache_dir: str | None = None, dns: list[str] | None = None, roots: str | None = None
    ) -> Self:
        """Starts an engine.

        Args:
            cache_dir: A folder of our own for compiled components.
            dns: The name servers that requests of tools go by, each ``address:port``; left out: the system's.
            roots: Certificates in PEM of authorities that are trusted for requests of tools, beside the public ones.

        Raises:
            HostFault: The engine cannot be started, others can write to `cache_dir`, or `roots` cannot be read.
            ValueError: `dns` holds something else than addresses with ports.
        """

    def load(self, component: bytes) -> Component:
        """Checks and compiles a component, or takes it from the cache.

        Raises:
            InvalidCapsule: It is not a component of the `decision` world, or imports something else.
        """

    def load_tool(self, component: bytes) -> ToolComponent:
        """As `load`, for a component of the world `tool`.

        Raises:
            InvalidCapsule: It is not a component of that world, or imports something else.
        """

@final
class KeyValues:
    """The keys and values of one tool. Safe to use from many threads."""

    def __new__(cls, entries: dict[str, bytes] | None = None) -> Self:
        """Begins with these entries."""

    def get(self, key: str) -> bytes | None:
        """The value of a key."""

    def fits(self, key: str, value: bytes | None, *, max_bytes: int, max_keys: int) -> bool:
        """Whether a change stays within a quota: bytes of all keys and values, and the number of keys.

        A removal, and a value no longer than the one before, always do.
        """

    def apply(self, key: str, value: bytes | None) -> bool:
        """Sets a key, or removes it; whether there was such a key."""

    def entries(self) -> dict[str, bytes]:
        """Every entry, in the order of the keys' bytes."""

    @property
    def bytes(self) -> int:
        """Bytes of all keys and values."""

    def __len__(self) -> int:
        """The number of keys."""

@final
class Files:
    """The directory of one tool."""

    def __new__(cls, path: str) -> Self:
        """Opens it, and makes it where it is missing.

        Raises:
            OSError: It cannot be used.
        """

@final
class RunningCalls:
    """How many calls of one tool run."""

    def __new__(cls) -> Self: ...

@final
class ToolComponent:
    """A component of the world `tool`."""

    @property
    def digest(self) -> str:
        """``b2:`` and its BLAKE2b-256 digest."""

    @property
    def imports(self) -> list[str]:
        """The host interfaces that it imports, as `tool_interfaces` names them."""

    @property
    def compensates(self) -> bool:
        """Whether what it does can be taken back."""

    def bind(
        self,
        grants: str,
        *,
        kv: KeyValues | None = None,
        change: Callable[[str, bytes | None, tuple[bytes | None] | None, int, int], bool | None]
        | None = None,
        files: Files | None = None,
        secrets: dict[str, str] | None = None,
        detached: bool = False,
        running: RunningCalls | None = None,
    ) -> Tool:
        """Links it with what it is granted.

        Args:
            grants: The effective policy, as JSON.
            kv: What it keeps; read natively.
            change: Makes and records a change of it: key, value (``None`` removes), what is expected (``None`` anything,
                else a tuple with the value or ``None``), bytes and keys that there may be. Gives whether there was
                such a key or the value was the expected one; ``None`` where the quota would be passed.
            files: Its directory.
            secrets: The values of secrets by name.
            detached: Whether there is nothing outside: only replays can be called then.
            running: Counts its calls that run, for the limit on them, however it is bound.

        Raises:
            CapabilityDenied: It imports what is not granted, or what is granted has nothing behind it.
            InvalidCapsule: The deterministic engine does not take it.
            ValueError: `grants` is not such a document.
        """

@final
class Tool:
    """A tool with what it may do. Safe to use from many threads."""

    def call(
        self,
        tenant: str,
        input: str,
        output: str | None = None,
        *,
        seed: bytes | list[int],
        now_ns: int,
        inline: bool = False,
        record: bool = False,
        replay: bytes | None = None,
    ) -> Invocation:
        """Makes one call. It always gives an `Invocation`, whatever the tool does.

        Args:
            tenant: Whose call it is: tenants take turns.
            input: JSON.
            output: What was answered, JSON: then `compensate` is called.
            seed: Where random numbers begin, 32 bytes.
            now_ns: Nanoseconds since 1970.
            inline: Whether it has to be over at once: then it keeps the interpreter, and may end as `too_slow`.
            record: Whether what the host answers is kept.
            replay: A recording: answers are taken from it, and nothing outside is asked.

        Raises:
            JournalMismatch: `replay` is not a recording.
        """

@final
class Invocation:
    """How a call of a tool went."""

    @property
    def output(self) -> str | None:
        """The answer, JSON as the tool wrote it: nobody has parsed it."""

    @property
    def error(self) -> CapsaError | None:
        """Why there is none."""

    @property
    def too_slow(self) -> bool:
        """Whether it is to be made again, not inline."""

    @property
    def diverged(self) -> bool:
        """Whether, as a replay, it asked for something else than was recorded."""

    @property
    def used(self) -> dict[str, Any]:
        """What it used, by the names of `capsa.tools.Used`."""

    @property
    def log(self) -> list[tuple[str, str]]:
        """Level and message of each line."""

    @property
    def log_dropped(self) -> int:
        """How many further lines there were."""

    @property
    def denied(self) -> list[tuple[str, str, str]]:
        """Interface, rule and a sentence of what it was denied."""

    @property
    def denied_unlisted(self) -> int:
        """How many further denials there were."""

    @property
    def recording(self) -> bytes | None:
        """What the host answered, where that was to be recorded."""

def at_once(work: Callable[_Given, _Got], *args: _Given.args, **named: _Given.kwargs) -> _Got:
    """Calls something in which decision capsules have to be over at once, for the thread has others to serve.

    One that is not ends with `TooSlow`, and from then on so does every call of its component; it can be made again
    outside, on another thread.
    """

def tool_interfaces() -> list[str]:
    """Every host interface there is, as a policy names them."""

def explain_url(effective: str, method: str, url: str) -> dict[str, Any]:
    """What the egress guard says of a request, as far as it can without looking the name up.

    Args:
        effective: The effective policy, as JSON.
        method: Such as ``GET``.
        url: Absolute.

    Returns:
        ``allowed``, ``rule`` and ``detail`` (``None`` where allowed), ``wanted`` and ``allowedRule`` (the numbers of the rules
        that let it pass), ``host``, ``port``, ``private`` and ``needsResolving``.

    Raises:
        ValueError: `effective` is not such a document.
    """

def wrap_module(module: bytes, world: str) -> bytes:
    """A component around a core module, binary or text, that follows the canonical ABI.

    Args:
        module: WebAssembly, or its text.
        world: ``decision``, ``tool`` or ``compensable-tool``.

    Raises:
        InvalidCapsule: It is no module, or does not fit the world.
    """

def embed_tool_definition(component: bytes, definition: str) -> bytes:
    """A component with a tool's definition, JSON, in place of those that it has.

    Raises:
        InvalidCapsule: It is no component.
        ValueError: `definition` is not JSON.
    """

@final
class Component:
    """A component that is ready to be called."""

    @property
    def digest(self) -> str:
        """``b2:`` and its BLAKE2b-256 digest."""

    def frame(self, input: dict[str, Any]) -> list[dict[str, Any]]:
        """Calls the guest's `frame` alone: the choices with their keys, as the guest gave them.

        Raises:
            InvalidField: The input cannot be flattened.
            CapsuleRefused: The capsule answered with an error of its own.
            CapsuleFailure: The capsule failed.
        """

    def reward(self, outcome: dict[str, Any], made: list[tuple[str, str, str, float | None]] = ...) -> float:
        """Calls the guest's `reward` alone; `made` is (strategy, option, key, propensity).

        Raises:
            InvalidField: The outcome cannot be flattened.
            CapsuleRefused: The capsule answered with an error of its own.
            CapsuleFailure: The capsule failed.
        """

@final
class Capsule:
    """One capsule: its component and its folded state. Safe to use from many threads."""

    def __new__(cls, tenant: str, job: str, component: Component, event: Event, keys: Keyring) -> Self:
        """The state after a capsule's first event.

        Raises:
            JournalMismatch: It is not an ``installed`` event, or does not hold in this version.
        """

    @staticmethod
    def restore(tenant: str, job: str, component: Component, snapshot: bytes, keys: Keyring) -> Capsule:
        """The capsule as `snapshot` wrote it.

        Raises:
            JournalMismatch: It is no such snapshot, or of another `FOLD_VERSION`.
        """

    def snapshot(self) -> bytes:
        """Everything that was folded, as deterministic CBOR."""

    def apply(self, event: Event, component: Component | None = None) -> None:
        """Folds one event; an install brings its component.

        Raises:
            JournalMismatch: The event does not fit the state, which is unchanged.
        """

    def apply_decided(self, decision: Decision, sequence: int) -> None:
        """Gives a decision its place in the tenant's stream, and with it its id; and folds it."""

    def decide_body(self, nonce: bytes, now_ms: int, body: bytes) -> Decision | None:
        """As `decide`, of the body of a request: JSON with ``input``, ``contextKey``, ``options`` and ``current``.

        ``None`` where the body is not as most are: malformed, with other keys or types, or large. It then has to be
        read by `read_json`, which says what is wrong with it.
        """

    def decide(
        self,
        nonce: bytes,
        now_ms: int,
        input: dict[str, Any] | None,
        *,
        context_key: object = None,
        options: object = None,
        current: object = None,
        subject: bytes | None = None,
    ) -> Decision:
        """Frames the input in the sandbox and draws. Changes nothing: fold the decision's record.

        Args:
            nonce: 16 bytes that name the decision and its random numbers.
            now_ms: The time of the decision.
            input: JSON values by name.
            context_key: A text of 1 to 256 bytes.
            options: A list of names or numbers, or such lists by strategy.
            current: A name or number, or one by strategy.
            subject: The keyed hash of whom it is about, 16 bytes.

        Raises:
            InvalidRequest: What is sent does not fit.
            CapsuleRefused: The capsule answered with an error of its own.
            CapsuleFailure: The capsule failed.
        """

    def read_post(self, body: bytes, now_ms: int) -> Post | None:
        """Reads the body of a feedback, opens its id and values it.

        ``None`` where it is not as most are (by id, everything at once, within the horizon, of a decision whose id says
        everything): it then has to be read the long way, which says what is wrong with it. Nothing has changed.
        """

    def learn(self, post: Post, payload: bytes, sequence: int, now_ms: int) -> bytes:
        """Folds a post that was appended at a place, and gives the answer to it as JSON."""

    def learned(self) -> LearnedThen:
        """What has been learned by now, to be looked at while decisions go on."""

    def read_decision(self, event: Event) -> Decision:
        """The decision of a ``decided`` event.

        Raises:
            JournalMismatch: It holds none, or of a version that was never installed.
        """

    def read_outcome(self, event: Event) -> dict[str, Any]:
        """The fields of an ``outcome_received`` or ``horizon_passed`` event.

        ``id`` is the decision's nonce and ``decided_at`` its position in the stream, ``key`` the context key that is
        credited, ``made`` the credited options by strategy, ``taken`` the same where it is not what was ``answered``;
        then ``reward``, ``status``, the ``metrics`` of this post, ``delay_ms`` from the decision, its ``deadline_ms``
        and ``capsule_version``; ``again`` whether nothing was awaited any more.

        Raises:
            JournalMismatch: It holds none, or of a version that was never installed.
        """

    def encode_outcome(self, fields: dict[str, Any]) -> bytes:
        """The payload of an ``outcome_received`` or ``horizon_passed`` event, from the fields of `read_outcome`."""

    def open_id(self, id: str) -> OpenedId | None:
        """What a decision id says; ``None`` if it was not sealed for this capsule with a key of ours."""

    def metrics(self, outcome: dict[str, Any]) -> dict[str, float]:
        """An outcome's metrics as numbers; a flag is 1 or 0.

        Raises:
            InvalidField: A value is not a finite number.
        """

    def parts(self, outcome: dict[str, Any]) -> dict[str, float] | None:
        """Each metric's share of the reward; ``None`` where no metrics are declared.

        Raises:
            UnknownMetric: A metric is not declared.
            MetricOutOfRange: A metric is outside its scale.
            InvalidField: A value is not a finite number.
        """

    @property
    def declared_metrics(self) -> list[str] | None:
        """The declared metrics, sorted; ``None`` where none are declared."""

    def check_reward(self, reward: object) -> float:
        """A plain reward as a number.

        Raises:
            RewardOutOfRange: It is outside ``reward_range``.
            InvalidField: It is not a finite number.
        """

    def check_key(self, context_key: object) -> None:
        """Checks a context key that a caller gave.

        Raises:
            InvalidField: It does not have 1 to 256 bytes.
        """

    def value(
        self, decision: Decision, outcome: dict[str, float], taken: dict[str, str] | None = None
    ) -> tuple[float, list[tuple[str, str]]]:
        """Values an outcome in the sandbox; also gives what the capsule logged, as (level, line).

        Raises:
            CapsuleRefused: The capsule answered with an error of its own.
            CapsuleFailure: The capsule failed, or its reward is outside ``reward_range``.
        """

    def pick(self, field: str, named: object, version: int | None = None) -> dict[str, str]:
        """The names of one option of every strategy, in a version of the capsule.

        Raises:
            UnknownOption: No option has this name or number.
            UnknownStrategy: No strategy has this name.
            InvalidField: A strategy is left out.
        """

    def pick_one(self, strategy: object, option: object) -> tuple[str, str]:
        """The names of a strategy and one of its options.

        Raises:
            UnknownOption: No option has this name or number.
            UnknownStrategy: No strategy has this name or number.
            InvalidField: The strategy is missing, and there are several.
        """

    def plan(self, digest: str, definition: str) -> _Plan:
        """What installing a component with this digest and definition would do.

        Raises:
            InstallConflict: It would make what was learned mean something else.
        """

    def check_overrides(self, overrides: str) -> str:
        """Checks the operator's overrides, as JSON, against the file, and gives them as they are kept.

        Raises:
            InvalidField: The result would not hold.
        """

    @property
    def version(self) -> int:
        """The number of the installed version, from 1."""

    @property
    def component_digest(self) -> str:
        """The digest of the installed component."""

    @property
    def version_digests(self) -> list[str]:
        """The digests of the components of all versions."""

    @property
    def definition(self) -> str:
        """The installed definition, complete, as JSON."""

    @property
    def definition_in_force(self) -> str:
        """The definition with the operator's overrides, as JSON."""

    @property
    def overrides(self) -> str:
        """The operator's overrides, as JSON."""

    @property
    def frozen(self) -> bool:
        """Whether nothing is learned or explored."""

    @property
    def learner_version(self) -> int:
        """How many events have changed how this capsule decides."""

    def weights(self, context_key: str, now_ms: int) -> dict[str, list[float]]:
        """The weights of one context by strategy, in option order; each list sums to 1."""

    def contexts(self, now_ms: int, *, after: str | None = None, limit: int = 100) -> list[_ContextRow]:
        """A page of contexts in the order of their keys' bytes, from after a key."""

    def counts(self, now_ms: int) -> dict[str, Any]:
        """What a report counts, as of a time."""

    def mean_weights(self, now_ms: int) -> dict[str, list[float]]:
        """The mean weights over contexts, by their traffic."""

    def state(self) -> bytes:
        """What was learned, as deterministic CBOR."""

    @property
    def state_hash(self) -> str:
        """The digest of `state`."""

@final
class Decision:
    """One decision. In every mode the application does what stands in `option` or `choices`.

    Attributes of a single strategy are ``None`` where the capsule has several: use `choices` and `decisions`.
    """

    @property
    def id(self) -> str | None:
        """Opaque, at most 255 characters; ``None`` with mode off, where nothing is recorded."""

    @property
    def sequence(self) -> int | None:
        """Its position in the tenant's stream."""

    @property
    def is_in_id(self) -> bool:
        """Whether its id says everything that feedback needs, so that its event may be written later."""

    @property
    def due_ms(self) -> int | None:
        """When its horizon brings something."""

    @property
    def defaults(self) -> dict[str, float] | None:
        """What metrics count as that were not sent until the horizon."""

    @property
    def subject(self) -> bytes | None:
        """The keyed hash of whom it is about."""

    def record(self) -> dict[str, Any]:
        """Everything that is recorded of it, by name."""

    @property
    def capsule(self) -> str:
        """The capsule's name."""

    @property
    def capsule_version(self) -> int:
        """The version that decided."""

    @property
    def tenant(self) -> str:
        """The tenant's name."""

    @property
    def job(self) -> str:
        """The job's name."""

    @property
    def mode(self) -> str:
        """``off``, ``shadow`` or ``live``."""

    @property
    def context_key(self) -> str:
        """The context key."""

    @property
    def context_key_from(self) -> str:
        """``input`` if the capsule computed it, ``request`` if the caller gave it."""

    @property
    def strategy_id(self) -> int | None:
        """The number of the only strategy."""

    @property
    def strategy(self) -> str | None:
        """The name of the only strategy."""

    @property
    def option(self) -> int | None:
        """The number of the option to carry out."""

    @property
    def option_name(self) -> str | None:
        """The name of the option to carry out."""

    @property
    def propensity(self) -> float | None:
        """The probability with which the answer was drawn, all strategies together; ``None`` in shadow and off."""

    @property
    def reason(self) -> str:
        """``learned``, ``explored``, ``frozen``, ``baseline``, ``current`` or ``only_option``."""

    @property
    def probabilities(self) -> list[float] | None:
        """The distribution that was drawn from, in option order: 0 for what was not allowed, sums to 1."""

    @property
    def suggested(self) -> Suggestion | None:
        """In shadow: what the learner would have done."""

    @property
    def decisions(self) -> list[StrategyDecision]:
        """One entry for each strategy, in declared order."""

    @property
    def choices(self) -> dict[str, str]:
        """The option to carry out, by strategy."""

    @property
    def learner_version(self) -> int:
        """The learner version that was read."""

    @property
    def warnings(self) -> list[str]:
        """What deserves a look, such as a missing field."""

    @property
    def log(self) -> list[tuple[str, str]]:
        """What the capsule logged, as (level, line)."""

    @property
    def deadline_ms(self) -> int:
        """When feedback is too late to be learned."""

    @property
    def nonce(self) -> bytes:
        """16 bytes: the id and the seed of the draw."""

    @property
    def payload(self) -> bytes:
        """The payload of its ``decided`` event; empty with mode off."""

    def answer(self, capsule: Capsule, now_ms: int, *, full: bool = False) -> bytes:
        """What ``decide`` answers over HTTP, as JSON.

        Args:
            capsule: The capsule that decided, for the weights of the context before any mask.
            now_ms: When, for decay.
            full: Whether names, probabilities and weights are listed above 64 options too.
        """

    def draw_again(self) -> int | None:
        """Draws again from the recorded distribution: the number of the option that was drawn.

        ``None`` for several strategies, whose joint distribution is not recorded, and for mode off.
        """

@final
class LearnedThen:
    """What a capsule had learned at some moment."""

    @property
    def state_hash(self) -> str:
        """Its digest; see `Capsule.state_hash`."""

@final
class Post:
    """The first feedback on a decision, read and valued."""

    @property
    def nonce(self) -> bytes:
        """The decision's nonce."""

    @property
    def decided_at(self) -> int:
        """The position of the decision in the tenant's stream."""

    @property
    def decided_ms(self) -> int:
        """When it was made, milliseconds since 1970."""

    @property
    def payload(self) -> bytes:
        """The payload of its ``outcome_received`` event."""

    @property
    def log(self) -> list[tuple[str, str]]:
        """What the capsule wrote meanwhile."""

    def fields(self) -> dict[str, Any]:
        """The fields of the event by name, as `Capsule.read_outcome` gives them."""

@final
class StrategyDecision:
    """One strategy's part of a decision."""

    @property
    def strategy_id(self) -> int:
        """The strategy's number."""

    @property
    def strategy(self) -> str:
        """Its name."""

    @property
    def option(self) -> int:
        """The number of the option to carry out."""

    @property
    def option_name(self) -> str:
        """Its name."""

    @property
    def propensity(self) -> float | None:
        """The probability of this option; a marginal where there are several strategies."""

    @property
    def names(self) -> list[str]:
        """The options' names, in order."""

    @property
    def probabilities(self) -> list[float] | None:
        """The distribution; a marginal where there are several strategies."""

@final
class Suggestion:
    """What the learner would have done in shadow."""

    @property
    def option(self) -> int | None:
        """The number of the option, with one strategy."""

    @property
    def option_name(self) -> str | None:
        """Its name, with one strategy."""

    @property
    def propensity(self) -> float:
        """The probability with which it was drawn, all strategies together."""

    @property
    def reason(self) -> str:
        """Why, as in `Decision.reason`."""

    @property
    def choices(self) -> dict[str, str]:
        """The options by strategy."""

    @property
    def decisions(self) -> list[StrategyDecision]:
        """One entry for each strategy, in declared order."""

@disjoint_base
class Learner:
    """A learner of one choice: the same learning as in a capsule, without a store.

    Options have numbers and names. Each key has a learner state of its own; a whole number as a key is the
    same key as its decimal digits. Safe to use from many threads; batches release the interpreter, and give
    what the same calls one by one give, bit for bit. Made by its subclasses and by `load`.

    All of them take:
        options: Their number, 2 to 1024, or their names.
        seed: What the draws come from, 0 to 2**64 - 1: the same seed and calls give the same decisions on every
            machine. ``None`` takes one from the operating system.
        reward_range: What rewards may be, both ends included; (0.0, 1.0) if left out. Inside, rewards are scaled to 0..1 by it.
        min_exploration: Share of decisions drawn uniformly from the allowed options, 0 to 1.
        max_keys: Most keys that are held, 1 to 1,000,000; 10,000 if left out. Beyond it the one that was longest without an update is
            folded into a prior that new keys start from, worth at most 8 rewards an option.
        half_life_updates: After this many later updates of its key a reward counts half. ``None`` = nothing fades.
        priors: What is believed of single options beforehand: ``{option: (mean, count)}`` counts in every key as
            ``count`` rewards with the mean ``mean``, scattered like the uniform distribution (or as far as that mean permits),
            and never fades.
        shrinkage: What each option has earned in the other keys counts as at most this many rewards.
            ``None`` = keys learn apart. Not for `SimpleWeighted`.

    Raises:
        ValueError: A setting does not hold; the message names it.
        ImportError: NumPy is missing, where arrays are needed.
    """

    def decide(self, key: str | int | None = None, allowed: _Flags | None = None) -> tuple[int, float]:
        """Draws an option.

        Args:
            key: At most 256 bytes; left out, the key is ``""``.
            allowed: Shape ``(n_options,)``: which options may be drawn; left out, all.

        Returns:
            The option's number, and the probability it was drawn with.

        Raises:
            ValueError: Nothing is allowed, or a shape or the key does not fit. Nothing was drawn.
        """

    def update(self, option: int | str, reward: float, key: str | int | None = None) -> None:
        """Learns one reward of one option; it need not have been drawn here.

        Raises:
            ValueError: The reward is outside `reward_range` or not a number, or there is no such number.
            KeyError: There is no option of this name. Nothing has changed.
        """

    def probabilities(
        self, key: str | int | None = None, allowed: _Flags | None = None
    ) -> NDArray[np.float64]:
        """What `decide` draws from: shape ``(n_options,)``, 0 where not allowed, sum 1 within 1e-9."""

    def decide_batch(
        self, keys: _Keys, allowed: _Flags | None = None
    ) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """`decide` for every key in order; nothing is drawn where one of them is refused.

        Args:
            keys: Shape ``(n,)``: texts, whole numbers, or an array of integers.
            allowed: Shape ``(n_options,)`` for all, or ``(n, n_options)``.

        Returns:
            Options and propensities, both of shape ``(n,)``.
        """

    def probabilities_batch(self, keys: _Keys, allowed: _Flags | None = None) -> NDArray[np.float64]:
        """`probabilities` for every key: shape ``(n, n_options)``."""

    def update_batch(
        self, options: Sequence[int | str] | NDArray[Any], rewards: _Numbers, keys: _Keys | None = None
    ) -> None:
        """`update` for every row in order, all or none.

        Args:
            options: Shape ``(n,)``, numbers or names.
            rewards: Shape ``(n,)``.
            keys: Shape ``(n,)``; left out, the key of all is ``""``.

        Raises:
            ValueError: With the first row that is refused. Nothing has changed.
        """

    def save(self) -> bytes:
        """Everything, the position in the draws included. Versioned; the same state gives the same bytes."""

    @staticmethod
    def load(blob: bytes) -> Learner:
        """The learner that `save` has written, of the same class; it goes on as the saved one would.

        Raises:
            ValueError: The bytes are something else, damaged, or of another version.
        """

    def keys(self) -> list[str]:
        """The keys that have learned something and are held, sorted."""

    @property
    def state_hash(self) -> str:
        """The digest of what was learned: equal on every machine for the same updates."""

    @property
    def n_options(self) -> int:
        """How many options there are."""

    @property
    def names(self) -> list[str]:
        """The options' names: their digits, where only their number was given."""

    @property
    def algorithm(self) -> str:
        """``thompson``, ``epsilon_greedy``, ``ucb1`` or ``simple_weighted``."""

@final
class Thompson(Learner):
    """Thompson sampling: each option is drawn with the probability that its mean reward is the largest.

    With `reward_range` (0, 1) the posterior is Beta(1 + Σr, 1 + n - Σr), fractions allowed; else the Student-t of
    the normal-inverse-gamma posterior on scaled rewards. The probabilities are exact (quadrature, error below 1e-7), not
    counted from samples.

    Sources: Thompson (1933), Biometrika 25; Russo et al. (2018), arXiv:1707.02038; Murphy (2007), "Conjugate Bayesian
    analysis of the Gaussian distribution", section 3.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        shrinkage: float | None = None,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class EpsilonGreedy(Learner):
    """The best mean with probability 1 - ε, else uniform over the allowed options.

    An option that has earned nothing counts as the middle of `reward_range`; ties go to the lowest number.

    Source: Sutton and Barto (2018), "Reinforcement Learning", section 2.2.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        epsilon: float = 0.1,
        shrinkage: float | None = None,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class Ucb1(Learner):
    """The largest mean + sqrt(2 ln N / n) on scaled rewards; ties go to the lowest number.

    Options that have earned nothing share the probability equally, since feedback may be delayed.
    Otherwise it is deterministic: its propensities are 0 and 1 unless `min_exploration` is set.

    Source: Auer, Cesa-Bianchi and Fischer (2002), Machine Learning 47, 235-256.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        shrinkage: float | None = None,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class SimpleWeighted(Learner):
    """Weights that one reward moves by 0.05 x reward, at most `max_delta`, to or from the option.

    The others move by the opposite share; floor 0, scaled to the sum 1. The order of updates matters. Rewards below 0
    move a weight down: for those, set `reward_range`.
    """

    def __new__(
        cls,
        options: int | Sequence[str],
        *,
        max_delta: float = 0.15,
        seed: int | None = None,
        reward_range: tuple[float, float] = ...,
        min_exploration: float = 0.0,
        max_keys: int = ...,
        half_life_updates: float | None = None,
        priors: _Priors | None = None,
    ) -> Self: ...

@final
class Combinations:
    """The valid combinations of several choices, in lexicographic order.

    "Concatenated" arrays hold the entries of the first choice's options, then those of the second, and so on;
    their length is `width`.

    Args:
        sizes: The number of options of each choice, 1 to 65535.
        valid: Shape ``(rows, len(sizes))``: option numbers that are valid together, in any order; left out, all.

    Raises:
        ValueError: A row names an option that does not exist, or there are more than 4096 combinations.
    """

    def __new__(cls, sizes: Sequence[int], valid: _Numbers | None = None) -> Self: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int:
        """The length of concatenated arrays."""

    @property
    def rows(self) -> NDArray[np.uint16]:
        """Shape ``(len(self), len(sizes))``: the option of each choice."""

    def argmax(self, scores: _Numbers, allowed: _Flags | None = None) -> int:
        """The combination with the largest sum of scores among those whose options are all allowed.

        Ties go to the first combination; sums are added from the first choice to the last.

        Args:
            scores: Shape ``(width,)``; where allowed, within ±1e300.
            allowed: Shape ``(width,)``; left out, everything.

        Raises:
            ValueError: A shape does not fit, an allowed score is no such number, or nothing is allowed.
        """

    def argmax_batch(self, scores: _Numbers, allowed: _Flags | None = None) -> NDArray[np.uint32]:
        """`argmax` of every row of `scores`, shape ``(n, width)``; `allowed` has the same shape or ``(width,)``."""

    def probabilities(
        self, head_probabilities: _Numbers, allowed: _Flags | None = None, min_exploration: float = 0.0
    ) -> NDArray[np.float64]:
        """Joint probabilities: proportional to the product of the choices' own, over what is valid and allowed.

        Mixed with `min_exploration` of the uniform distribution over these; uniform where all products are 0.
        Shape ``(len(self),)``, sum 1.
        """

def read_json(body: bytes, *, max_depth: int = 32) -> Any:
    """One JSON value (RFC 8259): each key once, finite numbers, valid UTF-8.

    Args:
        body: All of it.
        max_depth: Objects and lists inside each other; at most 64.

    Raises:
        ValueError: It is none; the message says what is wrong, and never a key.
    """

def read_cbor(body: bytes, *, max_depth: int = 32) -> Any:
    """One CBOR value (RFC 8949) of types that JSON has too: no tags, bytes, or keys that are no texts.

    Args:
        body: All of it.
        max_depth: Maps and arrays inside each other; at most 64.

    Raises:
        ValueError: It is none; the message says what is wrong, and nothing that was sent.
    """

def masked_argmax(scores: _Numbers, allowed: _Flags | None = None) -> int:
    """The index of the largest score among the allowed options; ties go to the lowest index.

    Args:
        scores: Shape ``(n,)``; infinite is a score like any other, NaN is refused where allowed.
        allowed: Shape ``(n,)``; left out, all.

    Raises:
        ValueError: A shape does not fit, an allowed score is NaN, or nothing is allowed.
    """

def masked_argmax_batch(scores: _Numbers, allowed: _Flags | None = None) -> NDArray[np.uint32]:
    """`masked_argmax` of every row of `scores`, shape ``(rows, n)``; `allowed` has the same shape or ``(n,)``."""
