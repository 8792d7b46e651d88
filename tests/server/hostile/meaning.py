"""Rows of the table: requests that read well and ask for what may not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from tests.server.hostile.attack import ACME, SECOND_JOB, Attack, Body, Ground, call, post, with_id
from tests.server.serving import ROUTER, SPEC

_INVALID: Final = (400, "invalid-field")
_UNKNOWN: Final = (404, "unknown-decision")
_REWARD: Final = '{"decisionId":"ID","reward":0.5}'


def _id(
    name: str, change: Callable[[str], object], status: int = 404, kind: str = "unknown-decision"
) -> tuple[Attack, ...]:
    """Feedback for an id that was changed, and the story of it."""

    def body(ground: Ground) -> bytes:
        return json.dumps({"decisionId": change(ground.decision), "reward": 0.5}).encode()

    def story(ground: Ground) -> bytes:
        return call("GET", f"{ROUTER}/decisions/{quote(str(change(ground.decision)), safe='')}")(ground)

    rows = [Attack("ids", f"{name}: feedback", post("feedback", body), status, kind)]
    if status == 404 and name not in ("empty", "10 kB"):
        rows.append(Attack("ids", f"{name}: story", story, *_UNKNOWN))
    return tuple(rows)


def _other(letter: str) -> str:
    return "A" if letter != "A" else "B"


_IDS: Final = (
    *(
        row
        for rows in (
            _id("empty", lambda _: ""),
            _id("one letter", lambda _: "d"),
            _id("prefix alone", lambda _: "dec_"),
            _id("word of the log", lambda _: "algorithm"),
            _id("piece of the log", lambda _: '"contextKey":"legal"'),
            _id("cut by one", lambda id_: id_[:-1]),
            _id("cut in half", lambda id_: id_[: len(id_) // 2]),
            _id("last letter changed", lambda id_: id_[:-1] + _other(id_[-1])),
            _id("first letter changed", lambda id_: id_[:4] + _other(id_[4]) + id_[5:]),
            _id("middle changed", lambda id_: id_[:30] + _other(id_[30]) + id_[31:]),
            _id("padded", lambda id_: id_ + "="),
            _id("padded twice", lambda id_: id_ + "=="),
            _id("blank behind", lambda id_: id_ + " "),
            _id("blank before", lambda id_: " " + id_),
            _id("line feed behind", lambda id_: id_ + "\n"),
            _id("NUL behind", lambda id_: id_ + "\0"),
            _id("twice", lambda id_: id_ * 2),
            _id("case swapped", lambda id_: id_[:4] + id_[4:].swapcase()),
            _id("prefix in large letters", lambda id_: id_.replace("dec_", "DEC_")),
            _id("no prefix", lambda id_: id_[4:]),
            _id("other alphabet", lambda id_: "dec_" + id_[4:].replace("-", "+").replace("_", "/") + "+"),
            _id("wide letter", lambda id_: id_[:-1] + "\uff21"),
            _id("10 kB", lambda _: "dec_" + "A" * 10_000),
            _id("number", lambda _: 5, *_INVALID),
            _id("list", lambda id_: [id_], *_INVALID),
            _id("true", lambda _: True, *_INVALID),
        )
        for row in rows
    ),
    Attack("ids", "10 kB: story", call("GET", f"{ROUTER}/decisions/{'A' * 10_000}"), 431, "header-too-large"),
    Attack(
        "ids",
        "with a choice besides",
        post("feedback", with_id('{"decisionId":"ID","strategyId":0,"option":1,"reward":1}')),
        *_INVALID,
    ),
)


def _foreign_story(whose: str) -> Callable[[Ground], bytes]:
    return lambda ground: call("GET", f"{ROUTER}/decisions/{ground.foreign[whose]}")(ground)


_FOREIGN: Final = (
    *(
        row
        for whose in ("tenant", "job", "capsule")
        for row in (
            Attack(
                "other tenants' ids",
                f"another {whose}'s: feedback",
                post("feedback", with_id(_REWARD, whose)),
                *_UNKNOWN,
            ),
            Attack("other tenants' ids", f"another {whose}'s: story", _foreign_story(whose), *_UNKNOWN),
        )
    ),
    Attack(
        "other tenants' ids",
        "ours, to another tenant",
        call("POST", f"{ACME}/feedback", with_id(_REWARD)),
        *_UNKNOWN,
    ),
    Attack(
        "other tenants' ids",
        "ours, to another job",
        call("POST", f"{SECOND_JOB}/feedback", with_id(_REWARD)),
        *_UNKNOWN,
    ),
    Attack(
        "other tenants' ids",
        "ours, to a tenant that is not there",
        call("POST", ROUTER.replace("default", "nobody", 1) + "/feedback", with_id(_REWARD)),
        404,
        "unknown-tenant",
    ),
    *(
        Attack("other tenants' ids", f"{method} {path}", call(method, path), 404, kind)
        for method, path, kind in (
            ("DELETE", "/tenants/nobody", "unknown-tenant"),
            ("DELETE", "/tenants/acme/jobs/second", "unknown-job"),
            ("DELETE", "/tenants/acme/jobs/default/capsules/sibling", "unknown-capsule"),
            ("DELETE", "/tenants/acme/jobs/default/capsules/sibling/logs", "unknown-capsule"),
            ("GET", "/tenants/acme/jobs/default/capsules/sibling/report", "unknown-capsule"),
            ("GET", "/tenants/nobody/jobs", "unknown-tenant"),
        )
    ),
)


def _asked(
    name: str,
    action: str,
    body: Body,
    kind: str = "invalid-field",
    status: int = 400,
) -> Attack:
    return Attack("values", f"{action}: {name}", post(action, body), status, kind)


def _fed(name: str, rest: str, kind: str = "invalid-field", status: int = 400) -> Attack:
    return _asked(name, "feedback", with_id(f'{{"decisionId":"ID",{rest}}}'), kind, status)


_VALUES: Final = (
    _asked("a list", "decide", "[]"),
    _asked("null", "decide", "null"),
    _asked("a later key", "decide", '{"session":"x"}', "unknown-field"),
    _asked("a misspelt key", "decide", '{"inputs":{}}', "unknown-field"),
    _asked("a key with an escape", "decide", '{"a\\r\\n\\u001b[31m":1}', "unknown-field"),
    _asked("input that is a list", "decide", '{"input":[]}'),
    _asked("category that is a list", "decide", '{"input":{"task_type":["legal"]}}'),
    _asked("option below zero", "decide", '{"options":[-1]}'),
    _asked("option true", "decide", '{"options":[true]}'),
    _asked("option with a fraction", "decide", '{"options":[1.0]}'),
    _asked("option of 64 bits", "decide", '{"options":[9223372036854775808]}', "unknown-option"),
    _asked("no option", "decide", '{"options":[]}'),
    _asked(
        "options of no strategy",
        "decide",
        '{"options":{}}',
    ),
    _asked("no option of a strategy", "decide", '{"options":{"choice":[]}}'),
    _asked("current that is none", "decide", '{"current":9}', "unknown-option"),
    _fed("above the range", '"reward":1.0001', "reward-out-of-range"),
    _fed("1e12", '"reward":1e12', "reward-out-of-range"),
    _fed("reward true", '"reward":true'),
    _fed("reward as text", '"reward":"1"'),
    _fed("reward null", '"reward":null', "reward-missing"),
    _fed("nothing", '"taken":0', "reward-missing"),
    _fed("no metric", '"outcome":{}', "reward-missing"),
    _fed("both", '"reward":0.1,"outcome":{"quality":1}'),
    _fed("metric above its scale", '"outcome":{"quality":1.01}', "metric-out-of-range"),
    _fed("metric below its budget", '"outcome":{"latency_ms":-1}', "metric-out-of-range"),
    _fed("metric null", '"outcome":{"quality":null}'),
    _fed("metric as text", '"outcome":{"quality":"1"}'),
    _fed("metric that is none", '"outcome":{"qualty":1}', "unknown-metric"),
    _fed("taken that is none", '"reward":0.1,"taken":"nobody"', "unknown-option"),
    Attack(
        "values",
        "feedback: other content",
        post(
            "feedback",
            lambda ground: json.dumps({"decisionId": ground.answered, "outcome": {"quality": 0.1}}).encode(),
        ),
        409,
        "feedback-conflict",
    ),
    _asked(
        "strategy that is none",
        "feedback",
        '{"strategyId":9,"option":1,"reward":1,"contextKey":"x"}',
        "unknown-strategy",
    ),
    _asked("no choice", "feedback", '{"strategyId":0,"reward":1,"contextKey":"x"}'),
    _asked(
        "choice that is none",
        "feedback",
        '{"strategyId":0,"option":7,"reward":1,"contextKey":"x"}',
        "unknown-option",
    ),
    _asked(
        "strategy twice",
        "feedback",
        '{"strategyId":0,"strategy":"choice","option":1,"reward":1,"contextKey":"x"}',
    ),
    _asked("no list", "decide/batch", '{"requests":{}}'),
    _asked("nothing", "feedback/batch", "{}"),
)

_SETTINGS: Final = tuple(
    Attack(
        "settings",
        f"{method} {body[:60]}",
        call(method, f"{ROUTER}/learning", body),
        status,
        kind,
    )
    for method in ("PUT", "PATCH")
    for body, status, kind in (
        ("[]", *_INVALID),
        ("null", *_INVALID),
        ('{"algorithm":"ppo"}', *_INVALID),
        ('{"algorithm":{"name":"epsilonGreedy","epsilon":2}}', *_INVALID),
        ('{"rails":{"freeze":"true"}}', *_INVALID),
        ('{"rails":{"freeze":1}}', *_INVALID),
        ('{"rails":{"freeze":0}}', *_INVALID),
        ('{"rails":{"minExploration":2}}', *_INVALID),
        ('{"rails":{"minExploration":0.1,"freezze":true}}', 400, "unknown-field"),
        ('{"rails":{"freeze":true},"algorithm":"ppo"}', *_INVALID),
        ('{"rails":5}', *_INVALID),
        ('{"baseline":"nobody"}', 400, "unknown-option"),
        ('{"mode":"canary"}', *_INVALID),
        ('{"mode":"shadowed"}', *_INVALID),
        ('{"decay":{"halfLifeSeconds":-1}}', *_INVALID),
        ('{"decay":{"halfLifeSeconds":1,"halfLifeFeedbacks":1}}', *_INVALID),
        ('{"horizon":{"afterSeconds":1e300}}', *_INVALID),
        ('{"horizon":{"outcome":{"nothing":1}}}', *_INVALID),
        ('{"maxContexts":0}', *_INVALID),
        ('{"maxContexts":true}', *_INVALID),
        ('{"override":{"pin":"balanced"}}', *_INVALID),
        ('{"version":-1}', 412, "stale-document"),
        ('{"version":true}', *_INVALID),
        ('{"overridden":{"mode":{}}}', *_INVALID),
        ('{"safety":{"freezeLearning":true,"x":1}}', 400, "unknown-field"),
        ('{"safety":{"freezeLearning":true},"rails":{"freeze":false}}', *_INVALID),
        ('{"learning_rate":1}', 400, "unknown-field"),
        ('{"__class__":1}', 400, "unknown-field"),
    )
)

_JOBS: Final = tuple(
    Attack("jobs", name, call("POST", "/tenants/default/jobs", json.dumps(body)), status, kind)
    for name, body, status, kind in (
        ("path as a name", {"id": "../x"}, *_INVALID),
        ("no name", {}, *_INVALID),
        ("empty name", {"id": ""}, *_INVALID),
        ("large letters", {"id": "X"}, *_INVALID),
        ("65 letters", {"id": "a" * 65}, *_INVALID),
        ("line feed behind", {"id": "x\n"}, *_INVALID),
        ("there is one", {"id": "default"}, 409, "already-exists"),
        ("long description", {"id": "x", "description": "a" * 1025}, *_INVALID),
        ("metadata of 17 kB", {"id": "x", "metadata": {"a": "b" * 17_000}}, *_INVALID),
        ("another tenant", {"id": "x", "tenant": "acme"}, 400, "unknown-field"),
    )
)

_INSTALLS: Final = tuple(
    Attack("installs", name, post("install", body), 400, kind)
    for name, body, kind in (
        ("nothing", b"", "invalid-spec"),
        ("every byte", bytes(range(256)) * 10, "invalid-capsule"),
        ("beginning of a module", b"\0asm\x01\0\0\0", "invalid-capsule"),
        ("beginning of a component", b"\0asm\x0d\0\x01\0", "invalid-capsule"),
        ("section of 4 GiB", b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f", "invalid-capsule"),
        ("program", b"\x7fELF" + bytes(100), "invalid-spec"),
        ("name of another", SPEC.replace(b"router", b"other"), "invalid-field"),
        ("key twice", SPEC + b"options: [a, b]\n", "invalid-spec"),
        ("unknown key", SPEC + b"optionss: [a, b]\n", "invalid-spec"),
        ("object of Python", b"name: !!python/object/apply:os.system ['id']\n", "invalid-spec"),
        ("one option", b"name: router\noptions: [a]\n", "invalid-spec"),
        (
            "2,000 options",
            b"name: router\noptions: [%b]\n" % b",".join(b"o%d" % each for each in range(2000)),
            "invalid-spec",
        ),
        ("option of 1 MB", b"name: router\noptions: [a, " + b"b" * 1_000_000 + b"]\n", "invalid-spec"),
        ("weight NaN", SPEC.replace(b"0.6", b".nan"), "invalid-spec"),
        ("weight 1e999", SPEC.replace(b"0.6", b"1e999"), "invalid-spec"),
        ("UTF-16", SPEC.decode().encode("utf-16"), "invalid-capsule"),
        ("two documents", SPEC + b"---\n" + SPEC, "invalid-spec"),
        ("20,000 errors", b"".join(b"k%d: 1\n" % each for each in range(20_000)), "invalid-spec"),
    )
)

ATTACKS: Final = (*_IDS, *_FOREIGN, *_VALUES, *_SETTINGS, *_JOBS, *_INSTALLS)
