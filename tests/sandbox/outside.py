"""What hostile guests find outside, all of it on loopback: a canary that nothing may touch, a site, a name server."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_SOON: Final = 10.0


class _Listener:
    """Accepts connections on one port of some addresses, each in a thread of its own, until it is closed."""

    def __init__(self, addresses: Sequence[str], port: int = 0) -> None:
        self._sockets: list[socket.socket] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self.port = port
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            made = socket.socket(family, socket.SOCK_STREAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, self.port))
            made.listen(64)
            self.port = made.getsockname()[1]
            self._sockets.append(made)
        for made in self._sockets:
            self._start(self._accept, made)

    def served(self, connection: socket.socket) -> None:
        """Serves one connection."""
        raise NotImplementedError

    def _start(self, run: Callable[[socket.socket], None], of: socket.socket) -> None:
        thread = threading.Thread(target=run, args=(of,), daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with self._lock:
                if self._closing:
                    connection.close()
                    return
                self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        # The other side may go whenever it likes: that is what the tests are about.
        with contextlib.suppress(OSError), connection:
            connection.settimeout(_SOON)
            self.served(connection)
        with self._lock:
            self._open.discard(connection)

    def close(self) -> None:
        """Ends every connection."""
        with self._lock:
            self._closing = True
            connections = list(self._open)
        for made in [*self._sockets, *connections]:
            with contextlib.suppress(OSError):
                made.shutdown(socket.SHUT_RDWR)
            made.close()
        for thread in self._threads:
            thread.join(_SOON)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Canary(_Listener):
    """A service inside, which nothing may reach; it counts who does."""

    def __init__(self) -> None:
        self.touched = 0
        addresses = ["127.0.0.1", "127.0.0.2", "127.1.2.3"]
        if _has_ipv6():
            addresses.append("::1")
        super().__init__(addresses)

    def served(self, connection: socket.socket) -> None:
        self.touched += 1
        connection.recv(4096)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"internal"')


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Asked:
    """A request as it came.

    Attributes:
        head: Its first line and headers, as bytes.
        body: What followed, as far as `Content-Length` says.
    """

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        """Its first line."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        """What was asked for, without the query."""
        return self.line.split(" ")[1].split("?")[0]

    def header(self, name: str) -> str:
        """A header's value; empty where there is none."""
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.decode("latin-1").strip().lower() == name:
                return value.decode("latin-1").strip()
        return ""


Answering = Callable[[Asked], Iterator[bytes]]


def answer(body: bytes, *headers: str, status: str = "200 OK", framed: bool = True) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if framed:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Site(_Listener):
    """A server whose answers are raw bytes, by path. It keeps what it was asked.

    Attributes:
        asked: Every request, in order.
    """

    def __init__(
        self,
        answers: Mapping[str, Answering],
        *,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.asked: list[Asked] = []
        self._answers = answers
        self._tls = tls
        super().__init__([address])

    def served(self, connection: socket.socket) -> None:
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection:
            asked = _read(connection)
            if asked is None:
                return
            self.asked.append(asked)
            given = self._answers.get(asked.path)
            pieces = given(asked) if given else iter([answer(b'"nothing here"', status="404 Not Found")])
            for piece in pieces:
                connection.sendall(piece)


def _read(connection: socket.socket) -> Asked | None:
    came = b""
    while b"\r\n\r\n" not in came:
        more = connection.recv(65536)
        if not more:
            return None
        came += more
    head, _, body = came.partition(b"\r\n\r\n")
    wanted = int(Asked(head, b"").header("content-length") or 0)
    while len(body) < wanted:
        more = connection.recv(65536)
        if not more:
            break
        body += more
    return Asked(head, body)


def slowly(first: bytes, again: bytes, pause_s: float) -> Iterator[bytes]:
    """Bytes that never end; at most for some seconds, in case nobody stops it."""
    until = time.monotonic() + _SOON
    yield first
    while time.monotonic() < until:
        yield again
        if pause_s:
            time.sleep(pause_s)


# -- names -----------------------------------------------------------------------------------------------------------

#: What a name server says of a name: addresses; or another name for it (as text) with addresses; or nothing (None).
Records = Sequence[str] | tuple[str, Sequence[str]] | None
_A: Final = 1
_CNAME: Final = 5
_AAAA: Final = 28


class NameServer:
    """Answers over UDP what a function says of a name and of how often the same was asked before.

    Attributes:
        asked: Names and types of record, in order.
    """

    def __init__(self, zone: Callable[[str, int], Records | bytes]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._zone = zone
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                packet, client = self._socket.recvfrom(4096)
            except OSError:
                return
            if not packet:
                return
            answer = self._answer(packet)
            if answer:
                self._socket.sendto(answer, client)

    def _answer(self, packet: bytes) -> bytes:
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1 : at + 1 + packet[at]])
            at += 1 + packet[at]
        question, (kind,) = packet[12 : at + 5], struct.unpack_from(">H", packet, at + 1)
        name = b".".join(labels).decode("ascii").lower()
        before = self.asked.count((name, kind))
        self.asked.append((name, kind))
        said = self._zone(name, before)
        if isinstance(said, bytes):
            return said
        if said is None:
            return packet[:2] + struct.pack(">HHHHH", 0x8183, 1, 0, 0, 0) + question
        alias, addresses = said if isinstance(said, tuple) else (None, said)
        records, owner = [], b"\xc0\x0c"
        if alias is not None:
            target = b"".join(bytes([len(label)]) + label.encode() for label in alias.split(".")) + b"\0"
            records.append(owner + struct.pack(">HHIH", _CNAME, 1, 0, len(target)) + target)
            owner = target
        for text in addresses:
            address = ipaddress.ip_address(text)
            if kind == (_A if address.version == 4 else _AAAA):
                records.append(owner + struct.pack(">HHIH", kind, 1, 0, len(address.packed)) + address.packed)
        return (
            packet[:2] + struct.pack(">HHHHH", 0x8180, 1, len(records), 0, 0) + question + b"".join(records)
        )

    def close(self) -> None:
        """Answers no more."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", self._socket.getsockname())
        self._thread.join(_SOON)
        self._socket.close()


# -- certificates ----------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str, *hosts: str) -> tuple[ssl.SSLContext, str]:
    """A server's context with a certificate of its own for some hosts, and the certificate in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = folder / f"{name}.pem"
    chain.write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, pem.decode()
