"""What goes over the wire: the shapes of requests and answers as JSON spells them, for server, client and command line."""

from capsa.decisions._history import learning_json, to_json
from capsa.wire._answers import context_page, feedback_json, installed_json, page, report_json
from capsa.wire._body import CBOR, JSON, Malformed, decode, encode
from capsa.wire._requests import Decide, DecideBatch, FeedbackBatch, FeedbackPost, NewJob, decoded

__all__ = [
    "CBOR",
    "JSON",
    "Decide",
    "DecideBatch",
    "FeedbackBatch",
    "FeedbackPost",
    "Malformed",
    "NewJob",
    "context_page",
    "decode",
    "decoded",
    "encode",
    "feedback_json",
    "installed_json",
    "learning_json",
    "page",
    "report_json",
    "to_json",
]
