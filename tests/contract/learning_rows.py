"""Every wrong setting: the document of section 2, as `update_learning` takes it."""

from __future__ import annotations

import math
from typing import Any

from tests.contract.world import Row

import capsa

Invalid = capsa.InvalidField


def update(
    id_: str, error: type[BaseException], pointer: str, detail: str = "", remedy: str = "", **changes: Any
) -> Row:
    return Row(
        f"learning: {id_}",
        lambda world: world.router.update_learning(**changes),
        error,
        pointer,
        detail,
        remedy,
    )


def joint(
    id_: str, error: type[BaseException], pointer: str, detail: str = "", remedy: str = "", **changes: Any
) -> Row:
    return Row(
        f"joint learning: {id_}",
        lambda w: w.retries.update_learning(**changes),
        error,
        pointer,
        detail,
        remedy,
    )


ROWS = [
    update("an unknown key", capsa.UnknownField, "/modes", "modes", "mode", modes="live"),
    update("an unknown key like none", capsa.UnknownField, "/zzz", "zzz", "algorithm", zzz=1),
    update("what is only answered", capsa.UnknownField, "/version", "version", version=3),
    update("an unknown rail", capsa.UnknownField, "/rails/min_explore", "min_explore", "min_exploration", rails={"min_explore": 0.1}),
    update("an unknown key of decay", capsa.UnknownField, "/decay/halflife", "halflife", "half_life", decay={"halflife": "7d"}),
    update("an unknown key of horizon", capsa.UnknownField, "/horizon/later", "later", "after", horizon={"later": "7d"}),
    update("a good key before a bad one", capsa.UnknownField, "/modes", "modes", mode="shadow", modes="live"),
    update("a good rail before a bad one", Invalid, "/rails/freeze", "true or false", rails={"min_exploration": 0.5, "freeze": 1}),
    update("canary comes later", Invalid, "/canary", "not supported", canary={"share": 0.1}),
    update("override comes later", Invalid, "/override", "not supported", override={"pin": "balanced"}),
    update("mode canary comes later", Invalid, "/mode", "canary", "shadow", mode="canary"),
    update("an unknown mode", Invalid, "/mode", "on", "live", mode="on"),
    update("a mode is a flag", Invalid, "/mode", "a text", mode=True),
    update("an unknown algorithm", Invalid, "/algorithm", "bandit", "thompson", algorithm="bandit"),
    update("an epsilon of another algorithm", Invalid, "/algorithm/epsilon", "epsilon_greedy", "leave it out", algorithm={"name": "ucb1", "epsilon": 0.1}),
    update("an epsilon above 1", Invalid, "/algorithm/epsilon", "1.5", algorithm={"name": "epsilon_greedy", "epsilon": 1.5}),
    update("an epsilon that is NaN", Invalid, "/algorithm/epsilon", "a finite number", algorithm={"name": "epsilon_greedy", "epsilon": float("nan")}),
    update("an epsilon that is a flag", Invalid, "/algorithm/epsilon", "a finite number", algorithm={"name": "epsilon_greedy", "epsilon": True}),
    update("an algorithm without a name", Invalid, "/algorithm/name", "a text", algorithm={"epsilon": 0.1}),
    update("an unknown key of an algorithm", capsa.UnknownField, "/algorithm/epsilom", "epsilom", "epsilon", algorithm={"name": "epsilon_greedy", "epsilom": 0.1}),
    update("shrinkage is a number", Invalid, "/shrinkage", "a mapping", shrinkage=8),
    update("shrinkage without strength", Invalid, "/shrinkage", "lacks strength", shrinkage={}),
    update("an unknown key of shrinkage", capsa.UnknownField, "/shrinkage/power", "power", "strength", shrinkage={"power": 1}),
    update("a strength of 0", Invalid, "/shrinkage/strength", "more than 0", shrinkage={"strength": 0}),
    update("a strength that is infinite", Invalid, "/shrinkage/strength", "a finite number", shrinkage={"strength": float("inf")}),
    update("shrinkage of weights", Invalid, "/shrinkage", "simple_weighted", algorithm="simple_weighted", shrinkage={"strength": 8}),
    update("an algorithm is a number", Invalid, "/algorithm", "a text", algorithm=1),
    update("an unknown baseline", capsa.UnknownOption, "/baseline", "dear", "balanced", baseline="dear"),
    update("an unknown baseline's number", capsa.UnknownOption, "/baseline", "7", baseline=7),
    update("a baseline is a flag", Invalid, "/baseline", "not an option", baseline=True),
    update("rails is a number", Invalid, "/rails", "mapping", rails=0.1),
    update("rails is a list", Invalid, "/rails", "mapping", rails=[0.1]),
    update("min_exploration above 1", Invalid, "/rails/minExploration", "1.5", rails={"min_exploration": 1.5}),
    update("min_exploration below 0", Invalid, "/rails/minExploration", "-0.1", rails={"min_exploration": -0.1}),
    update("min_exploration is NaN", Invalid, "/rails/minExploration", "finite", rails={"min_exploration": math.nan}),
    update("min_exploration is infinite", Invalid, "/rails/minExploration", "finite", rails={"min_exploration": math.inf}),
    update("min_exploration is a text", Invalid, "/rails/minExploration", "number", rails={"min_exploration": "0.1"}),
    update("min_exploration is a flag", Invalid, "/rails/minExploration", "number", rails={"min_exploration": True}),
    update("min_exploration is huge", Invalid, "/rails/minExploration", "", rails={"min_exploration": 10**400}),
    update("max_delta with thompson", Invalid, "/rails/maxDelta", "simple_weighted", rails={"max_delta": 0.1}),
    update("max_delta is 0", Invalid, "/rails/maxDelta", "0", algorithm="simple_weighted", rails={"max_delta": 0}),
    update("max_delta above 1", Invalid, "/rails/maxDelta", "1.1", algorithm="simple_weighted", rails={"max_delta": 1.1}),
    update("freeze is a text", Invalid, "/rails/freeze", "true or false", rails={"freeze": "yes"}),
    update("freeze is a number", Invalid, "/rails/freeze", "true or false", rails={"freeze": 0}),
    update("decay is a text", Invalid, "/decay", "mapping", decay="7d"),
    update("decay is empty", Invalid, "/decay", "exactly one", decay={}),
    update("decay has both", Invalid, "/decay", "exactly one", decay={"half_life": "7d", "half_life_feedbacks": 9}),
    update("a half life without a unit", Invalid, "/decay/halfLife", "duration", "7d", decay={"half_life": "7"}),
    update("a half life is a number", Invalid, "/decay/halfLife", "duration", "7d", decay={"half_life": 7}),
    update("a half life in years", Invalid, "/decay/halfLife", "duration", decay={"half_life": "1y"}),
    update("a half life below 0", Invalid, "/decay/halfLife", "duration", decay={"half_life": "-1d"}),
    update("a half life of 0", Invalid, "/decay/halfLifeSeconds", "0", decay={"half_life": "0s"}),
    update("a half life beyond ten years", Invalid, "/decay/halfLifeSeconds", "ten years", decay={"half_life": "600w"}),
    update("a half life of NaN seconds", Invalid, "/decay/halfLifeSeconds", "finite", decay={"half_life_seconds": math.nan}),
    update("a half life of 0 feedbacks", Invalid, "/decay/halfLifeFeedbacks", "0", decay={"half_life_feedbacks": 0}),
    update("a half life of NaN feedbacks", Invalid, "/decay/halfLifeFeedbacks", "finite", decay={"half_life_feedbacks": math.nan}),
    update("a half life of texts", Invalid, "/decay/halfLifeFeedbacks", "number", decay={"half_life_feedbacks": "9"}),
    update("a horizon is a text", Invalid, "/horizon", "mapping", horizon="7d"),
    update("a horizon without a unit", Invalid, "/horizon/after", "duration", "7d", horizon={"after": "7"}),
    update("a horizon of 0", Invalid, "/horizon/afterSeconds", "0 s", horizon={"after": "0s"}),
    update("a horizon beyond ten years", Invalid, "/horizon/afterSeconds", "ten years", horizon={"after": "600w"}),
    update("a horizon that says nothing", Invalid, "/horizon", "says nothing", horizon={}),
    update("a default of an unknown metric", Invalid, "/horizon/outcome/qualty", "quality", horizon={"outcome": {"qualty": 0}}),
    update("a default outside its scale", Invalid, "/horizon/outcome/quality", "0 to 1", horizon={"outcome": {"quality": 2}}),
    update("a default that is no number", Invalid, "/horizon/outcome/quality", "finite", horizon={"outcome": {"quality": "bad"}}),
    update("a default outcome of nothing", Invalid, "/horizon/outcome", "empty", horizon={"outcome": {}}),
    update("max_contexts is 0", Invalid, "/maxContexts", "0", max_contexts=0),
    update("max_contexts is negative", Invalid, "/maxContexts", "whole number", max_contexts=-1),
    update("max_contexts is too large", Invalid, "/maxContexts", "1000001", max_contexts=1_000_001),
    update("max_contexts is huge", Invalid, "/maxContexts", "whole number", max_contexts=2**40),
    update("max_contexts is a fraction", Invalid, "/maxContexts", "whole number", max_contexts=10.5),
    update("max_contexts is a flag", Invalid, "/maxContexts", "whole number", max_contexts=True),
    joint("a baseline for no strategy", Invalid, "/baseline", "which strategy", baseline="1s"),
    joint("a baseline lacks a strategy", Invalid, "/baseline", "retries", baseline={"timeout": "1s"}),
    joint("a baseline that is not valid", Invalid, "/valid", "not valid", baseline={"timeout": "2s", "retries": "3"}),
]  # fmt: skip
