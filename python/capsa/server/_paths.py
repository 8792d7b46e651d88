"""Where routes lead, and what many of them take and refuse."""

from __future__ import annotations

from typing import Final

from capsa.server._router import Query

TENANT: Final = "/tenants/{tenant}"
JOB: Final = TENANT + "/jobs/{job}"
CAPSULE: Final = JOB + "/capsules/{capsule}"

LIMIT: Final = Query(
    "limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Rows in a page."
)
AFTER: Final = Query(
    "after",
    {"type": "integer", "minimum": 0, "maximum": 2**53, "default": 0},
    "The `next` of the page before.",
)
NAMES: Final = ("invalid-field", "unknown-field")
OF_CAPSULE: Final = (*NAMES, "unknown-tenant", "unknown-job", "unknown-capsule")
#: Of what only a decision capsule does, or only a tool.
OF_KIND: Final = (*OF_CAPSULE, "wrong-kind")
BODY: Final = ("malformed-body", "too-large", "unsupported-type", "request-timeout")
#: What code of a capsule may come to.
GUEST: Final = (
    "capsule-refused",
    "capsule-trapped",
    "capsule-deadline",
    "capsule-out-of-memory",
    "capsule-stack",
    "capsule-limit",
    "capsule-bad-output",
)
