"""Arguments of the chat application: what ``serve_local.yaml`` and ``serve_deploy.yaml`` may set.

Every key is checked; one that is not known is an error. What differs between one CPU machine and a GPU cluster
stands here and nowhere else.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from personas.prompt import PromptConfig
from safety.output_filter import OutputConfig


class ArgsModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scaling(ArgsModel):
    """Replicas and queue of one deployment."""

    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(default=16, gt=0)
    """Requests in flight per replica that the autoscaler aims for."""

    max_ongoing_requests: int = Field(default=64, ge=1)
    """Above this a replica takes no more; Ray's default of 5 is far too low here."""

    max_queued_requests: int = Field(default=256, ge=-1)
    """Above this the caller gets 503 at once; -1 never sheds."""

    num_cpus: float = Field(default=0.1, ge=0)
    num_gpus: float = Field(default=0, ge=0)
    upscale_delay_s: float = Field(default=10, ge=0)
    downscale_delay_s: float = Field(default=300, ge=0)

    @model_validator(mode="after")
    def _bounds(self) -> Scaling:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``Deployment.options``."""
        return {
            "autoscaling_config": {
                "min_replicas": self.min_replicas,
                "max_replicas": self.max_replicas,
                "initial_replicas": max(self.min_replicas, 1),
                "target_ongoing_requests": self.target_ongoing_requests,
                "upscale_delay_s": self.upscale_delay_s,
                "downscale_delay_s": self.downscale_delay_s,
            },
            "max_ongoing_requests": self.max_ongoing_requests,
            "max_queued_requests": self.max_queued_requests,
            "ray_actor_options": {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus},
        }


class GeneratorArgs(ArgsModel):
    """The engine: any model that vLLM serves, by shipped name, path or hub name."""

    model: str = "base"
    """``base`` is ``models/base``; or a directory, or a hub name such as ``Qwen/Qwen2.5-0.5B-Instruct``."""

    device: Literal["cpu", "gpu"] = "cpu"
    accelerator_type: str | None = None
    """Ray's name of the GPU (``L4``, ``A100``, ``H100``…); unset takes any."""

    max_model_len: int = Field(default=1536, ge=128)
    max_loras: int = Field(default=4, ge=1)
    """Adapters in one batch, and held per replica."""

    max_lora_rank: int = Field(default=16, ge=1)
    kv_cache_gib: int = Field(default=1, ge=1)
    """CPU only: size of the KV cache."""

    engine_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Handed to vLLM as they are: ``tensor_parallel_size``, ``quantization``, ``dtype``…"""

    scaling: Scaling = Scaling(
        target_ongoing_requests=24, max_ongoing_requests=128, max_queued_requests=256, num_cpus=0.5
    )


class EmbedderArgs(ArgsModel):
    model: str = "embedder"
    """BGE-M3 format: ``embedder`` is ours, or ``BAAI/bge-m3``."""

    reranker: str | None = None
    """FlagReranker format: ``reranker`` is ours, or ``BAAI/bge-reranker-v2-m3``; reads passages and recalled lines.

    Unset: the fused score decides on passages, shared words alone on lines."""

    device: str = "cpu"
    scaling: Scaling = Scaling()


class RetrieverArgs(ArgsModel):
    timeout_s: float = Field(default=2.0, gt=0)
    """After this the turn goes on without retrieval and says so."""

    top_knowledge: int = Field(default=3, ge=0)
    top_memories: int = Field(default=2, ge=0)
    dense_weight: float = Field(default=0.6, ge=0, le=1)
    """Share of the vector score; the rest is lexical (BM25 over Korean morphemes)."""

    chunk_size: int = Field(default=512, ge=64)
    chunk_overlap: int = Field(default=64, ge=0)
    knowledge_threshold: float = Field(default=0.3, ge=0, le=1)
    """Fused score below which a passage is left out."""

    memory_threshold: float = Field(default=0.3, ge=0, le=1)
    candidates: int = Field(default=8, ge=0)
    """Passages that ``embedder.reranker`` reads, if it is set; 0: the fused score decides on passages."""

    relevance_threshold: float = Field(default=0.5, ge=0, le=1)
    """Probability of being an answer below which a passage that was read is left out."""

    max_passage_chars: int = Field(default=240, ge=40)
    top_sentences: int = Field(default=0, ge=0)
    """Only this many sentences of the passages found, for small models; 0 shows the passages."""

    questions_only: bool = False
    """Knowledge only for lines that ask for something, for small models that talk about any passage they see."""

    scaling: Scaling = Scaling()


class GuardArgs(ArgsModel):
    output: OutputConfig = OutputConfig()
    """The hold-back window over replies."""

    classifier: str | None = None
    """Recognises fans in danger that no rule does: a folder that ``train_jobs.crisis`` wrote; ``crisis`` is ours."""

    timeout_s: float = Field(default=2.0, gt=0)
    """After this the turn is refused: safety fails closed."""

    scaling: Scaling = Scaling()


class WriterArgs(ArgsModel):
    interval_s: float = Field(default=2.0, gt=0)
    """Pause between looks for ended or idle sessions and spooled turns."""

    idle_minutes: float = Field(default=30, gt=0)
    summariser: Literal["extractive", "llm"] = "extractive"
    """``llm`` asks the served base model; for models of a few billion parameters and up."""

    scaling: Scaling = Scaling(max_replicas=1)


class GatewayArgs(ArgsModel):
    require_keys: bool = False
    """API keys (hashed in PostgreSQL) for every call but ``/health``. Off on loopback only."""

    max_message_chars: int = Field(default=2000, ge=1)
    max_upload_bytes: int = Field(default=20 * 1024 * 1024, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Per API key, or per address where keys are off; unset: no limit."""

    turn_timeout_s: float = Field(default=60, gt=0)
    session_idle_minutes: float = Field(default=30, gt=0)
    history_turns: int = Field(default=20, ge=1)
    rollout_refresh_s: float = Field(default=1.0, gt=0)
    """How soon a replica notices a promotion or a rollback."""

    scaling: Scaling = Scaling(target_ongoing_requests=32, max_ongoing_requests=256, max_queued_requests=512)


class ChatArgs(ArgsModel):
    """Everything ``apps.chat.app:build_app`` takes."""

    gateway: GatewayArgs = GatewayArgs()
    generator: GeneratorArgs = GeneratorArgs()
    embedder: EmbedderArgs = EmbedderArgs()
    retriever: RetrieverArgs = RetrieverArgs()
    guard: GuardArgs = GuardArgs()
    writer: WriterArgs = WriterArgs()
    prompt: PromptConfig = PromptConfig()

    @model_validator(mode="after")
    def _prompt_fits_the_model(self) -> ChatArgs:
        room = self.generator.max_model_len - self.prompt.max_prompt_tokens
        if room < 64:
            raise ValueError(
                f"prompt.max_prompt_tokens {self.prompt.max_prompt_tokens} leaves {room} tokens of "
                f"generator.max_model_len {self.generator.max_model_len} for the reply; leave at least 64"
            )
        return self
