"""Tenants and jobs: which there are, and what is done in one of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cbor2
import msgspec

from capsa.capsules import read_source
from capsa.decisions import _erasure, _letting_in, _tools
from capsa.decisions._capsule import Capsule
from capsa.errors import (
    AlreadyExists,
    InvalidField,
    NotFound,
    UnknownCapsule,
    UnknownJob,
    UnknownTenant,
    shown,
)
from capsa.journal import timestamp

if TYPE_CHECKING:
    from capsa.decisions._answers import InstallResult
    from capsa.decisions._fold import Fold, JobState, Place
    from capsa.decisions._store import Store

#: Most characters of a job's description.
MAX_DESCRIPTION: Final = 1024
#: Largest metadata of a job: bytes as JSON without blanks.
MAX_METADATA_BYTES: Final = 16 * 1024
#: Deepest nesting of it; the object itself counts.
MAX_METADATA_DEPTH: Final = 16
_NO_TENANT: Final = "install a capsule or make a job in it: that makes the tenant"


class TenantInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant.

    Attributes:
        name: Its name.
        created_at: When it was made, or used again after a purge, RFC 3339.
        jobs: How many jobs it has.
    """

    name: str
    created_at: str
    jobs: int


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One job.

    Attributes:
        tenant: Its tenant.
        name: Its name.
        created_at: When it was made, RFC 3339; of jobs whose event an older version cut off, the oldest time there is.
        description: What it is for.
        metadata: What its owner says of it, a JSON object; names in the order of their encoding.
        capsules: The names of its capsules, sorted.
    """

    tenant: str
    name: str
    created_at: str
    description: str
    metadata: dict[str, Any]
    capsules: list[str]


class Tenant:
    """A tenant of a store."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name

    def job(self, name: str) -> Job:
        """A job: an independent learning context."""
        return Job(self._store, self.name, checked_name("job", name))

    def jobs(self) -> list[JobInfo]:
        """The jobs of the tenant, sorted by name.

        Raises:
            UnknownTenant: It was never used, or purged.
        """
        self._store._check_usable()
        with self._store._lock:
            tenant = self._store._fold.tenants.get(self.name)
            if tenant is None:
                raise missing(self._store._fold, (self.name, "", ""))
            jobs, places = dict(tenant.jobs), self._store._fold.places()
        capsules: dict[str, list[str]] = {}
        for where, job, name in places:
            if where == self.name:
                capsules.setdefault(job, []).append(name)
        return [_told(self.name, job, jobs[job], capsules.get(job, [])) for job in sorted(jobs)]

    def create_job(
        self, name: str, *, description: str = "", metadata: Mapping[str, Any] | None = None
    ) -> JobInfo:
        """Makes a job, and the tenant where it is missing.

        Args:
            name: 1 to 64 of ``a-z``, ``0-9``, ``-`` and ``_``, starting with a letter or digit.
            description: What it is for, at most 1,024 characters.
            metadata: A JSON object of at most 16 KiB, nested at most 16 deep, with finite numbers.

        Raises:
            AlreadyExists: There is such a job.
            InvalidField: Something does not hold; nothing has changed.
        """
        store = self._store
        store._check_usable()
        checked_name("job", name)
        said = {"description": _checked_description(description), "metadata": _checked_metadata(metadata)}
        with store._lock:
            store._check_usable()
            tenant = store._fold.tenants.get(self.name)
            if tenant is not None and name in tenant.jobs:
                raise AlreadyExists(
                    f"the tenant {self.name} has a job {name!r} already",
                    pointer="/name",
                    value=name,
                    remedy="use it, or another name",
                )
            create(
                store, self.name, name, store._now_ms(), {key: value for key, value in said.items() if value}
            )
            info = _info(store._fold, self.name, name)
        store._durable()
        return info

    def set_secret(self, name: str, value: str) -> bool:
        """Sets a secret of the tenant; whether there was one of this name. Its tools use it where it is granted.

        The value is kept beside the journal and never in it, nor shown again.

        Args:
            name: 1 to 64 of ``A-Z``, ``a-z``, ``0-9``, ``_`` and ``-``.
            value: 1 to 4,096 visible ASCII characters, blanks only inside: it has to stand in a header.

        Raises:
            UnknownTenant: There is no such tenant.
            InvalidField: Name or value cannot be one.
            HostFault: It cannot be written.
        """
        return _tools.set_secret(self._store, self.name, name, value)

    def remove_secret(self, name: str) -> bool:
        """Removes a secret of the tenant; whether there was one.

        Raises:
            UnknownTenant: There is no such tenant.
            HostFault: It cannot be written.
        """
        return _tools.remove_secret(self._store, self.name, name)

    def secrets(self) -> list[str]:
        """The names of the tenant's secrets, sorted.

        Raises:
            UnknownTenant: There is no such tenant.
            HostFault: They cannot be read.
        """
        _tools.check_used(self._store, self.name)
        return sorted(self._store._vault.values(self.name))

    def settings(self) -> _letting_in.Settings:
        """What may be installed in the tenant.

        Raises:
            UnknownTenant: It was never used, or purged; then everything may be.
        """
        self._store._check_usable()
        with self._store._lock:
            if self.name not in self._store._fold.tenants:
                raise missing(self._store._fold, (self.name, "", ""))
            return _letting_in.settings_of(self._store._fold, self.name)

    def change_settings(
        self, *, install_allow: str | None = None, trust: Sequence[str] = (), distrust: Sequence[str] = ()
    ) -> _letting_in.Settings:
        """Changes what may be installed in the tenant, from the next install on; makes the tenant where it is missing.

        What is installed already stays and goes on, and the very same bytes may be installed again.

        Args:
            install_allow: ``spec_only``: YAML, which is compiled here; ``signed``: that, and components that a trusted key
                has signed; ``any``: everything, as in a tenant where nobody has said anything. Left out: as it was.
            trust: Public keys whose signatures are believed from now on: each in PEM, or 64 hexadecimal digits.
            distrust: Keys that are not any more; their ids do, too.

        Raises:
            InvalidField: Something does not hold, a key to distrust is not trusted, or there would be more than 64;
                nothing has changed.
        """
        return _letting_in.change(self._store, self.name, install_allow, trust, distrust)

    def purge(self) -> _erasure.Purged:
        """Removes the tenant; see `Store.purge`."""
        return self._store.purge(self.name)


