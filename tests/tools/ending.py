"""Processes that end in the midst of something, and what is left of tools then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tools.making import policy
from tests.tools.test_tool_life import FILES, Stopped, files

import capsa


def ends(*_: object, **__: object) -> None:
    """The process ends here."""
    raise Stopped


def whole(store: capsa.Store) -> bool:
    """Whether the journal holds, and gives the state that there is."""
    return store.verify() == [] and store.rebuild().equal


def writes(
    store: capsa.Store, job: str = "default", tenant: str = "default", name: str = "files"
) -> list[Any]:
    """Installs a tool that tells what is in its file and writes it, and calls it."""
    tool = store.tenant(tenant).job(job).install(files(name))
    tool.set_policy(policy(**FILES))
    output: list[Any] = tool.invoke().output
    return output


def left(folder: Path) -> list[Path]:
    """Every file below a folder, and every secret."""
    return [file for file in folder.rglob("*") if file.is_file()]
