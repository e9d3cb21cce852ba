"""The memory writer: ended and idle sessions become summaries and memories.

PostgreSQL is the queue. A session's job row stays locked from the choice to the commit, so a writer that dies
loses nothing and two writers never do one session twice. The session row itself is free meanwhile: a fan who
comes back does not wait for a summary. The vectors follow after the commit; what fails there is done again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from core.contracts import FanProfile, Memory, Message
from core.errors import ArtistMindError, StoreUnavailable
from core.logs import get_logger
from memory.database import Database, storable
from memory.index import MemoryIndex
from memory.long_term import PostgresMemory, fill_profile
from memory.summarise import ExtractiveSummariser, Summariser, Summary
from memory.tables import MemoryRow, MessageRow, SessionRow, SummaryJob, SummaryRow


class WriterConfig(BaseModel):
    """When the writer works, and how much at a time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    idle_s: float = Field(default=1800.0, ge=0)
    """Silence after which a session is summarised though nobody ended it."""
    summarise_timeout_s: float = Field(default=120.0, gt=0)
    """A summariser slower than this is replaced by the rules."""
    interval_s: float = Field(default=5.0, gt=0)
    """Pause when nothing is to do."""
    index_batch: int = Field(default=64, ge=1)
    """Memories embedded and indexed at a time."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A claimed session and what was said in it since its last summary."""

    session_id: str
    persona: str
    fan_id: str | None
    last_active_at: datetime
    through: int
    messages: tuple[Message, ...]


class MemoryWriter:
    """Works on one session at a time; any number of writers may run."""

    def __init__(
        self,
        long_term: PostgresMemory,
        index: MemoryIndex,
        summariser: Summariser,
        config: WriterConfig | None = None,
    ) -> None:
        self._database: Database = long_term.database
        self._index = index
        self._summariser = summariser
        self._rules = ExtractiveSummariser()
        self._config = config or WriterConfig()
        self._log = get_logger("writer")

    async def run_once(self) -> bool:
        """Summarise one session if one waits, and index what is not indexed yet; false when none waited.

        Raises:
            StoreUnavailable: PostgreSQL is down. An index that is down is caught up with later.
        """
        worked = await self._summarise_one()
        try:
            await self.index_memories()
        except StoreUnavailable as error:
            self._log.warning("memories_not_indexed", store=error.param)
        return worked

    async def run_forever(self) -> None:
        """Work until cancelled; a store that is down only makes it wait."""
        while True:
            try:
                worked = await self.run_once()
            except StoreUnavailable as error:
                self._log.warning("writer_waits", store=error.param)
                worked = False
            if not worked:
                await asyncio.sleep(self._config.interval_s)

    async def index_memories(self) -> int:
        """Bring the index level with PostgreSQL; returns how many memories went in."""
        if await self._index.memory_count() == 0:
            await self._forget_indexing()
        indexed = 0
        while batch := await self._unindexed():
            await self._index.remember(batch)
            await self._index.forget_memories(await self._mark_indexed(batch))
            indexed += len(batch)
        return indexed

    async def _summarise_one(self) -> bool:
        timeout_s = self._config.summarise_timeout_s + 2 * self._database.config.transaction_timeout_s
        async with self._database.transaction(timeout_s) as connection:
            session_id = await self._claim(connection)
            if session_id is None:
                return False
            work = await _load(connection, session_id)
            if work is None:
                await connection.execute(delete(SummaryJob).where(SummaryJob.session_id == session_id))
                return True
            summary = await self._summarise(work)
            await _store(connection, work, summary)
        self._log.info("session_summarised", session=session_id, facts=len(summary.facts) if summary else 0)
        return True

    async def _claim(self, connection: AsyncConnection) -> str | None:
        """Lock the job of the session that waits longest and that nobody works on."""
        waiting = (
            select(SummaryJob.session_id)
            .join(SessionRow, SessionRow.session_id == SummaryJob.session_id)
            .where(self._is_due())
            .order_by(SessionRow.last_active_at)
            .limit(1)
            .with_for_update(of=SummaryJob, skip_locked=True)
        )
        while (session_id := await connection.scalar(waiting)) is not None:
            # The lock may have come free because another writer finished this very session: look again.
            still_due = select(SessionRow.session_id).where(SessionRow.session_id == session_id, self._is_due())
            if await connection.scalar(still_due) is not None:
                return session_id
        return None

    def _is_due(self) -> ColumnElement[bool]:
        silent = SessionRow.last_active_at < func.now() - timedelta(seconds=self._config.idle_s)
        return and_(SessionRow.summarised_at.is_(None), or_(SessionRow.ended_at.is_not(None), silent))

    async def _summarise(self, work: _Work) -> Summary | None:
        if work.fan_id is None or not any(message.role == "user" for message in work.messages):
            return None
        try:
            async with asyncio.timeout(self._config.summarise_timeout_s):
                return await self._summariser.summarise(work.messages)
        except (ArtistMindError, OSError, TimeoutError, ValueError) as error:
            self._log.warning("summariser_failed", session=work.session_id, reason=type(error).__name__)
            return await self._rules.summarise(work.messages)

    async def _forget_indexing(self) -> None:
        """An empty index means that it was lost or rebuilt: everything goes in again."""
        async with self._database.transaction() as connection:
            await connection.execute(update(MemoryRow).where(MemoryRow.indexed.is_(True)).values(indexed=False))

    async def _unindexed(self) -> list[Memory]:
        query = (
            select(
                MemoryRow.memory_id,
                MemoryRow.fan_id,
                MemoryRow.persona,
                MemoryRow.text,
                MemoryRow.created_at,
                MemoryRow.session_id,
            )
            .where(MemoryRow.indexed.is_(False))
            .order_by(MemoryRow.created_at, MemoryRow.memory_id)
            .limit(self._config.index_batch)
        )
        async with self._database.transaction() as connection:
            return [Memory(*row) for row in await connection.execute(query)]

    async def _mark_indexed(self, batch: Sequence[Memory]) -> list[str]:
        """Mark what was indexed; return what was erased meanwhile, for the index to forget again."""
        ids = [memory.memory_id for memory in batch]
        statement = (
            update(MemoryRow).where(MemoryRow.memory_id.in_(ids)).values(indexed=True).returning(MemoryRow.memory_id)
        )
        async with self._database.transaction() as connection:
            kept = set(await connection.scalars(statement))
        return [memory_id for memory_id in ids if memory_id not in kept]


