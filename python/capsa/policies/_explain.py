"""May this capsule do that, by which rule, and what would have to be granted: one question, answered for a person.

URLs are taken apart and matched by native code, as when the request is made; so the answer is the one that the capsule
would get, up to what looking the name up tells.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

import msgspec

from capsa import _native
from capsa.errors import InvalidField, shown
from capsa.policies._document import is_unicode
from capsa.policies._effective import Effective
from capsa.policies._model import Files, Kv, Method, camel

#: Methods that only look, also where the target is a file or a key.
_READING: Final = frozenset({"GET", "HEAD"})
_METHODS: Final[tuple[str, ...]] = get_args(Method)
#: Bytes of a key of kv.
_MAX_KEY: Final = 256
#: Bytes of a path, its parts, bytes of each, and how names of files begin that are being written: as in
#: `crates/capsa-vm/src/files.rs`.
_MAX_PATH: Final = 1024
_MAX_PARTS: Final = 16
_MAX_PART: Final = 255
_WRITING: Final = ".capsa-writing-"
#: Rules that no grant changes: the URL itself is not one that is sent.
_FORM: Final = frozenset({"userinfo", "host-form", "url-form"})


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether something is allowed, and why.

    Attributes:
        target: What was asked for.
        allowed: Whether it is allowed.
        rule: The rule that denies it, as errors and the audit log name it; ``None`` where it is allowed. ``invalid`` where it
            is no key and no path at all: the capsule is answered that, which no log counts as a denial.
        detail: One sentence.
        needed: What would have to be granted, or done instead; empty where it is allowed.
        wanted: Index of the definition's rule for HTTP that matches; ``None`` where none does.
        allowed_rule: Index of the policy's.
        needs_resolving: Whether it also hangs on the addresses that the name has when the request is made.
    """

    target: str
    allowed: bool
    rule: str | None
    detail: str
    needed: tuple[str, ...] = ()
    wanted: int | None = None
    allowed_rule: int | None = None
    needs_resolving: bool = False

    def lines(self) -> Iterator[str]:
        """For a person: the answer, why, and what would have to be granted."""
        yield f"{'allowed' if self.allowed else 'denied'}: {self.detail}" + (
            f" ({self.rule})" if self.rule else ""
        )
        if self.allowed and self.wanted is not None and self.allowed_rule is not None:
            yield f"  by wants.http[{self.wanted}] of the definition and grants.http[{self.allowed_rule}] of the policy"
        if self.allowed and self.needs_resolving:
            yield "  if every address that the name has then is public"
        for needed in self.needed:
            yield f"  needed: {needed}"

    def to_json(self) -> dict[str, Any]:
        """As JSON spells it."""
        return {
            camel(name): list(value) if isinstance(value, tuple) else value
            for name, value in msgspec.structs.asdict(self).items()
        }


def explain(effective: Effective, target: str, method: str = "GET") -> Explanation:
    """Whether a capsule may do something.

    Args:
        effective: What it may do.
        target: A URL; ``kv:KEY``, ``secret:NAME`` or ``config:NAME``; anything else is the path of a file.
        method: Of the request. For a file and a key: GET and HEAD ask about reading, any other about writing.

    Raises:
        InvalidField: The target is no text, or no policy can grant the method.
    """
    _check(target, method)
    if "://" in target:
        return _url(effective, target, method)
    kind, colon, name = target.partition(":")
    if colon and kind == "kv":
        return _kv(effective, target, name, writing=method not in _READING)
    if colon and kind == "secret":
        return _secret(effective, target, name)
    if colon and kind == "config":
        return _config(effective, target, name)
    return _file(effective, target, writing=method not in _READING)


def _check(target: object, method: object) -> None:
    if not isinstance(target, str) or not is_unicode(target):
        raise InvalidField(
            "the target is not a text that is valid Unicode",
            pointer="/target",
            value=shown(target),
            remedy="send a URL or the path of a file",
        )
    if method not in _METHODS:
        raise InvalidField(
            f"{shown(method)!r} is no method that can be granted",
            pointer="/method",
            value=shown(method),
            remedy=f"use one of {', '.join(_METHODS)}",
        )


def _url(effective: Effective, url: str, method: str) -> Explanation:
    missing = _missing(effective, "http", "[[{}.http]] with its hosts")
    if missing:
        return _denied(url, "not-granted", "HTTP is not granted", missing)
    values = effective.to_json()
    found = _judged(values, method, url)
    # Each side by itself, so that the answer can name the one that has no rule for it.
    wanted = _side(values, "wanted", method, url)
    allowed = _side(values, "allowed", method, url)
    if found["allowed"]:
        place = f"{found['host']}:{found['port']}"
        detail, rule, needed = f"{method} to {place}", None, tuple[str, ...]()
    else:
        detail, rule = found["detail"], found["rule"]
        needed = _needed(found, method, url.partition(":")[0].lower(), (wanted is None, allowed is None))
    return Explanation(
        target=url,
        allowed=found["allowed"],
        rule=rule,
        detail=detail,
        needed=needed,
        wanted=wanted,
        allowed_rule=allowed,
        # A private destination may be at any address.
        needs_resolving=found["needsResolving"] and not found["private"],
    )


def _judged(values: Mapping[str, Any], method: str, url: str) -> dict[str, Any]:
    return _native.explain_url(msgspec.json.encode(values).decode(), method, url)


def _side(values: Mapping[str, Any], side: str, method: str, url: str) -> int | None:
    """The rule of one side that matches; as if the other said the same."""
    rules = values["http"][side]
    both = {"http": {"wanted": rules, "allowed": rules}}
    found: int | None = _judged({**values, **both}, method, url)["wanted"]
    return found


