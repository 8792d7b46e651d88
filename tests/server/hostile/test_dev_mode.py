"""In dev mode no key is asked for: only this machine connects, and no web page of another site gets through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.server.hostile.attack import SMUGGLED, Said, exchange
from tests.server.serving import ROUTER, Served


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("dev") / "store", key=None) as served:
        served.install()
        yield served


def asked(
    served: Served, *headers: str, host: str | None = "localhost", version: str = "1.1", path: str = ROUTER
) -> Said:
    """Feedback that would be learned."""
    lines = [
        f"POST {path}/feedback HTTP/{version}",
        *headers,
        f"Content-Length: {len(SMUGGLED)}",
        "Connection: close",
    ]
    if host is not None:
        lines.append(f"Host: {host}")
    [answer] = exchange(served.port, "\r\n".join(lines).encode() + b"\r\n\r\n" + SMUGGLED)
    return answer


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8787",
        "localhost.evil.example",
        "127.0.0.1.nip.example",
        "0.0.0.0",  # noqa: S104 - a name in a header
        "[::]",
        "192.168.1.10",
        "169.254.169.254",
        "2130706433",
        "0x7f.1",
        "127.1",
        "xn--localhost",
        "",
    ],
)
def test_a_name_that_is_not_this_machines_is_refused(open_to_all: Served, host: str) -> None:
    """A page whose name was bound anew to 127.0.0.1 is such a one."""
    state = open_to_all.state_hash()
    answer = asked(open_to_all, host=host)
    assert (answer.status, answer.value["type"]) == (403, "/problems/foreign-origin")
    assert open_to_all.state_hash() == state


@pytest.mark.parametrize(
    "host",
    [
        "evil.example#localhost",
        "localhost@evil.example",
        "localhost:80:80",
        "localhost, evil.example",
        "[::1",
    ],
)
def test_what_cannot_be_a_name_is_no_request(open_to_all: Served, host: str) -> None:
    state = open_to_all.state_hash()
    answer = asked(open_to_all, host=host)
    assert (answer.status, answer.value["type"]) == (400, "/problems/malformed-request")
    assert open_to_all.state_hash() == state


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost.evil.example",
        "http://evil.example:8787",
        "null",
        "",
        "file://",
        "chrome-extension://abcdefgh",
        "http://localhost@evil.example",
        "http://evil.example/http://localhost",
        "localhost",
    ],
)
def test_a_page_of_another_site_is_refused(open_to_all: Served, origin: str) -> None:
    state = open_to_all.state_hash()
    answer = asked(open_to_all, f"Origin: {origin}", "Content-Type: text/plain")
    assert (answer.status, answer.value["type"]) == (403, "/problems/foreign-origin")
    assert open_to_all.state_hash() == state


def test_two_origins_are_refused(open_to_all: Served) -> None:
    assert asked(open_to_all, "Origin: http://localhost", "Origin: https://evil.example").status in (400, 403)


def test_no_host_is_refused(open_to_all: Served) -> None:
    state = open_to_all.state_hash()
    assert asked(open_to_all, host=None).status == 400
    assert asked(open_to_all, host=None, version="1.0").status == 403
    # An address in the request line goes before Host.
    assert asked(open_to_all, path=f"http://evil.example{ROUTER}").status in (403, 404)
    assert open_to_all.state_hash() == state


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8787", "localhost.", "127.0.0.1", "127.0.0.2:1", "[::1]", "[::1]:8787"]
)
def test_this_machine_gets_through(open_to_all: Served, host: str) -> None:
    assert asked(open_to_all, host=host).status == 200


def test_metrics_name_capsules_to_this_machine_alone(open_to_all: Served) -> None:
    """Otherwise a page whose name was bound anew could read them."""
    ours = open_to_all.get("/metrics").body
    theirs = open_to_all.get("/metrics", headers={"Host": "evil.example"})
    assert b'capsule="router"' in ours
    assert b"router" not in theirs.body


def test_no_answer_lets_other_sites_read_it(open_to_all: Served) -> None:
    for path in ("/health", "/openapi.json", f"{ROUTER}/report", "/nothing"):
        headers = open_to_all.get(path).headers
        assert not [name for name in headers if name.lower().startswith("access-control-")]
