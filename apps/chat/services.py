"""What the HTTP layer works with: one object per replica, wired in ``gateway`` and faked in unit tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request

from apps.chat.args import GatewayArgs
from apps.chat.rollouts import RolloutMoves
from apps.chat.sessions import Sessions
from apps.chat.turn import ChatTurns
from apps.chat.turn_types import InputCheck
from core.contracts import LongTermMemory
from memory.api_keys import ApiKeys
from memory.documents_store import StoredDocument
from personas.loader import PersonaLibrary


class Uploads(Protocol):
    """A character's uploaded documents."""

    async def add(self, persona: str, filename: str, content: bytes, category: str) -> StoredDocument: ...

    async def list(self, persona: str | None) -> list[StoredDocument]: ...

    async def delete(self, document_id: str) -> bool: ...


class RateLimit(Protocol):
    async def allow(self, caller: str) -> bool: ...


@dataclass(frozen=True)
class GatewayServices:
    args: GatewayArgs
    library: PersonaLibrary
    sessions: Sessions
    turns: ChatTurns
    check_input: InputCheck
    long_term: LongTermMemory
    erase_fan: Callable[[str], Awaitable[bool]]
    delete_memory: Callable[[str, str], Awaitable[bool]]
    uploads: Uploads
    keys: ApiKeys
    rollouts: RolloutMoves
    rate_limit: RateLimit
    health: Callable[[], Awaitable[dict[str, str]]]
    """Component → ``ok`` or ``down``."""


def services_of(request: Request) -> GatewayServices:
    """The replica's services; a FastAPI dependency."""
    services: GatewayServices = request.app.state.services
    return services
