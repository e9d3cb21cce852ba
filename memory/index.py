"""Hybrid search in Qdrant: a collection for characters' knowledge and one for fans' memories.

Every point has a dense vector and a morpheme vector. The two scores are brought to the same scale and added by
weight, in our code: rank fusion forgets how good a hit is, and a threshold needs that. Without a server the same
code runs on Qdrant's local mode, which one process at a time may open.

Whose points are searched is a mandatory argument of every search: nothing here can look across fans or personas.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict, Field
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException

from core.contracts import Memory, Passage
from core.errors import StoreUnavailable
from core.logs import get_logger
from core.settings import Settings
from memory.lexical import SparseTerms, document_vector, is_japanese, query_vector

_DENSE = "dense"
_LEXICAL = "lexical"
_TENANTS = ("persona", "fan_id", "origin")


class IndexConfig(BaseModel):
    """Collections, and how the two scores make one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    knowledge: str = "knowledge"
    """Collection of what characters know."""
    memories: str = "memories"
    """Collection of what fans told."""
    dense_weight: float = Field(default=0.6, ge=0, le=1)
    """Share of the meaning's score."""
    lexical_weight: float = Field(default=0.4, ge=0, le=1)
    """Share of the words' score."""
    lexical_half: float = Field(default=3.0, gt=0)
    """The BM25 score that counts as half of a perfect match."""
    lexical_half_ja: float = Field(default=9.0, gt=0)
    """The same for a Japanese text, of which every pair of characters is a term."""
    candidates: int = Field(default=24, ge=1)
    """Hits taken from each side before they are fused."""
    timeout_s: float = Field(default=3.0, gt=0)
    """Time for one search."""
    write_timeout_s: float = Field(default=30.0, gt=0)
    """Time for one write."""


@dataclass(frozen=True, slots=True)
class KnowledgeChunk:
    """A piece of a document, ready to be indexed; ``id`` is unique within a persona."""

    id: str
    text: str
    title: str
    category: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """What is known of a chunk that is in the index: enough to see whether it changed."""

    id: str
    fingerprint: str


class MemoryIndex(Protocol):
    """What the writer and an erasure need of the index; ``HybridRetriever`` has it, and so may a proxy of one."""

    async def remember(self, memories: Sequence[Memory]) -> None:
        """Embed and index; again is once."""
        ...

    async def forget_memories(self, memory_ids: Sequence[str]) -> None: ...

    async def forget_fan(self, fan_id: str) -> None: ...

    async def memory_count(self) -> int: ...

    async def ping(self) -> None: ...


