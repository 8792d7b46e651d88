"""The command line: ``capsa author | demo``."""

from capsa.cli._main import main

__all__ = ["main"]
