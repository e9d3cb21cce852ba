"""The memory writer on a real PostgreSQL: once and only once, whatever dies."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from secrets import token_hex

import pytest
from sqlalchemy import NullPool, create_engine, text

from core.contracts import FanProfile, Message, utc_now
from core.errors import StoreUnavailable
from core.settings import PROJECT_ROOT
from memory.conformance import new_session, new_turn
from memory.embedder import HashEmbedder
from memory.erasure import erase_fan, erase_memory
from memory.index import QdrantIndex
from memory.long_term import PostgresMemory
from memory.migrate import upgrade
from memory.retriever import HybridRetriever
from memory.short_term import RedisMemory
from memory.spool import drain_spool
from memory.summarise import ExtractiveSummariser, Summary
from memory.writer import MemoryWriter, WriterConfig

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def database_url(servers):
    """A database of its own: a writer takes whatever session waits."""
    admin = create_engine(servers.database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE writer"))
    url = servers.database_url.rpartition("/")[0] + "/writer"
    upgrade(url)
    return url


@pytest.fixture
async def long_term(database_url):
    memory = PostgresMemory(database_url)
    yield memory
    await memory.close()


@pytest.fixture
async def short_term(servers):
    memory = RedisMemory(servers.redis_url)
    yield memory
    await memory.close()


@pytest.fixture
async def index(tmp_path, long_term):
    index = QdrantIndex(tmp_path / "qdrant", 256)
    yield HybridRetriever(index, HashEmbedder())
    await index.close()


class CountingSummariser:
    """Tells what it was given; can be made to wait until it is let go."""

    def __init__(self):
        self.seen = []
        self.started, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    async def summarise(self, messages):
        self.seen.append([message.content for message in messages])
        self.started.set()
        await self.go_on.wait()
        return Summary(f"요약 {len(self.seen)}", (f"{{{{user}}}}은 {messages[0].content}라고 했다.",))


async def _talk(long_term, fan_id, *said, persona="haneul", end=True, **changes):
    session = new_session(fan_id, persona)
    await long_term.create_session(session)
    for number, words in enumerate(said):
        turn = new_turn(
            number, session_id=session.session_id, fan_id=fan_id, persona=persona, user_text=words, **changes
        )
        await long_term.commit_turn(turn)
    if end:
        await long_term.end_session(session.session_id)
    return session.session_id


async def _work_off(writer):
    done = 0
    while await writer.run_once():
        done += 1
    return done


async def test_session_becomes_summary_memories_and_profile(long_term, index):
    fan_id = token_hex(8)
    await long_term.put_profile(FanProfile(fan_id, "서윤", favorite="세라"))
    await _talk(long_term, fan_id, "나 떡볶이 좋아해", "내 최애는 하늘이야", "내 생일은 3월 14일이야")
    writer = MemoryWriter(long_term, index, ExtractiveSummariser())
    assert await _work_off(writer) == 1
    context = await long_term.fan_context(fan_id, "haneul")
    assert len(context.summaries) == 1
    assert "{{user}}은 떡볶이를 좋아한다." in context.memories
    assert context.profile == FanProfile(fan_id, "서윤", "03-14", "세라")
    assert (await long_term.fan_context(fan_id, "sera")).memories == ()
    found = await index.search("떡볶이 좋아해?", "haneul", fan_id)
    assert found[0].text == "{{user}}은 떡볶이를 좋아한다."
    assert await index.search("떡볶이 좋아해?", "haneul", token_hex(8)) == []
    assert not await writer.run_once()


async def test_only_ended_or_idle_sessions_are_taken(long_term, index):
    summariser = CountingSummariser()
    session = new_session(token_hex(8))
    turn = new_turn(0, session_id=session.session_id, fan_id=session.fan_id)
    await long_term.commit_turn(new_turn(0, created_at=utc_now(), user_text="아직 이야기 중"))
    await long_term.commit_turn(turn)  # long ago
    assert await _work_off(MemoryWriter(long_term, index, summariser)) == 1
    assert summariser.seen == [[turn.user_text, turn.reply]]
    assert await _work_off(MemoryWriter(long_term, index, summariser, WriterConfig(idle_s=0))) == 1


async def test_blocked_turns_and_anonymous_sessions_leave_nothing(long_term, index):
    summariser = CountingSummariser()
    fan_id = token_hex(8)
    await _talk(long_term, fan_id, "나쁜 말", blocked=True, category="abuse")
    await _talk(long_term, None, "나 떡볶이 좋아해")
    assert await _work_off(MemoryWriter(long_term, index, summariser)) == 2
    assert summariser.seen == []
    assert (await long_term.fan_context(fan_id, "haneul")).summaries == ()


async def test_two_writers_never_do_one_session_twice(long_term, index, database_url):
    summariser = CountingSummariser()
    said = [f"말 {number}" for number in range(12)]
    for words in said:
        await _talk(long_term, token_hex(8), words)
    stores = [PostgresMemory(database_url) for _ in range(4)]
    done = await asyncio.gather(*(_work_off(MemoryWriter(store, index, summariser)) for store in stores))
    assert sum(done) == len(said)
    assert sorted(messages[0] for messages in summariser.seen) == sorted(said)
    for store in stores:
        await store.close()


async def test_returning_fan_does_not_wait_and_is_summarised_again(long_term, index):
    summariser = CountingSummariser()
    fan_id = token_hex(8)
    session_id = await _talk(long_term, fan_id, "첫째")
    summariser.go_on.clear()
    work = asyncio.create_task(MemoryWriter(long_term, index, summariser).run_once())
    await asyncio.wait_for(summariser.started.wait(), 30)
    async with asyncio.timeout(4):
        await long_term.commit_turn(new_turn(5, session_id=session_id, fan_id=fan_id, user_text="둘째"))
    summariser.go_on.set()
    assert await work
    assert await _work_off(MemoryWriter(long_term, index, summariser)) == 1
    assert [messages[0] for messages in summariser.seen] == ["첫째", "둘째"]
    assert (await long_term.fan_context(fan_id, "haneul")).summaries == ("요약 2", "요약 1")


async def test_fan_erased_during_the_work_stays_erased(long_term, short_term, index):
    summariser = CountingSummariser()
    fan_id = token_hex(8)
    await _talk(long_term, fan_id, "나 떡볶이 좋아해")
    summariser.go_on.clear()
    writer = MemoryWriter(long_term, index, summariser)
    work = asyncio.create_task(writer.run_once())
    await asyncio.wait_for(summariser.started.wait(), 30)
    async with asyncio.timeout(4):
        assert await erase_fan(fan_id, long_term, short_term, index) == 1
    summariser.go_on.set()
    await work
    await _work_off(writer)
    assert await long_term.memories(fan_id) == []
    assert (await long_term.fan_context(fan_id, "haneul")).summaries == ()
    assert await index.search("떡볶이", "haneul", fan_id) == []


_WRITER_THAT_HANGS = """
import asyncio, sys
from memory.long_term import PostgresMemory
from memory.writer import MemoryWriter

