"""What a capsule may really do: what its definition wants, as far as its policy allows it.

Nothing of it is wider than either side. Rules for HTTP and hosts of secrets are not merged: a request has to match one
of each side, so both lists stay, and an explanation can name the two rules.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from capsa.policies._model import (
    Effect,
    Engine,
    Files,
    HttpRule,
    Kv,
    Limits,
    Policy,
    Wants,
    as_json,
    camel,
    digest_of,
    plain_rule,
    plain_store,
)

_Store = TypeVar("_Store", Kv, Files)


class EffectiveSecret(msgspec.Struct, frozen=True):
    """A secret that both sides name; it goes where a pattern of both sides matches.

    Attributes:
        name: Its name.
        wanted: Host patterns of the definition.
        allowed: Host patterns of the policy.
    """

    name: str
    wanted: tuple[str, ...]
    allowed: tuple[str, ...]


class HttpSides(msgspec.Struct, frozen=True):
    """Rules for HTTP: a request has to match one of each side; so where one side has none, there is no HTTP.

    Attributes:
        wanted: Of the definition.
        allowed: Of the policy; private destinations count here alone.
    """

    wanted: tuple[HttpRule, ...]
    allowed: tuple[HttpRule, ...]


class Effective(msgspec.Struct, frozen=True, kw_only=True):
    """What a capsule may really do.

    Attributes:
        engine: The policy's.
        effect: The class that the definition declares.
        clock: Whether the time is granted.
        random: Whether random numbers are.
        config: The names that are wanted, with the policy's texts.
        kv: The lesser access and the smaller quotas; ``None`` where a side has none.
        files: Likewise.
        http: The rules of both sides.
        secrets: Those that both sides name.
        limits: The smaller of both sides; ``fuel`` is ``None`` where it is not counted.
        wants: What it was made of.
        policy: What it was made of.
    """

    engine: Engine
    effect: Effect
    clock: bool
    random: bool
    config: dict[str, str]
    kv: Kv | None
    files: Files | None
    http: HttpSides
    secrets: tuple[EffectiveSecret, ...]
    limits: Limits
    wants: Wants
    policy: Policy

    def to_json(self) -> dict[str, Any]:
        """As it goes to native code: every key is there, defaults are filled in."""
        return {
            "engine": self.engine,
            "effect": camel(self.effect),
            "clock": self.clock,
            "random": self.random,
            "config": dict(self.config),
            "kv": plain_store(self.kv),
            "files": plain_store(self.files),
            "http": {
                "wanted": [plain_rule(rule) for rule in self.http.wanted],
                "allowed": [plain_rule(rule) for rule in self.http.allowed],
            },
            "secrets": [as_json(secret) for secret in self.secrets],
            "limits": as_json(self.limits),
        }

    @property
    def digest(self) -> str:
        """``b2:`` and the BLAKE2b-256 of its canonical JSON, in hexadecimal."""
        return digest_of(self.to_json())


def effective(wants: Wants, policy: Policy, effect: Effect) -> Effective:
    """What a definition may really do under a policy.

    Args:
        wants: What the definition wants.
        policy: What is allowed; `ready_policy("pure")` for a capsule that has none.
        effect: The class that the definition declares (`check_effect`).
    """
    grants = policy.grants
    allowed_secrets = {secret.name: secret.hosts for secret in grants.secrets}
    return Effective(
        engine=policy.engine,
        effect=effect,
        clock=wants.clock and grants.clock,
        random=wants.random and grants.random,
        config={name: grants.config[name] for name in sorted(wants.config) if name in grants.config},
        kv=_lesser(wants.kv, grants.kv),
        files=_lesser(wants.files, grants.files),
        http=HttpSides(wants.http, grants.http),
        secrets=tuple(
            EffectiveSecret(secret.name, secret.hosts, allowed_secrets[secret.name])
            for secret in wants.secrets
            if secret.name in allowed_secrets
        ),
        limits=_smaller(wants, policy),
        wants=wants,
        policy=policy,
    )


def _lesser(wanted: _Store | None, allowed: _Store | None) -> _Store | None:
    if wanted is None or allowed is None:
        return None
    quotas = {
        name: min(getattr(wanted, name), getattr(allowed, name))
        for name in allowed.__struct_fields__
        if name != "access"
    }
    # "read" is the lesser one.
    access = allowed.access if wanted.access == "read_write" else wanted.access
    return msgspec.structs.replace(allowed, access=access, **quotas)


def _smaller(wants: Wants, policy: Policy) -> Limits:
    limits: dict[str, int | None] = {}
    for name in policy.limits.__struct_fields__:
        wanted, allowed = getattr(wants.limits, name), getattr(policy.limits, name)
        # What the policy does not count (fuel in the fast engine) nobody's wish makes it count.
        limits[name] = allowed if allowed is None or wanted is None else min(wanted, allowed)
    return msgspec.structs.replace(policy.limits, **limits)
