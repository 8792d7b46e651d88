"""Running the server: from settings to its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from capsa.decisions._letting_in import warning
from capsa.decisions._opening import RETENTION
from capsa.errors import InvalidField
from capsa.server import _limits
from capsa.server._access import ENVIRONMENT, Access, is_loopback, read_key
from capsa.server._protocol import Server
from capsa.server._router import Router
from capsa.server._routes import ROUTES
from capsa.server._service import Service

_log = logging.getLogger("capsa.server")

#: The port of the nearest system, so that its clients find us.
PORT: Final = 8787
#: Objects that are made before the garbage collector looks: a request makes some dozens, and few of them in cycles.
_GARBAGE: Final = 20_000
#: Seconds in which what was sent before the end is read.
_SETTLE_S: Final = 0.1
#: Files that the process holds besides connections.
_OTHER_FILES: Final = 256


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server runs.

    Attributes:
        store: The folder of the store; ``None``: in memory.
        host: The address to listen on.
        port: 0 takes one that is free.
        unix_socket: A socket in the file system instead, which only this user can open.
        dev_mode: Asks for no key; only this machine may connect.
        admin_key_file: Where the key is; otherwise it is in the environment.
        retention: How long events are kept; ``None`` keeps everything.
        dns: Name servers that requests of tools go by; none: the system's.
        roots: Authorities that are trusted for requests of tools, beside the public ones.
        log_requests: Whether every request has a line in the log.
    """

    store: Path | None
    host: str = "127.0.0.1"
    port: int = PORT
    unix_socket: Path | None = None
    dev_mode: bool = False
    admin_key_file: Path | None = None
    retention: str | None = RETENTION
    dns: tuple[str, ...] = ()
    roots: Path | None = None
    log_requests: bool = False

    def access(self) -> Access:
        """What a request must show.

        Raises:
            InvalidField: There is no key and no dev mode, or the settings contradict each other.
            OSError: The file of the key cannot be read.
        """
        over_tcp = self.unix_socket is None
        if self.dev_mode:
            if self.admin_key_file is not None:
                raise InvalidField(
                    "dev mode asks for no key",
                    pointer="/admin_key_file",
                    remedy="leave out --dev-mode, or the key",
                )
            if over_tcp and not is_loopback(self.host):
                raise InvalidField(
                    f"dev mode is for this machine alone, and {self.host} is for others too",
                    pointer="/host",
                    value=self.host,
                    remedy=f"use 127.0.0.1, or set {ENVIRONMENT} and leave out --dev-mode",
                )
            return Access(None, local=over_tcp)
        key = read_key(self.admin_key_file)
        if key is None:
            raise InvalidField(
                "there is no admin key",
                pointer="/admin_key",
                remedy=f"set {ENVIRONMENT}, for example to the output of `openssl rand -hex 32`; or use --dev-mode on your own machine",
            )
        return Access(key, local=False)


def _say_nothing(where: str) -> None:
    pass


def serve(settings: Settings, *, listening: Callable[[str], object] = _say_nothing) -> None:
    """Serves until SIGTERM or SIGINT, then ends in order.

    Args:
        settings: How.
        listening: Called with the address once the store is open and requests are served.

    Raises:
        CapsaError: The settings do not hold, or the store cannot be opened.
        OSError: The address is taken.
    """
    access = settings.access()
    _allow_files()
    uvloop.run(_serve(settings, access, listening))


def _allow_files() -> None:
    """Lets the process hold as many files as connections are allowed, and what the store needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _limits.CONNECTIONS + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "only %d files may be open: fewer than %d connections can be held", allowed, _limits.CONNECTIONS
        )


async def _serve(settings: Settings, access: Access, listening: Callable[[str], object]) -> None:
    loop = asyncio.get_running_loop()
    service = Service(access, Router(ROUTES), log_requests=settings.log_requests)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(service)
    listener, where = _listen(settings)
    accepting = (
        await loop.create_server(server, sock=listener, backlog=_limits.BACKLOG)
        if settings.unix_socket is None
        else (await loop.create_unix_server(server, sock=listener, backlog=_limits.BACKLOG))
    )
    watching = asyncio.create_task(server.watch())
    opening = asyncio.create_task(
        service.open(settings.store, retention=settings.retention, dns=settings.dns, roots=settings.roots)
    )
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # Whatever happens, nobody else can open the folder before this has ended.
        await opening
        if (
            not settings.dev_mode
            and (said := await asyncio.to_thread(warning, service.store.sync)) is not None
        ):
            _log.warning("%s", said)
        _settle()
        listening(where)
        await stopping
        _log.info("stopping: no new requests; those in flight have %g seconds", _limits.DRAIN_S)
    finally:
        service.stopping = True
        accepting.close()
        if settings.unix_socket is not None:
            with contextlib.suppress(OSError):
                settings.unix_socket.unlink()
        # What has reached us and was not yet read is still answered, with its connection's end.
        await asyncio.sleep(_SETTLE_S)
        server.pre_shutdown()
        await server.shutdown(_limits.DRAIN_S)
        watching.cancel()
        stopping.cancel()
        await service.close()


def _settle() -> None:
    """Spares the garbage collector what stays as long as the process does: it would look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def _listen(settings: Settings) -> tuple[socket.socket, str]:
    """A socket that is bound, and its address for people."""
    if settings.unix_socket is not None:
        return _listen_unix(settings.unix_socket), f"unix:{settings.unix_socket}"
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        where = f"{settings.host}:{settings.port}"
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from None
    port = listener.getsockname()[1]
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    return listener, f"http://{shown}:{port}"


def _listen_unix(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
            # Of a server that was killed.
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Only this user may connect, from the first moment on.
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {path}: {error.strerror}") from None
    finally:
        os.umask(mask)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
