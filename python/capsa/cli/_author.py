"""``capsa author``: from a YAML spec to a component; from a module and a definition to a tool."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from capsa.capsules._source import MAX_SOURCE_BYTES
from capsa.cli._arguments import add_json, path
from capsa.cli._output import Answer, short_hash
from capsa.cli._usage import Commands, add_command
from capsa.errors import CapsaError, InvalidCapsule

if TYPE_CHECKING:
    from capsa.capsules import ToolDefinition

#: Most characters of what is said to be wrong with a module: it may name what stands in it.
_MAX_FAULT: Final = 300


def add_commands(commands: Commands) -> None:
    """Adds ``author``, ``author wrap`` and ``author embed``."""
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
    wrap = add_command(
        commands,
        "author wrap",
        _wrap,
        "make a component of a core module",
        "Makes a component of a core module, binary or text, that follows the canonical ABI of a world of wit/.",
    )
    wrap.add_argument("module", type=path, metavar="MODULE", help="WebAssembly, or its text (WAT)")
    wrap.add_argument(
        "--world",
        choices=("tool", "compensable-tool", "decision"),
        default="tool",
        help="the world that it follows (default: tool)",
    )
    _add_out(wrap)
    embed = add_command(
        commands,
        "author embed",
        _embed,
        "write a tool's definition into its component",
        "Writes a tool's definition into its component, so that it says all about itself, and verifies what it says.",
    )
    embed.add_argument("component", type=path, metavar="COMPONENT", help="the component")
    embed.add_argument("definition", type=path, metavar="DEFINITION", help="its capsule.toml")
    _add_out(embed)


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
        "imports": facts["imports"] if source.tool is None else _interfaces(facts["imports"]),
        "definition": definition,
        "written": written,
    }
    return Answer(values, _lines(values) if source.tool is None else _tool_lines(source.tool, values))


def _add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", "-o", type=path, required=True, metavar="FILE", help="the component to write"
    )
    add_json(command)


def _wrap(chosen: argparse.Namespace) -> Answer:
    from capsa import _native

    module = _limited(chosen.module)
    try:
        component = _native.wrap_module(module, chosen.world)
    except InvalidCapsule as error:
        raise InvalidCapsule(_short(error.detail)) from None
    chosen.out.write_bytes(component)
    facts = _native.inspect_component(component)
    values = {
        "world": chosen.world,
        "digest": facts["digest"],
        "sizeBytes": facts["size_bytes"],
        "imports": _interfaces(facts["imports"]),
        "written": [str(chosen.out)],
    }
    line = f"{chosen.world}: {values['sizeBytes']} bytes, imports {', '.join(values['imports']) or 'nothing'}"
    return Answer(values, [line, f"wrote {chosen.out}"])


def _short(detail: str) -> str:
    """What is wrong with a module, and where: the reader of WAT shows the whole line besides, which may be all of it."""
    said, place, shown_line = detail.partition("\n     --> <anon>:")
    line, _, column = shown_line.partition("\n")[0].partition(":")
    return said[:_MAX_FAULT] + (f", at line {line}, column {column}" if place else "")


def _embed(chosen: argparse.Namespace) -> Answer:
    from capsa import _native
    from capsa.capsules import read_source, read_tool_definition

    tool = read_tool_definition(chosen.definition)
    # As it will be installed: what its definition says is held against what it imports.
    source = read_source(
        _native.embed_tool_definition(_limited(chosen.component), json.dumps(tool.to_json()))
    )
    chosen.out.write_bytes(source.component)
    values = {
        "name": source.name,
        "digest": source.digest,
        "sizeBytes": len(source.component),
        "imports": _interfaces(_native.inspect_component(source.component)["imports"]),
        "definition": json.loads(source.definition),
        "written": [str(chosen.out)],
    }
    return Answer(values, _tool_lines(tool, values))


def _tool_lines(tool: ToolDefinition, values: dict[str, Any]) -> Iterator[str]:
    yield f"{values['name']}: a tool, {tool.effect}, {values['sizeBytes']} bytes, {short_hash(values['digest'])}…"
    if tool.summary:
        yield f"  {tool.summary}"
    yield f"  imports: {', '.join(values['imports']) or 'nothing'}"
    yield f"  wants: {', '.join(values['definition']['wants']) or 'nothing but log'}"
    for file in values["written"]:
        yield f"wrote {file}"


def _interfaces(imports: list[str]) -> list[str]:
    """What a component imports, as a definition and a policy name it: ``kv`` for ``capsa:capsule/kv@0.1.0``."""
    return [name.partition("/")[2].partition("@")[0] or name for name in imports]


def _limited(file: Path) -> bytes:
    """The bytes of a module or a component; of what is larger than any capsule, no more than shows that."""
    with file.open("rb") as opened:
        data = opened.read(MAX_SOURCE_BYTES + 1)
    if len(data) > MAX_SOURCE_BYTES:
        raise InvalidCapsule(f"{file} has more than {MAX_SOURCE_BYTES} bytes", remedy="make it smaller")
    return data


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
