"""A whole chat service without servers, engine or Ray: the fakes that ship with the packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from apps.chat.fakes import FakeGenerator, FakeMetrics
from apps.chat.sessions import Sessions
from apps.chat.turn import ChatTurns
from apps.chat.turn_types import TurnLimits, TurnRequest, TurnServices
from core.contracts import AdapterRef, Retrieval, Sampling, Session, Verdict
from core.settings import Settings
from memory.fakes import FakeLongTermMemory, FakeRetriever, FakeShortTermMemory
from personas.loader import Persona, PersonaLibrary
from personas.prompt import PromptConfig
from safety.guard import PolicyGuard
from tests.unit.apps.http_site import site

__all__ = ["site"]

_GUARD = PolicyGuard()
_LIBRARY = PersonaLibrary(Settings().resolved(Settings().cards_dir))


@dataclass
class RetrieverAway:
    """The fake retriever as another deployment's answer."""

    retriever: FakeRetriever

    async def search(self, text: str, persona: str, fan_id: str | None) -> Retrieval:
        return Retrieval(tuple(await self.retriever.search(text, persona, fan_id)))


@dataclass
class Stage:
    """The fakes at work, open to the test."""

    generator: FakeGenerator = field(default_factory=FakeGenerator)
    short_term: FakeShortTermMemory = field(default_factory=FakeShortTermMemory)
    long_term: FakeLongTermMemory = field(default_factory=FakeLongTermMemory)
    retriever: FakeRetriever = field(default_factory=FakeRetriever)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    library: PersonaLibrary = _LIBRARY
    check: Callable[[str, str], Verdict] = _GUARD.check_input

    async def check_input(self, text: str, persona: str) -> Verdict:
        return self.check(text, persona)

    @property
    def sessions(self) -> Sessions:
        return Sessions(self.short_term, self.long_term, timedelta(minutes=30))

    @property
    def haneul(self) -> Persona:
        return self.library.get("haneul")

    def turns(self, prompt: PromptConfig | None = None, **limits: float) -> ChatTurns:
        services = TurnServices(
            check_input=self.check_input,
            watch=_GUARD.watch,
            retriever=RetrieverAway(self.retriever),
            generator=self.generator,
            short_term=self.short_term,
            long_term=self.long_term,
            adapter_for=lambda persona, fan: AdapterRef(persona, "v1", "/adapters"),
            count_tokens=len,
            metrics=self.metrics,
        )
        defaults = {"retrieval_timeout_s": 0.2, "guard_timeout_s": 0.2, "turn_timeout_s": 5.0}
        return ChatTurns(services, TurnLimits(prompt or PromptConfig(), history_turns=20, **(defaults | limits)))

    def request(self, message: str, session: Session | None = None, **fields: object) -> TurnRequest:
        fan_id = session.fan_id if session else None
        given = {"persona": self.haneul, "message": message, "sampling": Sampling(), "session": session}
        return TurnRequest(**(given | {"fan_id": fan_id} | fields))


@pytest.fixture
def stage() -> Stage:
    return Stage()
