"""Whether a passage answers a line: a cross-encoder in FlagReranker's format, such as BAAI/bge-reranker-v2-m3."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.errors import StoreUnavailable
from core.settings import get_settings


class RerankerConfig(BaseModel):
    """Which model reads, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = "BAAI/bge-reranker-v2-m3"
    """A name under ``models/``, a local folder, or a hub name."""
    device: str = "cpu"
    """Torch device of the model."""
    batch_size: int = Field(default=16, ge=1)
    """Pairs per forward pass."""
    max_tokens: int = Field(default=224, ge=16)
    """Of line and passage together; longer passages are cut."""


class CrossEncoder:
    """``Reranker`` on a sequence classifier with one label; loads on first use and computes in a thread.

    FlagEmbedding's own class runs every batch twice, to find a batch size: here it would be half of the time.
    """

    def __init__(self, config: RerankerConfig | None = None) -> None:
        self._config = config or RerankerConfig()
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    async def relevance(self, line: str, passages: Sequence[str]) -> list[float]:
        """Probability of each passage, from 0 to 1, that it answers ``line``.

        Raises:
            StoreUnavailable: The model cannot be loaded or fails.
        """
        if not passages:
            return []
        return await asyncio.to_thread(self._relevance, line, list(passages))

    def _relevance(self, line: str, passages: list[str]) -> list[float]:
        with self._lock:  # one model, one thread at a time, as with the embedder
            try:
                size = self._config.batch_size
                batches = [passages[start : start + size] for start in range(0, len(passages), size)]
                return [score for batch in batches for score in self._forward(line, batch)]
            except (OSError, RuntimeError, ValueError, ImportError) as error:
                raise StoreUnavailable("the reranker does not answer", "embedder") from error

    def _forward(self, line: str, batch: list[str]) -> list[float]:
        import torch

        tokenizer, model = self._load()
        inputs = tokenizer(
            [line] * len(batch),
            batch,
            padding=True,
            truncation=True,  # of the longer one, which is the passage
            max_length=self._config.max_tokens,
            return_tensors="pt",
        )
        with torch.inference_mode():
            scores = model(**inputs.to(self._config.device)).logits.view(-1).float().sigmoid()
        rows: list[float] = scores.cpu().tolist()
        return rows

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            path = get_settings().model_path(self._config.model)
            model = AutoModelForSequenceClassification.from_pretrained(path).to(self._config.device).eval()
            self._loaded = AutoTokenizer.from_pretrained(path), model
        return self._loaded
