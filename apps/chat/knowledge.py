"""Characters' knowledge into the index: the card's folder, and what was uploaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from core.errors import StoreUnavailable
from core.logs import get_logger
from documents import chunking
from documents.knowledge import load_knowledge
from documents.models import Document
from memory.documents_store import DocumentStore
from memory.index import KnowledgeChunk
from memory.retriever import HybridRetriever
from personas.loader import Persona


class KnowledgeSync:
    """Makes the index hold what the folders and the document store hold."""

    def __init__(self, retriever: HybridRetriever, store: DocumentStore, size: int, overlap: int) -> None:
        self._retriever = retriever
        self._store = store
        self._config = chunking.ChunkConfig(size=size, overlap=overlap)
        self._log = get_logger("knowledge")

    async def sync_all(self, personas: Iterable[Persona]) -> None:
        """Every character's folder, then every upload; uploads wait while PostgreSQL is down."""
        for persona in personas:
            report = await self._retriever.ingest(persona.id, self._folder_chunks(persona.knowledge_dir))
            self._log.info("knowledge indexed", persona=persona.id, added=report.added, removed=report.removed)
            try:
                for stored in await self._store.list(persona.id):
                    await self.take_in(persona.id, stored.document_id)
            except StoreUnavailable:
                self._log.warning("uploads not indexed: PostgreSQL is down", persona=persona.id)

    async def take_in(self, persona: str, document_id: str) -> int:
        """Index one stored upload; the number of its chunks."""
        found = await self._store.get(persona, document_id)
        if found is None:
            return 0
        title, category = found.document.title, found.document.category
        chunks = self._chunks(Document.of(title=title, category=category, source="upload", text=found.content))
        await self._retriever.ingest(persona, chunks, document_id)
        return len(chunks)

    def _folder_chunks(self, folder: Path) -> list[KnowledgeChunk]:
        if not folder.is_dir():
            return []
        return [chunk for document in load_knowledge(folder) for chunk in self._chunks(document)]

    def _chunks(self, document: Document) -> list[KnowledgeChunk]:
        return [
            KnowledgeChunk(chunk.id, chunk.text, chunk.title, chunk.category, chunk.source)
            for chunk in chunking.chunk(document, self._config)
        ]
