"""The running conversation in Redis: the window of last turns, the turn lock and the spool.

am:window:<session>   list of messages, oldest first; expires after half an hour of silence
am:session:<session>  the session's record, so that a chat goes on while PostgreSQL is down
am:lock:<session>     who answers in this session now; expires should its holder die
am:spool              stream of turns that PostgreSQL could not take; never trimmed, never expires
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, ReadOnlyError, TimeoutError

from core.contracts import Message, Session, Turn
from core.errors import StoreUnavailable

_SPOOL = "am:spool"
_TURNS = TypeAdapter(Turn)
_SESSIONS = TypeAdapter(Session)

_HELD = ""
"""First element of every window: Redis has no empty list, and a window without turns is not 'no window'."""

_APPEND = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[#ARGV] then
    for i = 3, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
    redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""Safe to send twice: every append carries a nonce, so the retry of one that arrived finds its own tail."""

_ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
return 0
"""

_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
"""Never takes a lock: a renewal that Redis comes to after the turn's end must not lock the session again."""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class ShortTermConfig(BaseModel):
    """How much of a running conversation is held, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    turns: int = Field(default=20, ge=1)
    """Turns in the window; each is two messages."""
    ttl_s: float = Field(default=1800.0, gt=0)
    """Silence after which a window is dropped."""
    lock_ttl_s: float = Field(default=15.0, gt=0)
    """Time until a session is free again whose holder died; a living turn renews its lock."""
    timeout_s: float = Field(default=1.0, gt=0)
    """Time for one exchange with Redis."""
    connections: int = Field(default=64, ge=1)
    """Most connections of one process."""


class RedisMemory:
    """``ShortTermMemory`` on Redis."""

    def __init__(self, redis_url: str, config: ShortTermConfig | None = None) -> None:
        self._config = config or ShortTermConfig()
        self._redis: Any = Redis.from_url(
            redis_url,
            decode_responses=True,
            socket_timeout=self._config.timeout_s,
            socket_connect_timeout=self._config.timeout_s,
            max_connections=self._config.connections,
            retry=Retry(ConstantBackoff(0.05), 1, supported_errors=(ConnectionError, TimeoutError)),
        )
        self._append = self._redis.register_script(_APPEND)
        self._acquire = self._redis.register_script(_ACQUIRE)
        self._renew = self._redis.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)

    async def history(self, session_id: str) -> list[Message] | None:
        async with _redis_errors():
            held = await self._redis.lrange(_window(session_id), 0, -1)
        return [_decode(item) for item in held if item != _HELD] if held else None

    async def append(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add to the window, trim it and renew its time to live. Does nothing when no window is held."""
        if not messages:
            return
        arguments: list[str | int] = [2 * self._config.turns, _milliseconds(self._config.ttl_s), *_encode(messages)]
        async with _redis_errors():
            await self._append(keys=[_window(session_id)], args=arguments)

    async def restore(self, session_id: str, messages: Sequence[Message]) -> None:
        """Replace the window (a new session, or after an expiry)."""
        key = _window(session_id)
        kept = _encode(messages[-2 * self._config.turns :])
        async with _redis_errors(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(key)
            pipeline.rpush(key, _HELD, *kept)
            pipeline.pexpire(key, _milliseconds(self._config.ttl_s))
            await pipeline.execute()

    async def forget(self, session_ids: Sequence[str]) -> None:
        if session_ids:
            async with _redis_errors():
                keys = [key for session_id in session_ids for key in (_window(session_id), _record(session_id))]
                await self._redis.delete(*keys)

    async def put_session(self, session: Session) -> None:
        """Keep the session's record as long as its window would be kept."""
        lifetime = _milliseconds(self._config.ttl_s)
        async with _redis_errors():
            await self._redis.set(_record(session.session_id), _SESSIONS.dump_json(session), px=lifetime)

    async def get_session(self, session_id: str) -> Session | None:
        async with _redis_errors():
            held = await self._redis.getex(_record(session_id), px=_milliseconds(self._config.ttl_s))
        return _SESSIONS.validate_json(held) if held else None

    async def acquire(self, session_id: str, holder: str) -> bool:
        """Take the session for one turn; true again for its holder, so that a retry is no conflict."""
        arguments: list[str | int] = [holder, _milliseconds(self._config.lock_ttl_s)]
        async with _redis_errors():
            return bool(await self._acquire(keys=[_lock(session_id)], args=arguments))

    async def renew(self, session_id: str, holder: str) -> bool:
        """Let the holder's lock live on; false when it is not the holder's any more."""
        arguments: list[str | int] = [holder, _milliseconds(self._config.lock_ttl_s)]
        async with _redis_errors():
            return bool(await self._renew(keys=[_lock(session_id)], args=arguments))

    async def release(self, session_id: str, holder: str) -> None:
        async with _redis_errors():
            await self._release(keys=[_lock(session_id)], args=[holder])

    async def spool(self, turn: Turn) -> None:
        """Keep a turn that PostgreSQL could not take."""
        async with _redis_errors():
            await self._redis.xadd(_SPOOL, {"turn": _TURNS.dump_json(turn).decode()})

    async def spooled(self, limit: int = 100) -> list[tuple[str, Turn]]:
        """Spooled turns with their stream ids, oldest first."""
        async with _redis_errors():
            entries = await self._redis.xrange(_SPOOL, count=limit)
        return [(stream_id, _TURNS.validate_json(fields["turn"])) for stream_id, fields in entries]

    async def unspool(self, stream_ids: Sequence[str]) -> None:
        if stream_ids:
            async with _redis_errors():
                await self._redis.xdel(_SPOOL, *stream_ids)

    async def ping(self) -> None:
        async with _redis_errors():
            await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose()


@asynccontextmanager
async def _redis_errors() -> AsyncIterator[None]:
    try:
        yield
    except (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OutOfMemoryError, OSError) as error:
        raise StoreUnavailable("Redis does not answer", "redis") from error


def _window(session_id: str) -> str:
    return f"am:window:{session_id}"


def _record(session_id: str) -> str:
    return f"am:session:{session_id}"


def _lock(session_id: str) -> str:
    return f"am:lock:{session_id}"


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _encode(messages: Sequence[Message]) -> list[str]:
    nonce = secrets.token_hex(4)
    return [json.dumps([message.role, message.content, nonce]) for message in messages]


def _decode(item: str) -> Message:
    role, content, _ = json.loads(item)
    return Message(role, content)
