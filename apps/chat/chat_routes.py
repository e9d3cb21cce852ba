"""``/session``, ``/chat`` and ``/health``: the platform's own protocol."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse

from apps.chat.auth import Services, requires
from apps.chat.http_errors import as_platform_error, error_body
from apps.chat.schemas import ChatBody, SessionBody
from apps.chat.services import GatewayServices
from apps.chat.sse import frame, primed
from apps.chat.turn_types import Delta, TurnRequest, TurnResult
from core.contracts import Sampling
from core.errors import TooLarge, Unavailable
from personas.schema import Card

router = APIRouter()
_chat = [Depends(requires("chat"))]


@router.get("/health")
async def health(services: Services) -> JSONResponse:
    """200 when it can serve, with what is down; 503 when it cannot."""
    components = await services.health()
    down = {name for name, state in components.items() if state != "ok"}
    serving = not down & {"generator", "guard"} and not {"postgres", "redis"} <= down
    status = "ok" if not down else "degraded" if serving else "unavailable"
    return JSONResponse({"status": status, "components": components}, 200 if serving else 503)


@router.post("/session", status_code=201, dependencies=_chat)
async def open_session(body: SessionBody, services: Services) -> dict[str, Any]:
    persona = services.library.get(body.persona)
    fan_id = body.fan_id or (f"fan-{uuid.uuid4().hex[:16]}" if body.profile else None)
    profile = body.profile.as_profile(fan_id) if body.profile and fan_id else None
    opened = await services.sessions.open(persona, fan_id, profile)
    return {
        "session_id": opened.session.session_id,
        "persona": persona.id,
        "fan_id": fan_id,
        "greeting": opened.greeting,
        "expires_at": opened.expires_at.isoformat(),
        "durable": opened.durable,
    }


@router.delete("/session/{session_id}", status_code=204, dependencies=_chat)
async def end_session(session_id: str, services: Services) -> Response:
    await services.sessions.end(session_id)
    return Response(status_code=204)


@router.post("/chat", dependencies=_chat, response_model=None)
async def chat(body: ChatBody, services: Services) -> Response | dict[str, Any]:
    check_length(body.message, services)
    session = await services.sessions.find(body.session_id)
    persona = services.library.get(session.persona)
    request = TurnRequest(
        persona=persona,
        message=body.message.strip(),
        sampling=default_sampling(persona.card),
        session=session,
        fan_id=session.fan_id,
    )
    if body.stream:
        return await primed(_frames(services, request))
    return result_json(await run_to_end(services, request))


def check_length(text: str, services: GatewayServices) -> None:
    limit = services.args.max_message_chars
    if len(text) > limit:
        raise TooLarge(f"the message has {len(text)} characters; the limit is {limit}", "message")


def default_sampling(card: Card) -> Sampling:
    return Sampling(
        max_tokens=card.sampling.max_tokens, temperature=card.sampling.temperature, top_p=card.sampling.top_p
    )


async def run_to_end(services: GatewayServices, request: TurnRequest) -> TurnResult:
    """Run a turn without streaming it."""
    result = None
    async with aclosing(services.turns.run(request)) as events:
        async for event in events:
            if isinstance(event, TurnResult):
                result = event
    if result is None:
        raise Unavailable("the turn ended without a result")
    return result


async def _frames(services: GatewayServices, request: TurnRequest) -> AsyncGenerator[str, None]:
    """``delta`` events and then ``final``; a failure after the first frame is an ``error`` event."""
    started = False
    try:
        async with aclosing(services.turns.run(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    yield frame({"text": event.text}, "delta")
                else:
                    yield frame(result_json(event), "final")
                started = True
    except Exception as error:  # the edge of the stream: whatever it is, the client gets a proper last event
        if not started:
            raise
        yield frame(error_body(as_platform_error(error)), "error")


def result_json(result: TurnResult) -> dict[str, Any]:
    """The body of a finished turn, in JSON and in the ``final`` event alike."""
    return {
        "turn_id": result.turn_id,
        "reply": result.reply,
        "blocked": result.blocked,
        "category": result.category,
        "degraded": list(result.degraded),
        "sources": [asdict(source) for source in result.sources],
        "adapter": result.adapter,
        "durable": result.durable,
        "usage": asdict(result.usage),
        "timings": asdict(result.timings),
    }
