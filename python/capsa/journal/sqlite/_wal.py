"""Whether SQLite's write-ahead log lost something that was synced.

SQLite reads its log up to the first frame whose checksum is wrong. After a power failure that is
right: what comes then was never synced. But if a synced frame has rotted, SQLite drops it and all
commits behind it, and says nothing. The two can be told apart: we sync every commit before the
next one begins, so nothing of a later commit can stand behind a torn one.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from capsa.journal._errors import damaged
from capsa.journal.sqlite._folder import LOG

_HEADER_BYTES: Final = 32
_FRAME_BYTES: Final = 24
_BIG_ENDIAN_SUMS: Final = 0x377F0683
_LITTLE_ENDIAN_SUMS: Final = 0x377F0682


class _Frame(NamedTuple):
    """Where it begins, of which page; whether it belongs to the log's present generation, ends a commit, is whole."""

    offset: int
    page: int
    present: bool
    commits: bool
    whole: bool


def refuse_damaged_log(folder: Path) -> None:
    """Raises `StoreDamaged` where frames of a later commit stand behind a wrong checksum.

    Reads only. To be called before SQLite opens the database, which moves the log into it.
    """
    try:
        log = (folder / LOG).read_bytes()
    except FileNotFoundError:
        return
    torn: int | None = None
    ended = False
    pages: set[int] = set()
    for frame in _frames(folder, log):
        if torn is None and not frame.whole:
            torn = frame.offset
        if not frame.present:
            continue
        # The torn commit may be complete but for one frame. What comes behind its end is of a later
        # one; and so is a page that it holds already, should the mark of its end be what is torn.
        if torn is not None and (ended or frame.page in pages):
            raise damaged(folder, f"commits stand behind byte {torn} of {LOG}, where it cannot be read")
        pages.add(frame.page)
        if frame.commits:
            pages.clear()
            ended = torn is not None


def _frames(folder: Path, log: bytes) -> Iterator[_Frame]:
    if not any(log[:_HEADER_BYTES]) or len(log) < _HEADER_BYTES:
        # Made, but never synced.
        return
    magic, _, page_bytes, _, *salts, first, second = struct.unpack_from(">8I", log)
    order = ">" if magic == _BIG_ENDIAN_SUMS else "<"
    sums = _sums(order, log[:24], (0, 0))
    if magic not in (_BIG_ENDIAN_SUMS, _LITTLE_ENDIAN_SUMS) or sums != (first, second):
        # It is 32 bytes in one sector, and synced before any frame: it cannot be torn.
        raise damaged(folder, f"the header of {LOG} cannot be read")
    step = _FRAME_BYTES + page_bytes
    whole = True
    for offset in range(_HEADER_BYTES, len(log) - step + 1, step):
        page, size, *frame_salts, first, second = struct.unpack_from(">6I", log, offset)
        # The generation before has two other salts; where one of them has rotted, the other tells.
        present = any(one == other for one, other in zip(frame_salts, salts, strict=True))
        if not present and _is_end(log, offset, step, salts):
            return
        if whole and frame_salts == salts:
            sums = _sums(order, log[offset : offset + 8], sums)
            sums = _sums(order, log[offset + _FRAME_BYTES : offset + step], sums)
        # The sums go on from frame to frame: behind a wrong one none can be told.
        whole = whole and frame_salts == salts and sums == (first, second)
        yield _Frame(offset, page, present, size != 0, whole)


def _is_end(log: bytes, offset: int, step: int, salts: list[int]) -> bool:
    """Whether no frame of this generation follows."""
    wanted = struct.pack(">2I", *salts)
    return all(log[at + 8 : at + 16] != wanted for at in range(offset + step, len(log) - step + 1, step))


def _sums(order: str, data: bytes, before: tuple[int, int]) -> tuple[int, int]:
    first, second = before
    for one, other in struct.iter_unpack(f"{order}2I", data):
        first = (first + one + second) & 0xFFFF_FFFF
        second = (second + other + first) & 0xFFFF_FFFF
    return first, second
