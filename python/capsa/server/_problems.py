"""Problem documents (RFC 9457): one table from what went wrong to status, title and advice."""

from __future__ import annotations

import html
from typing import Any, Final

import msgspec

from capsa import errors
from capsa.errors import CapsaError, InvalidSpec

#: Longest value that is said back.
SHOWN: Final = 80


class Kind(msgspec.Struct, frozen=True):
    """One type of problem.

    Attributes:
        status: The HTTP status it comes with.
        title: The same words every time.
        meaning: What it means, one or two sentences.
        advice: What to do.
        retry_after_s: When trying again may help; ``None`` where it cannot.
        changed: What the request has changed all the same; empty: nothing.
    """

    status: int
    title: str
    meaning: str
    advice: str
    retry_after_s: int | None = None
    changed: str = ""


#: A tool's keys, files and requests are not taken back with the call.
_DONE: Final = "Nothing is decided or learned. What a tool has done before it ended stays: its keys, its files, its requests."


def _guest(what: str, limits: str = "") -> Kind:
    mend = "Look at the server's log for what the capsule wrote, mend it, and install the next version."
    return Kind(
        500,
        f"The capsule {what}",
        f"The capsule's code {what}. It is the capsule's fault, not the host's; other capsules go on.",
        mend if not limits else f"{mend} To a tool that needs more, give it by {limits} in its policy.",
        changed=_DONE,
    )


