"""A fault of ours ends the request that met it, in a problem document, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import urllib3
from tests.server.serving import KEY, ROUTER, SPEC

import capsa
from capsa.server._access import Access
from capsa.server._protocol import Server
from capsa.server._router import Router
from capsa.server._routes import ROUTES
from capsa.server._service import Service


class Panicked(BaseException):
    """As native code raises it: no `Exception`."""


@pytest.mark.parametrize("where", ["describe", "report"], ids=["on the event loop", "in a thread"])
@pytest.mark.parametrize("failure", [RuntimeError, Panicked])
def test_a_fault_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
    failure: type[BaseException],
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise failure("swordfish")

    monkeypatch.setattr(capsa.Capsule, where, fails)
    told = {"Authorization": f"Bearer {KEY}", "Connection": "close"}
    path = ROUTER + ("/report" if where == "report" else "")

    async def scene() -> list[urllib3.BaseHTTPResponse]:
        service = Service(Access(KEY, local=False), Router(ROUTES))
        listening = await asyncio.get_running_loop().create_server(Server(service), "127.0.0.1", 0)
        try:
            await service.open(None)
            await service.store.install(SPEC)
            url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            with urllib3.PoolManager(retries=False, timeout=10) as pool:
                return [
                    await asyncio.to_thread(pool.request, "GET", url + each, headers=told)
                    for each in (path, "/health")
                ]
        finally:
            listening.close()
            await service.close()

    with caplog.at_level(logging.ERROR):
        failed, healthy = asyncio.run(scene())
    assert (failed.status, failed.json()["type"]) == (500, "/problems/internal")
    assert "swordfish" not in failed.data.decode()
    assert "swordfish" in caplog.text
    assert healthy.status == 200
