"""What the prompt gets to know: the best passages of a persona's knowledge and of the fan's memories."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from core.contracts import Component, Embedder, Memory, Passage, Reranker
from core.errors import StoreUnavailable
from core.logs import get_logger
from memory.asking import asks_something
from memory.excerpts import best_sentences, best_window
from memory.index import KnowledgeChunk, QdrantIndex


class RetrieverConfig(BaseModel):
    """How much is retrieved, and how good it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    knowledge: int = Field(default=3, ge=0)
    """Most passages of the character's knowledge."""
    memories: int = Field(default=2, ge=0)
    """Most memories of the fan."""
    knowledge_threshold: float = Field(default=0.3, ge=0, le=1)
    """Fused score below which a passage is left out."""
    memory_threshold: float = Field(default=0.3, ge=0, le=1)
    """The same for a memory."""
    max_passage_chars: int = Field(default=240, ge=20)
    """Longer passages are cut to the sentences that fit the question best: a small model reads little."""
    sentences: int = Field(default=0, ge=0)
    """Only this many sentences of the character's knowledge, the best of all passages; 0 keeps the passages."""
    questions_only: bool = False
    """The character's knowledge only for lines that ask for something: a small model talks about any passage."""
    embed_timeout_s: float = Field(default=2.0, gt=0)
    """An embedder slower than this is taken for down, and the search goes by words."""
    candidates: int = Field(default=8, ge=0)
    """Passages of the character's knowledge that a reranker reads, if there is one; 0: the fused score decides."""
    relevance_threshold: float = Field(default=0.5, ge=0, le=1)
    """Probability below which the reranker's passages are left out; it takes the place of the fused score."""
    ingest_batch: int = Field(default=64, ge=1)
    """Chunks embedded and written at a time."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingestion changed."""

    added: int
    removed: int
    unchanged: int