KINDS: Final[dict[str, Kind]] = {
    "malformed-body": Kind(
        400,
        "The body cannot be read",
        "The body is not JSON (or CBOR, where the content type says so), is not valid UTF-8, names a key twice, or is nested too deep.",
        "Send one JSON object in UTF-8, with each key once and no NaN or Infinity.",
    ),
    "malformed-request": Kind(
        400,
        "Not an HTTP request",
        "What was sent is not a request that HTTP/1.1 allows, or two of its headers contradict each other.",
        "Use an HTTP client; behind a proxy, look at what the proxy sends.",
    ),
    "unknown-field": Kind(
        400,
        "A key that does not exist",
        "The body or the query has a key that this call does not know. It is refused, since a misspelt key would have no effect.",
        "Use the key that the answer names, or leave it out.",
    ),
    "invalid-field": Kind(
        400,
        "A value that does not hold",
        "A value has the wrong type, is out of range, is not finite, or is too long.",
        "The answer names the field, the value and what is accepted.",
    ),
    "unknown-option": Kind(
        400,
        "No such option",
        "The installed version has no option of this name or number.",
        "Use one of the options that the answer lists.",
    ),
    "unknown-strategy": Kind(
        400,
        "No such strategy",
        "The installed version has no strategy of this name or number.",
        "Use one of the strategies that the answer lists.",
    ),
    "no-allowed-option": Kind(
        400,
        "Nothing is allowed",
        "What the request, the capsule and the valid combinations allow leaves no option.",
        "Allow at least one option that the others allow too.",
    ),
    "metric-out-of-range": Kind(
        400,
        "A metric outside its scale",
        "A metric lies outside the scale that its capsule declares. It is refused and never clipped: a clipped metric would teach the wrong thing.",
        "Send the metric in the declared unit, or change `budget:` or `range:` in the spec.",
    ),
    "reward-out-of-range": Kind(
        400,
        "A reward outside its range",
        "The reward lies outside `reward_range`. It is refused and never clipped.",
        "Scale the reward, or declare another `reward_range:`.",
    ),
    "unknown-metric": Kind(
        400,
        "No such metric",
        "The capsule declares no metric of this name.",
        "Use one of the metrics that the answer lists.",
    ),
    "reward-missing": Kind(
        400,
        "Nothing to learn from",
        "The feedback has neither a reward nor an outcome.",
        "Send `outcome` with at least one metric, or `reward`.",
    ),
    "invalid-spec": Kind(
        400,
        "The spec does not hold",
        "The YAML of a capsule has lines that do not hold. Every one of them is in the answer.",
        "Mend the lines; `capsa author FILE` checks a spec without a server.",
    ),
    "invalid-capsule": Kind(
        400,
        "Not a capsule",
        "The component cannot be run here: it is damaged, wants imports that are not granted, or does not say what it is.",
        "Build it against the world of `wit/`; the answer says what is missing.",
    ),
    "invalid-policy": Kind(
        400,
        "The capability policy does not hold",
        "A capability policy, or what a tool's definition wants, has a key or a value that does not hold. Nothing of it is used.",
        "The answer names the place and what to write instead; `capsa policy check FILE` reads a policy without a server.",
    ),
    "capsule-refused": Kind(
        422,
        "The capsule refused",
        "The capsule answered with an error of its own, which is the detail. Of a tool, `failure` is its name for it, and `retryable` says whether the same call may succeed later.",
        "The capsule's words say what it expects.",
        changed=_DONE,
    ),
    "unauthorized": Kind(
        401,
        "No valid key",
        "The request has no key, or one that this server does not know.",
        "Send `Authorization: Bearer KEY` with the server's admin key.",
    ),
    "insufficient-scope": Kind(
        403,
        "The key may not do this",
        "The key is known, but does not reach this far.",
        "Use a key with the scope that the answer names.",
    ),
    "capability-denied": Kind(
        403,
        "Not granted by the capability policy",
        "The tool imports what its capability policy does not grant, so it was not called.",
        "Look with `capsa policy show`, and grant what you mean to allow with `PUT policy`; or use a tool that needs less.",
    ),
    "install-refused": Kind(
        403,
        "Not let in",
        "The setting `install.allow` of the store does not let in a capsule of this kind.",
        "Install what it lets in, or change the setting where the store is opened.",
    ),
    "foreign-origin": Kind(
        403,
        "A web page of another site",
        "In dev mode no key is asked for, so requests that a web page of another site could have caused are refused.",
        "Call the server as localhost and without an Origin header, or start it with a key.",
    ),
    "unknown-tenant": Kind(
        404,
        "No such tenant",
        "There is no tenant of this name.",
        "A tenant exists from its first install or job on.",
    ),
    "unknown-job": Kind(
        404,
        "No such job",
        "The tenant has no job of this name.",
        "A job exists from its first install on; or create it.",
    ),
    "unknown-capsule": Kind(
        404, "No such capsule", "The job has no capsule of this name.", "Install it first."
    ),
    "unknown-decision": Kind(
        404,
        "No such decision",
        "No decision of this capsule has this id. The answer is the same for an id that was changed, that another capsule gave, and that is forgotten.",
        "Send the id as `decide` gave it, to the same capsule.",
    ),
    "unknown-invocation": Kind(
        404,
        "No such invocation",
        "No call of this tool has this id, or it is forgotten.",
        "Send the id as `invoke` gave it, to the same tool.",
    ),
    "unknown-path": Kind(
        404,
        "No such path",
        "Nothing is served under this path.",
        "`/openapi.json` lists every path there is.",
    ),
    "wrong-method": Kind(
        405,
        "Not with this method",
        "The path exists, but not for this method.",
        "Use one of the methods in `Allow`.",
    ),
    "request-timeout": Kind(
        408,
        "The request took too long to arrive",
        "The body of the request did not arrive in the time that the server waits for it. (A head that takes too long ends the connection without an answer.)",
        "Send the request whole; on a slow line send less at once.",
    ),
    "feedback-conflict": Kind(
        409,
        "Something else was said before",
        "This decision has feedback already, and what was sent contradicts it. The first content stays.",
        "Send each metric once. To correct an outcome is not possible yet.",
    ),
    "install-conflict": Kind(
        409,
        "What was learned would mean something else",
        "The install would make recorded rewards or contexts mean something else.",
        "Install it under another name, or delete the capsule first.",
    ),
    "wrong-kind": Kind(
        409,
        "Not with a capsule of this kind",
        "A tool was asked to decide or to learn, or a decision capsule to be invoked.",
        "Invoke tools; ask decision capsules to decide. `GET` on the capsule's path says which it is.",
    ),
    "idempotency-conflict": Kind(
        409,
        "The same Idempotency-Key with another body",
        "This key was used before for another request.",
        "Make a new key for every new request; repeat a key only with the same body.",
    ),
    "already-exists": Kind(
        409, "It exists already", "Something of this name exists already.", "Use another name."
    ),
    "stale-document": Kind(
        412,
        "The document has changed",
        "`If-Match` names a version of the document that is not the present one.",
        "Read it again, apply the change to what is there now, and send the new ETag.",
    ),
    "too-large": Kind(
        413,
        "Too large",
        "The request is larger than the server accepts.",
        "Send less at once; the answer names the limit.",
    ),
    "unsupported-type": Kind(
        415,
        "A coding that is not understood",
        "The body comes with a content coding, such as gzip, or in a way that this call does not take.",
        "Send it plain: JSON, or CBOR as `application/cbor`.",
    ),
    "header-too-large": Kind(
        431,
        "The head of the request is too large",
        "The request line, a header, or all headers together are longer than the server accepts.",
        "Send fewer and shorter headers.",
    ),
    "too-many-requests": Kind(
        429,
        "Too many requests",
        "More was asked for in this time than is allowed.",
        "Wait as long as `Retry-After` says.",
        1,
    ),
    "overloaded": Kind(
        503,
        "Too much at once",
        "Every place was taken for as long as a request waits. Nothing was done.",
        "Try again after `Retry-After` seconds, with fewer at once.",
        1,
    ),
    "store-unwritable": Kind(
        503,
        "The store cannot be written",
        "The disk refused, or is full. What was answered before is safe. Nothing more is recorded until the server is started again.",
        "Free or repair the disk, look with `capsa doctor STORE`, and start the server again.",
        30,
    ),
    "starting": Kind(503, "Starting", "The server is reading its store.", "Try again in a moment.", 1),
    "stopping": Kind(
        503, "Stopping", "The server was told to stop and takes no new requests.", "Try again in a moment.", 2
    ),
    "capsule-trapped": _guest("stopped with a trap"),
    "capsule-deadline": _guest(
        "used up its processor time, or the time that it may take in all",
        "`limits.cpu_ms` or `limits.wall_ms`",
    ),
    "capsule-out-of-memory": _guest("needed more memory than it may have", "`limits.memory_bytes`"),
    "capsule-stack": _guest("nested its calls too deep"),
    "capsule-fuel": _guest("used up its fuel", "`limits.fuel`"),
    "capsule-limit": _guest(
        "went past a limit of its own, such as its calls of the host",
        "the one that the answer names, of `limits`",
    ),
    "capsule-bad-output": _guest("answered what its world or definition does not allow"),
    "internal": Kind(
        500,
        "A fault of the server",
        "Something failed that is not the caller's fault.",
        "Look at the server's log for the request id.",
        changed="That is not known. A decision or feedback that is sent again with its `Idempotency-Key` counts once.",
    ),
}


