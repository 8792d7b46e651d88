"""Decisions: jobs, decide, feedback, reports and modes."""

from capsa.decisions._answers import ContextMemory, Feedback, InstallResult, StrategyFeedback
from capsa.decisions._async import AsyncCapsule, AsyncStore
from capsa.decisions._capsule import Capsule
from capsa.decisions._report import Report
from capsa.decisions._store import Job, Store, Tenant, open_store

__all__ = [
    "AsyncCapsule",
    "AsyncStore",
    "Capsule",
    "ContextMemory",
    "Feedback",
    "InstallResult",
    "Job",
    "Report",
    "Store",
    "StrategyFeedback",
    "Tenant",
    "open_store",
]
