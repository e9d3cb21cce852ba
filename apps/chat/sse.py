"""Server-sent events: framing and the response that carries them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse


def dump(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def frame(data: Any, event: str | None = None) -> str:
    """One event; JSON keeps the data on one line."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {dump(data)}\n\n"


DONE = "data: [DONE]\n\n"


async def primed(frames: AsyncGenerator[str, None]) -> StreamingResponse:
    """A streaming response whose first frame is ready.

    So an error before the first frame is a proper HTTP status and not an event in a 200 stream.
    """
    first = await anext(frames, "")

    async def body() -> AsyncIterator[str]:
        try:
            yield first
            async for text in frames:
                yield text
        finally:
            # A client that went away ends the turn: the engine's request is aborted.
            await frames.aclose()

    return StreamingResponse(
        body(),
        media_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
