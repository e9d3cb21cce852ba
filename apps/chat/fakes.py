"""A generator without an engine, for unit tests and for trying the HTTP layer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from core.contracts import AdapterRef, Chunk, Message, Sampling, Usage
from core.errors import Unavailable


class FakeGenerator:
    """Streams ``reply`` in pieces of ``size`` characters and remembers what it was asked.

    ``failures`` counts how often it fails first; ``fails_after`` makes it fail after so many pieces.
    """

    def __init__(self, reply: str = "응, 왔어?", size: int = 2, delay_s: float = 0.0) -> None:
        self.reply = reply
        self.size = size
        self.delay_s = delay_s
        self.failures = 0
        self.fails_after: int | None = None
        self.prompts: list[list[Message]] = []
        self.samplings: list[Sampling] = []
        self.adapters: list[AdapterRef | None] = []
        self.aborted = 0

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, adapter: AdapterRef | None
    ) -> AsyncGenerator[Chunk, None]:
        self.prompts.append(list(messages))
        self.samplings.append(sampling)
        self.adapters.append(adapter)
        if self.failures:
            self.failures -= 1
            raise Unavailable("the engine does not answer", "generator")
        done = False
        try:
            for number, start in enumerate(range(0, len(self.reply), self.size)):
                if self.fails_after == number:
                    raise Unavailable("the engine does not answer", "generator")
                await asyncio.sleep(self.delay_s)
                yield Chunk(self.reply[start : start + self.size])
            yield Chunk(finish_reason="stop", usage=Usage(10, len(self.reply)))
            done = True
        finally:
            self.aborted += not done


class FakeMetrics:
    """Remembers what was counted."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.turns = 0

    def degraded(self, component: str) -> None:
        self.missing.append(component)

    def finished(self, result: object, persona: str) -> None:
        self.turns += 1
