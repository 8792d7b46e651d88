"""What is served of one tool: calls, what it is allowed, and what was recorded of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from capsa.errors import InvalidField, InvalidPolicy
from capsa.server._call import Answer, Call
from capsa.wire import (
    Compensate,
    Invoke,
    invocation_json,
    invocation_page,
    invoked_json,
    policy_json,
    replayed_json,
)

if TYPE_CHECKING:
    from capsa.decisions._tools import PolicyInForce
    from capsa.tools import Invoked

#: Answers of tools that may be larger are written down off the event loop.
_LARGE: Final = 4 * 1024 * 1024


async def invoke(call: Call) -> Answer:
    """Calls a tool."""
    call.query()
    capsule = call.capsule()
    await call.service.breathe()
    asked = await call.body(Invoke)
    inline = not await call.is_large()
    return await _invoked(call, await capsule.invoke(asked.input, record=asked.record, inline=inline))


async def compensate(call: Call) -> Answer:
    """Asks a tool to take back what a call of it did."""
    call.query()
    capsule = call.capsule()
    await call.service.breathe()
    asked = await call.body(Compensate)
    return await _invoked(call, await capsule.compensate(asked.input, asked.output))


async def _invoked(call: Call, invoked: Invoked) -> Answer:
    told = invoked_json(call.named["tenant"], call.named["job"], invoked)
    # What was answered is no larger than the memory in which it lay.
    if invoked.used.memory_bytes > _LARGE:
        return await call.slowly(lambda: told)
    return Answer(told)


async def policy(call: Call) -> Answer:
    """What a tool is allowed."""
    call.query()
    capsule = call.capsule()
    # One that grants much takes a while to write down.
    async with call.service.slow():
        return await call.slowly(lambda: _document(capsule.sync.policy))


def _document(found: PolicyInForce) -> Answer:
    return Answer(policy_json(found), headers={"ETag": f'"{found.digest}"'})


async def put_policy(call: Call) -> Answer:
    """Sets what a tool is allowed: a policy in JSON, CBOR or TOML."""
    call.query()
    name, capsule = call.named["capsule"], call.capsule().sync
    source = await _policy_of(call)

    def work() -> Answer:
        present = capsule.policy.digest
        matches = call.if_match(present, f"the policy of {name} is {present} by now")
        # The store reads it, so that the journal says who sent one that does not hold.
        return _document(capsule.set_policy(source, if_digest=present if matches else None))

    async with call.service.slow():
        return await call.slowly(work)


async def _policy_of(call: Call) -> Mapping[str, Any] | bytes:
    """The body: JSON begins with a brace, which TOML cannot."""
    body = await call.raw()
    if not call.is_cbor and not body.lstrip().startswith(b"{"):
        return body
    value = await call.value()
    if not isinstance(value, dict):
        # A text would be taken for the name of a file.
        raise InvalidPolicy("the policy is not an object", pointer="", remedy="send schema, name and grants")
    return value


async def explain(call: Call) -> Answer:
    """Whether a tool may do something."""
    query = call.query()
    target, method = query.get("target"), query.get("method", "GET")
    if target is None:
        raise InvalidField(
            "target is missing", pointer="/target", remedy="send ?target= with a URL or the path of a file"
        )
    capsule = call.capsule()
    # Each rule is held against the target by itself.
    async with call.service.slow():
        return await call.slowly(lambda: capsule.sync.explain(target, method).to_json())


async def invocations(call: Call) -> Answer:
    """The calls of a tool, by pages."""
    query = call.query()
    after, limit = call.number(query, "after", 0), call.number(query, "limit", 100)
    capsule = call.capsule()
    async with call.service.slow():
        return await call.slowly(lambda: invocation_page(capsule.sync.invocations(after, limit), limit))


async def invocation(call: Call) -> Answer:
    """One call of a tool."""
    call.query()
    capsule = call.capsule()
    async with call.service.slow():
        return await call.slowly(lambda: invocation_json(capsule.sync.invocation(call.named["invocationId"])))


async def replay(call: Call) -> Answer:
    """Makes a recorded call again from its recording."""
    call.query()
    return Answer(replayed_json(await call.capsule().replay_invocation(call.named["invocationId"])))
