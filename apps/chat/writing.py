"""Wires the memory writer: which summariser, which stores, and the draining of spooled turns."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from apps.chat.args import WriterArgs
from apps.chat.generator import LlmServerGenerator
from apps.chat.handles import HandleRetriever
from core.contracts import Message, Sampling
from core.errors import StoreUnavailable
from core.logs import get_logger
from core.settings import get_settings
from memory.database import Database
from memory.endpoints import endpoints
from memory.long_term import PostgresMemory
from memory.short_term import RedisMemory
from memory.spool import drain_spool
from memory.summarise import ExtractiveSummariser, LlmSummariser, Summariser
from memory.writer import MemoryWriter, WriterConfig

_log = get_logger("writer")


async def run_writer(args: WriterArgs, retriever: Any, generator: Any) -> None:
    """Work until cancelled: summaries of ended and idle sessions, and turns that were spooled."""
    addresses = endpoints(get_settings())
    long_term = PostgresMemory(Database(addresses.database_url))
    short_term = RedisMemory(addresses.redis_url)
    config = WriterConfig(idle_s=args.idle_minutes * 60, interval_s=args.interval_s)
    writer = MemoryWriter(long_term, HandleRetriever(retriever), _summariser(args, generator), config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run_forever())
        tasks.create_task(_keep_draining(short_term, long_term, args.interval_s))


async def _keep_draining(short_term: RedisMemory, long_term: PostgresMemory, interval_s: float) -> None:
    while True:
        try:
            if drained := await drain_spool(short_term, long_term):
                _log.info("spooled turns committed", turns=drained)
        except StoreUnavailable as error:
            _log.warning("spool waits", store=error.param)
        await asyncio.sleep(interval_s)


def _summariser(args: WriterArgs, generator: Any) -> Summariser:
    if args.summariser == "extractive":
        return ExtractiveSummariser()
    engine = LlmServerGenerator(generator)

    async def complete(messages: Sequence[Message]) -> str:
        """The base model without an adapter: a summary is not the character's voice."""
        text = ""
        async with aclosing(engine.stream(messages, Sampling(max_tokens=400, temperature=0.0), None)) as chunks:
            async for chunk in chunks:
                text += chunk.text
        return text

    return LlmSummariser(complete)
