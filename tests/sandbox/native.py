"""Hostile cases on the host itself, without a store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from tests.sandbox.arena import Arena
from tests.sandbox.case import Case, Ended

from capsa import _native
from capsa.errors import CapsaError
from capsa.policies import effective, load_policy, load_wants

_SEED: Final = bytes(range(32))


class Native:
    """Runs cases on the host itself, without a store."""

    def __init__(self) -> None:
        self._innocent: tuple[_native.tools.Tool, _native.Component] | None = None

    def begin(self, case: Case, arena: Arena, folder: Path) -> None:
        """See `Runner`."""

    def run(self, case: Case, arena: Arena) -> Ended:
        """See `Runner`."""
        guest = case.attacker(arena)
        try:
            if guest.world == "decision":
                capsule = arena.host.load(guest.bytes)
                told = capsule.frame({"x": "y"}) if case.output is None else capsule.reward({"x": "y"}, [])
                return Ended(None, json.dumps(told))
            return self._invoke(case, guest.bytes, arena)
        except CapsaError as error:
            return Ended(error)

    def _invoke(self, case: Case, component: bytes, arena: Arena) -> Ended:
        tool = arena.host.load_tool(component)
        wants = load_wants({"wants": case.wanted(arena)})
        allowed = effective(wants, load_policy(case.policy(arena)), case.effect)
        bound = tool.bind(
            json.dumps(allowed.to_json()),
            kv=arena.kv if allowed.kv else None,
            change=arena.change if allowed.kv else None,
            files=_native.tools.Files(str(arena.own)) if allowed.files else None,
            secrets=arena.secrets,
        )
        made = bound.call("hostile", case.input, case.output, seed=_SEED, now_ns=time.time_ns())
        log = tuple(message for _, message in made.log)
        return Ended(made.error, made.output, tuple(made.denied), log, made.log_dropped, made.used)

    def innocent(self, arena: Arena) -> None:
        """See `Runner`."""
        if self._innocent is None:
            tool, decision = arena.good
            nothing = effective(load_wants({}), load_policy("pure"), "pure")
            bound = arena.host.load_tool(tool).bind(json.dumps(nothing.to_json()))
            self._innocent = bound, arena.host.load(decision)
        tool_, decision_ = self._innocent
        made = tool_.call("innocent", '{"a": 1}', seed=_SEED, now_ns=1)
        assert (made.output, made.error) == ('{"a": 1}', None)
        assert decision_.frame({})[0]["key"] == "k"
        assert decision_.reward({}) == 0.5

    def recorded(self, ended: Ended) -> None:
        """See `Runner`."""

    def end(self) -> None:
        """See `Runner`."""
