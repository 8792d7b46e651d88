"""From a path to what serves it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

if TYPE_CHECKING:
    from capsa.server._call import Answer, Call

#: Serves one call.
Handler = Callable[["Call"], Awaitable["Answer"]]


class Query(msgspec.Struct, frozen=True):
    """A parameter of the query.

    Attributes:
        name: Its name.
        schema: What it may be, as JSON schema.
        text: What it says.
        required: Whether it has to be there.
    """

    name: str
    schema: dict[str, Any]
    text: str
    required: bool = False


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation.

    Attributes:
        method: Its method.
        path: Its path; ``{name}`` stands for one segment.
        name: The operation's name.
        summary: One sentence.
        serve: What serves it.
        tag: The group it is listed in.
        body: The type of its body as JSON or CBOR; ``bytes`` where it is taken as it is.
        body_bytes: Most bytes of it.
        answer: The type of its answer, or its schema.
        status: Of an answer.
        media: The content type of its answer.
        query: What the query may say.
        headers: Request headers that act, by name.
        problems: The types of problems that it may answer besides those that every call may.
        public: Whether it needs no key.
    """

    method: str
    path: str
    name: str
    summary: str
    serve: Handler
    tag: str
    body: Any = None
    body_bytes: int = 0
    answer: Any = None
    status: int = 200
    media: str = "application/json"
    query: tuple[Query, ...] = ()
    headers: dict[str, str] = {}
    problems: tuple[str, ...] = ()
    public: bool = False


class _Node:
    __slots__ = ("any", "methods", "named", "text")

    def __init__(self) -> None:
        self.text: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.named = ""
        self.methods: dict[str, Route] = {}


class Router:
    """Finds the route of a path: a tree of its segments, each a word or anything."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self._root = _Node()
        for route in routes:
            node = self._root
            for segment in route.path.split("/")[1:]:
                if segment.startswith("{"):
                    node.any = node.any or _Node()
                    node = node.any
                    node.named = segment[1:-1]
                else:
                    node = node.text.setdefault(segment, _Node())
            node.methods[route.method] = route

    def find(self, path: str) -> tuple[dict[str, Route], dict[str, str]]:
        """What a path serves by method, and what stands in its open segments; nothing where there is no such path.

        Args:
            path: As it was sent, without the query.
        """
        node = self._root
        named: dict[str, str] = {}
        if path[:1] != "/":
            return {}, named
        segments = path[1:].split("/")
        if "%" in path:
            # Decoded here and nowhere else; what is not a name then is refused as one.
            segments = [unquote(segment, errors="replace") for segment in segments]
        for segment in segments:
            following = node.text.get(segment)
            if following is None:
                following = node.any
                if following is None or not segment:
                    return {}, named
                named[following.named] = segment
            node = following
        return node.methods, named
