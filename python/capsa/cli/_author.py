"""``capsa author``: from a YAML spec to a component."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from capsa.cli._arguments import Commands, add_json
from capsa.errors import CapsaError


def add_commands(commands: Commands) -> None:
    """Adds ``author``."""
    author = commands.add_parser(
        "author",
        help="compile a YAML spec to a WebAssembly component",
        description="Compiles a YAML spec to a WebAssembly component that says all about itself.",
    )
    author.add_argument("spec", type=Path, metavar="SPEC", help="the YAML file")
    author.add_argument(
        "--out", "-o", type=Path, metavar="FILE", help="the component to write (default: SPEC with .wasm)"
    )
    author.add_argument("--wat-out", type=Path, metavar="FILE", help="also write readable WebAssembly text")
    author.add_argument("--check", action="store_true", help="check the spec and write nothing")
    add_json(author)
    author.set_defaults(run=_author)


def _author(chosen: argparse.Namespace) -> dict[str, Any]:
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
        places = {path.resolve() for path in files} | {spec.resolve()}
        if len(places) < 2 + (chosen.wat_out is not None):
            raise CapsaError("two of the files are the same", remedy="name others with --out and --wat-out")
        for file, data in files.items():
            file.write_bytes(data)
            written.append(str(file))
    if not chosen.json:
        _describe(definition, facts["size_bytes"], facts["digest"])
        for path in written:
            print(f"wrote {path}")
    return {
        "name": source.name,
        "digest": source.digest,
        "sizeBytes": facts["size_bytes"],
        "imports": facts["imports"],
        "definition": definition,
        "written": written,
    }


def _wat(spec: Path) -> bytes:
    from capsa import _native

    data = spec.read_bytes()
    if data.startswith(b"\0asm"):
        raise CapsaError(f"{spec} is a component already", remedy="--wat-out shows what YAML is compiled to")
    return _native.spec_wat(data.decode("utf-8-sig")).encode()


def _describe(definition: dict[str, Any], size_bytes: int, digest: str) -> None:
    print(f"{definition['name']}: {size_bytes} bytes, {digest[:19]}…")
    for strategy in definition["strategies"]:
        options = ", ".join(strategy["options"][:8]) + (", …" if len(strategy["options"]) > 8 else "")
        algorithm = strategy["algorithm"]
        if not isinstance(algorithm, str):
            algorithm = f"{algorithm['name']} {algorithm['epsilon']:g}"
        print(f"  {strategy['name']}: {options}  ({algorithm}, baseline {strategy['baseline']})")
    contexts = [context["name"] for context in definition.get("contexts", [])]
    print(f"  contexts: {' | '.join(contexts) or 'none: one context for all'}")
    reward = definition.get("reward")
    if reward:
        print("  reward: " + ", ".join(f"{name} x {metric['weight']:g}" for name, metric in reward.items()))
    low, high = definition["rewardRange"]
    print(f"  reward range: {low:g} to {high:g}")
