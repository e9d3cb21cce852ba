"""The schema. Every change here has a migration in ``memory/migrations``; a test holds them together.

The adapter tables are made by the migrations too, but belong to package ``adapters`` and are not mapped here.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ADAPTER_TABLES = frozenset({"adapter_versions", "adapter_events"})
"""Migrated here, mapped by package ``adapters``."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}  # noqa: RUF012 (SQLAlchemy's own form)


class Fan(Base):
    """What a fan told about themselves."""

    __tablename__ = "fans"

    fan_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    birthday: Mapped[str | None]
    favorite: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SessionRow(Base):
    """One conversation. ``fan_id`` is no foreign key: a fan exists from the first word, a profile may not."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_fan_id", "fan_id"),
        Index("ix_sessions_unsummarised", "last_active_at", postgresql_where=text("summarised_at IS NULL")),
    )

    session_id: Mapped[str] = mapped_column(primary_key=True)
    persona: Mapped[str]
    fan_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_active_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    summarised_at: Mapped[datetime | None]
    """Unset again by a later turn: the session then waits for the writer once more."""
    summarised_through: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last message that a summary covers."""


class SummaryJob(Base):
    """One row per session, locked by the writer at work: not the session itself, which turns must update."""

    __tablename__ = "summary_jobs"

    session_id: Mapped[str] = mapped_column(primary_key=True)


class MessageRow(Base):
    """One side of a turn. ``position`` orders the two sides; a turn's time orders the turns."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("turn_id", "role"),
        Index("ix_messages_session_id_created_at", "session_id", "created_at"),
    )

    message_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id", ondelete="CASCADE"))
    turn_id: Mapped[str]
    position: Mapped[int]
    role: Mapped[str]
    content: Mapped[str]
    blocked: Mapped[bool] = mapped_column(server_default=false())
    category: Mapped[str | None]
    adapter: Mapped[str | None]
    prompt_tokens: Mapped[int] = mapped_column(server_default="0")
    completion_tokens: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]


class SummaryRow(Base):
    """What happened in a session, in a sentence or two."""

    __tablename__ = "summaries"
    __table_args__ = (
        Index("ix_summaries_fan_id_persona", "fan_id", "persona"),
        Index("ix_summaries_session_id", "session_id"),
    )

    summary_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.session_id", ondelete="CASCADE"))
    fan_id: Mapped[str]
    persona: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class MemoryRow(Base):
    """A lasting fact about a fan, told to one persona. ``indexed``: its vector is in Qdrant."""

    __tablename__ = "memories"
    __table_args__ = (
        UniqueConstraint("fan_id", "persona", "text"),
        Index("ix_memories_unindexed", "created_at", postgresql_where=text("NOT indexed")),
        Index("ix_memories_session_id", "session_id"),
    )

    memory_id: Mapped[str] = mapped_column(primary_key=True)
    fan_id: Mapped[str]
    persona: Mapped[str]
    text: Mapped[str]
    session_id: Mapped[str | None] = mapped_column(ForeignKey("sessions.session_id", ondelete="SET NULL"))
    indexed: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKeyRow(Base):
    """An access key; only the hash of it is kept."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(primary_key=True)
    key_hash: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]


class DocumentRow(Base):
    """An uploaded document, as text; its chunks live in Qdrant."""

    __tablename__ = "documents"
    __table_args__ = (UniqueConstraint("persona", "sha256"),)

    document_id: Mapped[str] = mapped_column(primary_key=True)
    persona: Mapped[str]
    title: Mapped[str]
    category: Mapped[str]
    sha256: Mapped[str]
    content: Mapped[str]
    chunk_count: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
