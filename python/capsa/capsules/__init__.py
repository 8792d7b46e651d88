"""Capsules as files: YAML specs and components, told apart by their first bytes."""

from capsa.capsules._source import CapsuleSource, read_source
from capsa.capsules._tool import ToolDefinition, read_tool_definition

__all__ = ["CapsuleSource", "ToolDefinition", "read_source", "read_tool_definition"]
