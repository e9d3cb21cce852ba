"""Serve handles behind the protocols of ``core``: a replica that is gone reads as a store that is down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from core.contracts import Memory, Retrieval, Verdict
from core.errors import ArtistMindError, StoreUnavailable, Unavailable
from core.logs import get_logger


@asynccontextmanager
async def serve_errors(error: Unavailable) -> AsyncIterator[None]:
    """Let our own errors through, also out of Ray's wrapper; whatever else a remote call raises is ``error``.

    Over gRPC Serve raises a replica's exception as it was, over Ray's own transport inside ``RayTaskError``.
    """
    try:
        yield
    except ArtistMindError:
        raise
    except Exception as failure:  # whatever a remote call raises, the component behind it cannot be used now
        cause = getattr(failure, "cause", None)
        if isinstance(cause, ArtistMindError):
            raise cause from None
        get_logger("handles").warning("remote call failed", failure=f"{type(failure).__name__}: {failure}"[:500])
        raise error from failure


class HandleGuard:
    """``InputCheck`` by the Guard deployment; no answer is no pass."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def __call__(self, text: str, persona: str) -> Verdict:
        async with serve_errors(Unavailable("the input filter does not answer", "guard")):
            verdict: Verdict = await self._handle.check.remote(text, persona)
        return verdict


class HandleEmbedder:
    """``Embedder`` by the Embedder deployment."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        async with serve_errors(StoreUnavailable("the embedder does not answer", "embedder")):
            vectors: list[list[float]] = await self._handle.embed.remote(list(texts))
        return vectors


class HandleReranker:
    """``Reranker`` by the Embedder deployment."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def relevance(self, line: str, passages: Sequence[str]) -> list[float]:
        async with serve_errors(StoreUnavailable("the reranker does not answer", "embedder")):
            scores: list[float] = await self._handle.relevance.remote(line, list(passages))
        return scores


class HandleRetriever:
    """Everything that the Retriever deployment does, for the other deployments."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def search(self, text: str, persona: str, fan_id: str | None) -> Retrieval:
        found: Retrieval = await self._call("search", text, persona, fan_id)
        return found

    async def take_in(self, persona: str, document_id: str) -> int:
        chunks: int = await self._call("take_in", persona, document_id)
        return chunks

    async def take_out(self, persona: str, document_id: str) -> None:
        await self._call("take_out", persona, document_id)

    async def remember(self, memories: Sequence[Memory]) -> None:
        await self._call("remember", list(memories))

    async def forget_memories(self, memory_ids: Sequence[str]) -> None:
        await self._call("forget_memories", list(memory_ids))

    async def forget_fan(self, fan_id: str) -> None:
        await self._call("forget_fan", fan_id)

    async def memory_count(self) -> int:
        count: int = await self._call("memory_count")
        return count

    async def ping(self) -> None:
        await self._call("ping")

    async def _call(self, method: str, *arguments: Any) -> Any:
        async with serve_errors(StoreUnavailable("the retriever does not answer", "qdrant")):
            return await getattr(self._handle, method).remote(*arguments)
