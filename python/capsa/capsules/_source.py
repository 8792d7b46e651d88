"""From a YAML spec or a component to something that can be installed."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from capsa import _native
from capsa.capsules._signing import Signature, read_signature
from capsa.capsules._tool import ToolDefinition, read_tool_definition
from capsa.errors import InvalidCapsule, InvalidField, shown
from capsa.policies import check_effect

_WASM_MAGIC: Final = b"\0asm"

#: What the worlds of `wit/` export, but what a tool may leave out.
_EXPORTS: Final = {"tool": ("invoke",), "decision": ("frame", "reward")}

#: Largest source that is read, in bytes.
MAX_SOURCE_BYTES: Final = 64 * 1024 * 1024


class CapsuleSource(msgspec.Struct, frozen=True, dict=True):
    """A component with what it declares.

    Attributes:
        name: The capsule's name.
        component: The component's bytes.
        digest: ``b2:`` and the BLAKE2b-256 digest of the component.
        definition: The definition as JSON: of a decision capsule with every default written down, of a tool as it declares it.
        tool: The same of a tool, read; ``None`` of a decision capsule.
        spec: The YAML that the component was compiled from here; ``None`` where it came as a component.
    """

    name: str
    component: bytes
    digest: str
    definition: str
    tool: ToolDefinition | None = None
    spec: bytes | None = None

    @property
    def kind(self) -> str:
        """``decision`` or ``tool``."""
        return "decision" if self.tool is None else "tool"

    def check_name(self, name: str | None) -> None:
        """Returns if it has the name that it has to have; ``None``: any.

        Raises:
            InvalidField: It has another one.
        """
        if name is not None and name != self.name:
            raise InvalidField(
                f"this is the capsule {shown(self.name)!r}, and is to be installed as {shown(name)!r}",
                pointer="/name",
                value=shown(self.name),
                remedy="install it under its own name, or change that",
            )

    @cached_property
    def signature(self) -> Signature | None:
        """Its signature, read once: that hashes all of it. Whether it holds is for `signer` to say.

        Raises:
            InvalidCapsule: It is not one that signing this capsule writes.
        """
        return read_signature(self.component, self.name, self.kind)


def read_source(source: str | Path | bytes) -> CapsuleSource:
    """Reads a capsule from a file, from YAML text or from a component's bytes.

    Args:
        source: A path (a `Path`, or text without a line break), YAML text, or the bytes of a component
            or of YAML.

    Raises:
        InvalidSpec: YAML that does not hold.
        InvalidCapsule: Bytes that are neither YAML nor a component that declares what it is.
        OSError: A file that cannot be read.
    """
    if isinstance(source, str):
        # YAML for a capsule has at least a name and options, so it has several lines.
        data = _encoded(source) if "\n" in source else _read_file(Path(source))
    elif isinstance(source, Path):
        data = _read_file(source)
    else:
        data = _checked_bytes(source)
    spec = None if data.startswith(_WASM_MAGIC) else data
    component = data if spec is None else _compile(spec)
    facts = _native.inspect_component(component)
    if facts["kind"] != "a component":
        raise InvalidCapsule(f"this is {facts['kind']}, not a component", remedy="wrap it as a component")
    if facts["definition"] is None:
        raise InvalidCapsule(str(facts["definition_error"]), pointer="/definition")
    _check_exports(facts["declares"] or "decision", facts["exports"])
    if facts["declares"] == "tool":
        return _tool(component, facts["digest"], facts["definition"], facts["imports"])
    definition = _native.filled_definition(facts["definition"])
    name = json.loads(definition)["name"]
    return CapsuleSource(name, component, facts["digest"], definition, spec=spec)


def _check_exports(kind: str, exports: list[str]) -> None:
    """Returns if a component has the functions of what its definition says it is; loading it looks at their types."""
    missing = next((name for name in _EXPORTS.get(kind, ()) if name not in exports), None)
    if missing is not None:
        raise InvalidCapsule(
            f"this is not a {kind} capsule: it does not export `{missing}`",
            pointer="/kind",
            value=kind,
            remedy="give it the definition of what it is",
        )


def _tool(component: bytes, digest: str, written: str, imports: list[str]) -> CapsuleSource:
    """A tool, with what its definition says of it verified."""
    tool = read_tool_definition(written.encode())
    check_effect(tool.effect, tool.wants, imports)
    definition = msgspec.json.encode(tool.to_json(), order="sorted").decode()
    return CapsuleSource(tool.name, component, digest, definition, tool)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidCapsule("the text holds half of a surrogate pair", remedy="send valid Unicode") from None


def _checked_bytes(source: object) -> bytes:
    if not isinstance(source, bytes | bytearray | memoryview):
        raise TypeError(f"a capsule comes from a path, text or bytes, not from {type(source).__name__}")
    return bytes(source)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SOURCE_BYTES + 1)
    except ValueError as error:  # a NUL byte or half a surrogate pair
        raise InvalidCapsule(
            f"not a path: {error}", remedy="name a file, or send YAML of several lines"
        ) from None
    if len(data) > MAX_SOURCE_BYTES:
        raise InvalidCapsule(f"{path} has more than {MAX_SOURCE_BYTES} bytes")
    return data


def _compile(data: bytes) -> bytes:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidCapsule(
            f"neither a component nor text: byte {error.start} is not UTF-8",
            remedy="send a WebAssembly component or a YAML spec",
        ) from None
    return _native.compile_spec(text)
