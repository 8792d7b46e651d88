"""``capsa author``: from a YAML spec to a component."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capsa.cli._arguments import add_json, path
from capsa.cli._output import Answer, short_hash
from capsa.cli._usage import Commands, add_command
from capsa.errors import CapsaError


def add_commands(commands: Commands) -> None:
    """Adds ``author``."""
    author = add_command(
        commands,
        "author",
        _author,
        "compile a YAML spec to a WebAssembly component",
        "Compiles a YAML spec to a WebAssembly component that says all about itself.",
    )
    author.add_argument("spec", type=path, metavar="SPEC", help="the YAML file")
    author.add_argument(
        "--out", "-o", type=path, metavar="FILE", help="the component to write (default: SPEC with .wasm)"
    )
    author.add_argument("--wat-out", type=path, metavar="FILE", help="also write readable WebAssembly text")
    author.add_argument("--check", action="store_true", help="check the spec and write nothing")
    add_json(author)


def _author(chosen: argparse.Namespace) -> Answer:
    from capsa import _native
    from capsa.capsules import read_source

    spec: Path = chosen.spec
    source = read_source(spec)
    facts = _native.inspect_component(source.component)
    definition = json.loads(source.definition)
    written: list[str] = []
    if not chosen.check:
        files: dict[Path, bytes] = {chosen.out or spec.with_suffix(".wasm"): source.component}
        if chosen.wat_out is not None:
            files[chosen.wat_out] = _wat(spec)
        places = {file.resolve() for file in files} | {spec.resolve()}
        if len(places) < 2 + (chosen.wat_out is not None):
            raise CapsaError("two of the files are the same", remedy="name others with --out and --wat-out")
        for file, data in files.items():
            file.write_bytes(data)
            written.append(str(file))
    values = {
        "name": source.name,
        "digest": source.digest,
        "sizeBytes": facts["size_bytes"],
        "imports": facts["imports"],
        "definition": definition,
        "written": written,
    }
    return Answer(values, _lines(values))


def _wat(spec: Path) -> bytes:
    from capsa import _native

    data = spec.read_bytes()
    if data.startswith(b"\0asm"):
        raise CapsaError(f"{spec} is a component already", remedy="--wat-out shows what YAML is compiled to")
    return _native.spec_wat(data.decode("utf-8-sig")).encode()


def _lines(values: dict[str, Any]) -> Iterator[str]:
    definition = values["definition"]
    yield f"{definition['name']}: {values['sizeBytes']} bytes, {short_hash(values['digest'])}…"
    for strategy in definition["strategies"]:
        options = ", ".join(strategy["options"][:8]) + (", …" if len(strategy["options"]) > 8 else "")
        algorithm = strategy["algorithm"]
        if not isinstance(algorithm, str):
            algorithm = f"{algorithm['name']} {algorithm['epsilon']:g}"
        yield f"  {strategy['name']}: {options}  ({algorithm}, baseline {strategy['baseline']})"
    contexts = [context["name"] for context in definition.get("contexts", [])]
    yield f"  contexts: {' | '.join(contexts) or 'none: one context for all'}"
    reward = definition.get("reward")
    if reward:
        yield "  reward: " + ", ".join(f"{name} x {metric['weight']:g}" for name, metric in reward.items())
    low, high = definition["rewardRange"]
    yield f"  reward range: {low:g} to {high:g}"
    for file in values["written"]:
        yield f"wrote {file}"
