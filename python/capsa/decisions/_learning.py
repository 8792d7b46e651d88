"""The learning document: what is in force, and the operator's overrides of the file's values."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from capsa import _native
from capsa.decisions._fold import CapsuleState
from capsa.errors import InvalidField, StaleDocument, UnknownField, shown
from capsa.journal import timestamp

_SETTINGS: Final = {
    "algorithm": None,
    "mode": None,
    "baseline": None,
    "rails": ("min_exploration", "max_delta", "freeze"),
    "decay": ("half_life", "half_life_seconds", "half_life_feedbacks"),
    "shrinkage": ("strength",),
    "horizon": ("after", "after_seconds", "outcome"),
    "max_contexts": None,
}
_ALGORITHMS: Final = ("thompson", "simpleWeighted", "epsilonGreedy", "ucb1")
_MODES: Final = ("off", "shadow", "live")
_LATER: Final = {
    "canary": "canary is not supported by this version",
    "override": "override is not supported by this version",
}
_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def to_camel(name: str) -> str:
    """``min_exploration`` as ``minExploration``: the one conversion between the two spellings."""
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


def to_snake(name: str) -> str:
    """``minExploration`` as ``min_exploration``."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: "_" + match.group(1).lower(), name)


def duration_seconds(text: Any, pointer: str) -> float:
    """``7d``, ``24h``, ``30m``, ``90s``, ``500ms`` or ``2w`` in seconds.

    Raises:
        InvalidField: It is not such a duration.
    """
    match = re.fullmatch(r"([0-9]+\.?[0-9]*)(ms|[smhdw])", text) if isinstance(text, str) else None
    if match is None:
        raise InvalidField(
            f"{pointer.rsplit('/', 1)[-1]} is not a duration",
            pointer=pointer,
            value=shown(text),
            remedy="write a number and ms, s, m, h, d or w, for example 7d",
        )
    return _number(float(match.group(1)) * _UNITS[match.group(2)], pointer)


def check_version(state: CapsuleState, version: object) -> None:
    """Raises StaleDocument where the learning document does not have this version, InvalidField where it is none."""
    if isinstance(version, bool) or not isinstance(version, int):
        raise _wrong("if_version", "a whole number", version, "/ifVersion")
    if version != state.learning_version:
        raise StaleDocument(
            f"the learning document has version {state.learning_version}",
            pointer="/ifVersion",
            value=shown(version),
            remedy="nothing has changed; read it again, and change that",
        )


def document(state: CapsuleState) -> dict[str, Any]:
    """What is in force and where it differs from the file, names in snake case."""
    native = state.native
    definition = json.loads(native.definition_in_force)
    strategies = definition["strategies"]
    decay = definition.get("decay")
    return {
        "algorithm": algorithms(strategies),
        "mode": definition["mode"],
        "baseline": strategies[0]["baseline"]
        if len(strategies) == 1
        else {strategy["name"]: strategy["baseline"] for strategy in strategies},
        "rails": {
            "min_exploration": definition["rails"]["minExploration"],
            "max_delta": definition["rails"].get("maxDelta"),
            "freeze": definition["rails"]["freeze"],
        },
        "decay": None if decay is None else {to_snake(name): value for name, value in decay.items()},
        "shrinkage": definition.get("shrinkage"),
        "horizon": {
            "after_seconds": definition["horizon"]["afterSeconds"],
            "outcome": definition["horizon"].get("outcome"),
        },
        "max_contexts": definition["maxContexts"],
        "canary": {"share": None},
        "override": None,
        "overridden": {
            dotted: {"by": change["by"], "at": timestamp(change["at_ms"])}
            for dotted, change in sorted(state.changed.items())
            if is_overridden(json.loads(native.overrides), dotted)
        },
        "version": state.learning_version,
    }


def algorithms(strategies: list[dict[str, Any]]) -> Any:
    """The algorithm of a definition's strategies: one for all of them, or by strategy.

    An algorithm is its name, or a mapping with ``name`` where it has parameters.
    """
    each = {strategy["name"]: _algorithm(strategy["algorithm"]) for strategy in strategies}
    first, *others = each.values()
    return first if all(other == first for other in others) else each


