"""Capsules as files: YAML specs and components, told apart by their first bytes, and who has signed them."""

from capsa.capsules._signing import (
    KeyPair,
    Signature,
    key_id,
    make_keys,
    private_key,
    public_key,
    sign,
    signer,
)
from capsa.capsules._source import CapsuleSource, read_source
from capsa.capsules._tool import ToolDefinition, read_tool_definition

__all__ = [
    "CapsuleSource",
    "KeyPair",
    "Signature",
    "ToolDefinition",
    "key_id",
    "make_keys",
    "private_key",
    "public_key",
    "read_source",
    "read_tool_definition",
    "sign",
    "signer",
]
