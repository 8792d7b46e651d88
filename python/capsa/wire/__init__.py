"""What goes over the wire: the shapes of requests and answers as JSON spells them, for server, client and command line."""

from capsa.decisions._history import learning_json, to_json
from capsa.wire._answers import (
    audit_page,
    context_page,
    feedback_json,
    installed_json,
    page,
    report_json,
)
from capsa.wire._body import CBOR, JSON, Malformed, decode, encode
from capsa.wire._requests import (
    Compensate,
    Decide,
    DecideBatch,
    FeedbackBatch,
    FeedbackPost,
    Invoke,
    NewJob,
    decoded,
)
from capsa.wire._tools import (
    invocation_json,
    invocation_page,
    invoked_json,
    policy_json,
    replayed_json,
)

__all__ = [
    "CBOR",
    "JSON",
    "Compensate",
    "Decide",
    "DecideBatch",
    "FeedbackBatch",
    "FeedbackPost",
    "Invoke",
    "Malformed",
    "NewJob",
    "audit_page",
    "context_page",
    "decode",
    "decoded",
    "encode",
    "feedback_json",
    "installed_json",
    "invocation_json",
    "invocation_page",
    "invoked_json",
    "learning_json",
    "page",
    "policy_json",
    "replayed_json",
    "report_json",
    "to_json",
]
