"""The page about HTTP says every limit, path, status and reason that the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from capsa.decisions import Feedback, _batch, _retries
from capsa.decisions._learning import to_camel
from capsa.server import PORT, _access, _limits
from capsa.server._routes import ROUTES

PAGE: Final = (Path(__file__).parents[2] / "docs/http.md").read_text()
FLAT: Final = " ".join(PAGE.split())
#: Where each constant stands in the table of limits.
LIMITS: Final = {
    "BODY_BYTES": "body of `decide`, `feedback`",
    "BATCH_BYTES": "body of a batch",
    "INSTALL_BYTES": "spec or component",
    "CALL_BYTES": "body of `invoke`, `compensate`",
    "POLICY_BYTES": "capability policy",
    "DOCUMENT_BYTES": "learning document, job",
    "DEPTH": "nesting of a body",
    "HEADER_BYTES": "request line, and each header",
    "HEADERS": "headers",
    "HEAD_S": "until the head has arrived",
    "BODY_S": "until the body has arrived",
    "READ_S": "an answer left unread",
    "IDLE_S": "idle connection",
    "CONNECTIONS": "connections",
    "BACKLOG": "waiting to be accepted",
    "SLOW_AT_ONCE": "installs, policies, reports, pages, batches",
    "SLOW_WAITING": "installs, policies, reports, pages, batches",
    "DRAIN_S": "requests in flight at `SIGTERM`",
}


def in_words(name: str, value: float) -> str:
    """A limit as the page spells it."""
    if name.endswith("_S"):
        return f"{value:g} s"
    if name.endswith("_BYTES"):
        whole, unit = (
            (value // _limits.MIB, "MiB") if value % _limits.MIB == 0 else (value // _limits.KIB, "KiB")
        )
        return f"{whole:g} {unit}"
    return f"{value:,}"


def test_every_limit_stands_in_the_table() -> None:
    """With the value that it has; and no constant is left out."""
    constants = {name: value for name, value in vars(_limits).items() if name.isupper()} | {
        "KIB": 0,
        "MIB": 0,
    }
    assert set(LIMITS) == set(constants) - {"KIB", "MIB"}
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", PAGE, flags=re.MULTILINE))
    for name, row in LIMITS.items():
        assert re.search(rf"\b{re.escape(in_words(name, constants[name]))}\b", rows[row]), (
            f"{row}: {rows[row]}"
        )


def test_the_other_numbers_are_those_of_the_code() -> None:
    """Batches, keys of retries, the admin key, the port."""
    assert f"at most {_batch.MAX_DECISIONS:,}, and {_batch.MAX_FEEDBACKS:,}" in FLAT
    assert f"of {_access.MIN_KEY} to {_access.MAX_KEY} printable characters" in FLAT
    assert _retries.DECISION_MS == 10 * 60 * 1000
    assert "for ten minutes" in FLAT
    assert PORT == 8787


def test_every_path_of_a_capsule_stands_in_the_table() -> None:
    """And none that there is not."""
    prefix = "/tenants/{tenant}/jobs/{job}/capsules/{capsule}"
    there = {
        (route.method, route.path.removeprefix(prefix) or "/")
        for route in ROUTES
        if route.path.startswith(prefix)
    }
    table = PAGE[PAGE.index("| under the capsule's path |") :].split("\n\n")[0]
    told = set(re.findall(r"`(GET|PUT|POST|DELETE|PATCH) (/[^`]*)`", table))
    assert told == there


def test_every_path_that_needs_no_key_is_named() -> None:
    """In the chapter about keys."""
    public = {route.path for route in ROUTES if route.public and "{" not in route.path}
    [sentence] = re.findall(r"on everything but (.*?)\. ", FLAT)
    assert set(re.findall(r"`(/[^`]*)`", sentence)) == public


def test_every_reason_is_named() -> None:
    """Those of the stub, in JSON's spelling."""
    stub = (Path(__file__).parents[2] / "python/capsa/_native/__init__.pyi").read_text()
    [line] = re.findall(r'"""(``learned``.*only_option``)\.', stub)
    [row] = re.findall(r"^\| `reason` \| (.*) \|$", PAGE, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == [to_camel(name) for name in re.findall(r"``(\w+)``", line)]


def test_every_status_of_feedback_is_named() -> None:
    """The seven that `capsa.Feedback` says, each with what it means."""
    said = set(
        re.findall(r"``(\w+)``", (Feedback.__doc__ or "").partition("status:")[2].partition("reward:")[0])
    )
    table = PAGE[PAGE.index("| `status` | |") :].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \| [^|]", table, flags=re.MULTILINE)) - {"status"} == said


def test_the_id_is_as_long_as_it_says() -> None:
    """Which is a constant of the core."""
    source = (Path(__file__).parents[2] / "crates/capsa-core/src/sealed.rs").read_text()
    [longest] = re.findall(r"MAX_ID_CHARS: usize = (\d+)", source)
    assert f"at most {longest} characters" in FLAT
