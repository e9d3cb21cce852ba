"""``/v1``: OpenAI's protocol over the same chat turn. ``model`` is a persona, ``user`` a fan.

Stateless by default: the client's messages are the history and nothing is stored. With ``X-Session-Id`` the turn
belongs to that session, its history comes from memory, and ``[DONE]`` is sent after the turn is committed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Response

from apps.chat.auth import Services, requires
from apps.chat.chat_routes import check_length, result_json, run_to_end
from apps.chat.http_errors import as_platform_error, error_body
from apps.chat.openai_schemas import ChatCompletionBody, ChatMessage, CompletionBody, refuse_unsupported
from apps.chat.services import GatewayServices
from apps.chat.sse import DONE, frame, primed
from apps.chat.turn_types import Delta, TurnRequest, TurnResult
from core.contracts import Message, Usage
from core.errors import InvalidRequest, NotFound
from personas.loader import Persona

router = APIRouter(prefix="/v1", dependencies=[Depends(requires("chat"))])
SessionHeader = Annotated[str | None, Header(alias="X-Session-Id")]
Kind = Literal["chat", "completion"]


@router.get("/models")
async def models(services: Services) -> dict[str, Any]:
    return {"object": "list", "data": [_model(persona) for persona in services.library]}


@router.get("/models/{model}")
async def model(model: str, services: Services) -> dict[str, Any]:
    return _model(_persona(services, model))


@router.post("/chat/completions", response_model=None)
async def chat_completions(
    body: ChatCompletionBody, services: Services, session_id: SessionHeader = None
) -> Response | dict[str, Any]:
    refuse_unsupported(body.model_extra)
    persona = _persona(services, body.model)
    last = body.messages[-1]
    if last.role != "user" or not last.text.strip():
        raise InvalidRequest("the last message must be the user's, and not empty", "messages")
    check_length(last.text, services)
    include_usage = body.include_usage
    request = TurnRequest(
        persona=persona,
        message=last.text.strip(),
        sampling=body.sampling(persona.card, body.max_completion_tokens or body.max_tokens),
        fan_id=body.user,
        history=await _history(services, persona, body.messages[:-1]),
        scenario="\n".join(m.text for m in body.messages if m.role in ("system", "developer")) or None,
    )
    request = await _in_session(services, request, session_id)
    return await _answer(services, request, _Shape("chat", persona.id, include_usage), body.stream)


@router.post("/completions", response_model=None)
async def completions(
    body: CompletionBody, services: Services, session_id: SessionHeader = None
) -> Response | dict[str, Any]:
    """The prompt is taken as one message of the user: a character has no raw mode past its filters."""
    refuse_unsupported(body.model_extra)
    persona = _persona(services, body.model)
    check_length(body.prompt, services)
    include_usage = body.include_usage
    request = TurnRequest(
        persona=persona,
        message=body.prompt.strip(),
        sampling=body.sampling(persona.card, body.max_tokens),
        fan_id=body.user,
    )
    request = await _in_session(services, request, session_id)
    return await _answer(services, request, _Shape("completion", persona.id, include_usage), body.stream)


async def _history(services: GatewayServices, persona: Persona, messages: list[ChatMessage]) -> tuple[Message, ...]:
    """The client's earlier messages without the exchanges that the input filter blocks."""
    turns = [m for m in messages if m.role in ("user", "assistant")]
    checks = [services.check_input(m.text, persona.id) for m in turns if m.role == "user"]
    verdicts = iter(await asyncio.gather(*checks))
    kept: list[Message] = []
    dropping = False
    for message in turns:
        if message.role == "user":
            dropping = not next(verdicts).allowed
        if not dropping:
            kept.append(Message("user" if message.role == "user" else "assistant", message.text))
    return tuple(kept)


async def _in_session(services: GatewayServices, request: TurnRequest, session_id: str | None) -> TurnRequest:
    if session_id is None:
        return request
    session = await services.sessions.find(session_id)
    if session.persona != request.persona.id:
        raise InvalidRequest(f"this session talks to '{session.persona}'", "model")
    return TurnRequest(
        persona=request.persona,
        message=request.message,
        sampling=request.sampling,
        session=session,
        fan_id=session.fan_id,
        scenario=request.scenario,
    )


@dataclass(frozen=True)
class _Shape:
    """How the answers of one request look."""

    kind: Kind
    model: str
    include_usage: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def chunk(self, turn_id: str, text: str | None, finish: str | None = None) -> dict[str, Any]:
        if self.kind == "chat":
            choice: dict[str, Any] = {"index": 0, "delta": {} if text is None else {"content": text}}
        else:
            choice = {"index": 0, "text": text or ""}
        return self._envelope(turn_id, "chunk", [choice | {"finish_reason": finish, "logprobs": None}])

    def first(self, turn_id: str) -> dict[str, Any]:
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return self._envelope(turn_id, "chunk", [choice])

    def whole(self, result: TurnResult) -> dict[str, Any]:
        content: dict[str, Any] = {"text": result.reply}
        if self.kind == "chat":
            content = {"message": {"role": "assistant", "content": result.reply, "refusal": None}}
        choice = {"index": 0, **content, "finish_reason": _finish(result), "logprobs": None}
        return self._envelope(result.turn_id, "", [choice]) | {
            "usage": _usage(result.usage),
            "artistmind": result_json(result),
        }

    def usage(self, turn_id: str, result: TurnResult) -> dict[str, Any]:
        return self._envelope(turn_id, "chunk", []) | {"usage": _usage(result.usage)}

    def _envelope(self, turn_id: str, suffix: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix, kind = ("chatcmpl", "chat.completion") if self.kind == "chat" else ("cmpl", "text_completion")
        return {
            "id": f"{prefix}-{turn_id}",
            "object": f"{kind}.{suffix}" if suffix and self.kind == "chat" else kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


async def _answer(
    services: GatewayServices, request: TurnRequest, shape: _Shape, stream: bool
) -> Response | dict[str, Any]:
    if stream:
        return await primed(_frames(services, request, shape))
    return shape.whole(await run_to_end(services, request))


async def _frames(services: GatewayServices, request: TurnRequest, shape: _Shape) -> AsyncGenerator[str, None]:
    started, stream_id = False, f"{time.time_ns():x}"
    try:
        async with aclosing(services.turns.run(request)) as events:
            async for event in events:
                if not started and shape.kind == "chat":
                    yield frame(shape.first(stream_id))
                started = True
                if isinstance(event, Delta):
                    yield frame(shape.chunk(stream_id, event.text))
                    continue
                last = shape.chunk(stream_id, None, _finish(event)) | {"artistmind": result_json(event)}
                yield frame(last)
                if shape.include_usage:
                    yield frame(shape.usage(stream_id, event))
                yield DONE
    except Exception as error:  # the edge of the stream: the client gets a proper last event
        if not started:
            raise
        yield frame(error_body(as_platform_error(error)))


def _finish(result: TurnResult) -> str:
    return {"length": "length", "blocked": "content_filter"}.get(result.finish_reason, "stop")


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _persona(services: GatewayServices, model: str) -> Persona:
    try:
        return services.library.get(model)
    except NotFound as error:
        raise NotFound(error.message, "model") from None


def _model(persona: Persona) -> dict[str, Any]:
    return {"id": persona.id, "object": "model", "created": 0, "owned_by": "artistmind"}
