"""Hostile requests: each ends in its declared status, changes nothing, and stops nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.hostile import binary, bodies, calling, framing, meaning, naming
from tests.server.hostile.attack import SECRET, Attack, Ground, Said, exchange
from tests.server.serving import KEY, Served

from capsa.server._problems import KINDS

TABLE = (
    *framing.ATTACKS,
    *naming.ATTACKS,
    *bodies.ATTACKS,
    *binary.ATTACKS,
    *meaning.ATTACKS,
    *calling.ATTACKS,
)
#: Longest text of a problem document: a sentence with a value of 80 characters in it.
LONGEST = 400
#: What an install or a policy is refused as; the journal says so.
REFUSED = {"invalid-spec", "invalid-capsule", "invalid-policy", "install-conflict", "install-refused"}
#: Also refused so: a capsule that is not the one of the path. And what is no policy at all reaches no store.
ANOTHER = {("installs", "name of another"), ("tools", "under another name")}
NO_POLICY = {"the same in CBOR", "the same in CBOR, as a path", "no object"}
#: The server answers others at once, however it is busy.
AT_ONCE_S = 1.0


@pytest.fixture(scope="module")
def ground(shared: Served) -> Iterator[Ground]:
    made = Ground(shared)
    yield made
    assert shared.process.poll() is None
    assert shared.stop() == 0


def rows() -> Iterator[Any]:
    for attack in TABLE:
        marks = [pytest.mark.xfail(strict=True, reason=attack.flaw)] if attack.flaw else []
        yield pytest.param(attack, id=f"{attack.category}: {attack.name}", marks=marks)


@pytest.mark.parametrize("attack", list(rows()))
def test_a_hostile_request_ends_in_its_status_and_changes_nothing(attack: Attack, ground: Ground) -> None:
    before = ground.state()
    ground.newly_said()
    answered = exchange(ground.served.port, attack.make(ground))
    begun = time.monotonic()
    assert ground.served.get("/health", key=None).value["ok"] is True
    assert time.monotonic() - begun < AT_ONCE_S
    refused = ground.newly_refused()
    assert ground.state() == before
    told = attack.kind in REFUSED and attack.name not in NO_POLICY
    assert refused == ([attack.kind] if told or (attack.category, attack.name) in ANOTHER else [])
    [answer] = answered
    assert answer.status == attack.status, answer.body
    if attack.kind is not None:
        check_problem(answer, attack.kind, empty=attack.make(ground).startswith(b"HEAD "))
    said = ground.newly_said()
    for text in (answer.body.decode(), str(answer.headers), said):
        assert KEY not in text
        assert SECRET not in text or attack.category == "values"
    assert "Traceback" not in said


def check_problem(answer: Said, kind: str, *, empty: bool) -> None:
    """It is the problem document that the table of types says, and shows nothing that is too long."""
    declared = KINDS[kind]
    assert answer.status == declared.status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Server"] == "capsa"
    told = {405: "Allow", 401: "WWW-Authenticate", 503: "Retry-After"}.get(answer.status)
    assert told is None or answer.headers[told]
    if empty:
        assert answer.body == b""
        return
    problem = answer.value
    assert (problem["type"], problem["title"]) == (f"/problems/{kind}", declared.title)
    assert problem["status"] == answer.status
    assert problem["requestId"] == answer.headers["X-Request-Id"]
    # A spec has a line for each of its faults.
    assert all(len(line) <= LONGEST for line in problem["detail"].split("\n"))
    for each in problem.get("errors", ()):
        # 80 characters and the sign that there were more.
        assert len(each.get("value", "")) <= 81
        assert all(len(text) <= LONGEST for text in each.values() if isinstance(text, str))
    # Whatever was sent, it cannot forge lines or steer a terminal.
    assert min(answer.body) >= 0x20


def test_the_table_is_large_and_names_its_rows_once() -> None:
    names = Counter((attack.category, attack.name) for attack in TABLE)
    assert max(names.values()) == 1, names.most_common(3)
    assert len(names) >= 400
    assert len({attack.category for attack in TABLE}) >= 15
