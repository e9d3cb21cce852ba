"""Types and protocols that packages share, so that siblings meet here instead of importing each other.

Everything here is plain data or a ``Protocol``: no I/O, no Ray, picklable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]
Component = Literal["postgres", "redis", "qdrant", "embedder", "generator", "guard"]
FinishReason = Literal["stop", "length", "blocked", "error"]

USER_MACRO = "{{user}}"
"""Stands for the fan's name in prompts, training data and stored text; filled in on the way out."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class FanProfile:
    """What a fan has told the platform about themselves. ``birthday`` is ``YYYY-MM-DD`` or ``MM-DD``."""

    fan_id: str
    name: str | None = None
    birthday: str | None = None
    favorite: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    session_id: str
    persona: str
    fan_id: str | None
    created_at: datetime
    last_active_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a retrieved passage comes from, as shown to the client."""

    id: str
    title: str
    category: str
    score: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved piece of text. ``kind`` says whose: the character's knowledge or the fan's memory."""

    id: str
    text: str
    title: str
    category: str
    score: float
    kind: Literal["knowledge", "memory"] = "knowledge"

    def as_source(self) -> Source:
        return Source(self.id, self.title, self.category, round(self.score, 4))


@dataclass(frozen=True, slots=True)
class Memory:
    """One lasting fact about a fan, told to one persona."""

    memory_id: str
    fan_id: str
    persona: str
    text: str
    created_at: datetime
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class FanContext:
    """Long-term memory of one fan as the prompt needs it; summaries newest first."""

    profile: FanProfile | None = None
    summaries: tuple[str, ...] = ()
    memories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One finished exchange, as it is committed. Text carries ``{{user}}`` in place of the fan's name.

    ``turn_id`` makes a commit idempotent: a turn that was spooled and drained twice is stored once.
    """

    turn_id: str
    session_id: str
    persona: str
    fan_id: str | None
    user_text: str
    reply: str
    blocked: bool = False
    category: str | None = None
    adapter: str | None = None
    usage: Usage = field(default_factory=Usage)
    created_at: datetime = field(default_factory=utc_now)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter decided. ``category`` names the reason and picks the character's alternative answer."""

    allowed: bool
    category: str | None = None
    rule: str | None = None

    @staticmethod
    def ok() -> Verdict:
        return Verdict(allowed=True)


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA adapter that may answer; ``path`` is a local directory."""

    persona: str
    version: str
    path: str

    @property
    def adapter_id(self) -> str:
        return f"{self.persona}/{self.version}"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the engine draws tokens; ``None`` leaves the engine's default."""

    max_tokens: int = 96
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of generated text; the last one carries why it ended and what it cost."""

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Embedder(Protocol):
    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit-length vectors, one per text."""
        ...


class Reranker(Protocol):
    async def relevance(self, line: str, passages: Sequence[str]) -> list[float]:
        """Probability of each passage, from 0 to 1, that it answers ``line``."""
        ...


class Generator(Protocol):
    def stream(
        self, messages: Sequence[Message], sampling: Sampling, adapter: AdapterRef | None
    ) -> AsyncGenerator[Chunk, None]:
        """Stream a reply; closing the iterator early aborts the engine's request."""
        ...


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What a search found, and which components it had to do without."""

    passages: tuple[Passage, ...] = ()
    degraded: tuple[Component, ...] = ()


class PassageRetriever(Protocol):
    async def search(self, text: str, persona: str, fan_id: str | None) -> list[Passage]:
        """Knowledge of ``persona`` and memories of this fan with it, best first."""
        ...


class RetrievalService(Protocol):
    """A ``PassageRetriever`` elsewhere, which says what it had to do without."""

    async def search(self, text: str, persona: str, fan_id: str | None) -> Retrieval: ...


class StreamWatch(Protocol):
    """A hold-back window over one reply: text goes in as it is generated, only checked text comes out."""

    def feed(self, text: str) -> str:
        """Take newly generated text; return what may be shown now."""
        ...

    def finish(self) -> str:
        """The reply is complete; return what is still held back and passed."""
        ...

    @property
    def verdict(self) -> Verdict:
        """Not allowed as soon as a rule struck; nothing is released after that."""
        ...


class Guard(Protocol):
    def check_input(self, text: str, persona: str) -> Verdict: ...

    def watch(self, persona: str) -> StreamWatch: ...


class ShortTermMemory(Protocol):
    """The running conversation (Redis); raises ``StoreUnavailable("…", "redis")`` when it is down."""

    async def history(self, session_id: str) -> list[Message] | None:
        """The last turns, oldest first; ``None`` when nothing is held (expired, evicted or new)."""
        ...

    async def append(self, session_id: str, messages: Sequence[Message]) -> None:
        """Add to the window, trim it and renew its time to live. Does nothing when no window is held."""
        ...

    async def restore(self, session_id: str, messages: Sequence[Message]) -> None:
        """Replace the window (a new session, or after an expiry)."""
        ...

    async def forget(self, session_ids: Sequence[str]) -> None:
        """Drop everything held for these sessions: window and record."""
        ...

    async def put_session(self, session: Session) -> None:
        """Keep the session's record, so that a chat goes on while PostgreSQL is down; same time to live."""
        ...

    async def get_session(self, session_id: str) -> Session | None: ...

    async def acquire(self, session_id: str, holder: str) -> bool:
        """Take the session for one turn; false when another turn holds it."""
        ...

    async def renew(self, session_id: str, holder: str) -> bool:
        """Let the holder's lock live on; false when it is not the holder's any more."""
        ...

    async def release(self, session_id: str, holder: str) -> None: ...

    async def spool(self, turn: Turn) -> None:
        """Keep a turn that PostgreSQL could not take, in a Redis stream that is persisted to disk."""
        ...

    async def spooled(self, limit: int = 100) -> list[tuple[str, Turn]]:
        """Spooled turns with their stream ids, oldest first."""
        ...

    async def unspool(self, stream_ids: Sequence[str]) -> None: ...

    async def ping(self) -> None: ...


class LongTermMemory(Protocol):
    """What lasts (PostgreSQL). Every method raises ``StoreUnavailable("…", "postgres")`` when it is down."""

    async def create_session(self, session: Session) -> None: ...

    async def get_session(self, session_id: str) -> Session | None: ...

    async def end_session(self, session_id: str) -> bool: ...

    async def commit_turn(self, turn: Turn) -> None:
        """Store both messages and touch the session, in one transaction; twice is once."""
        ...

    async def history(self, session_id: str, limit: int) -> list[Message]:
        """The last ``limit`` turns that were not blocked, oldest first."""
        ...

    async def fan_context(self, fan_id: str, persona: str) -> FanContext: ...

    async def get_profile(self, fan_id: str) -> FanProfile | None: ...

    async def put_profile(self, profile: FanProfile) -> None: ...

    async def fill_profile(self, profile: FanProfile) -> None:
        """``put_profile`` for what is still open only: what stands there already stays."""
        ...

    async def delete_fan(self, fan_id: str) -> list[str]:
        """Erase everything of this fan; return the ids of their sessions, for the other stores to forget."""
        ...

    async def memories(self, fan_id: str) -> list[Memory]: ...

    async def delete_memory(self, fan_id: str, memory_id: str) -> bool: ...

    async def ping(self) -> None: ...
