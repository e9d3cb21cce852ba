"""Ray's LLM server with our adapters and a call that needs no vLLM on the caller's side.

The only file that touches ``ray.llm._internal`` and vLLM's request types (Ray 2.60, vLLM 0.29):
``dynamic_lora_loading_path`` takes remote buckets only, so a loader that knows our store is injected; and building
a ``ChatCompletionRequest`` imports vLLM, which costs a caller seconds and hundreds of megabytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ray.llm._internal.common.models import global_id_manager
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig, LLMConfig
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve.llm import LLMServer

from adapters.store import AdapterStore
from apps.chat.engine_stream import chunks_of, merged
from core.contracts import Chunk, Message, Sampling
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
        async for chunk in merged(chunks_of(events)):
            yield chunk

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        """One at a time: Ray looks and loads without a lock, and the second of two first requests would fail."""
        async with self.__dict__.setdefault("_loading", asyncio.Lock()):
            await super()._maybe_resolve_lora_from_multiplex()


def _request(model: str, messages: Sequence[Message], sampling: Sampling) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    optional = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed if sampling.temperature != 0 else None,  # greedy draws nothing
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
