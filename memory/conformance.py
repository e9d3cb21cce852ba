"""What every memory store must do, whatever it is made of: run by the fakes and by the real servers.

Each check takes a store and uses ids of its own, so that checks can share one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from core.contracts import FanProfile, LongTermMemory, Message, Session, ShortTermMemory, Turn, Usage

ShortTermCheck = Callable[[ShortTermMemory], Awaitable[None]]
LongTermCheck = Callable[[LongTermMemory], Awaitable[None]]

_START = datetime(2026, 3, 14, 12, 0, 0, tzinfo=UTC)


def new_turn(number: int = 0, **changes: object) -> Turn:
    """A turn; ``number`` sets its place in time and its words."""
    fields: dict[str, object] = {
        "turn_id": token_hex(8),
        "session_id": token_hex(8),
        "persona": "haneul",
        "fan_id": token_hex(8),
        "user_text": f"질문 {number}",
        "reply": f"대답 {number}, {{{{user}}}}!",
        "adapter": "haneul/v1",
        "usage": Usage(10, 5),
        "created_at": _START + timedelta(minutes=number),
    }
    return Turn(**{**fields, **changes})  # type: ignore[arg-type]  # values of mixed types


def new_session(fan_id: str | None = None, persona: str = "haneul") -> Session:
    return Session(token_hex(8), persona, fan_id, _START, _START)


def _exchange(number: int) -> list[Message]:
    return [Message("user", f"질문 {number}"), Message("assistant", f"대답 {number}")]


async def window_is_none_until_restored(store: ShortTermMemory) -> None:
    session_id = token_hex(8)
    assert await store.history(session_id) is None
    await store.append(session_id, _exchange(1))
    assert await store.history(session_id) is None
    await store.restore(session_id, [])
    assert await store.history(session_id) == []
    await store.append(session_id, _exchange(1))
    assert await store.history(session_id) == _exchange(1)


async def window_keeps_the_last_twenty_turns(store: ShortTermMemory) -> None:
    session_id = token_hex(8)
    await store.restore(session_id, [])
    for number in range(25):
        await store.append(session_id, _exchange(number))
    expected = [message for number in range(5, 25) for message in _exchange(number)]
    assert await store.history(session_id) == expected
    await store.restore(session_id, [*_exchange(99), *expected])
    assert await store.history(session_id) == expected


async def the_same_words_twice_are_two_turns(store: ShortTermMemory) -> None:
    session_id = token_hex(8)
    await store.restore(session_id, [])
    await store.append(session_id, _exchange(1))
    await store.append(session_id, _exchange(1))
    assert await store.history(session_id) == [*_exchange(1), *_exchange(1)]


async def restore_replaces(store: ShortTermMemory) -> None:
    session_id = token_hex(8)
    await store.restore(session_id, _exchange(1))
    await store.restore(session_id, _exchange(2))
    assert await store.history(session_id) == _exchange(2)


async def forget_drops_only_what_is_named(store: ShortTermMemory) -> None:
    mine, other = token_hex(8), token_hex(8)
    await store.restore(mine, _exchange(1))
    await store.restore(other, _exchange(2))
    await store.forget([])
    await store.forget([mine, "unknown"])
    assert await store.history(mine) is None
    assert await store.history(other) == _exchange(2)


async def any_text_survives(store: ShortTermMemory) -> None:
    session_id = token_hex(8)
    messages = [Message("user", '"따옴표"\n\t{{user}} \\ 🌟 \u2028 '), Message("assistant", "")]
    await store.restore(session_id, messages)
    assert await store.history(session_id) == messages


async def one_holder_at_a_time(store: ShortTermMemory) -> None:
    session_id = token_hex(8)
    assert await store.acquire(session_id, "a")
    assert await store.acquire(session_id, "a")
    assert not await store.acquire(session_id, "b")
    await store.release(session_id, "b")
    assert not await store.acquire(session_id, "b")
    assert await store.renew(session_id, "a")
    assert not await store.renew(session_id, "b")
    await store.release(session_id, "a")
    assert not await store.renew(session_id, "a"), "a late renewal must not lock the session again"
    assert await store.acquire(session_id, "b")
    await store.release(session_id, "b")


async def only_one_of_many_wins_the_lock(store: ShortTermMemory) -> None:
    session_id = token_hex(8)
    taken = await asyncio.gather(*(store.acquire(session_id, f"holder-{n}") for n in range(20)))
    assert sum(taken) == 1


async def spool_keeps_turns_in_order(store: ShortTermMemory) -> None:
    turns = [new_turn(number, blocked=number == 1, category="abuse") for number in range(3)]
    before = len(await store.spooled(10_000))
    for turn in turns:
        await store.spool(turn)
    entries = (await store.spooled(10_000))[before:]
    assert [turn for _, turn in entries] == turns
    assert len(await store.spooled(1)) == 1
    await store.unspool([entries[0][0]])
    await store.unspool([])
    assert [turn for _, turn in (await store.spooled(10_000))[before:]] == turns[1:]
    await store.unspool([stream_id for stream_id, _ in entries])
    assert len(await store.spooled(10_000)) == before


async def session_is_stored_once_and_ended_once(store: LongTermMemory) -> None:
    session = new_session("fan-a")
    assert await store.get_session(session.session_id) is None
    await store.create_session(session)
    await store.create_session(session)
    assert await store.get_session(session.session_id) == session
    assert await store.end_session(session.session_id)
    assert not await store.end_session(session.session_id)
    assert not await store.end_session("unknown")
    ended = await store.get_session(session.session_id)
    assert ended is not None
    assert ended.ended_at is not None


async def turn_committed_twice_is_stored_once(store: LongTermMemory) -> None:
    session = new_session("fan-a")
    await store.create_session(session)
    turn = new_turn(3, session_id=session.session_id, fan_id="fan-a")
    await asyncio.gather(*(store.commit_turn(turn) for _ in range(4)))
    assert await store.history(session.session_id, 20) == [
        Message("user", turn.user_text),
        Message("assistant", turn.reply),
    ]
    touched = await store.get_session(session.session_id)
    assert touched is not None
    assert touched.last_active_at == turn.created_at


async def turn_brings_its_session_along(store: LongTermMemory) -> None:
    turn = new_turn(1)
    await store.commit_turn(turn)
    session = await store.get_session(turn.session_id)
    assert session is not None
    assert (session.persona, session.fan_id) == (turn.persona, turn.fan_id)


async def history_is_in_the_order_of_time(store: LongTermMemory) -> None:
    session_id = token_hex(8)
    for number in (2, 0, 3, 1):  # a spooled turn arrives after later ones
        await store.commit_turn(new_turn(number, session_id=session_id))
    asked = [message.content for message in await store.history(session_id, 3) if message.role == "user"]
    assert asked == ["질문 1", "질문 2", "질문 3"]
    assert await store.history(session_id, 0) == []
    assert await store.history("unknown", 5) == []


async def blocked_turn_is_never_remembered(store: LongTermMemory) -> None:
    session_id = token_hex(8)
    await store.commit_turn(new_turn(0, session_id=session_id))
    await store.commit_turn(new_turn(1, session_id=session_id, blocked=True, category="abuse"))
    assert [m.content for m in await store.history(session_id, 20)] == ["질문 0", "대답 0, {{user}}!"]


async def profile_is_replaced_as_a_whole(store: LongTermMemory) -> None:
    fan_id = token_hex(8)
    assert await store.get_profile(fan_id) is None
    await store.put_profile(FanProfile(fan_id, "서윤", "03-14", "하늘"))
    await store.put_profile(FanProfile(fan_id, "서윤", None, "세라"))
    assert await store.get_profile(fan_id) == FanProfile(fan_id, "서윤", None, "세라")
    assert (await store.fan_context(fan_id, "haneul")).profile == FanProfile(fan_id, "서윤", None, "세라")
    await store.fill_profile(FanProfile(fan_id, "하린", "03-02", None))
    assert await store.get_profile(fan_id) == FanProfile(fan_id, "서윤", "03-02", "세라"), "only what was open"
    new_fan = token_hex(8)
    await store.fill_profile(FanProfile(new_fan, "하린"))
    assert await store.get_profile(new_fan) == FanProfile(new_fan, "하린")


async def erased_fan_leaves_nothing(store: LongTermMemory) -> None:
    mine, other = token_hex(8), token_hex(8)
    turn = new_turn(0, fan_id=mine)
    kept = new_turn(0, fan_id=other)
    for item in (turn, kept):
        await store.commit_turn(item)
        await store.put_profile(FanProfile(str(item.fan_id), "이름"))
    assert await store.delete_fan(mine) == [turn.session_id]
    assert await store.delete_fan(mine) == []
    assert await store.get_profile(mine) is None
    assert await store.get_session(turn.session_id) is None
    assert await store.history(turn.session_id, 20) == []
    assert await store.memories(mine) == []
    assert await store.get_profile(other) is not None
    assert len(await store.history(kept.session_id, 20)) == 2


async def unknown_memory_is_not_deleted(store: LongTermMemory) -> None:
    assert not await store.delete_memory(token_hex(8), token_hex(8))


SHORT_TERM: tuple[ShortTermCheck, ...] = (
    window_is_none_until_restored,
    window_keeps_the_last_twenty_turns,
    the_same_words_twice_are_two_turns,
    restore_replaces,
    forget_drops_only_what_is_named,
    any_text_survives,
    one_holder_at_a_time,
    only_one_of_many_wins_the_lock,
    spool_keeps_turns_in_order,
)
LONG_TERM: tuple[LongTermCheck, ...] = (
    session_is_stored_once_and_ended_once,
    turn_committed_twice_is_stored_once,
    turn_brings_its_session_along,
    history_is_in_the_order_of_time,
    blocked_turn_is_never_remembered,
    profile_is_replaced_as_a_whole,
    erased_fan_leaves_nothing,
    unknown_memory_is_not_deleted,
)
