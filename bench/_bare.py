"""The baseline of `http_load`: what aiohttp, uvloop and msgspec cost by themselves, with bodies as long as ours.

One route decodes the request into a typed struct and encodes a typed answer of exactly ``--body-bytes``. There is no
key, no middleware, no log, no learning and no disk: a server that does more cannot be faster.

``bench/_bare.py --port 0 --body-bytes 480`` prints its port and serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import uvloop
from aiohttp import web

ROUTE: Final = "/tenants/{t}/jobs/{j}/capsules/{c}/{call}"
NAMES: Final = ["cheap_fast", "balanced", "expensive_accurate"]
#: As long as the server's own, so that 1,000 connections are no matter of the kernel's queue.
BACKLOG: Final = 4096


class DecideRequest(msgspec.Struct, rename="camel"):
    input: dict[str, Any] = {}
    context_key: str | None = None
    options: list[str] | None = None
    current: str | None = None
    session: str | None = None
    subject: str | None = None


class FeedbackRequest(msgspec.Struct, rename="camel"):
    decision_id: str
    outcome: dict[str, float] | None = None
    reward: float | None = None
    taken: str | None = None


class Choice(msgspec.Struct, rename="camel"):
    strategy_id: int
    strategy: str
    option: int
    option_name: str
    propensity: float
    names: list[str]
    probabilities: list[float]


class DecideAnswer(msgspec.Struct, rename="camel"):
    """`decision_id` fills up what the answer is short of."""

    decision_id: str
    capsule: str
    job: str
    tenant: str
    context_key: str
    option: int
    option_name: str
    propensity: float
    decisions: list[Choice]


class FeedbackAnswer(msgspec.Struct, rename="camel"):
    """`decision_id` fills up what the answer is short of."""

    decision_id: str
    status: str
    reward: float
    parts: dict[str, float]
    context_key: str
    option: int
    before: list[float]
    after: list[float]
    sequence: int


def decided(request: web.Request, body: DecideRequest, filler: str) -> DecideAnswer:
    """An answer of the shape that the contract describes."""
    match = request.match_info
    chosen = Choice(0, "choice", 1, NAMES[1], 0.65, NAMES, [0.3, 0.65, 0.05])
    key = body.context_key or "legal|enterprise|normal"
    return DecideAnswer(filler, match["c"], match["j"], match["t"], key, 1, NAMES[1], 0.65, [chosen])


def learned(_: web.Request, body: FeedbackRequest, filler: str) -> FeedbackAnswer:
    """An answer of the shape that the contract describes."""
    parts = {"quality": 0.54, "latency_ms": -0.064, "cost_usd": -0.011}
    reward = body.reward or 0.465
    weights = [0.3, 0.65, 0.05]
    return FeedbackAnswer(filler, "applied", reward, parts, "legal|enterprise", 1, weights, weights, 90211)


def handler(body_bytes: int) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The one handler: parse, answer, encode.

    Raises:
        ValueError: `body_bytes` is less than the fields of an answer take.
    """
    decide = msgspec.json.Decoder(DecideRequest)
    feedback = msgspec.json.Decoder(FeedbackRequest)
    encoder = msgspec.json.Encoder()
    fillers: dict[str, str] = {}

    def encoded(call: str, answer: DecideAnswer | FeedbackAnswer) -> bytes:
        if call not in fillers:
            short = body_bytes - len(encoder.encode(answer))
            if short < 0:
                raise ValueError(f"an answer to {call} takes {body_bytes - short} bytes, not {body_bytes}")
            fillers[call] = answer.decision_id = "x" * short
        return encoder.encode(answer)

    async def handle(request: web.Request) -> web.Response:
        call, sent = request.match_info["call"], await request.read()
        filler = fillers.get(call, "")
        if call == "decide":
            body = encoded(call, decided(request, decide.decode(sent), filler))
        elif call == "feedback":
            body = encoded(call, learned(request, feedback.decode(sent), filler))
        else:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type="application/json")

    return handle


async def serve(port: int, body_bytes: int) -> None:
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    app = web.Application()
    app.router.add_post(ROUTE, handler(body_bytes))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG, shutdown_timeout=1).start()
    print(runner.addresses[0][1], flush=True)
    await over.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="The baseline server of http_load.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--body-bytes", type=int, required=True, help="of every answer")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(given.port, given.body_bytes))


if __name__ == "__main__":
    main()
