"""Views of the journal: what was decided, what came of it, who changed what, and whether it all still holds."""

from capsa.decisions._history._export import export
from capsa.decisions._history._json import learning_json, to_json
from capsa.decisions._history._records import (
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
from capsa.decisions._history._replay import rebuild, replay
from capsa.decisions._history._views import (
    AUDITED,
    MAX_PAGE,
    audit,
    capsule_audit,
    decisions,
    feedback_log,
    story,
)

__all__ = [
    "AUDITED",
    "MAX_PAGE",
    "AuditRecord",
    "DecisionRecord",
    "Difference",
    "Export",
    "FeedbackRecord",
    "Rebuild",
    "RebuiltCapsule",
    "Replay",
    "Story",
    "audit",
    "capsule_audit",
    "decisions",
    "export",
    "feedback_log",
    "learning_json",
    "rebuild",
    "replay",
    "story",
    "to_json",
]
