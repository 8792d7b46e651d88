"""The routes of tools."""

from __future__ import annotations

from typing import Final, get_args

from capsa.decisions._tools import PolicyInForce
from capsa.policies import Explanation, Method, Policy
from capsa.server import _limits, _paths, _tool_shapes, _tools
from capsa.server._router import Query, Route
from capsa.wire import Compensate, Invoke

_CALL: Final = (*_paths.OF_KIND, *_paths.BODY, "capability-denied", *_paths.GUEST, "capsule-fuel")

TOOL_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path=_paths.CAPSULE + "/invoke",
        name="invoke",
        summary="Calls a tool.",
        serve=_tools.invoke,
        tag="tools",
        body=Invoke,
        body_bytes=_limits.CALL_BYTES,
        answer=_tool_shapes.Invoked,
        problems=_CALL,
    ),
    Route(
        method="POST",
        path=_paths.CAPSULE + "/compensate",
        name="compensate",
        summary="Asks a tool to take back what a call of it did.",
        serve=_tools.compensate,
        tag="tools",
        body=Compensate,
        body_bytes=_limits.CALL_BYTES,
        answer=_tool_shapes.Invoked,
        problems=_CALL,
    ),
    Route(
        method="GET",
        path=_paths.CAPSULE + "/policy",
        name="policy",
        summary="What a tool is allowed, and what of it is in effect.",
        serve=_tools.policy,
        tag="tools",
        answer=PolicyInForce,
        problems=_paths.OF_KIND,
    ),
    Route(
        method="PUT",
        path=_paths.CAPSULE + "/policy",
        name="putPolicy",
        summary="Sets what a tool is allowed, from its next call on.",
        serve=_tools.put_policy,
        tag="tools",
        body=Policy,
        body_bytes=_limits.POLICY_BYTES,
        answer=PolicyInForce,
        headers={"If-Match": "The ETag of the policy that is replaced."},
        problems=(*_paths.OF_KIND, *_paths.BODY, "invalid-policy", "stale-document"),
    ),
    Route(
        method="GET",
        path=_paths.CAPSULE + "/policy/explain",
        name="explainPolicy",
        summary="Whether a tool may do something, by which rule, and what would have to be granted.",
        serve=_tools.explain,
        tag="tools",
        answer=Explanation,
        query=(
            Query(
                "target",
                {"type": "string"},
                "A URL, the path of a file, `kv:KEY`, `secret:NAME` or `config:NAME`.",
                required=True,
            ),
            Query(
                "method",
                {"enum": list(get_args(Method)), "default": "GET"},
                "Of a request. Of a file and a key `GET` and `HEAD` ask about reading, any other about writing.",
            ),
        ),
        problems=_paths.OF_KIND,
    ),
    Route(
        method="GET",
        path=_paths.CAPSULE + "/invocations",
        name="invocations",
        summary="The calls of a tool, by pages.",
        serve=_tools.invocations,
        tag="tools",
        answer=_tool_shapes.InvocationPage,
        query=(_paths.AFTER, _paths.LIMIT),
        problems=_paths.OF_KIND,
    ),
    Route(
        method="GET",
        path=_paths.CAPSULE + "/invocations/{invocationId}",
        name="invocation",
        summary="One call of a tool.",
        serve=_tools.invocation,
        tag="tools",
        answer=_tool_shapes.Invocation,
        problems=(*_paths.OF_KIND, "unknown-invocation"),
    ),
    Route(
        method="POST",
        path=_paths.CAPSULE + "/invocations/{invocationId}/replay",
        name="replayInvocation",
        summary="Makes a recorded call again from its recording. Nothing outside is asked, and nothing changes.",
        serve=_tools.replay,
        tag="tools",
        answer=_tool_shapes.Replayed,
        problems=(*_paths.OF_KIND, "unknown-invocation"),
    ),
)