class Refused(CapsaError):
    """A request that the edge itself refuses.

    Attributes:
        kind: The type of problem.
        headers: What the answer says besides.
        close: Whether the connection ends with the answer.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        pointer: str | None = None,
        value: str | None = None,
        remedy: str | None = None,
        headers: dict[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail, pointer=pointer, value=value, remedy=remedy)
        self.kind = kind
        self.headers = headers or {}
        self.close = close


def kind_of(error: CapsaError) -> str:
    """The type of problem that an error comes out as."""
    if isinstance(error, Refused):
        return error.kind
    if isinstance(error, errors.StoreUnwritable):
        return "store-unwritable"
    if isinstance(error, errors.StoreClosed):
        return "stopping"
    if isinstance(error, errors.StoreError | errors.HostFault | errors.UnknownEvent | errors.UnknownBlob):
        return "internal"
    return error.code


def document(error: CapsaError, request_id: str) -> dict[str, Any]:
    """An error as a problem document."""
    name = kind_of(error)
    kind = KINDS[name]
    told: dict[str, Any] = {
        "type": f"/problems/{name}",
        "title": kind.title,
        "status": kind.status,
        # What a fault of ours says is for the log: it may name files and folders.
        "detail": kind.meaning if name in _OURS else error.detail,
    }
    listed = [] if name in _OURS else _errors(error)
    if listed:
        told["errors"] = listed
    if isinstance(error, errors.CapsuleRefused) and error.failure is not None:
        told |= {"failure": error.failure, "retryable": error.retryable}
    told["requestId"] = request_id
    return told


_OURS: Final = ("internal", "store-unwritable")
#: What is an argument in Python and a header in HTTP.
_HEADERS: Final = {"/ifVersion": "If-Match", "/idempotencyKey": "Idempotency-Key"}


def _errors(error: CapsaError) -> list[dict[str, Any]]:
    if isinstance(error, InvalidSpec):
        return [
            {"line": line, "column": column, "key": key, "message": message}
            for line, column, key, message in error.problems
        ]
    pointer = _HEADERS.get(error.pointer or "", error.pointer)
    entry = {"pointer": pointer, "value": error.value, "remedy": error.remedy}
    told = {name: value for name, value in entry.items() if value is not None}
    if len(told.get("value", "")) > SHOWN:
        told["value"] = told["value"][:SHOWN] + "…"
    return [told] if told else []


_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#222}}
code{{background:#f2f2f2;padding:0 .2em}}h1{{font-size:1.5rem}}dt{{font-weight:600;margin-top:1rem}}dd{{margin:0}}</style>
</head><body>{body}</body></html>
"""


def page(name: str) -> str | None:
    """The page of one type of problem as HTML; ``None`` where there is no such type."""
    kind = KINDS.get(name)
    if kind is None:
        return None
    rows = (
        ("Type", f"<code>/problems/{name}</code>"),
        ("Status", str(kind.status)),
        ("What it means", _marked(kind.meaning)),
        ("What has changed", _marked(kind.changed or "Nothing.")),
        ("What to do", _marked(kind.advice)),
    )
    listed = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in rows)
    body = f'<h1>{html.escape(kind.title)}</h1><dl>{listed}</dl><p><a href="/problems">All types of problems</a></p>'
    return _PAGE.format(title=html.escape(kind.title), body=body)


def index() -> str:
    """The page that lists every type of problem."""
    rows = "".join(
        f'<li><a href="/problems/{name}"><code>{name}</code></a> ({kind.status}): {html.escape(kind.title)}</li>'
        for name, kind in sorted(KINDS.items())
    )
    return _PAGE.format(title="Problems", body=f"<h1>Types of problems</h1><ul>{rows}</ul>")


def _marked(text: str) -> str:
    """A text with what stands in backquotes as code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