class Job:
    """A job of a tenant: capsules that learn by themselves."""

    def __init__(self, store: Store, tenant: str, name: str) -> None:
        self._store = store
        self.tenant = tenant
        self.name = name

    def install(self, source: str | Path | bytes) -> Capsule:
        """Installs a capsule, or its next version; the same bytes again change nothing.

        Tenant and job are made where they are missing.

        Args:
            source: The path of a YAML spec or a component, YAML text, or bytes of either.

        Raises:
            InvalidSpec: The YAML does not hold.
            InvalidCapsule: The component cannot be run or does not say what it is.
            InstallConflict: It would make what was learned mean something else.
            InstallRefused: The tenant does not let it in; see `Tenant.change_settings`.
            OSError: The file cannot be read.
        """
        result = self.installed(source)
        return Capsule(self._store, (self.tenant, self.name, result.capsule))

    def installed(self, source: str | Path | bytes, *, name: str | None = None) -> InstallResult:
        """As `install`; gives what it did.

        Args:
            source: The capsule.
            name: What it has to be called.

        Raises:
            InvalidField: It has another name.
        """
        return self._store._install(self.tenant, self.name, source, name)

    def plan(self, source: str | Path | bytes, *, name: str | None = None) -> InstallResult:
        """What `installed` would do, without doing it; what is refused then is not recorded."""
        self._store._check_usable()
        read = read_source(source)
        read.check_name(name)
        place = (self.tenant, self.name, read.name)
        self._store._compiled(place, read)
        return self._store._plan(place, read)

    def info(self) -> JobInfo:
        """What there is to know about the job.

        Raises:
            UnknownTenant: There is no such tenant.
            UnknownJob: The tenant has no such job.
        """
        self._store._check_usable()
        with self._store._lock:
            return _info(self._store._fold, self.tenant, self.name)

    def capsule(self, name: str) -> Capsule:
        """A capsule by its name.

        Raises:
            UnknownTenant: There is no such tenant.
            UnknownJob: The tenant has no such job.
            UnknownCapsule: It was never installed, or deleted.
        """
        place = (self.tenant, self.name, name)
        self._store._check_there(place)
        return Capsule(self._store, place)

    def capsules(self) -> list[str]:
        """The names of the capsules, sorted."""
        self._store._check_usable()
        with self._store._lock:
            return _capsules(self._store._fold, self.tenant, self.name)

    def delete_capsule(self, name: str) -> _erasure.Deleted:
        """Deletes a capsule by its name, or goes on with that; see `Capsule.delete`.

        Raises:
            UnknownTenant: There is no such tenant.
            UnknownJob: The tenant has no such job.
            UnknownCapsule: It was never installed, or deleted already.
            HostFault: What is left is too large to be sealed, so that no content could be removed yet.
        """
        place = (self.tenant, self.name, name)
        if not name:
            # That would be the job.
            raise self._store._missing(place)
        return _erasure.delete(self._store, place)

    def delete(self) -> _erasure.Deleted:
        """Removes the job with its capsules, as `Capsule.delete` does. It cannot be taken back.

        Should the process end meanwhile, the same call goes on with it, and so does the store's upkeep.

        Raises:
            UnknownTenant: There is no such tenant.
            UnknownJob: The tenant has no such job.
            HostFault: What is left is too large to be sealed, so that no content could be removed yet.
        """
        return _erasure.delete(self._store, (self.tenant, self.name, ""))


def tenants(store: Store) -> list[TenantInfo]:
    """The tenants of a store, sorted by name."""
    store._check_usable()
    with store._lock:
        return [
            TenantInfo(name=name, created_at=timestamp(tenant.created_ms), jobs=len(tenant.jobs))
            for name, tenant in sorted(store._fold.tenants.items())
        ]


