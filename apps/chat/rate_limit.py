"""Requests per minute and caller, counted in Redis so that all gateway replicas share one count."""

from __future__ import annotations

import hashlib
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError


class NoLimit:
    async def allow(self, caller: str) -> bool:
        return True


class RedisRateLimit:
    """A fixed window of one minute. While Redis is down nobody is limited: the limit guards cost, not safety."""

    def __init__(self, redis_url: str, per_minute: int) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=1, socket_connect_timeout=1)
        self._per_minute = per_minute

    async def allow(self, caller: str) -> bool:
        # The caller may be an API key: only its hash becomes part of a Redis key.
        who = hashlib.sha256(caller.encode()).hexdigest()[:32]
        key = f"am:rate:{who}:{int(time.time() // 60)}"
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.incr(key)
                pipe.expire(key, 120)
                count, _ = await pipe.execute()
        except RedisError:
            return True
        return int(count) <= self._per_minute
