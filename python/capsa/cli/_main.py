"""Arguments, output and exit codes.

Exit codes: 0 done · 1 refused or failed, said on standard error · 2 wrong use · 130 interrupted.
With ``--json`` the result, or the error, is one JSON document on standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from capsa import __version__
from capsa.errors import CapsaError, InvalidSpec

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        result: dict[str, Any] = chosen.run(chosen)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (CapsaError, OSError) as error:
        return _failed(error, as_json=chosen.json, source=getattr(chosen, "spec", None))
    if chosen.json:
        print(json.dumps(result, ensure_ascii=False))
    return 0 if result.get("ok", True) else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capsa", description="Decisions that learn from feedback, in sandboxed capsules."
    )
    parser.add_argument("--version", action="version", version=f"capsa {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

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
    _add_json(author)
    author.set_defaults(run=_author)

    demo = commands.add_parser(
        "demo",
        help="route real prompts over three models and draw what was learned",
        description="Routes 1,785 real prompts over three models and draws what was learned.",
    )
    demo.add_argument(
        "--seeds", type=_count, default=5, metavar="N", help="how many repetitions, 1 to 100 (default: 5)"
    )
    demo.add_argument(
        "--out",
        type=Path,
        default=Path("capsa-demo"),
        metavar="DIR",
        help="where the picture goes (default: capsa-demo)",
    )
    _add_json(demo)
    demo.set_defaults(run=_demo)
    return parser


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the result as one JSON document")


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not 1 <= count <= 100:
        raise argparse.ArgumentTypeError(f"{count} is not from 1 to 100")
    return count


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


def _demo(chosen: argparse.Namespace) -> dict[str, Any]:
    try:
        from capsa import demo
    except ModuleNotFoundError as error:
        raise CapsaError(f"the demo needs {error.name}", remedy="pip install 'capsa[demo]'") from None
    import msgspec

    # Progress is for a person; with --json standard output holds the result alone.
    stream = sys.stderr if chosen.json else sys.stdout
    result = demo.run(chosen.out, seeds=chosen.seeds, echo=lambda line: print(line, file=stream, flush=True))
    values: dict[str, Any] = msgspec.to_builtins(result)
    return values


def _failed(error: CapsaError | OSError, *, as_json: bool, source: Path | None) -> int:
    if as_json:
        print(json.dumps(_problem(error), ensure_ascii=False))
    if isinstance(error, InvalidSpec):
        for line, column, key, message in error.problems:
            where = f"{source or 'spec'}:{line}:{column}"
            print(f"{where}: {key}: {message}" if key else f"{where}: {message}", file=sys.stderr)
    elif isinstance(error, OSError):
        print(f"capsa: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    else:
        print(f"capsa: {error}", file=sys.stderr)
    return EXIT_FAILED


def _problem(error: CapsaError | OSError) -> dict[str, Any]:
    if isinstance(error, InvalidSpec):
        errors = [
            {"line": line, "column": column, "key": key, "message": message}
            for line, column, key, message in error.problems
        ]
        return {"ok": False, "type": f"/problems/{error.code}", "detail": error.detail, "errors": errors}
    if isinstance(error, OSError):
        return {
            "ok": False,
            "type": "/problems/internal",
            "detail": f"{error.filename}: {error.strerror or error}",
        }
    errors = [{"pointer": error.pointer, "value": error.value, "remedy": error.remedy}]
    return {"ok": False, "type": f"/problems/{error.code}", "detail": error.detail, "errors": errors}
