"""The decision that stands in where there is no answer: the caller's default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capsa.client._answers import RemoteDecision, RemoteStrategy
from capsa.client._errors import Unreachable
from capsa.errors import CapsaError, StoreClosed

#: What a default is given as: an option's name, or by strategy.
Default = str | Mapping[str, str]
#: How the strategy of a capsule with one is called where its spec gives it no name.
_ONLY = "choice"


def checked_default(default: object) -> dict[str, str] | None:
    """A default by strategy, or ``None`` where none was given.

    Raises:
        TypeError: It is neither an option's name nor a mapping of strategies to such names.
        ValueError: It names nothing.
    """
    if default is None:
        return None
    by_strategy = {_ONLY: default} if isinstance(default, str) else default
    if not isinstance(by_strategy, Mapping) or not all(
        isinstance(name, str) and isinstance(option, str) for name, option in by_strategy.items()
    ):
        raise TypeError(
            "the default is an option's name, or a mapping of strategies to names, as {'timeout': '1s'}"
        )
    if not by_strategy or not all(by_strategy.values()):
        raise ValueError("the default names no option")
    return dict(by_strategy)


def standing_in(
    default: Mapping[str, str], place: tuple[str, str, str], context_key: Any, error: CapsaError
) -> RemoteDecision:
    """The default as a decision.

    Args:
        default: The options by strategy.
        place: Tenant, job and capsule.
        context_key: As the caller gave it.
        error: Why there is no other.
    """
    parts = [
        RemoteStrategy(strategy_id=number, strategy=strategy, option=None, option_name=option)
        for number, (strategy, option) in enumerate(default.items())
    ]
    only = parts[0] if len(parts) == 1 else None
    tenant, job, capsule = place
    # Frames of the call would be held by whoever keeps the decision.
    error = error.with_traceback(None)
    return RemoteDecision(
        id=None,
        capsule=capsule,
        capsule_version=0,
        tenant=tenant,
        job=job,
        mode="",
        context_key=context_key if isinstance(context_key, str) else "",
        context_key_from="input" if context_key is None else "request",
        propensity=None,
        reason="unreachable" if isinstance(error, Unreachable | StoreClosed) else "refused",
        suggested=None,
        decisions=parts,
        learner_version=0,
        warnings=[],
        strategy_id=None if only is None else only.strategy_id,
        strategy=None if only is None else only.strategy,
        option=None,
        option_name=None if only is None else only.option_name,
        error=error,
    )