async def _load(connection: AsyncConnection, session_id: str) -> _Work | None:
    """The session and its new messages; ``None`` when it was erased."""
    session = (
        await connection.execute(
            select(
                SessionRow.persona,
                SessionRow.fan_id,
                SessionRow.last_active_at,
                SessionRow.summarised_through,
            ).where(SessionRow.session_id == session_id)
        )
    ).one_or_none()
    if session is None:
        return None
    persona, fan_id, last_active_at, through = session
    rows = (
        await connection.execute(
            select(MessageRow.message_id, MessageRow.role, MessageRow.content, MessageRow.blocked)
            .where(MessageRow.session_id == session_id, MessageRow.message_id > through)
            .order_by(MessageRow.created_at, MessageRow.turn_id, MessageRow.position)
        )
    ).all()
    messages = tuple(Message(role, content) for _, role, content, blocked in rows if not blocked)  # type: ignore[arg-type]  # only these two are ever written
    last = max((message_id for message_id, *_ in rows), default=through)
    return _Work(session_id, persona, fan_id, last_active_at, last, messages)


async def _store(connection: AsyncConnection, work: _Work, summary: Summary | None) -> None:
    """Write everything down, unless the fan was erased meanwhile."""
    whose = SessionRow.session_id == work.session_id
    present = await connection.scalar(select(SessionRow.session_id).where(whose).with_for_update())
    if present is None:
        await connection.execute(delete(SummaryJob).where(SummaryJob.session_id == work.session_id))
        return
    newer = exists().where(MessageRow.session_id == work.session_id, MessageRow.message_id > work.through)
    came_back = await connection.scalar(select(newer))
    await connection.execute(
        update(SessionRow)
        .where(whose)
        .values(summarised_through=work.through, summarised_at=None if came_back else func.now())
    )
    if summary is not None and work.fan_id is not None:
        await _store_summary(connection, work, work.fan_id, summary)


async def _store_summary(connection: AsyncConnection, work: _Work, fan_id: str, summary: Summary) -> None:
    shared = {"session_id": work.session_id, "fan_id": fan_id, "persona": work.persona}
    await connection.execute(insert(SummaryRow).values(**shared, text=storable(summary.text)))
    if summary.facts:
        memories = [
            {
                **shared,
                "memory_id": secrets.token_hex(8),
                "text": storable(fact),
                "created_at": work.last_active_at,
            }
            for fact in dict.fromkeys(summary.facts)
        ]
        await connection.execute(insert(MemoryRow).values(memories).on_conflict_do_nothing())
    if summary.favorite or summary.birthday:
        told = FanProfile(fan_id, birthday=summary.birthday, favorite=summary.favorite)
        await fill_profile(connection, told)
