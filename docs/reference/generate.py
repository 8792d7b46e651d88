"""Hook of MkDocs: what the reference says comes from the code, and links into the repository lead somewhere.

A page of `docs/reference` holds a marker such as ``<!-- generated: commands -->``, which gives way to what the code
says when the site is built: the real parser's help, the OpenAPI document, the table of problems.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from capsa.cli import _main
from capsa.server import _openapi, _problems
from capsa.server._routes import ROUTES

_MARKER: Final = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_LINK: Final = re.compile(r"\]\((\.\./[^)#\s]+)")
#: Where the site keeps the files of the repository that its pages link to.
_REPOSITORY: Final = "repository"
_COLUMNS: Final = "96"
#: Problems that say nothing of a single operation.
_ANYWHERE: Final = tuple(dict.fromkeys((*_openapi._KEYED, *_openapi._ANY)))


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the files of the repository that pages link to, as text."""
    for file in list(files.documentation_pages()):
        for target in _LINK.findall(file.content_string):
            uri, path = _outside(config, file.src_uri, target)
            if path is not None and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Puts in what is generated, and turns links that leave `docs/` to the copies."""
    return _LINK.sub(
        lambda link: _turned(config, page.file.src_uri, link[1]), _MARKER.sub(_generated, markdown)
    )


def _outside(config: MkDocsConfig, page: str, target: str) -> tuple[str, Path | None]:
    """The address in the site, and the file, of a link that leaves `docs/`; no file for one that stays."""
    docs = Path(config.docs_dir)
    path = (docs / posixpath.dirname(page) / target).resolve()
    if path.is_relative_to(docs):
        return "", None
    if not path.is_file():
        raise PluginError(f"{page} links to {target}, which is no file of the repository")
    return f"{_REPOSITORY}/{path.relative_to(docs.parent)}.txt", path


def _turned(config: MkDocsConfig, page: str, target: str) -> str:
    uri, path = _outside(config, page, target)
    return f"]({target}" if path is None else f"]({posixpath.relpath(uri, posixpath.dirname(page) or '.')}"


def _generated(marker: re.Match[str]) -> str:
    return _SOURCES[marker[1]]()


def commands() -> str:
    """Every command's help, as the parser prints it."""
    # Names stand four columns in; what they do, further right.
    names = re.findall(r"^ {4}(\S(?:\S| (?! ))*)", _help(), flags=re.MULTILINE)
    names = [name for name in names if name != "COMMAND"]
    parts = [f"```text\n{_help()}```\n"]
    parts += [f"## capsa {name}\n\n```text\n{_help(*name.split())}```\n" for name in names]
    return "\n".join(parts)


def _help(*words: str) -> str:
    said = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": _COLUMNS}),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        _main.main([*words, "--help"])
    return said.getvalue()


def problems() -> str:
    """Every type of problem: what it means, and what to do."""
    return "\n".join(
        f"## {name}\n\n**{kind.status} · {kind.title}.** {kind.meaning}\n\n{_changed(kind)}{_retried(kind)}{kind.advice}\n"
        for name, kind in sorted(_problems.KINDS.items())
    )


def _changed(kind: _problems.Kind) -> str:
    return f"{kind.changed} " if kind.changed else ""


def _retried(kind: _problems.Kind) -> str:
    return "" if kind.retry_after_s is None else f"`Retry-After: {kind.retry_after_s}`. "


def operations() -> str:
    """Every operation of the OpenAPI document, and the types of their bodies and answers."""
    told = _openapi.document(ROUTES)
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in told["tags"]}
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append(_operation(path, method, operation))
    parts = [f"Any operation may answer besides: {_linked(', '.join(f'`{name}`' for name in _ANYWHERE))}.\n"]
    for tag, listed in by_tag.items():
        parts += [f"## {tag[:1].upper()}{tag[1:]}\n", *listed]
    parts.append("## Types\n")
    parts += [_type(name, schema) for name, schema in told["components"]["schemas"].items()]
    return "\n".join(parts)


