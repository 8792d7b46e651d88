"""What a problem says back of what was sent is valid Unicode: headers and names of files may hold bytes that are none."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.server.serving import ROUTER, Served

from capsa.errors import CapsaError, InvalidField, shown
from capsa.server._problems import Refused, document
from capsa.wire import encode

#: Halves of surrogate pairs too.
TEXTS = st.text(st.characters(codec=None) | st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF))


@given(st.lists(TEXTS, min_size=4, max_size=4))
def test_any_problem_can_be_written(said: list[str]) -> None:
    detail, pointer, value, remedy = said
    fields: dict[str, Any] = {"pointer": pointer, "value": value, "remedy": remedy}
    for error in (InvalidField(detail, **fields), Refused("invalid-field", detail, **fields)):
        for told in (error, error.again() if type(error) is InvalidField else error):
            assert isinstance(told, CapsaError)
            for cbor in (False, True):
                assert encode(document(told, "r"), cbor=cbor)
            str(told).encode()


@given(TEXTS)
def test_what_is_shown_can_be_written(text: str) -> None:
    told = shown(text)
    told.encode()
    assert len(told) <= 80
    assert told == text[:80] or any("\ud800" <= char <= "\udfff" for char in text)


def test_a_tag_that_is_no_text(served: Served) -> None:
    """Of the learning document as of a policy: it is said back spelled out."""
    head = f"PATCH {ROUTER}/learning HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\nConnection: close\r\n"
    told = served.raw(head.encode() + b'If-Match: "b2:\xe9"\r\nContent-Length: 2\r\n\r\n{}')
    assert told.startswith(b"HTTP/1.1 412 ")
    assert rb"b2:\\udce9" in told
