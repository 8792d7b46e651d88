"""Rows of the table: bodies that are too large, blow up, are in another encoding, or hold what JSON does not have."""

from __future__ import annotations

import gzip
import json
from typing import Final

import cbor2
from tests.server.hostile.attack import SECRET, Attack, Body, call, post, with_id
from tests.server.serving import INPUT, ROUTER

_MALFORMED: Final = (400, "malformed-body")
_INVALID: Final = (400, "invalid-field")
_LARGE: Final = (413, "too-large")
_OK: Final = json.dumps({"input": INPUT})

_OVERSIZE: Final = (
    Attack("oversize", "decide", post("decide", b" " * (160 * 1024 + 1)), *_LARGE),
    Attack(
        "oversize",
        "feedback with a context of 1 MB",
        post("feedback", b'{"contextKey":"' + b"e" * 1_000_000),
        *_LARGE,
    ),
    Attack("oversize", "batch", post("decide/batch", b" " * (8 * 1024 * 1024 + 1)), *_LARGE),
    Attack("oversize", "learning", call("PUT", f"{ROUTER}/learning", b" " * 65537), *_LARGE),
    Attack("oversize", "job", call("POST", "/tenants/default/jobs", b" " * 65537), *_LARGE),
    Attack(
        "oversize",
        "chunks",
        call(
            "POST",
            f"{ROUTER}/decide",
            (b"fff\r\n" + b" " * 0xFFF + b"\r\n") * 60 + b"0\r\n\r\n",
            headers=(b"Transfer-Encoding: chunked",),
            length=False,
        ),
        *_LARGE,
    ),
    Attack(
        "oversize",
        "length of 63 bits",
        call("POST", f"{ROUTER}/decide", headers=(b"Content-Length: 9223372036854775807",), length=False),
        *_LARGE,
    ),
    Attack(
        "oversize", "1,001 requests", post("decide/batch", json.dumps({"requests": [{}] * 1001})), *_INVALID
    ),
    Attack(
        "oversize", "10,001 events", post("feedback/batch", json.dumps({"events": [{}] * 10001})), *_INVALID
    ),
    Attack(
        "oversize", "input over 64 KiB", post("decide", json.dumps({"input": {"x": "a" * 66_000}})), *_INVALID
    ),
    Attack(
        "oversize",
        "category of 65 bytes",
        post("decide", json.dumps({"input": INPUT | {"task_type": "a" * 65}})),
        *_INVALID,
    ),
    Attack(
        "oversize",
        "context key of 257 letters",
        post("decide", json.dumps({"contextKey": "a" * 257})),
        *_INVALID,
    ),
    Attack(
        "oversize",
        "context key of 257 bytes",
        post("decide", json.dumps({"contextKey": "€" * 86})),
        *_INVALID,
    ),
    Attack("oversize", "context key of nothing", post("decide", '{"contextKey":""}'), *_INVALID),
    Attack("oversize", "subject", post("decide", json.dumps({"subject": "a" * 129})), *_INVALID),
    Attack(
        "oversize",
        "20,000 options",
        post("decide", json.dumps({"options": list(range(20_000))})),
        400,
        "unknown-option",
    ),
    Attack(
        "oversize",
        "9,000 metrics",
        post(
            "feedback",
            with_id(json.dumps({"decisionId": "ID", "outcome": {f"m{each}": 1 for each in range(9000)}})),
        ),
        *_INVALID,
    ),
    Attack(
        "oversize",
        "option of 14 kB",
        post("decide", json.dumps({"options": ["hunter2" * 2000]})),
        400,
        "unknown-option",
    ),
    Attack(
        "oversize", "key of 14 kB", post("decide", json.dumps({"hunter2" * 2000: 1})), 400, "unknown-field"
    ),
)


def _nested(depth: int, leaf: str = "1") -> str:
    return '{"a":' * depth + leaf + "}" * depth


_ZIPPED: Final = gzip.compress(b" " * 10_000_000 + _OK.encode())


def _coded(name: str, *codings: bytes, body: Body = _ZIPPED) -> Attack:
    lines = tuple(b"Content-Encoding: " + coding for coding in codings)
    return Attack("bombs", f"coding {name}", post("decide", body, *lines), 415, "unsupported-type")


