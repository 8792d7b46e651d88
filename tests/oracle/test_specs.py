"""Compiled specs answer in our engine what they answer in the PyPI package's: every choice, number and refusal."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from tests.author import spec_strategies as generated
from tests.author.test_compiled import EVERY_KIND, LLM_ROUTER
from tests.oracle.ends import Other, OurDecision
from tests.reference import spec_interpreter as interpreter
from tests.reference.component_oracle import Made
from tests.reference.yaml_text import to_yaml

import capsa
from capsa import _native

ROOT: Final = Path(__file__).parents[2]
MADE: Final = (Made("choice", "a", "k", 0.25), Made("ü", "b", "", None))


def specs() -> list[tuple[str, str]]:
    """Every spec that there is in the tree: of capsules, of documents, of tests."""
    found = [("llm-router", LLM_ROUTER), ("every-kind", to_yaml(EVERY_KIND))]
    found += [(path.parent.name, path.read_text()) for path in sorted(ROOT.glob("capsules/*/capsule.yaml"))]
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]:
        blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        found += [
            (f"{page.name} {number}", block) for number, block in enumerate(blocks) if "options:" in block
        ]
    return found


@pytest.mark.parametrize(("name", "text"), specs(), ids=lambda part: part if "\n" not in part else "")
def test_every_spec_of_the_tree(host: _native.Host, name: str, text: str) -> None:
    try:
        component = _native.compile_spec(text)
    except capsa.errors.InvalidSpec:
        pytest.skip(f"{name} shows a part of a spec")
    ours, other = OurDecision(host, component), Other(component)
    declared = _native.spec_definition(text)
    names = set(re.findall(r'"name": ?"([^"\\]+)"', declared)) | {"quality", "latency_ms", "x"}
    values: list[Any] = ["gold", "", "a|b%", True, 0.5, -1, 2000, 1e300]
    _check_frame(ours, other, {})
    for value in values:
        _check_frame(ours, other, {name.replace("\\", ""): value for name in names})
        outcome = {name: value for name in names if not isinstance(value, str)}
        _check_reward(ours, other, outcome)


@given(data=st.data(), plain=st.booleans())
def test_any_spec_frames_the_same(host: _native.Host, data: st.DataObject, plain: bool) -> None:
    spec = data.draw(generated.specs())
    text = to_yaml(spec, plain=plain)
    note(text)
    component = _native.compile_spec(text)
    ours, other = OurDecision(host, component), Other(component)
    for _ in range(4):
        _check_frame(ours, other, data.draw(generated.inputs(spec)))


@given(data=st.data())
def test_any_spec_values_the_same(host: _native.Host, data: st.DataObject) -> None:
    spec = data.draw(generated.specs()) | data.draw(generated.rewards())
    note(to_yaml(spec))
    component = _native.compile_spec(to_yaml(spec))
    ours, other = OurDecision(host, component), Other(component)
    for _ in range(4):
        _check_reward(ours, other, data.draw(generated.outcomes(spec)))


def _check_frame(ours: OurDecision, other: Other, value: dict[str, Any]) -> None:
    try:
        fields = interpreter.flatten(value)
    except interpreter.Refused:
        with pytest.raises(capsa.InvalidField):
            ours.frame(value)
        return
    assert ours.frame(value) == other.frame(fields), value


def _check_reward(ours: OurDecision, other: Other, outcome: dict[str, Any]) -> None:
    try:
        fields = interpreter.flatten(outcome)
    except interpreter.Refused:
        with pytest.raises(capsa.InvalidField):
            ours.reward(outcome, MADE)
        return
    our, their = ours.reward(outcome, MADE), other.reward(fields, MADE)
    if our.kind == "abi":
        # A number that is not finite passes the other engine; we refuse it.
        assert their.kind == "answer"
        assert not math.isfinite(struct.unpack("<d", bytes.fromhex(str(their.what)))[0])
        return
    assert our == their, outcome