class HybridRetriever:
    """``PassageRetriever`` and ``MemoryIndex`` over a ``QdrantIndex``."""

    def __init__(
        self,
        index: QdrantIndex,
        embedder: Embedder,
        config: RetrieverConfig | None = None,
        embedding: str = "",
        reranker: Reranker | None = None,
    ) -> None:
        """``embedding`` names the embedder's model: when it changes, everything is embedded again.

        With a ``reranker`` the search only proposes: small talk gets no passage, however near one is.
        """
        self._index = index
        self._embedder = embedder
        self._config = config or RetrieverConfig()
        self._embedding = embedding
        self._reranker = reranker if self._config.candidates else None
        self._embedder_is_down = False

    @property
    def degraded(self) -> tuple[Component, ...]:
        """What the last search had to do without."""
        return ("embedder",) if self._embedder_is_down else ()

    async def search(self, text: str, persona: str, fan_id: str | None) -> list[Passage]:
        """Knowledge of ``persona`` and memories of this fan with it, best first.

        Raises:
            StoreUnavailable: Qdrant is down. An embedder that is down only costs the search by meaning.
        """
        if not text.strip():
            return []
        vector = await self._vector(text)
        kept, memories = await asyncio.gather(
            self._knowledge(text, vector, persona), self._memories(text, vector, persona, fan_id)
        )
        if self._config.sentences:
            kept = await asyncio.to_thread(best_sentences, text, kept, self._config.sentences)
        kept += [p for p in memories if p.score >= self._config.memory_threshold]
        shortened = [
            replace(passage, text=best_window(passage.text, text, self._config.max_passage_chars)) for passage in kept
        ]
        return sorted(shortened, key=lambda passage: -passage.score)

    async def ingest(self, persona: str, chunks: Sequence[KnowledgeChunk], origin: str = "card") -> IngestReport:
        """Make the index hold exactly ``chunks`` for this origin: new and changed in, vanished out.

        ``origin`` keeps a persona's card and each uploaded document apart. Doing it again changes nothing.
        """
        fingerprints = {chunk.id: self._fingerprint(chunk) for chunk in chunks}
        present = {chunk.id: chunk.fingerprint for chunk in await self._index.indexed_chunks(persona, origin)}
        gone = [chunk_id for chunk_id in present if chunk_id not in fingerprints]
        changed = [chunk for chunk in chunks if present.get(chunk.id) != fingerprints[chunk.id]]
        for start in range(0, len(changed), self._config.ingest_batch):
            batch = changed[start : start + self._config.ingest_batch]
            vectors = await self._embedder.embed([f"{chunk.title}\n{chunk.text}" for chunk in batch])
            marks = [fingerprints[chunk.id] for chunk in batch]
            await self._index.upsert_knowledge(persona, origin, batch, marks, vectors)
        if gone:
            await self._index.delete_knowledge(persona, origin, gone)
        return IngestReport(len(changed), len(gone), len(fingerprints) - len(changed))

    async def remove(self, persona: str, origin: str) -> IngestReport:
        """Take everything of one origin out, such as a deleted document."""
        return await self.ingest(persona, [], origin)

    async def remember(self, memories: Sequence[Memory]) -> None:
        """Embed and index a fan's memories; again is once."""
        if memories:
            vectors = await self._embedder.embed([memory.text for memory in memories])
            await self._index.upsert_memories(memories, vectors)

    async def forget_memories(self, memory_ids: Sequence[str]) -> None:
        if memory_ids:
            await self._index.delete_memories(memory_ids)

    async def forget_fan(self, fan_id: str) -> None:
        await self._index.delete_fan(fan_id)

    async def memory_count(self) -> int:
        return await self._index.memory_count()

    async def ping(self) -> None:
        await self._index.ping()

    async def close(self) -> None:
        await self._index.close()

    async def _vector(self, text: str) -> list[float] | None:
        try:
            async with asyncio.timeout(self._config.embed_timeout_s):
                vector = (await self._embedder.embed([text]))[0]
        except (StoreUnavailable, TimeoutError) as error:
            self._embedder_is_down = True
            get_logger("retriever").warning("embedder_down", reason=type(error).__name__)
            return None
        self._embedder_is_down = False
        return vector

    async def _knowledge(self, text: str, vector: list[float] | None, persona: str) -> list[Passage]:
        config = self._config
        if config.knowledge == 0 or (config.questions_only and not await asyncio.to_thread(asks_something, text)):
            return []
        limit = max(config.candidates, config.knowledge) if self._reranker else config.knowledge
        found = await self._index.search_knowledge(text, vector, persona=persona, limit=limit)
        if self._reranker and found and (scores := await self._relevance(self._reranker, text, found)):
            read = [replace(passage, score=score) for passage, score in zip(found, scores, strict=True)]
            relevant = [passage for passage in read if passage.score >= config.relevance_threshold]
            return sorted(relevant, key=lambda passage: -passage.score)[: config.knowledge]
        return [p for p in found[: config.knowledge] if p.score >= config.knowledge_threshold]

    async def _relevance(self, reranker: Reranker, text: str, found: Sequence[Passage]) -> list[float] | None:
        """``None`` when the reranker does not answer: the fused order will have to do."""
        try:
            async with asyncio.timeout(self._config.embed_timeout_s):
                return await reranker.relevance(text, [f"{passage.title}\n{passage.text}" for passage in found])
        except (StoreUnavailable, TimeoutError) as error:
            self._embedder_is_down = True
            get_logger("retriever").warning("reranker_down", reason=type(error).__name__)
            return None

    async def _memories(
        self, text: str, vector: list[float] | None, persona: str, fan_id: str | None
    ) -> list[Passage]:
        if fan_id is None or self._config.memories == 0:
            return []
        return await self._index.search_memories(
            text, vector, persona=persona, fan_id=fan_id, limit=self._config.memories
        )

    def _fingerprint(self, chunk: KnowledgeChunk) -> str:
        parts = (self._embedding, chunk.text, chunk.title, chunk.category, chunk.source)
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