_BOMBS: Final = (
    _coded("gzip", b"gzip"),
    _coded("GZIP", b"GZIP"),
    _coded("x-gzip", b"x-gzip"),
    _coded("identity, gzip", b"identity, gzip"),
    _coded("deflate", b"deflate", body=_OK),
    _coded("br", b"br", body=_OK),
    _coded("zstd", b"zstd", body=_OK),
    _coded("empty", b"", body=_OK),
    Attack("bombs", "gzip without saying so", post("decide", _ZIPPED), *_MALFORMED),
    Attack(
        "bombs",
        "gzip as a transfer coding",
        call(
            "POST",
            f"{ROUTER}/decide",
            b"0\r\n\r\n",
            headers=(b"Transfer-Encoding: gzip, chunked",),
            length=False,
        ),
        *_MALFORMED,
    ),
    Attack("bombs", "100,000 lists", post("decide", "[" * 100_000), *_MALFORMED),
    Attack("bombs", "30,000 objects", post("decide", '{"a":' * 30_000), *_MALFORMED),
    Attack("bombs", "33 deep", post("decide", f'{{"input":{_nested(32)}}}'), *_MALFORMED),
    Attack("bombs", "input 17 deep", post("decide", f'{{"input":{_nested(17)}}}'), *_INVALID),
    Attack(
        "bombs",
        "settings 17 deep",
        call("PUT", f"{ROUTER}/learning", f'{{"rails":{_nested(17)}}}'),
        400,
        "unknown-field",
    ),
    Attack("bombs", "deep in a batch", post("decide/batch", f'{{"requests":[{_nested(31)}]}}'), *_MALFORMED),
    Attack(
        "bombs",
        "12,000 keys",
        post("decide", json.dumps({f"k{each}": 1 for each in range(12_000)})),
        400,
        "unknown-field",
    ),
    Attack(
        "bombs",
        "integer of 4,000 digits",
        post("decide", f'{{"input":{{"task_type":{"1" * 4000}}}}}'),
        *_INVALID,
    ),
    Attack(
        "bombs",
        "integer of 100,000 digits",
        post("decide", f'{{"input":{{"x":{"1" * 100_000}}}}}'),
        *_MALFORMED,
    ),
    Attack(
        "bombs",
        "option of 4,000 digits",
        post("decide", f'{{"options":[{"1" * 4000}]}}'),
        400,
        "unknown-option",
    ),
    Attack(
        "bombs",
        "reward of 4,000 digits",
        post("feedback", with_id(f'{{"decisionId":"ID","reward":{"1" * 4000}}}')),
        *_INVALID,
    ),
    Attack(
        "bombs",
        "aliases in YAML",
        post(
            "install",
            "a: &a [x,x]\n"
            + "".join(
                f"{chr(each + 1)}: &{chr(each + 1)} [{','.join([f'*{chr(each)}'] * 9)}]\n"
                for each in range(97, 112)
            ),
        ),
        400,
        "invalid-spec",
    ),
    Attack(
        "bombs",
        "100,000 lists in YAML",
        post("install", "name: router\noptions: " + "[" * 100_000),
        400,
        "invalid-spec",
    ),
    Attack(
        "bombs",
        "3,000 levels in YAML",
        post("install", "".join(" " * each + "a:\n" for each in range(3000))),
        400,
        "invalid-spec",
    ),
)

