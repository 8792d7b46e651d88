"""Components with another guest inside: a compiled spec's wrapper and definition around any core module."""

from __future__ import annotations

import wasmtime

_CORE_MODULE = 1


def doctored(component: bytes, wat: str) -> bytes:
    """The component with its first core module replaced by one that the text assembles to."""
    guest = bytes(wasmtime.wat2wasm(wat))
    at = 8
    while at < len(component):
        section = component[at]
        size, start = _leb(component, at + 1)
        if section == _CORE_MODULE:
            return (
                component[:at]
                + bytes([_CORE_MODULE])
                + _to_leb(len(guest))
                + guest
                + component[start + size :]
            )
        at = start + size
    raise AssertionError("a compiled spec has a core module")


def _leb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _to_leb(value: int) -> bytes:
    encoded = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        encoded.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(encoded)
