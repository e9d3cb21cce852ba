"""The small deployments: shells that validate, call a plain service and return.

Each loads what it needs in its constructor, so that importing this module stays cheap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apps.chat.args import EmbedderArgs, RetrieverArgs, WriterArgs
from core.contracts import Memory, Retrieval, Verdict
from core.logs import setup_logging
from core.settings import get_settings


class GuardDeployment:
    """Decides whether a fan's message may go on to the model."""

    def __init__(self, classifier: str | None = None) -> None:
        from safety.crisis import CrisisClassifier
        from safety.guard import PolicyGuard

        setup_logging(get_settings())
        judge = CrisisClassifier.load(Path(get_settings().model_path(classifier))) if classifier else None
        self._guard = PolicyGuard(classifier=judge)
        self._guard.check_input("준비", "default")  # loads what it needs before the first fan waits for it

    async def check(self, text: str, persona: str) -> Verdict:
        return self._guard.check_input(text, persona)


class EmbedderDeployment:
    """Turns text into vectors, and reads passages for the retriever: both small models on one device."""

    async def __init__(self, args: EmbedderArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        from memory.embedder import BgeM3Embedder, EmbedderConfig
        from memory.reranker import CrossEncoder, RerankerConfig

        setup_logging(get_settings())
        self._embedder = BgeM3Embedder(EmbedderConfig(model=args.model, device=args.device))
        self._reranker = (
            CrossEncoder(RerankerConfig(model=args.reranker, device=args.device)) if args.reranker else None
        )
        await self._embedder.embed(["준비"])  # loads the models before the first fan waits for them
        await self.relevance("준비", ["준비"])

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return await self._embedder.embed(texts)

    async def relevance(self, line: str, passages: Sequence[str]) -> list[float]:
        """Empty without a reranker."""
        return await self._reranker.relevance(line, passages) if self._reranker else []


class RetrieverDeployment:
    """Owns the index: searches for the turn, and takes in knowledge, uploads and memories.

    Qdrant's local mode belongs to one process, so everything that touches the index goes through here.
    """

    async def __init__(self, args: RetrieverArgs, embedder: Any, models: EmbedderArgs) -> None:  # type: ignore[misc]  # Serve awaits it
        from apps.chat.handles import HandleEmbedder, HandleReranker
        from apps.chat.knowledge import KnowledgeSync
        from memory.database import Database
        from memory.documents_store import DocumentStore
        from memory.endpoints import endpoints
        from memory.index import IndexConfig, QdrantIndex
        from memory.lexical import terms
        from memory.retriever import HybridRetriever, RetrieverConfig
        from personas.loader import PersonaLibrary

        settings = get_settings()
        setup_logging(settings)
        terms("준비")  # loads the morphology before the first fan waits for it
        dimension = len((await HandleEmbedder(embedder).embed(["준비"]))[0])
        weights = IndexConfig(dense_weight=args.dense_weight, lexical_weight=round(1 - args.dense_weight, 6))
        index = QdrantIndex.from_settings(settings, dimension, weights)
        self._retriever = HybridRetriever(
            index,
            HandleEmbedder(embedder),
            RetrieverConfig(
                knowledge=args.top_knowledge,
                memories=args.top_memories,
                max_passage_chars=args.max_passage_chars,
                sentences=args.top_sentences,
                questions_only=args.questions_only,
                embed_timeout_s=args.timeout_s / 2,  # the search by words needs the rest
                knowledge_threshold=args.knowledge_threshold,
                memory_threshold=args.memory_threshold,
                candidates=args.candidates,
                relevance_threshold=args.relevance_threshold,
            ),
            models.model,
            HandleReranker(embedder) if models.reranker else None,
        )
        store = DocumentStore(Database(endpoints(settings).database_url))
        self._knowledge = KnowledgeSync(self._retriever, store, args.chunk_size, args.chunk_overlap)
        await self._knowledge.sync_all(PersonaLibrary(settings.resolved(settings.cards_dir)))

    async def search(self, text: str, persona: str, fan_id: str | None) -> Retrieval:
        passages = await self._retriever.search(text, persona, fan_id)
        return Retrieval(tuple(passages), self._retriever.degraded)

    async def take_in(self, persona: str, document_id: str) -> int:
        """Index one stored upload; the number of its chunks."""
        return await self._knowledge.take_in(persona, document_id)

    async def take_out(self, persona: str, document_id: str) -> None:
        await self._retriever.remove(persona, document_id)

    async def remember(self, memories: Sequence[Memory]) -> None:
        await self._retriever.remember(memories)

    async def forget_memories(self, memory_ids: Sequence[str]) -> None:
        await self._retriever.forget_memories(memory_ids)

    async def forget_fan(self, fan_id: str) -> None:
        await self._retriever.forget_fan(fan_id)

    async def memory_count(self) -> int:
        return await self._retriever.memory_count()

    async def ping(self) -> None:
        await self._retriever.ping()


class MemoryWriterDeployment:
    """Summarises ended and idle sessions, and drains turns that were spooled while PostgreSQL was down."""

    async def __init__(self, args: WriterArgs, retriever: Any, generator: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        from apps.chat.writing import run_writer

        setup_logging(get_settings())
        self._work = asyncio.create_task(run_writer(args, retriever, generator))

    async def check_health(self) -> None:
        """A writer whose work has ended is replaced by Serve."""
        if self._work.done():
            raise RuntimeError("the writer has ended") from self._work.exception()