_ENCODINGS: Final = tuple(
    Attack("encodings", name, post("decide", body), *_MALFORMED)
    for name, body in (
        ("byte order mark", b"\xef\xbb\xbf" + _OK.encode()),
        ("UTF-16", _OK.encode("utf-16")),
        ("UTF-16 without mark", _OK.encode("utf-16-le")),
        ("UTF-32", _OK.encode("utf-32")),
        ("UTF-7", b"+AHsAfQ-"),
        ("Latin-1", b'{"contextKey":"\xe9"}'),
        ("overlong", b'{"contextKey":"\xc0\xaf"}'),
        ("surrogates as UTF-8", b'{"contextKey":"\xed\xa0\x80\xed\xb0\x80"}'),
        ("five bytes", b'{"contextKey":"\xf8\x88\x80\x80\x80"}'),
        ("beyond Unicode", b'{"contextKey":"\xf4\x90\x80\x80"}'),
        ("cut off", b'{"contextKey":"\xe2\x82"}'),
        ("lone surrogate", rb'{"contextKey":"\ud800"}'),
        ("lone low surrogate", rb'{"contextKey":"\udc00"}'),
        ("lone surrogate in a key", rb'{"\ud800":1}'),
        ("NUL in a text", b'{"contextKey":"a\0b"}'),
        ("escape in a text", b'{"contextKey":"a\x1bb"}'),
        ("NUL behind", _OK.encode() + b"\0"),
        ("hard blank before", b"\xc2\xa0{}"),
        ("nothing", b""),
        ("two values", b"{}{}"),
        ("comment", b"/**/{}"),
        ("single quotes", b"{'input':{}}"),
        ("no quotes", b"{input:{}}"),
        ("comma behind", b'{"input":{},}'),
        ("form", b"input=1"),
        ("XML", b"<input/>"),
        ("YAML", b"input: {}"),
        ("CBOR as JSON", cbor2.dumps({"input": INPUT})),
    )
)


def _number(text: str) -> tuple[Attack, ...]:
    shown = text[:12]
    return (
        Attack(
            "numbers", f"{shown} as input", post("decide", f'{{"input":{{"task_type":{text}}}}}'), *_MALFORMED
        ),
        Attack(
            "numbers",
            f"{shown} as undeclared input",
            post("decide", f'{{"input":{{"x":{text}}}}}'),
            *_MALFORMED,
        ),
        Attack(
            "numbers",
            f"{shown} as reward",
            post("feedback", with_id(f'{{"decisionId":"ID","reward":{text}}}')),
            *_MALFORMED,
        ),
        Attack(
            "numbers",
            f"{shown} as metric",
            post("feedback", with_id(f'{{"decisionId":"ID","outcome":{{"quality":{text}}}}}')),
            *_MALFORMED,
        ),
        Attack(
            "numbers",
            f"{shown} as explicit reward",
            post("feedback", f'{{"strategyId":0,"option":1,"reward":{text},"contextKey":"x"}}'),
            *_MALFORMED,
        ),
        Attack(
            "numbers",
            f"{shown} as setting",
            call("PUT", f"{ROUTER}/learning", f'{{"rails":{{"minExploration":{text}}}}}'),
            *_MALFORMED,
        ),
        Attack(
            "numbers",
            f"{shown} in metadata",
            call("POST", "/tenants/default/jobs", f'{{"id":"x","metadata":{{"a":{text}}}}}'),
            *_MALFORMED,
        ),
    )


_NUMBERS: Final = (
    *(row for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999") for row in _number(text)),
    *(
        Attack(
            "numbers",
            f"grammar {text}",
            post("feedback", with_id(f'{{"decisionId":"ID","reward":{text}}}')),
            *_MALFORMED,
        )
        for text in ("+1", ".5", "1.", "01", "0x1", "1e", "1_0", "--1")
    ),
)

_DUPLICATES: Final = tuple(
    Attack("duplicate keys", name, post(action, body), *_MALFORMED)
    for name, action, body in (
        ("reward", "feedback", with_id('{"decisionId":"ID","reward":0.1,"reward":0.9}')),
        ("reward, escaped", "feedback", with_id('{"decisionId":"ID","reward":0.1,"\\u0072eward":0.9}')),
        ("id", "feedback", with_id('{"decisionId":"dec_x","decisionId":"ID","reward":0.1}')),
        ("metric", "feedback", with_id('{"decisionId":"ID","outcome":{"quality":0,"quality":1}}')),
        ("input", "decide", '{"input":{"a":1,"a":1}}'),
        ("options", "decide", '{"options":[0],"options":[1]}'),
        ("deep in a batch", "decide/batch", '{"requests":[{"input":{"a":{"b":1,"b":2}}}]}'),
        ("a secret", "decide", f'{{"{SECRET}":1,"{SECRET}":2}}'),
    )
)

ATTACKS: Final = (*_OVERSIZE, *_BOMBS, *_ENCODINGS, *_NUMBERS, *_DUPLICATES)
