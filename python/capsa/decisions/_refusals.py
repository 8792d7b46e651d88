"""What was refused before it was there: a capsule that does not hold or is not let in, and a policy that does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

import cbor2
import msgspec

from capsa.errors import (
    InstallConflict,
    InstallRefused,
    InvalidCapsule,
    InvalidRequest,
    InvalidSpec,
)

if TYPE_CHECKING:
    from capsa.decisions._fold import Place
    from capsa.decisions._store import Store

#: What is wrong with a capsule or a policy itself, and not with the store or the moment.
_REFUSALS: Final = (InvalidRequest, InvalidSpec, InvalidCapsule, InstallConflict, InstallRefused)
#: Most characters of its sentence that are recorded.
_DETAIL: Final = 1000


class _About(msgspec.Struct):
    """What is refused.

    Attributes:
        place: What it is for; without the name of the capsule while nobody has read it.
        digest: Of the component, once it was read.
    """

    place: Place
    digest: str | None = None


@contextmanager
def refusals(store: Store, place: Place, what: Literal["install", "policy"]) -> Iterator[_About]:
    """Records it where what is sent for a place is refused. Nobody waits for the disk.

    A tenant is not made by what it refused: of one that is not there, nothing is recorded.
    """
    about = _About(place)
    try:
        yield about
    except _REFUSALS as failure:
        error = {"code": failure.code, "detail": failure.detail[:_DETAIL]}
        said = {"what": what, "error": error} | ({} if about.digest is None else {"digest": about.digest})
        with store._lock:
            if about.place[0] in store._fold.tenants:
                payload = cbor2.dumps(said, canonical=True)
                store._record(about.place, "refused", store._now_ms(), payload)
        raise