class Hangs:
    async def summarise(self, messages):
        print("claimed", flush=True)
        await asyncio.sleep(600)

asyncio.run(MemoryWriter(PostgresMemory(sys.argv[1]), None, Hangs()).run_once())
"""


async def test_killed_writer_loses_nothing(long_term, index, database_url):
    fan_id = token_hex(8)
    await _talk(long_term, fan_id, "나 떡볶이 좋아해")
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER_THAT_HANGS, database_url, stdout=asyncio.subprocess.PIPE, cwd=PROJECT_ROOT
    )
    try:
        assert victim.stdout is not None
        assert await asyncio.wait_for(victim.stdout.readline(), 90) == b"claimed\n"
        writer = MemoryWriter(long_term, index, ExtractiveSummariser())
        assert not await writer.run_once(), "the session is taken"
    finally:
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        await victim.wait()
    for _ in range(100):
        if await writer.run_once():
            break
        await asyncio.sleep(0.1)
    assert [memory.text for memory in await long_term.memories(fan_id)] == ["{{user}}은 떡볶이를 좋아한다."]


async def test_failing_summariser_is_replaced_by_the_rules(long_term, index):
    class Fails:
        async def summarise(self, messages):
            raise OSError("model is gone")

    fan_id = token_hex(8)
    await _talk(long_term, fan_id, "나 떡볶이 좋아해")
    assert await _work_off(MemoryWriter(long_term, index, Fails())) == 1
    assert len(await long_term.memories(fan_id)) == 1


async def test_index_is_caught_up_after_a_failure_and_after_a_loss(long_term, tmp_path, index):
    embedder = HashEmbedder()
    embedder.down = True
    first = HybridRetriever(QdrantIndex(tmp_path / "first", 256), embedder)
    fan_id = token_hex(8)
    await _talk(long_term, fan_id, "나 떡볶이 좋아해")
    writer = MemoryWriter(long_term, first, ExtractiveSummariser())
    assert await writer.run_once()
    assert await first.memory_count() == 0
    embedder.down = False
    await writer.run_once()
    assert await first.search("떡볶이", "haneul", fan_id) != []
    await first.close()

    second = HybridRetriever(QdrantIndex(tmp_path / "second", 256), embedder)
    await MemoryWriter(long_term, second, ExtractiveSummariser()).run_once()
    assert await second.search("떡볶이", "haneul", fan_id) != []
    await second.close()


async def test_erasure_reaches_every_store(long_term, short_term, index):
    fan_id, other = token_hex(8), token_hex(8)
    session_id = await _talk(long_term, fan_id, "나 떡볶이 좋아해")
    await _talk(long_term, other, "나 순대 좋아해")
    await _work_off(MemoryWriter(long_term, index, ExtractiveSummariser()))
    await short_term.restore(session_id, [Message("user", "나 떡볶이 좋아해")])
    await short_term.spool(new_turn(9, fan_id=fan_id))
    await short_term.spool(new_turn(9, fan_id=other))

    memory = (await long_term.memories(other))[0]
    assert not await erase_memory(fan_id, memory.memory_id, long_term, index)
    assert await erase_memory(other, memory.memory_id, long_term, index)
    assert await index.search("순대", "haneul", other) == []

    assert await erase_fan(fan_id, long_term, short_term, index) == 1
    assert await short_term.history(session_id) is None
    assert await drain_spool(short_term, long_term) == 1
    assert await long_term.memories(fan_id) == []
    assert await index.search("떡볶이", "haneul", fan_id) == []
    assert await long_term.delete_fan(fan_id) == []


async def test_erasure_is_refused_while_a_store_is_down(long_term, index):
    fan_id = token_hex(8)
    await _talk(long_term, fan_id, "안녕")
    gone = RedisMemory("redis://127.0.0.1:9/0")
    with pytest.raises(StoreUnavailable):
        await erase_fan(fan_id, long_term, gone, index)
    assert len(await long_term.delete_fan(fan_id)) == 1
