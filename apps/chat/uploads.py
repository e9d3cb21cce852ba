"""Documents that are uploaded for a character: text kept in PostgreSQL, chunks in the index."""

from __future__ import annotations

import asyncio

from apps.chat.handles import HandleRetriever
from documents.parsers import parse
from memory.documents_store import DocumentStore, StoredDocument
from personas.loader import PersonaLibrary


class DocumentUploads:
    """``Uploads`` over the document store and the Retriever deployment."""

    def __init__(self, store: DocumentStore, index: HandleRetriever, library: PersonaLibrary) -> None:
        self._store = store
        self._index = index
        self._library = library

    async def add(self, persona: str, filename: str, content: bytes, category: str) -> StoredDocument:
        """Parse, store and index a file; the same file twice is one document."""
        document = await asyncio.to_thread(parse, content, filename, category=category)
        stored = await self._store.add(persona, document.title, document.category, document.text, 0)
        chunks = await self._index.take_in(persona, stored.document_id)
        return await self._store.add(persona, document.title, document.category, document.text, chunks)

    async def list(self, persona: str | None) -> list[StoredDocument]:
        personas = [persona] if persona else [p.id for p in self._library]
        return [document for name in personas for document in await self._store.list(name)]

    async def delete(self, document_id: str) -> bool:
        """Remove a document from the index and then from the store, so that a failure leaves it listed."""
        for document in await self.list(None):
            if document.document_id == document_id:
                await self._index.take_out(document.persona, document_id)
                return await self._store.delete(document.persona, document_id)
        return False