def _algorithm(written: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(written, str):
        return to_snake(written)
    return {**written, "name": to_snake(written["name"])}


def shown_algorithm(algorithm: Any) -> str:
    """What `algorithms` gave, for a person to read."""
    if isinstance(algorithm, str):
        return algorithm
    if isinstance(algorithm.get("name"), str) and "epsilon" in algorithm:
        return f"{algorithm['name']} {algorithm['epsilon']:g}"
    return ", ".join(f"{strategy} {shown_algorithm(each)}" for strategy, each in algorithm.items())


def is_overridden(overrides: dict[str, Any], dotted: str) -> bool:
    """Whether a setting, by its dotted name, is not the file's."""
    value: Any = overrides
    for name in dotted.split("."):
        if not isinstance(value, dict) or to_camel(name) not in value:
            return False
        value = value[to_camel(name)]
    return True


def merged(native: _native.Capsule, changes: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The overrides after a change, as JSON, and the dotted names of what changes.

    A missing key stays, ``None`` gives the file's value back.

    Raises:
        UnknownField: A key that does not exist.
        InvalidField: A value that does not hold.
    """
    overrides: dict[str, Any] = json.loads(native.overrides)
    changed: list[str] = []
    for name, value in changes.items():
        setting = to_snake(name)
        if setting in _LATER and value in (None, {"share": None}):
            # What the document shows of a later setting may be sent back.
            continue
        if setting in _LATER:
            raise InvalidField(_LATER[setting], pointer=f"/{name}", remedy="leave it out")
        _known(setting, _SETTINGS, "")
        inner = _SETTINGS[setting]
        if inner is None or value is None or setting in ("decay", "shrinkage", "horizon"):
            _replace(native, overrides, setting, value)
            changed.append(setting)
            continue
        for key, entry in _mapping(value, f"/{name}").items():
            rail = to_snake(key)
            _known(rail, inner, f"/{name}")
            group = overrides.setdefault(to_camel(setting), {})
            if entry is None:
                group.pop(to_camel(rail), None)
            else:
                group[to_camel(rail)] = _checked(rail, entry, f"/{to_camel(setting)}/{to_camel(rail)}")
            changed.append(f"{setting}.{rail}")
    overrides = {name: value for name, value in overrides.items() if value not in ({}, None)}
    text = json.dumps(overrides, sort_keys=True, allow_nan=False)
    kept = native.check_overrides(text)
    # What is in force already is no change.
    return kept, changed if json.loads(kept) != json.loads(native.overrides) else []


def _replace(native: _native.Capsule, overrides: dict[str, Any], setting: str, value: Any) -> None:
    camel = to_camel(setting)
    if value is None:
        overrides.pop(camel, None)
    elif setting == "baseline":
        overrides[camel] = native.pick("/baseline", dict(value) if isinstance(value, Mapping) else value)
    elif setting == "decay":
        overrides[camel] = _decay(_mapping(value, "/decay"))
    elif setting == "horizon":
        in_force = json.loads(native.definition_in_force)["horizon"]
        overrides[camel] = _horizon(in_force, _mapping(value, "/horizon"))
    elif setting == "shrinkage":
        overrides[camel] = _shrinkage(_mapping(value, "/shrinkage"))
    elif setting == "algorithm":
        overrides[camel] = _checked_algorithm(value)
    else:
        overrides[camel] = _checked(setting, value, f"/{camel}")


def _decay(given: Mapping[str, Any]) -> dict[str, float]:
    times: dict[str, float] = {}
    for key, value in given.items():
        name = to_snake(key)
        _known(name, _SETTINGS["decay"], "/decay")
        times |= _time(name, value, f"/decay/{to_camel(name)}")
    if len(times) != 1:
        raise InvalidField(
            "decay takes exactly one of half_life or half_life_feedbacks",
            pointer="/decay",
            remedy="send half_life or half_life_feedbacks; null for decay itself gives the file's value back",
        )
    return times


def _time(name: str, value: Any, pointer: str) -> dict[str, float]:
    """One entry: a duration becomes seconds, and its name says so."""
    if name in ("half_life", "after"):
        return {to_camel(name) + "Seconds": duration_seconds(value, pointer)}
    return {to_camel(name): _number(value, pointer)}


def _horizon(in_force: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The horizon in force with what is given; an outcome that is ``None`` goes."""
    changed: dict[str, Any] = {}
    for key, value in given.items():
        name = to_snake(key)
        _known(name, _SETTINGS["horizon"], "/horizon")
        if name != "outcome":
            changed |= _time(name, value, f"/horizon/{to_camel(name)}")
        elif value is None:
            changed["outcome"] = None
        else:
            changed["outcome"] = {
                metric: _metric(metric, number)
                for metric, number in _mapping(value, "/horizon/outcome").items()
            }
    if not changed:
        raise InvalidField(
            "horizon says nothing",
            pointer="/horizon",
            remedy="send after or outcome; null for horizon itself gives the file's value back",
        )
    horizon = in_force | changed
    return {name: value for name, value in horizon.items() if value is not None}


def _metric(name: str, value: Any) -> float:
    """The value of a metric; true and false are 1 and 0."""
    return float(value) if isinstance(value, bool) else _number(value, f"/horizon/outcome/{name}")


def _shrinkage(given: Mapping[str, Any]) -> dict[str, float]:
    for key in given:
        _known(to_snake(key), _SETTINGS["shrinkage"], "/shrinkage")
    if "strength" not in given:
        raise InvalidField(
            "shrinkage lacks strength",
            pointer="/shrinkage",
            remedy="send how many rewards the other contexts may count as; null gives the file's value back",
        )
    return {"strength": _number(given["strength"], "/shrinkage/strength")}


def _checked_algorithm(value: Any) -> str | dict[str, Any]:
    if not isinstance(value, Mapping):
        return _one_of("algorithm", _ALGORITHMS, value, "/algorithm")
    given = _mapping(value, "/algorithm")
    for key in given:
        _known(to_snake(key), ("name", "epsilon"), "/algorithm")
    name = _one_of("algorithm", _ALGORITHMS, given.get("name"), "/algorithm/name")
    if "epsilon" not in given:
        return name
    if name != "epsilonGreedy":
        raise InvalidField(
            "epsilon acts only with epsilon_greedy",
            pointer="/algorithm/epsilon",
            value=shown(given["epsilon"]),
            remedy="leave it out, or change the name",
        )
    return {"name": name, "epsilon": _number(given["epsilon"], "/algorithm/epsilon")}


def _one_of(name: str, known: tuple[str, ...], value: Any, pointer: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a text", value, pointer)
    camel = to_camel(value)
    if camel not in known:
        raise InvalidField(
            f"{name} {shown(value)!r} is not known to this version",
            pointer=pointer,
            value=shown(value),
            remedy=f"use {', '.join(to_snake(entry) for entry in known)}",
        )
    return camel


def _checked(name: str, value: Any, pointer: str) -> Any:
    if name == "mode":
        return _one_of(name, _MODES, value, pointer)
    if name == "freeze":
        if not isinstance(value, bool):
            raise _wrong(name, "true or false", value, pointer)
        return value
    if name == "max_contexts":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
            raise _wrong(name, "a whole number", value, pointer)
        return value
    return _number(value, pointer)


def _number(value: Any, pointer: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.nan
    if not math.isfinite(number):
        raise _wrong(pointer.rsplit("/", 1)[-1], "a finite number", value, pointer)
    return number


def _mapping(value: Any, pointer: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(pointer[1:], "a mapping of texts", value, pointer)
    return value


def _wrong(name: str, expected: str, value: Any, pointer: str) -> InvalidField:
    return InvalidField(
        f"{name} is not {expected}", pointer=pointer, value=shown(value), remedy="nothing was changed"
    )


def _known(name: str, known: Any, pointer: str) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, list(known), n=1)
    remedy = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
    raise UnknownField(
        f"{name} is not a setting", pointer=f"{pointer}/{name}", value=name[:80], remedy=remedy
    )
