"""What lasts: sessions, turns, profiles, summaries and memories in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from core.contracts import FanContext, FanProfile, Memory, Message, Session, Turn
from memory.database import Database, as_database, storable
from memory.tables import Fan, MemoryRow, MessageRow, SessionRow, SummaryJob, SummaryRow


class LongTermConfig(BaseModel):
    """How much of the past goes into a prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summaries: int = Field(default=3, ge=0)
    """Newest conversation summaries in a fan's context."""
    memories: int = Field(default=32, ge=0)
    """Newest memories in a fan's context; the prompt shows fewer, all may be asked back for."""


class PostgresMemory:
    """``LongTermMemory`` on PostgreSQL."""

    def __init__(self, database: Database | str, config: LongTermConfig | None = None) -> None:
        self.database = as_database(database)
        self._config = config or LongTermConfig()

    async def create_session(self, session: Session) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(
                insert(SessionRow)
                .values(
                    session_id=session.session_id,
                    persona=session.persona,
                    fan_id=session.fan_id,
                    created_at=session.created_at,
                    last_active_at=session.last_active_at,
                    ended_at=session.ended_at,
                )
                .on_conflict_do_nothing()
            )
            await _queue_for_summary(connection, session.session_id)

    async def get_session(self, session_id: str) -> Session | None:
        query = _sessions().where(SessionRow.session_id == session_id)
        async with self.database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        return Session(*row) if row is not None else None

    async def end_session(self, session_id: str) -> bool:
        statement = (
            update(SessionRow)
            .where(SessionRow.session_id == session_id, SessionRow.ended_at.is_(None))
            .values(ended_at=func.now())
        )
        async with self.database.transaction() as connection:
            return (await connection.execute(statement)).rowcount > 0

    async def commit_turn(self, turn: Turn) -> None:
        """Store both messages and touch the session, in one transaction; twice is once."""
        async with self.database.transaction() as connection:
            await _touch_session(connection, turn)
            stored = await connection.execute(
                insert(MessageRow)
                .values(_messages_of(turn))
                .on_conflict_do_nothing(index_elements=["turn_id", "role"])
                .returning(MessageRow.message_id)
            )
            if stored.first() is not None:
                await connection.execute(
                    update(SessionRow).where(SessionRow.session_id == turn.session_id).values(summarised_at=None)
                )
                await _queue_for_summary(connection, turn.session_id)

    async def history(self, session_id: str, limit: int) -> list[Message]:
        query = (
            select(MessageRow.role, MessageRow.content)
            .where(MessageRow.session_id == session_id, MessageRow.blocked.is_(False))
            .order_by(MessageRow.created_at.desc(), MessageRow.turn_id.desc(), MessageRow.position.desc())
            .limit(2 * limit)
        )
        async with self.database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return [Message(role, content) for role, content in reversed(rows)]  # type: ignore[arg-type]  # only these two are ever written

    async def fan_context(self, fan_id: str, persona: str) -> FanContext:
        async with self.database.transaction() as connection:
            profile = await _profile(connection, fan_id)
            summaries = await connection.scalars(
                select(SummaryRow.text)
                .where(SummaryRow.fan_id == fan_id, SummaryRow.persona == persona)
                .order_by(SummaryRow.summary_id.desc())
                .limit(self._config.summaries)
            )
            memories = await connection.scalars(
                select(MemoryRow.text)
                .where(MemoryRow.fan_id == fan_id, MemoryRow.persona == persona)
                .order_by(MemoryRow.created_at.desc(), MemoryRow.memory_id)
                .limit(self._config.memories)
            )
            return FanContext(profile, tuple(summaries), tuple(memories))

    async def get_profile(self, fan_id: str) -> FanProfile | None:
        async with self.database.transaction() as connection:
            return await _profile(connection, fan_id)

    async def put_profile(self, profile: FanProfile) -> None:
        fields = {"name": profile.name, "birthday": profile.birthday, "favorite": profile.favorite}
        async with self.database.transaction() as connection:
            await connection.execute(
                insert(Fan)
                .values(fan_id=profile.fan_id, **fields)
                .on_conflict_do_update(index_elements=["fan_id"], set_={**fields, "updated_at": func.now()})
            )

    async def fill_profile(self, profile: FanProfile) -> None:
        async with self.database.transaction() as connection:
            await fill_profile(connection, profile)

    async def delete_fan(self, fan_id: str) -> list[str]:
        """Erase everything of this fan; return the ids of their sessions, for the other stores to forget."""
        async with self.database.transaction() as connection:
            # Sessions first: a writer at work on one of them commits before this or finds nothing after it.
            deleted = await connection.scalars(
                delete(SessionRow).where(SessionRow.fan_id == fan_id).returning(SessionRow.session_id)
            )
            session_ids = list(deleted)
            for table in (SummaryRow, MemoryRow, Fan):
                await connection.execute(delete(table).where(table.fan_id == fan_id))
            idle = (
                select(SummaryJob.session_id)
                .where(SummaryJob.session_id.in_(session_ids))
                .with_for_update(skip_locked=True)
            )
            await connection.execute(delete(SummaryJob).where(SummaryJob.session_id.in_(idle)))
            return session_ids

    async def memories(self, fan_id: str) -> list[Memory]:
        query = (
            _memories().where(MemoryRow.fan_id == fan_id).order_by(MemoryRow.created_at.desc(), MemoryRow.memory_id)
        )
        async with self.database.transaction() as connection:
            return [Memory(*row) for row in await connection.execute(query)]

    async def delete_memory(self, fan_id: str, memory_id: str) -> bool:
        statement = delete(MemoryRow).where(MemoryRow.fan_id == fan_id, MemoryRow.memory_id == memory_id)
        async with self.database.transaction() as connection:
            return (await connection.execute(statement)).rowcount > 0

    async def ping(self) -> None:
        await self.database.ping()

    async def close(self) -> None:
        await self.database.close()


