"""The engine's stream of server-sent events as chunks. Knows OpenAI's format, neither Ray nor vLLM."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from core.contracts import Chunk, FinishReason, Usage
from core.errors import InvalidRequest, Unavailable


async def chunks_of(events: AsyncIterator[Any]) -> AsyncGenerator[Chunk, None]:
    async for item in events:
        for event in item if isinstance(item, list) else [item]:
            if chunk := parse_event(event):
                yield chunk


async def merged(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """Join what the engine made while the caller was busy: the first piece goes at once, a backlog in one."""
    queue: asyncio.Queue[Chunk | BaseException | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for chunk in chunks:
                queue.put_nowait(chunk)
            queue.put_nowait(None)
        except Exception as error:  # handed to the reader, who raises it in its own place
            queue.put_nowait(error)

    pumping = asyncio.create_task(pump())
    try:
        while True:
            ready = [await queue.get()]
            while not queue.empty():
                ready.append(queue.get_nowait())
            pieces = [item for item in ready if isinstance(item, Chunk)]
            if pieces:
                yield _joined(pieces)
            if isinstance(ready[-1], BaseException):
                raise ready[-1]
            if ready[-1] is None:
                return
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)
        await chunks.aclose()


def _joined(pieces: Sequence[Chunk]) -> Chunk:
    finish = next((p.finish_reason for p in reversed(pieces) if p.finish_reason), None)
    usage = next((p.usage for p in reversed(pieces) if p.usage), None)
    return Chunk("".join(p.text for p in pieces), finish, usage)


def parse_event(event: Any) -> Chunk | None:
    """One server-sent event of the engine's OpenAI stream, or its error object, to a chunk."""
    if not isinstance(event, str):
        raise _engine_error(getattr(event, "error", event))
    payload = event.removeprefix("data: ").strip()
    if not payload or payload == "[DONE]":
        return None
    data = json.loads(payload)
    if error := data.get("error"):
        raise _engine_error(error)
    usage = data.get("usage")
    counted = Usage(usage["prompt_tokens"], usage.get("completion_tokens") or 0) if usage else None
    choice = next(iter(data.get("choices") or []), None)
    if choice is None:
        return Chunk(usage=counted)
    return Chunk(choice["delta"].get("content") or "", _finish(choice.get("finish_reason")), counted)


def _finish(reason: str | None) -> FinishReason | None:
    if reason is None:
        return None
    return "length" if reason == "length" else "stop"


def _engine_error(error: Any) -> Exception:
    fields = error if isinstance(error, dict) else getattr(error, "__dict__", {"message": str(error)})
    message, status = str(fields.get("message", error)), fields.get("code", 500)
    if isinstance(status, int) and 400 <= status < 500:
        return InvalidRequest(f"the engine refused the request: {message}")
    return Unavailable(f"the engine failed: {message}", "generator")
