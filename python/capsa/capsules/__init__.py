"""Capsules as files: YAML specs and components, told apart by their first bytes."""

from capsa.capsules._source import CapsuleSource, read_source

__all__ = ["CapsuleSource", "read_source"]
