"""Uploaded documents in PostgreSQL: the text they were chunked from, so that an index can be built again."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from memory.database import Database, as_database
from memory.tables import DocumentRow


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document without its text."""

    document_id: str
    persona: str
    title: str
    category: str
    sha256: str
    chunk_count: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DocumentText:
    """A document with its text."""

    document: StoredDocument
    content: str


class DocumentStore:
    """Keeps each persona's documents; the same text twice is one document."""

    def __init__(self, database: Database | str) -> None:
        self.database = as_database(database)

    async def add(self, persona: str, title: str, category: str, content: str, chunk_count: int) -> StoredDocument:
        """Store a document; an identical text of this persona is updated and keeps its id."""
        statement = insert(DocumentRow).values(
            document_id=secrets.token_hex(8),
            persona=persona,
            title=title,
            category=category,
            sha256=hashlib.sha256(content.encode()).hexdigest(),
            content=content,
            chunk_count=chunk_count,
        )
        renewed = {"title": title, "category": category, "chunk_count": chunk_count, "created_at": func.now()}
        upsert = statement.on_conflict_do_update(index_elements=["persona", "sha256"], set_=renewed)
        async with self.database.transaction() as connection:
            row = (await connection.execute(upsert.returning(*_COLUMNS))).one()
        return StoredDocument(*row)

    async def get(self, persona: str, document_id: str) -> DocumentText | None:
        query = _documents(persona).where(DocumentRow.document_id == document_id).add_columns(DocumentRow.content)
        async with self.database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        return DocumentText(StoredDocument(*row[:-1]), row[-1]) if row is not None else None

    async def all(self, persona: str) -> list[DocumentText]:
        """Every document of this persona with its text."""
        query = _documents(persona).add_columns(DocumentRow.content).order_by(DocumentRow.document_id)
        async with self.database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return [DocumentText(StoredDocument(*row[:-1]), row[-1]) for row in rows]

    async def delete(self, persona: str, document_id: str) -> bool:
        statement = delete(DocumentRow).where(DocumentRow.persona == persona, DocumentRow.document_id == document_id)
        async with self.database.transaction() as connection:
            return (await connection.execute(statement)).rowcount > 0

    async def list(self, persona: str) -> list[StoredDocument]:
        query = _documents(persona).order_by(DocumentRow.created_at, DocumentRow.document_id)
        async with self.database.transaction() as connection:
            return [StoredDocument(*row) for row in await connection.execute(query)]


_COLUMNS = (
    DocumentRow.document_id,
    DocumentRow.persona,
    DocumentRow.title,
    DocumentRow.category,
    DocumentRow.sha256,
    DocumentRow.chunk_count,
    DocumentRow.created_at,
)


def _documents(persona: str) -> Select[str, str, str, str, str, int, datetime]:
    return select(*_COLUMNS).where(DocumentRow.persona == persona)
