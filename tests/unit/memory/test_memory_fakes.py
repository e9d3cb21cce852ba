"""The fakes keep the same promises as the servers."""

import pytest

from core.contracts import Message
from core.errors import StoreUnavailable
from memory import conformance
from memory.fakes import FakeLongTermMemory, FakeShortTermMemory
from memory.short_term import ShortTermConfig


@pytest.mark.parametrize("check", conformance.SHORT_TERM, ids=lambda check: check.__name__)
async def test_fake_short_term_memory_conforms(check):
    await check(FakeShortTermMemory())


@pytest.mark.parametrize("check", conformance.LONG_TERM, ids=lambda check: check.__name__)
async def test_fake_long_term_memory_conforms(check):
    await check(FakeLongTermMemory())


async def test_window_and_lock_expire():
    now = 0.0
    store = FakeShortTermMemory(ShortTermConfig(ttl_s=10, lock_ttl_s=5), clock=lambda: now)
    await store.restore("s", [Message("user", "안녕")])
    assert await store.acquire("s", "a")
    now = 6.0
    assert await store.acquire("s", "b")
    assert await store.history("s") is not None
    now = 11.0
    assert await store.history("s") is None


async def test_fakes_go_down_on_request():
    short_term, long_term = FakeShortTermMemory(), FakeLongTermMemory()
    short_term.down = long_term.down = True
    with pytest.raises(StoreUnavailable) as redis:
        await short_term.ping()
    with pytest.raises(StoreUnavailable) as postgres:
        await long_term.ping()
    assert (redis.value.param, postgres.value.param) == ("redis", "postgres")
