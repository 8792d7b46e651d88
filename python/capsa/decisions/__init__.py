"""Decisions: jobs, decide, feedback, reports and modes."""

from capsa.decisions._answers import ContextMemory, Feedback, InstallResult, StrategyFeedback
from capsa.decisions._async import AsyncCapsule, AsyncStore
from capsa.decisions._capsule import Capsule
from capsa.decisions._erasure import Deleted, Erased, Purged
from capsa.decisions._history import (
    AuditRecord,
    DecisionRecord,
    Difference,
    Export,
    FeedbackRecord,
    Rebuild,
    RebuiltCapsule,
    Replay,
    Story,
)
from capsa.decisions._jobs import Job, JobInfo, Tenant, TenantInfo
from capsa.decisions._letting_in import Settings
from capsa.decisions._opening import open_store
from capsa.decisions._report import Report
from capsa.decisions._store import Store
from capsa.decisions._upkeep import Upkeep

__all__ = [
    "AsyncCapsule",
    "AsyncStore",
    "AuditRecord",
    "Capsule",
    "ContextMemory",
    "DecisionRecord",
    "Deleted",
    "Difference",
    "Erased",
    "Export",
    "Feedback",
    "FeedbackRecord",
    "InstallResult",
    "Job",
    "JobInfo",
    "Purged",
    "Rebuild",
    "RebuiltCapsule",
    "Replay",
    "Report",
    "Settings",
    "Store",
    "Story",
    "StrategyFeedback",
    "Tenant",
    "TenantInfo",
    "Upkeep",
    "open_store",
]
