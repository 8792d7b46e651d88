"""The HTTP server: parse, call, answer."""

from capsa.server._serve import PORT, Settings, serve

__all__ = ["PORT", "Settings", "serve"]