def _operation(path: str, method: str, told: Mapping[str, Any]) -> str:
    lines = [f"### {method.upper()} {path} {{ #{told['operationId']} }}", "", told["summary"], ""]
    rows = [
        f"| `{parameter['name']}` | {parameter['in']} | {_said(parameter['schema'])} | {parameter['description']} |"
        for parameter in told["parameters"]
        # What many operations have in common is said once, at the top of the page.
        if "$ref" not in parameter and parameter["in"] != "path"
    ]
    if rows:
        lines += ["| parameter | in | type | |", "|---|---|---|---|", *rows, ""]
    if (body := told.get("requestBody")) is not None:
        lines += [f"Body: {_content(body['content'])}.", ""]
    refused = []
    for status, response in sorted(told["responses"].items()):
        if "application/problem+json" in response["content"]:
            names = [
                name for name in re.findall(r"`([a-z-]+)`", response["description"]) if name not in _ANYWHERE
            ]
            refused += [f"{status} {_linked(', '.join(f'`{name}`' for name in names))}"] if names else []
        else:
            lines += [f"Answers {status}: {_content(response['content'])}.", ""]
    if told.get("security"):
        lines += ["Needs no key.", ""]
    return "\n".join([*lines, *([f"Problems: {' · '.join(refused)}", ""] if refused else [])])


def _linked(names: str) -> str:
    return re.sub(r"`([a-z-]+)`", r"[`\1`](problems.md#\1)", names)


def _content(content: Mapping[str, Any]) -> str:
    """A body's type, where it has a name of its own; else its content types."""
    schemas = [kind.get("schema", {}) for kind in content.values()]
    if "$ref" in schemas[0] or "properties" in schemas[0]:
        return _said(schemas[0])
    return " or ".join(f"`{media}`" for media in content)


def _type(name: str, schema: Mapping[str, Any]) -> str:
    lines = [
        f"### {name} {{ #type-{name.lower()} }}",
        "",
        schema.get("description", "").replace("\n", " "),
        "",
    ]
    required = schema.get("required", ())
    rows = [
        f"| `{field}` | {_said(told)} | {'yes' if field in required else 'no'} | {_flowing(told.get('description', ''))} |"
        for field, told in schema.get("properties", {}).items()
    ]
    if not rows:
        return "\n".join([*lines, f"{_said(schema)[:1].upper()}{_said(schema)[1:]}.", ""])
    return "\n".join([*lines, "| field | type | always there | |", "|---|---|---|---|", *rows, ""])


def _said(schema: Mapping[str, Any] | bool) -> str:
    """A schema in words short enough for a table."""
    if isinstance(schema, bool):
        return "anything" if schema else "nothing"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#type-{name.lower()})"
    for either in ("anyOf", "oneOf", "allOf"):
        if either in schema:
            return " or ".join(dict.fromkeys(_said(each) for each in schema[either]))
    if "enum" in schema or "const" in schema:
        listed = schema.get("enum", [schema.get("const")])
        return "a problem's name" if len(listed) > 12 else " · ".join(f"`{each}`" for each in listed)
    if "properties" in schema:
        return ", ".join(f"`{name}` ({_said(each)})" for name, each in schema["properties"].items())
    kind: str | list[str] = schema.get("type", "anything")
    if isinstance(kind, list):
        if "object" in kind and "null" in kind:
            return "anything"
        return " or ".join(_said({**schema, "type": each}) for each in kind)
    if kind == "array":
        return f"list of {_said(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_said(schema['additionalProperties'])}"
    return kind + "".join(_limits(schema))


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    if "pattern" in schema:
        # A table's column would end at a bar.
        yield f", `{schema['pattern'].replace('|', '&#124;')}`" if "|" not in schema["pattern"] else ""
    for key, words in (("minimum", "≥ {}"), ("maximum", "≤ {}"), ("maxLength", "at most {} characters")):
        if key in schema:
            yield f", {words.format(schema[key])}"
    if "default" in schema:
        yield f", default `{str(schema['default']).lower()}`"


def _flowing(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(text.split())).replace("|", "\\|")


_SOURCES: Final[dict[str, Callable[[], str]]] = {
    "commands": commands,
    "operations": operations,
    "problems": problems,
}