def _sessions() -> Select[str, str, str | None, datetime, datetime, datetime | None]:
    return select(
        SessionRow.session_id,
        SessionRow.persona,
        SessionRow.fan_id,
        SessionRow.created_at,
        SessionRow.last_active_at,
        SessionRow.ended_at,
    )


def _memories() -> Select[str, str, str, str, datetime, str | None]:
    return select(
        MemoryRow.memory_id,
        MemoryRow.fan_id,
        MemoryRow.persona,
        MemoryRow.text,
        MemoryRow.created_at,
        MemoryRow.session_id,
    )


def _messages_of(turn: Turn) -> list[dict[str, object]]:
    shared = {
        "session_id": turn.session_id,
        "turn_id": turn.turn_id,
        "blocked": turn.blocked,
        "category": turn.category,
        "created_at": turn.created_at,
    }
    asked = {
        "position": 0,
        "role": "user",
        "content": storable(turn.user_text),
        "prompt_tokens": turn.usage.prompt_tokens,
    }
    answered = {
        "position": 1,
        "role": "assistant",
        "content": storable(turn.reply),
        "completion_tokens": turn.usage.completion_tokens,
    }
    return [
        {**shared, **asked, "adapter": None, "completion_tokens": 0},
        {**shared, **answered, "adapter": turn.adapter, "prompt_tokens": 0},
    ]


async def _touch_session(connection: AsyncConnection, turn: Turn) -> None:
    """Renew the session, or make the one that could not be stored when it began.

    The row stays locked until the commit, so that a session's message ids grow in the order of its commits.
    """
    statement = insert(SessionRow).values(
        session_id=turn.session_id,
        persona=turn.persona,
        fan_id=turn.fan_id,
        created_at=turn.created_at,
        last_active_at=turn.created_at,
    )
    latest = func.greatest(SessionRow.last_active_at, statement.excluded.last_active_at)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["session_id"], set_={"last_active_at": latest})
    )


async def _queue_for_summary(connection: AsyncConnection, session_id: str) -> None:
    await connection.execute(insert(SummaryJob).values(session_id=session_id).on_conflict_do_nothing())


async def fill_profile(connection: AsyncConnection, profile: FanProfile) -> None:
    """What the fan said fills what their profile leaves open; what stands there already stays."""
    fields = {"name": profile.name, "birthday": profile.birthday, "favorite": profile.favorite}
    statement = insert(Fan).values(fan_id=profile.fan_id, **fields)
    filled = {name: func.coalesce(getattr(Fan, name), getattr(statement.excluded, name)) for name in fields}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["fan_id"], set_={**filled, "updated_at": func.now()})
    )


async def _profile(connection: AsyncConnection, fan_id: str) -> FanProfile | None:
    query = select(Fan.fan_id, Fan.name, Fan.birthday, Fan.favorite).where(Fan.fan_id == fan_id)
    row = (await connection.execute(query)).one_or_none()
    return FanProfile(*row) if row is not None else None