def _needed(
    found: Mapping[str, Any], method: str, scheme: str, missing_in: tuple[bool, bool]
) -> tuple[str, ...]:
    """What each side that has no rule for a request would have to say."""
    rule, host, port = found["rule"], found["host"], found["port"]
    if rule in _FORM or host is None:
        return ("another URL: no grant changes that",)
    if rule == "private":
        request = f'private = ["{host}:{port}"], methods = ["{method}"]'
    else:
        request = f'hosts = ["{host.strip("[]")}"], ports = [{port}], methods = ["{method}"]'
    if scheme == "http":
        request += ', schemes = ["http"]'
    sides = ("in the definition, [[wants.http]]", "in the policy, [[grants.http]]")
    return tuple(f"{side}: {request}" for side, missing in zip(sides, missing_in, strict=True) if missing)


def _kv(effective: Effective, target: str, key: str, *, writing: bool) -> Explanation:
    if not 0 < len(key.encode()) <= _MAX_KEY:
        return _invalid(target, f"a key has 1 to {_MAX_KEY} bytes", "another key: no grant changes that")
    return _store(effective, target, "kv", writing=writing)


def _file(effective: Effective, path: str, *, writing: bool) -> Explanation:
    inside = 'a path inside the capsule\'s own directory, as "notes/today.txt"'
    parts = path.split("/")
    if not path:
        return _invalid(path, "the path is empty, which is the capsule's directory and no file", inside)
    if len(path.encode()) > _MAX_PATH or len(parts) > _MAX_PARTS:
        return _invalid(path, f"a path has at most {_MAX_PATH:,} bytes and {_MAX_PARTS} parts", inside)
    if path.startswith("/"):
        return _denied(path, "path", "the path is absolute", [inside])
    # As it is read by who opens it: the first part that is at fault decides.
    for part in parts:
        if part == "..":
            return _denied(path, "path", "the path leads out of the capsule's directory", [inside])
        if not 0 < len(part.encode()) <= _MAX_PART or part == ".":
            return _invalid(
                path, f"each part of a path has 1 to {_MAX_PART} bytes, and is not . alone", inside
            )
        if any(unicodedata.category(char) == "Cc" for char in part):
            return _invalid(path, "the path has a control character", inside)
        if part.startswith(_WRITING):
            return _invalid(path, f"names that begin with {_WRITING} are the host's", inside)
    return _store(effective, path, "files", writing=writing)


def _store(effective: Effective, target: str, name: str, *, writing: bool) -> Explanation:
    store: Kv | Files | None = getattr(effective, name)
    access = "read_write" if writing else "read"
    missing = _missing(effective, name, f'{name} = {{{{ access = "{access}" }}}} under [{{}}]')
    if store is None:
        return _denied(target, "not-granted", f"{name} is not granted", missing)
    if writing and store.access == "read":
        sides = {"definition": effective.wants, "policy": effective.policy.grants}
        return _denied(
            target,
            f"{name}-access",
            f"{name} may only be read",
            [
                f'in the {side}: {name} = {{ access = "read_write" }}'
                for side, grants in sides.items()
                if getattr(grants, name).access == "read"
            ],
        )
    count = store.max_keys if isinstance(store, Kv) else store.max_files
    quotas = f", at most {store.max_bytes:,} bytes in {count:,} {'keys' if name == 'kv' else 'files'}"
    detail = f"{name} may be {'written' if writing else 'read'}{quotas if writing else ''}"
    return Explanation(target=target, allowed=True, rule=None, detail=detail)


def _secret(effective: Effective, target: str, name: str) -> Explanation:
    for secret in effective.secrets:
        if secret.name == name:
            wanted, allowed = ", ".join(secret.wanted), ", ".join(secret.allowed)
            hosts = wanted if secret.wanted == secret.allowed else f"{wanted} as far as they match {allowed}"
            detail = f"it may be sent in headers to {hosts}, over https or to a private destination"
            return Explanation(target=target, allowed=True, rule=None, detail=detail)
    sides = {
        "definition, [[wants.secrets]]": effective.wants.secrets,
        "policy, [[grants.secrets]]": effective.policy.grants.secrets,
    }
    needed = [
        f'in the {side}: name = "{name}", and its hosts'
        for side, secrets in sides.items()
        if all(secret.name != name for secret in secrets)
    ]
    return _denied(target, "secret", f"the secret {name!r} is not granted", needed)


def _config(effective: Effective, target: str, name: str) -> Explanation:
    if name in effective.config:
        return Explanation(target=target, allowed=True, rule=None, detail=f"it is {effective.config[name]!r}")
    needed = []
    if name not in effective.wants.config:
        needed.append(f'in the definition, under [wants]: config = ["{name}"]')
    if name not in effective.policy.grants.config:
        needed.append(f'in the policy, under [grants]: config = {{ {name} = "…" }}')
    return _denied(target, "config", f"no text named {name!r} is granted", needed)


def _missing(effective: Effective, name: str, grant: str) -> list[str]:
    """What the sides would have to say that do not have an interface at all."""
    needed = []
    if not getattr(effective.wants, name):
        needed.append(f"in the definition: {grant.format('wants')}")
    if not getattr(effective.policy.grants, name):
        needed.append(f"in the policy: {grant.format('grants')}")
    return needed


def _invalid(target: str, detail: str, needed: str) -> Explanation:
    return _denied(target, "invalid", detail, [needed])


def _denied(target: str, rule: str, detail: str, needed: list[str]) -> Explanation:
    return Explanation(target=target, allowed=False, rule=rule, detail=detail, needed=tuple(needed))
