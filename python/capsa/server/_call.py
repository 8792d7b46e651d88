"""One call: what was asked, read and checked, and what is answered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from aiohttp import http_exceptions, web

from capsa.errors import InvalidField, StaleDocument, shown
from capsa.server import _limits
from capsa.server._head import is_cbor, wants_cbor
from capsa.server._problems import Refused
from capsa.wire import CBOR, JSON, Malformed, decode, decoded, encode
from capsa.wire._requests import unknown_field

if TYPE_CHECKING:
    from capsa.decisions import AsyncCapsule, AsyncStore
    from capsa.server._router import Route
    from capsa.server._service import Service

T = TypeVar("T", bound=msgspec.Struct)

#: Larger bodies are dealt with off the event loop.
_LARGE: Final = 64 * 1024
_TAGS: Final = re.compile(r'\s*((W/)?"[^"]*"\s*(,\s*(W/)?"[^"]*"\s*)*)')


class Answer(msgspec.Struct, frozen=True):
    """What a call comes to.

    Attributes:
        value: The value of the body; bytes are JSON already, or whatever `media` says.
        status: The HTTP status.
        media: The content type where it is not the negotiated one.
        headers: What else is said.
    """

    value: Any
    status: int = 200
    media: str | None = None
    headers: dict[str, str] | None = None


class Call:
    """A request on its way through the server.

    Attributes:
        request: As aiohttp has it.
        service: What is served.
        route: What serves it.
        named: What stands in the open segments of its path.
    """

    __slots__ = ("_raw", "named", "request", "route", "service")

    def __init__(
        self, request: web.BaseRequest, service: Service, route: Route, named: dict[str, str]
    ) -> None:
        self.request = request
        self.service = service
        self.route = route
        self.named = named
        self._raw: bytes | None = None

    @property
    def is_cbor(self) -> bool:
        """Whether the body says that it is CBOR; everything else is JSON."""
        return is_cbor(self.request.headers.get("Content-Type"))

    @property
    def store(self) -> AsyncStore:
        """The store.

        Raises:
            Refused: It is not open yet.
        """
        return self.service.store

    def capsule(self) -> AsyncCapsule:
        """The capsule that the path names.

        Raises:
            NotFound: There is none.
            InvalidField: The path's names are none.
        """
        named = self.named
        return self.service.capsule(named["tenant"], named["job"], named["capsule"])

    async def raw(self) -> bytes:
        """The body.

        Raises:
            Refused: It is too large, too slow, or comes with a content coding.
        """
        if self._raw is not None:
            return self._raw
        request, most = self.request, self.route.body_bytes
        headers = request.headers
        if "Content-Encoding" in headers and headers["Content-Encoding"].lower() != "identity":
            raise Refused(
                "unsupported-type",
                "the body comes with a content coding",
                pointer="Content-Encoding",
                value=headers["Content-Encoding"],
                remedy="send it plain",
            )
        length = request.content_length
        if length is not None and length > most:
            raise _too_large(most)
        content = request.content
        if content.is_eof():
            body = content.read_nowait()
        else:
            body = await _arriving(content, most)
        if len(body) > most:
            raise _too_large(most)
        self._raw = body
        return body

    async def is_large(self) -> bool:
        """Whether the body is so large that what is done with it takes a while."""
        return len(await self.raw()) > _LARGE

    async def value(self) -> Any:
        """The body as a value.

        Raises:
            Refused: It cannot be read.
        """
        body = await self.raw()
        try:
            if not await self.is_large():
                return decode(body, cbor=self.is_cbor)
            # So many values take a while.
            return await asyncio.to_thread(decode, body, cbor=self.is_cbor)
        except Malformed as error:
            raise Refused("malformed-body", str(error), remedy="send one JSON object in UTF-8") from None

    async def body(self, type_: type[T]) -> T:
        """The body as a request of a type.

        Raises:
            Refused: It cannot be read.
            InvalidRequest: It is not such a request.
        """
        return decoded(await self.value(), type_)

    async def slowly(self, work: Callable[[], Any]) -> Answer:
        """The answer that some work comes to, made and written down off the event loop.

        Args:
            work: Gives the value, or an `Answer` with one; bytes are JSON already.
        """
        cbor = wants_cbor(self.request.headers.get("Accept"))

        def written() -> Answer:
            made = work()
            answer = made if isinstance(made, Answer) else Answer(made)
            value = answer.value
            if not isinstance(value, bytes):
                value = encode(value, cbor=cbor)
            elif cbor:
                value = encode(decode(value), cbor=True)
            return msgspec.structs.replace(answer, value=value, media=CBOR if cbor else JSON)

        return await asyncio.to_thread(written)

    def query(self) -> dict[str, str]:
        """What the query says, each parameter once.

        Raises:
            UnknownField: A parameter that does not exist.
            InvalidField: One that stands twice.
        """
        if "?" not in self.request.raw_path:
            return {}
        given: dict[str, str] = {}
        known = [query.name for query in self.route.query]
        for name, text in self.request.rel_url.query.items():
            if name not in known:
                raise unknown_field(name, known)
            if name in given:
                raise InvalidField(
                    f"{name} stands twice", pointer=f"/{name}", value=shown(text), remedy="send it once"
                )
            given[name] = text
        return given

    def if_match(self, present: str, stale: str, pointer: str | None = None) -> bool:
        """Whether the request is about a document as it is and no other; not where any will do.

        Args:
            present: The document's tag, without quotes.
            stale: One sentence that says which tag it has.
            pointer: The argument that says the same in process.

        Raises:
            StaleDocument: ``If-Match`` names others alone.
            Refused: It is no list of ETags.
        """
        given = self.request.headers.get("If-Match")
        if given is None or given.strip(" \t") == "*":
            return False
        if _TAGS.fullmatch(given) is None:
            raise Refused(
                "malformed-request",
                "If-Match is no list of ETags",
                pointer="If-Match",
                remedy="send the ETag in its quotes",
            )
        # Weak ones never match here (RFC 9110 section 13.1.1).
        if f'"{present}"' not in re.split(r"\s*,\s*", given.strip(" \t")):
            raise StaleDocument(
                stale, pointer=pointer, value=shown(given.strip(' \t"')), remedy="read it again"
            )
        return True

    def flag(self, query: dict[str, str], name: str) -> bool:
        """A parameter that is ``true`` or ``false``; false where it is left out."""
        text = query.get(name, "false")
        if text not in ("true", "false"):
            raise InvalidField(
                f"{name} is not true or false",
                pointer=f"/{name}",
                value=shown(text),
                remedy="send true or false",
            )
        return text == "true"

    def number(self, query: dict[str, str], name: str, default: int) -> int:
        """A parameter that is a whole number; its range is for the domain to check."""
        text = query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()) or len(text) > 16:
            raise InvalidField(
                f"{name} is not a whole number",
                pointer=f"/{name}",
                value=shown(text),
                remedy="send digits only",
            )
        return int(text)


async def _arriving(content: Any, most: int) -> bytes:
    """The body of a request that is still on its way."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_limits.BODY_S):
            while part := await content.readany():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError:
        raise Refused(
            "request-timeout",
            f"the body did not arrive within {_limits.BODY_S:g} seconds",
            remedy="send it whole",
            close=True,
        ) from None
    except (web.RequestPayloadError, http_exceptions.HttpProcessingError):
        raise Refused("malformed-request", "the body is not as its head says", close=True) from None
    return b"".join(parts)


def _too_large(most: int) -> Refused:
    return Refused(
        "too-large",
        f"the body has more than {most} bytes",
        remedy=f"send at most {most} bytes at once",
        # What is still on its way is not waited for.
        close=True,
    )
