"""What goes into a chat turn and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from core.contracts import (
    AdapterRef,
    FinishReason,
    Generator,
    LongTermMemory,
    Message,
    RetrievalService,
    Sampling,
    Session,
    ShortTermMemory,
    Source,
    StreamWatch,
    Usage,
    Verdict,
)
from memory.recaller import Recaller
from personas.loader import Persona
from personas.prompt import PromptConfig, TokenCount


class InputCheck(Protocol):
    async def __call__(self, text: str, persona: str) -> Verdict: ...


class TurnMetrics(Protocol):
    """Telemetry of a turn; must not raise."""

    def degraded(self, component: str) -> None: ...

    def finished(self, result: TurnResult, persona: str) -> None: ...


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What is asked. Without a ``session`` the turn is stateless: ``history`` counts and nothing is stored."""

    persona: Persona
    message: str
    sampling: Sampling
    session: Session | None = None
    fan_id: str | None = None
    history: tuple[Message, ...] = ()
    scenario: str | None = None
    """System text of an OpenAI client: goes to the context block, never in place of the character's own."""


@dataclass(frozen=True, slots=True)
class Delta:
    text: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds since the turn was taken up."""

    ttft_ms: float | None
    total_ms: float
    context_ms: float
    guard_ms: float


@dataclass(frozen=True, slots=True)
class TurnResult:
    turn_id: str
    reply: str
    blocked: bool
    category: str | None
    degraded: tuple[str, ...]
    sources: tuple[Source, ...]
    adapter: str | None
    durable: bool
    usage: Usage
    timings: Timings
    finish_reason: FinishReason


@dataclass(frozen=True)
class TurnServices:
    """What a turn needs, injected; the fakes of the packages take their places in unit tests."""

    check_input: InputCheck
    watch: Callable[[str], StreamWatch]
    retriever: RetrievalService
    generator: Generator
    short_term: ShortTermMemory
    long_term: LongTermMemory
    adapter_for: Callable[[str, str], AdapterRef | None]
    count_tokens: TokenCount
    metrics: TurnMetrics
    recaller: Recaller = field(default_factory=Recaller)


@dataclass(frozen=True)
class TurnLimits:
    prompt: PromptConfig
    history_turns: int
    retrieval_timeout_s: float
    guard_timeout_s: float
    turn_timeout_s: float
