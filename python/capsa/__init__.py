"""Capsa: sandboxed capsules that decide, and learn from feedback.

```python
import capsa

router = capsa.open().install("router.yaml")
decision = router.decide({"task_type": "legal"})
router.feedback(decision.id, reward=1.0)
```
"""

from typing import TYPE_CHECKING, Any

from capsa import errors
from capsa._native import Decision, __version__
from capsa.decisions import (
    AsyncCapsule,
    AsyncStore,
    AuditRecord,
    Capsule,
    ContextMemory,
    DecisionRecord,
    Deleted,
    Erased,
    Export,
    Feedback,
    FeedbackRecord,
    InstallResult,
    Job,
    JobInfo,
    Purged,
    Rebuild,
    Replay,
    Report,
    Store,
    Story,
    Tenant,
    TenantInfo,
    Upkeep,
)
from capsa.decisions import open_store as open
from capsa.errors import *  # noqa: F403 - every error is part of the API
from capsa.errors import CapsaError

if TYPE_CHECKING:
    from capsa.client import AsyncClient, Client, Unauthorized, Unreachable

__all__ = [
    "AsyncCapsule",
    "AsyncClient",
    "AsyncStore",
    "AuditRecord",
    "CapsaError",
    "Capsule",
    "Client",
    "ContextMemory",
    "Decision",
    "DecisionRecord",
    "Deleted",
    "Erased",
    "Export",
    "Feedback",
    "FeedbackRecord",
    "InstallResult",
    "Job",
    "JobInfo",
    "Purged",
    "Rebuild",
    "Replay",
    "Report",
    "Store",
    "Story",
    "Tenant",
    "TenantInfo",
    "Unauthorized",
    "Unreachable",
    "Upkeep",
    "__version__",
    "errors",
    "open",
]

#: What is loaded when it is asked for: it needs aiohttp, which who works in process does not.
_OF_CLIENT = frozenset({"AsyncClient", "Client", "Unauthorized", "Unreachable"})


def __getattr__(name: str) -> Any:
    if name in _OF_CLIENT:
        from capsa import client

        return getattr(client, name)
    raise AttributeError(f"module 'capsa' has no attribute {name!r}")
