"""Access keys in PostgreSQL: the key itself is shown once, only its hash is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select, update

from memory.database import Database, as_database
from memory.tables import ApiKeyRow

_PREFIX = "am-"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be shown of a key."""

    key_id: str
    label: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None = None


class ApiKeys:
    """Makes, checks and revokes keys."""

    def __init__(self, database: Database | str) -> None:
        self.database = as_database(database)

    async def create(self, label: str, scopes: Iterable[str]) -> str:
        """A new key; it cannot be shown again.

        A fast hash is enough: a key is 256 random bits and not a password that could be guessed.
        """
        plain = _PREFIX + secrets.token_urlsafe(32)
        values = {"key_id": secrets.token_hex(6), "key_hash": _hash(plain), "label": label}
        async with self.database.transaction() as connection:
            await connection.execute(insert(ApiKeyRow).values(**values, scopes=sorted(set(scopes))))
        return plain

    async def verify(self, plain: str) -> frozenset[str] | None:
        """What the key may do; ``None`` when it is unknown or revoked."""
        digest = _hash(plain)
        query = select(ApiKeyRow.key_hash, ApiKeyRow.scopes).where(
            ApiKeyRow.key_hash == digest, ApiKeyRow.revoked_at.is_(None)
        )
        async with self.database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None or not hmac.compare_digest(row.key_hash, digest):
            return None
        return frozenset(row.scopes)

    async def revoke(self, key_id: str) -> bool:
        statement = (
            update(ApiKeyRow)
            .where(ApiKeyRow.key_id == key_id, ApiKeyRow.revoked_at.is_(None))
            .values(revoked_at=func.now())
        )
        async with self.database.transaction() as connection:
            return (await connection.execute(statement)).rowcount > 0

    async def list(self) -> list[ApiKey]:
        query = select(
            ApiKeyRow.key_id, ApiKeyRow.label, ApiKeyRow.scopes, ApiKeyRow.created_at, ApiKeyRow.revoked_at
        ).order_by(ApiKeyRow.created_at, ApiKeyRow.key_id)
        async with self.database.transaction() as connection:
            rows = (await connection.execute(query)).all()
        return [ApiKey(key_id, label, tuple(scopes), made, gone) for key_id, label, scopes, made, gone in rows]


def _hash(plain: str) -> str:
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()
