"""The real servers keep the promises of the memory protocols."""

import asyncio

import pytest

from apps.chat.turn_lock import renewed
from core.contracts import Message
from core.errors import InvalidRequest, StoreUnavailable
from memory import conformance
from memory.long_term import PostgresMemory
from memory.short_term import RedisMemory, ShortTermConfig
from memory.spool import drain_spool

pytestmark = pytest.mark.services


@pytest.fixture
async def short_term(servers):
    memory = RedisMemory(servers.redis_url)
    yield memory
    await memory.close()


@pytest.fixture
async def long_term(servers):
    memory = PostgresMemory(servers.database_url)
    yield memory
    await memory.close()


@pytest.mark.parametrize("check", conformance.SHORT_TERM, ids=lambda check: check.__name__)
async def test_redis_conforms(check, short_term):
    await check(short_term)


@pytest.mark.parametrize("check", conformance.LONG_TERM, ids=lambda check: check.__name__)
async def test_postgres_conforms(check, long_term):
    await check(long_term)


async def test_window_and_lock_expire(servers):
    store = RedisMemory(servers.redis_url, ShortTermConfig(ttl_s=0.2, lock_ttl_s=0.2))
    await store.restore("expiring", [Message("user", "안녕")])
    assert await store.acquire("expiring", "a")
    assert not await store.acquire("expiring", "b")
    await asyncio.sleep(0.3)
    assert await store.history("expiring") is None
    assert await store.acquire("expiring", "b")
    await store.close()


async def test_a_renewed_lock_outlives_its_first_time(servers):
    store = RedisMemory(servers.redis_url, ShortTermConfig(lock_ttl_s=0.4))
    assert await store.acquire("renewed", "a")
    async with renewed(store, "renewed", "a", every_s=0.1):
        await asyncio.sleep(0.8)
        assert not await store.acquire("renewed", "b")
    await asyncio.sleep(0.5)
    assert await store.acquire("renewed", "b")
    await store.close()


async def test_text_that_postgres_refuses_is_stored_without_it(long_term):
    turn = conformance.new_turn(0, user_text="널\x00 반쪽\ud83c 끝")
    await long_term.commit_turn(turn)
    assert (await long_term.history(turn.session_id, 1))[0].content == "널 반쪽? 끝"


async def test_unreachable_stores_are_named_quickly():
    short_term = RedisMemory("redis://127.0.0.1:9/0")
    long_term = PostgresMemory("postgresql+psycopg://nobody@127.0.0.1:9/none")
    for store, name in ((short_term, "redis"), (long_term, "postgres")):
        async with asyncio.timeout(3):
            with pytest.raises(StoreUnavailable) as error:
                await store.ping()
        assert error.value.param == name
        await store.close()


async def test_postgres_fails_at_once_after_a_failure():
    long_term = PostgresMemory("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(StoreUnavailable):
        await long_term.ping()
    async with asyncio.timeout(0.05):
        with pytest.raises(StoreUnavailable, match="a moment ago"):
            await long_term.ping()


async def test_turn_that_can_never_be_stored_does_not_hold_up_the_spool(short_term, long_term):
    poison, good = conformance.new_turn(0, fan_id="널\x00"), conformance.new_turn(1)
    with pytest.raises(InvalidRequest):
        await long_term.commit_turn(poison)
    for turn in (poison, good):
        await short_term.spool(turn)
    assert await drain_spool(short_term, long_term) == 1
    assert await short_term.spooled() == []
    assert len(await long_term.history(good.session_id, 1)) == 2
