"""Sessions: opened, found and ended; PostgreSQL keeps them, Redis remembers the open ones while it is down."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.contracts import FanProfile, LongTermMemory, Session, ShortTermMemory, utc_now
from core.errors import Conflict, NotFound, StoreUnavailable, Unavailable
from personas.loader import Persona
from personas.macros import fill


@dataclass(frozen=True, slots=True)
class OpenedSession:
    session: Session
    greeting: str
    expires_at: datetime
    durable: bool


class Sessions:
    def __init__(self, short_term: ShortTermMemory, long_term: LongTermMemory, idle: timedelta) -> None:
        self._short_term = short_term
        self._long_term = long_term
        self._idle = idle

    async def open(self, persona: Persona, fan_id: str | None, profile: FanProfile | None) -> OpenedSession:
        """Start a session; the profile, when given, is stored first so that the first turn knows it."""
        now = utc_now()
        session = Session(str(uuid.uuid4()), persona.id, fan_id, now, now)
        durable = await self._store(session, profile)
        await self._cache(session, required=not durable)
        name = profile.name if profile and profile.name else await self._known_name(fan_id)
        greeting = fill(persona.card.greeting, name or persona.card.fan_alias)
        return OpenedSession(session, greeting, now + self._idle, durable)

    async def find(self, session_id: str) -> Session:
        """An open session.

        Raises:
            NotFound: No such session.
            Conflict: It has ended, by request or after the idle time.
            Unavailable: Neither store can tell.
        """
        session = await self._cached(session_id)
        if session is None:
            session = await self._stored(session_id)
        if session is None:
            raise NotFound(f"unknown session '{session_id}'", "session_id")
        if session.ended_at is not None:
            raise Conflict("this session has ended; open a new one", "session_id")
        return session

    async def end(self, session_id: str) -> None:
        """End a session, so that the writer takes it up; ``NotFound`` when there is none."""
        if not await self._long_term.end_session(session_id):
            raise NotFound(f"unknown session '{session_id}'", "session_id")
        try:
            await self._short_term.forget([session_id])
        except StoreUnavailable:
            return  # its window and record expire by themselves

    async def _store(self, session: Session, profile: FanProfile | None) -> bool:
        try:
            if profile:
                await self._long_term.put_profile(profile)
            await self._long_term.create_session(session)
        except StoreUnavailable:
            return False
        return True

    async def _cache(self, session: Session, required: bool) -> None:
        try:
            await self._short_term.put_session(session)
        except StoreUnavailable as error:
            if required:
                raise Unavailable("neither PostgreSQL nor Redis can hold the session") from error

    async def _known_name(self, fan_id: str | None) -> str | None:
        if fan_id is None:
            return None
        try:
            profile = await self._long_term.get_profile(fan_id)
        except StoreUnavailable:
            return None
        return profile.name if profile else None

    async def _cached(self, session_id: str) -> Session | None:
        try:
            return await self._short_term.get_session(session_id)
        except StoreUnavailable:
            return None

    async def _stored(self, session_id: str) -> Session | None:
        session = await self._long_term.get_session(session_id)
        if session and session.ended_at is None:
            await self._cache(session, required=False)
        return session
