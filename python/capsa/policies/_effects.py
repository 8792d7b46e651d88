"""Effect classes: what a tool's imports and wants prove about it, held against what it declares.

From the strongest claim to the weakest: `pure` (the answer follows from the input), `read` (changes nothing outside),
`idempotent` (twice is as once), `non_idempotent`. The first two can be proved. The last two cannot be told apart from
outside, so a definition that is neither of the first may declare either.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, get_args

from capsa.errors import InvalidCapsule
from capsa.policies._model import Effect, Wants

#: Imports that a capsule of any class may have. `random` follows from the input where the class is `pure`.
_PURE: Final = frozenset({"log", "config", "random"})
_READ: Final = _PURE | {"clock", "kv", "http", "files", "secrets"}
#: Interfaces that hold types and no functions.
_TYPES: Final = frozenset({"types", "outside"})
_PACKAGE: Final = "capsa:capsule/"
_READ_METHODS: Final = frozenset({"GET", "HEAD"})
_EFFECTS: Final[tuple[Effect, ...]] = get_args(Effect)


def effect_of(wants: Wants, imports: Collection[str]) -> Effect:
    """The strongest class that a tool may declare.

    Args:
        wants: What its definition wants.
        imports: Of its component, as `inspect_component` names them.

    Returns:
        ``pure``, ``read``, or ``idempotent`` where neither is proved: then what happens when it is called twice is the
        author's word.

    Raises:
        InvalidCapsule: It imports what no host has.
    """
    names = _interfaces(imports)
    if names <= _PURE:
        return "pure"
    writes = (
        ("kv" in names and wants.kv is not None and wants.kv.access != "read")
        or ("files" in names and wants.files is not None and wants.files.access != "read")
        or ("http" in names and not all(_READ_METHODS.issuperset(rule.methods) for rule in wants.http))
    )
    return "idempotent" if writes else "read"


def check_effect(declared: Effect, wants: Wants, imports: Collection[str]) -> None:
    """Checks what a definition says about itself against its component.

    Wanting less than is imported is a fault of the definition, except `log`, which is never wanted; wanting more is not:
    then it is not used.

    Args:
        declared: The class that the definition declares; any weaker one than what is proved will do.
        wants: What it wants.
        imports: Of its component, as `inspect_component` names them.

    Raises:
        InvalidCapsule: It imports what it does not want or what no host has, or claims more than is proved.
    """
    for name in sorted(_interfaces(imports) - {"log"}):
        if not getattr(wants, name):
            example = _WANTED[name]
            raise InvalidCapsule(
                f"the component imports {name}, and its definition does not want it",
                pointer=f"/wants/{name}",
                remedy=f"write {example} in the definition, or leave the import out",
            )
    proved = effect_of(wants, imports)
    if _EFFECTS.index(declared) < _EFFECTS.index(proved):
        weakest = " or ".join(_EFFECTS[_EFFECTS.index(proved) :])
        raise InvalidCapsule(
            f"the definition says {declared}, and {_why_not(declared, wants, imports)}",
            pointer="/effect",
            value=declared,
            remedy=f"declare {weakest}, or want less",
        )


#: How a definition wants each interface.
_WANTED: Final = {
    "clock": "clock = true under [wants]",
    "random": "random = true under [wants]",
    "config": "config and its names under [wants]",
    "kv": 'kv = { access = "read" } under [wants]',
    "files": 'files = { access = "read" } under [wants]',
    "http": "[[wants.http]] with its hosts",
    "secrets": "[[wants.secrets]] with its name and hosts",
}


def _interfaces(imports: Collection[str]) -> frozenset[str]:
    """The names of the interfaces that have functions: ``http`` for ``capsa:capsule/http@0.1.0``."""
    names = set()
    for full in imports:
        is_ours = full.startswith(_PACKAGE)
        name = full.removeprefix(_PACKAGE).partition("@")[0]
        if is_ours and name in _TYPES:
            continue
        # `log` is a function of the world itself, and no interface.
        if full != "log" and not (is_ours and name in _READ - {"log"}):
            raise InvalidCapsule(
                f"the component imports {full[:200]!r}, which no host has",
                pointer="/imports",
                value=full[:80],
                remedy="import nothing but what the world tool has",
            )
        names.add(name)
    return frozenset(names)


def _why_not(declared: Effect, wants: Wants, imports: Collection[str]) -> str:
    names = _interfaces(imports)
    if declared == "pure":
        return f"it imports {', '.join(sorted(names - _PURE))}"
    for name in ("kv", "files"):
        store = getattr(wants, name)
        if name in names and store is not None and store.access != "read":
            return f"it wants to write {name}"
    methods = sorted({method for rule in wants.http for method in rule.methods} - _READ_METHODS)
    return f"it wants to send {', '.join(methods)}"
