"""Who is evaluated: the running graph (arm C), over HTTP as any client speaks to it.

Arms A and B, a bare model with and without its adapter, are in :mod:`evaluation.endpoint`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from core.errors import ArtistMindError
from evaluation.http import PatientHttp
from evaluation.items import Profile, Script
from evaluation.replies import Reply, SourceRef
from personas.macros import fill

Arm = Literal["A", "B", "C"]


@dataclass
class Conversation:
    """What was said while a script was played; filled as it goes, so that an error loses nothing."""

    replies: list[list[Reply]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Target(Protocol):
    """Somebody who can be talked to."""

    async def play(self, script: Script, fan_name: str, conversation: Conversation) -> None:
        """Say the script's lines and add the replies to ``conversation``; raises ``ArtistMindError``."""
        ...


class GraphClient:
    """Plays scripts on the running graph; every script is a fan of its own, erased afterwards.

    Args:
        http: A client of the graph.
        persona: Who answers.
        memory_wait_s: How long the writer may take to remember an ended session.
    """

    def __init__(self, http: PatientHttp, persona: str, memory_wait_s: float = 30, poll_s: float = 0.5) -> None:
        self._http = http
        self._persona = persona
        self._memory_wait_s = memory_wait_s
        self._poll_s = poll_s

    async def play(self, script: Script, fan_name: str, conversation: Conversation) -> None:
        fan_id = f"eval-{uuid.uuid4().hex[:16]}"
        try:
            for number, lines in enumerate(script.sessions):
                session = await self._open(fan_id, script.profile if number == 0 else None, fan_name)
                replies: list[Reply] = []
                conversation.replies.append(replies)
                for line in lines:
                    replies.append(await self._say(session, fill(line, fan_name)))
                if number + 1 < len(script.sessions):
                    await self._end(session, fan_id, conversation)
        finally:
            with suppress(ArtistMindError):  # what cannot be erased now is left; it does not change the result
                await asyncio.shield(self._http.call("DELETE", f"/profile/{fan_id}"))

    async def _open(self, fan_id: str, profile: Profile | None, fan_name: str) -> str:
        body: dict[str, Any] = {"persona": self._persona, "fan_id": fan_id}
        if profile:
            told = profile.model_dump(exclude_none=True)
            body["profile"] = {key: fill(value, fan_name) for key, value in told.items()}
        opened = await self._http.call("POST", "/session", body)
        return str(opened["session_id"])

    async def _say(self, session: str, line: str) -> Reply:
        started = time.perf_counter()
        turn = await self._http.call("POST", "/chat", {"session_id": session, "message": line})
        return reply_of(turn, (time.perf_counter() - started) * 1000)

    async def _end(self, session: str, fan_id: str, conversation: Conversation) -> None:
        """End a session and wait until its memories can be read."""
        await self._http.call("DELETE", f"/session/{session}")
        deadline = time.perf_counter() + self._memory_wait_s
        while time.perf_counter() < deadline:
            found = await self._http.call("GET", f"/profile/{fan_id}/memories")
            if any(memory.get("session_id") == session for memory in found["memories"]):
                return
            await asyncio.sleep(self._poll_s)
        conversation.notes.append(
            f"no memory of session {len(conversation.replies)} within {self._memory_wait_s:g} s"
        )


def reply_of(turn: dict[str, Any], total_ms: float) -> Reply:
    """A finished turn of ``/chat`` as a reply."""
    return Reply(
        text=turn["reply"],
        blocked=bool(turn.get("blocked")),
        category=turn.get("category"),
        degraded=tuple(turn.get("degraded") or ()),
        sources=_sources(turn.get("sources") or ()),
        adapter=turn.get("adapter"),
        total_ms=round(total_ms, 1),
        ttft_ms=(turn.get("timings") or {}).get("ttft_ms"),
    )


def _sources(sources: Sequence[dict[str, Any]]) -> tuple[SourceRef, ...]:
    return tuple(SourceRef(id=s["id"], title=s.get("title", ""), category=s.get("category", "")) for s in sources)
