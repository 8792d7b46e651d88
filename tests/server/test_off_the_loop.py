"""What takes a while is done off the event loop: the other clients of a server do not wait for it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Final

import pytest
import urllib3
from tests.sandbox import guests
from tests.server import tools
from tests.server.serving import KEY

from capsa.policies import Effective, load_policy
from capsa.server._access import Access
from capsa.server._protocol import Server
from capsa.server._router import Router
from capsa.server._routes import ROUTES
from capsa.server._service import Service
from capsa.wire import policy_json

TOOL: Final = "/tenants/default/jobs/default/capsules/echo"
POLICY: Final = b'schema = 1\nname = "x"\n[[grants.http]]\nhosts = ["api.example.com"]\n'


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", "/policy", None, {}),
        ("PUT", "/policy", POLICY, {}),
        ("PUT", "/policy", POLICY, {"If-Match": '"b2:0"'}),
        ("GET", "/policy/explain?target=https://api.example.com/", None, {}),
    ],
    ids=["read", "put", "put what is stale", "explain"],
)
def test_policies_are_worked_out_in_threads(
    monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    """One of 220 kB takes tens of milliseconds to write down, and to explain."""
    where: list[int] = []

    def noting(work: Any) -> Any:
        def noted(*arguments: Any) -> Any:
            where.append(threading.get_ident())
            return work(*arguments)

        return noted

    monkeypatch.setattr("capsa.server._tools.policy_json", noting(policy_json))
    monkeypatch.setattr("capsa.decisions._tools.load_policy", noting(load_policy))
    monkeypatch.setattr(Effective, "to_json", noting(Effective.to_json))
    told = {"Authorization": f"Bearer {KEY}", "Connection": "close", **headers}

    async def scene() -> int:
        service = Service(Access(KEY, local=False), Router(ROUTES))
        listening = await asyncio.get_running_loop().create_server(Server(service), "127.0.0.1", 0)
        try:
            await service.open(None)
            asks = tools.component("echo", guests.tool(guests.ECHO), "read", http=[{"hosts": ["*"]}])
            await (await service.store.install(asks)).set_policy(POLICY)
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}{TOOL}{path}"
            with urllib3.PoolManager(retries=False, timeout=10) as pool:
                where.clear()
                answered = await asyncio.to_thread(pool.request, method, url, body=body, headers=told)
            return answered.status
        finally:
            listening.close()
            await service.close()

    assert asyncio.run(scene()) == (412 if headers else 200)
    assert where
    assert threading.get_ident() not in where
