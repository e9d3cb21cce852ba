"""The first schema: fans, conversations, memories, keys, documents, adapters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def _time(name: str = "created_at") -> sa.Column:
    return sa.Column(name, _TIME, server_default=sa.func.now(), nullable=False)


def _text(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _number(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), server_default="0", nullable=False)


def upgrade() -> None:
    _conversations()
    _memories()
    _access()
    _adapters()


def _conversations() -> None:
    op.create_table(
        "fans",
        _text("fan_id"),
        _text("name", nullable=True),
        _text("birthday", nullable=True),
        _text("favorite", nullable=True),
        _time(),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("fan_id", name="pk_fans"),
    )
    op.create_table(
        "sessions",
        _text("session_id"),
        _text("persona"),
        _text("fan_id", nullable=True),
        _time(),
        _time("last_active_at"),
        sa.Column("ended_at", _TIME),
        sa.Column("summarised_at", _TIME),
        sa.Column("summarised_through", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_fan_id", "sessions", ["fan_id"])
    op.create_index(
        "ix_sessions_unsummarised",
        "sessions",
        ["last_active_at"],
        postgresql_where=sa.text("summarised_at IS NULL"),
    )
    op.create_table(
        "summary_jobs", _text("session_id"), sa.PrimaryKeyConstraint("session_id", name="pk_summary_jobs")
    )
    op.create_table(
        "messages",
        sa.Column("message_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("session_id"),
        _text("turn_id"),
        sa.Column("position", sa.Integer(), nullable=False),
        _text("role"),
        _text("content"),
        sa.Column("blocked", sa.Boolean(), server_default=sa.false(), nullable=False),
        _text("category", nullable=True),
        _text("adapter", nullable=True),
        _number("prompt_tokens"),
        _number("completion_tokens"),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("message_id", name="pk_messages"),
        sa.UniqueConstraint("turn_id", "role", name="uq_messages_turn_id_role"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.session_id"],
            name="fk_messages_session_id_sessions",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_messages_session_id_created_at", "messages", ["session_id", "created_at"])


def _memories() -> None:
    op.create_table(
        "summaries",
        sa.Column("summary_id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("session_id"),
        _text("fan_id"),
        _text("persona"),
        _text("text"),
        _time(),
        sa.PrimaryKeyConstraint("summary_id", name="pk_summaries"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.session_id"],
            name="fk_summaries_session_id_sessions",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_summaries_fan_id_persona", "summaries", ["fan_id", "persona"])
    op.create_index("ix_summaries_session_id", "summaries", ["session_id"])
    op.create_table(
        "memories",
        _text("memory_id"),
        _text("fan_id"),
        _text("persona"),
        _text("text"),
        _text("session_id", nullable=True),
        sa.Column("indexed", sa.Boolean(), server_default=sa.false(), nullable=False),
        _time(),
        sa.PrimaryKeyConstraint("memory_id", name="pk_memories"),
        sa.UniqueConstraint("fan_id", "persona", "text", name="uq_memories_fan_id_persona_text"),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.session_id"],
            name="fk_memories_session_id_sessions",
            ondelete="SET NULL",
        ),
    )
    op.create_index(
        "ix_memories_unindexed", "memories", ["created_at"], postgresql_where=sa.text("NOT indexed")
    )
    op.create_index("ix_memories_session_id", "memories", ["session_id"])


def _access() -> None:
    op.create_table(
        "api_keys",
        _text("key_id"),
        _text("key_hash"),
        _text("label"),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        _time(),
        sa.Column("revoked_at", _TIME),
        sa.PrimaryKeyConstraint("key_id", name="pk_api_keys"),
        sa.UniqueConstraint("key_hash", name="uq_api_keys_key_hash"),
    )
    op.create_table(
        "documents",
        _text("document_id"),
        _text("persona"),
        _text("title"),
        _text("category"),
        _text("sha256"),
        _text("content"),
        _number("chunk_count"),
        _time(),
        sa.PrimaryKeyConstraint("document_id", name="pk_documents"),
        sa.UniqueConstraint("persona", "sha256", name="uq_documents_persona_sha256"),
    )


def _adapters() -> None:
    """Used through package ``adapters``, which maps tables of the same shape."""
    op.execute(
        """
        CREATE TABLE adapter_versions (
            persona text NOT NULL,
            version text NOT NULL,
            state text NOT NULL CHECK (state IN ('candidate', 'canary', 'live', 'retired')),
            share integer NOT NULL DEFAULT 0 CHECK (share BETWEEN 0 AND 100),
            manifest jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now(),
            previous_live text,
            PRIMARY KEY (persona, version)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE adapter_events (
            id bigserial PRIMARY KEY,
            persona text NOT NULL,
            version text NOT NULL,
            event text NOT NULL,
            detail jsonb NOT NULL DEFAULT '{}',
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ix_adapter_events_persona ON adapter_events (persona, id)")


def downgrade() -> None:
    for table in (
        "adapter_events",
        "adapter_versions",
        "documents",
        "api_keys",
        "memories",
        "summaries",
        "messages",
        "summary_jobs",
        "sessions",
        "fans",
    ):
        op.drop_table(table)