class QdrantIndex:
    """Points in, passages out. Every failure to reach Qdrant becomes ``StoreUnavailable``."""

    def __init__(self, location: str | Path, dimension: int, config: IndexConfig | None = None) -> None:
        """``location`` is a server's address, or the folder of the local mode."""
        self._location = location
        self._dimension = dimension
        self._config = config or IndexConfig()
        self._client: AsyncQdrantClient | None = None
        self._opening = asyncio.Lock()

    @staticmethod
    def from_settings(settings: Settings, dimension: int, config: IndexConfig | None = None) -> QdrantIndex:
        return QdrantIndex(settings.qdrant_url or settings.qdrant_dir, dimension, config)

    async def upsert_knowledge(
        self,
        persona: str,
        origin: str,
        chunks: Sequence[KnowledgeChunk],
        fingerprints: Sequence[str],
        vectors: Sequence[Sequence[float]],
    ) -> None:
        """Add or replace chunks of one origin (a persona's card, or an uploaded document)."""
        payloads = [
            {
                "persona": persona,
                "origin": origin,
                "doc_id": chunk.id,
                "title": chunk.title,
                "category": chunk.category,
                "source": chunk.source,
                "text": chunk.text,
                "fingerprint": fingerprint,
            }
            for chunk, fingerprint in zip(chunks, fingerprints, strict=True)
        ]
        ids = [_point_id("knowledge", persona, origin, chunk.id) for chunk in chunks]
        texts = [f"{chunk.title}\n{chunk.text}" for chunk in chunks]
        await self._upsert(self._config.knowledge, ids, texts, vectors, payloads)

    async def indexed_chunks(self, persona: str, origin: str) -> list[IndexedChunk]:
        """What the index holds of one origin."""
        payloads = await self._scroll(self._config.knowledge, _only(persona=persona, origin=origin))
        return [IndexedChunk(payload["doc_id"], payload["fingerprint"]) for payload in payloads]

    async def delete_knowledge(self, persona: str, origin: str, chunk_ids: Sequence[str]) -> None:
        ids = [_point_id("knowledge", persona, origin, chunk_id) for chunk_id in chunk_ids]
        await self._delete(self._config.knowledge, models.PointIdsList(points=list(ids)))

    async def search_knowledge(
        self, text: str, vector: Sequence[float] | None, *, persona: str, limit: int
    ) -> list[Passage]:
        """Best chunks of this persona; without a vector by words only."""
        hits = await self._search(self._config.knowledge, text, vector, _only(persona=persona), limit)
        return [Passage(hit["doc_id"], hit["text"], hit["title"], hit["category"], score) for hit, score in hits]

    async def upsert_memories(self, memories: Sequence[Memory], vectors: Sequence[Sequence[float]]) -> None:
        payloads = [
            {
                "fan_id": memory.fan_id,
                "persona": memory.persona,
                "memory_id": memory.memory_id,
                "text": memory.text,
                "created_at": memory.created_at.isoformat(),
            }
            for memory in memories
        ]
        ids = [_point_id("memory", memory.memory_id) for memory in memories]
        await self._upsert(self._config.memories, ids, [m.text for m in memories], vectors, payloads)

    async def search_memories(
        self, text: str, vector: Sequence[float] | None, *, persona: str, fan_id: str, limit: int
    ) -> list[Passage]:
        """Best memories of this fan with this persona; without a vector by words only."""
        whose = _only(fan_id=fan_id, persona=persona)
        hits = await self._search(self._config.memories, text, vector, whose, limit)
        return [
            Passage(
                hit["memory_id"],
                hit["text"],
                f"{datetime.fromisoformat(hit['created_at']):%Y-%m-%d}",
                "memory",
                score,
                "memory",
            )
            for hit, score in hits
        ]

    async def delete_memories(self, memory_ids: Sequence[str]) -> None:
        ids = [_point_id("memory", memory_id) for memory_id in memory_ids]
        await self._delete(self._config.memories, models.PointIdsList(points=list(ids)))

    async def delete_fan(self, fan_id: str) -> None:
        await self._delete(self._config.memories, models.FilterSelector(filter=_only(fan_id=fan_id)))

    async def memory_count(self) -> int:
        """Memories in the index: none at all, and it has to be built again."""
        async with self._open(self._config.timeout_s) as client:
            return (await client.count(self._config.memories, exact=True)).count

    async def ping(self) -> None:
        async with self._open(self._config.timeout_s) as client:
            await client.get_collections()

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _upsert(
        self,
        collection: str,
        ids: Sequence[str],
        texts: Sequence[str],
        vectors: Sequence[Sequence[float]],
        payloads: Sequence[dict[str, Any]],
    ) -> None:
        if not ids:
            return
        lexical = await asyncio.to_thread(lambda: [document_vector(text) for text in texts])
        points = [
            models.PointStruct(id=point_id, vector={_DENSE: list(vector), _LEXICAL: _sparse(words)}, payload=payload)
            for point_id, vector, words, payload in zip(ids, vectors, lexical, payloads, strict=True)
        ]
        async with self._open(self._config.write_timeout_s) as client:
            await client.upsert(collection, points, wait=True)

    async def _delete(self, collection: str, selector: models.PointsSelector) -> None:
        async with self._open(self._config.write_timeout_s) as client:
            await client.delete(collection, selector, wait=True)

    async def _scroll(self, collection: str, whose: models.Filter) -> list[dict[str, Any]]:
        payloads: list[dict[str, Any]] = []
        offset: Any = None
        async with self._open(self._config.write_timeout_s) as client:
            while True:
                records, offset = await client.scroll(collection, whose, limit=256, offset=offset)
                payloads += [record.payload for record in records if record.payload]
                if offset is None:
                    return payloads

    async def _search(
        self, collection: str, text: str, vector: Sequence[float] | None, whose: models.Filter, limit: int
    ) -> list[tuple[dict[str, Any], float]]:
        words = await asyncio.to_thread(query_vector, text)
        sides: list[tuple[Any, str]] = [(_sparse(words), _LEXICAL)] if words.indices else []
        if vector is not None:
            sides.append((list(vector), _DENSE))
        requests = [
            models.QueryRequest(
                query=query, using=using, filter=whose, limit=self._config.candidates, with_payload=True
            )
            for query, using in sides
        ]
        if not requests:
            return []
        async with self._open(self._config.timeout_s) as client:
            responses = await client.query_batch_points(collection, requests)
        found = {using: response.points for (_, using), response in zip(sides, responses, strict=True)}
        half = self._config.lexical_half_ja if is_japanese(text) else self._config.lexical_half
        return self._fuse(found, half, with_vector=vector is not None)[:limit]

    def _fuse(
        self, found: dict[str, list[models.ScoredPoint]], half: float, with_vector: bool
    ) -> list[tuple[dict[str, Any], float]]:
        """One score between 0 and 1 for each hit, best first; a side that could not be asked has no say."""
        weights = {_LEXICAL: self._config.lexical_weight, _DENSE: self._config.dense_weight}
        total = sum(weights.values()) if with_vector else weights[_LEXICAL]
        scores: dict[str, float] = {}
        payloads: dict[str, dict[str, Any]] = {}
        for side, points in found.items():
            for point in points:
                score = max(0.0, point.score)
                if side == _LEXICAL:
                    score = score / (score + half)
                key = str(point.id)
                scores[key] = scores.get(key, 0.0) + score * weights[side] / (total or 1.0)
                payloads[key] = point.payload or {}
        best_first = sorted(scores, key=lambda key: (-scores[key], key))
        return [(payloads[key], scores[key]) for key in best_first]

    @asynccontextmanager
    async def _open(self, timeout_s: float) -> AsyncIterator[AsyncQdrantClient]:
        try:
            async with asyncio.timeout(timeout_s):
                yield await self._connected()
        except (ApiException, OSError, TimeoutError) as error:
            raise StoreUnavailable("Qdrant does not answer", "qdrant") from error

    async def _connected(self) -> AsyncQdrantClient:
        async with self._opening:
            if self._client is None:
                client = self._new_client()
                try:
                    await self._make_collections(client)
                except BaseException:
                    await client.close()
                    raise
                self._client = client
        return self._client

    def _new_client(self) -> AsyncQdrantClient:
        if isinstance(self._location, str):
            return AsyncQdrantClient(
                url=self._location, timeout=int(self._config.write_timeout_s), check_compatibility=False
            )
        try:
            return AsyncQdrantClient(path=str(self._location))
        except RuntimeError as error:  # what the local mode says when another process has the folder
            raise StoreUnavailable(
                f"{self._location} is in use: set ARTISTMIND_QDRANT_URL to share Qdrant", "qdrant"
            ) from error

    async def _make_collections(self, client: AsyncQdrantClient) -> None:
        for collection in (self._config.knowledge, self._config.memories):
            if await client.collection_exists(collection):
                if await self._fits(client, collection):
                    continue
                get_logger("index").warning("collection_rebuilt", collection=collection, dimension=self._dimension)
                await client.delete_collection(collection)
            await client.create_collection(
                collection,
                vectors_config={_DENSE: models.VectorParams(size=self._dimension, distance=models.Distance.COSINE)},
                sparse_vectors_config={_LEXICAL: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            )
            if isinstance(self._location, str):  # the local mode has no payload indexes and says so each time
                for field in _TENANTS:
                    await client.create_payload_index(collection, field, models.PayloadSchemaType.KEYWORD)

    async def _fits(self, client: AsyncQdrantClient, collection: str) -> bool:
        """Whether the vectors there have our size: another embedder's are of no use."""
        vectors = (await client.get_collection(collection)).config.params.vectors
        return isinstance(vectors, dict) and vectors[_DENSE].size == self._dimension


def _only(**whose: str) -> models.Filter:
    return models.Filter(
        must=[models.FieldCondition(key=key, match=models.MatchValue(value=value)) for key, value in whose.items()]
    )


def _sparse(words: SparseTerms) -> models.SparseVector:
    return models.SparseVector(indices=words.indices, values=words.values)


def _point_id(*parts: str) -> str:
    return str(uuid5(NAMESPACE_URL, "\x1f".join(parts)))
