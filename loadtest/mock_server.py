"""A tiny stand-in for the graph and for bare vLLM: the same protocols, made-up text, set delays.

``python -m loadtest.mock_server --port 8099`` to try the tools without an engine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import uuid4

import typer
from aiohttp import web

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How it acts."""

    first_token_s: float = 0.02
    token_s: float = 0.002
    tokens: int = 16
    adapter: str | None = "haneul/mock"
    fail_every: int | None = None
    """Every n-th completion breaks off with an error event."""


@dataclass
class _Mock:
    behaviour: Behaviour
    completions: int = 0
    busy: set[str] = field(default_factory=set)
    fans: set[str] = field(default_factory=set)

    async def health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "components": {"generator": "ok"}})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.completions += 1
        if not body.get("stream"):
            return web.json_response({"choices": [], "artistmind": {"adapter": self.behaviour.adapter}})
        every = self.behaviour.fail_every
        response = await _event_stream(request)
        if every and self.completions % every == 0:
            await _send(response, {"error": {"message": "the engine failed", "code": "unavailable"}})
            return response
        await _send(response, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        count = min(self.behaviour.tokens, body.get("max_tokens") or self.behaviour.tokens)
        async for text in self._words(count):
            await _send(response, {"choices": [{"index": 0, "delta": {"content": text}}]})
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await _send(response, last | {"artistmind": {"adapter": self.behaviour.adapter, "degraded": []}})
        await _send(response, {"choices": [], "usage": _usage(count)})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def open_session(self, request: web.Request) -> web.Response:
        body = await request.json()
        fan_id = f"fan-{uuid4().hex[:8]}"
        self.fans.add(fan_id)
        opened = {"session_id": uuid4().hex, "persona": body["persona"], "fan_id": fan_id}
        return web.json_response(opened, status=201)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        session_id = body["session_id"]
        if session_id in self.busy:
            return web.json_response({"error": {"message": "a turn is in flight", "code": "conflict"}}, status=409)
        self.busy.add(session_id)
        try:
            response = await _event_stream(request)
            async for text in self._words(self.behaviour.tokens):
                await _send(response, {"text": text}, "delta")
            final = {"reply": "", "blocked": False, "degraded": [], "durable": True}
            final |= {"adapter": self.behaviour.adapter, "usage": _usage(self.behaviour.tokens)}
            await _send(response, final, "final")
            return response
        finally:
            self.busy.discard(session_id)

    async def forget(self, request: web.Request) -> web.Response:
        self.fans.discard(request.match_info["fan_id"])
        return web.Response(status=204)

    async def _words(self, count: int) -> AsyncIterator[str]:
        await asyncio.sleep(self.behaviour.first_token_s)
        for number in range(count):
            yield f"말{number} "
            await asyncio.sleep(self.behaviour.token_s)


def make_app(behaviour: Behaviour) -> web.Application:
    """The whole server; its state is under ``STATE``."""
    mock, app = _Mock(behaviour), web.Application()
    app[STATE] = mock
    app.add_routes(
        [
            web.get("/health", mock.health),
            web.post("/v1/chat/completions", mock.complete),
            web.post("/session", mock.open_session),
            web.post("/chat", mock.chat),
            web.delete("/profile/{fan_id}", mock.forget),
        ]
    )
    return app


STATE = web.AppKey("state", _Mock)


@asynccontextmanager
async def running(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Serve ``app`` on loopback; gives its address."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _HOST, port)
        await site.start()
        bound = runner.addresses[0][1]
        yield f"http://{_HOST}:{bound}"
    finally:
        await runner.cleanup()


async def _event_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


async def _send(response: web.StreamResponse, data: dict[str, Any], name: str | None = None) -> None:
    head = f"event: {name}\n" if name else ""
    await response.write(f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode())


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 40, "completion_tokens": tokens}


def main(
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 8099,
    first_token: Annotated[float, typer.Option(help="Seconds to the first token.")] = 0.02,
    tokens: Annotated[int, typer.Option(help="Tokens per reply.")] = 16,
) -> None:
    """Serve until interrupted."""

    async def serve() -> None:
        async with running(make_app(Behaviour(first_token_s=first_token, tokens=tokens)), port) as url:
            typer.echo(url)
            await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    typer.run(main)
