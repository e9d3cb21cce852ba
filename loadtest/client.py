"""The streaming client: one request in, one ``RequestTrace`` out. All servers are measured with this one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any

import aiohttp

from loadtest.sse import SseEvent, SseParser


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """What one streamed request did; times are ``time.perf_counter`` seconds."""

    started: float
    ended: float
    arrivals: tuple[float, ...] = ()
    """When each event with text in it came in."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    finish: str | None = None
    adapter: str | None = None
    durable: bool | None = None
    degraded: tuple[str, ...] = ()
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def ttft_s(self) -> float | None:
        """Time to the first text, from before the connection was opened."""
        return self.arrivals[0] - self.started if self.arrivals else None

    @property
    def gaps_s(self) -> tuple[float, ...]:
        """Times between successive events with text."""
        return tuple(b - a for a, b in pairwise(self.arrivals))

    @property
    def seconds_per_token(self) -> float | None:
        """Mean time per token after the first; immune to how tokens are grouped into events."""
        if len(self.arrivals) < 2 or self.output_tokens < 2:
            return None
        return (self.arrivals[-1] - self.arrivals[0]) / (self.output_tokens - 1)


@dataclass(frozen=True, slots=True)
class ChatSession:
    """An open session on the platform."""

    session_id: str
    fan_id: str


@dataclass
class _Recorder:
    started: float = field(default_factory=time.perf_counter)
    arrivals: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    finish: str | None = None
    adapter: str | None = None
    durable: bool | None = None
    degraded: tuple[str, ...] = ()
    error: str | None = None
    complete: bool = False

    def result(self, result: dict[str, Any]) -> None:
        """The platform's own object at the end of a turn."""
        self.adapter, self.durable = result.get("adapter"), result.get("durable")
        self.degraded = tuple(result.get("degraded") or ())

    def usage(self, usage: dict[str, Any]) -> None:
        self.prompt_tokens = usage.get("prompt_tokens") or 0
        self.output_tokens = usage.get("completion_tokens") or 0

    def trace(self) -> RequestTrace:
        if self.error is None and not self.complete:
            self.error = "the stream ended before its last event"
        return RequestTrace(
            started=self.started,
            ended=time.perf_counter(),
            arrivals=tuple(self.arrivals),
            prompt_tokens=self.prompt_tokens,
            output_tokens=self.output_tokens,
            finish=self.finish,
            adapter=self.adapter,
            durable=self.durable,
            degraded=self.degraded,
            error=self.error,
        )


_Reader = Callable[[_Recorder, SseEvent, float], None]


def _read_completion(recorder: _Recorder, event: SseEvent, now: float) -> None:
    """One event of OpenAI's chat stream."""
    if event.data == "[DONE]":
        recorder.complete = True
        return
    data = json.loads(event.data)
    if error := data.get("error"):
        recorder.error = f"error event: {error.get('message', error)}"
        return
    for choice in data.get("choices") or ():
        if choice.get("delta", {}).get("content"):
            recorder.arrivals.append(now)
        recorder.finish = choice.get("finish_reason") or recorder.finish
    if usage := data.get("usage"):
        recorder.usage(usage)
    if result := data.get("artistmind"):
        recorder.result(result)


def _read_chat(recorder: _Recorder, event: SseEvent, now: float) -> None:
    """One event of the platform's ``/chat``."""
    data = json.loads(event.data)
    if event.name == "delta" and data["text"]:
        recorder.arrivals.append(now)
    elif event.name == "final":
        recorder.result(data)
        recorder.usage(data.get("usage") or {})
        recorder.finish = "content_filter" if data.get("blocked") else "stop"
        recorder.complete = True
    elif event.name == "error":
        recorder.error = f"error event: {data['error']['message']}"


class LoadClient:
    """One pool of connections. Redirects and proxies are not followed: the load stays where it was sent."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> LoadClient:
        connector = aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(connector=connector, timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http:
            await self._http.close()

    async def complete(self, base_url: str, body: dict[str, Any]) -> RequestTrace:
        """Stream one ``/v1/chat/completions``; a failure is a trace with ``error``, not an exception."""
        return await self._stream(f"{base_url}/v1/chat/completions", body, _read_completion)

    async def chat(self, base_url: str, session_id: str, message: str) -> RequestTrace:
        """Stream one ``/chat`` turn of a session."""
        body = {"session_id": session_id, "message": message, "stream": True}
        return await self._stream(f"{base_url}/chat", body, _read_chat)

    async def open_session(self, base_url: str, persona: str, name: str) -> ChatSession:
        """A new session for a new fan of this name."""
        body = {"persona": persona, "profile": {"name": name}}
        async with self._session.post(f"{base_url}/session", json=body, allow_redirects=False) as response:
            response.raise_for_status()
            opened: dict[str, str] = await response.json()
            return ChatSession(opened["session_id"], opened["fan_id"])

    async def forget(self, base_url: str, session: ChatSession) -> None:
        """Erase the fan with everything a test left behind; what cannot be erased now is left."""
        try:
            async with self._session.delete(f"{base_url}/profile/{session.fan_id}", allow_redirects=False):
                pass
        except (aiohttp.ClientError, TimeoutError):
            return

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None, "use the client in `async with`"
        return self._http

    async def _stream(self, url: str, body: dict[str, Any], read: _Reader) -> RequestTrace:
        recorder, parser = _Recorder(), SseParser()
        try:
            async with self._session.post(url, json=body, allow_redirects=False) as response:
                if response.status != 200:
                    recorder.error = f"HTTP {response.status}: {(await response.text())[:200]}"
                    return recorder.trace()
                async for piece in response.content.iter_any():
                    now = time.perf_counter()
                    for event in parser.feed(piece):
                        read(recorder, event, now)
        except TimeoutError:
            recorder.error = "timed out"
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
            recorder.error = f"{type(error).__name__}: {error}"
        return recorder.trace()


async def closed_loop(
    prompts: list[str], workers: int, send: Callable[[int, str], Awaitable[RequestTrace]]
) -> list[RequestTrace]:
    """Keep ``workers`` requests in flight until every prompt was sent; ``send(worker, prompt)`` gives a trace."""
    waiting = iter(prompts)
    traces: list[RequestTrace] = []

    async def work(worker: int) -> None:
        for prompt in waiting:
            traces.append(await send(worker, prompt))

    await asyncio.gather(*(work(worker) for worker in range(workers)))
    return traces
