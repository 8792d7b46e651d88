"""The command line: ``capsa COMMAND``; ``capsa --help`` names the commands."""

from capsa.cli._main import main

__all__ = ["main"]