def create(store: Store, tenant: str, job: str, now_ms: int, said: Mapping[str, Any]) -> None:
    """Makes tenant and job where they are missing. The store's lock is held.

    Args:
        store: The store.
        tenant: The tenant's name.
        job: The job's name.
        now_ms: When.
        said: What the event of a new job says of it: ``description`` and ``metadata``, where given.
    """
    create_tenant(store, tenant, now_ms)
    # A purged one is made by the event of its job.
    found = store._fold.tenants.get(tenant)
    if found is None or job not in found.jobs:
        payload = cbor2.dumps({"kind": "job", "name": job} | dict(said), canonical=True)
        store._record((tenant, job, ""), "created", now_ms, payload)


def create_tenant(store: Store, tenant: str, now_ms: int) -> None:
    """Makes a tenant where it is missing. The store's lock is held.

    Raises:
        HostFault: What was kept of one of the name that was purged is still there, and would be this one's.
    """
    if tenant in store._fold.tenants:
        return
    # Where the purge was ended in between.
    store._vault.forget(tenant)
    _tools.remove_files(store, (tenant, "", ""))
    if tenant not in store._journal.streams():
        payload = cbor2.dumps({"kind": "tenant", "name": tenant}, canonical=True)
        store._record((tenant, "", ""), "created", now_ms, payload)


def missing(fold: Fold, place: Place) -> NotFound:
    """The error for a capsule, or for a job or tenant where the rest is empty, that is not there: the first that is not."""
    tenant, job, name = place
    found = fold.tenants.get(tenant)
    if found is None:
        return UnknownTenant(f"no tenant {shown(tenant)!r}", value=shown(tenant), remedy=_NO_TENANT)
    if job not in found.jobs:
        return UnknownJob(
            f"no job {shown(job)!r} in {tenant}",
            value=shown(job),
            remedy="make it, or install a capsule in it",
        )
    return UnknownCapsule(
        f"no capsule {shown(name)!r} in {tenant}/{job}", value=shown(name), remedy="install it first"
    )


def checked_name(what: str, name: object) -> str:
    """The name of a tenant or a job.

    Raises:
        InvalidField: It cannot be one.
    """
    if not isinstance(name, str) or re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) is None:
        raise InvalidField(
            f"{shown(name)!r} cannot be the name of a {what}",
            pointer=f"/{what}",
            value=shown(name),
            remedy="use 1 to 64 of a-z, 0-9, - and _, starting with a letter or digit",
        )
    return name


def _info(fold: Fold, tenant: str, job: str) -> JobInfo:
    """The store's lock is held."""
    found = fold.tenants.get(tenant)
    state = None if found is None else found.jobs.get(job)
    if state is None:
        raise missing(fold, (tenant, job, ""))
    return _told(tenant, job, state, _capsules(fold, tenant, job))


def _told(tenant: str, job: str, state: JobState, capsules: list[str]) -> JobInfo:
    return JobInfo(
        tenant=tenant,
        name=job,
        created_at=timestamp(state.created_ms),
        description=state.description,
        # A copy: what its caller changes is his.
        metadata=json.loads(json.dumps(state.metadata)),
        capsules=sorted(capsules),
    )


def _capsules(fold: Fold, tenant: str, job: str) -> list[str]:
    return sorted(place[2] for place in fold.places() if place[:2] == (tenant, job))


def _checked_description(description: object) -> str:
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION or not _is_unicode(description):
        raise InvalidField(
            f"description is not a text of at most {MAX_DESCRIPTION} characters",
            pointer="/description",
            remedy="send such a text, or leave it out",
        )
    return description


def _checked_metadata(metadata: object) -> dict[str, Any]:
    if metadata is None:
        return {}
    wrong = None if isinstance(metadata, Mapping) else "is not an object"
    wrong = wrong or _wrong_in(metadata, 1)
    if wrong is None:
        text = json.dumps(_plain(metadata), ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) <= MAX_METADATA_BYTES:
            plain: dict[str, Any] = json.loads(text)
            return plain
        wrong = f"has more than {MAX_METADATA_BYTES} bytes"
    raise InvalidField(
        f"metadata {wrong}",
        pointer="/metadata",
        remedy=f"send a JSON object of at most {MAX_METADATA_BYTES} bytes, nested at most {MAX_METADATA_DEPTH} deep",
    )


def _wrong_in(value: object, depth: int) -> str | None:
    """What is wrong in a value that stands so deep."""
    match value:
        case None | bool():
            return None
        case int():
            return None if -(2**63) <= value < 2**63 else "has a number of more than 64 bits"
        case float():
            return None if math.isfinite(value) else "has a number that is not finite"
        case str():
            return None if _is_unicode(value) else "has a text that is not valid Unicode"
        case Mapping() | list() | tuple():
            if depth > MAX_METADATA_DEPTH:
                return f"is nested more than {MAX_METADATA_DEPTH} deep"
            inner = value
            if isinstance(value, Mapping):
                if not all(isinstance(name, str) and _is_unicode(name) for name in value):
                    return "has a name that is not a text"
                inner = list(value.values())
            return next((wrong for item in inner if (wrong := _wrong_in(item, depth + 1)) is not None), None)
        case _:
            return f"holds a {type(value).__name__}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)
