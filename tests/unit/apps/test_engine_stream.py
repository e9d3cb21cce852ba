import asyncio
import json

import pytest

from apps.chat.engine_stream import chunks_of, merged, parse_event
from core.contracts import Chunk, Usage
from core.errors import InvalidRequest, Unavailable


def event(text=None, finish=None, **fields):
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]
    return "data: " + json.dumps({"choices": choices, **fields}) + "\n\n"


def test_events_become_chunks():
    assert parse_event(event("안")) == Chunk("안")
    assert parse_event(event("", "stop")) == Chunk("", "stop")
    assert parse_event(event("녕", "length")) == Chunk("녕", "length")
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert parse_event(event(usage=usage)) == Chunk(usage=Usage(3, 2))
    assert parse_event("data: [DONE]\n\n") is None


def test_the_engines_errors_keep_whose_fault_it_was():
    with pytest.raises(InvalidRequest, match="too long"):
        parse_event("data: " + json.dumps({"error": {"message": "too long", "code": 400}}))
    with pytest.raises(Unavailable):
        parse_event("data: " + json.dumps({"error": {"message": "engine dead", "code": 500}}))


async def stream(*items, fails=None):
    for item in items:
        yield item
    if fails:
        raise fails


async def test_lists_of_events_are_flattened():
    events = stream([event("안"), event("녕")], event("", "stop"), "data: [DONE]\n\n")
    assert [c.text async for c in chunks_of(events)] == ["안", "녕", ""]


async def test_a_backlog_arrives_in_one_piece_and_nothing_is_lost():
    pieces = [Chunk("가"), Chunk("나"), Chunk("다", "stop"), Chunk(usage=Usage(1, 3))]
    received = []
    async for chunk in merged(stream(*pieces)):
        received.append(chunk)
        await asyncio.sleep(0.01)
    assert "".join(c.text for c in received) == "가나다"
    assert [c.finish_reason for c in received if c.finish_reason] == ["stop"]
    assert [c.usage for c in received if c.usage] == [Usage(1, 3)]
    assert len(received) < len(pieces)


async def test_a_failure_comes_after_what_was_made_before_it():
    chunks = merged(stream(Chunk("가"), fails=Unavailable("dead")))
    assert (await anext(chunks)).text == "가"
    with pytest.raises(Unavailable, match="dead"):
        await anext(chunks)


async def test_leaving_early_closes_the_source():
    closed = asyncio.Event()

    async def endless():
        try:
            while True:
                yield Chunk("가")
                await asyncio.sleep(0)
        finally:
            closed.set()

    chunks = merged(endless())
    await anext(chunks)
    await chunks.aclose()
    assert closed.is_set()
