"""Names to addresses, without the pool of threads that the interpreter waits for at its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_NAMELESS: Final = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


class Resolver(AbstractResolver):
    """Looks names up in threads of their own.

    A look-up cannot be cancelled and may take half a minute. In asyncio's own pool a few of them would hold up
    everything else there, and the end of the process.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            OSError: There are none.
        """
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def tell(result: list[ResolveResult] | OSError) -> None:
            if found.done():
                return
            if isinstance(result, OSError):
                found.set_exception(result)
            else:
                found.set_result(result)

        def work() -> None:
            result = _looked_up(host, port, family)
            # The loop may have ended meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, result)

        try:
            threading.Thread(target=work, name="capsa-client-names", daemon=True).start()
        except RuntimeError:
            # The interpreter is about to end: nothing else waits for this loop.
            tell(_looked_up(host, port, family))
        return await found

    async def close(self) -> None:
        """There is nothing to close."""


def _looked_up(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult] | OSError:
    try:
        infos = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        return [
            ResolveResult(
                hostname=host,
                # With the interface, of an address that holds on one only.
                host=socket.getnameinfo(at, _NAMELESS)[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=_NUMERIC,
            )
            for kind, _, protocol, _, at in infos
        ]
    except OSError as error:
        return error
    except ValueError as error:
        # A name that no look-up takes, such as one with an empty part.
        return OSError(str(error))
