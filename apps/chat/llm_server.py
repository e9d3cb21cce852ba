"""Ray's LLM server with our adapters and a call that needs no vLLM on the caller's side.

The only file that touches ``ray.llm._internal`` and vLLM's request types (Ray 2.60, vLLM 0.29):
``dynamic_lora_loading_path`` takes remote buckets only, so a loader that knows our store is injected; and building
a ``ChatCompletionRequest`` imports vLLM, which costs a caller seconds and hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from ray.llm._internal.common.models import global_id_manager
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig, LLMConfig
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve.llm import LLMServer

from adapters.store import AdapterStore
from core.contracts import Chunk, FinishReason, Message, Sampling, Usage
from core.errors import InvalidRequest, Unavailable
from core.settings import get_settings


class AdapterLoader(LoraModelLoader):
    """Resolves ``<persona>/<version>`` to the folder of the published adapter."""

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> DiskMultiplexConfig:
        store = AdapterStore(get_settings().adapter_roots)
        return DiskMultiplexConfig(
            model_id=lora_model_id,
            max_total_tokens=None,
            local_path=store.ref(lora_model_id).path,
            lora_assigned_int_id=global_id_manager.next(),
        )


class CharacterServer(LLMServer):
    """``LLMServer`` that takes our messages and streams our chunks."""

    async def generate(
        self, model: str, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[Chunk, None]:
        """Stream a reply of ``model``: the base's id, or that of the adapter which the call is multiplexed to.

        Raises:
            InvalidRequest: The engine refused the request.
            Unavailable: The engine failed.
        """
        events = await self.chat(_request(model, messages, sampling), None)
        async for chunk in _merged(_chunks(events)):
            yield chunk


def _request(model: str, messages: Sequence[Message], sampling: Sampling) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    optional = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
    }
    return ChatCompletionRequest(
        model=model,
        messages=[{"role": m.role, "content": m.content} for m in messages],
        max_completion_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        stream=True,
        stream_options={"include_usage": True},
        **{name: value for name, value in optional.items() if value is not None},
    )


async def _chunks(events: AsyncIterator[Any]) -> AsyncGenerator[Chunk, None]:
    async for item in events:
        for event in item if isinstance(item, list) else [item]:
            if chunk := parse_event(event):
                yield chunk


async def _merged(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
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
