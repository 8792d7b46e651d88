"""The native parts: specs, the sandbox, and one capsule's state.

Everything here is an inside door: `capsa.open` and what it gives are the public one. Times are milliseconds
since 1970, UTC. Errors are those of `capsa.errors`.
"""

from collections.abc import Callable
from typing import Any, Final, ParamSpec, Self, TypedDict, TypeVar, final

from capsa._native import learners as learners
from capsa._native import tools as tools
from capsa.journal import Event

__all__ = [
    "EVENT_SCHEMA",
    "FOLD_VERSION",
    "Capsule",
    "Component",
    "Decision",
    "Host",
    "Keyring",
    "LearnedThen",
    "OpenedId",
    "Post",
    "StrategyDecision",
    "Suggestion",
    "__version__",
    "at_once",
    "compile_spec",
    "decide_again",
    "digest",
    "embed_tool_definition",
    "encode_installed",
    "encode_learning_changed",
    "explain_url",
    "filled_definition",
    "inspect_component",
    "learners",
    "read_cbor",
    "read_json",
    "spec_definition",
    "spec_wat",
    "tools",
    "wrap_module",
]

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

    def load_tool(self, component: bytes) -> tools.ToolComponent:
        """As `load`, for a component of the world `tool`.

        Raises:
            InvalidCapsule: It is not a component of that world, or imports something else.
        """

def at_once(work: Callable[_Given, _Got], *args: _Given.args, **named: _Given.kwargs) -> _Got:
    """Calls something in which decision capsules have to be over at once, for the thread has others to serve.

    One that is not ends with `TooSlow`, and from then on so does every call of its component; it can be made again
    outside, on another thread.
    """

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
