"""The memory protocols without servers, for tests and trials: same behaviour, nothing kept.

Set ``down`` on a fake to make it behave like a store that cannot be reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from core.contracts import FanContext, FanProfile, Memory, Message, Passage, Session, Turn, utc_now
from core.errors import StoreUnavailable
from memory.short_term import ShortTermConfig

Clock = Callable[[], float]


class FakeShortTermMemory:
    """``ShortTermMemory`` in a dictionary; ``clock`` counts seconds."""

    def __init__(self, config: ShortTermConfig | None = None, clock: Clock = time.monotonic) -> None:
        self.down = False
        self._config = config or ShortTermConfig()
        self._clock = clock
        self._windows: dict[str, tuple[float, list[Message]]] = {}
        self._locks: dict[str, tuple[float, str]] = {}
        self._spool: dict[str, Turn] = {}
        self._spooled = 0
        self._sessions: dict[str, Session] = {}

    async def history(self, session_id: str) -> list[Message] | None:
        self._check()
        window = self._window(session_id)
        return None if window is None else list(window)

    async def append(self, session_id: str, messages: Sequence[Message]) -> None:
        self._check()
        window = self._window(session_id)
        if window is not None and messages:
            self._hold(session_id, [*window, *messages])

    async def restore(self, session_id: str, messages: Sequence[Message]) -> None:
        self._check()
        self._hold(session_id, list(messages))

    async def forget(self, session_ids: Sequence[str]) -> None:
        self._check()
        for session_id in session_ids:
            self._windows.pop(session_id, None)
            self._sessions.pop(session_id, None)

    async def put_session(self, session: Session) -> None:
        self._check()
        self._sessions[session.session_id] = session

    async def get_session(self, session_id: str) -> Session | None:
        self._check()
        return self._sessions.get(session_id)

    async def acquire(self, session_id: str, holder: str) -> bool:
        self._check()
        expires, present = self._locks.get(session_id, (0.0, holder))
        if present != holder and expires > self._clock():
            return False
        if session_id not in self._locks or expires <= self._clock():
            self._locks[session_id] = (self._clock() + self._config.lock_ttl_s, holder)
        return True

    async def renew(self, session_id: str, holder: str) -> bool:
        self._check()
        expires, present = self._locks.get(session_id, (0.0, ""))
        if present != holder or expires <= self._clock():
            return False
        self._locks[session_id] = (self._clock() + self._config.lock_ttl_s, holder)
        return True

    async def release(self, session_id: str, holder: str) -> None:
        self._check()
        if self._locks.get(session_id, (0.0, ""))[1] == holder:
            del self._locks[session_id]

    async def spool(self, turn: Turn) -> None:
        self._check()
        self._spooled += 1
        self._spool[f"{self._spooled}-0"] = turn

    async def spooled(self, limit: int = 100) -> list[tuple[str, Turn]]:
        self._check()
        return list(self._spool.items())[:limit]

    async def unspool(self, stream_ids: Sequence[str]) -> None:
        self._check()
        for stream_id in stream_ids:
            self._spool.pop(stream_id, None)

    async def ping(self) -> None:
        self._check()

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("Redis does not answer", "redis")

    def _window(self, session_id: str) -> list[Message] | None:
        expires, window = self._windows.get(session_id, (0.0, []))
        return window if expires > self._clock() else None

    def _hold(self, session_id: str, window: list[Message]) -> None:
        kept = window[-2 * self._config.turns :]
        self._windows[session_id] = (self._clock() + self._config.ttl_s, kept)


class FakeLongTermMemory:
    """``LongTermMemory`` in dictionaries; ``add_memory`` and ``add_summary`` stand in for the writer."""

    def __init__(self) -> None:
        self.down = False
        self.sessions: dict[str, Session] = {}
        self.turns: dict[str, Turn] = {}
        self._profiles: dict[str, FanProfile] = {}
        self._memories: list[Memory] = []
        self._summaries: list[tuple[str, str, str]] = []

    async def create_session(self, session: Session) -> None:
        self._check()
        self.sessions.setdefault(session.session_id, session)

    async def get_session(self, session_id: str) -> Session | None:
        self._check()
        return self.sessions.get(session_id)

    async def end_session(self, session_id: str) -> bool:
        self._check()
        session = self.sessions.get(session_id)
        if session is None or session.ended_at is not None:
            return False
        self.sessions[session_id] = replace(session, ended_at=utc_now())
        return True

    async def commit_turn(self, turn: Turn) -> None:
        self._check()
        begun = Session(turn.session_id, turn.persona, turn.fan_id, turn.created_at, turn.created_at)
        session = self.sessions.get(turn.session_id, begun)
        latest = max(session.last_active_at, turn.created_at)
        self.sessions[turn.session_id] = replace(session, last_active_at=latest)
        self.turns.setdefault(turn.turn_id, turn)

    async def history(self, session_id: str, limit: int) -> list[Message]:
        self._check()
        turns = [turn for turn in self.turns.values() if turn.session_id == session_id and not turn.blocked]
        turns.sort(key=lambda turn: (turn.created_at, turn.turn_id))
        kept = turns[-limit:] if limit > 0 else []
        return [
            message
            for turn in kept
            for message in (Message("user", turn.user_text), Message("assistant", turn.reply))
        ]

    async def fan_context(self, fan_id: str, persona: str) -> FanContext:
        self._check()
        summaries = [text for fan, who, text in reversed(self._summaries) if (fan, who) == (fan_id, persona)]
        memories = [m.text for m in reversed(self._memories) if (m.fan_id, m.persona) == (fan_id, persona)]
        return FanContext(self._profiles.get(fan_id), tuple(summaries[:3]), tuple(memories[:8]))

    async def get_profile(self, fan_id: str) -> FanProfile | None:
        self._check()
        return self._profiles.get(fan_id)

    async def put_profile(self, profile: FanProfile) -> None:
        self._check()
        self._profiles[profile.fan_id] = profile

    async def fill_profile(self, profile: FanProfile) -> None:
        self._check()
        known = self._profiles.get(profile.fan_id, profile)
        self._profiles[profile.fan_id] = FanProfile(
            profile.fan_id,
            known.name or profile.name,
            known.birthday or profile.birthday,
            known.favorite or profile.favorite,
        )

    async def delete_fan(self, fan_id: str) -> list[str]:
        self._check()
        session_ids = [key for key, session in self.sessions.items() if session.fan_id == fan_id]
        for session_id in session_ids:
            del self.sessions[session_id]
        self.turns = {key: turn for key, turn in self.turns.items() if turn.session_id not in session_ids}
        self._memories = [memory for memory in self._memories if memory.fan_id != fan_id]
        self._summaries = [summary for summary in self._summaries if summary[0] != fan_id]
        self._profiles.pop(fan_id, None)
        return session_ids

    async def memories(self, fan_id: str) -> list[Memory]:
        self._check()
        return [memory for memory in reversed(self._memories) if memory.fan_id == fan_id]

    async def delete_memory(self, fan_id: str, memory_id: str) -> bool:
        self._check()
        before = len(self._memories)
        self._memories = [m for m in self._memories if (m.fan_id, m.memory_id) != (fan_id, memory_id)]
        return len(self._memories) < before

    async def ping(self) -> None:
        self._check()

    async def close(self) -> None:
        pass

    def add_memory(self, memory: Memory) -> None:
        self._memories.append(memory)

    def add_summary(self, fan_id: str, persona: str, text: str) -> None:
        self._summaries.append((fan_id, persona, text))

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("PostgreSQL does not answer", "postgres")


class FakeRetriever:
    """``PassageRetriever`` that answers with what it was given, per persona."""

    def __init__(self, passages: dict[str, list[Passage]] | None = None) -> None:
        self.down = False
        self.passages = passages or {}

    async def search(self, text: str, persona: str, fan_id: str | None) -> list[Passage]:
        if self.down:
            raise StoreUnavailable("Qdrant does not answer", "qdrant")
        return list(self.passages.get(persona, []))


class FakeReranker:
    """``Reranker`` that finds a passage relevant when it holds one of the line's words of two letters or more."""

    def __init__(self) -> None:
        self.down = False
        self.read: list[list[str]] = []

    async def relevance(self, line: str, passages: Sequence[str]) -> list[float]:
        if self.down:
            raise StoreUnavailable("the reranker does not answer", "embedder")
        self.read.append(list(passages))
        words = [word for word in line.split() if len(word) > 1]
        return [0.9 if any(word in passage for word in words) else 0.1 for passage in passages]
