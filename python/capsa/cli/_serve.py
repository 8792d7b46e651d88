"""The command ``serve``."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from capsa.cli._arguments import add_json, path, whole_number
from capsa.cli._output import Answer, printable
from capsa.cli._usage import Commands, add_command
from capsa.decisions._opening import RETENTION

if TYPE_CHECKING:
    from capsa.server import Settings


def add_commands(commands: Commands) -> None:
    """Adds what serves a store over HTTP."""
    serve = add_command(
        commands,
        "serve",
        _serve,
        "serve a store over HTTP",
        "Serves a store over HTTP until it is told to stop (SIGTERM, Ctrl-C); requests in flight are answered first. "
        "The admin key is in CAPSA_ADMIN_KEY or a file.",
    )
    serve.add_argument(
        "store",
        type=path,
        metavar="STORE",
        nargs="?",
        default=path("store"),
        help="the folder of the store, made if there is none (default: store)",
    )
    add_json(serve)
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    serve.add_argument(
        "--port",
        type=whole_number(0, 65535),
        default=None,
        metavar="N",
        help="the port; 0 takes a free one (default: 8787)",
    )
    serve.add_argument(
        "--unix-socket",
        type=path,
        metavar="PATH",
        help="listen on a socket in the file system instead, for this user alone",
    )
    serve.add_argument(
        "--admin-key-file", type=path, metavar="FILE", help="where the admin key is, with mode 600"
    )
    serve.add_argument(
        "--dev-mode", action="store_true", help="ask for no key; only this machine can connect"
    )
    serve.add_argument(
        "--retention",
        default=RETENTION,
        metavar="TIME",
        help=f"how long events are kept, or `all` (default: {RETENTION})",
    )
    serve.add_argument(
        "--dns",
        action="append",
        default=[],
        metavar="ADDRESS:PORT",
        help="a name server that requests of tools go by; more than once for several (default: the system's)",
    )
    serve.add_argument(
        "--roots",
        type=path,
        metavar="FILE",
        help="authorities that are trusted for requests of tools, in PEM, beside the public ones",
    )
    serve.add_argument("--log-requests", action="store_true", help="log every request, not only what fails")


def _serve(chosen: argparse.Namespace) -> Answer:
    from capsa.server import PORT, Settings, serve

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = Settings(
        store=chosen.store,
        host=chosen.host,
        port=PORT if chosen.port is None else chosen.port,
        unix_socket=chosen.unix_socket,
        dev_mode=chosen.dev_mode,
        admin_key_file=chosen.admin_key_file,
        retention=None if chosen.retention == "all" else chosen.retention,
        dns=tuple(chosen.dns),
        roots=chosen.roots,
        log_requests=chosen.log_requests,
    )
    serve(settings, listening=lambda where: _say_where(settings, where))
    return Answer({"ok": True, "stopped": True}, ["stopped"])


def _say_where(settings: Settings, where: str) -> None:
    key = "dev mode: no key is asked for" if settings.dev_mode else "the admin key is asked for"
    print(printable(f"serving {settings.store} at {where} ({key})"), flush=True)
