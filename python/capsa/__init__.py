"""Capsa: sandboxed capsules that decide, and learn from feedback.

```python
import capsa

router = capsa.open().install("router.yaml")
decision = router.decide({"task_type": "legal"})
router.feedback(decision.id, reward=1.0)
```
"""

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

__all__ = [
    "AsyncCapsule",
    "AsyncStore",
    "AuditRecord",
    "CapsaError",
    "Capsule",
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
    "Upkeep",
    "__version__",
    "errors",
    "open",
]
