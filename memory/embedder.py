"""Dense vectors of texts: BGE-M3 for real use, hashed character n-grams for tests."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.errors import StoreUnavailable
from core.settings import get_settings


class EmbedderConfig(BaseModel):
    """Which model makes the vectors, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = "BAAI/bge-m3"
    """A name under ``models/``, a local folder, or a hub name."""
    device: str = "cpu"
    """Torch device of the model."""
    batch_size: int = Field(default=16, ge=1)
    """Texts per forward pass."""
    max_tokens: int = Field(default=512, ge=8)
    """Longer texts are cut."""


class BgeM3Embedder:
    """``Embedder`` on FlagEmbedding's BGE-M3; loads on first use and computes in a thread."""

    def __init__(self, config: EmbedderConfig | None = None) -> None:
        self._config = config or EmbedderConfig()
        self._lock = threading.Lock()
        self._model: Any = None

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit-length vectors, one per text.

        Raises:
            StoreUnavailable: the model cannot be loaded or fails.
        """
        if not texts:
            return []
        return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[list[float]]:
        with self._lock:  # one model, one thread at a time: two forward passes would only halve each other
            try:
                model, size = self._loaded(), self._config.batch_size
                batches = [texts[start : start + size] for start in range(0, len(texts), size)]
                return [vector for batch in batches for vector in self._forward(model, batch)]
            except (OSError, RuntimeError, ValueError, ImportError) as error:
                raise StoreUnavailable("the embedder does not answer", "embedder") from error

    def _forward(self, model: Any, batch: list[str]) -> list[list[float]]:
        """One forward pass: FlagEmbedding's ``encode`` runs a trial pass before each real one."""
        import torch

        inputs = model.tokenizer(
            batch, padding=True, truncation=True, max_length=self._config.max_tokens, return_tensors="pt"
        )
        with torch.inference_mode():
            vectors = model.model(inputs.to(self._config.device), return_dense=True)["dense_vecs"]
        rows: list[list[float]] = vectors.float().cpu().tolist()
        return rows

    def _loaded(self) -> Any:
        if self._model is None:
            from FlagEmbedding import BGEM3FlagModel

            self._model = BGEM3FlagModel(
                get_settings().model_path(self._config.model),
                use_fp16=False,
                devices=self._config.device,
                batch_size=self._config.batch_size,
                query_max_length=self._config.max_tokens,
                passage_max_length=self._config.max_tokens,
            )
            self._model.model.to(self._config.device).eval()
        return self._model


class HashEmbedder:
    """``Embedder`` without a model: texts that share character n-grams are near each other.

    ``down`` makes it fail like an embedder that cannot be reached.
    """

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension
        self.down = False

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.down:
            raise StoreUnavailable("the embedder does not answer", "embedder")
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.dimension
        padded = f" {' '.join(text.lower().split())} "
        for size in (1, 2, 3):
            for start in range(len(padded) - size + 1):
                gram = padded[start : start + size].encode("utf-8", "surrogatepass")
                number = int.from_bytes(hashlib.blake2b(gram, digest_size=8).digest())
                vector[number % self.dimension] += size if number >> 63 else -size
        length = math.sqrt(sum(value * value for value in vector))
        if length == 0.0:
            return [1.0, *vector[1:]]
        return [value / length for value in vector]
