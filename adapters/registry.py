"""The rollout table in PostgreSQL: every move is one transaction with its line of history.

The tables are made by the migrations of ``memory``; this package only names the columns it uses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from adapters.rollout import AdapterState, AdapterVersion, RolloutTable
from core.contracts import utc_now
from core.errors import StoreUnavailable

_metadata = sa.MetaData()
_versions = sa.Table(
    "adapter_versions",
    _metadata,
    sa.Column("persona", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("share", sa.Integer, nullable=False),
    sa.Column("previous_live", sa.Text),
    sa.Column("manifest", JSONB),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("updated_at", sa.DateTime(timezone=True)),
)
_events = sa.Table(
    "adapter_events",
    _metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
    sa.Column("persona", sa.Text),
    sa.Column("version", sa.Text),
    sa.Column("event", sa.Text),
    sa.Column("detail", JSONB),
    sa.Column("created_at", sa.DateTime(timezone=True)),
)

Move = Callable[[RolloutTable], RolloutTable]


class AdapterRegistry:
    """Reads and changes the rollout table."""

    def __init__(self, database_url: str) -> None:
        self._engine = create_async_engine(
            database_url,
            pool_size=2,
            max_overflow=2,
            pool_timeout=2,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 2, "options": "-c statement_timeout=5000"},
        )

    async def table(self) -> RolloutTable:
        async with self._transaction() as connection:
            return await self._read(connection)

    async def apply(self, persona: str, version: str | None, event: str, move: Move) -> RolloutTable:
        """Apply ``move`` under a lock, store what it changed and write the history."""
        async with self._transaction() as connection:
            # One writer at a time: two promotions at once must not leave two live versions.
            await connection.execute(sa.text("LOCK TABLE adapter_versions IN SHARE ROW EXCLUSIVE MODE"))
            before = await self._read(connection)
            after = move(before)
            for changed in [v for v in after.versions(persona) if v not in before.versions(persona)]:
                await connection.execute(_upsert(changed))
            if after != before:
                await connection.execute(
                    _events.insert().values(
                        persona=persona, version=version, event=event, detail={}, created_at=utc_now()
                    )
                )
            return after

    async def close(self) -> None:
        await self._engine.dispose()

    async def _read(self, connection: AsyncConnection) -> RolloutTable:
        rows = await connection.execute(sa.select(_versions).order_by(_versions.c.created_at))
        return RolloutTable(
            AdapterVersion(row.persona, row.version, AdapterState(row.state), row.share, row.previous_live)
            for row in rows
        )

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError) as error:
            raise StoreUnavailable("PostgreSQL does not answer", "postgres") from error


def _upsert(version: AdapterVersion) -> sa.sql.dml.Insert:
    now = utc_now()
    values = {"state": version.state.value, "share": version.share, "previous_live": version.previous_live}
    statement = insert(_versions).values(
        persona=version.persona,
        version=version.version,
        manifest={},
        created_at=now,
        updated_at=now,
        **values,
    )
    return statement.on_conflict_do_update(index_elements=["persona", "version"], set_={**values, "updated_at": now})
