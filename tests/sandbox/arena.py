"""The ground on which hostile cases are tried: a host, what is outside, and what belongs to others."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Final

from tests.sandbox.answers import ANSWERS, raw
from tests.sandbox.case import Case, Ended
from tests.sandbox.guests import decision, tool
from tests.sandbox.outside import Answering, Canary, NameServer, Records, Site, answer, certificate

from capsa import _native

#: The value of the secret `key`: no guest may ever see it.
SECRET: Final = "hunter2/sword+fish=42"  # noqa: S105 - nobody's
#: What stands in every file that is not the guest's.
OUTSIDE: Final = "not for guests"

#: What the name server says; see `Records`. The canary listens at 127.0.0.2 too.
_ZONE: Final[dict[str, Records]] = {
    "inner.test": ["127.0.0.1"],
    "inner6.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "translated.test": ["64:ff9b::7f00:1"],
    "tunnelled.test": ["2002:7f00:1::"],
    "metadata.test": ["169.254.169.254"],
    "private.test": ["10.1.2.3"],
    "carrier.test": ["100.64.0.1"],
    "any.test": ["0.0.0.0"],  # noqa: S104 - nothing is bound
    "any6.test": ["::"],
    "mixed.test": ["93.184.215.14", "127.0.0.1"],
    "mixed6.test": ["93.184.215.14", "::1"],
    "last-of-many.test": [*(f"93.184.215.{last}" for last in range(1, 24)), "127.0.0.1"],
    "alias.test": ("localhost", ["127.0.0.1"]),
    "empty.test": [],
    "both.test": ["127.0.0.1"],
}


def _zone(name: str, before: int) -> Records | bytes:
    if name == "silent.test":
        return b""
    if name == "garbage.test":
        return b"\0" * 12
    if name == "turning.test":
        return ["127.0.0.1"] if before == 0 else ["127.0.0.2"]
    return _ZONE.get(name)


class Arena:
    """What cases are tried on. `begin` makes what belongs to one case anew.

    Attributes:
        canary: Nothing may reach it.
        site: Some cases may, at its port, by `private`.
        secure: The same with TLS and a certificate that is trusted.
        forged: The same with one that is not.
        names: The name server of the host.
        host: The engine.
        authority: The file with the certificate of `secure`.
        cache: A folder for compiled components.
        kv: What the guest keeps.
        rival: What another tenant's tool keeps.
        root: A folder as that of a store.
        own: The guest's own directory in it.
    """

    def __init__(self, folder: Path) -> None:
        context, pem = certificate(folder, "trusted", "127.0.0.1", "both.test")
        other, _ = certificate(folder, "forged", "127.0.0.1")
        self.canary = Canary()
        self.site = Site({**ANSWERS, **self._elsewhere()})
        self.secure = Site(ANSWERS, tls=context)
        self.forged = Site(ANSWERS, tls=other)
        self.names = NameServer(_zone)
        self.host = _native.Host(dns=[self.names.address], roots=pem)
        self.authority = folder / "trusted.pem"
        self.authority.write_text(pem)
        self.cache = folder / "cache"
        self.cache.mkdir(mode=0o700)
        self._good = (tool(), decision())

    def _elsewhere(self) -> dict[str, Answering]:
        def to(url: str, status: str) -> Answering:
            return lambda _: iter([answer(b"1", f"Location: {url}", status=status)])

        inner = f"http://127.0.0.1:{self.canary.port}/"
        return {
            # What an earlier call has sent, perhaps.
            "/kept": raw(answer(json.dumps(SECRET).encode())),
            "/moved": to(inner, "301 Moved Permanently"),
            "/found": to(inner, "302 Found"),
            "/again": to(inner, "307 Temporary Redirect"),
            "/relative": to("/one", "302 Found"),
            "/refresh": raw(answer(b"1", f"Refresh: 0; url={inner}")),
        }

    def begin(self, root: Path) -> None:
        """Everything that a case may touch, anew.

        Args:
            root: A folder as that of a store; it is made.
        """
        self.canary.touched = 0
        for site in (self.site, self.secure, self.forged):
            site.asked.clear()
        self.names.asked.clear()
        self.kv = _native.tools.KeyValues()
        self.rival = _native.tools.KeyValues({"plan": OUTSIDE.encode(), "shared": OUTSIDE.encode()})
        self.root = root
        self.own = self.root / "files" / "acme" / "tool"
        for name in (
            "policies/tool.toml",
            "journal.sqlite",
            "keys/1.key",
            "files/acme/other/plan",
            "files/rival/tool/plan",
        ):
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(OUTSIDE)
        self.own.mkdir(exist_ok=True)
        (self.own / "note").write_text("mine")
        self._others = self._digest()
        self.secrets: dict[str, str] = {"key": SECRET}
        self.changes_fail = False

    def check(self, case: Case, ended: Ended) -> None:
        """What holds after every case, whatever it tried."""
        assert self.canary.touched == 0, "a service inside was reached"
        assert self._digest() == self._others, "something outside the guest's own directory changed"
        assert self.rival.entries() == {"plan": OUTSIDE.encode(), "shared": OUTSIDE.encode()}
        said = ended.said()
        assert OUTSIDE not in said, "what belongs to others was read"
        for form in (SECRET, SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode()):
            assert form not in said, "the secret was told"
        assert all("\n" not in text for text in ([ended.error.detail] if ended.error else [])), case.id

    def _digest(self) -> str:
        digest = hashlib.blake2b()
        for path in sorted(self.root.rglob("*")):
            if not path.is_relative_to(self.own):
                digest.update(str(path).encode())
                if path.is_file():
                    digest.update(path.read_bytes())
        return digest.hexdigest()

    def change(
        self,
        key: str,
        value: bytes | None,
        expected: tuple[bytes | None] | None,
        max_bytes: int,
        max_keys: int,
    ) -> bool | None:
        """Keeps what the guest keeps, as `ToolComponent.bind` asks for it."""
        if self.changes_fail:
            raise OSError("the disk is gone")
        if expected is not None and self.kv.get(key) != expected[0]:
            return False
        if not self.kv.fits(key, value, max_bytes=max_bytes, max_keys=max_keys):
            return None
        was = self.kv.apply(key, value)
        return was or expected is not None

    def close(self) -> None:
        """Ends what is outside."""
        for listening in (self.canary, self.site, self.secure, self.forged):
            listening.close()
        self.names.close()

    @property
    def good(self) -> tuple[bytes, bytes]:
        """An innocent tool, and an innocent decision capsule."""
        return self._good[0].bytes, self._good[1].bytes
