"""A capsule and the model of it, driven together through the public API."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tests.reference.clock import Clock
from tests.reference.learner_model import LearnerModel, Settings
from tests.reference.yaml_text import to_yaml

import capsa
from capsa import _native
from capsa.capsules import read_source
from capsa.decisions._fold import CapsuleState, Fold
from capsa.journal import Event

_JOBS = itertools.count()


def spec_of(settings: Settings, name: str = "driven") -> dict[str, Any]:
    """The spec that declares these settings, without contexts."""
    spec: dict[str, Any] = {"name": name}
    if list(settings.strategies) == ["choice"]:
        spec["options"] = list(settings.strategies["choice"])
        spec["algorithm"] = settings.algorithm
    else:
        spec["strategies"] = {
            strategy: {"options": list(options), "algorithm": settings.algorithm}
            for strategy, options in settings.strategies.items()
        }
    if settings.valid is not None:
        spec["valid"] = settings.valid
        first = settings.combinations()[0]
        for strategy, option in zip(settings.strategies, first, strict=True):
            spec["strategies"][strategy]["baseline"] = option
    spec["reward_range"] = list(settings.reward_range)
    spec["max_contexts"] = settings.max_contexts
    spec["rails"] = {"min_exploration": settings.min_exploration}
    if settings.algorithm == "simple_weighted":
        spec["rails"]["max_delta"] = settings.max_delta
    if settings.half_life_s is not None:
        spec["decay"] = {"half_life": f"{settings.half_life_s:g}s"}
    if settings.half_life_feedbacks is not None:
        spec["decay"] = {"half_life_feedbacks": settings.half_life_feedbacks}
    return spec


class Driven:
    """One capsule in a job of its own, and its model."""

    def __init__(self, store: capsa.Store, clock: Clock, settings: Settings) -> None:
        self.store, self.clock, self.settings = store, clock, settings
        self.job = f"job{next(_JOBS)}"
        self.capsule = store.job(self.job).install(to_yaml(spec_of(settings)))
        self.model = LearnerModel(settings)

    def forward(self, seconds: float) -> None:
        """Lets time pass. Events know it to the millisecond, so it passes in whole ones."""
        self.clock.forward(round(seconds, 3))

    def decide(self, key: str, options: Mapping[str, Sequence[str]] | None = None) -> capsa.Decision:
        """One decision in a key."""
        asked: Any = options
        if options is not None and list(self.settings.strategies) == ["choice"]:
            asked = options["choice"]
        return self.capsule.decide(context_key=key, options=asked)

    def learn(self, key: str, made: Mapping[str, str], reward: float) -> None:
        """Decides in a key and reports a reward for what was carried out."""
        decision = self.capsule.decide(context_key=key)
        assert decision.id is not None
        taken: Any = dict(made)
        self.capsule.feedback(decision.id, reward=reward, taken=taken)
        self.model.feedback(key, made, reward, self.clock.now_s)

    def freeze(self, frozen: bool) -> None:
        """Stops or restarts learning."""
        self.capsule.update_learning(rails={"freeze": frozen})
        self.model.freeze(frozen, self.clock.now_s)

    def weights(self, key: str) -> dict[str, list[float]]:
        """The weights of a key that is held."""
        rows = {row.context_key: row.weights for row in self.capsule.contexts(limit=1000)}
        return rows[key]

    def events(self) -> list[Event]:
        """The capsule's own events."""
        path = f"{self.job}/{self.capsule.name}"
        return [event for event in self.store.journal.read("default") if event.path == path]


class Loaded:
    """Components by digest, compiled by an engine that the store does not know."""

    def __init__(self, host: _native.Host, sources: Sequence[str]) -> None:
        self._components = {read.digest: host.load(read.component) for read in map(read_source, sources)}

    def load(self, digest: str) -> _native.Component:
        return self._components[digest]

    def load_tool(self, digest: str) -> _native.tools.ToolComponent:
        raise AssertionError(f"these tests have no tools: {digest}")


def loader(host: _native.Host, *sources: str) -> Loaded:
    """Gives the components of some sources."""
    return Loaded(host, sources)


def rebuilt(events: Sequence[Event], load: Loaded) -> CapsuleState:
    """The state of the only capsule of some events, folded anew."""
    fold = Fold(load, _native.Keyring())
    for event in events:
        fold.apply(event)
    (state,) = fold.capsules.values()
    return state
