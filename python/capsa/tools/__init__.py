"""Tool capsules: what of them is folded, what they are bound to, and their calls.

This room knows no store: `decisions` gives it what it records with.
"""

from capsa.tools._answers import Denial, Invoked, LogLine, Replayed, Used
from capsa.tools._call import Books, Calls
from capsa.tools._inputs import MAX_INPUT_BYTES
from capsa.tools._record import InvocationRecord, encode_breach, invocation_id, invocation_record, nonce_of
from capsa.tools._state import ToolState, check_definition, recorded_policy
from capsa.tools._vault import Vault

__all__ = [
    "MAX_INPUT_BYTES",
    "Books",
    "Calls",
    "Denial",
    "InvocationRecord",
    "Invoked",
    "LogLine",
    "Replayed",
    "ToolState",
    "Used",
    "Vault",
    "check_definition",
    "encode_breach",
    "invocation_id",
    "invocation_record",
    "nonce_of",
    "recorded_policy",
]
