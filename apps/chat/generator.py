"""The Generator: Ray's ``LLMServer`` (vLLM, multi-LoRA) as a deployment, and the client that streams from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from apps.chat.args import GeneratorArgs
from apps.chat.handles import serve_errors
from core.contracts import AdapterRef, Chunk, Message, Sampling
from core.errors import Unavailable
from core.settings import Settings

DEPLOYMENT_NAME = "Generator"
BASE_MODEL_ID = "base"


def build_generator(args: GeneratorArgs, settings: Settings) -> Any:
    """The bound deployment: engine, placement and adapter multiplexing come from Ray and vLLM."""
    from ray import serve
    from ray.serve.llm import LLMConfig

    from apps.chat.llm_server import AdapterLoader, CharacterServer

    config = LLMConfig(**llm_config(args, settings))
    options = CharacterServer.get_deployment_options(config)
    return serve.deployment(CharacterServer).options(**options).bind(config, model_downloader=AdapterLoader)


def llm_config(args: GeneratorArgs, settings: Settings) -> dict[str, Any]:
    """Keyword arguments of Ray's ``LLMConfig``; ``engine_kwargs`` of ours win over what is derived here."""
    engine: dict[str, Any] = {
        "dtype": "bfloat16",
        "max_model_len": args.max_model_len,
        "enable_lora": True,
        "max_loras": args.max_loras,
        "max_lora_rank": args.max_lora_rank,
        "enable_prefix_caching": True,
    }
    if args.device == "cpu":
        # On CPU this is the share of RAM; vLLM's default of 0.92 fails at start.
        engine["gpu_memory_utilization"] = 0.2
        # A seeded request whose prompt is split kills the engine: "CPU Generator does not use offset" (vLLM 0.29).
        engine["enable_chunked_prefill"] = False
        engine["max_num_batched_tokens"] = max(2048, args.max_model_len)
    config: dict[str, Any] = {
        "model_loading_config": {
            "model_id": BASE_MODEL_ID,
            "model_source": settings.model_path(args.model),
        },
        "engine_kwargs": engine | args.engine_kwargs,
        # Ray asks for the same number in both places; see the limits in its LoRA guide.
        "lora_config": {"max_num_adapters_per_replica": args.max_loras},
        # The batcher holds tokens back for 50 ms by default.
        "experimental_configs": {"stream_batching_interval_ms": 0},
        "deployment_config": deployment_options(args),
    }
    if args.device == "cpu":
        config["accelerator_config"] = {"kind": "cpu"}
    elif args.accelerator_type:
        config["accelerator_type"] = args.accelerator_type
    return config


def deployment_options(args: GeneratorArgs) -> dict[str, Any]:
    """Serve options of the replica; the bundles of the engine's workers are Ray's to add."""
    options = args.scaling.options()
    actor = options["ray_actor_options"]
    del actor["num_gpus"]  # the workers' bundles hold the GPUs
    if args.device == "cpu":
        actor["runtime_env"] = {"env_vars": {"VLLM_CPU_KVCACHE_SPACE": str(args.kv_cache_gib)}}
    return options | {
        "name": DEPLOYMENT_NAME,
        "health_check_period_s": 5,
        "health_check_timeout_s": 30,
        "graceful_shutdown_timeout_s": 10,
    }


class LlmServerGenerator:
    """Streams text from the Generator deployment, adapter by adapter."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle.options(stream=True)

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling, adapter: AdapterRef | None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield chunks as the engine sends them; closing early cancels the engine's request.

        Raises:
            Unavailable: The replica is gone, overloaded, or the engine failed.
            InvalidRequest: The engine refused the request.
        """
        model = adapter.adapter_id if adapter else BASE_MODEL_ID
        call = self._handle.options(multiplexed_model_id=model) if adapter else self._handle
        finished = False
        async with serve_errors(Unavailable("the engine does not answer", "generator")):
            response = call.generate.remote(model, list(messages), sampling)
            try:
                async for chunk in response:
                    yield chunk
                finished = True
            finally:
                if not finished:
                    response.cancel()
