"""What was refused before it was there: a capsule that does not hold or is not let in, and a policy that does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, Self

import cbor2

from capsa.errors import (
    CapsaError,
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


class refusals:  # noqa: N801 - a context manager
    """Records it where what is sent for a place is refused. Nobody waits for the disk.

    A tenant is not made by what it refused: of one that is not there, nothing is recorded.

    Attributes:
        place: What it is for; without the name of the capsule while nobody has read it.
        digest: Of the component, once it was read.
    """

    def __init__(self, store: Store, place: Place, what: Literal["install", "policy"]) -> None:
        self._store = store
        self._what = what
        self.place = place
        self.digest: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: object
    ) -> None:
        if not isinstance(failure, _REFUSALS):
            return
        store = self._store
        with store._lock:
            if self.place[0] in store._fold.tenants:
                store._record(self.place, "refused", store._now_ms(), self._payload(failure))

    def _payload(self, failure: CapsaError) -> bytes:
        error = {"code": failure.code, "detail": failure.detail[:_DETAIL]}
        said: dict[str, Any] = {"what": self._what, "error": error}
        if self.digest is not None:
            said["digest"] = self.digest
        return cbor2.dumps(said, canonical=True)
