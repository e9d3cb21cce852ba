"""One PostgreSQL engine per process, shared by everything that stores there. Knows no table.

A store that is down must cost a turn little: connecting and statements have timeouts, and for a second after a
failure every call fails at once. Reconnecting needs no help: a dead connection is noticed and replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.errors import InvalidRequest, StoreUnavailable


class DatabaseConfig(BaseModel):
    """How PostgreSQL is reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool_size: int = Field(default=5, ge=1)
    """Connections kept open per process."""
    max_overflow: int = Field(default=5, ge=0)
    """Connections opened above that under load."""
    connect_timeout_s: int = Field(default=2, ge=2)
    """Time to connect; psycopg takes no less than two seconds."""
    pool_timeout_s: float = Field(default=2.0, gt=0)
    """Time to wait for a free connection."""
    statement_timeout_s: float = Field(default=5.0, gt=0)
    """Time that the server gives one statement."""
    transaction_timeout_s: float = Field(default=6.0, gt=0)
    """Time for one whole call: a server that hangs answers nothing, not even its own timeout."""
    cool_down_s: float = Field(default=1.0, ge=0)
    """How long calls fail at once after a failure."""


class Database:
    """Transactions on one engine; every failure to reach the server becomes ``StoreUnavailable``."""

    def __init__(self, database_url: str, config: DatabaseConfig | None = None) -> None:
        self.config = config or DatabaseConfig()
        self._url = database_url
        self._engine: AsyncEngine | None = None
        self._closed_until = 0.0

    @asynccontextmanager
    async def transaction(self, timeout_s: float | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, rolled back when it raises.

        Raises:
            StoreUnavailable: PostgreSQL is down, or too slow.
            InvalidRequest: a value that PostgreSQL cannot hold, such as NUL in an id.
        """
        if time.monotonic() < self._closed_until:
            raise StoreUnavailable("PostgreSQL was unreachable a moment ago", "postgres")
        try:
            async with asyncio.timeout(timeout_s or self.config.transaction_timeout_s):
                async with self._connect().begin() as connection:
                    yield connection
        except (OperationalError, InterfaceError, PoolTimeout, TimeoutError, OSError) as error:
            raise self._unavailable() from error
        except (DataError, UnicodeEncodeError) as error:
            raise InvalidRequest("the text holds characters that cannot be stored") from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise self._unavailable() from error
            raise

    async def ping(self) -> None:
        async with self.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    def _unavailable(self) -> StoreUnavailable:
        self._closed_until = time.monotonic() + self.config.cool_down_s
        return StoreUnavailable("PostgreSQL does not answer", "postgres")

    def _connect(self) -> AsyncEngine:
        if self._engine is None:
            milliseconds = int(self.config.statement_timeout_s * 1000)
            self._engine = create_async_engine(
                self._url,
                pool_size=self.config.pool_size,
                max_overflow=self.config.max_overflow,
                pool_timeout=self.config.pool_timeout_s,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={
                    "connect_timeout": self.config.connect_timeout_s,
                    "options": f"-c statement_timeout={milliseconds}",
                },
            )
        return self._engine


def as_database(database: Database | str) -> Database:
    """Share an engine, or open one for an address."""
    return Database(database) if isinstance(database, str) else database


def storable(text: str) -> str:
    """``text`` without what PostgreSQL and UTF-8 refuse: NUL and half surrogates."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
