"""Capability policies: what a capsule may touch, and what a call of it may use up.

`load_policy` reads a policy, `load_wants` what a definition wants, `effective` says what is left of both, which is what
native code enforces. `explain` and `diff` are for people who decide what to grant. Nothing here runs anything: this room
knows no wasmtime, no HTTP and no store.
"""

from capsa.policies._diff import Change, Difference, diff
from capsa.policies._document import is_unicode, read_document
from capsa.policies._effective import Effective, EffectiveSecret, HttpSides, effective
from capsa.policies._effects import check_effect, effect_of
from capsa.policies._explain import Explanation, explain
from capsa.policies._load import READY, load_policy, load_wants, ready_policy
from capsa.policies._model import (
    Access,
    Effect,
    Engine,
    Files,
    Grants,
    HttpRule,
    Kv,
    Limits,
    Method,
    Policy,
    Scheme,
    Secret,
    WantedLimits,
    Wants,
)
from capsa.policies._schema import policy_schema

__all__ = [
    "READY",
    "Access",
    "Change",
    "Difference",
    "Effect",
    "Effective",
    "EffectiveSecret",
    "Engine",
    "Explanation",
    "Files",
    "Grants",
    "HttpRule",
    "HttpSides",
    "Kv",
    "Limits",
    "Method",
    "Policy",
    "Scheme",
    "Secret",
    "WantedLimits",
    "Wants",
    "check_effect",
    "diff",
    "effect_of",
    "effective",
    "explain",
    "is_unicode",
    "load_policy",
    "load_wants",
    "policy_schema",
    "read_document",
    "ready_policy",
]
